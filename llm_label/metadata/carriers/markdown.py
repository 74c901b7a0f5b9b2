"""Markdown: the YAML mapping `AIGC` in the front matter at the file head (TC260-PG-20258A 6.5).

A block at another place is reported and never taken for the file's metadata: an article about the standard
quotes such blocks. YAML is read as events, with bounded size and depth, and aliases are not followed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from llm_label.metadata.aigc import FIELDS, KEY, Pairs, Reading, Record
from llm_label.metadata.aigc import read as read_record
from llm_label.metadata.carriers.carried import Carried, once

__all__ = ["KIND", "read", "write"]

KIND = "markdown"
LIMIT = 64 * 1024  # characters of one front matter
DEPTH = 16  # nested collections in it
BLOCKS = 8  # front matters in a row
STRAYS = 64  # AIGC blocks elsewhere in a text

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|$)")
_KEY_LINE = re.compile(rf"\s*[\"']?{KEY}[\"']?\s*:")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = yaml.resolver.Resolver()


@dataclass(frozen=True)
class _Entry:
    """One key of a front matter with its lines, counted from 0, last one excluded."""

    key: str
    value: object
    first: int
    last: int


class _Plain(str):
    """A YAML scalar without quotes that does not read as a string: its spelling, and what it reads as."""

    reads_as: str


def read(text: str) -> Carried:
    """Take the front matter's record out of a text; keys of others stay in it."""
    readings: list[Reading] = []
    problems: list[str] = []
    rest, head, unread = text, "", False
    for _ in range(BLOCKS):
        block = _front_matter(rest)
        if block is None:
            unread = _cut_off(rest, problems) or unread
            break
        before = len(problems)
        found, kept, after = _take(block, rest, problems)
        if found is None:  # front matter that is not ours to touch
            unread = unread or len(problems) > before
            break
        readings += found
        head, rest = head + kept, after
        if kept:
            break
    strays, body = _strays(rest, problems)
    readings_once = once(readings)
    if len(readings) > 1:
        problems.append(f"{len(readings)} AIGC blocks at the file head; GB 45438 6.1 c) allows one per file")
    kind = KIND if readings or strays or head else "text"
    return Carried(kind, (head + body,), readings_once, strays, tuple(problems), unread)


