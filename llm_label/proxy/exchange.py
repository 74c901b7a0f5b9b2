"""Serve one request for generated text: plan, ask the upstream, mark what comes back, say what happened.

One object per request holds all of its state. The order is the law: the audit entry is on disk and the headers are
final before the first byte leaves, and the entry is closed whatever happens.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from llm_label.audit.entry import Entry, Result
from llm_label.audit.log import Log
from llm_label.errors import LabelError, MarkError, Stopping, UpstreamError
from llm_label.metadata.aigc import Record
from llm_label.metadata.headers import read_response_headers
from llm_label.policy import Plan, Policy, RequestView, Skipped
from llm_label.proxy.marking import Marking
from llm_label.proxy.notice import Notice, Outcome
from llm_label.proxy.surfaces.surface import Surface
from llm_label.proxy.upstream import Headers, Mark, Upstream, UpstreamRequest, UpstreamResponse, forwarded
from llm_label.proxy.writer import Writer
from llm_label.settings import ServerSettings
from llm_label.watermark.keyring import Key

__all__ = ["Exchange", "Job"]

RESULTS: dict[str, Result] = {
    "upstream_truncated": "truncated",
    "upstream_malformed": "upstream_malformed",
    "upstream": "upstream_error",
    "upstream_timeout": "upstream_error",
    "server_stopped": "stopped",
}
# Headers that no longer fit the body once it is marked, and those that are ours to say.
LENGTHS = frozenset(["content-length", "content-encoding"])
REPLACED = LENGTHS.union(["etag", "content-md5", "digest", "content-digest", "repr-digest", "x-aigc", "x-llm-label"])
DISCLOSED = REPLACED | {"ai-disclosure"}
MAX_WHOLE = 64 * 1024 * 1024  # bytes of an answer that is held to be marked
LONG = 256 * 1024  # bytes; marking more than this at once would hold up every other answer
DRAIN = 600.0  # seconds that the rest of an answer is read for a client that has left
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What one exchange is about: who answers what, and which marks it gets."""

    surface: Surface
    view: RequestView
    plan: Plan
    content_id: str
    path: str  # with the query, as it goes to the upstream
    upstream: str  # its name, for the log
    again: Entry | None = None  # the answer is asked for again, and this is what happened the first time
    more: dict[str, Any] = field(default_factory=dict)  # what the surface's Answer takes beside


