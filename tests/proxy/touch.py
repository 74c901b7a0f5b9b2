"""The touch law, checked: what the proxy adds can be taken away, and what is left is the upstream's answer.

`untouched` compares frame by frame, numbers as written and keys in their order, so it sees every change that is not
a label or our own field.
"""

import json
from collections.abc import Collection
from typing import Any

from llm_label.labels.labeler import strip
from llm_label.proxy.sse import Event, Parser

OWN = "llm_label"


class Number(str):
    """A JSON number as it was written."""


def read(raw: bytes) -> Any:
    return json.loads(raw, parse_float=Number, parse_int=Number)


def events(body: bytes) -> list[Event]:
    parser = Parser()
    return parser.feed(body) + parser.end()


def frames(body: bytes) -> list[bytes]:
    return [e.data for e in events(body) if e.data is not None]


def texts(body: bytes) -> dict[int, str]:
    """Join the content of every choice of a stream."""
    joined: dict[int, str] = {}
    for data in frames(body):
        if data.strip() == b"[DONE]":
            continue
        for at, choice in enumerate(read(data).get("choices") or []):
            index = int(choice.get("index", at))
            content = (choice.get("delta") or {}).get("content")
            joined[index] = joined.get(index, "") + _plain(content)
    return joined


def repeated(body: bytes) -> list[str]:
    """List the whole messages that some servers send in the frames of a stream."""
    bodies = [read(data) for data in frames(body) if data.strip() != b"[DONE]"]
    return [_plain(c["message"].get("content")) for b in bodies for c in b.get("choices") or [] if c.get("message")]


def assert_only_marks_were_added(before: bytes, after: bytes, known: Collection[str]) -> None:
    """Raise AssertionError unless `after` is `before` plus labels, our field and frames of our own."""
    old, new = frames(before), frames(after)
    at = 0
    for data in new:
        if at < len(old) and (data == old[at] or _bare(data) == _bare(old[at])):
            at += 1
        else:
            assert _own(data), f"a frame changed beyond its text: {data!r}; upstream: {old[at : at + 1]!r}"
    assert at == len(old), f"{len(old) - at} frames are missing"
    stripped = {index: strip(text, known) for index, text in texts(after).items()}
    assert stripped == texts(before)
    assert [strip(text, known) for text in repeated(after)] == repeated(before)


def assert_same_but_marks(before: bytes, after: bytes, known: Collection[str]) -> None:
    """The same for whole answers."""
    old, new = read(before), read(after)
    new.pop(OWN, None)
    assert _take_citations(new) == _take_citations(old)
    old_texts, new_texts = _take_texts(old), _take_texts(new)
    assert json.dumps(new) == json.dumps(old)
    assert [strip(text, known) for text in new_texts] == old_texts


def _bare(data: bytes) -> str:
    """Return a frame without its texts and without our field; key order counts, an added `content` does not."""
    if data.strip() == b"[DONE]":
        return "[DONE]"
    body = read(data)
    body.pop(OWN, None)
    _take_citations(body)
    for choice in body.get("choices") or []:
        if isinstance(choice.get("message"), dict):
            choice["message"].pop("content", None)
        delta = choice.get("delta")
        if not delta:
            choice.pop("delta", None)
        elif isinstance(delta.get("content"), list):
            for part in delta["content"]:
                part.pop("text", None)
        else:
            delta.pop("content", None)
            if not delta:
                choice.pop("delta")
    return json.dumps(body)


def _own(data: bytes) -> bool:
    choices = read(data).get("choices") or []
    return len(choices) == 1 and set(choices[0]["delta"]) == {"content"} and choices[0]["logprobs"] is None


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if part.get("type") == "text")
    return content or ""


def _take_texts(body: Any) -> list[str]:
    taken = []
    for choice in body.get("choices") or []:
        message = choice.get("message") or {}
        if isinstance(message.get("content"), list):
            text = _plain(message["content"])
            for part in message["content"]:
                part.pop("text", None)
        else:
            text = message.pop("content", None) or ""
        taken.append(text)
    return taken


def _take_citations(body: Any) -> list[str]:
    """Return the words that annotations cite, and take away the places where they stand: labels move them."""
    cited = []
    for choice in body.get("choices") or []:
        message = choice.get("message") or choice.get("delta") or {}
        for annotation in message.get("annotations") or []:
            where = annotation.get("url_citation") or annotation
            start, end = where.pop("start_index", None), where.pop("end_index", None)
            if start is not None and end is not None:
                cited.append(_plain(message.get("content"))[int(start) : int(end)])
    return cited
