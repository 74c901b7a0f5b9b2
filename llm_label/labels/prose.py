"""Where one sentence of running prose ends and the next begins.

Used only when an answer has no blank line for long. It rather misses a boundary than splits a link, a formula,
an emphasis, a quotation, an abbreviation or a number.
"""

import re

__all__ = ["Prose"]

_FULL_STOPS = frozenset("。！？")  # end a sentence whatever follows
_STOPS = frozenset(".!?")  # end one before white space or a CJK letter
_OPENERS = "([{（【「『《“«"
_CLOSERS = ")]}）】」』》”»"
_TOGGLES = '`$"*_~'
_QUOTES = frozenset('“‘「『《（(«"')
_CJK = re.compile("[\u3041-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]")
# How a line begins that is certainly text of a paragraph, even if it stood alone.
_PLAIN_LINE = re.compile(r"(?:\*\*)?[“‘「『《（(«\"]?\d{0,9} ?[^\W\d_]")
_ABBREVIATION = re.compile(
    "al|approx|bzw|ca|cf|co|corp|dept|dr|ed|eds|eq|etc|evtl|fig|figs|ggf|i[.]e|e[.]g|inc|jr|ltd|mr|mrs|ms|mt"
    "|nr|no|op|p|pp|prof|ref|sec|sen|sr|st|u[.]a|u[.]s|usw|v|vgl|vol|vs|z[.]b"
)


class Prose:
    """Follow the inline constructs of one paragraph, in pieces of any size."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start a new paragraph."""
        self._depth = 0
        self._open: set[str] = set()  # toggles that are on; `|` and `<` stay on to the end of the paragraph
        self._escaped = False
        self._previous = ""
        self._word = ""  # the letters right before a stop, dots included
        self._stop = ""  # the stop that ended a sentence, until something else follows
        self._spaced = False
        self.begin_line()

    def begin_line(self) -> None:
        """Start a new line of the same paragraph."""
        self._head = ""

    def feed(self, piece: str, start: int) -> int | None:
        """Read on; return the first index from `start` on before which a new sentence begins."""
        for index, character in enumerate(piece):
            if index >= start and self._stop and self._begins(character):
                return index
            self._read(character)
        return None

    def _begins(self, character: str) -> bool:
        letter = character.isalpha()
        if self._depth or self._open or self._escaped or not (letter or character in _QUOTES):
            return False
        if self._head and not _PLAIN_LINE.match(self._head):
            return False
        if self._stop in _FULL_STOPS:
            return True
        if not self._spaced:
            return self._stop != "." and _CJK.match(character) is not None
        return not character.islower()

    def _read(self, character: str) -> None:
        if len(self._head) < 16 and character != "\n":
            self._head += character
        if self._escaped:
            self._escaped = False
            self._stop = ""
        elif character.isspace():
            self._spaced = True
            self._word = ""
        else:
            self._read_mark(character)
        self._previous = character

    def _read_mark(self, character: str) -> None:
        again = character == self._previous and character in _TOGGLES  # `**` is one mark
        closes = again or character in _CLOSERS or character in self._open or character in "’'"
        if character in _FULL_STOPS or (character in _STOPS and self._ends(character)):
            self._stop, self._spaced = character, False
        elif self._spaced or not closes:
            self._stop = ""
        if not closes:
            self._word = (self._word + character)[-16:] if character.isalnum() or character == "." else ""
        self._escaped = character == "\\"
        if not again:
            self._balance(character)

    def _balance(self, character: str) -> None:
        if character in _OPENERS:
            self._depth += 1
        elif character in _CLOSERS:
            self._depth = max(self._depth - 1, 0)
        elif character in _TOGGLES:
            self._open ^= {character}
        elif character in "|<":
            self._open.add(character)

    def _ends(self, stop: str) -> bool:
        """Say whether this stop ends a sentence, and not a number, an initial or an abbreviation."""
        if stop != ".":
            return True
        word = self._word.lower()
        plain = len(word) > 1 or _CJK.match(word) is not None
        return plain and not word[-1].isdigit() and not word.endswith(".") and not _ABBREVIATION.fullmatch(word)
