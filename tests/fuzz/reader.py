"""Read streams and answers as clients do, written apart from the proxy: what it must agree with.

A *spot* is where text that people read stands in a JSON value: its container, its key there, and which text it is a
piece of. Without its spots and our own field, a frame must be as the upstream sent it.
"""

import json
import re
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

FIELD = "llm_label"
TEXT_PARTS = (None, "text", "output_text")
INDICES = ("start_index", "end_index", "index")
TERMINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled", "error")
IN_PARTS = (
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.annotation.added",
)


class Number(str):
    """A JSON number as it was written."""


class Spot(NamedTuple):
    where: Any  # dict or list
    key: Any
    text: Hashable  # pieces of one text share it; None: a whole text of its own

    @property
    def value(self) -> str:
        return str(self.where[self.key])


def read(raw: bytes) -> Any:
    return json.loads(raw.decode(), parse_float=Number, parse_int=Number)


MARKS = re.compile(rb"(?:\xef\xbb\xbf)*")  # a client takes one byte order mark off, the parser all of them


def split(body: bytes) -> list[tuple[bytes, bytes | None]]:
    """Cut a stream into events by the letter of WHATWG HTML: (raw, data). A last event may lack its blank line."""
    events, raw, data = [], b"", []
    body = body[len(MARKS.match(body)[0]) :]
    for line, end in re.findall(rb"([^\r\n]*)(\r\n|\r|\n|$)", body):
        raw += line + end
        if not end:
            break  # half a line: nobody is told of it
        if not line:
            events.append((raw, b"\n".join(data) if data else None))
            raw, data = b"", []
        elif line == b"data" or line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
    else:
        line = b""
    if raw and not line:
        events.append((raw, b"\n".join(data) if data else None))
    return events


def spots(api: str, body: Any, *, whole: bool = False) -> Iterator[Spot]:
    """Give the spots of a frame, or of a whole answer, which need nothing that came before."""
    if not isinstance(body, dict):
        return
    if api in ("chat", "completions"):
        yield from _of_choices(api, body, whole)
    elif api == "messages" and whole:
        yield from _of_blocks(body.get("content"), "text")
    elif api == "responses" and whole:
        yield from _of_response(body)


def _of_choices(api: str, body: dict[str, Any], whole: bool) -> Iterator[Spot]:
    choices = body.get("choices")
    for at, choice in enumerate(choices if isinstance(choices, list) else ()):
        if not isinstance(choice, dict):
            continue
        given = choice.get("index")
        index = int(given) if isinstance(given, Number) and re.fullmatch(r"-?\d+", given) and not whole else at
        if api == "completions":
            if isinstance(choice.get("text"), str):
                yield Spot(choice, "text", index)
            continue
        if not whole and isinstance(choice.get("delta"), dict):
            yield from _of_content(choice["delta"], index)
        if isinstance(choice.get("message"), dict):
            yield from _of_content(choice["message"], index if whole else None)


def _of_content(holder: dict[str, Any], text: Hashable) -> Iterator[Spot]:
    content = holder.get("content")
    if isinstance(content, str) and not isinstance(content, Number):
        yield Spot(holder, "content", text)
    yield from _of_parts(content, text)


def _of_parts(content: Any, text: Hashable) -> Iterator[Spot]:
    for k, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, str) and not isinstance(part, Number):
            yield Spot(content, k, text)
        elif isinstance(part, dict) and _kind(part) in TEXT_PARTS and _is_text(part.get("text")):
            yield Spot(part, "text", text)


def _of_blocks(content: Any, text: Hashable) -> Iterator[Spot]:
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict) and block.get("type") == "text" and _is_text(block.get("text")):
            yield Spot(block, "text", text)


def _of_response(response: dict[str, Any]) -> Iterator[Spot]:
    output = response.get("output")
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict):
            yield from _of_item(item)
    if _is_text(response.get("output_text")):
        yield Spot(response, "output_text", "joined")


def _of_item(item: dict[str, Any]) -> Iterator[Spot]:
    if not read_by_people(item):
        return
    if _is_text(item.get("content")):
        yield Spot(item, "content", None)
    for k, part in enumerate(item["content"] if isinstance(item.get("content"), list) else ()):
        if isinstance(part, str) and not isinstance(part, Number):
            yield Spot(item["content"], k, None)
        elif isinstance(part, dict):
            yield from _of_part(part)