class Exchange:
    """One answer, from its plan to its closed entry."""

    def __init__(self, job: Job, policy: Policy, key: Key | None, server: ServerSettings) -> None:
        self.job, self.plan, self.policy, self._key, self._server = job, job.plan, policy, key, server
        record = Record.produced(policy.producer, job.content_id)
        self.notice = Notice(job.content_id, record, job.plan, key.spec.scheme if key else None, policy.id)
        self.answer = job.surface.Answer(job.plan, self.notice, job.view.n, server.body_field, **job.more)
        untouched = not (job.plan.labels or job.plan.otherwise) and not server.body_field and not job.plan.watermark
        self.marking = Marking(self.answer, untouched=untouched, fail_open=policy.fail_open)
        self.entry = self._entry()
        self._result: Result = "failed"
        self._task: asyncio.Task[Any] | None = None
        self._stopping = False
        self._delivered: Outcome | None = None  # what had happened when the client left, while the rest is read
        self.first_byte: float | None = None  # monotonic seconds, when the first byte of the body left

    def stop(self) -> None:
        """Break the answer off because the server stops; its client gets an error it can raise."""
        self._stopping = True
        if self._task:
            self._task.cancel()

    async def serve(self, request: web.BaseRequest, raw: bytes, upstream: Upstream, log: Log) -> web.StreamResponse:
        """Answer the client. Raises LabelError while nothing was sent; later errors go into the stream."""
        self._task = asyncio.current_task()
        log.put(self.entry)
        try:
            response = await upstream.send(self._outgoing(request, raw))
            try:
                await log.ensure(self.entry)
                return await self._relay(request, response)
            finally:
                response.close()
        except asyncio.CancelledError:
            if not self._stopping:
                self._result = "client_gone"
                raise
            raise self._failed(_stopping()) from None
        except ConnectionError:
            self._result = "client_gone"
            raise
        except LabelError as error:
            raise self._failed(error) from error.__cause__
        except Exception as error:
            raise self._failed(self._broken(error)) from None
        finally:
            self._close(log)

    def _outgoing(self, request: web.BaseRequest, raw: bytes) -> UpstreamRequest:
        mark = Mark(self._key, self.policy.variety) if self._key and self.plan.watermark else None
        withheld = self.job.view.caller.withheld
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in withheld]
        return UpstreamRequest(request.method, self.job.path, headers, raw, mark)

    async def _relay(self, request: web.BaseRequest, response: UpstreamResponse) -> web.StreamResponse:
        if response.status >= 400:
            return await self._refused(request, response)
        self.notice.watermark_skipped = response.watermark_skipped
        self._require_watermark()
        headers = self._headers(response)
        if response.header("content-type").lower().startswith("text/event-stream"):
            return await self._stream(request, response, headers)
        return await self._whole(request, response, headers)

    def _headers(self, response: UpstreamResponse) -> Headers:
        """Return the headers of the answer. An upstream that has marked it, as our own proxies do, has the word."""
        theirs = read_response_headers(response.header("x-aigc"), response.header("x-llm-label"))
        if theirs and theirs.label:
            self.marking.untouched = True
            self.entry.label_skipped, self.entry.upstream_id = Skipped.LABELLED.value, theirs.record.produce_id
            return forwarded(response.headers, LENGTHS)
        if theirs:
            self.notice.adopt(theirs.record)  # the first to write a record is the producer
            self.entry.upstream_id = theirs.record.produce_id
        ours = self.notice.headers(self.job.view.model, ai_disclosure=self._server.ai_disclosure)
        return forwarded(response.headers, DISCLOSED if self._server.ai_disclosure else REPLACED) + ours

    async def _refused(self, request: web.BaseRequest, response: UpstreamResponse) -> web.StreamResponse:
        """Pass an error as it is: it is nobody's generated text, and gets neither labels nor a record."""
        body = await _all(response.chunks)
        self.entry.status, self.entry.label_skipped = response.status, Skipped.ERROR.value
        self.entry.note = f"the upstream answered {response.status}"
        self._result = "upstream_error"
        return await _send(request, response.status, forwarded(response.headers, REPLACED), body)

    async def _whole(
        self, request: web.BaseRequest, response: UpstreamResponse, headers: Headers
    ) -> web.StreamResponse:
        try:
            body = await _all(response.chunks)
        except asyncio.CancelledError:
            await self._drain(response.chunks)
            raise
        self._require_watermark()
        work = self.marking.whole
        body = await asyncio.to_thread(work, body) if len(body) > LONG else work(body)
        self._ended()
        self.entry.status = response.status
        self.first_byte = time.monotonic()
        return await _send(request, response.status, headers, body)

    async def _stream(
        self, request: web.BaseRequest, response: UpstreamResponse, headers: Headers
    ) -> web.StreamResponse:
        # Buffering in front of a stream would undo it; nginx obeys the first, caches the second.
        names = {name.lower() for name, _ in headers}
        headers += [(k, v) for k, v in (("X-Accel-Buffering", "no"), ("Cache-Control", "no-cache"))
                    if k.lower() not in names]  # fmt: skip
        answer = web.StreamResponse(status=response.status, headers=headers)
        self.entry.status = response.status
        await answer.prepare(request)
        if error := await self._pour(response.chunks, answer):
            await answer.write(self.marking.broken_off(self._failed(error)))
        await answer.write_eof()
        return answer

    async def _pour(self, chunks: AsyncIterator[bytes], answer: web.StreamResponse) -> LabelError | None:
        """Send a stream on, marked; return the error that its client must hear of."""
        marking, client = self.marking, Writer(answer, 0 if self.marking.untouched else self._server.keep_alive)
        try:
            async for chunk in chunks:
                if out := marking.feed(chunk):
                    await client.write(out)
                    self.first_byte = self.first_byte or time.monotonic()
                if marking.broke:
                    raise marking.broke
            await client.write(marking.end())
            if marking.broke:
                raise marking.broke
            self._require_watermark()
        except (ConnectionError, asyncio.CancelledError) as gone:
            if self._stopping and self._task and isinstance(gone, asyncio.CancelledError):
                self._task.uncancel()
                return _stopping()
            await self._drain(chunks)
            raise
        except LabelError as error:
            return error
        except Exception as error:
            return self._broken(error)
        finally:
            client.end()
        self._ended()
        return None

    async def _drain(self, chunks: AsyncIterator[bytes]) -> None:
        """Read the rest for a client that has left, where the operator wants it, so that the upstream finishes."""
        if self._server.on_disconnect != "drain" or self._stopping or self._delivered:
            return
        self._delivered = self.answer.outcome()
        deadline, left = time.monotonic() + DRAIN, False
        while not left:
            try:
                left = await self._read_on(chunks, deadline)
            except asyncio.CancelledError:  # the connection's end may be told more than once
                if self._stopping:
                    raise
            except UpstreamError:
                return

    async def _read_on(self, chunks: AsyncIterator[bytes], deadline: float) -> bool:
        async for chunk in chunks:
            if self.job.view.stream:
                self.marking.feed(chunk)
            if time.monotonic() > deadline:
                break
        return True

    def _ended(self) -> None:
        self._result = "upstream_error" if self.answer.failed else "complete"
        if self.marking.opened:
            self._failed(self.marking.opened)

    def _require_watermark(self) -> None:
        """Raise MarkError when a watermark that must be there is not: some upstreams know only at the end."""
        if self.plan.watermark_required and (reason := self.notice.watermark_skipped()):
            raise MarkError(f"the watermark is required here and was not applied: {reason}")

    def _broken(self, error: Exception) -> LabelError:
        """Log our own mistake; its client learns only that there was one."""
        logger.error("answer %s failed", self.entry.content_id, exc_info=error)
        return LabelError("llm-label failed on this answer; see its log")

    def _failed(self, error: LabelError) -> LabelError:
        self.entry.note = str(error)
        self._result = RESULTS.get(error.code, "failed")
        if self.entry.status is None:
            self.entry.status = error.status
        return error

    def _entry(self) -> Entry:
        if self.job.again:
            return replace(self.job.again, status=None, retrieved=self.job.again.retrieved + 1)
        view, labels = self.job.view, self.plan.labels
        spoken = labels or self.plan.otherwise
        return Entry(
            content_id=self.job.content_id,
            opened=time.time(),
            surface=view.surface,
            upstream=self.job.upstream,
            model=view.model,
            stream=view.stream,
            producer=self.policy.producer,
            policy=self.policy.id,
            label_planned=" ".join(labels.positions) if labels else "",
            watermark_planned=self.plan.watermark,
            client=view.caller.name,
            traffic=view.caller.traffic,
            asked=view.caller.asked,
            guard=view.guard,
            language=" ".join(filter(None, (spoken.start, spoken.rest))) if spoken else "",
        )

    def _close(self, log: Log) -> None:
        if self.job.again and self._result != "complete":
            self.entry = replace(self.job.again, retrieved=self.entry.retrieved)  # what happened first still holds
            return log.put(self.entry)
        outcome, watermark, entry = self.answer.outcome(), self.notice.watermark(), self.entry
        told = self._delivered or outcome
        served = entry.status is not None and entry.status < 400
        entry.result, entry.closed = self._result, time.time()
        entry.upstream_id = outcome.upstream_id or entry.upstream_id
        entry.choices, entry.finish_reasons = outcome.choices, " ".join(outcome.finish_reasons)
        refused = self._result == "upstream_error" and not outcome.choices
        entry.label_skipped = entry.label_skipped or (Skipped.ERROR.value if refused else told.label_skipped)
        if served:
            entry.label_applied, entry.labelled = " ".join(told.label_applied), told.labelled
            entry.watermark_applied = watermark["key"]
        entry.watermark_skipped = watermark["skipped"]
        log.put(entry)


def _stopping() -> LabelError:
    return Stopping("the server is being stopped; the answer is incomplete")


async def _all(chunks: AsyncIterator[bytes]) -> bytes:
    """Collect a whole body. Raises UpstreamError when it has no end in sight."""
    parts, size = [], 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_WHOLE:
            raise UpstreamError(
                f"the upstream sent an answer of more than {MAX_WHOLE} bytes", code="upstream_malformed"
            )
    return b"".join(parts)


async def _send(request: web.BaseRequest, status: int, headers: Headers, body: bytes) -> web.Response:
    response = web.Response(status=status, headers=headers, body=body)
    await response.prepare(request)
    await response.write_eof()
    return response
