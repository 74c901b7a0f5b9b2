"""The touch law for Messages: what the proxy adds can be taken away, and what is left is the upstream's answer."""

import copy
import json
import random
from collections.abc import Collection
from typing import Any

from llm_label.labels.labeler import strip
from llm_label.proxy.jsonspan import dumps
from llm_label.proxy.sse import Event
from llm_label.proxy.surfaces import messages
from tests.proxy.touch import OWN, events, read

__all__ = [
    "assert_only_marks_were_added",
    "assert_same_but_marks",
    "blocks",
    "replayed",
    "streams_like",
    "text",
    "texts",
    "turns",
]


def parsed(body: bytes) -> list[tuple[Event, Any]]:
    return [(event, read(event.data)) for event in events(body) if event.data is not None]


def turns(body: bytes) -> list[list[tuple[Event, Any]]]:
    """Cut a stream where a message begins; a few recordings hold several."""
    cut: list[list[tuple[Event, Any]]] = []
    for event, data in parsed(body):
        if data["type"] == "message_start" or not cut:
            cut.append([])
        cut[-1].append((event, data))
    return cut


def texts(turn: list[tuple[Event, Any]]) -> dict[int, str]:
    """Join the deltas of every text block of one message."""
    found: dict[int, str] = {}
    for _, data in turn:
        block, delta = data.get("content_block") or {}, data.get("delta") or {}
        if block.get("type") == "text":
            found[int(data["index"])] = block["text"]
        elif delta.get("type") == "text_delta":
            found[int(data["index"])] = found.get(int(data["index"]), "") + delta["text"]
    return found


def text(body: bytes) -> str:
    """Join all the text of a stream."""
    return "".join(piece for turn in turns(body) for piece in texts(turn).values())


def blocks(body: bytes) -> list[Any]:
    """Read a stream as its client does: the content blocks of its one message."""
    found: dict[int, Any] = {}
    for _, data in parsed(body):
        if data["type"] == "content_block_start":
            found[int(data["index"])] = data["content_block"]
        elif data["type"] == "content_block_delta" and data["delta"]["type"] == "text_delta":
            found[int(data["index"])]["text"] += data["delta"]["text"]
    return list(found.values())


def assert_only_marks_were_added(before: bytes, after: bytes, known: Collection[str]) -> None:
    """Raise AssertionError unless `after` is `before` plus labels, our field and events of our own."""
    old, new = events(before), events(after)
    at = 0
    for event in new:
        if at < len(old) and (event.raw == old[at].raw or _bare(event) == _bare(old[at])):
            at += 1
        else:
            assert _own(event), f"an event changed beyond its text: {event.raw!r}; upstream: {old[at : at + 1]!r}"
    assert at == len(old), f"{len(old) - at} events are missing"
    for mine, theirs in zip(turns(after), turns(before), strict=True):
        assert strip("".join(texts(mine).values()), known) == "".join(texts(theirs).values())
        for index, original in texts(theirs).items():
            assert original in texts(mine)[index] or not _marked_inside(texts(mine)[index], original, known)


def assert_same_but_marks(before: bytes, after: bytes, known: Collection[str]) -> None:
    """The same for whole answers."""
    old, new = read(before), read(after)
    new.pop(OWN, None)
    mine, theirs = _take_texts(new), _take_texts(old)
    if len(new["content"]) == len(old["content"]) + 1:
        assert new["content"].pop() == {"type": "text"}
    assert json.dumps(new) == json.dumps(old)
    assert strip("".join(mine), known) == "".join(theirs)


def _marked_inside(marked: str, original: str, known: Collection[str]) -> bool:
    """Say whether more than a label inside it tells a block from its original."""
    for label in known:
        marked = marked.replace(label, "")
    return "".join(marked.split()) != "".join(original.split())


def _bare(event: Event) -> Any:
    """Return an event without its text and without our field, with its other lines."""
    if event.data is None:
        return event.raw
    body = read(event.data)
    body.pop(OWN, None)
    if isinstance(body.get("message"), dict):
        body["message"].pop(OWN, None)
    block, delta = body.get("content_block") or {}, body.get("delta") or {}
    if block.get("type") == "text":
        block.pop("text")
    if delta.get("type") == "text_delta":
        delta.pop("text")
    return event.with_data(b""), json.dumps(body)


def _own(event: Event) -> bool:
    assert event.data is not None
    body = read(event.data)
    if body["type"] == "content_block_delta":
        return set(body) == {"type", "index", "delta"} and set(body["delta"]) == {"type", "text"}
    if body["type"] == "content_block_start":
        return bool(body["content_block"] == {"type": "text", "text": ""})
    return set(body) == {"type", "index"} and body["type"] == "content_block_stop"


def _take_texts(body: Any) -> list[str]:
    return [block.pop("text") for block in body.get("content") or [] if block["type"] == "text"]


def replayed(content: list[Any], known: Any) -> bytes:
    """Return the bytes that an upstream gets when a client sends a turn back."""
    request = {"messages": [{"role": "assistant", "content": content}, {"role": "user", "content": "?"}]}
    return messages.clean(dumps(request), request, known)


def streams_like(answer: dict[str, Any], rng: random.Random) -> bytes:
    """Play a whole answer as a stream, its texts cut at random."""
    data: list[dict[str, Any]] = [{"type": "message_start", "message": {**answer, "content": []}}]
    for index, block in enumerate(copy.deepcopy(answer["content"])):
        left = block.pop("text") if block["type"] == "text" else ""
        start = {**block, "text": ""} if block["type"] == "text" else block
        data.append({"type": "content_block_start", "index": index, "content_block": start})
        while left:
            cut = rng.randrange(1, 12)
            delta = {"type": "text_delta", "text": left[:cut]}
            data.append({"type": "content_block_delta", "index": index, "delta": delta})
            left = left[cut:]
        data.append({"type": "content_block_stop", "index": index})
    data.append({"type": "message_delta", "delta": {"stop_reason": answer["stop_reason"]}, "usage": {}})
    data.append({"type": "message_stop"})
    return b"".join(f"event: {d['type']}\ndata: {json.dumps(d)}\n\n".encode() for d in data)
