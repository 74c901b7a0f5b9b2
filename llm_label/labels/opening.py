"""Where an answer begins: after blank lines, after front matter, after `<think>…</think>`.

A label before front matter would destroy it, one before or inside reasoning would hide it or break its replay.
"""

import re

from llm_label.labels.markdown import BLANKS

__all__ = ["Opening", "front_matter"]

_THINK = ("<think>", "<thinking>")
_MATTER_KEY = re.compile(r"[A-Za-z_][\w-]*:(?:[ \t\r]|$)")
_MATTER_KEY_HEAD = re.compile(rf"(?:[A-Za-z_][\w-]*:?)?$|{_MATTER_KEY.pattern}")
_MATTER_LINE = re.compile(rf"{_MATTER_KEY.pattern}|[ \t]+\S|- |-\r?$|#")
_MATTER_END = re.compile(r"(?:---|\.\.\.)[ \t\r]*$")
_MATTER_LONGEST = 2000


class Opening:
    """Let pass what stands before the answer, in pieces of any size.

    Held back is only what may yet turn out to be a tag (ten characters), front matter (2,000) or the indentation
    of the first line, which belongs to the answer.
    """

    found: bool = False
    """Whether the answer has begun."""
    after_block: bool = False
    """Whether front matter or reasoning stands before it."""
    breaks: int = 2
    """Line feeds since that block; two or more make a blank line, and so does the beginning of the text."""

    def __init__(self) -> None:
        self._held: list[str] = []
        self._blank = True  # what is held is blank
        self._first = True  # nothing was let pass yet
        self._closing = ""  # the tag that ends the reasoning we are in
        self._seen = ""  # its last characters

    def feed(self, text: str) -> str:
        """Return what of all text so far stands before the answer and was not returned yet."""
        passed = []
        while not self.found:
            piece, text = self._reason(text) if self._closing else self._seek(text)
            passed.append(piece)
            if not text:
                break
        if self.found and text:
            self._held.append(text)
        return "".join(passed)

    def close(self) -> str:
        """End the text: like `feed`, for what was still undecided."""
        if self.found or self._closing:
            return ""
        held = self.take()
        if self._first and front_matter(held + "\n"):
            return held
        content = held.lstrip()
        if not content:
            return held
        passed, rest = self._begin(held[: len(held) - len(content)], content)
        self._held.append(rest)
        return passed

    def take(self) -> str:
        """Hand over the part of the answer that came with its opening."""
        held = "".join(self._held)
        self._held.clear()
        self._blank = True
        return held

    def _reason(self, text: str) -> tuple[str, str]:
        """Pass reasoning up to its closing tag: (passed, rest)."""
        window = self._seen + text
        at = window.find(self._closing)
        if at < 0:
            self._seen = window[1 - len(self._closing) :]
            return text, ""
        end = at + len(self._closing) - len(self._seen)
        self._closing, self.breaks, self.after_block = "", 0, True
        return text[:end], text[end:]

    def _seek(self, text: str) -> tuple[str, str]:
        """Pass blank lines and the beginning of a block: (passed, rest)."""
        self._held.append(text)
        if self._blank and self.breaks and text.isspace() and "\n" not in text:
            return "", ""  # without looking again at what is held: there may be a million of these
        held = self.take()
        content = held.lstrip()
        blanks = held[: len(held) - len(content)]
        if self._first and not blanks and (matter := front_matter(held)) != 0:
            return self._matter(held, matter)
        if not content.startswith("<"):
            return self._begin(blanks, content)
        if tag := next((tag for tag in _THINK if content.startswith(tag)), ""):
            self._closing, self._seen, self._first = tag.replace("<", "</"), "", False
            return blanks + tag, content[len(tag) :]
        if any(tag.startswith(content) for tag in _THINK):
            return self._hold(held)
        return self._begin(blanks, content)

    def _hold(self, held: str) -> tuple[str, str]:
        self._held.append(held)
        self._blank = not held.strip()
        return "", ""

    def _matter(self, held: str, end: int | None) -> tuple[str, str]:
        if end is None:
            return self._hold(held)
        self._first, self.breaks, self.after_block = False, 0, True
        return held[:end], held[end:]

    def _begin(self, blanks: str, content: str) -> tuple[str, str]:
        """Pass whole blank lines, and begin the answer if it is there: (passed, rest)."""
        line = blanks.rfind("\n") + 1
        self.breaks += blanks.count("\n")
        self._first = self._first and not line
        if not self.breaks:
            line = len(blanks)  # on the line of a closing tag blanks indent nothing
        self.found = bool(content)
        rest = blanks[line:] + content
        if not content:
            self._held.append(rest)
            rest = ""
        return blanks[:line], rest


def front_matter(text: str) -> int | None:
    """Count the characters of the YAML block that `text` begins with, its last line feed excluded.

    0: there is none. None: it takes more text to say; at most 2,000 characters do.
    """
    if not text.startswith("---"):
        return None if "---".startswith(text) else 0
    first, *lines = text.split("\n")
    if first.strip(BLANKS) != "---":
        return 0
    end = len(first)
    for number, line in enumerate(lines):
        complete = number + 1 < len(lines)
        end += 1 + len(line)
        if end > _MATTER_LONGEST:
            return 0
        if number and complete and _MATTER_END.match(line):
            return end
        allowed = _MATTER_LINE if number else _MATTER_KEY if complete else _MATTER_KEY_HEAD
        if not allowed.match(line) and (complete or not number):
            return 0
    return None
