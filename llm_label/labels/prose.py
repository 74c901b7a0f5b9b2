"""Where one sentence of running prose ends and the next begins.

Used only when an answer has no blank line for long. It rather misses a boundary than splits a link, a formula,
an emphasis, a quotation, an abbreviation or a number: what it cannot read closes the paragraph to it.
"""

import re
import unicodedata

__all__ = ["Prose", "lacks_blank"]

_CJK = re.compile("[\u3041-\u30fa\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3]")
_FULL_STOPS = frozenset("。！？｡")  # end a sentence whatever follows
_STOPS = frozenset(".!?؟۔।॥።։။។")  # end one before white space or a CJK letter
# Brackets, quotation marks, and what sets the direction of text (UAX 9): a paragraph of its own would end that.
_OPENERS = frozenset("([{（【「『《“«〈〔\u202a\u202b\u202d\u202e\u2066\u2067\u2068")
_CLOSERS = frozenset(")]}）】」』》”»〉〕\u202c\u2069")
_UNSEEN = frozenset("\u200b\u200e\u200f\u061c\ufeff")
_MARKS = frozenset("`*_~$")  # a run of one of these is read once the character behind it is known
_STARTS = frozenset('“‘「『《（(«"¿¡')
_CODE, _QUOTE, _LOST = "`", '"', "?"
# Runs that need no closer look than their first character does; any other character is a piece of its own.
_PIECE = re.compile(r"[^\W\d_]+(?:[ ,，、][^\W\d_]+)*|.", re.S)
_SENTENCE_END = re.compile(f"[{re.escape(''.join(_FULL_STOPS | _STOPS))}][{re.escape(''.join(_CLOSERS))}\"'’`*_~]*$")
_HEAD = 24
# How a line begins that is certainly text of a paragraph, even if it stood alone.
_PLAIN_LINE = re.compile(
    r"[\u3000\u200d-\u200f\u202a-\u202e\u2066-\u2069\ufe0f\U0001f000-\U0001faff]{0,8}"  # blanks, directions, emoji
    r"(?:\*{1,3}(?! ))?[“‘「『《（(«\"【〈〔¿¡]?\d{0,9} ?[^\W\d_]"
)
_ABBREVIATION = re.compile(
    "al|approx|aug|bzw|ca|capt|cf|co|col|corp|dec|dept|dr|ed|eds|eq|etc|evtl|feb|fig|figs|gen|ggf|gov|i[.]e|e[.]g"
    "|inc|jan|jr|lt|ltd|mr|mrs|ms|mt|nov|nr|no|oct|op|p|pp|prof|ref|rep|rev|sec|sen|sept|sr|st|u[.]a|u[.]s|usw|v"
    "|vgl|vol|vs|z[.]b"
)


