"""Where a label landed, as real Markdown parsers see it: the second, independent way to the rules of `labels/`.

A labelled text has to parse to the tree of the same text without the label, plus one paragraph at top level. Only a
label between two sentences may part a paragraph, and then both halves have to join to the inline tree it had.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from llm_label.labels.labeler import Labeler, Labels, label

__all__ = ["PARSERS", "LABEL", "fault", "plan"]

LABEL = "本内容由AI生成"


def plan(*positions: str, after: int = 200) -> Labels:
    return Labels(positions, {"zh": LABEL}, "zh", None, after)


def github() -> MarkdownIt:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"])


def scholar() -> MarkdownIt:
    """What notebooks and papers are read with: front matter, footnotes, `$`, `$$` and `\\begin{}` formulas, lists of terms."""
    from mdit_py_plugins.amsmath import amsmath_plugin
    from mdit_py_plugins.deflist import deflist_plugin
    from mdit_py_plugins.dollarmath import dollarmath_plugin
    from mdit_py_plugins.footnote import footnote_plugin
    from mdit_py_plugins.front_matter import front_matter_plugin
    from mdit_py_plugins.tasklists import tasklists_plugin

    parser = github()
    for plugin in (front_matter_plugin, amsmath_plugin, footnote_plugin, tasklists_plugin, deflist_plugin):
        plugin(parser)
    dollarmath_plugin(parser, allow_blank_lines=True, double_inline=True)
    return parser


def brackets() -> MarkdownIt:
    """What chat windows render: formulas in `\\[ \\]` and `\\( \\)`."""
    from mdit_py_plugins.texmath import texmath_plugin

    parser = github()
    texmath_plugin(parser, delimiters="brackets")
    return parser


PARSERS: dict[str, Callable[[], MarkdownIt]] = {"github": github, "scholar": scholar, "brackets": brackets}


class Block(NamedTuple):
    kind: str
    tag: str
    level: int
    hidden: bool
    markup: str
    info: str
    content: str
    inline: tuple[tuple[str, str, str], ...]  # (kind, content, attributes) of the children, neighbouring text joined


def fault(parser: MarkdownIt, text: str, labels: Labels) -> str | None:
    """Say what is wrong with how `labels` were set into `text`; None: nothing."""
    labeler = Labeler(labels)
    labelled = labeler.feed(text) + labeler.finish()
    closed = text
    if "end" in labeler.applied:
        ended = label(text, plan("end"))
        closed = ended.removesuffix(f"\n\n{LABEL}")
        if not re.fullmatch(
            r"( |(\n(`{3,}|~{3,}|\$\$|-->|\?>|\]\]>|>|\\\]|\\end\{\w+\*?\}|</\w+>) )*)", closed[len(text) :]
        ):
            return f"closed by {closed[len(text) :]!r}"
        closed += "\n"
    before, after = blocks(parser, closed), blocks(parser, labelled)
    places = [at for at, block in enumerate(after) if is_label(after, at)]
    if len(places) != len(labeler.applied):
        return f"{len(places)} paragraphs are labels, and {len(labeler.applied)} were written"
    if not all(stands_alone(after[:at], after[at:]) for at in places):
        return "a label inside an element or formula"
    if labeler.applied == ("middle",) and not between_sentences(text, labelled):
        return "a label inside a character, word or number"
    if not any(bare(tree) == bare(before) for tree in without(after, places)):
        return difference(bare(before), bare(next(without(after, places))))
    return None


def blocks(parser: MarkdownIt, text: str) -> list[Block]:
    """Parse what clients show as the answer: reasoning is taken off first."""
    answer = re.sub(r"\A\s*(?:<(think|thinking)>.*?(?:</\1>\s*?(?=\S|\n|\Z)|\Z)\n*)+", "", text, flags=re.S)
    return [
        Block(t.type, t.tag, t.level, t.hidden, t.markup, t.info, t.content, inline(t.children))
        for t in parser.parse(answer)
    ]


def inline(children: Sequence[Token] | None) -> tuple[tuple[str, str, str], ...]:
    found: list[tuple[str, str, str]] = []
    for child in children or ():
        if child.type in ("text", "text_special", "softbreak"):
            text = child.content or ("\n" if child.type == "softbreak" else "")
            if found and found[-1][0] == "text":
                text = found.pop()[1] + text
            found.append(("text", text, ""))
        else:
            found.append((child.type, child.content, str(sorted(child.attrs.items()))))
    return tuple(found)


def is_label(tree: list[Block], at: int) -> bool:
    return tree[at].kind == "inline" and tree[at].content == LABEL and tree[at - 1][:3] == ("paragraph_open", "p", 0)


def stands_alone(head: list[Block], tail: list[Block]) -> bool:
    """Say whether no element that lays out its content, and no TeX formula, is open between `head` and `tail`."""
    elements = Elements()
    for block in head:
        if block.kind == "html_block":
            elements.feed(re.sub(r"<[a-z][^<>]*(?=\n</)", "", block.content))  # a tag that was cut off is text
    for opening, closing in ((r"^\s*\\\[", r"\\\]"), (r"^\s*\\begin\{", r"\\end\{")):
        opened, closed = (len(re.findall(mark, prose(head), re.M)) for mark in (opening, closing))
        if opened > closed and re.search(closing, prose(tail)):
            return False
    return not elements.open


def prose(tree: list[Block]) -> str:
    return "\n".join(block.content for block in tree if block.kind == "inline" and block.level == 1)


class Elements(HTMLParser):
    """Which elements are open that may span several blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in ("details", "div", "table", "section", "ul", "ol", "dl", "blockquote", "center"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            del self.open[self.open.index(tag) :]


def between_sentences(text: str, labelled: str) -> bool:
    """Say whether a label that parts a line stands between two sentences; one that parts none always does."""
    at = labelled.find(f"\n\n{LABEL}\n\n\n")
    if at < 0 or not text.startswith(labelled[:at]):
        return True
    before, after = text[:at], text[at]
    if unicodedata.category(after)[0] == "M" or after in "\u200d\ufe0f" or before.endswith("\u200d"):
        return False
    if re.search(r"[。！？｡](\s*|[\W_]*\s)$", before):
        return True
    return bool(re.search(r"[.!?؟۔।॥][\W_]*$", before)) and not after.isdigit() and not after.islower()


def without(tree: list[Block], places: list[int]) -> Iterator[list[Block]]:
    """Take the labels out; then also with the halves of each paragraph joined that a label stands in."""
    ours = {at + by for at in places for by in (-1, 0, 1)}
    yield [block for at, block in enumerate(tree) if at not in ours]
    for at in places:
        around = tree[at - 2 : at - 1] + tree[at + 2 : at + 3]
        if [block[:3] for block in around] == [("paragraph_close", "p", 0), ("paragraph_open", "p", 0)]:
            joined = join(tree[at - 3], tree[at + 3])
            gone = ours | set(range(at - 2, at + 4))
            yield [joined if other == at - 3 else block for other, block in enumerate(tree) if other not in gone]


def join(left: Block, right: Block) -> Block:
    parts = [*left.inline, *right.inline]
    middle = len(left.inline)
    if parts[middle - 1][0] == parts[middle][0] == "text":
        parts[middle - 1 : middle + 1] = [("text", parts[middle - 1][1] + parts[middle][1], "")]
    return left._replace(inline=tuple(parts))


def bare(tree: list[Block]) -> list[Block]:
    """Leave out of account white space between words, which the parting of a paragraph takes with it, and blank lines
    at the end of an open fence.
    """
    return [
        block._replace(
            content="" if block.kind == "inline" else block.content.rstrip("\n"),
            inline=tuple(
                (kind, re.sub(r"\s+", "", text) if kind == "text" else text, attributes)
                for kind, text, attributes in block.inline
                if kind != "text" or text.strip()
            ),
        )
        for block in tree
    ]


def difference(before: list[Block], after: list[Block]) -> str:
    for old, new in zip(before, after, strict=False):
        if old != new:
            return f"{old!r} became {new!r}"
    return f"{before[len(after) :]} went, {after[len(before) :]} came"
