"""Serve one request for generated text: plan, ask the upstream, mark what comes back, say what happened.

One object per request holds all of its state. The order is the law: the audit entry is on disk and the headers are
final before the first byte leaves, and the entry is closed whatever happens.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Any

from aiohttp import web

from llm_label.audit.entry import Entry, Result
from llm_label.audit.log import Log
from llm_label.errors import LabelError, MarkError, Stopping, UpstreamError
from llm_label.metadata.aigc import Record
from llm_label.policy import Plan, Policy, RequestView, Skipped, decide
from llm_label.proxy import sse
from llm_label.proxy.notice import Notice
from llm_label.proxy.surfaces.surface import Surface
from llm_label.proxy.upstream import Headers, Mark, Upstream, UpstreamRequest, UpstreamResponse
from llm_label.watermark.keyring import Key

__all__ = ["Exchange"]

RESULTS: dict[str, Result] = {
    "upstream_truncated": "truncated",
    "upstream_malformed": "upstream_malformed",
    "upstream": "upstream_error",
    "upstream_timeout": "upstream_error",
    "server_stopped": "stopped",
}
# Headers that no longer fit the body once it is marked, and those that are ours to say.
REPLACED = frozenset(
    ["content-length", "content-encoding", "etag", "content-md5", "digest", "content-digest", "repr-digest"]
    + ["x-aigc", "x-llm-label"]
)
MAX_WHOLE = 64 * 1024 * 1024  # bytes of an answer that is held to be marked
LONG = 256 * 1024  # bytes; marking more than this at once would hold up every other answer
logger = logging.getLogger(__name__)


class Exchange:
    """One answer, from its plan to its closed entry."""

    def __init__(
        self,
        surface: Surface,
        view: RequestView,
        policy: Policy,
        content_id: str,
        upstream_name: str,
        key: Key | None,
        *,
        body_field: bool,
        ai_disclosure: bool,
    ) -> None:
        self.plan: Plan = decide(view, policy)
        self.view, self.policy, self._key, self._path = view, policy, key, surface.PATH
        scheme = key.spec.scheme if key else None
        self.notice = Notice(content_id, Record.produced(policy.producer, content_id), self.plan, scheme, policy.id)
        self.answer = surface.Answer(self.plan, self.notice, view.n, body_field)
        # With every mark off the bytes pass unparsed (the touch law).
        self.untouched = self.plan.labels is None and not body_field and not self.plan.watermark
        self._ai_disclosure = ai_disclosure
        self.entry = self._entry(content_id, upstream_name)
        self._result: Result = "failed"
        self._task: asyncio.Task[Any] | None = None
        self._stopping = False
        self._opened = False  # marking failed, and the operator wrote `on_failure = "open"`

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
        except Exception:
            raise self._failed(self._broken()) from None
        finally:
            self._close(log)

    def _outgoing(self, request: web.BaseRequest, raw: bytes) -> UpstreamRequest:
        mark = Mark(self._key, self.policy.variety) if self._key and self.plan.watermark else None
        query = request.rel_url.raw_query_string
        path = f"{self._path}?{query}" if query else self._path
        return UpstreamRequest(request.method, path, list(request.headers.items()), raw, mark)

    async def _relay(self, request: web.BaseRequest, response: UpstreamResponse) -> web.StreamResponse:
        if response.status >= 400:
            return await self._refused(request, response)
        self.notice.watermark_skipped = response.watermark_skipped
        self._require_watermark()
        ours = self.notice.headers(self.view.model, ai_disclosure=self._ai_disclosure)
        headers = _kept(response.headers, REPLACED.union(name.lower() for name, _ in ours)) + ours
        if response.header("content-type").lower().startswith("text/event-stream"):
            return await self._stream(request, response, headers)
        return await self._whole(request, response, headers)

    async def _refused(self, request: web.BaseRequest, response: UpstreamResponse) -> web.StreamResponse:
        """Pass an error as it is: it is nobody's generated text, and gets neither labels nor a record."""
        body = await _all(response.chunks)
        self.entry.status, self.entry.label_skipped = response.status, Skipped.ERROR.value
        self.entry.note = f"the upstream answered {response.status}"
        self._result = "upstream_error"
        return await _send(request, response.status, _kept(response.headers, REPLACED), body)

    async def _whole(
        self, request: web.BaseRequest, response: UpstreamResponse, headers: Headers
    ) -> web.StreamResponse:
        body = await _all(response.chunks)
        self._require_watermark()
        if not self.untouched:
            try:
                long = len(body) > LONG
                body = await asyncio.to_thread(self.answer.whole, body) if long else self.answer.whole(body)
            except UpstreamError as error:
                self._open(error)
        self._ended()
        self.entry.status = response.status
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
            await answer.write(self._broken_off(self._failed(error)))
        await answer.write_eof()
        return answer

    async def _pour(self, chunks: AsyncIterator[bytes], answer: web.StreamResponse) -> LabelError | None:
        """Send a stream on, marked; return the error that its client must hear of."""
        try:
            async for out in self._marked(chunks):
                if out:
                    await answer.write(out)
            self._require_watermark()
        except ConnectionError:
            raise
        except asyncio.CancelledError:
            if not (self._stopping and self._task):
                raise
            self._task.uncancel()
            return _stopping()
        except LabelError as error:
            return error
        except Exception:
            return self._broken()
        self._ended()
        return None

    async def _marked(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield what goes to the client; what stood before an event that cannot be marked goes out first."""
        parser = sse.Parser()
        async for chunk in chunks:
            if self.untouched or self._opened:
                yield chunk
                continue
            out, error = self._mark(parser.feed(chunk))
            yield out
            if error:
                raise error
            if self._opened:
                yield parser.finish()
        out, error = self._mark(parser.end())
        yield out
        if error:
            raise error
        if not (self.untouched or self._opened):
            yield self.answer.finish()

    def _mark(self, events: Iterable[sse.Event]) -> tuple[bytes, Exception | None]:
        """Return the marked bytes of some events, and the error that ended them."""
        out = []
        for event in events:
            try:
                out.append(event.raw if self._opened else self.answer.feed(event))
            except UpstreamError as error:
                if not self.policy.fail_open:
                    return b"".join(out), error
                self._open(error)
                out += [self.answer.flush(), event.raw]
            except Exception as error:
                return b"".join(out), error
        return b"".join(out), None

    def _open(self, error: UpstreamError) -> None:
        """Go on without marks, where the operator wrote so; else raise the error again."""
        if not self.policy.fail_open:
            raise error
        self._opened = True
        self._failed(error)

    def _ended(self) -> None:
        if not self._opened:
            self._result = "upstream_error" if self.answer.failed else "complete"

    def _require_watermark(self) -> None:
        """Raise MarkError when a watermark that must be there is not: some upstreams know only at the end."""
        if self.plan.watermark_required and (reason := self.notice.watermark_skipped()):
            raise MarkError(f"the watermark is required here and was not applied: {reason}")

    def _broken_off(self, error: LabelError) -> bytes:
        """Return the end of a stream that cannot go on: what is pending, then an error that SDKs raise."""
        if self.untouched or self._opened:  # the bytes so far may end in the middle of an event
            return b"\n\n" + self.answer.error_frame(error)
        pending = b""
        with contextlib.suppress(Exception):  # our own mistake must not hide the error from the client
            pending = self.answer.flush()
        return pending + self.answer.error_frame(error)

    def _broken(self) -> LabelError:
        """Log our own mistake; its client learns only that there was one."""
        logger.exception("answer %s failed", self.entry.content_id)
        return LabelError("llm-label failed on this answer; see its log")

    def _failed(self, error: LabelError) -> LabelError:
        self.entry.note = str(error)
        self._result = RESULTS.get(error.code, "failed")
        if self.entry.status is None:
            self.entry.status = error.status
        return error

    def _entry(self, content_id: str, upstream: str) -> Entry:
        labels = self.plan.labels
        return Entry(
            content_id=content_id,
            opened=time.time(),
            surface=self.view.surface,
            upstream=upstream,
            model=self.view.model,
            stream=self.view.stream,
            producer=self.policy.producer,
            policy=self.policy.id,
            label_planned=" ".join(labels.positions) if labels else "",
            watermark_planned=self.plan.watermark,
        )

    def _close(self, log: Log) -> None:
        outcome, watermark, entry = self.answer.outcome(), self.notice.watermark(), self.entry
        served = entry.status is not None and entry.status < 400
        entry.result, entry.closed = self._result, time.time()
        entry.upstream_id = outcome.upstream_id
        entry.choices, entry.finish_reasons = outcome.choices, " ".join(outcome.finish_reasons)
        refused = self._result == "upstream_error" and not outcome.choices
        entry.label_skipped = entry.label_skipped or (Skipped.ERROR.value if refused else outcome.label_skipped)
        if served:
            entry.label_applied, entry.labelled = " ".join(outcome.label_applied), outcome.labelled
            entry.watermark_applied = watermark["key"]
        entry.watermark_skipped = watermark["skipped"]
        log.put(entry)


def _stopping() -> LabelError:
    return Stopping("the server is being stopped; the answer is incomplete")


def _kept(headers: Headers, replaced: Collection[str]) -> Headers:
    return [(name, value) for name, value in headers if name.lower() not in replaced]


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
