"""An upstream that costs next to nothing: canned streams of all four APIs, paced, from a process of its own.

`python benchmarks/canned.py PORT PACE [THINK [CHUNKS]]` serves it: seconds between events, and before the first byte of
an answer, and how many events it has. `GET /open` counts streams and connections.
"""

import asyncio
import json
import sys
from typing import Any

__all__ = ["CHUNKS", "PATHS", "ask", "events"]

CHUNKS = 60  # events of a stream, about
PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
}
PROMPT = "Tell me about the fox."


def ask(surface: str) -> bytes:
    """Return a request for a stream, as bytes of HTTP; its JSON is compact, as the SDKs write it."""
    turn = {"messages": [{"role": "user", "content": PROMPT}]}
    said = {"chat": turn, "completions": {"prompt": PROMPT}, "responses": {"input": PROMPT}, "messages": turn}[surface]
    asked = {"model": "m", "stream": True, "max_tokens": 200, **said}
    body = json.dumps(asked, separators=(",", ":")).encode()
    head = (
        f"POST {PATHS[surface]} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer sk-bench-0123456789\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def events(surface: str, chunks: int = CHUNKS) -> list[bytes]:
    """Return the events of one answer, the last of them with what ends the stream."""
    words = [f"word{i} " for i in range(chunks - 10)]
    return {"chat": _chat, "completions": _completions, "responses": _responses, "messages": _messages}[surface](words)


def _data(body: dict[str, Any]) -> bytes:
    name = f"event: {body['type']}\n" if "type" in body else ""
    return f"{name}data: {json.dumps(body)}\n\n".encode()


def _of_choices(kind: str, *choices: dict[str, Any]) -> list[bytes]:
    same = {"id": "c-1", "object": kind, "created": 1, "model": "m"}
    frames = [_data({**same, "choices": [{"index": 0, "finish_reason": None, **choice}]}) for choice in choices]
    return [*frames[:-1], frames[-1] + b"data: [DONE]\n\n"]


def _chat(words: list[str]) -> list[bytes]:
    role, end = {"delta": {"role": "assistant", "content": ""}}, {"delta": {}, "finish_reason": "stop"}
    return _of_choices("chat.completion.chunk", role, *({"delta": {"content": word}} for word in words), end)


def _completions(words: list[str]) -> list[bytes]:
    return _of_choices("text_completion", *({"text": word} for word in words), {"text": "", "finish_reason": "stop"})


def _responses(words: list[str]) -> list[bytes]:
    whole = {"type": "output_text", "text": "".join(words), "annotations": []}
    item = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [whole]}
    part = {"output_index": 0, "content_index": 0, "item_id": "m"}
    response = {"id": "r-1", "object": "response", "status": "in_progress", "model": "m", "output": []}
    said: list[dict[str, Any]] = [
        {"type": "response.created", "response": response},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **part, "part": {**whole, "text": ""}},
        *({"type": "response.output_text.delta", **part, "delta": word} for word in words),
        {"type": "response.output_text.done", **part, "text": whole["text"]},
        {"type": "response.content_part.done", **part, "part": whole},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {**response, "status": "completed", "output": [item]}},
    ]
    return [_data({**event, "sequence_number": at}) for at, event in enumerate(said)]


def _messages(words: list[str]) -> list[bytes]:
    begun = {"id": "m-1", "type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 3}}
    said: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 50}},
        {"type": "message_stop"},
    ]
    return [_data(event) for event in said]


class Canned(asyncio.Protocol):
    """One connection of the upstream."""

    pace = think = 0.0  # seconds
    streams: dict[bytes, list[bytes]] = {}  # path -> HTTP chunks
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    connections: set["Canned"] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer, self.timer = transport, b"", None
        self.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.connections.discard(self)
        if self.timer:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next((int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length")), 0)
        if not found or len(rest) < length:
            return
        self.buffer = rest[length:]
        path = head.split(b" ", 2)[1]
        if path == b"/open":
            running = sum(each.timer is not None for each in self.connections)
            body = json.dumps({"streams": running, "connections": len(self.connections) - 1}).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            return
        if self.think:
            self.timer = asyncio.get_running_loop().call_later(self.think, self._begin, self.streams[path])
        else:
            self._begin(self.streams[path])

    def _begin(self, stream: list[bytes]) -> None:
        self.transport.write(self.head)
        self._next(stream, 0, asyncio.get_running_loop().time())

    def _next(self, stream: list[bytes], at: int, start: float) -> None:
        if at == len(stream):
            self.timer = None
            self.transport.write(b"0\r\n\r\n")
            return
        self.transport.write(stream[at])
        loop = asyncio.get_running_loop()
        self.timer = loop.call_at(start + (at + 1) * self.pace, self._next, stream, at + 1, start)


async def serve(port: int, pace: float, think: float = 0.0, chunks: float = CHUNKS) -> None:
    Canned.pace, Canned.think = pace, think
    for name, path in PATHS.items():
        Canned.streams[path.encode()] = [b"%x\r\n%b\r\n" % (len(f), f) for f in events(name, int(chunks))]
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), *map(float, sys.argv[2:])))
