"""What a model wrote in an input, with the way back to the characters of the input.

An input's texts lose what was added to them: HTTP heads and records (by their carrier), visible labels and other
makers' invisible marks (here). What is left joins up again, as it was when it was marked.
"""

import codecs
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from llm_label.labels.finder import Found, find
from llm_label.metadata.carriers import Carried, decode, open_carrier
from llm_label.verify.reading import Edit, Reading

__all__ = ["INVISIBLE", "Source", "Written", "is_blank", "open_source"]

# Other makers' fixed marks: facts, not secrets.
INVISIBLE = {"Windows AI text APIs": "\u200b\u034f\u2060\u200b"}

_INVISIBLE = re.compile("|".join(map(re.escape, INVISIBLE.values())))


@dataclass(frozen=True)
class Written:
    """One text: as it stands in the file (or by itself, where that spells it as JSON), and what was written."""

    original: str
    text: str  # as its carrier holds it, labels included
    labels: tuple[Found, ...]
    reading: Reading


@dataclass(frozen=True)
class Source:
    """An opened input: its carrier's findings and its texts."""

    carried: Carried
    texts: tuple[Written, ...]


def open_source(source: bytes | str, known: Collection[str]) -> Source:
    """Open an input; `known`: the wordings of our own labels. Raises InputError for what is no text."""
    carried = open_carrier(source)
    file = _readable(source) if isinstance(source, str) else decode(source)
    spelled = carried.kind in ("json", "sse")
    return Source(carried, tuple(_written(text if spelled else file, text, known) for text in carried.texts))


def is_blank(source: bytes | str) -> bool:
    """Tell whether an input holds nothing but white space: whoever gave it meant another one."""
    if isinstance(source, bytes):
        ink = source.removeprefix(codecs.BOM_UTF8).lstrip()
        source = "" if not ink else "x" if ink[0] < 0x80 else ink.decode(errors="replace")
    return not source.removeprefix("\ufeff").strip()


def _readable(text: str) -> str:
    """Replace surrogates without their other half, one for one, as carriers do: what is left has its place."""
    paired = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return paired if len(paired) == len(text) else text


def _written(original: str, text: str, known: Collection[str]) -> Written:
    labels = tuple(find(text, known))
    reading = Reading(original).edited(list(_taken_out(original, text))).edited(_cuts(text, labels))
    return Written(original, text, labels, reading)


def _cuts(text: str, labels: Sequence[Found]) -> list[Edit]:
    """Cut labels and others' invisible marks; of two that overlap, the first."""
    cuts: list[Edit] = []
    ranges = [(label.start, label.end) for label in labels] + [found.span() for found in _INVISIBLE.finditer(text)]
    for start, end in sorted(ranges):
        if not cuts or start >= cuts[-1].end:
            cuts.append(Edit(start, end))
    return cuts


def _taken_out(original: str, text: str) -> Iterator[Edit]:
    """Yield the edits that make the text out of its file: lines that the carrier took out, mostly at the head."""
    if original.endswith(text):
        if len(original) > len(text):
            yield Edit(0, len(original) - len(text))
        return
    lines, kept = original.splitlines(keepends=True), text.splitlines(keepends=True)
    starts = [0, *accumulate(map(len, lines))]
    n, cuts = 0, []
    for number, line in enumerate(lines):
        if n < len(kept) and line == kept[n]:
            n += 1
        else:
            cuts.append(Edit(starts[number], starts[number + 1]))
    if n == len(kept):
        yield from cuts
    else:  # not by whole lines: which of its characters are which is not known
        yield Edit(0, len(original), text)
