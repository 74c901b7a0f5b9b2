"""Edit one value of a JSON text and keep every other byte: key order, numbers as written, white space.

A parser followed by a serialiser would change `1.0`, `1e5`, big integers and spacing. Here the values are found in the
bytes. The text must be valid JSON (a real parser has read it first). Nothing here does I/O.
"""

import json
import re
from collections.abc import Collection, Iterator
from operator import itemgetter
from typing import Any

import orjson

__all__ = ["Editor", "Path", "dumps", "find", "loads"]

Path = tuple[str | int, ...]
_Edit = tuple[int, int, bytes]  # from where, to where, what stands there afterwards

_SPAN = itemgetter(0, 1)  # of an edit; of those at one place the first comes first
_SPACE = re.compile(rb"[ \t\r\n]*")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR = re.compile(rb"[^ \t\r\n,\]}]+")
_STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)


def find(raw: bytes, path: Path, was: str | None = None) -> tuple[int, int] | None:
    """Return the span of the value at `path`, None when there is none. Of equal keys the last counts, as in parsers.

    `was`, the string that a parser read there, lets it be found without walking the whole text.
    """
    return Editor(raw).find(path, was)


def loads(raw: bytes) -> Any:
    """Parse JSON. Raises ValueError. Half a surrogate pair, which streams can hold, is read as Python reads it."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        if b"\\u" not in raw:
            raise
        # As text: of bytes it would guess the encoding.
        return json.loads(raw.decode(), parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    """Refuse `NaN` and `Infinity`, which Python reads and JSON does not have."""
    raise ValueError(f"{name} is not JSON")


def dumps(value: object) -> bytes:
    """Write compact JSON in one line."""
    try:
        return orjson.dumps(value)
    except TypeError:  # half a surrogate pair: only an escape can carry it
        return json.dumps(value, separators=(",", ":")).encode()


class Editor:
    """Collect edits of one JSON text, then `apply` them together."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self._edits: list[_Edit] = []
        # Where the members and items of each container lie: an answer with a thousand labels is walked once.
        self._inside: dict[Path, dict[str | int, tuple[int, int]]] = {}

    @property
    def changed(self) -> bool:
        return bool(self._edits)

    def find(self, path: Path, was: str | None = None) -> tuple[int, int] | None:
        """Do what the function does, for several paths of one text."""
        name = path[-1] if path else 0
        if isinstance(name, str):
            if was is not None and (span := _only(self.raw, name, was)):
                return span
            if _absent(self.raw, name):
                return None
        return self._walk(path)

    def set(self, path: Path, value: object, was: str | None = None) -> None:
        """Replace the value at `path`, or add it to its object, which must exist.

        A new member stands last in the whole text's object and first in one inside it: there the place is known
        without looking for the object's end. One that is empty takes no second one. `was`, the string that a parser
        read there, lets the place of an old one be found without walking the whole text.
        """
        text, name = dumps(value), path[-1]
        span = self.find(path, was)
        if span is not None:
            self._edits.append((*span, text))
            return
        start = self._start(path[:-1])
        if start is None or self.raw[start : start + 1] != b"{" or not isinstance(name, str):
            raise LookupError(f"no object at {path[:-1]!r}")
        inner = _skip_space(self.raw, start + 1)
        comma = b"" if self.raw[inner : inner + 1] == b"}" else b","
        member = dumps(name) + b":" + text
        last = len(path) == 1
        at = self.raw.rindex(b"}") if last else start + 1
        self._edits.append((at, at, comma + member if last else member + comma))

    def delete(self, parent: Path, names: Collection[str]) -> None:
        """Take the members called `names` out of the object at `parent`, with one comma each and nothing else."""
        span = self._walk(parent)
        if span is None:
            return
        names = frozenset(names)  # as many as a client likes
        at = _skip_space(self.raw, span[0] + 1)  # past the brace
        kept_end: int | None = None
        for name, (_, end) in _members(self.raw, span[0]):
            after = _past_comma(self.raw, end)
            last = self.raw[after : after + 1] == b"}"
            if name not in names:
                kept_end = end
            elif not last:
                self._edits.append((at, after, b""))
            elif kept_end is None:
                self._edits.append((at, end, b""))
            else:  # its comma stands behind the last member that stays
                self._cut(kept_end, end)
            at = after

    def _cut(self, start: int, end: int) -> None:
        self._edits = [edit for edit in self._edits if not start <= edit[0] < end]
        self._edits.append((start, end, b""))

    def append(self, path: Path, value: object) -> None:
        """Add an item to the end of the list at `path`, which must exist."""
        span = self._walk(path)
        if span is None or self.raw[span[0] : span[0] + 1] != b"[":
            raise LookupError(f"no list at {path!r}")
        ends = [end for _, (_, end) in _items(self.raw, span[0])]
        at = ends[-1] if ends else span[1] - 1
        self._edits.append((at, at, (b"," if ends else b"") + dumps(value)))

    def drop(self, path: Path, indices: Collection[int]) -> None:
        """Take items out of the list at `path`, each with one comma. Items that stay may be edited as well."""
        indices = frozenset(indices)
        span = self._walk(path)
        spans = [span for _, span in _items(self.raw, span[0])] if span else []
        kept = next((i for i in range(len(spans)) if i not in indices), len(spans))
        if kept and spans:
            end = spans[kept][0] if kept < len(spans) else spans[-1][1]
            self._edits.append((spans[0][0], end, b""))
        for i in range(kept + 1, len(spans)):
            if i in indices:
                self._edits.append((spans[i - 1][1], spans[i][1], b""))

    def _start(self, path: Path) -> int | None:
        """Return where the value at `path` begins."""
        if not path:
            return _skip_space(self.raw, 0)
        start = _sole(self.raw, path[0]) if len(path) == 1 and isinstance(path[0], str) else None
        if start is not None:
            return start
        span = self._walk(path)
        return span[0] if span else None

    def _walk(self, path: Path) -> tuple[int, int] | None:
        """Find a value by walking there, and remember what was walked over."""
        if not path:
            start = _skip_space(self.raw, 0)
            return start, _skip_value(self.raw, start)
        container = path[:-1]
        if container not in self._inside:
            span = self._walk(container)
            inside: dict[str | int, tuple[int, int]] = {}
            if span is not None:
                inside.update(_members(self.raw, span[0]))  # of equal keys the last counts
                inside.update(_items(self.raw, span[0]))
            self._inside[container] = inside
        return self._inside[container].get(path[-1])

    def apply(self) -> bytes:
        """Return the edited text; spans must not overlap."""
        out, at = [], 0
        for start, end, text in sorted(self._edits, key=_SPAN):
            out += [self.raw[at:start], text]
            at = end
        out.append(self.raw[at:])
        return b"".join(out)


