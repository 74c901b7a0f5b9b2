"""From windows that each look marked to the stretches that are: which of them, joined how, ending where.

Taken are those disjoint windows whose −log10 p, their share of the level paid, add up to most (weighted interval
scheduling): a second stretch is told apart only if it more than pays for a window of its own. Windows with less than
the shortest window, or a quarter of the shorter of them, in between are one stretch. Its ends are then moved to where
the sum of score − c is largest, with c half way between the unmarked mean and the stretch's: the estimate of a change
point. Ends are estimates, not tests; the p of a stretch is that of the loudest window in it.

So a stretch bridges gaps that are short beside what is marked around them, and gaps are counted in scored tokens: words
that stood in the text before have no score; whose they are is for `repeats` to tell.
"""

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST", "Window", "Windows", "disjoint", "joined", "moved"]

LEAST = 16  # scored tokens of the shortest window

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]


class Window(NamedTuple):
    """A window of scored tokens, the last one excluded, and log10 of its p, its share paid."""

    start: int
    stop: int
    log10_p: float


class Windows(NamedTuple):
    """Many windows [m], column by column."""

    starts: Places
    stops: Places
    log10_p: Floats

    @classmethod
    def of(cls, windows: Iterable[Window]) -> "Windows":
        table = np.array(list(windows), dtype=np.float64).reshape(-1, 3)
        return cls(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2])

    @classmethod
    def together(cls, parts: Iterable["Windows"]) -> "Windows":
        return cls(*map(np.concatenate, zip(*parts, strict=True)))

    def at(self, n: int) -> Window:
        return Window(int(self.starts[n]), int(self.stops[n]), float(self.log10_p[n]))

    def loudest(self, stretch: Window) -> Window | None:
        """Return the window of smallest p among those that lie in the stretch with three quarters or more."""
        common = np.minimum(self.stops, stretch.stop) - np.maximum(self.starts, stretch.start)
        inside = np.flatnonzero(4 * common >= 3 * (self.stops - self.starts))
        return self.at(int(inside[self.log10_p[inside].argmin()])) if len(inside) else None


def disjoint(windows: Windows) -> list[Window]:
    """Choose disjoint windows whose −log10 p add up to most, in order."""
    order = np.argsort(windows.stops, kind="stable")
    starts, stops = windows.starts[order], windows.stops[order]
    earlier = np.searchsorted(stops, starts, side="right").tolist()  # how many end before each starts
    most = [0.0]  # among the first 0, 1, 2, … windows
    for before, log10_p in zip(earlier, windows.log10_p[order].tolist(), strict=True):
        most.append(max(most[-1], most[before] - log10_p))
    chosen, n = [], len(order)
    while n:
        if most[n] > most[n - 1]:
            chosen.append(windows.at(int(order[n - 1])))
            n = earlier[n - 1]
        else:
            n -= 1
    return chosen[::-1]


def joined(windows: Iterable[Window]) -> list[Window]:
    """Join windows, given in order, with little in between."""
    found: list[Window] = []
    for window in windows:
        shorter = min(window.stop - window.start, found[-1].stop - found[-1].start) if found else 0
        if found and window.start - found[-1].stop < max(LEAST, shorter // 4):
            last = found.pop()
            window = Window(last.start, max(last.stop, window.stop), min(last.log10_p, window.log10_p))
        found.append(window)
    return found


def moved(windows: list[Window], sums: Floats, ordinary: float) -> list[Window]:
    """Move the ends of windows, given in order and apart, to the likeliest places.

    `sums` [n + 1]: of the first 0, 1, 2, … scores; `ordinary`: the mean of an unmarked one.
    """
    befores = [0, *(window.stop for window in windows)]
    afters = [*(window.start for window in windows[1:]), len(sums) - 1]
    return [_moved(sums, *each, ordinary) for each in zip(windows, befores, afters, strict=False)]


def _moved(sums: Floats, window: Window, before: int, after: int, ordinary: float) -> Window:
    """Move the ends, by at most half the window's length and not beyond the neighbours."""
    start, stop, _ = window
    mean, end = float(sums[stop] - sums[start]) / (stop - start), len(sums) - 1
    middle, reach = (start + stop) // 2, (stop - start) // 2
    left, right = max(before, start - reach), min(after, stop + reach)
    rise = sums[left : right + 1] - 0.5 * (ordinary + mean) * np.arange(left, right + 1)
    first = left + int(rise[: middle - left].argmin())
    last = middle + 1 + int(rise[middle - left + 1 :].argmax())
    # so near to an end of the text nothing can be told apart
    return window._replace(start=0 if first < LEAST else first, stop=end if end - last < LEAST else last)
