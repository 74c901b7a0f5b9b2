"""What became of an answer: labelled, skipped or failed, and never two of them."""

from dataclasses import replace
from typing import Any, get_args

import pytest

from llm_label.audit.entry import Disposition, Entry, Result, disposition

ENTRY = Entry("a" * 32, 1.0, "chat", "http://up", "m", True, "Acme", "cn-1", "start", None, status=200)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"result": "open"}, None),
        ({"result": "complete", "label_applied": "start"}, ("labelled", "")),
        ({"result": "complete", "label_skipped": "structured"}, ("skipped", "structured")),
        ({"result": "complete"}, ("failed", "unlabelled")),
        ({"result": "truncated", "label_applied": "start"}, ("labelled", "")),
        ({"result": "truncated", "label_skipped": "empty", "status": 502}, ("skipped", "error")),
        ({"result": "client_gone", "label_applied": "start"}, ("labelled", "")),
        ({"result": "client_gone", "label_skipped": "empty", "status": None}, ("skipped", "empty")),
        ({"result": "client_gone"}, ("failed", "client_gone")),
        ({"result": "upstream_error", "label_skipped": "error", "status": 429}, ("skipped", "error")),
        ({"result": "stopped", "status": 503}, ("skipped", "error")),
        ({"result": "upstream_malformed", "label_applied": "start"}, ("failed", "upstream_malformed")),
        ({"result": "failed", "status": 500, "label_skipped": "empty"}, ("failed", "failed")),
        ({"result": "complete", "label_skipped": "An adapter's own words"}, ("skipped", "other")),
    ],
)
def test_an_answer_is_one_of_three(change: dict[str, Any], expected: Any) -> None:
    assert disposition(replace(ENTRY, **change)) == expected


@pytest.mark.parametrize("result", [r for r in get_args(Result) if r != "open"])
@pytest.mark.parametrize("applied", ["", "start"])
@pytest.mark.parametrize("skipped", [None, "empty"])
@pytest.mark.parametrize("status", [None, 200, 502])
def test_every_closed_entry_has_a_disposition(result: Any, applied: str, skipped: Any, status: Any) -> None:
    found = disposition(replace(ENTRY, result=result, label_applied=applied, label_skipped=skipped, status=status))
    assert found is not None and found[0] in get_args(Disposition)
    assert bool(found[1]) == (found[0] != "labelled")
