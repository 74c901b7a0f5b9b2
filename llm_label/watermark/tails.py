"""Exact null tails, in log10: never 0.0 by underflow, never NaN, at any size.

Gamma with integer shape n: P(X ≥ x) = Σ_{k<n} e^{−x} x^k / k!, a sum of Poisson masses. Its largest term is
taken in the deviance form of Loader, "Fast and Accurate Computation of Binomial Probabilities" (2000), which
loses no digits for large n; the rest is a geometric-like series relative to it.
"""

import math
from collections.abc import Iterator

import numpy as np

__all__ = ["gamma_log10_sf"]

BLOCK = 4096
NEGLIGIBLE = 1e-17


def gamma_log10_sf(n: int, score: float) -> float:
    """Return log10 P(X ≥ score) for X ~ Gamma(n, 1), n a whole number; 0.0 when n or score is 0."""
    if n < 0 or not math.isfinite(score) or score < 0:
        raise ValueError(f"a score of {score!r} over {n!r} tokens is not possible: both are finite and >= 0")
    if n == 0 or score == 0.0:
        return 0.0
    natural = _upper(n, score) if score > n else _lower(n, score)
    return natural / math.log(10.0) if natural < 0.0 else 0.0


def _upper(n: int, x: float) -> float:
    """Sum the masses n−1, n−2, …, 0 downwards from the largest (x > n)."""
    ratios = ((n - 1 - i) / x for i in _blocks(n - 1))
    return _log_mass(n - 1, x) + math.log(_series(ratios))


def _lower(n: int, x: float) -> float:
    """Take one minus the masses n, n+1, … (x ≤ n, where that difference is at least a third)."""
    ratios = (x / (n + 1 + i) for i in _blocks(None))
    return math.log1p(-math.exp(_log_mass(n, x) + math.log(_series(ratios))))


def _blocks(limit: int | None) -> Iterator[np.ndarray]:
    """Yield 0, 1, 2, … as float64 arrays of growing size, up to limit."""
    start, size = 0, 64
    while limit is None or start < limit:
        stop = start + size if limit is None else min(start + size, limit)
        yield np.arange(start, stop, dtype=np.float64)
        start, size = stop, min(2 * size, BLOCK)


def _series(ratios: Iterator[np.ndarray]) -> float:
    """Return 1 + r0 + r0·r1 + … for ratios that never rise, to double precision."""
    total, term = 1.0, 1.0
    for block in ratios:
        terms = term * np.cumprod(block)
        total += float(terms.sum())
        term, ratio = float(terms[-1]), float(block[-1])
        # what follows is at most term · ratio / (1 − ratio)
        if ratio < 1.0 and term * ratio < NEGLIGIBLE * total * (1.0 - ratio):
            break
    return total


def _log_mass(k: int, x: float) -> float:
    """Return ln(e^{−x} x^k / k!) by Loader's deviance form."""
    if k == 0:
        return -x
    return -_deviance(k, x) - _stirling_error(k) - 0.5 * math.log(2.0 * math.pi * k)


def _deviance(k: int, x: float) -> float:
    """Return k ln(k/x) + x − k without cancellation near x = k."""
    d = (x - k) / k
    if abs(d) > 0.1:
        return k * (d + math.log(k) - math.log(x))  # ln(x/k), also where x/k is nearly 0
    # d − ln(1 + d) = d²/2 − d³/3 + d⁴/4 − …
    total, power = 0.0, d * d
    for j in range(2, 20):
        total += power / j if j % 2 == 0 else -power / j
        power *= d
    return k * total


def _stirling_error(k: int) -> float:
    """Return ln k! minus Stirling's formula."""
    if k < 16:
        return math.lgamma(k + 1) - (k + 0.5) * math.log(k) + k - 0.5 * math.log(2.0 * math.pi)
    square = 1.0 / (k * k)
    return (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / k
