"""The touch law for the Responses API: same events in the same order, and nothing changed in them but marks."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import Any

from llm_label.labels.labeler import strip
from llm_label.proxy.sse import Event
from tests.proxy.touch import OWN, events, read

Where = tuple[int, int | None, int | None]  # response, output_index, content_index
HOLDERS = {"response.content_part.added": "part", "response.content_part.done": "part",
           "response.output_item.added": "item", "response.output_item.done": "item"}  # fmt: skip
INDICES = ("start_index", "end_index", "index")


def bodies(stream: bytes) -> list[dict[str, Any]]:
    return [json.loads(e.data) for e in events(stream) if e.data is not None and e.data.strip() != b"[DONE]"]


def deltas(stream: bytes) -> dict[Where, str]:
    """Join the text deltas of every part."""
    joined: dict[Where, str] = defaultdict(str)
    response = 0
    for body in bodies(stream):
        if body["type"] == "response.output_text.delta":
            joined[response, body.get("output_index"), body.get("content_index")] += body["delta"]
        response += body["type"] == "response.completed"
    return dict(joined)


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Give every text part that stands in a part, an item or a response."""
    if isinstance(value, dict):
        if value.get("type") == "output_text":
            yield value
        for key in ("output", "content"):
            for inner in value.get(key) or [] if isinstance(value.get(key), list) else []:
                yield from parts(inner)


def holder(body: dict[str, Any]) -> Any:
    return body.get(HOLDERS.get(body.get("type", ""), "response"))


def repeated(stream: bytes) -> list[str]:
    """List the text of every event that repeats one."""
    found = []
    for body in bodies(stream):
        if body["type"] == "response.output_text.done":
            found.append(body["text"])
        found += [part["text"] for part in parts(holder(body))]
    return found


def assert_only_marks_were_added(before: bytes, after: bytes, known: Collection[str]) -> None:
    """Raise AssertionError unless `after` is `before` plus labels and our field."""
    olds = [e for e in events(before) if e.data is not None or e.only_comments]
    news = events(after)
    assert len(olds) == len(news), f"{len(olds)} events became {len(news)}"
    for old, new in zip(olds, news, strict=True):
        assert _bare(old) == _bare(new), f"an event changed beyond its text: {new.raw!r}; upstream: {old.raw!r}"
    assert {where: strip(text, known) for where, text in deltas(after).items()} == deltas(before)
    assert [strip(text, known) for text in repeated(after)] == repeated(before)
    assert citations(after) == citations(before)


def assert_same_but_marks(before: bytes, after: bytes, known: Collection[str]) -> None:
    """The same for whole answers."""
    old, new = read(before), read(after)
    new.pop(OWN, None)
    was = [part["text"] for part in parts(old)]
    assert [strip(part["text"], known) for part in parts(new)] == was
    cited = [list(_cited(part)) for part in parts(json.loads(before))]
    assert [list(_cited(part)) for part in parts(json.loads(after))] == cited
    assert _blank(new) == _blank(old)


def citations(stream: bytes) -> list[list[str]]:
    """List what every annotation cites, from the events that bring them and from those that repeat them."""
    found, texts, response = [], deltas(stream), 0
    for body in bodies(stream):
        if body["type"] == "response.output_text.annotation.added":
            where = response, body.get("output_index"), body.get("content_index")
            found.append(list(_cited({"text": texts[where], "annotations": [body["annotation"]]})))
        found += [list(_cited(part)) for part in parts(holder(body))]
        response += body["type"] == "response.completed"
    return found


def _cited(part: dict[str, Any]) -> Iterator[str]:
    for annotation in part.get("annotations") or []:
        start, end, index = (annotation.get(name) for name in INDICES)
        if start is not None:
            yield part["text"][start:end]
        if index is not None:
            yield part["text"][max(int(index) - 20, 0) : index]


def _bare(event: Event) -> tuple[str, str]:
    """Return the lines beside the data, and the data without texts, indices and our field."""
    if event.data is None or event.data.strip() == b"[DONE]":
        return event.raw.decode(), ""
    lines = [line for line in event.raw.decode().splitlines() if not line.startswith("data:")]
    return "\n".join(lines), _blank(read(event.data))


def _blank(body: dict[str, Any]) -> str:
    kind = body.get("type")
    if kind == "response.output_text.delta":
        body["delta"] = None
    elif kind == "response.output_text.done":
        body["text"] = None
    elif kind == "response.output_text.annotation.added":
        _blank_indices(body["annotation"])
    held = holder(body)
    for part in parts(body if held is None else held):
        part["text"] = None
        for annotation in part.get("annotations") or []:
            _blank_indices(annotation)
    for place in (body, held):
        if isinstance(place, dict):
            place.pop(OWN, None)
    return json.dumps(body)


def _blank_indices(annotation: dict[str, Any]) -> None:
    for name in INDICES:
        if name in annotation:
            annotation[name] = None
