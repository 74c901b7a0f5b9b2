"""Keep account of one answer: its audit entry, opened with what is planned and closed with what really happened."""

import contextlib
import time
from dataclasses import replace

from llm_label.audit.entry import Entry, Result, disposition
from llm_label.audit.log import Log
from llm_label.errors import LabelError, MarkError, UpstreamError
from llm_label.policy import Policy, Skipped
from llm_label.proxy.job import Job
from llm_label.proxy.marking import Marking
from llm_label.proxy.notice import Notice, Outcome

__all__ = ["Account", "opened", "retold"]

RESULTS: dict[str, Result] = {
    "upstream_truncated": "truncated",
    "upstream_malformed": "upstream_malformed",
    "upstream": "upstream_error",
    "upstream_timeout": "upstream_error",
    "server_stopped": "stopped",
}


class Account:
    """What became of one answer; nothing here reaches the client."""

    def __init__(self, job: Job, policy: Policy, notice: Notice, marking: Marking, log: Log) -> None:
        self.entry = opened(job, policy)
        self.marking = marking
        self.left: Outcome | None = None  # what had happened when the client left
        self._job, self._notice, self._log = job, notice, log
        self._result: Result | None = None  # None: nothing has decided it yet
        self._over = False  # the client left behind the end of the answer
        self._foretold: Result | None = None  # what is on disk already, if the client takes the answer

    def open(self) -> None:
        """Have the entry written while it is open; an answer that is asked for again has one."""
        if not self._job.again and self.entry.result == "open":
            self._log.put(self.entry, soon=self._job.view.stream)

    async def ensure(self) -> None:
        """Have the entry on disk before going on. Raises MarkError: fail closed."""
        await self._log.ensure(self.entry)

    async def foretell(self, status: int) -> None:
        """Have on disk what will be true once the client has a whole answer: then nothing is left to be written."""
        self.entry.status = status
        if not self._job.again and not self.marking.opened:
            self._fill("upstream_error" if self.marking.answer.failed else "complete")
            self._foretold = self.entry.result
            self._log.put(self.entry)
        try:
            await self.ensure()
        except MarkError:
            self.entry.status = self._foretold = None
            raise

    async def refuse(self, status: int) -> None:
        """Note that the upstream answered with an error, which is nobody's generated text."""
        self.entry.status, self.entry.label_skipped = status, Skipped.ERROR.value
        self.entry.note = f"the upstream answered {status}"
        self._result = "upstream_error"
        await self.ensure()

    def identify(self) -> None:
        """Put the upstream's number on record when the client gets it: it may ask again while the answer runs."""
        if not self._job.again and self.entry.result == "open" and (given := self.marking.answer.outcome().upstream_id):
            self.entry.upstream_id = given
            self._log.put(self.entry)

    def leave(self) -> None:
        """Keep what had happened when the client left: what comes later reaches nobody."""
        if self.left is None and self._result is None:
            self.left = self.marking.answer.outcome()
            with contextlib.suppress(UpstreamError):  # SDKs leave at the last event, and nothing is missing then
                self.marking.answer.finish()
                self._over = True

    def end(self) -> None:
        """Note that the answer came to its end."""
        self._result = "upstream_error" if self.marking.answer.failed else "complete"
        if self.marking.opened:
            self.fail(self.marking.opened)

    def fail(self, error: LabelError) -> LabelError:
        """Note what went wrong, and return it."""
        self.entry.note = str(error)
        self._result = RESULTS.get(error.code, "failed")
        if self.entry.status is None and not self.left:
            self.entry.status = error.status
        return error

    def close(self, *, soon: bool) -> None:
        """Write what really happened; `soon`: its client may ask for it again, at another worker."""
        if self._foretold and self._result == self._foretold:
            return
        if self._over:
            self.end()
        elif self.left:
            self._result = "client_gone"
        self._fill(self._result or "failed")
        if self._job.again:
            if first := retold(self._log.get(self.entry.content_id) or self._job.again, self.entry):
                self._log.put(first)
        elif self.entry.result != self._foretold:
            self._log.put(self.entry, soon=soon)

    def _fill(self, result: Result) -> None:
        """Put into the entry what really happened so far."""
        outcome, watermark, entry = self.marking.answer.outcome(), self._notice.watermark(), self.entry
        told = self.left or outcome
        entry.result, entry.closed = result, time.time()
        entry.upstream_id = outcome.upstream_id or entry.upstream_id
        entry.choices, entry.finish_reasons = outcome.choices, " ".join(outcome.finish_reasons)
        refused = result == "upstream_error" and not outcome.choices
        entry.label_skipped = entry.label_skipped or (Skipped.ERROR.value if refused else told.label_skipped)
        served = entry.status is not None and entry.status < 400
        entry.label_applied, entry.labelled = (" ".join(told.label_applied), told.labelled) if served else ("", 0)
        entry.watermark_applied = watermark["key"] if served else None
        entry.watermark_skipped = watermark["skipped"]


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
