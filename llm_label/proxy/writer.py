"""Write a stream to a client, with a comment where the upstream is silent: what stands between cuts idle lines."""

import asyncio
import contextlib

from aiohttp import web

__all__ = ["KEEP_ALIVE", "Writer"]

KEEP_ALIVE = b": keep-alive\n\n"


class Writer:
    """Write whole events only; `seconds` of silence bring a comment, 0: never."""

    def __init__(self, answer: web.StreamResponse, seconds: float) -> None:
        self._answer, self._seconds = answer, seconds
        self._loop = asyncio.get_running_loop()
        self._wrote = self._loop.time()
        self._writing = False
        self._comment: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(seconds, self._look) if seconds else None

    async def write(self, data: bytes) -> None:
        self._writing = True
        await self._answer.write(data)
        self._writing, self._wrote = False, self._loop.time()

    def end(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _look(self) -> None:
        left = self._wrote + self._seconds - self._loop.time()
        if left <= 0 and not self._writing:
            self._comment = self._loop.create_task(self._say())
            left = self._seconds
        self._timer = self._loop.call_later(max(left, 0.01), self._look)

    async def _say(self) -> None:
        with contextlib.suppress(ConnectionError):  # whoever writes next hears of it
            await self.write(KEEP_ALIVE)
