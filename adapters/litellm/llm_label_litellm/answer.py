"""What litellm returns, as the bytes of an OpenAI server. No I/O here."""

from typing import Any

import orjson

__all__ = ["DONE", "Chunks", "finish_reason", "whole"]

LISTS = ("choices", "data")  # there even when they are empty
DONE = b"data: [DONE]\n\n"


def whole(answer: Any) -> bytes:
    """Return a whole answer: what has no value is left out, what every answer has is there."""
    body = _filled(answer)
    for choice in body.get("choices") or ():
        choice.setdefault("finish_reason", None)
        if isinstance(choice.get("message"), dict):
            choice["message"].setdefault("content", None)
    return orjson.dumps(body)


class Chunks:
    """The events of one stream. They share the first one's id, where litellm makes up another for each."""

    def __init__(self) -> None:
        self._id: str | None = None

    def event(self, part: Any) -> bytes:
        """Return one event. A part with the usage of the whole answer has no choices, as with OpenAI."""
        body = _filled(part)
        self._id = body["id"] = self._id or body.get("id")
        choices = body.get("choices") or []
        if body.get("usage") is not None and not any(_holds(choice) for choice in choices):
            choices = []
        for choice in choices:
            choice.setdefault("delta", {})
            choice.setdefault("finish_reason", None)
        body["choices"] = choices
        return b"data: " + orjson.dumps(body) + b"\n\n"


def finish_reason(part: Any) -> str | None:
    """Return the first reason that a part gives for the end of a choice."""
    return next((c.finish_reason for c in part.choices or () if c.finish_reason), None)


def _filled(answer: Any) -> dict[str, Any]:
    """Return what litellm's object holds, without its many fields that hold nothing."""
    body: dict[str, Any] = answer.model_dump(exclude_none=True)
    return {key: value for key, value in body.items() if key in LISTS or value not in ([], {})}


def _holds(choice: dict[str, Any]) -> bool:
    return bool(choice.get("finish_reason") or any(choice.get("delta", {}).values()))
