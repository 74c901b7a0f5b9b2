"""The judgement of the client suite; the suite itself runs with `python3 start.py clients`."""

from typing import Any

import pytest

from llm_label.labels.labeler import Labels, label
from llm_label.labels.wording import all_wordings, wording
from tests.clients.compare import Marks, differences, same
from tests.clients.table import Cell, Row

MARKS = Marks(wording("zh", ["cn"]), all_wordings())
BOTH = Labels(("start", "end"), {"zh": MARKS.label}, "zh", "zh")
START = Labels(("start",), {"zh": MARKS.label}, "zh", "zh")
TEXT = "漓江发源于猫儿山。\n\n```python\nprint(1)"


def seen(text: str = TEXT, **more: Any) -> dict[str, Any]:
    return {"surface": "chat", "prose": [text], "exact": {"finish": "stop", "calls": [["f", "{}"]]}, **more}


def test_a_labelled_text_and_nothing_else_is_all_the_same() -> None:
    assert differences(seen(), seen(label(TEXT, BOTH)), MARKS) == []
    assert same(seen(), seen()) == []


CASES = {
    "no label at all": (seen(TEXT), "no start label"),
    "no end label": (seen(label(TEXT, START)), "no end label"),
    "a lost character": (seen(label(TEXT[1:], BOTH)), "after strip"),
    "a label in a tool call": (
        seen(label(TEXT, BOTH), exact={"finish": "stop", "calls": [["f", MARKS.label]]}),
        "exact.calls",
    ),
    "another finish reason": (seen(label(TEXT, BOTH), exact={"finish": None, "calls": [["f", "{}"]]}), "exact.finish"),
    "a missing text": (seen() | {"prose": []}, "prose is []"),
    "an exception": ({"surface": "chat", "error": "KeyError: 'x'"}, "the client fails: KeyError"),
    "two content ids": (seen(label(TEXT, BOTH), marks={"header": "1", "body": "2"}), "content ids"),
    "no content id": (seen(label(TEXT, BOTH), marks={"header": "1", "body": None}), "content ids"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said(case: str) -> None:
    after, fault = CASES[case]
    found = differences(seen(), after, MARKS)
    assert found and fault in found[0]


def test_a_label_with_marks_off_is_a_difference() -> None:
    assert same(seen(), seen(label(TEXT, START))) != []


def test_a_client_that_fails_without_the_proxy_is_no_success() -> None:
    broken = {"surface": "chat", "error": "KeyError: 'x'"}
    assert same(broken, broken) != []
    assert differences(broken, broken, MARKS) != []


def test_an_opening_needs_no_end_label() -> None:
    before, after = {"opening": TEXT}, {"opening": label(TEXT, START)}
    assert differences(before, after, MARKS) == []
    assert differences(before, before, MARKS) != []


def test_blank_or_labelled_text_of_the_upstream_shows_nothing() -> None:
    for text in ("", label(TEXT, BOTH)):
        assert differences(seen(text), seen(text), MARKS) != []


def test_a_row_without_scenarios_is_not_green() -> None:
    assert not Row("idle", {}, {}).good
    cell = Cell()
    cell.add("off", "one", [])
    cell.add("on", "one", [])
    assert Row("busy", {}, {"chat": cell}).good
    cell.add("on", "two", ["a fault"])
    assert not Row("busy", {}, {"chat": cell}).good
    assert Row("busy", {}, {"chat": cell}).faults() == ["busy, chat, on, two: a fault"]
