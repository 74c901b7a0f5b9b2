"""The events of a stream: what they are about, and their order while one of them waits. No I/O here.

No event may be added to a response's stream, so an end label must go into a delta that is there. Which delta is a
part's last is known when the next event of that part arrives; until then that one delta waits, and what came behind
it waits too. Where nothing can follow any more (a start label alone that stands), nothing waits.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llm_label.proxy.jsonspan import Editor, Path
from llm_label.proxy.sse import Event
from llm_label.proxy.surfaces.reading import malformed
from llm_label.proxy.surfaces.responses_text import Text, reach

__all__ = ["Citation", "Held", "Part", "Piece", "Queue", "Ready", "kind_of", "place_of"]

# What an object without a type may not hold: nobody could say what it is.
TELLING = frozenset(["delta", "text", "part", "item", "response", "output", "choices", "content"])


class Held(Protocol):
    """An event on its way out."""

    def ready(self) -> bool:
        """Say whether nothing about it can change any more."""

    def render(self) -> bytes:
        """Return its bytes."""


@dataclass(slots=True)
class Ready:
    """An event that is as it will be."""

    raw: bytes

    def ready(self) -> bool:
        return True

    def render(self) -> bytes:
        return self.raw


@dataclass
class Part:
    """One part of a streamed message: its text, and the event that brought the last piece of it."""

    text: Text
    last: "Piece | None" = None

    def close(self) -> None:
        """End the text; what must follow it joins the last piece, which has waited for that."""
        rest = self.text.close()
        if rest and self.last is not None:
            self.last.goes += rest


@dataclass(slots=True)
class Piece:
    """An event that brings a piece of a text."""

    event: Event
    path: Path
    part: Part
    came: str
    goes: str

    def ready(self) -> bool:
        return self.part.last is not self or self.part.text.settled

    def render(self) -> bytes:
        if self.goes == self.came:
            return self.event.raw
        editor = Editor(self.event.data or b"")
        editor.set(self.path, self.goes, self.came)
        return self.event.with_data(editor.apply())


@dataclass(slots=True)
class Citation:
    """An event that brings an annotation of a text; labels before the cited place move it."""

    event: Event
    part: Part
    annotation: Any

    def ready(self) -> bool:
        return self.part.text.reaches(reach(self.annotation))

    def render(self) -> bytes:
        editor = Editor(self.event.data or b"")
        for name, index in self.part.text.moved(self.annotation):
            editor.set(("annotation", name), index)
        return self.event.with_data(editor.apply()) if editor.changed else self.event.raw


class Queue:
    """Events in their order; `put` one and take the bytes of those that may go."""

    def __init__(self, skip_through: int | None) -> None:
        self._skip_through = skip_through
        self._waiting: deque[tuple[Held, int | None]] = deque()

    def put(self, held: Held, number: int | None) -> bytes:
        self._waiting.append((held, number))
        return self.drain()

    def drain(self) -> bytes:
        out, waiting = [], self._waiting
        while waiting and waiting[0][0].ready():
            held, number = waiting.popleft()
            if self._skip_through is None or number is None or number > self._skip_through:
                out.append(held.render())
        return out[0] if len(out) == 1 else b"".join(out)


def kind_of(body: Mapping[str, Any]) -> str | None:
    """Return the type of an event. Raises UpstreamError for one without a type that may hold text."""
    kind = body.get("type")
    if isinstance(kind, str):
        return kind
    if body.get("error"):  # the error object of other APIs, which several engines send here too
        return "error"
    if body.keys() & TELLING:
        raise malformed("an event without a type")
    return None


def place_of(body: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return which part an event is about. Not by `item_id`: one gateway gives every event another one."""
    index, content = body.get("output_index"), body.get("content_index")
    return (index if type(index) is int else None, content if type(content) is int else None)