class Prose:
    """Follow the inline constructs of one paragraph, in pieces of any size."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start a new paragraph."""
        self._depth = 0  # of brackets
        self._open: dict[str, int] = {}  # marks that are on -> how many of them; _LOST stays on
        self._run = ("", 0, " ")  # the marks just read: which, how many, the character before them
        self._escaped = False
        self._last = " "  # the last character
        self._word = ""  # the letters right before a stop, dots included
        self._stop = ""  # the stop that ended a sentence, until something else follows
        self._closed = self._quoted = False  # something closed behind that stop; a quotation did
        self._spaced = False
        self._blanks = 0  # at the end
        self.begin_line()

    def begin_line(self) -> None:
        """Start a new line of the same paragraph."""
        self._head = ""

    def feed(self, text: str, start: int) -> int | None:
        """Read on; return the first index from `start` on before which a new sentence begins."""
        for match in _PIECE.finditer(text):
            piece = match[0]
            if self._run[0] and piece != self._run[0]:
                self._end_run(piece[0])
            if self._stop and match.start() >= start and self._begins(piece[0]):
                return match.start()
            self._read(piece)
        return None

    def _begins(self, character: str) -> bool:
        if self._depth or self._open or self._escaped or not (character.isalpha() or character in _STARTS):
            return False
        if self._head and not _PLAIN_LINE.match(self._head):
            return False
        if not self._spaced:  # behind a closing mark the sentence may go on: “好。”他说
            return _adjoins(self._stop, character) and not self._closed
        if self._stop in _FULL_STOPS:
            return True
        if self._quoted and self._stop != ".":
            return False  # “Really?” John asked.
        return not character.islower()

    def _read(self, piece: str) -> None:
        if len(self._head) < _HEAD and piece != "\n":
            self._head = (self._head + piece)[:_HEAD]
        code = _CODE in self._open
        if self._escaped:
            self._read_escaped(piece)
        elif piece in _MARKS and (piece == _CODE or not code):
            self._run = (piece, self._run[1] + 1, self._run[2]) if self._run[0] else (piece, 1, self._last)
            self._closed = True
        elif piece.isspace():
            self._read_blank(piece)
        elif len(piece) > 1 or piece.isalnum() or unicodedata.category(piece)[0] == "M":
            self._read_letters(piece)
        elif not code and piece not in _UNSEEN:
            self._read_mark(piece)
        self._last = piece[-1]
        self._blanks = self._blanks + (piece == " ") if piece in " \r" else 0

    def _read_escaped(self, piece: str) -> None:
        self._escaped, self._stop, self._word = False, "", ""
        self._nest({"(": 1, "[": 1, ")": -1, "]": -1}.get(piece, 0))  # TeX formulas
        if len(piece) > 1:
            self._read_letters(piece[1:])

    def _read_blank(self, blank: str) -> None:
        if blank == "\n" and self._blanks >= 2:
            self._stop = ""  # a hard break: a verse or an address goes on
        self._spaced, self._word = True, ""

    def _read_letters(self, letters: str) -> None:
        parts = re.split("[ ,，、]", letters)
        self._word = (("" if len(parts) > 1 else self._word) + parts[-1])[-16:]
        self._stop = ""

    def _read_mark(self, mark: str) -> None:
        quoted = mark in "”»\"’'」』"
        closes = mark in _CLOSERS or mark in "’'" or (mark == _QUOTE and _QUOTE in self._open)
        if mark in _FULL_STOPS or (mark in _STOPS and self._ends(mark)):
            self._stop, self._spaced, self._closed, self._quoted = mark, False, False, False
        elif self._spaced or not closes:
            self._stop = ""
        else:
            self._closed, self._quoted = True, self._quoted or quoted
        if not closes:
            self._word = (self._word + mark)[-16:] if mark == "." else ""
        self._escaped = mark == "\\"
        self._balance(mark)

    def _balance(self, mark: str) -> None:
        if mark in _OPENERS:
            self._nest(1)
        elif mark in _CLOSERS:
            self._nest(-1)
        elif mark == _QUOTE:
            self._toggle(_QUOTE, 1)
        elif mark in "|<":
            self._open[_LOST] = 1

    def _nest(self, by: int) -> None:
        self._depth = max(self._depth + by, 0)

    def _toggle(self, mark: str, count: int) -> None:
        """Open a mark, or close it by as many."""
        if mark not in self._open:
            self._open[mark] = count
        elif self._open[mark] == count:
            del self._open[mark]
        elif mark != _CODE:  # in code, fewer or more backticks are text
            self._open[_LOST] = 1

    def _end_run(self, after: str) -> None:
        """Read the run of marks that has ended (CommonMark 6.1, 6.2)."""
        mark, count, before = self._run
        self._run = ("", 0, " ")
        if mark in "`$":
            self._toggle(mark, count)
            return
        opens, closes = _flanks(mark, before, after)
        if closes and mark in self._open:
            self._open[mark] -= count
            if self._open[mark] < 0:
                self._open[_LOST] = 1
            if self._open[mark] <= 0:
                del self._open[mark]
        elif opens:
            self._open[mark] = self._open.get(mark, 0) + count

    def _ends(self, stop: str) -> bool:
        """Say whether this stop ends a sentence, and not a number, an initial or an abbreviation."""
        if stop != ".":
            return True
        word = self._word.lower()
        plain = len(word) > 1 or _CJK.match(word) is not None
        return plain and not word[-1].isdigit() and not word.endswith(".") and not _ABBREVIATION.fullmatch(word)


def lacks_blank(before: str, behind: str) -> bool:
    """Say whether `before` ends a sentence, `behind` begins one, and white space between them is missing."""
    if not before or before[-1].isspace() or not behind or _adjoins(before[-1], behind[0]):
        return False
    return bool(_SENTENCE_END.search(before, max(len(before) - 16, 0)))


def _adjoins(stop: str, character: str) -> bool:
    """Say whether a sentence may begin with `character` right behind `stop`."""
    return stop in _FULL_STOPS or (stop in _STOPS - {"."} and _CJK.match(character) is not None)


def _flanks(mark: str, before: str, after: str) -> tuple[bool, bool]:
    """Say whether a run of `mark` can open emphasis, and whether it can close it."""
    left = not after.isspace() and (_wordlike(after) or not _wordlike(before))
    right = not before.isspace() and (_wordlike(before) or not _wordlike(after))
    if mark == "_":
        return left and (not right or not _wordlike(before)), right and (not left or not _wordlike(after))
    return left, right


def _wordlike(character: str) -> bool:
    return not character.isspace() and unicodedata.category(character)[0] not in "PS"
