"""Where in a long text the marked part is, and a p-value that has paid for looking everywhere.

Windows. What was scored, n tokens in their order, is covered by windows of 16, 24, 32, 48, 64, … scored tokens (twice
and three times a power of two, up to three quarters of n), each a quarter of its length after the one before, and
one more at the end: about 4n/L windows of length L, less than n in all. A window of L tokens, o of which are of a
marked passage of s, has about o²/(L·s) of the passage's own −log p; the best window always has three quarters of it,
and 0.87 on average over lengths and places.

Correction. A weighted Bonferroni bound: every test has a share of the level, and the shares add up to one (Genovese,
Roeder and Wasserman, "False discovery control with p-value weighting", Biometrika 2006, section 2). The whole text has
WHOLE, three quarters: a text that is marked throughout loses 0.12 in log10 p, about one token. The rest is shared
evenly by the lengths, and then by the windows of a length, so that long windows, which are few, pay little: a text of
500 tokens has 9 lengths, and a window of 16 pays 3.6, one of 256 pays 2.3. A text of fewer than 32 scored tokens has
no windows and pays nothing. The text's p is the least p of all tests, each divided by its share. Under the null every p
is uniform or above, so by the union bound that least is too, however windows overlap.

Speed. Of windows of one length the highest score has the smallest p, so one exact tail per length is enough, and
none where that score has a chance, divided by its share, that is surely above 0.01: leaving tests out can only raise
the least p. A scheme that is `Conditional` is screened by its unconditional tail and judged by its own.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.watermark.keyring import Key
from llm_label.watermark.power import critical_score, ordinary_score
from llm_label.watermark.repeats import Own, parted
from llm_label.watermark.scan import Scan, Trace, traces
from llm_label.watermark.schemes import Scheme
from llm_label.watermark.spans import LEAST, Window, Windows, disjoint, joined, moved

__all__ = ["LEAST", "RULE", "WHOLE", "Search", "Span", "search", "searched", "searches", "share_of_whole"]

WHOLE = 0.75
RULE = f"whole={WHOLE:g}.least={LEAST}.ratio=4:6:8.stride=4"  # changes with any of the above

_LONG = 2048  # scored tokens of a window that is too rare for its critical score to be worth finding
_GRID = 8  # scores of one length at which the tail is exact; between them it is interpolated, to choose only

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Span:
    """Hold one marked stretch: tokens first to last (excluded), how many of them count, log10 of its p.

    The p has paid for all windows of its text, not yet for other texts and keys.
    """

    first: int
    last: int
    scored: int
    log10_p: float


class _Length(NamedTuple):
    """All windows of one length: where they start, and log10 of the share of the level that each has."""

    length: int
    starts: Places
    log10_share: float


@dataclass(frozen=True, eq=False)
class Search:
    """Hold what one key says of one text: of the whole, and of the loudest of all tests, its share paid."""

    trace: Trace
    whole: Scan
    log10_p: float
    tests: int  # the whole text and its windows
    _best: tuple[Window, ...]  # of each length that has a remarkable one

    def spans(self, log10_level: float) -> tuple[Span, ...]:
        """Return the disjoint stretches that pass at the level, in the order of the text."""
        if self.log10_p > log10_level:
            return ()
        sums, windows = _sums(self.trace), self._candidates(log10_level)
        stretches = joined(moved(joined(disjoint(windows)), sums, ordinary_score(self.trace.rules)))
        own = Own(self.trace, stretches)
        judged = [
            part._replace(log10_p=self._exact(windows.loudest(part), sums))
            for part in parted(stretches, self.trace, own)
        ]
        # whatever chose them, the exact p decides; the loudest of all tests has passed
        passed = [w for w in judged if w.log10_p <= log10_level]
        return _spans(self.trace, passed or [min((self._all(), *self._best), key=lambda w: w.log10_p)], own)

    def _all(self) -> Window:
        return Window(0, self.whole.scored, self.whole.log10_p - math.log10(share_of_whole(self.whole.scored)))

    def _exact(self, window: Window | None, sums: Floats) -> float:
        """Return log10 of a window's p, its share paid, by the scheme's exact law."""
        if window is None:
            return 0.0
        start, stop, _ = window
        if stop - start == self.whole.scored:
            return self._all().log10_p
        share = next(s.log10_share for s in _lengths(self.whole.scored) if s.length == stop - start)
        return self.trace.log10_p(start, stop, float(sums[stop] - sums[start])) - share

    def _candidates(self, log10_level: float) -> Windows:
        """Return the windows that pass at the level, their p interpolated (in its root, which is nearly a line)."""
        rules, sums, everything = self.trace.rules, _sums(self.trace), self._all()
        found = [Windows.of([everything] if everything.log10_p <= log10_level else [])]
        loud = {w.stop - w.start for w in self._best if w.log10_p <= log10_level}
        for length, starts, share in _lengths(self.whole.scored):
            if length not in loud:
                continue
            scores = sums[starts + length] - sums[starts]
            grid = np.linspace(ordinary_score(rules) * length, float(scores.max()), _GRID)
            roots = np.sqrt([max(0.0, -rules.log10_tail(length, score)) for score in grid.tolist()])
            paid = -(np.interp(scores, grid, roots) ** 2) - share
            passed = paid <= log10_level
            found.append(Windows(starts[passed], starts[passed] + length, paid[passed]))
        return Windows.together(found)


def search(ids: npt.ArrayLike, key: Key, eos: int | None = None) -> Search:
    """Test a text as a whole and in windows, for ids as `scan` takes them."""
    return next(searches(ids, (key,), eos))


def searches(ids: npt.ArrayLike, keys: Iterable[Key], eos: int | None = None) -> Iterator[Search]:
    """Test a text under one key after the other; what they have in common is worked out once."""
    return map(searched, traces(ids, keys, eos))


def searched(found: Trace) -> Search:
    """Test what was scored as a whole and in windows."""
    whole = found.whole()
    sums, lengths = _sums(found), _lengths(whole.scored)
    best = tuple(window for length in lengths if (window := _best(found, sums, length)) is not None)
    tests = 1 + sum(len(length.starts) for length in lengths)
    paid = whole.log10_p - math.log10(share_of_whole(whole.scored))
    return Search(found, whole, min(0.0, paid, *(window.log10_p for window in best)), tests, best)


def share_of_whole(scored: int) -> float:
    """Return the share of the level that the test of the whole text has, out of n scored tokens."""
    return WHOLE if _lengths(scored) else 1.0


def _lengths(scored: int) -> list[_Length]:
    """Return the lengths with their windows: LEAST · 1, 1.5, 2, 3, 4, … up to three quarters of all."""
    if scored < 2 * LEAST:
        return []
    sizes = [
        size for n in range(scored.bit_length()) for size in (LEAST << n, 3 * LEAST << n >> 1) if 4 * size <= 3 * scored
    ]
    found = []
    for size in sizes:
        count = -(-(scored - size) // (size // 4)) + 1
        starts = np.minimum(np.arange(count, dtype=np.int64) * (size // 4), scored - size)
        found.append(_Length(size, starts, math.log10((1.0 - WHOLE) / len(sizes) / count)))
    return found


def _sums(found: Trace) -> Floats:
    """Return the sums [n + 1] of the first 0, 1, 2, … scores."""
    return np.concatenate([[0.0], np.cumsum(found.scores)])


def _decade(log10_share: float) -> int:
    """Return the whole power of ten above which a p, its share paid, is surely above 0.01."""
    return math.ceil(log10_share - 2.0)


def _is_unremarkable(rules: Scheme, length: int, score: float, decade: int) -> bool:
    """Tell whether a window's chance is surely above 10^decade."""
    if length > _LONG:
        return rules.log10_tail(length, score) > decade
    return score <= critical_score(rules, length, float(decade))


def _best(found: Trace, sums: Floats, windows: _Length) -> Window | None:
    """Return the window of highest score, unless it is unremarkable."""
    length, starts, share = windows
    scores = sums[starts + length] - sums[starts]
    place = int(scores.argmax())
    start, score = int(starts[place]), float(scores[place])
    if _is_unremarkable(found.rules, length, score, _decade(share)):
        return None
    return Window(start, start + length, found.log10_p(start, start + length, score) - share)


def _spans(found: Trace, windows: list[Window], own: Own) -> tuple[Span, ...]:
    """Turn places among what was scored into tokens; the context of the first is marked text as well."""
    spans: list[Span] = []
    for start, stop, log10_p in windows:
        first = max(0, int(found.positions[start]) - found.rules.context_width, spans[-1].last if spans else 0)
        last, end = int(found.positions[stop - 1]) + 1, len(found.tokens)
        if stop == len(found.positions) and last < end and own.has(last, end):
            last = end
        spans.append(Span(first, last, stop - start, log10_p))
    return tuple(spans)
