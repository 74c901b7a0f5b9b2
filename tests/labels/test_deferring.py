"""A text that should come labelled is left alone when it does, and labelled at its end when it does not."""

import itertools
import random

import pytest

from llm_label.labels.deferring import Deferring
from llm_label.labels.labeler import Labels, label
from llm_label.labels.wording import elements
from tests.labels.documents import document

TEXT = "四月的天气很冷，要多穿衣服。\n\n五月的天气很暖，可以出去走走。\n\n六月的天气很热。"
OWN = "人工智能生成内容，供您参考"  # a wording that is not known here
PLACES = [c for n in (1, 2, 3) for c in itertools.combinations(("start", "middle", "end"), n)]
LABELS = Labels(("start", "middle", "end"), {"zh": "AI生成", "en": "AI-generated"}, "zh", middle_after=10)


@pytest.mark.parametrize(
    "positions", [c for n in (1, 2, 3) for c in itertools.combinations(("start", "middle", "end"), n)]
)
@pytest.mark.parametrize("words", ["AI生成", OWN, "AI生成 · Written by AI, generated for you"])
def test_a_labelled_text_passes_however_it_is_cut(positions: tuple[str, ...], words: str) -> None:
    came = label(TEXT, Labels(positions, {"zh": words}, "zh", middle_after=10))
    for step in (1, 2, 7, len(came)):
        labeler = Deferring(LABELS)
        out = "".join(labeler.feed(came[at : at + step]) for at in range(0, len(came), step)) + labeler.finish()
        assert (out, labeler.present, labeler.applied, labeler.due) == (came, True, (), False)


@pytest.mark.parametrize(
    "text", [TEXT, "人工智能生成内容的标识办法，今年九月开始施行了。", "a\nAI生成的内容\nb", "```\nx = 1"]
)
def test_a_text_without_a_label_gets_one_however_it_is_cut(text: str) -> None:
    if elements(text):
        text += "\n下一行"
    expected = label(text, Labels(("end",), LABELS.texts, "zh"))
    for step in (1, 2, 7, len(text)):
        labeler = Deferring(LABELS)
        out = "".join(labeler.feed(text[at : at + step]) for at in range(0, len(text), step)) + labeler.finish()
        assert (out, labeler.applied) == (expected, ("end",))


def test_made_up_answers_pass_as_they_were_labelled_elsewhere() -> None:
    dice = random.Random(3)
    for _ in range(300):
        came = label(document(dice), Labels(dice.choice(PLACES), {"zh": dice.choice(["AI生成", OWN])}, "zh"))
        points = sorted(dice.randrange(len(came) + 1) for _ in range(dice.randrange(9)))
        labeler = Deferring(LABELS)
        pieces = [came[a:b] for a, b in itertools.pairwise([0, *points, len(came)])]
        out = "".join(map(labeler.feed, pieces)) + labeler.finish()
        assert out == came and (labeler.present or not came.strip())
