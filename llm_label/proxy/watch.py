"""Give up a server that is silent for too long."""

import asyncio
import time

import aiohttp

__all__ = ["Watch"]


class Watch:
    """One timer for the headers and every byte of one answer: a timer for each would cost as much as the byte.

    Until the headers are there it cancels the task that waits for them, as `asyncio.timeout` does; then it breaks off
    the answer.
    """

    def __init__(self, seconds: float) -> None:
        self.since: float | None = None  # when somebody began to wait (monotonic); None: nobody does
        self.expired = False
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._requests = self._task.cancelling() if self._task else 0
        self._answer: aiohttp.ClientResponse | None = None
        self._timer = self._loop.call_later(seconds, self._look)

    def follow(self, answer: aiohttp.ClientResponse) -> None:
        """Watch the bytes of the answer, now that its headers are there."""
        self._answer, self.since = answer, None

    def cancelled(self) -> bool:
        """Say whether it was the watch that cancelled the task, and nobody else."""
        return self.expired and self._task is not None and self._task.uncancel() <= self._requests

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        now = time.monotonic()
        left = (now if self.since is None else self.since) + self._seconds - now
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
            return
        self.expired = True
        if self._answer:
            self._answer.close()
        elif self._task:
            self._task.cancel()
