"""Route requests: the surfaces, an allow-list of routes without generated text, and our own pages.

What is not listed here answers 501 and is never relayed: an unknown route could carry unmarked text.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Iterator
from typing import Any

from aiohttp import web

from llm_label.audit.entry import Entry
from llm_label.audit.log import Log
from llm_label.errors import ClientError, LabelError, NotFound, NotOffered, Stopping, WrongMethod
from llm_label.policy import Caller, Policy, RequestView, decide
from llm_label.proxy.body import body_of, whole_of
from llm_label.proxy.candidates import Choosing, check
from llm_label.proxy.clients import Clients
from llm_label.proxy.exchange import Exchange, Job
from llm_label.proxy.guard import read_body, strip
from llm_label.proxy.jsonspan import loads
from llm_label.proxy.metrics import Board, Row
from llm_label.proxy.pages import DETECT, Detect, Pages
from llm_label.proxy.retrieval import KEPT_ROUTES, Stored, derived_id, stored
from llm_label.proxy.surfaces import chat, completions, messages, responses
from llm_label.proxy.surfaces.reading import error_body
from llm_label.proxy.surfaces.surface import Surface
from llm_label.proxy.upstream import DECODED, Headers, Upstream, UpstreamRequest, forwarded
from llm_label.proxy.writer import Gone, Writer
from llm_label.settings import Settings
from llm_label.watermark.keyring import Key

__all__ = ["Proxy"]

SURFACES: dict[str, Surface] = {
    chat.PATH: chat,
    completions.PATH: completions,
    responses.PATH: responses,
    messages.PATH: messages,
}

# Routes of data, not of generated text (method, path). Images and speech are other modalities.
# A model's name may hold slashes; what an upstream could read as another path (`..`, `//`, `%2e`, `;`) is no name.
DATA_ROUTES = re.compile(
    r"GET /v1/models(/(?!\.\.?(/|$))[^/\\%;?#\x00-\x20]+)*"
    r"|POST /v1/(embeddings|moderations|rerank|score|tokenize|detokenize|audio/speech|images/(generations|edits))"
    r"|POST /(rerank|v2/rerank|score|tokenize|detokenize)"
)
# Routes that count tokens of a conversation: without our labels, as the upstream will see it.
COUNTED: dict[str, Surface] = {"/v1/messages/count_tokens": messages, "/v1/responses/input_tokens": responses}

PREFLIGHT = ("origin", "access-control-request-method", "access-control-request-headers")
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
        row: Row | None = None,
    ) -> None:
        self._settings, self._policy, self._upstream, self._log, self._key = settings, policy, upstream, log, key
        self._clients = Clients(settings)
        self._row = row or Board().row()
        self._pages = Pages(policy.id, upstream, log, self._row, detect, admin_token, settings.server.max_body)
        self._stopped = False
        self._open: set[Exchange] = set()

    @property
    def open(self) -> int:
        """Count the answers on their way."""
        return len(self._open)

    def drain(self) -> None:
        """Say that new traffic should go elsewhere; open answers go on."""
        self._pages.draining = True

    def stop(self) -> None:
        """Break off every answer on its way, and take no more."""
        self._stopped = True
        for exchange in tuple(self._open):
            exchange.stop()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer any request; every error becomes one object in the shape of its API."""
        try:
            surface = SURFACES.get(request.path)
            if surface is not None and request.method == "POST":
                return await self._serve(request, self._first(request, surface))
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
        """Answer what is no new request for generated text."""
        name = f"{request.method} {request.path}"
        if page := self._pages.routes.get(name):
            return await page(request)
        if DATA_ROUTES.fullmatch(name) or (request.path in COUNTED and request.method == "POST"):
            return await self._pass(request)
        if _is_preflight(request):
            return await self._preflight(request)
        with self._counting_refusals():
            asked = stored(request.method, request.path, request.rel_url.raw_query_string)
            if kept := KEPT_ROUTES.fullmatch(name):
                await self._entry_of(kept[1], self._clients.caller(request.headers))
            elif asked is None:
                raise _not_served(request, name)
        return await (self._serve(request, self._again(request, asked)) if asked else self._pass(request))

    async def _serve(self, request: web.BaseRequest, prepared: Awaitable[tuple[Exchange, bytes]]) -> web.StreamResponse:
        began = time.monotonic()
        with self._counting_refusals():
            exchange, raw = await prepared
            if self._stopped:
                raise Stopping("the server is being stopped")
        self._open.add(exchange)
        self._row.in_flight(len(self._open))
        try:
            return await exchange.serve(request, raw, self._upstream)
        finally:
            self._open.discard(exchange)
            self._row.in_flight(len(self._open))
            if exchange.first_byte is not None:
                self._row.first_byte(exchange.first_byte - began)

    async def _first(self, request: web.BaseRequest, surface: Surface) -> tuple[Exchange, bytes]:
        """Say who asks, and plan the marks. Raises ClientError for what must not reach the upstream."""
        server = self._settings.server
        caller = self._clients.caller(request.headers)
        raw = await body_of(request, server.max_body)
        work = (raw, surface, server.max_depth, self._policy, caller)
        view, raw = await asyncio.to_thread(_understand, *work) if len(raw) > LONG else _understand(*work)
        if view.continues:
            await self._check_continued(view)
        query = request.rel_url.raw_query_string
        path = f"{surface.PATH}?{query}" if query else surface.PATH
        exchange = self._exchange(surface, view, path)
        if exchange.plan.watermark and surface is chat and isinstance(self._upstream, Choosing) and self._key:
            check(raw, self._key)
        return exchange, raw

    async def _again(self, request: web.BaseRequest, asked: Stored) -> tuple[Exchange, bytes]:
        """Plan the marks of a stored answer as they were planned first."""
        caller = self._clients.caller(request.headers)
        raw = await body_of(request, self._settings.server.max_body)
        entry = await self._entry_of(asked.id, caller)
        derived = derived_id(self._log.secret(), asked.id)
        content_id = entry.content_id if entry else derived
        # An entry that was made here, without a label, knows no more of the answer than the answer itself.
        if entry and (entry.label_applied or content_id != derived):
            view = asked.again(entry, caller)
        else:
            view = asked.anew(await self._answer(request, asked, caller), caller)
            entry = entry or self._log.get(content_id)  # another request for it was quicker, and made its entry
        more = {} if asked.after is None else {"skip_through": asked.after}
        return self._exchange(asked.surface, view, asked.path, known_id=content_id, again=entry, more=more), raw

    def _exchange(self, surface: Surface, view: RequestView, path: str, **more: Any) -> Exchange:
        upstream = self._settings.upstreams[0].url
        job = Job(surface, view, decide(view, self._policy), path, upstream, **more)
        return Exchange(job, self._policy, self._key, self._settings.server, self._log)

    async def _entry_of(self, upstream_id: str, caller: Caller) -> Entry | None:
        """Find what happened to a stored answer. Raises NotFound for another client's: they share one upstream."""
        entry = await self._log.find(upstream_id)
        if self._settings.clients and (entry is None or entry.client != caller.name):
            raise NotFound(f"no answer {upstream_id!r} was given to this client")
        return entry

    async def _check_continued(self, view: RequestView) -> None:
        """Let a client go on only from its own answers: the upstream puts what it kept before the model."""
        if view.continues and self._settings.clients:
            await self._entry_of(view.continues, view.caller)

    async def _answer(self, request: web.BaseRequest, asked: Stored, caller: Caller) -> dict[str, Any]:
        """Return a stored answer that we know nothing of, to see what it is; empty where the upstream has none."""
        response = await self._upstream.send(UpstreamRequest("GET", asked.whole, _sent_on(request, caller), b""))
        try:
            body = loads(await whole_of(response.chunks))
        except (ValueError, RecursionError):
            return {}
        finally:
            response.close()
        return body if response.status < 400 and isinstance(body, dict) else {}

    @contextlib.contextmanager
    def _counting_refusals(self) -> Iterator[None]:
        try:
            yield
        except LabelError as error:
            self._row.refused(error.status)
            raise

    async def _preflight(self, request: web.BaseRequest) -> web.StreamResponse:
        """Ask the upstream what scripts may do. Browsers send no key with it, so nothing else of it travels on."""
        asked = [(name, value) for name, value in request.headers.items() if name.lower() in PREFLIGHT]
        response = await self._upstream.send(UpstreamRequest("OPTIONS", request.path, asked, b""))
        response.close()
        told = [(name, value) for name, value in response.headers if name.lower().startswith("access-control-")]
        return web.Response(status=response.status, headers=[*forwarded(told), ("Vary", "Origin")])

    async def _pass(self, request: web.BaseRequest) -> web.StreamResponse:
        """Relay a route without generated text, in pieces as they come."""
        server = self._settings.server
        with self._counting_refusals():
            caller = self._clients.caller(request.headers)
            raw = await body_of(request, server.max_body)
            if surface := COUNTED.get(request.path):
                view, raw = _understand(raw, surface, server.max_depth, self._policy, caller)
                await self._check_continued(view)
        ask = UpstreamRequest(request.method, request.rel_url.raw_path_qs, _sent_on(request, caller), raw)
        response = await self._upstream.send(ask)
        try:
            answer = web.StreamResponse(status=response.status, headers=forwarded(response.headers, DECODED))
            length = response.header("content-length")
            if length.isdecimal() and not response.header("content-encoding"):
                answer.content_length = int(length)
            await answer.prepare(request)
            client = Writer(request, answer, 0)
            try:
                async for chunk in response.chunks:
                    await client.write(chunk)
                    if client.gone:
                        raise Gone("the client has left")
                await client.finish()
            finally:
                client.end()
        finally:
            response.close()
        return answer


