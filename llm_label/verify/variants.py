"""The ways a text may have been changed on its way here without a word of it changing, undone as edits.

This list is part of every result's signature. Each variant that gives other token ids is one more try, and is
paid for in the correction; nothing else is ever normalised. In the order of likelihood; from `lf` to `quotes`
each takes in the ones before it, for a text that went through a word processor and a form has met them all. The
last one, `prose`, leaves out what others wrote (see `parts.py`).

Left out on purpose: blanks at either end of a text, for they spoil the contexts of a scheme's first tokens only,
and in a long text changes that stand alone (`SPARSE`). What they hide is worth less than a try costs.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import numpy as np

from llm_label.verify.parts import parts
from llm_label.verify.reading import Edit, Reading

__all__ = ["VARIANTS", "readings"]

AROUND = 1000  # characters on either side of an edit in which others are counted
FOREIGN = 0.1  # share of a text from which on its foreign parts are taken out: fewer hardly thin a mark out
SPARSE = 200  # characters for one edit; with fewer edits the text is as good as it is

Step: TypeAlias = Callable[[str], list[Edit]]

_HAN = "\u3400-\u9fff"
_IS_HAN = re.compile(f"[{_HAN}]")
_CHINESE = f"[{_HAN}\u3000-\u303f\uff01-\uff5e…]"
_LINE_ENDS = "\r\u0085\u2028\u2029"
_LINE_END = re.compile(rf"\r\n?|[{_LINE_ENDS}]")
# All blanks but U+3000, with which Chinese paragraphs begin.
_ODD = "\u00a0\u2002\u2003\u2005\u2007\u2009\u200a\u202f\u205f"
_HINTS = "\u00ad\u034f\u200b\u200e\u200f\u2060\ufeff"
_BLANK = re.compile(f"[{_ODD}{_HINTS}]")
_TRAILING = re.compile(r"(?<![ \t])[ \t]++(?=\n)")
_UNSAFE = re.compile(rf"[^\0-\x7f{_HAN}]+")
_QUOTES = {"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "‚": "'", "…": "..."}
_QUOTE = re.compile(f"[{''.join(_QUOTES)}](?!{_CHINESE})(?<!{_CHINESE}.)", re.DOTALL)
# Not the punctuation that Chinese is written with.
_WIDE = re.compile("[\uff01-\uff5e](?<![！（），：；？～])")
_ALL_WIDE = re.compile("[\u3000\uff01-\uff5e]")
_WIDE_WORD = re.compile("[０-９Ａ-Ｚａ-ｚ]")
# After a Han character or what ends a clause after it; the class comes first because that is searched fast.
_NARROW = re.compile(
    rf"[,!?:;()](?:(?<=[{_HAN}].)|(?<=[{_HAN}][,!?:;()”』」》].)|(?<=[{_HAN}][,!?:;()”』」》]{{2}}.)|(?<=\()(?=[{_HAN}]))"
    rf"|\.{{6}}(?:(?<=[{_HAN}].{{6}})|(?<=[{_HAN}][,!?].{{6}}))"
)


def _found(pattern: re.Pattern[str], text: str, needles: Iterable[str]) -> Iterator[re.Match[str]]:
    """Search a text that holds any of the strings that a match begins or ends with: to look for those is fast."""
    return pattern.finditer(text) if any(needle in text for needle in needles) else iter(())


def _line_ends(text: str) -> list[Edit]:
    """Undo CRLF: what forms send and editors on Windows save. Pages copied from a PDF have U+2028."""
    return [Edit(*found.span(), "\n") for found in _found(_LINE_END, text, _LINE_ENDS)]


def _blanks(text: str) -> list[Edit]:
    """Undo the no-break spaces and invisible break hints of web pages and editors."""
    return [Edit(*f.span(), "" if f[0] in _HINTS else " ") for f in _found(_BLANK, text, (*_ODD, *_HINTS))]


def _trailing(text: str) -> list[Edit]:
    """Undo the blanks at line ends that mail and terminals leave."""
    return [Edit(*found.span()) for found in _found(_TRAILING, text, (" \n", "\t\n"))]


def _nfc(text: str) -> list[Edit]:
    """Undo the decomposition of file systems, PDF files and some input methods."""
    if unicodedata.is_normalized("NFC", text):
        return []
    # Nothing composes with an ASCII or Han character that follows it: before those a text may be taken apart.
    spans = ((max(0, found.start() - 1), found.end()) for found in _UNSAFE.finditer(text))
    composed = ((start, end, unicodedata.normalize("NFC", text[start:end])) for start, end in spans)
    return [Edit(start, end, to) for start, end, to in composed if to != text[start:end]]


def _quotes(text: str) -> list[Edit]:
    """Undo the typographic quotes of word processors and content management systems, where they are not Chinese."""
    return [Edit(*found.span(), _QUOTES[found[0]]) for found in _found(_QUOTE, text, _QUOTES)]


def _half(text: str) -> list[Edit]:
    """Undo full-width letters and digits: East Asian forms and input methods widen them."""
    if text.isascii() or not _WIDE_WORD.search(text):
        return []
    wide = _WIDE if _IS_HAN.search(text) else _ALL_WIDE
    return [Edit(*f.span(), " " if f[0] == "\u3000" else chr(ord(f[0]) - 0xFEE0)) for f in wide.finditer(text)]


def _full(text: str) -> list[Edit]:
    """Undo NFKC, the usual cleaning of search engines and corpora: give Chinese its punctuation back."""
    if not _IS_HAN.search(text):
        return []
    return [Edit(*f.span(), "……" if f[0][0] == "." else chr(ord(f[0]) + 0xFEE0)) for f in _NARROW.finditer(text)]


def _prose(text: str) -> list[Edit]:
    """Take out what the model probably did not write, where that is a good part of the text."""
    cuts = [Edit(part.start, part.end) for part in parts(text)]
    return cuts if sum(cut.end - cut.start for cut in cuts) >= FOREIGN * len(text) else []


_CLEAN = (_line_ends, _blanks, _trailing, _nfc)

VARIANTS: dict[str, tuple[Step, ...]] = {
    "as_is": (),
    "lf": _CLEAN[:1],
    "blanks": _CLEAN[:3],
    "nfc": _CLEAN,
    "quotes": (*_CLEAN, _quotes),
    "half_width": (*_CLEAN, _half),
    "full_width": (*_CLEAN, _full),
    "prose": (_line_ends, _prose),
}

_ALWAYS = (_line_ends, _prose)  # no matter how few: nobody writes some line ends, and parts are long


def _near(edits: list[Edit], length: int) -> list[Edit]:
    """Leave out edits of a long text with few others around: each spoils the contexts of five tokens."""
    if length <= 2 * AROUND:
        return edits
    starts = np.array([edit.start for edit in edits], dtype=np.int64)
    count = np.searchsorted(starts, starts + AROUND) - np.searchsorted(starts, starts - AROUND)
    width = np.minimum(starts + AROUND, length) - np.maximum(starts - AROUND, 0)
    return [edit for edit, kept in zip(edits, count * SPARSE >= width, strict=True) if kept]


def readings(written: Reading) -> dict[str, Reading]:
    """Return every variant of a text that differs from all before it."""
    done: dict[tuple[Step, ...], Reading] = {(): written}
    found: dict[str, Reading] = {}
    for name, steps in VARIANTS.items():
        reading = written
        for count, step in enumerate(steps, 1):
            if steps[:count] not in done:
                edits = step(reading.text)
                done[steps[:count]] = reading.edited(edits if step in _ALWAYS else _near(edits, len(reading.text)))
            reading = done[steps[:count]]
        if all(reading.text != other.text for other in found.values()):
            found[name] = reading
    return found
