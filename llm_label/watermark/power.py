"""What a scheme's exact tail implies the other way round: scores for chances, lengths for levels."""

import math
from functools import lru_cache

from llm_label.watermark.schemes import Scheme

__all__ = ["MOST_TOKENS", "critical_score", "ordinary_score", "tokens_needed"]

MOST_TOKENS = 2**20  # of one text; a level that takes more is out of reach
_STEPS = 60
_SAMPLE = 1024  # tokens whose sums tell how scores are spread
_FEW = 64  # tokens whose sums are too lopsided for that


@lru_cache(maxsize=4096)
def critical_score(rules: Scheme, n: int, log10_level: float, within: float = 0.01) -> float:
    """Return the score that n unmarked tokens exceed with a chance of at most 10^log10_level.

    `within` that in log10, from below: whatever scores no more than this has a chance above the level.
    """
    (low, at_low), (high, at_high) = _bracket(rules, n, log10_level)
    for step in range(_STEPS):
        if at_low - log10_level < within or high - low < 1e-7 * high:
            break
        middle = 0.5 * (low + high)
        if step % 3 < 2 and math.isfinite(at_high):  # above the mean, the root of −log p is nearly a line
            root, left, right = (math.sqrt(max(0.0, -value)) for value in (log10_level + 0.5 * within, at_low, at_high))
            middle = low + (high - low) * (root - left) / (right - left)
        at_middle = _log10_tail(rules, n, middle)
        if at_middle > log10_level:
            low, at_low = middle, at_middle
        else:
            high, at_high = middle, at_middle
    return low


@lru_cache(maxsize=256)
def ordinary_score(rules: Scheme) -> float:
    """Return the mean score of one unmarked token, to a thousandth."""
    return critical_score(rules, _SAMPLE, math.log10(0.5)) / _SAMPLE


@lru_cache(maxsize=4096)
def tokens_needed(rules: Scheme, log10_level: float) -> int | None:
    """Return how many marked tokens of ordinary prose reach a p-value of 10^log10_level; None for too many.

    The smallest n at which the tail of the plausible score is small enough: within a few percent of the median
    over texts with that mean score (at 1 nat and 1e-5, 39 by simulation and 40 in this form).
    """
    low, high = 0, 1
    while not _reaches(rules, high, log10_level):
        low, high = high, 2 * high
        if high > MOST_TOKENS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _reaches(rules, middle, log10_level) else (middle, high)
    return high


def _reaches(rules: Scheme, n: int, log10_level: float) -> bool:
    return rules.log10_tail(n, rules.plausible(n)) <= log10_level


def _bracket(rules: Scheme, n: int, log10_level: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return two scores with their tails, on either side of the level."""
    if n == _SAMPLE or n < _FEW or log10_level > -1.0:
        low, high, width = 0.0, max(1.0, rules.plausible(n)), 0.5 * rules.plausible(n) + 1.0
    else:  # what lies above the mean grows as the root of n, nearly
        mean = ordinary_score(rules)
        above = (critical_score(rules, _SAMPLE, log10_level) - _SAMPLE * mean) * math.sqrt(n / _SAMPLE)
        low, high, width = mean * n + 0.95 * above, mean * n + 1.1 * above, 0.1 * above
    while (at_low := _log10_tail(rules, n, low)) <= log10_level:
        low, width = max(0.0, low - width), 2.0 * width
    while (at_high := _log10_tail(rules, n, high)) > log10_level:
        high, width = high + width, 2.0 * width
    return (low, at_low), (high, at_high)


def _log10_tail(rules: Scheme, n: int, score: float) -> float:
    try:
        return rules.log10_tail(n, score)
    except ValueError:  # more than n tokens can score
        return -math.inf
