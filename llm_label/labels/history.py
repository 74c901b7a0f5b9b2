"""Take our own labels out of what clients send back.

A model that finds labels in its history begins to write them itself, and a prompt that differs from what the
engine produced misses the prefix cache. So what comes back is restored to the byte where the client kept it.

Clients rewrite answers: they trim them, cut them off, take the reasoning out, strip blanks at line ends, join
answers, change line ends or Unicode composition. What they did to the answer stays as they did it. Beyond repair is
only what they took away and nothing tells: a blank behind a line that we wrote to close an open block.
"""

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache

from llm_label.labels.imprint import Imprint, imprints
from llm_label.labels.markdown import BLANKS
from llm_label.labels.prose import lacks_blank

__all__ = ["clean_text"]

JOINED = 32  # answers in one turn, at most: a text that is all labels would else take the square of its length
_BLANK_LINES = re.compile(rf"(?:[{BLANKS}]*\n)+")
_MORE = "a"  # any text that could follow


def clean_text(text: str, known: Collection[str]) -> str:
    """Remove from an assistant's text the labels written by any version of ours.

    Labels inside the answer's own paragraphs, code and quotations stay.
    """
    spellings, shortest = _spellings(frozenset(known))
    if not any(label in text for label in shortest):
        return text
    if "\r\n" in text and "\n" not in text.replace("\r\n", ""):
        return clean_text(text.replace("\r\n", "\n"), known).replace("\n", "\r\n")
    blank = _BLANK_LINES.match(text)  # before front matter they would hide it
    begin = blank.end() if blank else 0
    answer = text[begin:]
    # An answer carries each label once; several that a client joined carry more.
    for _ in range(JOINED):
        if (cleaned := _clean(answer, spellings)) == answer:
            break
        answer = cleaned
    return text[:begin] + answer if answer else ""


@lru_cache(maxsize=64)
def _spellings(known: frozenset[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Give all labels composed and decomposed, and those of them that hold no other."""
    spelled = known.union(*({unicodedata.normalize(form, label) for form in ("NFC", "NFD")} for label in known))
    shortest = [label for label in spelled if not any(other in label for other in spelled - {label})]
    return spelled, tuple(shortest)


def _clean(text: str, known: frozenset[str]) -> str:
    """Take out one label at each position."""
    trimmed = text.rstrip()
    found = imprints(trimmed, known)
    if any(imprint.position == "end" for imprint in found):
        text = trimmed  # else white space at the end is the model's own
    elif trimmed[trimmed.rfind("\n") + 1 :] in known:  # cut off right behind a label
        longer = f"{trimmed}\n\n{_MORE}"
        cleaned = _cut_out(longer, imprints(longer, known))
        return text if cleaned == longer else cleaned.removesuffix(_MORE).rstrip()
    cleaned = _cut_out(text, found)
    return cleaned if any(imprint.position == "start" for imprint in found) else _without_start(cleaned, known)


def _without_start(text: str, known: frozenset[str]) -> str:
    """Take out a start label that was written right below reasoning, which the client took out."""
    line, _, rest = text.lstrip().partition("\n")
    below = _BLANK_LINES.match(rest) if line.rstrip(BLANKS) in known else None
    return rest[below.end() :] if below else text


def _cut_out(text: str, found: Collection[Imprint]) -> str:
    """Remove labels, and put back the blank between two sentences that was stripped as the end of a line."""
    for imprint in sorted(found, key=lambda imprint: -imprint.start):
        before, behind = text[: imprint.start], text[imprint.end :]
        parts = imprint.position == "middle" and text.startswith("\n\n", imprint.start)
        text = f"{before} {behind}" if parts and lacks_blank(before, behind) else before + behind
    return text
