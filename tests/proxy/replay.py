"""An upstream that plays recordings."""

import random

from tests.proxy import marking
from tests.proxy.running import web


class Replay:
    """Answer each request with the recording that is on, cut at random bytes."""

    def __init__(self) -> None:
        self.body, self.stream, self.rng = b"", False, random.Random(7)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        kind = "text/event-stream" if self.stream else "application/json"
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        for chunk in marking.cuts(self.body, self.rng):
            if chunk:
                await response.write(chunk)
        return response
