"""Read streams as clients do, written apart from the proxy: what it must agree with.

Without its spots and our own field, a frame must be as the upstream sent it.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.fuzz.bare import bare
from tests.fuzz.spots import (
    TEXT_PARTS,
    Spot,
    is_text,
    kind_of,
    number_in,
    of_blocks,
    of_item,
    of_part,
    of_response,
    read,
    read_by_people,
    spots,
)

__all__ = ["MARKED_LINE", "MARKS", "Reader", "split"]

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

MARKS = re.compile(rb"(?:\xef\xbb\xbf)*")  # a client takes one byte order mark off, the parser all of them
# Clients for node take a mark off every line, others ignore the line: no client may get one.
MARKED_LINE = re.compile(rb"(?:^|(?<=[\r\n]))\xef\xbb\xbf")


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


@dataclass
class Frame:
    """One event as a client sees it."""

    raw: bytes
    data: bytes
    body: Any  # None for `[DONE]`
    bare: str = ""


@dataclass
class Reader:
    """Read the frames of one stream in their order, and collect the texts they bring.

    SDKs raise at the first error and read no further, so what an upstream says behind one, or behind the end, may come
    or not. Text that comes there must be labelled all the same: some clients go on.
    """

    api: str
    texts: dict[Hashable, str] = field(default_factory=lambda: defaultdict(str))  # what pieces make
    repeated: list[str] = field(default_factory=list)  # texts that came whole, in their order
    joined: list[str] = field(default_factory=list)  # texts of several labelled texts
    late: dict[Hashable, str] = field(default_factory=lambda: defaultdict(str))  # `texts` with what came behind the end
    frames: list[Frame] = field(default_factory=list)
    ended: bool = False
    failed: bool = False
    _turn: int = 0
    _silent: set[Any] = field(default_factory=set)
    _generation: dict[Any, int] = field(default_factory=lambda: defaultdict(int))

    def feed(self, raw: bytes, data: bytes) -> bool:
        """Read one event; say whether a client of this API is told of it."""
        if data.strip() == b"[DONE]":
            return self._done(raw, data)
        if self.ended and self.api in ("chat", "completions"):
            return False
        body = _read_late(data) if self._late else read(data)
        kind = self._kind(body)
        self._begins(kind)
        if self._late:
            self._behind(body, kind)
            return False
        found = list(self._spots(body, kind))
        self._ends(body, kind)
        for spot in found:
            if spot.text is None:
                self.repeated.append(spot.value)
            elif spot.text == "joined":
                self.joined.append(spot.value)
            else:
                self.texts[spot.text] += spot.value
        self.frames.append(Frame(raw, data, body, _bare(self.api, raw, body, found)))
        return True

    @property
    def _late(self) -> bool:
        return self.ended or self.failed

    def _kind(self, body: Any) -> Any:
        kind = body.get("type") if isinstance(body, dict) else None
        untyped = self.api == "responses" and isinstance(body, dict) and not isinstance(kind, str)
        return "error" if untyped and body.get("error") else kind

    def _begins(self, kind: Any) -> None:
        """Take up an answer anew: a second response is read for itself, a second message is not behind an error."""
        if self.api == "messages" and kind == "message_start":
            self.ended = False
        if self.api == "responses" and kind == "response.created" and self.ended:
            self.ended, self.failed, self._turn = False, False, self._turn + 1
            self._silent.clear()
            self._generation.clear()  # what came late may be missing, and must not count

    def _ends(self, body: Any, kind: Any) -> None:
        fails = kind == "error" or (self.api != "responses" and isinstance(body, dict) and bool(body.get("error")))
        self.failed = self.failed or fails
        self.ended = self.ended or (self.api == "responses" and kind in TERMINAL)
        self.ended = self.ended or (self.api == "messages" and kind == "message_stop" and not fails)

    def _behind(self, body: Any, kind: Any) -> None:
        for spot in self._spots(body, kind):
            key = ("whole", len(self.late)) if spot.text in (None, "joined") else spot.text
            self.late[key] = (self.late.get(key) or self.texts.get(key, "")) + spot.value

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
            yield from of_blocks([block], self._turn)
        if kind == "content_block_delta" and isinstance(delta, dict) and delta.get("type") == "text_delta":
            yield from [Spot(delta, "text", self._turn)] if is_text(delta.get("text")) else []

    def _of_response_event(self, body: dict[str, Any], kind: Any) -> Iterator[Spot]:
        index, place = (
            number_in(body.get("output_index")),
            (number_in(body.get("output_index")), number_in(body.get("content_index"))),
        )
        item, part, silent = body.get("item"), body.get("part"), number_in(body.get("output_index")) in self._silent
        if kind == "response.output_text.delta":
            if not silent and is_text(body.get("delta")):
                yield Spot(body, "delta", self._piece_of(place))
        elif kind == "response.output_text.done":
            self._over(place)
            if not silent and is_text(body.get("text")):
                yield Spot(body, "text", None)
        elif kind == "response.content_part.added" and isinstance(part, dict):
            if kind_of(part) in TEXT_PARTS and not silent:
                self._over(place)
                yield from of_part(part, self._piece_of(place))
        elif kind == "response.content_part.done" and isinstance(part, dict):
            self._over(place)
            yield from () if silent else of_part(part)
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._over((index, ...))
            item = item if isinstance(item, dict) else {}
            if kind == "response.output_item.added":
                self._silent.discard(index)
                if item.get("type") == "message" and not read_by_people(item):
                    self._silent.add(index)
            yield from of_item(item)
        elif kind not in IN_PARTS and kind != "error" and isinstance(body.get("response"), dict):
            if kind in TERMINAL:
                self._over((..., ...))
            yield from of_response(body["response"])

    def _piece_of(self, place: tuple[Any, Any]) -> Hashable:
        return (self._turn, place, self._generation[place])

    def _over(self, place: tuple[Any, Any]) -> None:
        """Text that comes after this at `place` is another text; `...` is every index."""
        for known in list(self._generation):
            if all(b in (..., a) for a, b in zip(known, place, strict=True)):
                self._generation[known] += 1


def _read_late(data: bytes) -> Any:
    try:
        return read(data)
    except (ValueError, RecursionError):
        return None


def _bare(api: str, raw: bytes, body: Any, found: list[Spot]) -> str:
    lines = [line for line in re.split(rb"\r\n|\r|\n", raw) if line and not line.startswith((b"data", b"\xef\xbb\xbf"))]
    return f"{lines!r} {bare(api, body, found)}"
