"""Write answers as an OpenAI server does: one JSON object, or server-sent events."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from .text import Piece

__all__ = ["DONE", "Answer", "error_body", "event"]

DONE = b"data: [DONE]\n\n"


def error_body(message: str, kind: str, code: str | None, param: str | None = None) -> bytes:
    """Return an OpenAI-style error object."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def event(data: bytes) -> bytes:
    """Return one server-sent event."""
    return b"data: " + data + b"\n\n"


@dataclass
class Answer:
    """The frame around one answer's choices."""

    id: str
    created: int
    model: str
    n: int
    with_usage: bool = False  # a stream that reports usage
    _texts: dict[int, str] = field(default_factory=dict)
    _reasons: dict[int, str] = field(default_factory=dict)

    def add(self, piece: Piece) -> None:
        """Take a piece of an answer that is sent as a whole."""
        self._texts[piece.index] = self._texts.get(piece.index, "") + piece.text
        if piece.finish_reason:
            self._reasons[piece.index] = piece.finish_reason

    def whole(self, usage: dict[str, int]) -> bytes:
        """Return the JSON answer."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": self._texts.get(index, ""), "refusal": None},
                "logprobs": None,
                "finish_reason": self._reasons[index],
            }
            for index in range(self.n)
        ]
        return orjson.dumps({**self._head("chat.completion"), "choices": choices, "usage": usage})

    def opening(self) -> bytes:
        """Return the events that give each choice its role."""
        return b"".join(
            self._chunk(index, {"role": "assistant", "content": "", "refusal": None}, None) for index in range(self.n)
        )

    def events(self, piece: Piece) -> bytes:
        """Return the events of one piece: its text, then its finish reason in an empty delta."""
        text = self._chunk(piece.index, {"content": piece.text}, None) if piece.text else b""
        return text + (self._chunk(piece.index, {}, piece.finish_reason) if piece.finish_reason else b"")

    def closing(self, usage: dict[str, int]) -> bytes:
        """Return the last events: usage where it was asked for, and the end mark."""
        last = event(self._body([], usage)) if self.with_usage else b""
        return last + DONE

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return event(self._body([choice], None))

    def _body(self, choices: Sequence[dict[str, Any]], usage: dict[str, int] | None) -> bytes:
        body = {**self._head("chat.completion.chunk"), "choices": choices}
        return orjson.dumps({**body, "usage": usage} if self.with_usage else body)

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}
