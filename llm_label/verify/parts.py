"""Parts of a text that its model probably did not write, or that carry no signal.

Front matter comes from a site generator, quotes from somebody else, and code leaves a model so little choice that a
watermark hardly shows in it. A reading without them may be clearer than the text, or have lost half of the mark: it
is one more reading and never the only one. A part may be cut wrongly and costs that try at most.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from llm_label.labels.markdown import START, State, step

__all__ = ["Kind", "Part", "parts"]

Kind: TypeAlias = Literal["front_matter", "quote", "code"]


class Part(NamedTuple):
    """text[start:end]; quotes and code in whole lines with their markers."""

    kind: Kind
    start: int
    end: int


LONG_QUOTE = 60  # characters of running text between quotation marks; what is shorter is a term or a line of dialogue
HEAD = 64 * 1024  # characters of one front matter

_QUOTE = 0  # the container of `labels.markdown` that is a block quote
_CODE_ENDS = ("</pre>", "</script>", "</style>", "</textarea>")
_INDENTED = re.compile(r"(?: {4,}[^\s<\\][^\n<\\]*\n)+")  # without what may open an element or a formula
_FRONT = re.compile(r"\ufeff?(?P<mark>---|\+\+\+)[ \t]*\r?\n")
_KEY = re.compile(r"[\"']?[A-Za-z_][\w .-]*[\"']?[ \t]*[:=]|#|\[")
_PARAGRAPH = re.compile(r"\n[ \t\r]*\n")
_LONG = f"{{{LONG_QUOTE},}}+"
_QUOTED = re.compile(
    rf"“[^“”]{_LONG}”|„[^„“]{_LONG}“|«[^«»]{_LONG}»|「[^「」]{_LONG}」|『[^『』]{_LONG}』"
    rf'|(?<![^\s(（\[])"(?=\S)[^"]{_LONG}(?<=\S)"(?!\w)'
)


def parts(text: str) -> list[Part]:
    """Return the parts of a Markdown or plain text in their order; none over another."""
    found: list[Part] = []
    front = _front_matter(text)
    if front:
        found.append(Part("front_matter", 0, front))
    prose = front
    for block in _blocks(text, front):
        found += _quoted(text, prose, block.start)
        found.append(block)
        prose = block.end
    return found + list(_quoted(text, prose, len(text)))


def _front_matter(text: str) -> int:
    """Return where the front matter that opens a text ends, 0 without one: YAML and TOML as sites write them."""
    opening = _FRONT.match(text)
    if not opening or not _KEY.match(text, opening.end()):
        return 0
    closing = re.compile(rf"^{re.escape(opening['mark'])}[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
    found = closing.search(text, opening.end(), HEAD)
    return found.end() if found else 0


def _blocks(text: str, start: int) -> Iterator[Part]:
    """Yield block quotes and code, neighbouring lines of one kind as one part."""
    state, at = START, start
    part: Part | None = None
    while at < len(text):
        more = _INDENTED.match(text, at) if _goes_on(state) else None
        if more:
            kind: Kind | None = "code" if state.leaf == "code" else None
            end = more.end()
        else:
            end = text.find("\n", at) + 1 or len(text)
            before, state = state, step(state, text[at:end].removesuffix("\n"))
            kind = _kind(before, state)
        if part and part.kind == kind and part.end == at:
            part = Part(part.kind, part.start, end)
        else:
            if part:
                yield part
            part = Part(kind, at, end) if kind else None
        at = end
    if part:
        yield part


def _goes_on(state: State) -> bool:
    """Tell whether indented lines are just more of what is open: most of a source file is."""
    return state.leaf in ("text", "code") and not state.containers and not state.tag


def _kind(before: State, after: State) -> Kind | None:
    """Name what the line between two states belongs to."""
    if _QUOTE in after.containers or "blockquote" in (before.tag, after.tag):
        return "quote"
    inside = len(after.containers) >= len(before.containers)  # else a container and all in it has ended
    if after.leaf == "code" or _is_code(after) or (inside and _is_code(before)):
        return "code"
    return None


def _is_code(state: State) -> bool:
    return state.leaf == "fence" or (state.leaf == "raw" and state.until in _CODE_ENDS)


def _quoted(text: str, start: int, end: int) -> Iterator[Part]:
    """Yield long quotations between marks in running text, none beyond its paragraph."""
    for paragraph in _paragraphs(text, start, end):
        for found in _QUOTED.finditer(text, *paragraph):
            yield Part("quote", *found.span())


def _paragraphs(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    for blank in _PARAGRAPH.finditer(text, start, end):
        yield start, blank.start()
        start = blank.end()
    yield start, end
