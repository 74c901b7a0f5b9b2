"""Exact tails of whole-numbered sums S = Σ w_l·F_l, the F_l independent and alike, in log10 at any depth.

Exponential tilting moves the middle of S to the score (Esscher 1932): with K the cumulant function of S,
P(S ≥ s) = e^{K(θ) − θs} · Σ_{j≥0} e^{−θj} Q(S = s + j), where Q is the tilted law. Q is a product of characters,
one Fourier transform away, and is bulk there, not tail: nothing underflows and no digit is lost to cancellation.
The transform is so long that by Chernoff's bound less than e^{−WINDOW} of Q wraps around; any θ gives the exact
value, the best one the fewest rounding errors.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Law", "bit_law", "law_of", "log10_sf"]

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]

WINDOW = 42.0  # nats: what wraps around weighs less than a rounding error of the transform
NEWTON_STEPS = 60


@dataclass(frozen=True, eq=False)
class Law:
    """Hold the distribution of one F: ascending whole values [a] and the logarithms of their masses [a]."""

    values: Integers
    log_mass: Floats


def bit_law(share: float) -> Law:
    """Return the law of one bit that is 1 with chance share, 0 < share < 1."""
    return Law(np.array([0, 1], dtype=np.int64), np.log(np.array([1.0 - share, share])))


def law_of(values: Integers) -> Law:
    """Return the law of a value picked from a list, each place alike."""
    low = int(values.min())
    count = np.bincount(values - low)
    places = np.flatnonzero(count)
    return Law(places + low, np.log(count[places] / len(values)))


def log10_sf(law: Law, weights: Integers, score: int, copies: int = 1) -> float:
    """Return log10 P(Σ w_l·F_l ≥ score) for positive whole weights [m]; 0.0 for probability one.

    `copies`: every weight stands for that many F of its own.
    """
    total = int(weights.sum()) * copies
    if score > total * int(law.values[-1]):
        raise ValueError(f"a score of {score} is not possible: the largest is {total * int(law.values[-1])}")
    if score <= total * int(law.values[0]):
        return 0.0
    of_sum = _Sum(law, weights, copies)
    theta = of_sum.tilt(score)
    natural = of_sum.cumulants(theta)[0] - theta * score + math.log(of_sum.excess(theta, score))
    return natural / math.log(10.0) if natural < 0.0 else 0.0


class _Sum:
    """The sum S of one law under several weights; equal weights are worked out once."""

    def __init__(self, law: Law, weights: Integers, copies: int) -> None:
        self.law = law
        self.weights, times = np.unique(weights, return_counts=True)
        self.times = times * copies

    def cumulants(self, theta: float) -> tuple[float, float, float]:
        """Return K(θ) and its first two derivatives: the mean and the variance of S when tilted."""
        log_total, mass = self._tilted(theta)
        mean = mass @ self.law.values
        square = mass @ (self.law.values.astype(np.float64) ** 2)
        variance = np.maximum(square - mean**2, 0.0)
        first, second = self.times * self.weights, self.times * self.weights**2
        return float(self.times @ log_total), float(first @ mean), float(second @ variance)

    def tilt(self, score: int) -> float:
        """Return θ >= 0 that moves the mean to the score, nearly; 0.0 for a score not above the mean."""
        _, mean, variance = self.cumulants(0.0)
        if score <= mean:
            return 0.0
        low, high = 0.0, 1.0 / math.sqrt(variance)
        while self.cumulants(high)[1] < score:
            low, high = high, 2.0 * high
        theta = high
        for _ in range(NEWTON_STEPS):
            _, mean, variance = self.cumulants(theta)
            low, high = (theta, high) if mean < score else (low, theta)
            if abs(mean - score) <= 1e-6 * math.sqrt(variance) or high - low <= 1e-9 * high:
                break
            step = theta - (mean - score) / variance if variance > 0.0 else low
            theta = step if low < step < high else 0.5 * (low + high)
        return theta

    def excess(self, theta: float, score: int) -> float:
        """Return Σ_{j>=0} e^{−θj} Q(S = score + j)."""
        below, above = self._reach(theta, score)
        length = 1 << (below + above + 1).bit_length()
        spectrum = np.ones(length // 2 + 1, dtype=np.complex128)
        _, mass = self._tilted(theta)
        for weight, times, of_weight in zip(self.weights.tolist(), self.times.tolist(), mass, strict=True):
            place = (weight * self.law.values) % length
            line = np.bincount(place, weights=of_weight, minlength=length)
            spectrum *= _power(np.fft.rfft(line), times)
        lattice = np.fft.irfft(spectrum, length)
        beyond = np.arange(above + 1)
        return float(lattice[(score + beyond) % length] @ np.exp(-theta * beyond))

    def _reach(self, theta: float, score: int) -> tuple[int, int]:
        """Return how far below and above the score Q must be held: to its ends, or to e^{−WINDOW}."""
        total = int(self.times @ self.weights)
        below, above = score - total * int(self.law.values[0]), total * int(self.law.values[-1]) - score
        here, _, variance = self.cumulants(theta)
        step = math.sqrt(2.0 * WINDOW / max(variance, 1e-6))
        rise = self.cumulants(theta + step)[0] - here - step * score
        fall = self.cumulants(theta - step)[0] - here + step * score
        return min(below, math.ceil((fall + WINDOW) / step)), min(above, math.ceil((rise + WINDOW) / step))

    def _tilted(self, theta: float) -> tuple[Floats, Floats]:
        """Return for each distinct weight [u] the logarithm of the tilted total and the masses [u, a]."""
        exponent = self.law.log_mass + theta * np.outer(self.weights, self.law.values)
        top = exponent.max(axis=1, keepdims=True)
        mass = np.exp(exponent - top)
        total = mass.sum(axis=1, keepdims=True)
        return (np.log(total) + top)[:, 0], mass / total


def _power(values: npt.NDArray[np.complex128], times: int) -> npt.NDArray[np.complex128]:
    """Return values ** times by squaring: numpy takes a logarithm for each."""
    result = np.ones_like(values)
    while times:
        if times & 1:
            result *= values
        times >>= 1
        if times:
            values = values * values
    return result
