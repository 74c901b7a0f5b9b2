"""The content blocks of a Messages answer, and the events about them: read, and of our own. No I/O here."""

from collections.abc import Mapping
from typing import Any

from llm_label.proxy.jsonspan import dumps
from llm_label.proxy.sse import frame
from llm_label.proxy.surfaces.reading import malformed

__all__ = [
    "block_of",
    "delta_text",
    "goes_on",
    "is_tool",
    "kind_of",
    "own_delta",
    "own_event",
    "reason_of",
    "text_of",
]

Body = Mapping[str, Any]


def kind_of(block: Any) -> Any:
    return block.get("type") if isinstance(block, dict) else None


def block_of(body: Body) -> Body:
    block = body.get("content_block")
    if not isinstance(block, dict):
        raise malformed("a content_block_start without its block")
    return block


def text_of(block: Any) -> str | None:
    """Return the text of a text block, None for another one. Raises UpstreamError for a text that is none."""
    if not isinstance(block, dict):
        raise malformed("a content block that is not an object")
    if block.get("type") != "text":
        return None
    text = block.get("text")
    if not isinstance(text, str):
        raise malformed(f"a text block that holds {type(text).__name__} where text was expected")
    return text


def delta_text(body: Body) -> str | None:
    delta = body.get("delta")
    if not isinstance(delta, dict):
        raise malformed("a content_block_delta without its delta")
    return text_of({**delta, "type": "text"}) if delta.get("type") == "text_delta" else None


def goes_on(body: Body) -> bool:
    """Say whether an event shows how the answer goes on: with text, or with a block of another type."""
    text: str | None = ""
    if body.get("type") == "content_block_start":
        text = text_of(block_of(body))
    elif body.get("type") == "content_block_delta":
        text = delta_text(body) or ""
    return text is None or bool(text.strip())


def is_tool(block: Body) -> bool:
    return str(block.get("type")).endswith("tool_use")


def reason_of(body: Body) -> str | None:
    reason = body.get("stop_reason")
    return reason if isinstance(reason, str) and reason else None


def own_delta(index: int, text: str) -> bytes:
    """Return an event of our own that adds text to a block."""
    if not text:
        return b""
    return own_event("content_block_delta", {"index": index, "delta": {"type": "text_delta", "text": text}})


def own_event(kind: str, body: Body) -> bytes:
    """Return an event of our own."""
    return f"event: {kind}\n".encode() + frame(dumps({"type": kind, **body}))
