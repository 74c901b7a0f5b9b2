"""The way out: send a request to a model server, take its answer as bytes.

Kinds of upstream are found by name through the entry-point group `llm_label.upstreams`; the built-in `openai` enters by
the same door. A kind is a factory `(settings: UpstreamSettings) -> Upstream`.
"""

import asyncio
import importlib.metadata
import io
import re
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiohttp

from llm_label.errors import SettingsError, UpstreamError, UpstreamTimeout
from llm_label.settings import UpstreamSettings, read_private
from llm_label.watermark.keyring import Key

__all__ = ["Mark", "OpenAIUpstream", "Upstream", "UpstreamRequest", "UpstreamResponse", "connect", "forwarded"]

GROUP = "llm_label.upstreams"
INSTALL = {"local": "./adapters/transformers"}  # kind -> what to install, in the source tree
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

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


def forwarded(headers: Headers, dropped: Collection[str] = ()) -> Headers:
    """Return the headers that pass a proxy: none of `dropped`, no hop's own, none that HTTP cannot carry on."""
    lowered = [(name.lower(), name, value) for name, value in headers]
    own = {part.strip().lower() for low, _, value in lowered if low == "connection" for part in value.split(",")}
    dropped = HOP_BY_HOP.union(own, dropped)
    return [(name, value) for low, name, value in lowered if low not in dropped and not _UNSENDABLE.search(value)]


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
        self._settings = settings
        self._key = _api_key(settings.api_key_file) if settings.api_key_file else None
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        pass

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        try:
            async with asyncio.timeout(self._settings.read_timeout):
                response = await self._client().request(
                    request.method,
                    self._base + request.path,
                    headers=self._headers(request.headers),
                    data=io.BytesIO(request.body) if len(request.body) > READ_SIZE else request.body or None,
                    allow_redirects=False,
                )
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise UpstreamTimeout(f"the upstream {self._base} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError(f"the upstream {self._base} cannot be reached: {_reason(error)}") from error
        headers = forwarded(list(response.headers.items()), DECODED)
        return UpstreamResponse(response.status, headers, self._chunks(response), close=response.close)

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

    def _headers(self, headers: Headers) -> Headers:
        if self._key is None:
            return [*forwarded(headers, DECODED), ("Accept-Encoding", "identity")]
        kept = forwarded(headers, {*DECODED, "authorization"})
        return [*kept, ("Authorization", f"Bearer {self._key}"), ("Accept-Encoding", "identity")]

    async def _chunks(self, response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        watch = _Watch(response, self._settings.read_timeout)
        try:
            async for chunk in response.content.iter_any():
                watch.heard()
                yield chunk
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            if watch.expired:
                raise UpstreamTimeout(f"the upstream {self._base} stopped sending") from error
            raise UpstreamError(
                f"the upstream {self._base} broke off: {_reason(error)}", code="upstream_truncated"
            ) from error
        finally:
            watch.end()
            response.release()


class _Watch:
    """Close a response that was silent for too long: one timer for a stream, not one for each of its chunks."""

    def __init__(self, response: aiohttp.ClientResponse, seconds: float) -> None:
        self.expired = False
        self._response, self._seconds = response, seconds
        self._loop = asyncio.get_running_loop()
        self._last = self._loop.time()
        self._timer = self._loop.call_later(seconds, self._look)

    def heard(self) -> None:
        self._last = self._loop.time()

    def end(self) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        left = self._last + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self.expired = True
            self._response.close()


def _api_key(file: Path) -> str:
    key = read_private(file, "API key file").strip()
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise SettingsError(f"API key file {file} must hold one line of ASCII without blanks")
    return key


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]
