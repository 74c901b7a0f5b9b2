"""The upstream of the client suite: asks aimock or the script once, and then plays the same bytes again.

An answer is kept under who asked (the API key says client and scenario, not the way) and what was asked. So the
answers are equal whichever way a request came, and a request that the proxy changed shows as one never heard before.

Run: python -m tests.clients.tape AIMOCK_URL; the address stands on the first line of standard output.
"""

import asyncio
import base64
import json
import sys
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from tests.clients.scripted import answer

JOURNAL = "/journal"
KEPT = ("content-type", "x-request-id", "request-id")  # of the headers of an answer; aimock's others tell of its socket


@dataclass
class Tape:
    aimock: str
    session: aiohttp.ClientSession
    answers: dict[tuple[str, str, str], tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    journal: list[dict[str, Any]] = field(default_factory=list)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == JOURNAL:
            return web.json_response(self.journal)
        raw = await request.read()
        who, _, way = _key(request).rpartition(":")
        address = (who, f"{request.method} {request.path_qs}", _canonical(raw))
        async with self.lock:
            heard = address in self.answers
            if not heard:
                self.answers[address] = await self._ask(request, raw, who)
        self.journal.append(
            {
                "who": who,
                "way": way,
                "method": request.method,
                "path": request.path_qs,
                "headers": list(request.headers.items()),
                "body": base64.b64encode(raw).decode(),
                "heard": heard,
            }
        )
        return await _play(request, *self.answers[address])

    async def _ask(self, request: web.BaseRequest, raw: bytes, who: str) -> tuple[int, dict[str, str], bytes]:
        body = json.loads(raw) if raw else {}
        scripted = answer(request.method, request.path, request.query, body, who)
        if scripted is not None:
            status, kind, body = scripted
            return status, {"content-type": kind, "x-request-id": "req-house-1"}, body
        kept = ("content-type", "anthropic-version", "x-api-key", "authorization")
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        url = self.aimock + request.path_qs
        async with self.session.request(request.method, url, data=raw or None, headers=headers) as response:
            found = {name: response.headers[name] for name in KEPT if name in response.headers}
            return response.status, found, await response.read()


async def _play(request: web.BaseRequest, status: int, headers: dict[str, str], body: bytes) -> web.StreamResponse:
    if not headers.get("content-type", "").startswith("text/event-stream"):
        return web.Response(status=status, headers=headers, body=body)
    response = web.StreamResponse(status=status, headers=headers)
    await response.prepare(request)
    for piece in _cut(body):
        await response.write(piece)
        await asyncio.sleep(0)  # each piece is a chunk of its own
    await response.write_eof()
    return response


def _cut(body: bytes) -> list[bytes]:
    """Cut a stream at fixed places that heed neither frames nor characters."""
    pieces, at, sizes = [], 0, (97, 301, 13, 555, 2)
    while at < len(body):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(body[at : at + size])
        at += size
    return pieces


def _key(request: web.BaseRequest) -> str:
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return request.headers.get("x-api-key") or bearer or "nobody:none:none"


def _canonical(raw: bytes) -> str:
    return json.dumps(json.loads(raw), sort_keys=True) if raw else ""


async def main(aimock: str) -> None:
    async with aiohttp.ClientSession(auto_decompress=True) as session:
        runner = web.ServerRunner(web.Server(Tape(aimock, session).handle))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(f"tape: http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
