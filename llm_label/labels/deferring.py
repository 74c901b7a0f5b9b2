"""Label a text that should come labelled, from another llm-label: nothing is added to it unless it shows no label.

The other one's wording need not be known here. A line of its own that says in one language's words that an AI made the
text is a label for this purpose; so little is enough only because the other side has claimed that one is there.
"""

from llm_label.labels.labeler import Labeler, Labels
from llm_label.labels.markdown import BLANKS
from llm_label.labels.wording import LONGEST, elements

__all__ = ["Deferring", "labeler"]

_KEPT = 2 * LONGEST  # characters of a line; a label has fewer


class Deferring(Labeler):
    """Look for a label anywhere; write one at the end of a text without."""

    def __init__(self, labels: Labels) -> None:
        super().__init__(labels.deferred)
        self._issued = labels.known
        self._line = ""  # the beginning of the current line
        self._apart = True  # a blank line, or nothing, stands before it
        self._likely = False  # the line before reads as a label, if a blank line follows

    @property
    def due(self) -> bool:
        return not self._present and super().due

    def feed(self, text: str) -> str:
        if self._present:
            return text
        out = super().feed(text)
        return out + self._found() if self.due and self._looks(text) else out

    def finish(self) -> str:
        if self._present:
            return ""
        return self._found() if self.due and self._looks("\n\n") else super().finish()

    def _found(self) -> str:
        held = self.settle()
        self._present = True
        return held

    def _looks(self, text: str) -> bool:
        """Say whether a line that ends in `text` is a label."""
        *lines, rest = text.split("\n")
        for line in lines:
            if self._is_label((self._line + line)[:_KEPT].strip(BLANKS)):
                return True
            self._line = ""
        self._line = (self._line + rest)[:_KEPT]
        return False

    def _is_label(self, line: str) -> bool:
        if line in self._issued or (self._likely and not line):
            return True
        self._likely = self._apart and 0 < len(line) <= LONGEST and bool(elements(line))
        self._apart = not line
        return False


def labeler(labels: Labels) -> Labeler:
    """Return what labels one text."""
    return Deferring(labels) if labels.deferring else Labeler(labels)
