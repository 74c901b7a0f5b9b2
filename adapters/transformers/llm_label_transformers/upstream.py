"""Serve a transformers checkpoint in this process, answering as an OpenAI server would."""

import asyncio
import contextlib
import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

import orjson

from llm_label.errors import ClientError, LabelError
from llm_label.proxy.upstream import UpstreamRequest, UpstreamResponse
from llm_label.settings import UpstreamSettings

from . import checkpoint
from .answer import DONE, Answer, error_body, event
from .request import ChatRequest, RequestRefused
from .text import Piece

if TYPE_CHECKING:
    from .engine import Engine, Job

__all__ = ["LocalUpstream"]

JSON = [("Content-Type", "application/json")]
SSE = [("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-cache")]
BROKEN = error_body("the model failed while generating; see the server's log", "server_error", "generation_failed")

log = logging.getLogger(__name__)


class LocalUpstream:
    """An upstream without a server: `local:` is the embedded model, `local:FOLDER` any checkpoint.

    The model loads at `start`, or at the first request; until then neither torch nor transformers is imported.
    """

    watermarks = True

    def __init__(self, settings: UpstreamSettings | str | None = None) -> None:
        path = settings.url.partition(":")[2] if isinstance(settings, UpstreamSettings) else settings
        self._path = path or None
        self.tokenizer = checkpoint(self._path) / "tokenizer.json"
        self._created = int(time.time())
        self._engine: Engine | None = None
        self._loading = threading.Lock()

    @property
    def engine(self) -> "Engine":
        with self._loading:
            if self._engine is None:
                from .engine import Engine

                self._engine = Engine.load(self._path)
            return self._engine

    def start(self) -> None:
        """Load the model. Raises SettingsError."""
        _ = self.engine

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Answer one request; a whole answer is complete, a stream has begun."""
        if self._engine is None:
            await asyncio.to_thread(self.start)
        path = request.path.partition("?")[0].rstrip("/")
        if request.method == "POST" and path == "/v1/chat/completions":
            return await self._chat(request)
        if request.method == "GET" and path == "/v1/models":
            return _answered(200, orjson.dumps({"object": "list", "data": [self._model()]}))
        if request.method == "GET" and unquote(path) == f"/v1/models/{self.engine.name}":
            return _answered(200, orjson.dumps(self._model()))
        return _answered(404, self._unknown(request.method, path))

    async def close(self) -> None:
        """Take no more requests."""
        if self._engine:
            self._engine.close()

    def _model(self) -> dict[str, str | int]:
        return {"id": self.engine.name, "object": "model", "created": self._created, "owned_by": "llm-label"}

    def _unknown(self, method: str, path: str) -> bytes:
        if method == "GET" and path.startswith("/v1/models/"):
            message = f"the model {unquote(path[11:])[:80]!r} is not here; this server has {self.engine.name!r}"
            return error_body(message, "invalid_request_error", "model_not_found", "model")
        message = f"the local upstream has no {method} {path[:80]}; it has /v1/chat/completions and /v1/models"
        return error_body(message, "invalid_request_error", "unknown_url")

    async def _chat(self, request: UpstreamRequest) -> UpstreamResponse:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[Piece | None] = asyncio.Queue()

        def tell(piece: Piece | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop may be closed before the job has noticed
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        mark = request.watermark
        key, variety = (mark.key, mark.variety) if mark else (None, None)
        try:
            asked = await asyncio.to_thread(ChatRequest.parse, request.body)
            job = await asyncio.to_thread(self.engine.prepare, asked, key, variety, tell)
        except ClientError as error:
            param = error.param if isinstance(error, RequestRefused) else None
            return _answered(error.status, error_body(str(error), error.kind, error.code, param))
        answer = Answer(
            f"chatcmpl-{secrets.token_hex(12)}", int(time.time()), self.engine.name, asked.n, asked.include_usage
        )
        running = self.engine.start(job)
        running.add_done_callback(lambda _: tell(None))
        ended = _Ended(running, job, pieces)
        response = await self._whole(answer, ended) if not asked.stream else _streamed(answer, ended)
        if mark and job.key is None and response.status == 200:
            response.watermark_skipped = lambda: "greedy"
        return response

    async def _whole(self, answer: Answer, ended: "_Ended") -> UpstreamResponse:
        try:
            async for piece in ended.pieces():
                answer.add(piece)
        except asyncio.CancelledError:
            ended.job.cancelled.set()
            raise
        except LabelError:  # a mark that could not be applied is the proxy's to answer
            raise
        except Exception:
            log.exception("generation failed")
            return _answered(500, BROKEN)
        return _answered(200, answer.whole(ended.usage()))


class _Ended:
    """A job seen from the event loop: its pieces until it ends, then its usage."""

    def __init__(self, running: object, job: "Job", queue: asyncio.Queue[Piece | None]) -> None:
        self._running = running
        self.job = job
        self._queue = queue

    async def pieces(self) -> AsyncIterator[Piece]:
        """Yield pieces; raise what the job raised."""
        while (piece := await self._queue.get()) is not None:
            yield piece
        self._running.result()  # type: ignore[attr-defined]

    def usage(self) -> dict[str, int]:
        prompt, completion = len(self.job.prompt), self.job.completion_tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _streamed(answer: Answer, ended: _Ended) -> UpstreamResponse:
    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield answer.opening()
            async for piece in ended.pieces():
                yield answer.events(piece)
            yield answer.closing(ended.usage())
        except LabelError:
            raise
        except Exception:
            log.exception("generation failed")
            yield event(BROKEN) + DONE
        finally:
            ended.job.cancelled.set()

    return UpstreamResponse(200, list(SSE), chunks(), close=ended.job.cancelled.set)


def _answered(status: int, body: bytes) -> UpstreamResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield body

    return UpstreamResponse(status, [*JSON, ("Content-Length", str(len(body)))], chunks())
