"""Answer as an OpenAI server would, with any model that litellm can reach."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import orjson

from llm_label.errors import LabelError, NotOffered, UpstreamError, UpstreamTimeout
from llm_label.proxy.upstream import UpstreamRequest, UpstreamResponse
from llm_label.settings import UpstreamSettings, read_private

from . import library
from .answer import DONE, Chunks, finish_reason, whole
from .ending import Ending
from .failure import broken, refusal, retry_after
from .models import listed
from .request import PASSED, Refused, arguments

__all__ = ["LitellmUpstream"]

JSON = ("Content-Type", "application/json")
SSE = [("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-cache")]
CALLS = {"/v1/chat/completions": "acompletion", "/v1/embeddings": "aembedding"}  # route -> function of litellm


class LitellmUpstream:
    """An upstream without a server: `litellm:MODEL`, `litellm:PREFIX/` before the model asked for, or `litellm:`.

    litellm loads at `start`. Credentials are the operator's, from the environment or `api_key_file`; what a client
    sends as its own goes nowhere.
    """

    watermarks = False
    tokenizer = None

    def __init__(self, settings: UpstreamSettings) -> None:
        self._address = settings.url.partition(":")[2]
        self._settings = settings
        self._key = read_private(settings.api_key_file, "API key file").strip() if settings.api_key_file else None
        self._created = int(time.time())
        self._own: dict[str, Any] = {}
        self._litellm: Any = None
        self._models: list[str] = []
        self._closing: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Load litellm. Raises SettingsError."""
        if self._litellm is None:
            self._litellm = library.load()
            limits = library.timeout(self._settings.connect_timeout, self._settings.read_timeout)
            self._own = {"timeout": limits, "max_retries": 0, **({"api_key": self._key} if self._key else {})}
            self._models = listed(self._litellm, self._address)

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Answer one request; a whole answer is complete, a stream has begun. Raises UpstreamError."""
        if self._litellm is None:
            await asyncio.to_thread(self.start)
        path = request.path.partition("?")[0].rstrip("/")
        if request.method == "POST" and path in CALLS:
            return await self._call(path, request.body)
        if request.method == "GET" and path == "/v1/models":
            return _answered(200, {"object": "list", "data": [self._model(name) for name in self._models]})
        if request.method == "GET" and path.startswith("/v1/models/"):
            return self._described(unquote(path.removeprefix("/v1/models/")))
        raise NotOffered(
            f"{request.method} {path[:80]} is not offered with litellm as upstream; it has {', '.join(PASSED)}"
        )

    async def close(self) -> None:
        """Wait for the streams that are being closed."""
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _model(self, name: str) -> dict[str, str | int]:
        return {"id": name, "object": "model", "created": self._created, "owned_by": name.partition("/")[0]}

    def _described(self, name: str) -> UpstreamResponse:
        if name in self._models:
            return _answered(200, self._model(name))
        message = f"the model {name[:80]!r} is not listed here; GET /v1/models lists what is"
        return _refused(404, message, "invalid_request_error", "model_not_found", "model")

    async def _call(self, path: str, raw: bytes) -> UpstreamResponse:
        try:
            asked = await asyncio.to_thread(arguments, path, raw, self._address)
            async with asyncio.timeout(self._settings.read_timeout):
                answer = await getattr(self._litellm, CALLS[path])(**asked, **self._own)
                ending = Ending(answer)
                first = await anext(answer, None) if _not_begun(answer) else None
        except Refused as error:
            return _refused(error.status, str(error), error.kind, error.code, error.param)
        except LabelError:
            raise
        except Exception as error:
            return self._failed(error)
        streamed = hasattr(answer, "__anext__")
        return self._streamed(answer, first, ending) if streamed else _answered(200, whole(answer))

    def _failed(self, error: Exception) -> UpstreamResponse:
        """Pass on the provider's refusal. Raises UpstreamError where there was no answer to pass on."""
        status, said = refusal(error, library.secrets(self._key))
        wait = retry_after(error)
        return _answered(status, {"error": said}, *([("Retry-After", wait)] if wait else []))

    def _streamed(self, stream: Any, first: Any, ending: Ending) -> UpstreamResponse:
        def close() -> None:
            task = asyncio.get_running_loop().create_task(_close(stream))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

        return UpstreamResponse(200, list(SSE), self._events(stream, first, ending), close=close)

    async def _events(self, stream: Any, first: Any, ending: Ending) -> AsyncIterator[bytes]:
        chunks = Chunks()
        try:
            part = first if first is not None else await self._next(stream)
            while part is not None:
                if finish_reason(part) and ending.made_up:
                    message = "the provider's answer ended without a finish_reason"
                    raise UpstreamError(message, code="upstream_truncated")
                yield chunks.event(part)
                part = await self._next(stream)
            yield DONE
        finally:
            await _close(stream)

    async def _next(self, stream: Any) -> Any:
        """Return the next part of a stream, `None` at its end. Raises UpstreamError."""
        try:
            async with asyncio.timeout(self._settings.read_timeout):
                return await anext(stream, None)
        except TimeoutError as error:
            raise UpstreamTimeout("the provider stopped sending") from error
        except Exception as error:
            failure = broken(error, library.secrets(self._key), "upstream_truncated")
            raise failure from error


def _not_begun(answer: Any) -> bool:
    """Say whether the provider is asked only at the first part: its refusal must still become a status."""
    return hasattr(answer, "__anext__") and getattr(answer, "completion_stream", answer) is None


async def _close(stream: Any) -> None:
    """Let go of the provider's connection, which ends the answer there."""
    if hasattr(stream, "aclose"):
        await stream.aclose()


def _refused(status: int, message: str, kind: str, code: str, param: str | None) -> UpstreamResponse:
    return _answered(status, {"error": {"message": message, "type": kind, "param": param, "code": code}})


def _answered(status: int, body: dict[str, Any] | bytes, *headers: tuple[str, str]) -> UpstreamResponse:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)

    async def chunks() -> AsyncIterator[bytes]:
        yield raw

    return UpstreamResponse(status, [JSON, ("Content-Length", str(len(raw))), *headers], chunks())
