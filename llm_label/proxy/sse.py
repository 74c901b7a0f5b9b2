"""Server-sent events as bytes, in and out, exactly (WHATWG HTML, "Server-sent events").

Lines end at CR, LF or CRLF and nowhere else: U+2028 inside JSON is legal text. An event keeps its raw bytes, so that
what nobody edits leaves as it came. Nothing here does I/O.
"""

import re
from typing import NamedTuple

from llm_label.errors import UpstreamError

__all__ = ["Event", "Parser", "frame"]

BOM = b"\xef\xbb\xbf"
CR = 13  # as a number it is looked for without a detour
_EOL = rb"(?:\r\n|\n|\r)"
_BLANKS = re.compile(rb"[\r\n]+")
# The end of a line, then an empty line. A CR before LF is half a line end, so the first may not stop there.
_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
# A line that begins with a byte order mark is no data line and means nothing, but openai-node and Anthropic's SDK for
# node take the mark off every line and read it; browsers take it off where it stands first in what they get.
_UNREAD = re.compile(rb"(?:^|(?<=[\r\n]))\xef\xbb\xbf[^\r\n]*(?:\r\n|\n|\r)")
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r|$)")


class Event(NamedTuple):
    """One event: its bytes as they came, its data lines joined by LF (None without a data line)."""

    raw: bytes
    data: bytes | None

    @property
    def only_comments(self) -> bool:
        """True when nothing in it reaches a client's parser: comments and white space."""
        return all(line.startswith(b":") or not line for line in re.split(_EOL, self.raw))

    def for_all(self) -> "Event":
        """Return the event without the lines that some clients read and others pass over."""
        return Event(_UNREAD.sub(b"", self.raw), self.data) if BOM in self.raw else self

    def with_data(self, data: bytes) -> bytes:
        """Return the event's bytes with other data; its other lines and its line ends stay."""
        if self.data and b"\n" not in self.data + data and self.raw.endswith(old := frame(self.data)):
            before = self.raw[: -len(old)]
            if not before or before.endswith(b"\n"):  # the one data line stands last, as nearly always
                return before + frame(data)
        out, placed = [], False
        for line, end in _LINE.findall(self.raw):
            if line == b"data" or line.startswith(b"data:"):
                if not placed:
                    space = b" " if line[5:6] == b" " else b""
                    out += [b"data:" + space + part + end for part in data.split(b"\n")]
                placed = True
            else:
                out.append(line + end)
        return b"".join(out)


class Parser:
    """Cut a byte stream into events, however it arrives: feed bytes, take events, then `end` or `finish`."""

    def __init__(self, max_event: int = 64 * 1024 * 1024) -> None:
        self._buffer = bytearray()  # the beginning of an event
        self._seen = 0  # no event ends before this offset of the buffer
        self._max_event = max_event
        self._start = True
        self._swallow_lf = False  # the last event ended in CR; a LF right after it belongs to that line end

    @property
    def between(self) -> bool:
        """Whether what was fed ends where an event ends."""
        return not (self._buffer or self._start or self._swallow_lf)

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes. Raises UpstreamError when one is larger than `max_event`."""
        if not (self._buffer or self._swallow_lf) and (data := _of_one_event(chunk)) is not None:
            self._start = False  # without a byte order mark
            return [Event(chunk, data)]
        if len(self._buffer) > self._max_event:
            raise UpstreamError(
                f"the upstream sent an event of more than {self._max_event} bytes", code="upstream_malformed"
            )
        buffer: bytes | bytearray = chunk
        if self._buffer:
            self._buffer += chunk
            buffer = self._buffer
        if self._start:
            while buffer.startswith(BOM):  # were one left, a client would take it off and read what we did not
                buffer = buffer[len(BOM) :]
            if BOM.startswith(buffer):
                self._keep(buffer, 0)
                return []
            self._start = False
        events: list[Event] = []
        at = 0
        if self._swallow_lf and buffer:
            self._swallow_lf = False
            if buffer[:1] == b"\n":
                events.append(Event(b"\n", None))
                at = 1
        self._keep(buffer, self._events(buffer, at, events))
        return events

    def end(self) -> list[Event]:
        """Return the last event where it lacks nothing but its blank line; half a line is dropped, as clients do."""
        complete = self._buffer.endswith((b"\n", b"\r"))
        return self.feed(bytes(self._buffer[-1:])) if complete else []

    def finish(self) -> bytes:
        """Return the bytes that no blank line ended."""
        rest, self._buffer = bytes(self._buffer), bytearray()
        return rest

    def _keep(self, buffer: bytes | bytearray, at: int) -> None:
        if buffer is self._buffer:
            del self._buffer[:at]
        else:
            self._buffer = bytearray(buffer[at:])
        self._seen = max(0, len(self._buffer) - 3)

    def _events(self, buffer: bytes | bytearray, at: int, events: list[Event]) -> int:
        end = _end(buffer, at, max(at, self._seen))
        while end is not None:
            raw = bytes(buffer[at:end])
            events.append(Event(raw, _data(raw)))
            at = end
            end = _end(buffer, at, at)
        self._swallow_lf = self._swallow_lf or (0 < at == len(buffer) and buffer.endswith(b"\r"))
        return at


def frame(data: bytes) -> bytes:
    """Return one event that holds `data`, which must be a single line."""
    return b"data: " + data + b"\n\n"


def _of_one_event(chunk: bytes) -> bytes | None:
    """Return the data of a chunk that is one event of one data line, named or not, which nearly every read is."""
    at = chunk.find(b"\n") + 1 if chunk.startswith(b"event:") else 0
    one = (
        chunk.startswith(b"data: ", at)
        and chunk.find(b"\n", at) == len(chunk) - 2
        and chunk.endswith(b"\n\n")
        and CR not in chunk
    )
    return chunk[at + 6 : -2] if one else None


def _end(buffer: bytes | bytearray, at: int, search_from: int) -> int | None:
    """Find where the event that starts at `at` ends; blank lines at once are an empty event."""
    if blanks := _BLANKS.match(buffer, at):
        return blanks.end()
    match = _BLANK.search(buffer, search_from)
    return match.end() if match else None


def _data(raw: bytes) -> bytes | None:
    if raw.startswith(b"data: "):  # the shape of nearly every event: one data line
        body = raw[6:].rstrip(b"\r\n")
        if b"\n" not in body and b"\r" not in body:
            return body
    lines = [line for line, _ in _LINE.findall(raw)]
    found = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:") or line == b"data"]
    return b"\n".join(found) if found else None
