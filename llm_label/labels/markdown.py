"""Where inside running Markdown a paragraph of ours may stand.

A line automaton: state in, line in, state out. It follows the block structure of CommonMark 0.31 (containers,
lazy continuation, what may interrupt a paragraph) plus what renderers of model answers add: GFM tables, `$$`,
`\\[` and `\\begin{}` formulas, and `<think>`. A line ends at a line feed only.

Deliberately coarser than CommonMark: no link reference definitions (a label after a blank line is safe from
them), and HTML that opens inside a list item or quote is not followed beyond it.
"""

import re
from typing import NamedTuple

__all__ = ["BLANKS", "OPENING_MARKS", "START", "State", "room", "step"]

BLANKS = " \t\r"
"""What a line may hold and still be a blank line."""

OPENING_MARKS = ("```", "~~~", "$$", "<")
"""Without any of these a text opens no block that swallows what follows: `State.closer` stays empty."""

_QUOTE = 0  # a container; a list item is the positive width of its marker


class State(NamedTuple):
    """What is open after some lines."""

    containers: tuple[int, ...] = ()  # block quotes and list items, outermost first
    leaf: str = ""  # the open block inside them: text, heading, table, code, html, or one of _OPAQUE
    until: str = ""  # what ends an opaque leaf
    tag: str = ""  # the open HTML element whose content a reader may not see, or not as prose
    depth: int = 0  # how often `tag` is open
    tex: str = ""  # what ends the open TeX formula; to Markdown it is text, but some clients render it
    blank: bool = True  # the last line was blank, or there was none
    last: str = ""  # kind of the last block: list, quote or a leaf

    @property
    def closer(self) -> str:
        """The line that ends what would otherwise swallow every following paragraph; empty if nothing does.

        Inside a list item or a quote nothing does: an unindented paragraph ends those, whatever is open in them.
        """
        if self.leaf in _OPAQUE and not self.containers:
            return self.until
        return f"</{self.tag}>" if self.tag else ""

    @property
    def keeps(self) -> bool:
        """Whether the open block takes the next line for its own, whatever it says."""
        return self.leaf in _OPAQUE or self.leaf in ("html", "table")

    @property
    def prose(self) -> bool:
        """Whether the last line was ordinary text at top level."""
        return self.leaf == "text" and not self.containers and not self.tag


START = State()

_OPAQUE = frozenset({"fence", "raw", "math"})  # blank lines do not end these

_MARKER = re.compile(r" {0,3}(?:[-+*]|(\d{1,9})[.)])(?= |$)")
_FOOTNOTE = re.compile(r" {0,3}\[\^[^\]\s]+\]:")
_FENCE = re.compile(r" {0,3}(?:(`{3,})[^`]*|(~{3,}).*)$")
_HEADING = re.compile(r" {0,3}#{1,6}(?: |$)")
_SETEXT = re.compile(r" {0,3}(?:=+|-+) *$")
_RULE = re.compile(r" {0,3}(?:(?:- *){3,}|(?:_ *){3,}|(?:\* *){3,})$")
_DELIMITERS = re.compile(r" {0,3}(?=.*\|)\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *$")
_MATH = re.compile(r" {0,3}\$\$(?!.*\$\$)")
_TEX = re.compile(r" {0,3}\\(?:\[|begin\{(\w+\*?)\})")
_RAW = re.compile(
    r" {0,3}<(?:(!--)|(\?)|(!\[CDATA\[)|(![A-Za-z])|(pre|script|style|textarea|think(?:ing)?)(?=[\s>]|$))", re.I
)
_RAW_ENDS = ("-->", "?>", "]]>", ">")
_HTML = re.compile(r" {0,3}</?([A-Za-z][A-Za-z0-9-]*)(?=[\s/>]|$)")
_TAG_ALONE = re.compile(r" {0,3}</?(?!(?:pre|script|style|textarea)\b)[A-Za-z][A-Za-z0-9-]*(?:\s[^<>]*)?/?>\s*$")
_BLOCK_TAG = re.compile(
    "address|article|aside|base|blockquote|body|caption|center|col|colgroup|dd|details|dialog|dir|div|dl|dt"
    "|fieldset|figcaption|figure|footer|form|frame|frameset|h1|h2|h3|h4|h5|h6|head|header|hr|html|iframe"
    "|legend|li|link|main|menu|menuitem|nav|noframes|ol|optgroup|option|p|param|search|section|summary|table"
    "|tbody|td|tfoot|th|thead|title|tr|track|ul",
    re.I,
)
# Elements that fold, hide or lay out what stands in them, also across blank lines.
_KEEPER = re.compile("article|aside|blockquote|center|details|dialog|div|dl|form|ol|section|table|ul", re.I)
_WIDE_BLANKS = 8  # that may begin a paragraph
_DEEPEST = 32  # containers that one line may open; keeps a line of a million `>` cheap


