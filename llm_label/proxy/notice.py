"""The `llm_label` object in answers, and the headers: what is planned, then what really happened."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llm_label.metadata.aigc import Record
from llm_label.metadata.headers import AiDisclosure, response_headers
from llm_label.policy import Plan

__all__ = ["Notice", "Outcome"]


@dataclass
class Outcome:
    """What really happened to one answer; a surface fills it while the answer passes."""

    label_applied: tuple[str, ...] = ()
    label_skipped: str | None = None
    upstream_id: str | None = None
    finish_reasons: tuple[str, ...] = ()
    choices: int = 0
    labelled: int = 0  # choices that carry a label


@dataclass
class Notice:
    """Everything said about one answer beside its text."""

    content_id: str
    record: Record
    plan: Plan
    scheme: str | None
    policy_id: str
    # asks the upstream: None when the watermark is in the tokens, else why not
    watermark_skipped: Callable[[], str | None] = field(default=lambda: None)

    def __post_init__(self) -> None:
        self._record = self.record.to_dict()

    def adopt(self, record: Record) -> None:
        """Take the record that the answer came with: the first to write one is the producer (Annex E, note 1)."""
        self.record, self.content_id = record, record.produce_id
        self._record = record.to_dict()

    def planned(self) -> dict[str, Any]:
        """Return the object of the first frame, before any text."""
        return self._body((), str(self.plan.label_skipped) if self.plan.label_skipped else None)

    def happened(self, outcome: Outcome) -> dict[str, Any]:
        """Return the object of the last frame or of a whole answer."""
        return self._body(outcome.label_applied, outcome.label_skipped)

    def headers(self, model: str | None, *, ai_disclosure: bool) -> list[tuple[str, str]]:
        """Return the response headers: they say what will be attempted."""
        labels = self.plan.labels
        return response_headers(
            self.record,
            label=labels.positions if labels else (),
            skipped=str(self.plan.label_skipped) if self.plan.label_skipped else None,
            watermark=self.scheme if self.plan.watermark else None,
            key=self.plan.watermark,
            policy=self.policy_id,
            ai_disclosure=AiDisclosure(model, self.record.content_producer) if ai_disclosure else None,
        )

    def watermark(self) -> dict[str, Any]:
        """Say what the watermark is, or why there is none."""
        skipped = self.plan.watermark_skipped or self.watermark_skipped()
        if skipped:
            return {"scheme": None, "key": None, "skipped": str(skipped)}
        return {"scheme": self.scheme, "key": self.plan.watermark, "skipped": None}

    def _body(self, applied: tuple[str, ...], skipped: str | None) -> dict[str, Any]:
        labels = self.plan.labels
        return {
            "content_id": self.content_id,
            "record": self._record,
            "label": {
                "planned": list(labels.positions) if labels else [],
                "applied": list(applied),
                "skipped": skipped,
            },
            "watermark": self.watermark(),
        }
