"""What one exchange is about."""

from dataclasses import dataclass, field
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
    content_id: str
    path: str  # with the query, as it goes to the upstream
    upstream: str  # its name, for the log
    again: Entry | None = None  # the answer is asked for again, and this is what happened the first time
    more: dict[str, Any] = field(default_factory=dict)  # what the surface's Answer takes beside
