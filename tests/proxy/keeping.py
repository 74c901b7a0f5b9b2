"""An upstream that keeps its answers, and gives them again: responses and stored chat completions."""

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

from tests.proxy.running import web

TEXT = "四月的天气很冷，五月的天气很暖。"
PIECES = ("四月的天气", "很冷，五月的", "天气很暖。")


class Keeper:
    """Answer with the given pieces of text; background answers are queued until `work` is called."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces or PIECES
        self.kept: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.cut: int | None = None  # streams break off behind so many events
        self.pause = 0.0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path_qs}")
        body = json.loads(await request.read() or b"{}")
        if request.method == "POST" and request.path in ("/v1/responses", "/v1/chat/completions"):
            return await self._first(request, body)
        number = re.findall(r"/v1/(?:responses|chat/completions)/([^/]+)", request.path)
        kept = self.kept.get(number[0]) if number else None
        if kept is None:
            error = {"message": f"no {number}", "type": "invalid_request_error", "param": None, "code": "not_found"}
            return web.json_response({"error": error}, status=404)
        if request.method == "DELETE":
            del self.kept[number[0]]
            return web.json_response({"id": number[0], "object": "response.deleted", "deleted": True})
        if request.path.endswith("/cancel"):
            kept |= {"status": "cancelled"}
        if request.query.get("stream") == "true":
            return await self._stream(request, kept, int(request.query.get("starting_after", -1)))
        return web.json_response(kept)

    def work(self) -> None:
        """Finish what is queued."""
        for kept in self.kept.values():
            if kept.get("status") == "queued":
                kept |= {"status": "completed", "output": self._output(kept["id"])}

    async def _first(self, request: web.Request, asked: dict[str, Any]) -> web.StreamResponse:
        id = f"{'resp' if request.path.endswith('responses') else 'chatcmpl'}_{len(self.kept)}"
        kept = self.kept[id] = self._response(id, asked) if id.startswith("resp") else self._chat(id, asked)
        if asked.get("stream") and id.startswith("resp"):
            return await self._stream(request, kept, -1)
        return web.json_response(kept)

    def _response(self, id: str, asked: dict[str, Any]) -> dict[str, Any]:
        queued = bool(asked.get("background"))
        return {
            "id": id, "object": "response", "created_at": 1, "model": "m", "error": None, "incomplete_details": None,
            "status": "queued" if queued else "completed", "output": [] if queued else self._output(id),
            "background": queued, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
            "text": asked.get("text", {"format": {"type": "text"}}),
        }  # fmt: skip

    def _output(self, id: str) -> list[dict[str, Any]]:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": "".join(self.pieces)}
        return [{"id": f"msg_{id}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}]

    def _chat(self, id: str, asked: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": "".join(self.pieces)}
        return {"id": id, "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}]}  # fmt: skip

    async def _stream(self, request: web.Request, kept: dict[str, Any], after: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in self.events(kept)[: self.cut]:
            if event["sequence_number"] > after:
                data = json.dumps(event, ensure_ascii=False)
                await response.write(f"event: {event['type']}\ndata: {data}\n\n".encode())
                await asyncio.sleep(self.pause)
        return response

    def events(self, kept: dict[str, Any]) -> list[dict[str, Any]]:
        """List the events of the answer's stream."""
        (item,) = self._output(kept["id"])
        where = {"item_id": item["id"], "output_index": 0, "content_index": 0}
        begun = {**kept, "status": "in_progress", "output": []}
        empty = {**item["content"][0], "text": ""}
        said: list[tuple[str, dict[str, Any]]] = [
            ("created", {"response": begun}),
            ("in_progress", {"response": begun}),
            ("output_item.added", {"output_index": 0, "item": {**item, "content": [], "status": "in_progress"}}),
            ("content_part.added", {**where, "part": empty}),
            *(("output_text.delta", {**where, "delta": piece, "logprobs": []}) for piece in self.pieces),
            ("output_text.done", {**where, "text": "".join(self.pieces), "logprobs": []}),
            ("content_part.done", {**where, "part": item["content"][0]}),
            ("output_item.done", {"output_index": 0, "item": item}),
            ("completed", {"response": {**kept, "status": "completed", "output": [item]}}),
        ]
        return [{"type": f"response.{kind}", "sequence_number": k, **more} for k, (kind, more) in enumerate(said)]


Made = Callable[..., Keeper]
