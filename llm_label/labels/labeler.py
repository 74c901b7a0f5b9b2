"""Put labels into text while it arrives: `feed` the pieces, then `finish`.

Two laws hold for every text x and every way of cutting it.

Cut law: the joined results of `feed` plus `finish` are `label(x)`. Positions are counted in characters of x;
neither a timer nor the border of a piece ever decides.

Strip law: if x carries none of our labels (`strip(x) == x`), then `strip(label(x)) == x`, byte for byte.
If x already begins with one of them, `label(x) == x`. If it only has one further down, the start label was sent
before that could be known; there is then no middle label if one stands where it would go, and no end label if
one is the last line. `present` tells.

Where labels go:

- start: before the first line that is not blank, after front matter and `<think>…</think>`.
- middle: at the first safe place after `middle_after` characters of the answer, which is before a line that
  follows a blank line at top level, and not behind a heading or a colon; from half as many characters more on
  also between two sentences of a paragraph. It needs text behind it: an answer that ends earlier carries an end label.
- end: as a paragraph of its own. A fence, formula, comment or element that is still open would swallow it and is
  closed first.

White space alone gets no label. Any other text gets one if any was planned: where a start label finds no place,
since the answer is all reasoning or front matter, it stands at the end.

Held back is what may still become a label of ours, a tag or front matter (see `opening.py`), and up to eleven
characters of a line that may take up a list again: never a sentence, and nothing at all once no decision is due.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from llm_label.errors import SettingsError
from llm_label.labels.imprint import at_end, before_line, cut_out, imprints, within_line
from llm_label.labels.markdown import BLANKS, room
from llm_label.labels.opening import Opening
from llm_label.labels.outline import Outline
from llm_label.labels.prose import Prose
from llm_label.labels.script import SCRIPT_OF
from llm_label.labels.wording import POSITIONS

__all__ = ["Labeler", "Labels", "label", "strip"]


@dataclass(frozen=True)
class Labels:
    """What to write where: decided by policy before the answer exists."""

    positions: tuple[str, ...]  # of POSITIONS
    texts: Mapping[str, str]  # language -> label text
    start: str  # language of the start label
    rest: str | None = None  # of the middle and end label; None: the answer's own, told by its script
    middle_after: int = 400  # characters of the answer
    issued: frozenset[str] = field(default_factory=frozenset)  # every label text ever written here
    deferring: bool = False  # the text should come labelled: it gets a label, behind it, only if it shows none

    def __post_init__(self) -> None:
        for position in self.positions:
            if position not in POSITIONS:
                raise SettingsError(f"label position {position!r} is unknown; allowed: {', '.join(POSITIONS)}")
        for language in (self.start, self.rest):
            if language is not None and language not in self.texts:
                raise SettingsError(f"no label text for language {language!r}; given: {', '.join(self.texts)}")

    def text(self, answer: str | None) -> str:
        """Give the middle or end label for an answer in the language `answer`, which was told by its script."""
        if self.rest is not None:
            return self.texts[self.rest]
        if answer is None or answer not in self.texts or _script(answer) == _script(self.start):
            answer = self.start  # Latin script reads as English, but a German question gets a German answer
        return self.texts[answer]

    @cached_property
    def deferred(self) -> "Labels":
        """The same for a text that should come labelled."""
        return replace(self, positions=("end",), deferring=True)

    @cached_property
    def known(self) -> frozenset[str]:
        return self.issued.union(self.texts.values())

    @cached_property
    def recognised(self) -> "_Known":
        return _Known(self.known)


class Labeler:
    """Label one answer; a stream and a whole answer alike."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._planned = set(labels.positions)
        self._written: dict[str, str] = {}  # position -> text
        self._known = labels.recognised
        self._opening = Opening()
        self._outline = Outline(tally=labels.rest is None)
        self._plain = False  # the current line is running text
        self._length = 0  # characters of the answer, up to what is held
        self._held = ""  # the beginning of a line, while it is undecided
        self._shown = False  # something but white space was seen
        self._present = False
        self._stage = self._open if self._planned else _pass

    @cached_property
    def _prose(self) -> Prose:
        return Prose()

    @property
    def applied(self) -> tuple[str, ...]:
        """The positions where a label stands; a middle label that fell to the end stands at `end`."""
        return tuple(position for position in POSITIONS if position in self._written)

    @property
    def written(self) -> frozenset[str]:
        """The label texts that were written."""
        return frozenset(self._written.values())

    @property
    def present(self) -> bool:
        """Whether the text came with a label of ours where one was due, so that none was added there."""
        return self._present

    @property
    def due(self) -> bool:
        """Whether `finish` may still write a label."""
        return self._stage != _pass

    def feed(self, text: str) -> str:
        """Return what may be sent now that `text` has arrived."""
        return self._stage(text)

    def finish(self) -> str:
        """Return the rest: what was held back, and the end label."""
        rest = self.settle()
        if self._stage != _pass:
            rest += self._end()
        self._stage = _pass
        return rest

    def settle(self) -> str:
        """Return what is held back, decided as if the text ended here; it may go on, in a place of its own."""
        rest = ""
        if self._stage == self._open:
            rest = self._follow(self._opening.close())
            if self._opening.found:
                self._stage = self._begin
                rest += self._begin(self._opening.take())
        if self._stage == self._begin:
            rest += self._decide_begin(self._known.holds(self._held))
        held, self._held = self._held, ""
        if not held:
            return rest
        if self._place(held + "\n"):
            rest += self._write_middle(False)
        if self._stage != self._seek:
            return rest + self._stage(held)
        self._plain = False  # the rest of this line is not looked at for a sentence's end
        self._length += len(held)
        return rest + self._follow(held)

    # Stages: what `feed` does, in the order in which an answer goes through them.

    def _open(self, text: str) -> str:
        """Look for the beginning of the answer."""
        passed = self._follow(self._opening.feed(text))
        if not self._opening.found:
            return passed
        self._stage = self._begin
        return passed + self._begin(self._opening.take())

    def _begin(self, text: str) -> str:
        """See whether the answer begins with a label."""
        self._held += text
        labelled = self._known.begins(self._held)
        return "" if labelled is None else self._decide_begin(labelled)

    def _decide_begin(self, labelled: bool) -> str:
        held, self._held = self._held, ""
        if labelled:
            self._present = True
            self._stage = _pass
            return held
        lead = self._write("start", self._opening.breaks < 2) if "start" in self._planned else ""
        self._go_on()
        return lead + self._stage(held)

    def _seek(self, text: str) -> str:
        """Look for the middle."""
        sent = []
        for piece in _pieces(text):
            sent.append(self._seek_in(piece) if self._stage == self._seek else self._stage(piece))
        return "".join(sent)

    def _follow(self, text: str) -> str:
        """Only follow the structure, which an end label must know."""
        self._outline.feed(text)
        self._shown = self._shown or bool(text) and not text.isspace()
        return text

    def _go_on(self) -> None:
        """Enter the stage for what is still planned."""
        if "middle" in self._planned:
            self._stage = self._seek
        else:
            self._stage = self._follow if "end" in self._planned else _pass

    # The middle label.

    def _seek_in(self, piece: str) -> str:
        """Look for the middle in a piece of one line."""
        if not self._outline.in_line:
            piece, self._held = self._held + piece, ""
            place = self._place(piece)
            if place is None:
                self._held = piece
                return ""
            if place:
                return self._write_middle(False) + self._stage(piece)
            if self._stage != self._seek:
                return self._stage(piece)
            self._begin_line()
        split = self._next_sentence(piece) if self._plain else None
        if split is None:
            self._length += len(piece)
            return self._follow(piece)
        return self._follow(piece[:split]) + self._write_middle(True) + self._stage(piece[split:])

    def _place(self, head: str) -> bool | None:
        """Say whether the middle is before the line that begins with `head`; None: it takes more of it."""
        if self._length < self._labels.middle_after or self._outline.announces:
            return False
        here = room(self._outline.state, head)
        labelled = self._known.begins(head) if here else False
        if labelled:
            self._present = True
            self._planned.discard("middle")
            self._go_on()
            return False
        return None if labelled is None else here

    def _begin_line(self) -> None:
        state = self._outline.state
        top = not state.containers or state.blank  # else the line may continue a list item or quote
        self._plain = top and not (state.tag or state.tex or state.keeps)
        if state.prose:
            self._prose.begin_line()
        else:
            self._prose.begin()

    def _next_sentence(self, piece: str) -> int | None:
        return self._prose.feed(piece, max(self._labels.middle_after * 3 // 2 - self._length, 0))

    def _write_middle(self, within: bool) -> str:
        self._planned.discard("middle")
        text = self._write("middle", within)
        self._go_on()
        return text

    def _write(self, position: str, within: bool) -> str:
        text = self._written[position] = self._text(position)
        return within_line(text) if within else before_line(text)

    def _text(self, position: str) -> str:
        if position == "start":
            return self._labels.texts[self._labels.start]
        return self._labels.text(self._outline.language())

    # The end label.

    def _end(self) -> str:
        due = self._planned & {"middle", "end"} or (self._planned and not self._written)
        if not due or not self._shown:
            return ""
        if self._outline.last_prose() in self._known:
            self._present = True
            return ""
        text = self._written["end"] = self._text("end")
        return at_end(self._outline.state, self._outline.line, text)


class _Known:
    """The label texts that are recognised while they arrive."""

    def __init__(self, texts: Collection[str]) -> None:
        self._texts = frozenset(texts)
        self._beginnings = frozenset(text[:end] for text in self._texts for end in range(len(text) + 1))
        self._longest = max(map(len, self._texts), default=0) + len("  \r")

    def __contains__(self, line: object) -> bool:
        return line in self._texts

    def holds(self, line: str) -> bool:
        """Say whether `line` is a label, blanks behind it aside."""
        return len(line) <= self._longest and line.rstrip(BLANKS) in self._texts

    def begins(self, text: str) -> bool | None:
        """Say whether the first line of `text` is a label; None while it may still become one."""
        line, feed, _ = text.partition("\n")
        if feed or len(line) > self._longest:
            return self.holds(line)
        return None if line in self._beginnings or line.rstrip(BLANKS) in self._texts else False


def label(text: str, labels: Labels) -> str:
    """Label a whole answer."""
    labeler = Labeler(labels)
    return labeler.feed(text) + labeler.finish()


def strip(text: str, known: Collection[str]) -> str:
    """Take out the labels that `label` wrote into an unlabelled text, given every label text ever issued."""
    return cut_out(text, imprints(text, known))


def _pass(text: str) -> str:
    return text


def _pieces(text: str) -> Iterator[str]:
    """Cut after each line feed."""
    return (match[0] for match in re.finditer(r"[^\n]*\n|[^\n]+", text))


def _script(language: str) -> str:
    return SCRIPT_OF.get(language, "latin")
