"""A text read in another way, and the way back: which characters of the original each of its characters is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Edit", "Reading"]


class Edit(NamedTuple):
    """text[start:end] gives way to `text`."""

    start: int
    end: int
    text: str = ""


@dataclass(frozen=True, eq=False)
class Reading:
    """The text after some rounds of edits; each round counts characters in the text that the last one left."""

    text: str
    rounds: tuple[tuple[Edit, ...], ...] = ()

    def edited(self, edits: Sequence[Edit]) -> "Reading":
        """Return the reading after one more round: edits in the order of the text, none over another."""
        if not edits:
            return self
        if any(before.end > after.start for before, after in pairwise(edits)):
            raise ValueError("the edits of one round are in the order of the text and do not overlap")
        pieces: list[str] = []
        at = 0
        for edit in edits:
            pieces += (self.text[at : edit.start], edit.text)
            at = edit.end
        return Reading("".join([*pieces, self.text[at:]]), (*self.rounds, tuple(edits)))

    def stretches(self) -> Iterator[tuple[int, int, int]]:
        """Yield what the last round of edits left alone: where it stands now, where it stood, its length."""
        now = before = 0
        for edit in self.rounds[-1] if self.rounds else ():
            yield now, before, edit.start - before
            now, before = now + edit.start - before + len(edit.text), edit.end
        yield now, before, len(self.text) - now

    def origin(self, ranges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where character ranges [n, 2] of this text stand in the original.

        A range that touches what an edit wrote takes in all that the edit replaced.
        """
        for edits in reversed(self.rounds):
            ranges = _before(ranges, edits)
        return ranges


def _before(ranges: npt.NDArray[np.int64], edits: Sequence[Edit]) -> npt.NDArray[np.int64]:
    """Map ranges [n, 2] of a text to the text before its last round of edits."""
    starts = np.array([edit.start for edit in edits], dtype=np.int64)
    ends = np.array([edit.end for edit in edits], dtype=np.int64)
    sizes = np.array([len(edit.text) for edit in edits], dtype=np.int64)
    growth = np.cumsum(sizes - (ends - starts))  # of the text, after each edit
    written = starts + growth - (sizes - (ends - starts))  # where each edit's text begins now

    def found(at: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Tell for characters [n] the last edit before or around each, whether around, and where it was if not."""
        last = np.searchsorted(written, at, side="right") - 1
        inside = (last >= 0) & (at < (written + sizes)[last])
        return last, inside, at - np.where(last >= 0, growth[last], 0)

    first, in_first, began = found(ranges[:, 0])
    last, in_last, ended = found(np.maximum(ranges[:, 1] - 1, ranges[:, 0]))  # the last character of each
    begin = np.where(in_first, starts[first], began)
    end = np.where(in_last, ends[last], ended + (ranges[:, 1] > ranges[:, 0]))
    return np.column_stack([begin, end])