def step(state: State, line: str) -> State:
    """Read one line, given without its line feed."""
    if not state.containers and (quick := _quick(state, line)):
        return quick
    line = line.rstrip("\r").expandtabs(4)
    containers, rest = _inside(state.containers, line)
    within = containers == state.containers
    blank = not rest.strip(" ")
    if within and state.leaf in _OPAQUE and not (state.leaf == "math" and _FENCE.match(rest)):
        ended = _ends(state, rest)
        return state._replace(leaf="" if ended else state.leaf, until="" if ended else state.until, blank=False)
    if blank:
        return state._replace(containers=containers, leaf="", until="", blank=True)
    leaf, until = (state.leaf if within else ""), ""
    if leaf != "html":
        lazy = state.leaf == "text" and not within
        opened, rest = _opened(rest, leaf)
        leaf, until = _leaf(rest, "" if opened else leaf, lazy and not opened)
        # A paragraph goes on through lines that lack the marks of its containers.
        containers = state.containers if leaf == "lazy" else containers + opened
        leaf = "text" if leaf == "lazy" else leaf
    kind = leaf if not containers else "quote" if containers[0] == _QUOTE else "list"
    return _followed(state, line, containers, leaf, until, kind)


def _quick(state: State, line: str) -> State | None:
    """Read the lines that most answers are made of, all at top level: blank, text, code in a fence."""
    if state.leaf == "fence":
        return None if state.until[0] in line else state
    if state.leaf in _OPAQUE:
        return None
    if not line:
        return State((), "", "", state.tag, state.depth, state.tex, True, state.last)
    if state.leaf not in ("", "text") or not line[0].isalpha():
        return None
    if "<" in line or "\\" in line:
        return _followed(state, line, (), "text", "", "text")
    return State((), "text", "", state.tag, state.depth, state.tex, False, "text")


def _followed(state: State, line: str, containers: tuple[int, ...], leaf: str, until: str, kind: str) -> State:
    """Give the state after `line`, with the elements and formulas that it opens and closes."""
    tag, depth = _tag(state, containers, leaf, line)
    return State(containers, leaf, until, tag, depth, _tex(state.tex, leaf, line), False, kind)


def room(state: State, head: str) -> bool | None:
    """Say whether a paragraph of ours may stand right before the line that begins with `head`.

    It may after a blank line at top level, if that line is not indented and does not take up a list, quote or
    table again. None: it takes more of the line to say; at most eleven characters do.
    """
    if not state.blank or state.leaf or state.tag or state.tex or not state.last or head[0] in BLANKS + "\n":
        return False
    if head[0].isspace():  # Chinese paragraphs begin with wide blanks, which Markdown takes for letters
        blanks = len(head) - len(head.lstrip())
        if blanks > _WIDE_BLANKS or "\n" in head[:blanks]:
            return False
        return True if blanks < len(head) else None
    if state.last == "list":
        if re.fullmatch(r"[-+*]|\d{1,9}[.)]?", head):
            return None
        return not re.match(r"(?:[-+*]|\d{1,9}[.)])\s", head)
    return not (state.last == "quote" and head[0] == ">" or state.last == "table" and head[0] == "|")


def _inside(containers: tuple[int, ...], line: str) -> tuple[tuple[int, ...], str]:
    """Split off the prefix by which `line` stays in the open containers: (those it stays in, rest)."""
    for index, width in enumerate(containers):
        text = line.lstrip(" ")
        indent = len(line) - len(text)
        if width == _QUOTE:
            if indent > 3 or not text.startswith(">"):
                return containers[:index], line
            line = text[1:].removeprefix(" ")
        elif text and indent < width:
            return containers[:index], line
        else:
            line = line[width:]
    return containers, line


