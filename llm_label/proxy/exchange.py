"""Serve one request for generated text: ask the upstream, mark what comes back, say what happened.

One object per request holds all of its state. The order is the law: the audit entry is on disk and the headers are
final before the first byte leaves, and the entry is closed whatever happens. What the answer needs is made while the
upstream thinks, so that it costs its client no time.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable
from functools import cached_property
from typing import Any

from aiohttp import web

from llm_label.audit.log import Log
from llm_label.errors import LabelError, MarkError, Stopping, UpstreamError
from llm_label.metadata.aigc import Record
from llm_label.metadata.headers import Told
from llm_label.policy import Policy, Skipped
from llm_label.proxy.account import Account
from llm_label.proxy.body import whole_of
from llm_label.proxy.chain import told_by
from llm_label.proxy.job import Job
from llm_label.proxy.marking import Marking
from llm_label.proxy.notice import Notice
from llm_label.proxy.surfaces import responses
from llm_label.proxy.upstream import Headers, Mark, Upstream, UpstreamRequest, UpstreamResponse, forwarded
from llm_label.proxy.writer import Gone, Held, Writer
from llm_label.settings import ServerSettings
from llm_label.watermark.keyring import Key

__all__ = ["Exchange", "Job"]

# Headers that no longer fit the body once it is marked, and those that are ours to say.
LENGTHS = frozenset(["content-length", "content-encoding"])
REPLACED = LENGTHS.union(["etag", "content-md5", "digest", "content-digest", "repr-digest", "x-aigc", "x-llm-label"])
DISCLOSED = REPLACED | {"ai-disclosure"}
# Buffering in front of a stream would undo it; nginx obeys the first, caches the second.
UNBUFFERED = (("X-Accel-Buffering", "no"), ("Cache-Control", "no-cache"))
LONG = 256 * 1024  # bytes; marking more than this at once would hold up every other answer
DRAIN = 600.0  # seconds that the rest of an answer is read for a client that has left
logger = logging.getLogger(__name__)


class Exchange:
    """One answer, from its plan to its closed entry."""

    def __init__(self, job: Job, policy: Policy, key: Key | None, server: ServerSettings, log: Log) -> None:
        self.job, self.policy, self._key, self._server, self._log = job, policy, key, server, log
        self.plan = job.plan
        self._ours: Headers | None = None  # the headers of ours
        self._task: asyncio.Task[Any] | None = None
        self._stopping = False
        self.first_byte: float | None = None  # monotonic seconds, when the first byte of the body left

    @cached_property
    def notice(self) -> Notice:
        """What is said of the answer beside its text."""
        job, scheme = self.job, self._key.spec.scheme if self._key else None
        record = Record.produced(self.policy.producer, job.content_id)
        return Notice(job.content_id, record, self.plan, scheme, self.policy.id)

    @cached_property
    def marking(self) -> Marking:
        """What marks the bytes of the answer."""
        plan, field, more = self.plan, self._server.body_field, self.job.more
        answer = self.job.surface.Answer(plan, self.notice, self.job.view.n, field, **more)
        marks = plan.labels or plan.otherwise or plan.watermark or field
        # Its number must be read where it says whose the answer is; a stream that is resumed begins further on.
        owned = self.job.surface is responses and self.job.view.caller.name
        return Marking(answer, untouched=not (marks or owned or more), fail_open=self.policy.fail_open)

    @cached_property
    def account(self) -> Account:
        """What becomes of the answer."""
        return Account(self.job, self.policy, self.notice, self.marking, self._log)

    def _prepare(self) -> Headers:
        """Make what the answer needs, if it is not made yet, and have its entry written; return headers of ours."""
        if self._ours is None:
            self.account.open()
            self._ours = self.notice.headers(self.job.view.model, ai_disclosure=self._server.ai_disclosure)
        return self._ours

    def _meanwhile(self) -> None:
        """Prepare while the upstream thinks; what goes wrong will be said where it is needed."""
        with contextlib.suppress(LabelError):
            self._prepare()

    def stop(self) -> None:
        """Break the answer off because the server stops; its client gets an error it can raise."""
        self._stopping = True
        if self._task:
            self._task.cancel()

    def serve(self, request: web.BaseRequest, raw: bytes, upstream: Upstream) -> Awaitable[web.StreamResponse]:
        """Answer the client. Raises LabelError while nothing was sent; later errors go into the stream."""
        # Every coroutine that waits for another is gone through at every chunk: so no more of them than it takes.
        work = self._serve(request, raw, upstream)
        if self._server.on_disconnect == "drain":
            self._task = task = asyncio.create_task(work)
            return self._outlast(task)
        self._task = asyncio.current_task()
        return work

    async def _outlast(self, task: "asyncio.Task[web.StreamResponse]") -> web.StreamResponse:
        """Wait for the answer also when its client leaves, so that the upstream finishes: DRAIN seconds at most."""
        patience: asyncio.TimerHandle | None = None
        while True:
            try:
                return await asyncio.shield(task)
            except asyncio.CancelledError:  # it may come more than once
                if task.done():
                    raise
                self.account.leave()
                patience = patience or asyncio.get_running_loop().call_later(DRAIN, task.cancel)
            finally:
                if patience and task.done():
                    patience.cancel()

    async def _serve(self, request: web.BaseRequest, raw: bytes, upstream: Upstream) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self._meanwhile)  # in the turn after the one that sends the request
        try:
            response = await upstream.send(self._outgoing(request, raw))
            try:
                return await self._relay(request, response)
            finally:
                response.close()
        except asyncio.CancelledError:
            if not self._stopping or self.account.left:
                self.account.leave()
                raise
            raise self.account.fail(_stopping()) from None
        except ConnectionError:
            self.account.leave()
            raise
        except LabelError as error:
            raise self.account.fail(error) from error.__cause__
        except Exception as error:
            raise self.account.fail(self._broken(error)) from None
        finally:
            self.account.close(soon=self.job.surface is responses)

    def _outgoing(self, request: web.BaseRequest, raw: bytes) -> UpstreamRequest:
        mark = Mark(self._key, self.policy.variety) if self._key and self.plan.watermark else None
        withheld = self.job.view.caller.withheld
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in withheld]
        return UpstreamRequest(request.method, self.job.path, headers, raw, mark)

    def _relay(self, request: web.BaseRequest, response: UpstreamResponse) -> Awaitable[web.StreamResponse]:
        if response.status >= 400:
            return self._refused(request, response)
        self.notice.watermark_skipped = response.watermark_skipped
        self._require_watermark()
        headers = self._headers(response)
        if response.header("content-type").lower().startswith("text/event-stream"):
            return self._stream(request, response, headers)
        return self._whole(request, response, headers)

    def _headers(self, response: UpstreamResponse) -> Headers:
        """Return the headers of the answer."""
        if told := told_by(response):
            self._adopt(told)
        ours = self._prepare()
        if response.header("access-control-allow-origin"):  # or scripts of that origin could not read them
            ours = [*ours, ("Access-Control-Expose-Headers", ", ".join(name for name, _ in ours))]
        return forwarded(response.headers, DISCLOSED if self._server.ai_disclosure else REPLACED) + ours

    def _adopt(self, told: Told) -> None:
        """Give an upstream the word that has marked the answer, as our own proxies do."""
        self.notice.adopt(told)
        self.account.entry.adopted = told.record.produce_id
        if told.label:
            self.plan = self.notice.plan = self.plan.deferred()
            del self.marking  # made for the other plan
            self.account.marking = self.marking
        self._ours = None  # they said something else

    async def _refused(self, request: web.BaseRequest, response: UpstreamResponse) -> web.StreamResponse:
        """Pass an error as it is: it is nobody's generated text, and gets neither labels nor a record."""
        self._prepare()
        body = await whole_of(response.chunks)
        await self.account.refuse(response.status)
        return await _send(request, response.status, forwarded(response.headers, REPLACED), body)

    async def _whole(
        self, request: web.BaseRequest, response: UpstreamResponse, headers: Headers
    ) -> web.StreamResponse:
        body = await whole_of(response.chunks)
        self._require_watermark()
        work = self.marking.whole
        body = await asyncio.to_thread(work, body) if len(body) > LONG else work(body)
        if self.account.left:
            raise Gone("the client has left")
        await self.account.foretell(response.status)
        self.first_byte = time.monotonic()
        answer = await _send(request, response.status, headers, body)
        self.account.end()
        return answer

    async def _stream(
        self, request: web.BaseRequest, response: UpstreamResponse, headers: Headers
    ) -> web.StreamResponse:
        headers += [(name, value) for name, value in UNBUFFERED if not response.header(name.lower())]
        answer = Held(status=response.status, headers=headers)
        await self.account.ensure()
        if not self.account.left:
            self.account.entry.status = response.status
            await answer.begin(request)
        client = Writer(request, answer, 0 if self.marking.untouched else self._server.keep_alive)
        try:
            error = await self._pour(response.chunks, client)
            if self.account.left:
                raise Gone("the client has left")
            if error:
                await client.write(self.marking.broken_off(self.account.fail(error)))
            await client.finish()
        finally:
            answer.open()  # whatever follows an answer that has begun must find it begun
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
        self.account.end()
        return None

    async def _feed(self, chunks: AsyncIterator[bytes], client: Writer) -> UpstreamError | None:
        """Send on piece by piece, until the upstream ends or nothing can follow; return how it broke off, if it did."""
        marking, account = self.marking, self.account
        try:
            async for chunk in chunks:
                if client.gone:  # before the next label is applied, which would reach nobody
                    self._notice(client)
                out = marking.feed(chunk)
                if out and self.first_byte and not (account.left or marking.opened):
                    try:
                        await client.write(out)
                    except ConnectionError:
                        self._notice(client)
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
        if not out or self.account.left:
            return
        if not self.first_byte and self.job.surface is responses:
            asyncio.get_running_loop().call_soon(self.account.identify)  # before anybody else's turn
        with contextlib.suppress(ConnectionError):  # the client is gone, which is looked at before the next chunk
            await client.write(out)
        self.first_byte = self.first_byte or time.monotonic()

    def _notice(self, client: Writer) -> None:
        """Look whether the client has left. Raises Gone then, unless the rest is to be read all the same."""
        if client.gone:
            self.account.leave()
            if self._server.on_disconnect == "cancel":
                raise Gone("the client has left")

    def _require_watermark(self) -> None:
        """Raise MarkError when a text lacks the watermark that must be there: some upstreams know only at the end."""
        if not self.plan.watermark_required:
            return
        reason = self.notice.watermark_skipped()
        if reason not in (None, Skipped.EMPTY):
            raise MarkError(f"the watermark is required here and was not applied: {reason}")

    def _broken(self, error: Exception) -> LabelError:
        """Log our own mistake; its client learns only that there was one."""
        logger.error("answer %s failed", self.job.content_id, exc_info=error)
        return LabelError("llm-label failed on this answer; see its log")


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
