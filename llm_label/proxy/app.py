"""Route requests: the surfaces, an allow-list of routes without generated text, and our own pages.

What is not listed here answers 501 and is never relayed: an unknown route could carry unmarked text.
"""

import asyncio
import contextlib
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from llm_label.audit.log import Log
from llm_label.errors import ClientError, LabelError, NotOffered, Stopping, TooLarge
from llm_label.policy import Policy, RequestView
from llm_label.proxy.exchange import Exchange
from llm_label.proxy.guard import read_body
from llm_label.proxy.jsonspan import loads
from llm_label.proxy.surfaces import chat
from llm_label.proxy.surfaces.reading import error_body
from llm_label.proxy.surfaces.surface import Surface
from llm_label.proxy.upstream import Upstream, UpstreamRequest, forwarded
from llm_label.settings import Settings
from llm_label.watermark.keyring import Key

__all__ = ["Detect", "Proxy"]

SURFACES: dict[str, Surface] = {chat.PATH: chat}

# Routes of data, not of generated text (method, path). Images and speech are other modalities.
# A model's name may hold slashes; what an upstream could read as another path (`..`, `//`, `%2e`, `;`) is no name.
DATA_ROUTES = re.compile(
    r"GET /v1/models(/(?!\.\.?(/|$))[^/\\%;?#\x00-\x20]+)*"
    r"|POST /v1/(embeddings|moderations|rerank|score|tokenize|detokenize|audio/speech|images/(generations|edits))"
    r"|POST /(rerank|v2/rerank|score|tokenize|detokenize)"
)

STRANGERS_MAX = 256 * 1024  # bytes of a text that is judged without the admin token
Detect = Callable[[bytes | str, bool], dict[str, Any]]  # (text, exact figures?) -> verdict JSON
LONG = 256 * 1024  # bytes of a request; reading more than this at once would hold up every other one
logger = logging.getLogger(__name__)


class Proxy:
    """The server's one handler; stateless but for what every request shares."""

    def __init__(
        self,
        settings: Settings,
        policy: Policy,
        upstream: Upstream,
        log: Log,
        key: Key | None,
        detect: Detect,
        admin_token: str | None = None,
    ) -> None:
        self._settings, self._policy, self._upstream, self._log = settings, policy, upstream, log
        self._key, self._detect, self._admin_token = key, detect, admin_token
        self._detections = asyncio.Semaphore(1)
        self.draining = False  # stopping: open answers go on, new traffic should go elsewhere
        self._stopped = False
        self._open: set[Exchange] = set()
        self._ours: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
            "GET /healthz": self._healthz,
            "GET /readyz": self._readyz,
            "POST /llm-label/detect": self._detection,
        }

    @property
    def open(self) -> int:
        """Count the answers on their way."""
        return len(self._open)

    def stop(self) -> None:
        """Break off every answer on its way, and take no more."""
        self._stopped = True
        for exchange in tuple(self._open):
            exchange.stop()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request; every error becomes one OpenAI-style object."""
        try:
            return await self._route(request)
        except LabelError as error:
            answer = _error(request, error)
        except ConnectionError:
            answer = web.Response(status=499)  # the client is gone; nobody reads this
        except Exception:
            logger.exception("request failed: %s %s", request.method, request.path)
            answer = _error(request, LabelError("llm-label failed on this request; see its log"))
        if request.writer.output_size:  # an answer has begun, and a second one would land inside it
            request.protocol.force_close()
        return answer

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        surface = SURFACES.get(request.path)
        if surface is not None and request.method == "POST":
            return await self._generate(request, surface)
        name = f"{request.method} {request.path}"
        if name in self._ours:
            return await self._ours[name](request)
        if DATA_ROUTES.fullmatch(name):
            return await self._pass(request)
        raise NotOffered(
            f"{name} is not served: it could carry generated text that llm-label cannot mark yet; "
            f"text is served at {', '.join('POST ' + path for path in SURFACES)}"
        )

    async def _generate(self, request: web.BaseRequest, surface: Surface) -> web.StreamResponse:
        server = self._settings.server
        raw = await self._body(request)
        work = (raw, surface, server.max_depth, self._policy)
        view, raw = await asyncio.to_thread(_understand, *work) if len(raw) > LONG else _understand(*work)
        if self._stopped:
            raise Stopping("the server is being stopped")
        exchange = Exchange(
            surface,
            view,
            self._policy,
            secrets.token_hex(16),
            self._settings.upstreams[0].url,
            self._key,
            body_field=server.body_field,
            ai_disclosure=server.ai_disclosure,
        )
        self._open.add(exchange)
        try:
            return await exchange.serve(request, raw, self._upstream, self._log)
        finally:
            self._open.discard(exchange)

    async def _pass(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await self._body(request)
        headers, path = list(request.headers.items()), request.rel_url.raw_path_qs
        response = await self._upstream.send(UpstreamRequest(request.method, path, headers, raw))
        try:
            body = b"".join([chunk async for chunk in response.chunks])
        finally:
            response.close()
        return web.Response(status=response.status, headers=forwarded(response.headers), body=body)

    async def _body(self, request: web.BaseRequest) -> bytes:
        limit = self._settings.server.max_body
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise TooLarge(f"the body is larger than {limit} bytes (server.max_body)") from None
        except (web.RequestPayloadError, ValueError) as error:
            raise ClientError(f"the body cannot be read: {error}") from None

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

    async def _detection(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await self._body(request)
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = self._admin_token
        exact = token is not None and secrets.compare_digest(given.encode(), token.encode())
        if not exact and len(raw) > STRANGERS_MAX:
            raise TooLarge(f"the text is larger than {STRANGERS_MAX} bytes; the admin token allows server.max_body")
        async with self._detections:  # judging must not starve serving
            verdict = await asyncio.to_thread(self._detect, _submitted(raw), exact)
        return web.json_response(verdict)


def _understand(raw: bytes, surface: Surface, max_depth: int, policy: Policy) -> tuple[RequestView, bytes]:
    """Return what policy may know of a request, and its body without labels of ours."""
    body = read_body(raw, max_depth)
    return surface.view(body), surface.clean(raw, body, policy.known)


def _submitted(raw: bytes) -> bytes | str:
    """Take `{"text": …}` apart; anything else is the text, or the saved answer, itself."""
    if raw.lstrip()[:1] == b"{":
        with contextlib.suppress(ValueError, RecursionError):
            body = loads(raw)
            if isinstance(body, dict) and set(body) == {"text"} and isinstance(body["text"], str):
                return str(body["text"])
    return raw


def _error(request: web.BaseRequest, error: LabelError) -> web.Response:
    """Answer with an error in the shape that clients of this route raise on."""
    surface = SURFACES.get(request.path)
    body = surface.error_body(error) if surface else error_body(error)
    return web.json_response(body, status=error.status)