def _of_part(part: dict[str, Any], text: Hashable = None) -> Iterator[Spot]:
    if _kind(part) in TEXT_PARTS and _is_text(part.get("text")):
        yield Spot(part, "text", text)


def read_by_people(item: dict[str, Any]) -> bool:
    return (
        item.get("type") == "message"
        and item.get("role") not in ("user", "system", "developer", "tool")
        and item.get("phase") != "commentary"
    )


def _kind(part: dict[str, Any]) -> Any:
    kind = part.get("type")
    return kind if kind is None or isinstance(kind, str) else "another"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


@dataclass
class Frame:
    """One event as a client sees it."""

    raw: bytes
    data: bytes
    body: Any  # None for `[DONE]`
    bare: str = ""


@dataclass
class Reader:
    """Read the frames of one stream in their order, and collect the texts they bring."""

    api: str
    texts: dict[Hashable, str] = field(default_factory=lambda: defaultdict(str))  # what pieces make
    repeated: list[str] = field(default_factory=list)  # texts that came whole, in their order
    joined: list[str] = field(default_factory=list)  # texts of several labelled texts
    frames: list[Frame] = field(default_factory=list)
    ended: bool = False
    _turn: int = 0
    _silent: set[Any] = field(default_factory=set)
    _generation: dict[Any, int] = field(default_factory=lambda: defaultdict(int))

    def feed(self, raw: bytes, data: bytes) -> bool:
        """Read one event; say whether a client of this API is told of it."""
        if data.strip() == b"[DONE]":
            return self._done(raw, data)
        if self.ended and self.api in ("chat", "completions"):
            return False
        body = read(data)
        kind = body.get("type") if isinstance(body, dict) else None
        if self.ended and self.api == "responses" and _in_answer(kind):
            return False
        found = list(self._spots(body, kind))
        for spot in found:
            if spot.text is None:
                self.repeated.append(spot.value)
            elif spot.text == "joined":
                self.joined.append(spot.value)
            else:
                self.texts[spot.text] += spot.value
        self.frames.append(Frame(raw, data, body, _bare(self.api, raw, body, found)))
        return True

    def _done(self, raw: bytes, data: bytes) -> bool:
        told = self.api == "messages" or self.ended is (self.api == "responses")
        self.ended = self.ended or self.api in ("chat", "completions")
        if told:
            self.frames.append(Frame(raw, data, None, "[DONE]"))
        return told

    def _spots(self, body: Any, kind: Any) -> Iterator[Spot]:
        if self.api == "messages" and isinstance(body, dict):
            yield from self._of_block_event(body, kind)
        elif self.api == "responses" and isinstance(body, dict):
            yield from self._of_response_event(body, kind)
        else:
            yield from spots(self.api, body)

    def _of_block_event(self, body: dict[str, Any], kind: Any) -> Iterator[Spot]:
        if kind == "message_start" and not body.get("error"):
            self._turn += 1
        block, delta = body.get("content_block"), body.get("delta")
        if kind == "content_block_start" and isinstance(block, dict) and block.get("type") == "text":
            yield from _of_blocks([block], self._turn)
        if kind == "content_block_delta" and isinstance(delta, dict) and delta.get("type") == "text_delta":
            yield from [Spot(delta, "text", self._turn)] if _is_text(delta.get("text")) else []

    def _of_response_event(self, body: dict[str, Any], kind: Any) -> Iterator[Spot]:
        if kind == "response.created" and self.ended:
            self.ended, self._turn = False, self._turn + 1
            self._silent.clear()
        kind = "error" if not isinstance(kind, str) and body.get("error") else kind
        index, place = _int(body.get("output_index")), (_int(body.get("output_index")), _int(body.get("content_index")))
        item, part, silent = body.get("item"), body.get("part"), _int(body.get("output_index")) in self._silent
        if kind == "response.output_text.delta":
            if not silent and _is_text(body.get("delta")):
                yield Spot(body, "delta", self._piece_of(place))
        elif kind == "response.output_text.done":
            self._over(place)
            if not silent and _is_text(body.get("text")):
                yield Spot(body, "text", None)
        elif kind == "response.content_part.added" and isinstance(part, dict):
            if _kind(part) in TEXT_PARTS and not silent:
                self._over(place)
                yield from _of_part(part, self._piece_of(place))
        elif kind == "response.content_part.done" and isinstance(part, dict):
            self._over(place)
            yield from () if silent else _of_part(part)
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._over((index, ...))
            item = item if isinstance(item, dict) else {}
            if kind == "response.output_item.added":
                self._silent.discard(index)
                if item.get("type") == "message" and not read_by_people(item):
                    self._silent.add(index)
            yield from _of_item(item)
        elif kind not in IN_PARTS and kind != "error" and isinstance(body.get("response"), dict):
            if kind in TERMINAL:
                self._over((..., ...))
            yield from _of_response(body["response"])
        self.ended = self.ended or kind in TERMINAL

    def _piece_of(self, place: tuple[Any, Any]) -> Hashable:
        return (self._turn, place, self._generation[place])

    def _over(self, place: tuple[Any, Any]) -> None:
        """Text that comes after this at `place` is another text; `...` is every index."""
        for known in list(self._generation):
            if all(b in (..., a) for a, b in zip(known, place, strict=True)):
                self._generation[known] += 1


