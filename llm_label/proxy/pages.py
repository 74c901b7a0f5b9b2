"""Our own routes: is it alive, is it ready, what did it count, what does a text show."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from aiohttp import web

from llm_label import __version__
from llm_label.audit.log import Log
from llm_label.errors import ClientError, LabelError, NotAuthorized, TooLarge
from llm_label.proxy.body import body_of
from llm_label.proxy.jsonspan import loads
from llm_label.proxy.metrics import Row, render
from llm_label.proxy.upstream import Upstream, UpstreamRequest
from llm_label.verify.source import is_blank

__all__ = ["DETECT", "Detect", "Pages"]

DETECT = "/llm-label/detect"

STRANGERS_MAX = 256 * 1024  # bytes of a text that is judged without the admin token
Detect = Callable[[bytes | str, bool], dict[str, Any]]  # (text, exact figures?) -> verdict JSON
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Pages:
    """Handlers by method and path."""

    def __init__(
        self,
        policy_id: str,
        upstream: Upstream,
        log: Log,
        row: Row,
        detect: Detect,
        admin_token: str | None,
        limit: int,
    ) -> None:
        self._policy_id, self._upstream, self._log, self._row = policy_id, upstream, log, row
        self._detect, self._admin_token, self._limit = detect, admin_token, limit
        # One thread of its own: judging must not starve serving, nor go on beside itself for clients that have left.
        self._judge = ThreadPoolExecutor(1, "detect")
        self.draining = False
        self.routes: dict[str, Handler] = {
            "GET /healthz": self._healthz,
            "GET /readyz": self._readyz,
            "GET /metrics": self._metrics,
            f"POST {DETECT}": self._detection,
        }

    async def _healthz(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response({"status": "ok"})

    async def _readyz(self, request: web.BaseRequest) -> web.StreamResponse:
        """Say whether the upstream answers; any answer below 500 shows that it is there."""
        try:
            async with asyncio.timeout(5):
                response = await self._upstream.send(UpstreamRequest("GET", "/v1/models", [], b""))
            response.close()
            ready = response.status < 500 and not self.draining
        except (LabelError, TimeoutError):
            ready = False
        return web.json_response({"status": "ok" if ready else "not ready"}, status=200 if ready else 503)

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        build = {"version": __version__, "policy": self._policy_id}
        text = render(self._log.counts(), self._row.board, build)
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def _detection(self, request: web.BaseRequest) -> web.StreamResponse:
        exact = self._is_admin(request)
        raw = await body_of(request, self._limit)
        if not exact and len(raw) > STRANGERS_MAX:
            raise TooLarge(f"the text is larger than {STRANGERS_MAX} bytes; the admin token allows server.max_body")
        text = _submitted(raw)
        if is_blank(text) or request.headers.get("Content-Type", "").startswith("multipart/"):
            raise ClientError('no text was sent; the body is the text itself, a saved answer or {"text": "…"}')
        loop = asyncio.get_running_loop()
        verdict = await loop.run_in_executor(self._judge, self._detect, text, exact)
        return web.json_response(verdict, dumps=partial(json.dumps, ensure_ascii=False))

    def _is_admin(self, request: web.BaseRequest) -> bool:
        """Say whether exact figures may be shown. Raises NotAuthorized for a token that is not the admin's."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode("utf-8", "surrogateescape")
        if self._admin_token is None or not given:
            return False
        if not secrets.compare_digest(given, self._admin_token.encode()):
            raise NotAuthorized("this is not the admin token; without one the verdict is coarse")
        return True


def _submitted(raw: bytes) -> bytes | str:
    """Take `{"text": …}` apart; anything else is the text, or the saved answer, itself."""
    if raw.lstrip()[:1] == b"{":
        with contextlib.suppress(ValueError, RecursionError):
            body = loads(raw)
            if isinstance(body, dict) and set(body) == {"text"} and isinstance(body["text"], str):
                return str(body["text"])
    return raw
