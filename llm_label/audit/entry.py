"""One line of the audit log: what was planned for one response, and what really happened. No prompt, no answer text.

Every request for generated text that is sent to an upstream is eligible, and has one entry. Once closed it is exactly
one of labelled, skipped and failed: `disposition` says which, for the log, the counts and `/metrics` alike.
"""

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["COLUMNS", "Disposition", "Entry", "Result", "disposition"]

Disposition = Literal["labelled", "skipped", "failed"]

Result = Literal[
    "open",  # being served, or the process died
    "complete",
    "truncated",  # the upstream ended without a finish_reason
    "client_gone",
    "upstream_error",  # the upstream answered with an error, or could not be reached
    "upstream_malformed",
    "failed",  # a required mark could not be applied, or we broke
    "stopped",  # our server was stopped while the answer was on its way
]


@dataclass
class Entry:
    content_id: str
    opened: float  # seconds since 1970, UTC
    surface: str
    upstream: str
    model: str | None
    stream: bool
    producer: str
    policy: str
    label_planned: str  # positions, separated by spaces
    watermark_planned: str | None  # key id
    result: Result = "open"
    closed: float | None = None
    status: int | None = None  # HTTP status that the client got
    upstream_id: str | None = None  # the upstream's own number for the answer
    label_applied: str = ""
    label_skipped: str | None = None
    watermark_applied: str | None = None
    watermark_skipped: str | None = None
    choices: int = 0
    labelled: int = 0  # choices that carry a label
    finish_reasons: str = ""
    note: str | None = None  # the error, in one line
    client: str | None = None  # its name in the settings
    traffic: str = "human"  # or "machine"
    asked: str | None = None  # what the client's request header chose
    guard: str = ""  # what the guard took out of the request, separated by spaces
    language: str = ""  # of the start label, then of the others where it does not follow the answer
    retrieved: int = 0  # times the stored answer was asked for again
    adopted: str | None = None  # content id that the answer came with, from another llm-label: its client sees that

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


COLUMNS: tuple[str, ...] = tuple(Entry.__dataclass_fields__)


def disposition(entry: Entry) -> tuple[Disposition, str] | None:
    """Say what became of an answer, and why it has no label; None while it is being served.

    Failed is what must not happen: a mark was due and could not be applied, or text went out without one and without a
    reason. An answer that broke off behind its label is labelled; an error instead of an answer is skipped.
    """
    if entry.result == "open":
        return None
    if entry.result in ("failed", "upstream_malformed"):  # also where `on_failure = "open"` let the text pass
        return "failed", entry.result
    if entry.label_applied:
        return "labelled", ""
    if entry.status is not None and entry.status >= 400:
        return "skipped", "error"
    if entry.label_skipped:
        return "skipped", _closed(entry.label_skipped)
    return "failed", "unlabelled" if entry.result == "complete" else entry.result


def _closed(reason: str) -> str:
    """Keep reasons to words: an adapter's own text belongs into no name of a counter."""
    return reason if re.fullmatch(r"[a-z_]{1,32}", reason) else "other"
