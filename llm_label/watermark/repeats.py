"""Whose the words are that stood in the text before: they have no score that could tell.

They are a mark's own where they repeat words first said well inside a marked stretch, and people's else. A long run of
people's words parts the stretch that it lies in; each part is judged by a window of its own, as another stretch would
be, and is given up if none passes. Short runs belong to what surrounds them. Behind the last word that counts a run is
claimed only if it is a mark's own.
"""

from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise

from llm_label.watermark.scan import Trace
from llm_label.watermark.spans import LEAST, Window

__all__ = ["LONG", "Own", "parted"]

LONG = 2 * LEAST  # tokens of a run that is asked for its owner
QUARTER = 4  # of a run's words are enough: copies may begin or end with words of others


class Own:
    """Tell which runs of words that have no score are the marked stretches' own."""

    def __init__(self, found: Trace, stretches: Iterable[Window]) -> None:
        self._found, self._stretches = found, tuple(stretches)

    @cached_property
    def _said(self) -> frozenset[tuple[int, ...]]:
        """Return the contexts that count inside the stretches; ends are estimates, and left out."""
        said = set[tuple[int, ...]]()
        for start, stop, _ in self._stretches:
            end = min(LEAST, (stop - start) // 4)
            said.update(map(tuple, self._found.contexts(start + end, stop - end).tolist()))
        return frozenset(said)

    def has(self, first: int, last: int) -> bool:
        """Tell whether tokens first to last (excluded), of which none counts, are the stretches' own."""
        width = self._found.rules.context_width
        tokens = self._found.tokens[first - width : last].tolist()  # what has no full context always counts
        again = sum(tuple(tokens[n : n + width]) in self._said for n in range(last - first))
        return QUARTER * again >= last - first


def parted(stretches: Iterable[Window], found: Trace, own: Own) -> Iterator[Window]:
    """Part stretches at long runs of words that others said first."""
    for start, stop, log10_p in stretches:
        places = found.positions[start:stop].tolist()
        for n, (before, after) in enumerate(pairwise(places), start + 1):
            if after - before > LONG and not own.has(before + 1, after):
                yield Window(start, n, log10_p)
                start = n
        yield Window(start, stop, log10_p)
