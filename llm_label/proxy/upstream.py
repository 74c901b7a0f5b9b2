"""The way out: send a request to a model server, take its answer as bytes.

Kinds of upstream are found by name through the entry-point group `llm_label.upstreams`; the built-in `openai` enters by
the same door. A kind is a factory `(settings: UpstreamSettings) -> Upstream`.
"""

import asyncio
import importlib.metadata
import io
import re
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiohttp
from aiohttp import http_exceptions

from llm_label.errors import SettingsError, UpstreamError, UpstreamTimeout
from llm_label.proxy.body import CODINGS
from llm_label.proxy.watch import Watch
from llm_label.settings import UpstreamSettings, read_private
from llm_label.watermark.keyring import Key

__all__ = [
    "DECODED",
    "Headers",
    "Mark",
    "OpenAIUpstream",
    "Upstream",
    "UpstreamRequest",
    "UpstreamResponse",
    "connect",
    "forwarded",
]

GROUP = "llm_label.upstreams"
INSTALL = {
    "local": "./adapters/transformers",
    "litellm": "./adapters/litellm",
}  # kind -> what to install, in the source tree
# RFC 9110 7.6.1, and what this hop sets itself. Identity encoding: the body must be readable to be marked.
HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "host",
        "content-length",
        "accept-encoding",
        "expect",
        "proxy-connection",
    ]
)
_UNSENDABLE = re.compile(r"[^\t\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]")  # control characters, bytes that are not UTF-8
DECODED = ("content-encoding",)  # no longer true of a body that server or client library has decoded
# Some gateways and web frameworks take route or method from these: a route that is relayed would become another one.
REROUTING = ("x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url")
UNSENT = (*DECODED, *REROUTING)
_HOST = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}(/.*)?")
READABLE = frozenset([*CODINGS, "identity", ""])
LOST = (aiohttp.ClientConnectionError, OSError)  # no answer has begun: the request may be sent once more
PAUSE = 0.1  # seconds before the first of the further tries
READ_SIZE = 256 * 1024
IDLE = 4  # seconds; uvicorn, under most model servers, closes idle connections after 5

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Mark:
    """A watermark to put into the tokens."""

    key: Key
    variety: str | None = None  # None: as the key's spec says


@dataclass(frozen=True)
class UpstreamRequest:
    method: str
    path: str  # with the query, such as "/v1/chat/completions"
    headers: Headers
    body: bytes
    watermark: Mark | None = None


@dataclass
class UpstreamResponse:
    """An answer on its way: raw body bytes exactly as an OpenAI server would send them."""

    status: int
    headers: Headers
    chunks: AsyncIterator[bytes]
    # None: the watermark is in the tokens; else why not
    watermark_skipped: Callable[[], str | None] = field(default=lambda: None)
    close: Callable[[], None] = field(default=lambda: None)

    def __post_init__(self) -> None:
        self._first = {name.lower(): value for name, value in reversed(self.headers)}

    def header(self, name: str) -> str:
        """Return the first value of a header, named in lower case; empty when it has none."""
        return self._first.get(name, "")


def forwarded(headers: Headers, dropped: Collection[str] = ()) -> Headers:
    """Return the headers that pass a proxy: none of `dropped`, no hop's own, none that HTTP cannot carry on."""
    kept, named = [], ""  # `Connection` names headers that are the hop's own too
    for name, value in headers:
        low = name.lower()
        if low == "connection":
            named += f",{value.lower()}"
        elif low not in HOP_BY_HOP and low not in dropped and (value.isprintable() or not _UNSENDABLE.search(value)):
            kept.append((name, value))
    own = {part.strip() for part in named.split(",")} - {"", "close", "keep-alive"} if named else None
    return [(name, value) for name, value in kept if name.lower() not in own] if own else kept


