"""Exact null tails, in log10: never 0.0 by underflow, never NaN, at any size.

Gamma with integer shape n: P(X ≥ x) = Σ_{k<n} e^{−x} x^k / k!, a sum of Poisson masses. Its largest term is
taken in the deviance form of Loader, "Fast and Accurate Computation of Binomial Probabilities" (2000), which
loses no digits for large n; the rest is a geometric-like series relative to it. Binomial tails go the same way.
A weighted sum of two Gammas is a mixture, by a negative binomial, of Gammas of one scale (Moschopoulos 1985):
every term is positive, and nothing is matched or approximated.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_SHARE", "binomial_log10_sf", "dual_gamma_log10_sf", "gamma_log10_sf"]

BLOCK = 4096
NEGLIGIBLE = 1e-17
LEAST_SHARE = 0.01  # below, the series of the dual tail has too many terms
MOST_PER_TOKEN = 17.0  # −ln(1 − u) of 24-bit words stays below 16.64
DROP = 42.0  # nats below the largest term of a series at which the rest is negligible

SPAN = 600.0  # nats that a double spans safely

Floats = npt.NDArray[np.float64]


def gamma_log10_sf(n: int, score: float) -> float:
    """Return log10 P(X ≥ score) for X ~ Gamma(n, 1), n a whole number; 0.0 when n or score is 0."""
    if n < 0 or not math.isfinite(score) or score < 0:
        raise ValueError(f"a score of {score!r} over {n!r} tokens is not possible: both are finite and >= 0")
    if n == 0 or score == 0.0:
        return 0.0
    return _log10(_gamma_log_sf(n, score))


def binomial_log10_sf(n: int, chance: float, count: int) -> float:
    """Return log10 P(X ≥ count) for X ~ Binomial(n, chance), the observed count included."""
    if not 0 <= count <= n or not 0.0 < chance < 1.0:
        raise ValueError(f"{count!r} of {n!r} tokens with chance {chance!r} is not possible")
    if count == 0:
        return 0.0
    odds = chance / (1.0 - chance)
    if count > n * chance:
        ratios = ((n - count - i) / (count + 1 + i) * odds for i in _blocks(n - count))
        return _log10(_log_binomial(count, n, chance) + math.log(_series(ratios)))
    # one minus the masses below, where that difference is at least a quarter
    ratios = ((count - 1 - i) / (n - count + 2 + i) / odds for i in _blocks(count - 1))
    return _log10(math.log1p(-math.exp(_log_binomial(count - 1, n, chance) + math.log(_series(ratios)))))


def dual_gamma_log10_sf(n: int, share: float, score: float) -> float:
    """Return log10 P((1 − share)·A + share·B ≥ score) for independent A, B ~ Gamma(n, 1).

    In units of the smaller weight a the sum is Gamma(2n + K, 1), where K counts the failures before n
    successes of chance a / (1 − a): log10 Σ_k P(K = k) · P(Gamma(2n + k, 1) ≥ score / a).
    """
    if n < 0 or not 0.0 <= score <= MOST_PER_TOKEN * n:
        raise ValueError(f"a score of {score!r} over {n!r} tokens is not possible")
    a = min(share, 1.0 - share)
    if a == 0.0 or n == 0 or score == 0.0:
        return gamma_log10_sf(n, score)
    if a == 0.5:
        return gamma_log10_sf(2 * n, 2.0 * score)
    if not a >= LEAST_SHARE * (1.0 - 1e-9):
        raise ValueError(f"a share of {share!r} is not possible: 0, 1, or {LEAST_SHARE} to {1 - LEAST_SHARE}")
    success, failure, x = a / (1.0 - a), (1.0 - 2.0 * a) / (1.0 - a), score / a
    low, high = _window(n, success, failure, x)
    k = np.arange(low + 1, high + 1, dtype=np.float64)
    weight, mass = failure * (n - 1) / k + failure, x / (2 * n + k)  # each over the one before
    scales = _log_failures(n, low, success), _log_mass(2 * n + low, x)
    return _log10(_log_mixture(weight, mass[:-1], _gamma_log_sf(2 * n + low, x), *scales))


def _log_mixture(weight: Floats, mass: Floats, first: float, log_weight: float, log_mass: float) -> float:
    """Return ln Σ weight · tail: P(Gamma(m + 1) ≥ x) is P(Gamma(m) ≥ x) plus the Poisson mass at m.

    Weights and masses come as ratios to the one before, and the first of either as a logarithm.
    """
    if first - log_mass < SPAN:
        with np.errstate(over="ignore", invalid="ignore"):
            tails = math.exp(first - log_mass) + _run(_products(mass))
            total = float(_products(weight) @ tails)
        if math.isfinite(total):
            return log_weight + log_mass + math.log(total)
    with np.errstate(divide="ignore"):  # a mass of nothing is one
        log_masses = log_mass + _run(np.log(mass))
    log_tails = np.logaddexp.accumulate(np.concatenate([[first], log_masses]))
    terms = log_weight + _run(np.log(weight)) + log_tails
    top = float(terms.max())
    return top + math.log(float(np.exp(terms - top).sum()))


def _products(ratios: Floats) -> Floats:
    """Return 1, r0, r0·r1, …: one value more than there are ratios."""
    products = np.ones(len(ratios) + 1)
    np.cumprod(ratios, out=products[1:])
    return products


def _run(steps: Floats) -> Floats:
    """Return 0, s0, s0 + s1, …: one value more than there are steps."""
    sums = np.zeros(len(steps) + 1)
    np.cumsum(steps, out=sums[1:])
    return sums


def _log10(natural: float) -> float:
    return natural / math.log(10.0) if natural < 0.0 else 0.0


def _window(n: int, success: float, failure: float, x: float) -> tuple[int, int]:
    """Return the first and last k of the dual series; what lies outside is negligible.

    The terms are log-concave in k. A Gamma tail lies between its largest Poisson mass and the number of
    masses times that, or is near one: `bound` is a term to within that number.
    """
    log_success, log_failure, log_x = math.log(success), math.log(failure), math.log(x)
    fixed = n * log_success - math.lgamma(n)

    def bound(k: int) -> float:
        m = 2 * n + k - 1
        log_weight = fixed + math.lgamma(n + k) - math.lgamma(k + 1) + k * log_failure
        return log_weight + (m * log_x - x - math.lgamma(m + 1) if m < x else 0.0)

    half = (failure * x - (2 * n + 1)) / 2.0  # where weight times mass turns: k² − 2·half·k + 2n − n·failure·x = 0
    turn = half + math.sqrt(max(0.0, half * half - 2 * n + n * failure * x))
    far = math.ceil(x) - 2 * n + 1  # the first k whose tail is near one
    mode = int((n - 1) * failure / success)
    start = max((max(0, min(int(turn), far - 1)), max(0, mode, far)), key=bound)
    least = bound(start) - DROP - math.log(2 * n + start + 2)
    low, high = start, start
    curvature = n / ((start + 1.0) * (n + start)) + (1.0 / (2 * n + start) if start < far else 0.0)
    step = 1 + int(5.0 / math.sqrt(curvature))  # standard deviations; DROP and what `bound` leaves open are 10
    while low > 0 and bound(low) > least:
        low = max(0, low - step)
    while bound(high) > least:
        high += step
    return low, high


def _log_failures(n: int, k: int, success: float) -> float:
    """Return ln P(k failures before n successes)."""
    return math.log(n / (n + k)) + _log_binomial(n, n + k, success)


def _gamma_log_sf(n: int, x: float) -> float:
    return _upper(n, x) if x > n else _lower(n, x)


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


def _log_binomial(k: int, n: int, chance: float) -> float:
    """Return ln of the binomial mass at k by Loader's deviance form."""
    if k == 0:
        return n * math.log1p(-chance)
    if k == n:
        return n * math.log(chance)
    errors = _stirling_error(n) - _stirling_error(k) - _stirling_error(n - k)
    deviances = _deviance(k, n * chance) + _deviance(n - k, n * (1.0 - chance))
    return errors - deviances + 0.5 * math.log(n / (2.0 * math.pi * k * (n - k)))


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
