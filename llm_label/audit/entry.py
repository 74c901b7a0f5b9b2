"""One line of the audit log: what was planned for one response, and what really happened. No prompt, no answer text."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["COLUMNS", "Entry", "Result"]

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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


COLUMNS: tuple[str, ...] = tuple(Entry.__dataclass_fields__)
