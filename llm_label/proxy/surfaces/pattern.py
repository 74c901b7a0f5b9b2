"""Know the event again that nearly every event of a stream is: the one before, with another text.

A server writes the events of one answer after one pattern. Bytes that are those of an event which was parsed and
understood, but for what stands in the string that holds the text (and in a running number, or padding), mean the same
with another text; to parse them would show nothing new. Exact, since a string is known again only if it stands there as
it is: without an escape or a control character, and without a quote, which ends it. Nothing here does I/O.
"""

import re
from collections.abc import Collection

from llm_label.proxy.jsonspan import Path, find
from llm_label.proxy.sse import Event

__all__ = ["LESSONS", "Pattern"]

LESSONS = 8  # patterns that are learnt for one answer; events that change in other places would cost one each
_DATA = re.compile(rb"(?:\A|[\r\n])data: ?\Z")

_BACKSLASH = 92
_NUMBER = re.compile(rb"0|[1-9][0-9]{0,14}")
# The bytes since the byte that ended the last thing that changes, the byte that ends this one, and what it is: text,
# string, number.
Hole = tuple[bytes, bytes, str]


class Pattern:
    """The bytes around what changes, and the index of the choice or block that the text belongs to."""

    def __init__(self, holes: list[Hole], rest: bytes, data: slice, index: int) -> None:
        self.index = index
        self._holes, self._rest, self._data = holes, rest, data

    @classmethod
    def of(cls, event: Event, path: Path, text: str, index: int, changing: Collection[str] = ()) -> "Pattern | None":
        """Learn from an event with `text` at `path`, and top-level members that change; None: it cannot be learnt."""
        raw, data = event.raw, event.data or b""
        start = len(raw.rstrip(b"\r\n")) - len(data)  # nothing but its line ends may stand behind the one data line
        alone = start >= 5 and raw[start:].startswith(data) and _DATA.search(raw, 0, start)
        if not alone or not raw.endswith(b"\n") or (span := find(data, path, text)) is None:
            return None
        spans = [(*span, "text")]
        for name in changing:
            if there := find(data, (name,)):
                spans.append((*there, "string" if data[there[0] : there[0] + 1] == b'"' else "number"))
        holes, at = [], 0
        for first, end, kind in sorted(spans):
            quote = kind != "number"  # a string keeps its quotes
            stop = start + end - quote
            holes.append((raw[at : start + first + quote], raw[stop : stop + 1], kind))
            at = stop + 1
        return cls(holes, raw[at:], slice(start, start + len(data) - len(raw)), index)

    def read(self, raw: bytes) -> tuple[str, int | None] | None:
        """Return the text and the running number of an event of this pattern; None: it has to be parsed."""
        text, number, rest = "", None, raw
        for before, stop, kind in self._holes:
            behind = rest.removeprefix(before)
            if len(behind) == len(rest):
                return None
            piece, found, rest = behind.partition(stop)
            if not found:
                return None
            if kind == "number":
                if not _NUMBER.fullmatch(piece):
                    return None
                number = int(piece)
            elif (plain := _plain(piece)) is None:
                return None
            elif kind == "text":
                text = plain
        return (text, number) if rest == self._rest else None

    def event(self, raw: bytes) -> Event:
        """Return the event that bytes of this pattern are."""
        return Event(raw, raw[self._data])


def _plain(piece: bytes) -> str | None:
    """Return what a JSON string says that stands in its text as it is."""
    if _BACKSLASH in piece:
        return None
    try:
        text = piece.decode()
    except UnicodeDecodeError:
        return None
    return text if text.isprintable() else None