def _sent_on(request: web.BaseRequest, caller: Caller) -> Headers:
    return [(name, value) for name, value in request.headers.items() if name.lower() not in caller.withheld]


def _is_preflight(request: web.BaseRequest) -> bool:
    """Say whether a browser asks the upstream what scripts may do on a route that is served (Fetch, CORS)."""
    method = request.headers.get("Access-Control-Request-Method", "")
    if request.method != "OPTIONS" or not method:
        return False
    return request.path in {*SURFACES, *COUNTED} or bool(DATA_ROUTES.fullmatch(f"{method} {request.path}"))


def _not_served(request: web.BaseRequest, name: str) -> ClientError:
    """Say in one sentence why a route is not relayed."""
    served = f"text is served at {', '.join('POST ' + path for path in SURFACES)}"
    if request.headers.get("Upgrade", "").lower() == "websocket" or request.path.startswith("/v1/realtime"):
        return NotOffered(f"{name} is not served: WebSocket and Realtime answers cannot be marked here; {served}")
    if request.path.startswith(("/v1/batches", "/v1/files")):
        return NotOffered(f"{name} is not served: batch results would come back without marks; {served}")
    if (request.path in {*SURFACES, *COUNTED} and request.method != "GET") or request.path == DETECT:
        return WrongMethod(f"{request.path} takes POST, not {request.method}")
    return NotOffered(f"{name} is not served: it could carry generated text that llm-label cannot mark; {served}")


def _understand(
    raw: bytes, surface: Surface, max_depth: int, policy: Policy, caller: Caller
) -> tuple[RequestView, bytes]:
    """Return what policy may know of a request, and its body without labels of ours and what clients may not set."""
    body = read_body(raw, max_depth)
    raw, gone = strip(raw, body)
    view = surface.view(body)._replace(caller=caller, guard=" ".join(gone))
    return view, surface.clean(raw, body, policy.known)


def _error(request: web.BaseRequest, error: LabelError) -> web.Response:
    """Answer with an error in the shape that clients of this route raise on."""
    surface = SURFACES.get(request.path) or COUNTED.get(request.path)
    body = surface.error_body(error) if surface else error_body(error)
    # RFC 9110 15.5.2 and 15.5.6: how to identify oneself, what else the route takes.
    headers = {401: {"WWW-Authenticate": "Bearer"}, 405: {"Allow": "POST"}}.get(error.status)
    return web.json_response(body, status=error.status, headers=headers)
