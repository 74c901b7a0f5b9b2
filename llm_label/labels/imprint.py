"""How a label is set into a text, and the exact way back.

Whatever is written here can be read off the text itself, so that taking it out restores every byte:

    before a line    LABEL ⏎ ⏎                    at the beginning and after blank lines
    within a line    ⏎ ⏎ LABEL ⏎ ⏎ ⏎              three line feeds behind it tell that it has two before it
    at the end       ⏎ ⏎ LABEL                    preceded, for each block that would swallow the label, by
                     ⏎ CLOSER ␠                   its closing line, told from a model's own by one blank

Where the text itself ends in a closing line with blanks behind it, it gets one blank more as an escape.
A label counts only where one may have been written: as the answer's first line, as a paragraph of its own at
top level, as the last line; at most once each.
"""

from collections.abc import Collection
from itertools import accumulate
from typing import NamedTuple

from llm_label.labels.markdown import BLANKS, OPENING_MARKS, START, State, room, step
from llm_label.labels.opening import Opening
from llm_label.labels.outline import announces

__all__ = ["Imprint", "at_end", "before_line", "cut_out", "imprints", "within_line"]


class Imprint(NamedTuple):
    """A label found in a text, with all that was written around it: `text[start:end]`."""

    position: str
    label: str
    start: int
    end: int


def before_line(label: str) -> str:
    return f"{label}\n\n"


def within_line(label: str) -> str:
    return f"\n\n{label}\n\n\n"


def at_end(state: State, line: str, label: str) -> str:
    """Give what to append to a text whose last line is `line`, read in `state`."""
    closing = " " if _blanks_behind_closer(state, line) else ""
    state = step(state, line)
    while closer := state.closer:
        closing += f"\n{closer} "
        state = step(state, closer)
    return f"{closing}\n\n{label}"


def imprints(text: str, known: Collection[str]) -> tuple[Imprint, ...]:
    """Find the labels that stand in `text` exactly as the three functions above write them."""
    known = frozenset(known)
    if known.isdisjoint(text.split("\n")):  # spares nearly every text the closer look
        return ()
    found = []
    for find in (_find_start, _find_middle, _find_end):
        if imprint := find(text, known):
            found.append(imprint)
            text = text[: imprint.start] + text[imprint.end :]
    return _in_place(found)


def cut_out(text: str, found: Collection[Imprint]) -> str:
    """Remove what `imprints` found, so that both sides rejoin as they were written."""
    for imprint in sorted(found, key=lambda imprint: -imprint.start):
        text = text[: imprint.start] + text[imprint.end :]
    return text


def _in_place(found: list[Imprint]) -> tuple[Imprint, ...]:
    """Turn places in a text without the labels before them into places in the whole text."""
    placed: list[Imprint] = []
    for imprint in found:
        start, length = imprint.start, imprint.end - imprint.start
        for before in placed:  # in ascending order
            if before.start <= start:
                start += before.end - before.start
        placed.append(imprint._replace(start=start, end=start + length))
    return tuple(placed)


def _find_start(text: str, known: Collection[str]) -> Imprint | None:
    opening = Opening()
    begin = len(opening.feed(text)) + len(opening.close())
    label, end = _line_at(text, begin)
    if label not in known:
        return None
    if text.startswith("\n\n", end) and _line_at(text, end + 2)[0].strip():
        return Imprint("start", label, begin, end + 2)
    # Only an answer right below a block gets its label within a line: it has no blank line of its own there.
    below = opening.after_block and 2 <= opening.breaks < 4 and text.endswith("\n\n", 0, begin)
    if below and text.startswith("\n\n\n", end) and _line_at(text, end + 3)[0].strip():
        return Imprint("start", label, begin - 2, end + 3)
    return None


def _find_middle(text: str, known: Collection[str]) -> Imprint | None:
    lines = text.split("\n")
    candidates = [at for at, line in enumerate(lines[:-1]) if line in known]
    if not candidates:
        return None
    state, last, begin = START, "", 0
    for line in lines[: candidates[-1] + 1]:
        end = begin + len(line)
        if line in known and room(state, line):
            # Within a line a label may have been an end label first, with text behind it after all.
            # Whatever that text begins with: no other form has three line feeds behind its label.
            if text[end + 3 :].strip() and text.endswith("\n\n", 0, begin) and text.startswith("\n\n\n", end):
                return Imprint("middle", line, begin - 2, end + 3)
            if _begins_line(text, end + 2) and text[end + 1] == "\n" and not announces(state, last):
                return Imprint("middle", line, begin, end + 2)
        state, last, begin = step(state, line), line if line.strip(BLANKS) else last, end + 1
    return None


def _begins_line(text: str, place: int) -> bool:
    """Say whether an unindented line that is not blank begins at `place`."""
    return text[place - 1 : place] == "\n" and text[place : place + 1] not in ("", "\n", *BLANKS)


def _find_end(text: str, known: Collection[str]) -> Imprint | None:
    label = text[text.rfind("\n") + 1 :]
    body = text.removesuffix(f"\n\n{label}")
    if label not in known or body == text or not body.strip():
        return None
    if not any(mark in body for mark in OPENING_MARKS):
        return Imprint("end", label, len(body), len(text))
    lines = body.split("\n")
    states = list(accumulate(lines, step, initial=START))
    if states[-1].closer:
        return None
    while (closer := states[-2].closer) and lines[-1] == f"{closer} ":
        body = body[: -len(lines.pop()) - 1]
        states.pop()
    if _blanks_behind_closer(states[-2], lines[-1]):
        body = body[:-1]
    return Imprint("end", label, len(body), len(text))


def _blanks_behind_closer(state: State, line: str) -> bool:
    closer = state.closer
    return bool(closer) and line != closer and line.rstrip(" ") == closer


def _line_at(text: str, begin: int) -> tuple[str, int]:
    """Give the line that begins at `begin`, and where it ends."""
    end = text.find("\n", begin)
    end = len(text) if end < 0 else end
    return text[begin:end], end
