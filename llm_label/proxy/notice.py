"""The `llm_label` object in answers, and the headers: what is planned, then what really happened."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_label.metadata.aigc import Record
from llm_label.metadata.headers import AiDisclosure, Told, response_headers
from llm_label.policy import Plan, Skipped
from llm_label.proxy.surfaces.reading import FIELD

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
    _told: Told | None = None  # what the answer's headers say, where an llm-label has marked it before

    def __post_init__(self) -> None:
        self._record = self.record.to_dict()

    def adopt(self, told: Told) -> None:
        """Take the record that the answer came with: the first to write one is the producer (Annex E, note 1)."""
        self._told = told
        self.record, self.content_id = told.record, told.record.produce_id
        self._record = told.record.to_dict()

    def yields(self, body: Mapping[str, Any]) -> bool:
        """Say whether an object of ours in `body` stays: whoever planned the labels says what became of them."""
        return self._told is not None and bool(self._told.label) and FIELD in body

    def planned(self) -> dict[str, Any]:
        """Return the object of the first frame, before any text."""
        return self._body((), str(self.plan.label_skipped) if self.plan.label_skipped else None)

    def happened(self, outcome: Outcome) -> dict[str, Any]:
        """Return the object of the last frame or of a whole answer."""
        return self._body(outcome.label_applied, outcome.label_skipped)

    def headers(self, model: str | None, *, ai_disclosure: bool) -> list[tuple[str, str]]:
        """Return the response headers: they say what will be attempted."""
        labels, told = self.plan.labels, self._told
        ours = (self.scheme if self.plan.watermark else None, self.plan.watermark)
        scheme, key = (told.watermark, told.key) if told and told.watermark else ours
        headers = response_headers(
            self.record,
            label=labels.positions if labels else (),
            skipped=str(self.plan.label_skipped) if self.plan.label_skipped else None,
            watermark=scheme,
            key=key,
            policy=self.policy_id,
            ai_disclosure=AiDisclosure(model, self.record.content_producer) if ai_disclosure else None,
        )
        if told and told.label:
            return [(name, told.line if name == "X-LLM-Label" else value) for name, value in headers]
        return headers

    def watermark(self) -> dict[str, Any]:
        """Say what the watermark is, or why there is none."""
        if self._told and self._told.watermark:
            return {"scheme": self._told.watermark, "key": self._told.key, "skipped": None}
        skipped = self.plan.watermark_skipped or self.watermark_skipped()
        if skipped:
            return {"scheme": None, "key": None, "skipped": str(skipped)}
        return {"scheme": self.scheme, "key": self.plan.watermark, "skipped": None}

    def _body(self, applied: tuple[str, ...], skipped: str | None) -> dict[str, Any]:
        labels = self.plan.labels
        planned = labels.positions if labels else ()
        if self._told and self._told.label:
            planned = self._told.label
            if skipped == Skipped.LABELLED:
                applied, skipped = planned, None
        return {
            "content_id": self.content_id,
            "record": self._record,
            "label": {
                "planned": list(planned),
                "applied": list(applied),
                "skipped": skipped,
            },
            "watermark": self.watermark(),
        }
