"""An answer that was to be JSON: labelled when it is not, untouched when it is, at any cut."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_label.labels.labeler import Labels, label, strip
from llm_label.labels.unless_json import UnlessJson
from llm_label.labels.wording import LANGUAGES, wording

TEXTS = {language: wording(language, ("cn",)) for language in LANGUAGES}
LABELS = [Labels(p, TEXTS, "zh") for p in (("start",), ("end",), ("start", "end"), ("middle",))]
END = Labels(("end",), TEXTS, "zh")


def through(pieces: list[str], labels: Labels) -> tuple[str, UnlessJson]:
    labeler = UnlessJson(labels)
    return "".join([*(labeler.feed(piece) for piece in pieces), labeler.finish()]), labeler


@pytest.mark.parametrize("labels", LABELS, ids=lambda x: "+".join(x.positions))
@pytest.mark.parametrize("text", ['{"a": "四月"}', "[1, 2]\n", ' \n"x"', "42", "-1e5", "true", "null ", "", " \n"])
def test_json_stays_as_it_is(text: str, labels: Labels) -> None:
    out, labeler = through([text], labels)
    assert out == text and labeler.applied == () and not labeler.due
    assert labeler.present == bool(text.strip())


@pytest.mark.parametrize("labels", LABELS, ids=lambda x: "+".join(x.positions))
@pytest.mark.parametrize("text", ["四月很冷。", "\n\nSure! Here is it: {}", "```json\n{}\n```"])
def test_prose_is_labelled_as_if_nothing_had_been_asked(text: str, labels: Labels) -> None:
    assert through([text], labels)[0] == label(text, labels)


@pytest.mark.parametrize("labels", LABELS, ids=lambda x: "+".join(x.positions))
@pytest.mark.parametrize(
    "text",
    ["[Note] it is cold.", '{"a": 1} as you asked', '"Hello," she said.\n', "3 apples", "true or not", '{"a": 1, "b'],
)
def test_what_only_begins_like_json_gets_an_end_label(text: str, labels: Labels) -> None:
    out, labeler = through([text], labels)
    assert out == label(text, END) != text
    assert labeler.applied == ("end",)


pieces = st.sampled_from(['{"a":', '"四月"', "}", "[", "]", "1", " ", "\n", "very cold. ", "```", "true", ","])
values = st.recursive(st.none() | st.integers() | st.text(max_size=4), lambda x: st.lists(x, max_size=3), max_leaves=6)
answers = st.lists(pieces, max_size=8) | values.map(lambda v: list(json.dumps(v, ensure_ascii=False)))


@settings(max_examples=300, derandomize=True, deadline=None)
@given(answers, st.sampled_from(LABELS))
def test_cuts_change_nothing_and_only_json_is_unlabelled(made: list[str], labels: Labels) -> None:
    text = "".join(made)
    out, labeler = through([text], labels)
    assert through(made, labels)[0] == through(list(text), labels)[0] == out
    assert strip(out, labels.known) == text
    assert bool(labeler.applied) == (bool(text.strip()) and not is_json(text))


def is_json(text: str) -> Any:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