def _in_answer(kind: Any) -> bool:
    return kind in IN_PARTS or kind in TERMINAL


def _int(value: Any) -> Any:
    return int(value) if isinstance(value, Number) and re.fullmatch(r"-?\d+", value) else None


def bare(api: str, body: Any, found: list[Spot]) -> str:
    """Return a JSON value without its texts and without our field, its keys in their order."""
    for spot in found:
        spot.where[spot.key] = None
    if not isinstance(body, dict):
        return json.dumps(body)
    body.pop(FIELD, None)
    for key in {"responses": ("response",), "messages": ("message",)}.get(api, ()):
        if isinstance(body.get(key), dict):
            body[key].pop(FIELD, None)
    if api in ("responses", "chat"):
        _forget_indices(body)
    for choice in body["choices"] if api == "chat" and isinstance(body.get("choices"), list) else ():
        if isinstance(choice, dict):
            _forget_added(choice)
    if api == "completions":
        for choice in body["choices"] if isinstance(body.get("choices"), list) else ():
            if isinstance(choice, dict) and choice.get("text") is None:
                choice.pop("text", None)
    return json.dumps(body)


def _forget_added(choice: dict[str, Any]) -> None:
    """Take out a `content` that may have been added, with its delta."""
    delta = choice.get("delta")
    if isinstance(delta, dict) and delta.get("content") is None:
        delta.pop("content", None)
    if not delta and isinstance(delta, dict | None):
        choice.pop("delta", None)


def _forget_indices(value: Any) -> None:
    """Forget where annotations point: labels before those places move them."""
    stack = [value]
    while stack:
        inner = stack.pop()
        if isinstance(inner, dict):
            for key, annotations in inner.items():
                if key == "annotation" and isinstance(annotations, dict):
                    _forget(annotations)
                for annotation in annotations if key == "annotations" and isinstance(annotations, list) else ():
                    _forget(annotation)
            stack += inner.values()
        elif isinstance(inner, list):
            stack += inner


def _forget(annotation: Any) -> None:
    if isinstance(annotation, dict) and isinstance(annotation.get("url_citation"), dict):
        _forget(annotation["url_citation"])
    for name in INDICES:
        if isinstance(annotation, dict) and isinstance(annotation.get(name), Number):
            annotation[name] = None


def _bare(api: str, raw: bytes, body: Any, found: list[Spot]) -> str:
    lines = [line for line in re.split(rb"\r\n|\r|\n", raw) if line and not line.startswith(b"data")]
    return f"{lines!r} {bare(api, body, found)}"


def own(api: str, body: Any) -> bool:
    """Say whether a frame may be one that the proxy added."""
    if not isinstance(body, dict):
        return False
    if api == "messages":
        return _own_block_event({key for key in body if key != FIELD}, body)
    choices = body.get("choices")
    if api == "responses" or not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return False
    keys = set(choices[0]) | {"text"}  # a text is already taken out of what is compared
    if choices[0].get("logprobs") is not None or choices[0].get("finish_reason") is not None:
        return False
    return keys <= {"index", "text", "delta", "logprobs", "finish_reason"}


def _own_block_event(keys: set[str], body: dict[str, Any]) -> bool:
    kind, delta, block = body.get("type"), body.get("delta"), body.get("content_block")
    if kind == "content_block_delta":
        return keys == {"type", "index", "delta"} and isinstance(delta, dict) and set(delta) == {"type", "text"}
    if kind == "content_block_start":
        return keys == {"type", "index", "content_block"} and isinstance(block, dict) and set(block) == {"type", "text"}
    return kind == "content_block_stop" and keys == {"type", "index"}
