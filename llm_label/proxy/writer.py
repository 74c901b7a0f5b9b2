"""Write a stream to its client: a comment where the upstream is silent, an end to a client that takes nothing."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

__all__ = ["KEEP_ALIVE", "Gone", "Held", "Writer"]

KEEP_ALIVE = b": keep-alive\n\n"
STALLED = 300.0  # seconds that one write may wait for a client that is connected and reads nothing


class Gone(ConnectionError):
    """The client has left."""


class Held(web.StreamResponse):
    """A stream whose headers leave with its first bytes where these are there already, else at once."""

    _send_headers_immediately = False  # aiohttp's own, as `web.Response` has it; without it they would leave at once
    _http: AbstractStreamWriter | None = None

    async def begin(self, request: web.BaseRequest) -> None:
        """Write the headers, behind what this turn of the loop brings."""
        await self.prepare(request)
        self._http = request.writer
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, self.open)

    def open(self) -> None:
        """Send the headers if no byte has taken them along."""
        if self._http:
            with contextlib.suppress(ConnectionError):
                self._http.send_headers()


class Writer:
    """Write to one client; `seconds` of silence bring a comment, 0: never.

    Only whole events may be written while comments are on, since a comment stands between two writes.
    """

    def __init__(self, request: web.BaseRequest, answer: web.StreamResponse, seconds: float) -> None:
        self._protocol, self._transport, self._http = request.protocol, request.transport, request.writer
        self._answer, self._seconds = answer, seconds
        self._loop = asyncio.get_running_loop()
        self._since = time.monotonic()  # when the last write began
        self._unsent = sys.maxsize  # bytes that waited at the last look
        self._comment: asyncio.Task[None] | None = None
        self._every = min(seconds or STALLED, STALLED)
        self._timer: asyncio.Handle = self._loop.call_soon(self._set_timer)  # behind the first bytes

    @property
    def gone(self) -> bool:
        """Whether the client has left; what was written after that has reached nobody."""
        return self._transport is None or self._transport.is_closing()

    def write(self, data: bytes) -> Awaitable[None]:
        """Hand bytes over and wait while the client is slow. Raises ConnectionError when it has left."""
        self._since = time.monotonic()
        return self._http.write(data)

    def finish(self) -> Awaitable[None]:
        """Write what is left of the answer, its end in any case."""
        self._since = time.monotonic()
        return self._answer.write_eof()

    def silence(self) -> None:
        """Write no more comments: what is written may be parts of events."""
        self._seconds = 0

    def end(self) -> None:
        self._timer.cancel()
        if self._comment:
            self._comment.cancel()

    def _set_timer(self) -> None:
        self._timer = self._loop.call_later(self._every, self._look)

    def _look(self) -> None:
        transport, silent = self._protocol.transport, time.monotonic() - self._since
        if transport and self._protocol.writing_paused:  # a comment would only wait behind the rest
            unsent = transport.get_write_buffer_size()
            if unsent < self._unsent:  # it is slow, but it takes something
                self._since, silent = time.monotonic(), 0.0
            elif silent >= STALLED:
                return transport.abort()
            self._unsent = unsent
        elif self._seconds and silent >= self._seconds:
            self._comment = self._loop.create_task(self._say())
        left = self._every - silent
        self._timer = self._loop.call_later(left if left > 0 else self._every, self._look)

    async def _say(self) -> None:
        if not (self._protocol.writing_paused or self.gone):  # the upstream spoke meanwhile
            with contextlib.suppress(ConnectionError):  # the client left, and nobody waits for this task to hear of it
                await self.write(KEEP_ALIVE)
