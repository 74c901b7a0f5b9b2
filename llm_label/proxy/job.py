"""What one exchange is about, and the audit entry that it opens. Nothing here does I/O but reading the clock."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

from llm_label.audit.entry import Entry, disposition
from llm_label.policy import Plan, Policy, RequestView
from llm_label.proxy.surfaces.surface import Surface

__all__ = ["Job", "opened", "retold"]


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


def opened(job: Job, policy: Policy) -> Entry:
    """Return the open entry of an answer that is about to be asked for."""
    view, labels = job.view, job.plan.labels
    spoken = labels or job.plan.otherwise
    planned = " ".join(labels.positions) if labels else ""
    language = " ".join(filter(None, (spoken.start, spoken.rest))) if spoken else ""
    if job.again:
        now = replace(job.again, status=None, label_applied="", label_skipped=None, labelled=0, note=None)
        return replace(now, label_planned=planned, language=language)
    return Entry(
        content_id=job.content_id,
        opened=time.time(),
        surface=view.surface,
        upstream=job.upstream,
        model=view.model,
        stream=view.stream,
        producer=policy.producer,
        policy=policy.id,
        label_planned=planned,
        watermark_planned=job.plan.watermark,
        client=view.caller.name,
        traffic=view.caller.traffic,
        asked=view.caller.asked,
        guard=view.guard,
        language=language,
    )


def retold(first: Entry, now: Entry) -> Entry | None:
    """Return the entry of an answer that was asked for again; None while the first request still runs and will say.

    What happened first holds unless more is known now: an answer that was empty (queued) or broke off is labelled now,
    or text went out without its label. Text that went out so before is not made good by asking again.
    """
    if first.result == "open":
        return None
    (kind, why), (new, _) = disposition(first) or ("", ""), disposition(now) or ("", "")
    worse = kind == "failed" and why in ("failed", "upstream_malformed", "unlabelled")
    news = now.result == "complete" and not worse and (new != "skipped" or kind == "skipped")
    return replace(now if news else first, retrieved=first.retrieved + 1)
