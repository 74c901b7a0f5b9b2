"""A proxy and an upstream on real sockets, in a thread of their own, for tests with real clients."""

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from llm_label.audit.entry import Entry
from llm_label.audit.store import Store
from llm_label.proxy.server import Parts, build, http
from llm_label.settings import parse

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Fake:
    """An upstream that answers what it is told and remembers what it was asked."""

    reply: Handler
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked.append({"path": request.path_qs, "method": request.method, "body": body})
        self.headers.append(dict(request.headers))
        return await self.reply(request)


def whole(body: bytes, status: int = 200, content_type: str = "application/json") -> Handler:
    async def reply(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, content_type=content_type)

    return reply


def stream(chunks: list[bytes], pause: float = 0.0, then: Handler | None = None) -> Handler:
    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(pause)
        if then:
            await then(request)
        return response

    return reply


@dataclass
class Running:
    url: str
    fake: Fake
    audit: Path
    parts: Parts
    fake_url: str

    def entries(self) -> list[Entry]:
        """Read the audit log; an entry is closed a moment after the last byte of its answer."""
        store = Store(self.audit)
        deadline = time.monotonic() + 10
        try:
            while self._busy(store) and time.monotonic() < deadline:
                time.sleep(0.02)
            return store.list()
        finally:
            store.close()

    def _busy(self, store: Store) -> bool:
        return bool(self.parts.proxy.open or self.parts.log.waiting or store.list(result="open"))


@contextlib.contextmanager
def proxy(tmp_path: Path, reply: Handler, **sections: Any) -> Iterator[Running]:
    """Run the proxy before a fake upstream; `sections` are settings."""
    started: threading.Event = threading.Event()
    box: dict[str, Any] = {}

    def run() -> None:
        asyncio.run(_run(tmp_path, Fake(reply), sections, box, started))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(20), "the proxy did not start"
        if "error" in box:
            raise box["error"]
        yield box["running"]
    finally:
        if "loop" in box:
            with contextlib.suppress(RuntimeError):  # it did not start, and its loop is closed
                box["loop"].call_soon_threadsafe(box["stop"].set)
        thread.join(20)


async def _run(
    tmp_path: Path, fake: Fake, sections: dict[str, Any], box: dict[str, Any], started: threading.Event
) -> None:
    box["loop"], box["stop"] = asyncio.get_running_loop(), asyncio.Event()
    try:
        async with _served(web.Server(fake.handle)) as upstream_url:
            tree = {
                "provider": {"name": "Acme"},
                "audit": {"path": tmp_path / "audit.sqlite3"},
                "upstreams": [{"url": upstream_url, **sections.pop("upstream", {})}],
                **sections,
            }
            parts = build(parse(tree))
            async with _served(_server(parts, tree)) as url:
                box["running"] = Running(url, fake, tmp_path / "audit.sqlite3", parts, upstream_url)
                started.set()
                await box["stop"].wait()
            await parts.upstream.close()
            parts.log.close()
    except Exception as error:
        box["error"] = error
    finally:
        started.set()


def _server(parts: Parts, tree: dict[str, Any]) -> web.Server:
    return http(parts.proxy, tree.get("server", {}).get("max_body", 1 << 25))


@contextlib.asynccontextmanager
async def _served(server: web.Server) -> AsyncIterator[str]:
    runner = web.ServerRunner(server, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    finally:
        await runner.cleanup()
