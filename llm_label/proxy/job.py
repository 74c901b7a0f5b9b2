"""What one exchange is about."""

import secrets
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from llm_label.audit.entry import Entry
from llm_label.policy import Plan, RequestView
from llm_label.proxy.surfaces.surface import Surface

__all__ = ["Job"]


@dataclass(frozen=True)
class Job:
    """Who answers what, and which marks it gets."""

    surface: Surface
    view: RequestView
    plan: Plan
    path: str  # with the query, as it goes to the upstream
    upstream: str  # its name, for the log
    known_id: str | None = None  # the content id of an answer that is asked for again
    again: Entry | None = None  # and what happened the first time
    more: dict[str, Any] = field(default_factory=dict)  # what the surface's Answer takes beside

    @cached_property
    def content_id(self) -> str:
        """The number of the answer; one that is new gets it when it is first asked for, while the upstream thinks."""
        return self.known_id or secrets.token_hex(16)