def write(text: str, record: Record) -> str:
    """Put the record at the head of a text that has no front matter; `read` gives the text back unchanged."""
    # Single quotes, as in the guide's example; YAML doubles a quote inside them.
    lines = [f"  {name}: '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in record.to_dict().items()]
    return f"---\n{KEY}:\n{''.join(lines)}---\n{text}"


def _front_matter(text: str) -> list[str] | None:
    """Return the lines of the front matter that opens a text, with both delimiters."""
    if not text.startswith("---"):
        return None
    lines: list[str] = []
    for line in _lines(text[:LIMIT]):
        lines.append(line)
        mark = line.rstrip()
        if len(lines) == 1 and mark != "---":
            return None
        if len(lines) > 1 and mark in ("---", "...") and (line != mark or len(text) <= LIMIT):
            return lines
    return None


def _cut_off(text: str, problems: list[str]) -> bool:
    """Tell whether a text opens with front matter for a record that never ends or is too large."""
    if not re.match(r"---[ \t]*\r?\n", text) or not any(_KEY_LINE.match(line) for line in _lines(text[:LIMIT])):
        return False
    problems.append(f"the front matter does not end within {LIMIT} characters; not read")
    return True


def _take(block: list[str], text: str, problems: list[str]) -> tuple[list[Reading] | None, str, str]:
    """Return readings (None: no record here), the part of the block that is kept, and the text after it."""
    after = text[sum(map(len, block)) :]
    try:
        entries, flow = _entries("".join(block[1:-1]))
    except (yaml.YAMLError, ValueError) as error:
        if any(_KEY_LINE.match(line) for line in block):
            problems.append(f"the front matter is not readable YAML: {_reason(error)}")
        return None, "", text
    ours = [entry for entry in entries if entry.key == KEY]
    if not ours:
        return None, "", text
    readings = [_reading(entry) for entry in ours]
    if len(ours) == len(entries):
        return readings, "", after
    if flow:  # keys share lines: nothing can be cut by line
        return readings, "".join(block), after
    cut = {line for entry in ours for line in range(entry.first, entry.last)}
    inner = [line for number, line in enumerate(block[1:-1]) if number not in cut]
    return readings, "".join([block[0], *inner, block[-1]]), after


def _reading(entry: _Entry) -> Reading:
    if not isinstance(entry.value, Pairs):
        return read_record(Pairs([(KEY, entry.value)]))
    unquoted = [
        f"{key} is not quoted and reads as {value.reads_as}"
        for key, value in entry.value
        if key in FIELDS and isinstance(value, _Plain)
    ]
    # Seven fields only: `AIGC: {AIGC: {...}}` would be a wrapper in a wrapper.
    reading = read_record(entry.value)
    return Reading(reading.record, (*unquoted, *reading.problems))


def _strays(text: str, problems: list[str]) -> tuple[tuple[Reading, ...], str]:
    """Find AIGC blocks away from the file head; return readings and the text without unfenced ones."""
    if f"{KEY}:" not in text:
        return (), text
    lines = list(_lines(text))
    written = [number for number, line in enumerate(lines) if line.strip()]
    strays: list[Reading] = []
    cut: set[int] = set()
    for count, (first, last, fenced) in enumerate(_blocks(lines)):
        if count == STRAYS:
            problems.append(f"more than {STRAYS} AIGC blocks away from the file head; the others are not read")
            break
        try:
            entries, _ = _entries("".join(lines[first + 1 : last]))
        except (yaml.YAMLError, ValueError):
            continue
        found = [r for r in (_reading(entry) for entry in entries if entry.key == KEY) if r.record]
        if not found:
            continue
        outer = first <= written[0] or last >= written[-1]
        where = "in a code fence" if fenced else "away from the file head"
        if fenced and not outer:
            problems.append(f"line {first + 1}: an AIGC block {where} is text, not metadata; ignored")
            continue
        problems.append(f"line {first + 1}: an AIGC block {where} is not the file's metadata")
        strays += found
        if not fenced:
            cut.update(range(first, last + 1))
    return once(strays), "".join(line for number, line in enumerate(lines) if number not in cut)


def _blocks(lines: list[str]) -> Iterator[tuple[int, int, bool]]:
    """Yield first and last line of every `---` or fenced block whose first line is the AIGC key."""
    fence: str | None = None
    opened = 0
    for number, line in enumerate(lines):
        mark = line.rstrip()
        if fence is None and (opening := _FENCE.match(line)):
            fence, opened = opening[1], number
        elif fence is not None:
            if mark.lstrip(" ").startswith(fence) and not mark.strip(" ").strip(fence[0]):
                if any(_is_key(inner) for inner in lines[opened + 1 : opened + 3]):
                    yield opened, number, True
                fence = None
        elif mark == "---" and number + 1 < len(lines) and _is_key(lines[number + 1]):
            last = _closing(lines, number + 2)
            if last is not None:
                yield number, last, False


def _closing(lines: list[str], start: int) -> int | None:
    size = 0
    for number in range(start, len(lines)):
        size += len(lines[number])
        if lines[number].rstrip() in ("---", "..."):
            return number
        if size > LIMIT:
            break
    return None


def _is_key(line: str) -> bool:
    return line.startswith(f"{KEY}:")


def _entries(block: str) -> tuple[list[_Entry], bool]:
    """Return the top-level entries of a YAML mapping and its flow style. Raises YAMLError, ValueError."""
    if len(block) > LIMIT:
        raise ValueError(f"more than {LIMIT} characters")
    # A fenced block is shown with its own `---` lines now and then.
    events = iter(yaml.parse(block, Loader=_LOADER))
    entries: list[_Entry] = []
    flow = False
    for event in events:
        if isinstance(event, yaml.MappingStartEvent):
            flow = bool(event.flow_style)
            while not isinstance(key_event := next(events), yaml.MappingEndEvent):
                key, _ = _node(key_event, events, 1)
                value, last = _node(next(events), events, 1)
                entries.append(_Entry(str(key), value, _line(key_event.start_mark), last))
        elif isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.AliasEvent):
            raise ValueError("not a mapping")
    return entries, flow


def _node(event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> tuple[object, int]:
    """Build one node; return it and the line after its last."""
    if depth > DEPTH:
        raise ValueError(f"nested deeper than {DEPTH}")
    if isinstance(event, yaml.ScalarEvent):
        inside = event.end_mark is not None and event.end_mark.column > 0  # a `|` scalar ends on the next line
        return _scalar(event), _line(event.end_mark) + inside
    if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
        return _collection(event, events, depth)
    return None, _line(event.end_mark) + 1  # an alias: not followed


def _collection(event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> tuple[object, int]:
    nodes: list[object] = []
    last = _line(event.start_mark) + 1
    while not isinstance(inner := next(events), yaml.MappingEndEvent | yaml.SequenceEndEvent):
        node, last = _node(inner, events, depth + 1)
        nodes.append(node)
    if getattr(event, "flow_style", False):
        last = _line(inner.end_mark) + 1
    if isinstance(event, yaml.SequenceStartEvent):
        return nodes, last
    return Pairs(zip(map(str, nodes[::2]), nodes[1::2], strict=True)), last


def _scalar(event: yaml.ScalarEvent) -> str:
    """Return the scalar as spelled; `_Plain` where YAML would not read it as a string."""
    tag = event.tag or (_RESOLVER.resolve(yaml.ScalarNode, event.value, (True, False)) if event.implicit[0] else "")
    kind = str(tag).rpartition(":")[2]
    if kind in ("", "str", "!"):
        return str(event.value)
    plain = _Plain(event.value)
    plain.reads_as = kind
    return plain


def _line(mark: "yaml.error.Mark | yaml._yaml.Mark | None") -> int:
    return 0 if mark is None else mark.line


def _reason(error: Exception) -> str:
    problem = " ".join(str(getattr(error, "problem", None) or error).split())
    mark = getattr(error, "problem_mark", None)
    return f"{problem} (line {mark.line + 2})" if mark is not None else problem


def _lines(text: str) -> Iterator[str]:
    """Split at CR, LF and CRLF only, line ends kept: U+2028 is a character like any other."""
    return (match[0] for match in _LINE.finditer(text) if match[0])
