"""What an entry says after its answer was asked for again."""

from dataclasses import replace

import pytest

from llm_label.audit.entry import Entry, disposition
from llm_label.proxy.account import retold

DONE = Entry(
    "a" * 32, 1.0, "responses", "u", "m", False, "Acme", "p", "start", None,
    result="complete", status=200, label_applied="start", retrieved=2,
)  # fmt: skip
BARE = replace(DONE, label_applied="")
EMPTY = replace(BARE, label_skipped="empty")
GONE = replace(BARE, result="client_gone")


@pytest.mark.parametrize(
    ("first", "now", "says"),
    [
        (EMPTY, DONE, ("labelled", "")),
        (EMPTY, replace(BARE, label_skipped="tool_call"), ("skipped", "tool_call")),
        (GONE, DONE, ("labelled", "")),
        (DONE, EMPTY, ("labelled", "")),
        (DONE, BARE, ("failed", "unlabelled")),
        (DONE, replace(BARE, result="truncated"), ("labelled", "")),
        (BARE, DONE, ("failed", "unlabelled")),
        (replace(DONE, result="upstream_malformed"), DONE, ("failed", "upstream_malformed")),
        (GONE, EMPTY, ("failed", "client_gone")),
    ],
)
def test_what_happened_first_holds_unless_more_is_known(first: Entry, now: Entry, says: tuple[str, str]) -> None:
    told = retold(first, now)
    assert told is not None and disposition(told) == says and told.retrieved == 3


def test_an_answer_on_its_way_is_told_of_by_its_first_request() -> None:
    assert retold(replace(BARE, result="open"), DONE) is None
