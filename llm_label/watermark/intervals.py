"""Clopper–Pearson intervals for a rate, from the exact binomial tail."""

import math
from collections.abc import Callable

from llm_label.watermark.tails import binomial_log10_sf

__all__ = ["clopper_pearson"]

STEPS = 60  # of bisection in ln p
SMALLEST, LARGEST = math.log(1e-15), math.log(1.0 - 1e-15)


def clopper_pearson(hits: int, units: int, confidence: float) -> tuple[float, float]:
    """Return the rates between which hits among units leave room; each end errs with (1 − confidence) / 2."""
    if not 0 <= hits <= units or units < 1 or not 0.0 < confidence < 1.0:
        raise ValueError(f"{hits!r} hits among {units!r} units at confidence {confidence!r} are not possible")
    error = math.log10((1.0 - confidence) / 2.0)
    low, high = 0.0, 1.0
    middle = min(max(math.log(hits / units) if hits else SMALLEST, SMALLEST), LARGEST)
    if hits:  # P(X ≥ hits) rises with p
        low = _crossing(lambda p: binomial_log10_sf(units, p, hits) < error, SMALLEST, middle)
    if hits < units:  # P(X ≤ hits) is that of at least units − hits misses, and falls with p
        high = _crossing(lambda p: binomial_log10_sf(units, 1.0 - p, units - hits) > error, middle, LARGEST)
    return low, high


def _crossing(before: Callable[[float], bool], left: float, right: float) -> float:
    """Bisect in ln p for the p up to which `before` holds."""
    for _ in range(STEPS):
        middle = (left + right) / 2.0
        left, right = (middle, right) if before(math.exp(middle)) else (left, middle)
    return math.exp((left + right) / 2.0)
