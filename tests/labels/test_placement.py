"""Labels land where real Markdown parsers see a paragraph of its own, and nothing else changes."""

import random
import re
from statistics import median

import pytest

from llm_label.labels.labeler import Labeler, label
from llm_label.labels.wording import POSITIONS
from tests.labels.documents import document
from tests.labels.oracle import LABEL, PARSERS, fault, plan
from tests.laws import hold_label_laws
from tests.testdata import documents

pytest.importorskip("mdit_py_plugins")

PLANS = (("start",), ("middle",), ("middle",), ("end",), POSITIONS)
TEXTS = ("machine_en", "machine_zh", "human_en", "human_zh", "code")


@pytest.fixture(scope="module", params=PARSERS)
def parser(request: pytest.FixtureRequest):
    return PARSERS[request.param]()


@pytest.mark.parametrize("name", TEXTS)
def test_labels_in_real_texts_change_no_other_block(parser, name: str) -> None:
    check_texts(parser, name, 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_labels_in_all_real_texts_change_no_other_block(parser, name: str) -> None:
    check_texts(parser, name, 5000)


def check_texts(parser, name: str, most: int) -> None:
    dice = random.Random(name)
    texts = [found["text"] for found in documents(f"data/text/{name}.jsonl.gz")]
    for text in dice.sample(texts, min(most, len(texts))):
        cut = text[: dice.randint(1, len(text))]  # as `max_tokens` cuts it
        for answer, labels in (
            (text, plan("middle", after=dice.choice((50, 100, 200, 400, 800)))),
            (text, plan(*POSITIONS, after=150)),
            (cut, plan(*dice.choice(PLANS), after=50)),
        ):
            assert fault(parser, answer, labels) is None, repr(label(answer, labels))


def test_labels_in_made_up_answers_change_no_other_block(parser) -> None:
    check_made_up(parser, 600, seed=1)


@pytest.mark.slow
def test_labels_in_many_made_up_answers_change_no_other_block(parser) -> None:
    check_made_up(parser, 20_000, seed=2)


def check_made_up(parser, count: int, seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(count):
        answer, labels = document(dice), plan(*dice.choice(PLANS), after=dice.choice((0, 10, 40, 80, 150)))
        assert fault(parser, answer, labels) is None, repr(label(answer, labels))


# `†`: the middle is looked for from here on (`middle_after` counts up to it); `^`: where it stands.
PLACES = {
    "nested fences": "````md\n†```\nin\n\nin\n```\n\nmore\n````\n\n^out",
    "a fence in a list": "1. a\n\n†   ```\n   b\n\n   c\n   ```\n\n   d\n\n^out",
    "lazy continuation of a list": "- one.† Two\nlazy. Three\nlazy. Four\n\n^out",
    "lazy continuation of a quote": "> one.† Two\nlazy. Three\n\n^out",
    "a loose list": "- one.† Two\n\n- two. Three\n\n  its text. Four\n\n^out",
    "a setext heading": "text before†\n\n^Heading\n=======\n\nfirst",
    "behind a setext heading": "text before\n\nH†eading\n=======\n\nfirst\n\n^out",
    "a table with text right below": "| a | b |\n†|---|---|\n| 1. X | 2 |\nlast. Row\n\n^out",
    "a link reference definition": "[a]: https://b.c†\n  'A. Title'\n\n^out",
    "a footnote and its paragraphs": "[^1]: a note.† Two\n\n    more. Text\nlazy. Line\n\n^out",
    "a formula with blank lines": "$$†\na. B\n\nc. D\n$$\n\n^out",
    "an environment with blank lines": "\\begin{align}†\na. B\n\nc. D\n\\end{align}\n\n^out",
    "a formula in brackets": "\\[†\na. B\n\nc. D\n\\]\n\n^out",
    "an HTML block": "<div>†\n\na. B\n\n<p>c. D</p>\n\n</div>\n\n^out",
    "a folded element with a fence": "<details>†\n\n```\n</details>\n```\n\nin. There\n\n</details>\n\n^out",
    "a comment": "<!-- a.† B\n\nc. D -->\n\n^out",
    "front matter": "---\ntitle: a. B\n---\n\nfirst paragraph\n\n^out",
    "reasoning": "<think>\nhm. Hm\n\nhm. Hm\n</think>\n\nfirst paragraph\n\n^out",
    "a bold line that heads": "first paragraph\n\n**†Head**\n\nits text\n\n^out",
    "a Chinese chapter": "从前有座山，山里有座庙\n\n一†、背景\n\n正文在这里\n\n^后来",
    "a Chinese sentence that counts": "从前有座山\n\n一†、背景是这样的。\n\n^后来",
    "answers in CR LF": "first paragraph\r\n\r\n-† one. Two\r\n\r\n^out",
    "closing quotes": "他大声地†说道：“好！走吧。”他点点头，「はい。」と言った。^然后",
    "titles that end in a stop": "我最喜†欢的歌是《你好！》和《走吧。》这两首。^然后",
    "abbreviations, decimals, ellipses": "Dr. †Who paid 3.14 e.g. Pounds... Then he left. ^Then",
    "emphasis, code and links": 'So **a.† B** and `c. D` and [e. F](g.h "I. J") and *k. L* are. ^Then',
    "from right to left": "ذهب الولد† إلى المدرسة مع أخيه الصغير. ^ثم عاد إلى البيت.",
    "Hebrew with an isolate": "שלום †\u2067לכם. מה שלומך\u2069 היום ובכל יום ויום? ^טוב",
    "emoji": "👨\u200d👩\u200d👧 family!† 👍🏽 🎉 and so. ^Then",
    "combining marks": "E\u0301te\u0301.† cafe\u0301! ^E\u0301te\u0301",
    "no punctuation": "words and† words and words\nand more words and words\n\n^out",
    "Thai": "สวัสดีครับ†วันนี้อากาศดีมาก เลยนะครับ\n\n^ขอบคุณ",
    "hard breaks": "Main Street 5.  †\nTown Hall.  \nGermany.  \nEurope is a continent. ^Then",
}


@pytest.mark.parametrize("marked", PLACES.values(), ids=PLACES)
def test_the_middle_is_the_first_place_that_parts_nothing(parser, marked: str) -> None:
    answer = re.sub("[†^](?!1)", "", marked)
    labels = plan("middle", after=max(marked.find("†"), 0))
    if "†" not in marked:  # behind the first paragraph
        labels = plan("middle", after=3)
    labeler = Labeler(labels)
    labelled = labeler.feed(answer) + labeler.finish()
    before, behind = re.split(r"\^(?!1)", marked.replace("†", ""))
    assert labelled in (f"{before}{LABEL}\n\n{behind}", f"{before}\n\n{LABEL}\n\n\n{behind}")
    assert labeler.applied == ("middle",)
    assert fault(parser, answer, labels) is None


@pytest.mark.parametrize(
    "answer", ["ไม่มีวรรคตอน" * 30, "words and more " * 30, "- a. B\n\n" * 30, "| a | b |\n|-|-|\n" * 9]
)
def test_where_nothing_may_be_parted_the_middle_falls_to_the_end(parser, answer: str) -> None:
    labels = plan("middle", after=20)
    labeler = Labeler(labels)
    assert labeler.feed(answer) + labeler.finish() == f"{answer}\n\n{LABEL}"
    assert labeler.applied == ("end",)
    assert fault(parser, answer, labels) is None


@pytest.mark.parametrize(
    ("name", "after", "share", "near"),
    [("machine_en", 200, 0.94, 170), ("machine_zh", 100, 0.83, 80), ("human_en", 400, 0.97, 260), ("human_zh", 200, 0.9, 130)],
)  # fmt: skip
def test_most_long_texts_carry_their_label_near_the_wanted_place(
    name: str, after: int, share: float, near: int
) -> None:
    """Of the texts of at least twice `middle_after`; the distance is the median."""
    labels, places = plan("middle", after=after), []
    for found in random.Random(name).sample(documents(f"data/text/{name}.jsonl.gz"), 600):
        labeler = Labeler(labels)
        if len(found["text"]) >= 2 * after:
            labelled = labeler.feed(found["text"]) + labeler.finish()
            places.append(labelled.find(LABEL) - after if labeler.applied == ("middle",) else None)
    placed = [place for place in places if place is not None]
    assert len(placed) >= share * len(places) > 100
    assert median(placed) <= near


def test_the_laws_hold_for_made_up_answers() -> None:
    dice = random.Random(3)
    for seed in range(150):
        hold_label_laws(document(dice), plan(*dice.choice(PLANS), after=dice.choice((0, 10, 40, 80))), seed)