def _absent(raw: bytes, name: str) -> bool:
    """Say for sure that no key is called `name`: neither as it is nor spelt with escapes."""
    return raw.find(dumps(name)) < 0 and not _respelt(raw, name)


def _respelt(raw: bytes, name: str) -> bool:
    """Say whether a key in `raw` may be `name`, spelt otherwise than `dumps` spells it (RFC 8259, 7)."""
    escape = b"\\u00" if name.isascii() and "/" not in name else b"\\"
    return raw.find(escape) >= 0  # `in` would try the bytes as a number first, and raise


def _only(raw: bytes, name: str, was: str) -> tuple[int, int] | None:
    """Find the value of a key that no other key is called, if it is the string `was`."""
    start = _sole(raw, name)
    if start is None:
        return None
    text = dumps(was)  # as most servers write it
    if raw.startswith(text, start):
        return start, start + len(text)
    end = _skip_value(raw, start)
    return (start, end) if loads(raw[start:end]) == was else None


def _sole(raw: bytes, name: str) -> int | None:
    """Find the value of a key that is there, at whatever depth, if no other key is called so.

    A quoted name before a colon is a key, or the end of a longer one with a quote in it: then there are two.
    """
    quoted = dumps(name)
    at = raw.find(quoted + b":")
    if at < 0 or _respelt(raw, name):
        return None
    behind = at + len(quoted) + 1
    if raw.count(quoted) > 1 and (
        raw.find(quoted + b":", behind) >= 0
        or any(quoted + blank in raw for blank in (b" ", b"\n", b"\r", b"\t"))  # it may be a key as well
    ):
        return None
    return _skip_space(raw, behind)


def _members(raw: bytes, at: int) -> Iterator[tuple[str, tuple[int, int]]]:
    if raw[at : at + 1] != b"{":
        return
    at = _skip_space(raw, at + 1)
    while raw[at : at + 1] != b"}":
        end = _skip_value(raw, at)
        name = loads(raw[at:end])
        start = _skip_space(raw, _skip_space(raw, end) + 1)  # past the colon
        end = _skip_value(raw, start)
        yield name, (start, end)
        at = _past_comma(raw, end)


def _items(raw: bytes, at: int) -> Iterator[tuple[int, tuple[int, int]]]:
    if raw[at : at + 1] != b"[":
        return
    at, index = _skip_space(raw, at + 1), 0
    while raw[at : at + 1] != b"]":
        end = _skip_value(raw, at)
        yield index, (at, end)
        at, index = _past_comma(raw, end), index + 1


def _past_comma(raw: bytes, at: int) -> int:
    at = _skip_space(raw, at)
    return _skip_space(raw, at + 1) if raw[at : at + 1] == b"," else at


def _skip_space(raw: bytes, at: int) -> int:
    match = _SPACE.match(raw, at)
    return match.end() if match else at


def _skip_value(raw: bytes, at: int) -> int:
    first = raw[at : at + 1]
    if first not in (b"{", b"["):
        match = (_STRING if first == b'"' else _SCALAR).match(raw, at)
        if match is None:
            raise ValueError(f"not JSON at byte {at}")
        return match.end()
    depth = 0
    for match in _STRUCTURE.finditer(raw, at):
        mark = match.group()
        if mark in (b"{", b"["):
            depth += 1
        elif mark in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return match.end()
    raise ValueError(f"not JSON: no end for byte {at}")
