"""Serve one request for generated text: plan, ask the upstream, mark what comes back, say what happened.

One object per request holds all of its state. The order is the law: the audit entry is on disk and the headers are
final before the first byte leaves, and the entry is closed whatever happens.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from llm_label.audit.entry import Result
from llm_label.audit.log import Log
from llm_label.errors import LabelError, MarkError, Stopping, UpstreamError
from llm_label.metadata.aigc import Record
from llm_label.policy import Plan, Policy, Skipped
from llm_label.proxy.body import whole_of
from llm_label.proxy.chain import told_by
from llm_label.proxy.job import Job, opened, retold
from llm_label.proxy.marking import Marking
from llm_label.proxy.notice import Notice, Outcome
from llm_label.proxy.surfaces import responses
from llm_label.proxy.upstream import Headers, Mark, Upstream, UpstreamRequest, UpstreamResponse, forwarded
from llm_label.proxy.writer import Gone, Writer
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
LONG = 256 * 1024  # bytes; marking more than this at once would hold up every other answer
DRAIN = 600.0  # seconds that the rest of an answer is read for a client that has left
logger = logging.getLogger(__name__)


class Exchange:
    """One answer, from its plan to its closed entry."""

    def __init__(self, job: Job, policy: Policy, key: Key | None, server: ServerSettings) -> None:
        self.job, self.policy, self._key, self._server = job, policy, key, server
        record = Record.produced(policy.producer, job.content_id)
        self.notice = Notice(job.content_id, record, job.plan, key.spec.scheme if key else None, policy.id)
        self._plan(job.plan)
        self.entry = opened(job, policy)
        self._result: Result | None = None  # None: nothing has decided it yet
        self._task: asyncio.Task[Any] | None = None
        self._stopping = False
        self._left: Outcome | None = None  # what had happened when the client left
        self._over = False  # it left behind the end of the answer
        self._foretold: Result | None = None  # what is on disk already, if the client takes the answer
        self.first_byte: float | None = None  # monotonic seconds, when the first byte of the body left

    def _plan(self, plan: Plan) -> None:
        self.plan = self.notice.plan = plan
        self.answer = self.job.surface.Answer(
            plan, self.notice, self.job.view.n, self._server.body_field, **self.job.more
        )
        marks = plan.labels or plan.otherwise or plan.watermark or self._server.body_field
        # Its number must be read where it says whose the answer is; a stream that is resumed begins further on.
        owned = self.job.surface is responses and self.job.view.caller.name
        untouched = not (marks or owned or self.job.more)
        self.marking = Marking(self.answer, untouched=untouched, fail_open=self.policy.fail_open)

    def stop(self) -> None:
        """Break the answer off because the server stops; its client gets an error it can raise."""
        self._stopping = True
        if self._task:
            self._task.cancel()

    async def serve(self, request: web.BaseRequest, raw: bytes, upstream: Upstream, log: Log) -> web.StreamResponse:
        """Answer the client. Raises LabelError while nothing was sent; later errors go into the stream."""
        work = self._serve(request, raw, upstream, log)
        if self._server.on_disconnect == "drain":
            self._task = asyncio.create_task(work)
            return await self._outlast(self._task)
        self._task = asyncio.current_task()
        return await work

    async def _outlast(self, task: "asyncio.Task[web.StreamResponse]") -> web.StreamResponse:
        """Wait for the answer also when its client leaves, so that the upstream finishes: DRAIN seconds at most."""
        patience: asyncio.TimerHandle | None = None
        while True:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:  # it may come more than once
                if task.done():
                    raise
                self._leave()
                patience = patience or asyncio.get_running_loop().call_later(DRAIN, task.cancel)
            finally:
                if patience and task.done():
                    patience.cancel()

    async def _serve(self, request: web.BaseRequest, raw: bytes, upstream: Upstream, log: Log) -> web.StreamResponse:
        if not self.job.again:  # it has its entry
            log.put(self.entry, soon=self.job.view.stream)
        self._log = log
        try:
            response = await upstream.send(self._outgoing(request, raw))
            try:
                return await self._relay(request, response)
            finally:
                response.close()
        except asyncio.CancelledError:
            if not self._stopping or self._left:
                self._leave()
                raise
            raise self._failed(_stopping()) from None
        except ConnectionError:
            self._leave()
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
        if told := told_by(response):
            self.notice.adopt(told)
            self.entry.adopted = told.record.produce_id
            if told.label:
                self._plan(self.plan.deferred())
        ours = self.notice.headers(self.job.view.model, ai_disclosure=self._server.ai_disclosure)
        if response.header("access-control-allow-origin"):  # or scripts of that origin could not read them
            ours.append(("Access-Control-Expose-Headers", ", ".join(name for name, _ in ours)))
        return forwarded(response.headers, DISCLOSED if self._server.ai_disclosure else REPLACED) + ours

    async def _refused(self, request: web.BaseRequest, response: UpstreamResponse) -> web.StreamResponse:
        """Pass an error as it is: it is nobody's generated text, and gets neither labels nor a record."""
        body = await whole_of(response.chunks)
        self.entry.status, self.entry.label_skipped = response.status, Skipped.ERROR.value
        self.entry.note = f"the upstream answered {response.status}"
        self._result = "upstream_error"
        await self._log.ensure(self.entry)
        return await _send(request, response.status, forwarded(response.headers, REPLACED), body)

    async def _whole(
        self, request: web.BaseRequest, response: UpstreamResponse, headers: Headers
    ) -> web.StreamResponse:
        body = await whole_of(response.chunks)
        self._require_watermark()
        work = self.marking.whole
        body = await asyncio.to_thread(work, body) if len(body) > LONG else work(body)
        if self._left:
            raise Gone("the client has left")
        self.entry.status = response.status
        await self._foretell()
        self.first_byte = time.monotonic()
        answer = await _send(request, response.status, headers, body)
        self._ended()
        return answer

    async def _foretell(self) -> None:
        """Have on disk what will be true once the client has a whole answer: then nothing is left to be written."""
        if not self.job.again and not self.marking.opened:
            self._fill("upstream_error" if self.answer.failed else "complete")
            self._foretold = self.entry.result
            self._log.put(self.entry)
        try:
            await self._log.ensure(self.entry)
        except MarkError:
            self.entry.status = self._foretold = None
            raise

    async def _stream(
        self, request: web.BaseRequest, response: UpstreamResponse, headers: Headers
    ) -> web.StreamResponse:
        # Buffering in front of a stream would undo it; nginx obeys the first, caches the second.
        names = {name.lower() for name, _ in headers}
        headers += [(k, v) for k, v in (("X-Accel-Buffering", "no"), ("Cache-Control", "no-cache"))
                    if k.lower() not in names]  # fmt: skip
        answer = web.StreamResponse(status=response.status, headers=headers)
        await self._log.ensure(self.entry)
        if not self._left:
            self.entry.status = response.status
            await answer.prepare(request)
        client = Writer(request, answer, 0 if self.marking.untouched else self._server.keep_alive)
        try:
            error = await self._pour(response.chunks, client)
            if self._left:
                raise Gone("the client has left")
            if error:
                await client.write(self.marking.broken_off(self._failed(error)))
            await client.finish()
        finally:
            client.end()
        return answer

    async def _pour(self, chunks: AsyncIterator[bytes], client: Writer) -> LabelError | None:
        """Send a stream on, marked; return the error that its client must hear of."""
        marking = self.marking
        try:
            cut = await self._feed(chunks, client)
            self._notice(client)
            await self._deliver(client, marking.end(cut))
            if marking.broke:
                raise marking.broke
            self._require_watermark()
        except asyncio.CancelledError:
            if not (self._stopping and self._task):
                raise
            self._task.uncancel()
            return _stopping()
        except Gone:
            raise
        except LabelError as error:
            return error
        except Exception as error:
            return self._broken(error)
        self._ended()
        return None

    async def _feed(self, chunks: AsyncIterator[bytes], client: Writer) -> UpstreamError | None:
        """Send on piece by piece, until the upstream ends or nothing can follow; return how it broke off, if it did."""
        marking = self.marking
        try:
            async for chunk in chunks:
                if client.gone:  # before the next label is applied, which would reach nobody
                    self._notice(client)
                out = marking.feed(chunk)
                if out and self.first_byte and not (self._left or marking.opened):
                    await client.write(out)
                else:
                    await self._deliver(client, out)
                if marking.broke:
                    break
        except UpstreamError as error:
            return error
        return None

    async def _deliver(self, client: Writer, out: bytes) -> None:
        if self.marking.opened:
            client.silence()
        if not out or self._left:
            return
        if not self.first_byte:
            self._identify()
        await client.write(out)
        self.first_byte = self.first_byte or time.monotonic()

    def _identify(self) -> None:
        """Put the upstream's number on record before the client knows it: it may ask again while the answer runs."""
        if self.job.surface is responses and not self.job.again and (given := self.answer.outcome().upstream_id):
            self.entry.upstream_id = given
            self._log.put(self.entry)

    def _notice(self, client: Writer) -> None:
        """Look whether the client has left. Raises Gone then, unless the rest is to be read all the same."""
        if client.gone:
            self._leave()
            if self._server.on_disconnect == "cancel":
                raise Gone("the client has left")

    def _leave(self) -> None:
        """Keep what had happened when the client left: what comes later reaches nobody."""
        if self._left is None and self._result is None:
            self._left = self.answer.outcome()
            with contextlib.suppress(UpstreamError):  # SDKs leave at the last event, and nothing is missing then
                self.answer.finish()
                self._over = True

    def _ended(self) -> None:
        self._result = "upstream_error" if self.answer.failed else "complete"
        if self.marking.opened:
            self._failed(self.marking.opened)

    def _require_watermark(self) -> None:
        """Raise MarkError when a text lacks the watermark that must be there: some upstreams know only at the end."""
        reason = self.notice.watermark_skipped()
        if self.plan.watermark_required and reason not in (None, Skipped.EMPTY):
            raise MarkError(f"the watermark is required here and was not applied: {reason}")

    def _broken(self, error: Exception) -> LabelError:
        """Log our own mistake; its client learns only that there was one."""
        logger.error("answer %s failed", self.entry.content_id, exc_info=error)
        return LabelError("llm-label failed on this answer; see its log")

    def _failed(self, error: LabelError) -> LabelError:
        self.entry.note = str(error)
        self._result = RESULTS.get(error.code, "failed")
        if self.entry.status is None and not self._left:
            self.entry.status = error.status
        return error

    def _close(self, log: Log) -> None:
        if self._foretold and self._result == self._foretold:
            return
        if self._over:
            self._ended()
        elif self._left:
            self._result = "client_gone"
        self._fill(self._result or "failed")
        if self.job.again:
            if first := retold(log.get(self.entry.content_id) or self.job.again, self.entry):
                log.put(first)
        elif self.entry.result != self._foretold:
            log.put(self.entry, soon=self.job.surface is responses)  # its client may ask again, another worker

    def _fill(self, result: Result) -> None:
        """Put into the entry what really happened so far."""
        outcome, watermark, entry = self.answer.outcome(), self.notice.watermark(), self.entry
        told = self._left or outcome
        entry.result, entry.closed = result, time.time()
        entry.upstream_id = outcome.upstream_id or entry.upstream_id
        entry.choices, entry.finish_reasons = outcome.choices, " ".join(outcome.finish_reasons)
        refused = result == "upstream_error" and not outcome.choices
        entry.label_skipped = entry.label_skipped or (Skipped.ERROR.value if refused else told.label_skipped)
        served = entry.status is not None and entry.status < 400
        entry.label_applied, entry.labelled = (" ".join(told.label_applied), told.labelled) if served else ("", 0)
        entry.watermark_applied = watermark["key"] if served else None
        entry.watermark_skipped = watermark["skipped"]


def _stopping() -> LabelError:
    return Stopping("the server is being stopped; the answer is incomplete")


async def _send(request: web.BaseRequest, status: int, headers: Headers, body: bytes) -> web.Response:
    response = web.Response(status=status, headers=headers, body=body)
    await response.prepare(request)
    client = Writer(request, response, 0)
    try:
        await client.finish()
        if client.gone:
            raise Gone("the client has left")
    finally:
        client.end()
    return response
