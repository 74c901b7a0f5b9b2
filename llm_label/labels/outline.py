"""The block structure of text that arrives in pieces."""

import re

from llm_label.labels.markdown import BLANKS, START, State, step
from llm_label.labels.script import Tally

__all__ = ["Outline", "announces"]

# Lines that head what follows, though Markdown takes them for paragraphs: all bold, in lenticular brackets, or numbered
# as Chinese chapters are.
_HEADS = re.compile(
    r"\*\*[^*]+\*\*|__[^_]+__|【[^】]+】"
    r"|(?:[一二三四五六七八九十]+、|[（(][一二三四五六七八九十]+[）)]|第\w{1,4}[章节条]).*"
)
_LONGEST_HEAD = 40


class Outline:
    """Follow running Markdown line by line."""

    state: State = START
    """The state after the last whole line."""

    def __init__(self, *, tally: bool = True) -> None:
        self._line: list[str] = []  # pieces of the line that has not ended yet
        self._tally = Tally() if tally else None  # letters by script, counted only if the language is asked for
        self._last = ("", False)  # the last whole line that is not blank, and whether it shows as text

    def feed(self, text: str) -> None:
        if "\n" not in text:
            if text:
                self._line.append(text)
            return
        end, *lines = text.split("\n")
        rest = lines.pop()
        self._end_line(self.line + end)
        for line in lines:
            self._end_line(line)
        self._line = [rest] if rest else []

    @property
    def line(self) -> str:
        """The line that has not ended yet."""
        if len(self._line) > 1:
            self._line = ["".join(self._line)]
        return self._line[0] if self._line else ""

    @property
    def in_line(self) -> bool:
        return bool(self._line)

    def language(self) -> str | None:
        """Name the language of the text so far, code left aside; None when it was not followed."""
        return self._tally.language(self.line) if self._tally else None

    @property
    def announces(self) -> bool:
        """Whether the last whole line leads over to what follows."""
        return announces(self.state, self._last[0])

    def last_prose(self) -> str:
        """Give the last line that is not blank, without outer blanks; empty unless it shows as top-level text."""
        line, shows = self._last
        if self.line.strip(BLANKS):
            line, shows = self.line, step(self.state, self.line).prose
        return line.strip(BLANKS) if shows else ""

    def _end_line(self, line: str) -> None:
        self.state = step(self.state, line)
        if line.strip(BLANKS):
            self._last = (line, self.state.prose)
        if self._tally and self.state.leaf not in ("fence", "raw", "code"):
            self._tally.add(line)


def announces(state: State, line: str) -> bool:
    """Say whether `line`, the last that is not blank before `state`, heads what follows or ends in a colon."""
    line = line.strip()
    if state.last == "heading" or line.rstrip("*_").endswith((":", "：")):
        return True
    return len(line) <= _LONGEST_HEAD and not line.endswith(("。", "！", "？")) and bool(_HEADS.fullmatch(line))
