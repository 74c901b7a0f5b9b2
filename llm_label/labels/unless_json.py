"""Label an answer that was to be JSON and is not: the server ignored what it was asked for, and people may read it.

Decided by what has passed, like everything else about labels. Text that does not begin like JSON is labelled from its
start. Text that does, and is none in the end, gets an end label: the only place left.
"""

import json
from dataclasses import replace

from llm_label.labels.labeler import Labeler, Labels

__all__ = ["UnlessJson"]

BEGINNINGS = frozenset('{["-0123456789tfn')  # RFC 8259: of every JSON value


class UnlessJson(Labeler):
    """Label one answer unless it is JSON; a stream and a whole answer alike."""

    def __init__(self, labels: Labels) -> None:
        super().__init__(labels)
        self._likely: bool | None = None  # it begins like JSON; None: nothing but white space so far
        self._ended = False
        self._passed: list[str] = []

    @property
    def present(self) -> bool:
        """Whether no label is due: it came with ours, or it is JSON."""
        return super().present or (self._ended and bool(self._likely) and not self.applied)

    @property
    def due(self) -> bool:
        return not self._ended if self._likely else super().due

    def feed(self, text: str) -> str:
        held = ""
        if self._likely is None and text and not text.isspace():
            self._likely = text.lstrip()[0] in BEGINNINGS
            held = super().settle() if self._likely else ""
        if not self._likely:
            return super().feed(text)
        self._passed.append(text)
        return held + text

    def finish(self) -> str:
        if not self._likely:
            return super().finish()
        text, self._passed = "".join(self._passed), []
        if self._ended or _is_json(text):
            self._ended = True
            return ""
        self._ended = True
        end = Labeler(replace(self._labels, positions=("end",)))
        marked = end.feed(text) + end.finish()  # an end label follows all of the text
        self._written, self._present = end._written, end.present
        return marked[len(text) :]

    def settle(self) -> str:
        return "" if self._likely else super().settle()


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):  # brackets nested so deep that nobody reads them as JSON may precede prose
        return False
    return True