def _opened(rest: str, leaf: str) -> tuple[tuple[int, ...], str]:
    """Split off the quote and list markers that `rest` begins with: (new containers, rest)."""
    opened: tuple[int, ...] = ()
    while len(opened) < _DEEPEST:
        text = rest.lstrip(" ")
        indent = len(rest) - len(text)
        if indent > 3:
            return opened, rest
        if text.startswith(">"):
            opened += (_QUOTE,)
            rest = text[1:].removeprefix(" ")
            continue
        if note := _FOOTNOTE.match(rest):
            opened += (4,)  # its text may be indented by four blanks, whatever its marker takes
            rest = rest[note.end() :].lstrip(" ")
            continue
        marker = _MARKER.match(rest)
        if not marker or _RULE.match(rest) or (leaf == "text" and not opened and _SETEXT.match(rest)):
            return opened, rest
        after = rest[marker.end() :]
        if leaf == "text" and not opened and (not after.strip(" ") or marker[1] not in (None, "1")):
            return opened, rest  # such an item cannot interrupt a paragraph
        spaces = len(after) - len(after.lstrip(" "))
        width = marker.end() + (spaces if 1 <= spaces <= 4 and after.strip(" ") else 1)
        opened += (width,)
        rest = rest[width:]
    return opened, rest


def _leaf(rest: str, leaf: str, lazy: bool) -> tuple[str, str]:
    """Name the block that `rest` begins or continues, and what ends it; `leaf` is the one that was open."""
    text = leaf == "text"
    if not rest.strip(" "):
        return "", ""
    if rest.startswith("    "):
        return ("lazy" if lazy else "text" if text else "code"), ""
    if fence := _FENCE.match(rest):
        return "fence", fence[1] or fence[2]
    if raw := _RAW.match(rest):
        return _raw(rest, raw)
    if _MATH.match(rest):
        return "math", "$$"
    if _HEADING.match(rest) or (text and _SETEXT.match(rest)):
        return "heading", ""
    if _RULE.match(rest):
        return "rule", ""
    html = _HTML.match(rest)
    fresh = not (lazy or leaf in ("text", "table"))
    if html and (_BLOCK_TAG.fullmatch(html[1]) or (fresh and _TAG_ALONE.match(rest))):
        return "html", ""
    if leaf == "table" or (text and _DELIMITERS.match(rest)):
        return "table", ""
    return ("lazy" if lazy else "text"), ""


def _raw(rest: str, raw: re.Match[str]) -> tuple[str, str]:
    """Give the HTML block that only its own end ends (CommonMark 4.6, kinds 1 to 5), open or already ended."""
    index = raw.lastindex or 0
    until = f"</{raw[5].lower()}>" if index == 5 else _RAW_ENDS[index - 1]
    ended = until in rest.lower()
    return ("closed", "") if ended else ("raw", until)


def _ends(state: State, rest: str) -> bool:
    if state.leaf == "fence":
        mark = rest.strip(" ")
        indent = len(rest) - len(rest.lstrip(" "))
        return indent <= 3 and len(mark) >= len(state.until) and not mark.strip(state.until[0])
    if state.leaf == "math":
        return rest.rstrip(" ").endswith("$$")
    return state.until in rest.lower()


def _tag(state: State, containers: tuple[int, ...], leaf: str, line: str) -> tuple[str, int]:
    """Follow the one open keeper element through `line`: (its name, how often it is open)."""
    tag, depth = state.tag, state.depth
    if leaf in _OPAQUE or leaf == "code" or "<" not in line:
        return tag, depth
    if not tag:
        opening = _HTML.match(line)
        if containers or not opening or not _KEEPER.fullmatch(opening[1]):
            return "", 0
        tag = opening[1].lower()
    for mark in re.findall(rf"</?{tag}(?=[\s/>]|$)", line, re.I):
        depth = max(depth + (-1 if mark[1] == "/" else 1), 0)
    return (tag, depth) if depth else ("", 0)


def _tex(until: str, leaf: str, line: str) -> str:
    """Follow the open TeX formula through `line`: what ends it."""
    if leaf in _OPAQUE or leaf == "code" or "\\" not in line:
        return until
    if not until:
        opening = _TEX.match(line)
        until = "" if not opening else f"\\end{{{opening[1]}}}" if opening[1] else "\\]"
    return "" if until in line else until