class Upstream(Protocol):
    watermarks: bool  # True when it can put a watermark into the tokens itself
    tokenizer: Path | None  # the tokenizer.json of its model, where it can be read

    def start(self) -> None:
        """Load what is heavy, once, before the first request. Raises SettingsError."""

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Send and return when the headers are there. Raises UpstreamError."""

    async def close(self) -> None: ...


def connect(settings: UpstreamSettings) -> Upstream:
    """Build the upstream that the settings name. Raises SettingsError naming what is missing."""
    found = {entry.name: entry for entry in importlib.metadata.entry_points(group=GROUP)}
    if settings.kind not in found:
        hint = (
            f"; install it in the source tree with: pip install {INSTALL[settings.kind]}"
            if settings.kind in INSTALL
            else f"; did you mean http://{settings.url}?"
            if _HOST.fullmatch(settings.url)
            else ""
        )
        raise SettingsError(
            f"upstream {settings.url!r} is of kind {settings.kind!r}, which is not installed{hint}; "
            f"known: http(s)://…, {', '.join(sorted(set(found) - {'openai'})) or 'no other kinds'}"
        )
    upstream: Upstream = found[settings.kind].load()(settings)
    return upstream


class OpenAIUpstream:
    """Any server that speaks the OpenAI API over HTTP."""

    watermarks = False
    tokenizer = None

    def __init__(self, settings: UpstreamSettings) -> None:
        # Clients join the base URL and the path; both `http://host` and `http://host/v1` are common.
        self._base = settings.url.rstrip("/").removesuffix("/v1")
        if "@" in self._base.partition("//")[2].partition("/")[0]:  # it would stand in errors and in the audit log
            raise SettingsError("upstreams: the URL holds a user or password; give the server's key with api_key_file")
        self._settings = settings
        self._key = _api_key(settings.api_key_file) if settings.api_key_file else None
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        pass

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        watch = Watch(self._settings.read_timeout)
        try:
            response = await self._answered(request, watch)
        except BaseException:
            watch.end()
            raise
        encoding = response.headers.get("content-encoding", "identity").lower()
        if encoding not in READABLE:  # it was asked for identity
            watch.end()
            response.close()
            raise UpstreamError(
                f"the upstream {self._base} answers in the encoding {encoding[:40]!r}, which cannot be read here; "
                f"known: {', '.join(sorted(READABLE))}",
                code="upstream_malformed",
            )
        body = _Body(response, watch, self._base)
        return UpstreamResponse(response.status, list(response.headers.items()), body, close=body.close)

    async def _answered(self, request: UpstreamRequest, watch: Watch) -> aiohttp.ClientResponse:
        """Return a response once its headers are there; until then nothing was promised, and it may be asked again."""
        headers, tries = self._headers(request), self._settings.retries
        while True:
            watch.since = time.monotonic()
            try:
                return await self._client().request(
                    request.method,
                    self._base + request.path,
                    headers=headers,
                    data=io.BytesIO(request.body) if len(request.body) > READ_SIZE else request.body or None,
                    allow_redirects=False,
                )
            except asyncio.CancelledError as error:
                if not watch.cancelled():
                    raise
                raise UpstreamTimeout(f"the upstream {self._base} did not answer in time") from error
            except (TimeoutError, aiohttp.ServerTimeoutError) as error:
                if not (tries and isinstance(error, aiohttp.ConnectionTimeoutError)):
                    raise UpstreamTimeout(f"the upstream {self._base} did not answer in time") from error
            except aiohttp.ClientResponseError as error:
                what = f"the upstream {self._base} answers what is no HTTP: {_reason(error)}"
                raise UpstreamError(what, code="upstream_malformed") from error
            except (aiohttp.ClientError, OSError) as error:
                if not (tries and isinstance(error, LOST)):
                    raise UpstreamError(f"the upstream {self._base} cannot be reached: {_reason(error)}") from error
            watch.since = None
            await asyncio.sleep(PAUSE * 2 ** (self._settings.retries - tries))
            tries -= 1

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            s = self._settings
            # No sock_read: aiohttp would cancel and set a timer for every chunk.
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=s.connect_timeout)
            self._session = aiohttp.ClientSession(
                timeout=timeout,
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_SIZE,
            )
        return self._session

    def _headers(self, request: UpstreamRequest) -> Headers:
        """Return what travels on. The operator's key takes the place of every key that a client can give."""
        if self._key is None:
            return [*forwarded(request.headers, UNSENT), ("Accept-Encoding", "identity")]
        ours = [("Authorization", f"Bearer {self._key}"), ("Accept-Encoding", "identity")]
        if request.path.startswith("/v1/messages"):  # where Anthropic itself looks
            ours.append(("x-api-key", self._key))
        return [*forwarded(request.headers, {*UNSENT, "authorization", "x-api-key", "api-key"}), *ours]


class _Body:
    """The bytes of a response as they arrive."""

    def __init__(self, response: aiohttp.ClientResponse, watch: Watch, base: str) -> None:
        self._response, self._watch, self._base = response, watch, base
        watch.follow(response)

    def __aiter__(self) -> "_Body":
        return self

    async def __anext__(self) -> bytes:
        self._watch.since = time.monotonic()
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            # The library tells of the break first and keeps what came before it; asked again, it tells once more.
            chunk = self._response.content._read_nowait(-1)
            self.close()
            if not chunk:
                raise self._failure(error) from error
        self._watch.since = None
        if not chunk:
            self._watch.end()
            self._response.release()
            raise StopAsyncIteration
        return chunk

    def _failure(self, error: Exception) -> UpstreamError:
        if self._watch.expired:
            return UpstreamTimeout(f"the upstream {self._base} stopped sending")
        if isinstance(error.__cause__, http_exceptions.ContentEncodingError):
            what = f"the upstream {self._base} sent a body that is not in the encoding it names"
            return UpstreamError(what, code="upstream_malformed")
        return UpstreamError(f"the upstream {self._base} broke off: {_reason(error)}", code="upstream_truncated")

    def close(self) -> None:
        """Give the connection up, unless the body has ended."""
        self._watch.end()
        self._response.close()


def _api_key(file: Path) -> str:
    key = read_private(file, "API key file").strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise SettingsError(f"API key file {file} must hold one line of ASCII without blanks")
    return key


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
