"""Exact tails of whole-numbered sums S = Σ w_l·F_l, the F_l independent and alike, in log10 at any depth.

Exponential tilting moves the middle of S to the score (Esscher 1932): with K the cumulant function of S,
P(S ≥ s) = e^{K(θ) − θs} · Σ_{j≥0} e^{−θj} Q(S = s + j), where Q is the tilted law. Q is a product of characters,
one Fourier transform away, and is bulk there, not tail: nothing underflows and no digit is lost to cancellation.
The transform is so long that by Chernoff's bound less than e^{−WINDOW} of Q wraps around; any θ gives the exact
value, the best one the fewest rounding errors.

Two things make it fast. Of the frequencies only those are followed to the end at which the product so far is above
NEGLIGIBLE: it can only shrink, so what is left out is bounded, and mostly a hundred of thousands remain; their part of
the tail is a geometric series, summed in closed form. And a chance that is not small needs no tilt: then the
characters of all weights are one transform, read at other places.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = ["Law", "bit_law", "law_of", "law_of_counts", "log10_sf"]

Complexes: TypeAlias = npt.NDArray[np.complex128]
Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Numbers = TypeVar("Numbers", Floats, Complexes)

WINDOW = 42.0  # nats: what wraps around weighs less than a rounding error of the transform
NEGLIGIBLE = 1e-16  # of a product of characters: all frequencies' parts of the tail add up to less than ten times that
NEWTON_STEPS = 60
FEW = 256  # frequencies that may as well be followed to the end
CLOSE = 0.01  # standard deviations between the tilted mean and the score, which is near enough
PRECISION = 1e-10  # that a chance found without tilting must have, relative; rounding errors are absolute there


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
    return law_of_counts(np.bincount(values - low), low)


def law_of_counts(often: Integers, low: int = 0) -> Law:
    """Return the law of a value, given how often low, low + 1, … is picked."""
    places = np.flatnonzero(often)
    return Law(places + low, np.log(often[places] / often.sum()))


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
    if of_sum.is_likely(score):
        chance = of_sum.excess(0.0, score)
        if chance * PRECISION >= of_sum.rounding:
            return math.log10(chance) if chance < 1.0 else 0.0
    theta = of_sum.tilt(score)
    natural = of_sum.cumulants(theta)[0] - theta * score + math.log(of_sum.excess(theta, score))
    return natural / math.log(10.0) if natural < 0.0 else 0.0


class _Sum:
    """The sum S of one law under several weights; equal weights are worked out once."""

    def __init__(self, law: Law, weights: Integers, copies: int) -> None:
        self.law = law
        self.weights, times = np.unique(weights, return_counts=True)
        self.times = times * copies
        self._first, self._second = self.times * self.weights, self.times * self.weights**2
        # a product of so many characters, each off by a rounding error or two
        self.rounding = 2.0 * float(np.finfo(np.float64).eps) * float(self.times.sum())
        mass = np.exp(law.log_mass)
        mean = float(mass @ law.values)
        variance = float(mass @ (law.values - mean) ** 2)
        self.mean, self.variance = float(self._first.sum()) * mean, float(self._second.sum()) * variance

    def is_likely(self, score: int) -> bool:
        """Tell whether the chance of the score is probably so large that it is found without tilting."""
        if self.rounding > 0.1 * PRECISION:
            return False
        away = max(1.0, (score - self.mean) / math.sqrt(self.variance))
        return math.exp(-0.5 * away**2) / away > 3.0 * self.rounding / PRECISION

    def cumulants(self, theta: float) -> tuple[float, float, float]:
        """Return K(θ) and its first two derivatives: the mean and the variance of S when tilted."""
        log_total, mass = self._tilted(theta)
        mean = mass @ self.law.values
        square = mass @ (self.law.values.astype(np.float64) ** 2)
        variance = np.maximum(square - mean**2, 0.0)
        return float(self.times @ log_total), float(self._first @ mean), float(self._second @ variance)

    def tilt(self, score: int) -> float:
        """Return θ >= 0 that moves the mean to the score, nearly; 0.0 for a score not above the mean."""
        if score <= self.mean:
            return 0.0
        low, high = 0.0, (score - self.mean) / self.variance
        while self.cumulants(high)[1] < score:
            low, high = high, 2.0 * high
        theta = high
        for _ in range(NEWTON_STEPS):
            _, mean, variance = self.cumulants(theta)
            low, high = (theta, high) if mean < score else (low, theta)
            if abs(mean - score) <= CLOSE * math.sqrt(variance) or high - low <= 1e-9 * high:
                break
            step = theta - (mean - score) / variance if variance > 0.0 else low
            theta = step if low < step < high else 0.5 * (low + high)
        return theta

    def excess(self, theta: float, score: int) -> float:
        """Return Σ_{j>=0} e^{−θj} Q(S = score + j)."""
        below, above = self._reach(theta, score)
        length = 1 << (below + above + 1).bit_length()
        frequency, character = self._characters(theta, length)
        # one transform at a frequency f and its conjugate at −f; 0 and the middle one are their own
        part = character * _roots(frequency * (score % length), length) * _series(theta, above + 1, frequency, length)
        twice = np.where((frequency == 0) | (frequency == length // 2), 1.0, 2.0)
        return float(part.real @ twice) / length

    def _characters(self, theta: float, length: int) -> tuple[Integers, Complexes]:
        """Return frequencies [f] from 0 to half the length, and the character of Q at each that is not negligible."""
        spectra = self._spectra(theta, length)
        frequency = self._loud(spectra, length)
        place = np.outer(self.weights, frequency) & length - 1
        half = np.minimum(place, length - place)  # a spectrum of real masses is its own conjugate beyond the middle
        found = spectra[np.arange(len(spectra))[:, None], half]
        np.negative(found.imag, out=found.imag, where=place != half)
        powers = [_power(found[self.times == times], times).prod(axis=0) for times in set(self.times.tolist())]
        return frequency, np.asarray(np.prod(powers, axis=0))

    def _spectra(self, theta: float, length: int) -> Complexes:
        """Return the characters [u, length / 2 + 1] of F when tilted for each distinct weight; without tilt one row."""
        mass = self._tilted(theta)[1] if theta else np.exp(self.law.log_mass)[None]
        place = (self.law.values & length - 1) + length * np.arange(len(mass))[:, None]
        lines = np.bincount(place.ravel(), weights=mass.ravel(), minlength=length * len(mass))
        return np.asarray(np.fft.rfft(lines.reshape(-1, length)))

    def _loud(self, spectra: Complexes, length: int) -> Integers:
        """Return the frequencies that some weights, as many as it takes until few are left, do not make negligible."""
        squares = spectra.real**2 + spectra.imag**2
        squares = np.concatenate([squares, squares[:, -2:0:-1]], axis=1)
        frequency, product = np.arange(length // 2 + 1), np.ones(length // 2 + 1)
        for n in np.argsort(-self.times, kind="stable").tolist():
            place = int(self.weights[n]) * frequency & length - 1
            product *= _power(squares[n % len(squares)][place], int(self.times[n]))
            kept = np.flatnonzero(product > NEGLIGIBLE**2)
            if len(kept) < len(frequency):
                frequency, product = frequency[kept], product[kept]
            if len(kept) <= FEW:
                break
        return frequency

    def _reach(self, theta: float, score: int) -> tuple[int, int]:
        """Return how far below and above the score Q must be held: to its ends, or to e^{−WINDOW}."""
        total = int(self.times @ self.weights)
        below, above = score - total * int(self.law.values[0]), total * int(self.law.values[-1]) - score
        here, _, variance = (0.0, self.mean, self.variance) if theta == 0.0 else self.cumulants(theta)
        step = math.sqrt(2.0 * WINDOW / max(variance, 1e-6))
        rise = self._log_total(theta + step) - here - step * score
        fall = self._log_total(theta - step) - here + step * score
        return min(below, math.ceil((fall + WINDOW) / step)), min(above, math.ceil((rise + WINDOW) / step))

    def _log_total(self, theta: float) -> float:
        """Return K(θ) alone."""
        exponent = self.law.log_mass + np.outer(theta * self.weights, self.law.values)
        top = exponent.max(axis=1)
        return float(self.times @ (np.log(np.exp(exponent - top[:, None]).sum(axis=1)) + top))

    def _tilted(self, theta: float) -> tuple[Floats, Floats]:
        """Return for each distinct weight [u] the logarithm of the tilted total and the masses [u, a]."""
        exponent = self.law.log_mass + theta * np.outer(self.weights, self.law.values)
        top = exponent.max(axis=1, keepdims=True)
        mass = np.exp(exponent - top)
        total = mass.sum(axis=1, keepdims=True)
        return (np.log(total) + top)[:, 0], mass / total


def _power(values: Numbers, times: int) -> Numbers:
    """Return values ** times, times at least 1, by squaring: numpy takes a logarithm for each."""
    result: Numbers | None = None
    while times:
        if times & 1:
            result = values if result is None else result * values
        times >>= 1
        values = values * values if times else values
    return values if result is None else result


def _roots(turns: Integers, length: int) -> Complexes:
    """Return e^{2πi·turns / length} for a power of two; whole numbers lose no digits however many turns there are."""
    return np.asarray(np.exp((2j * math.pi / length) * (turns & length - 1)))


def _series(theta: float, terms: int, frequency: Integers, length: int) -> Complexes:
    """Return Σ_{0<=j<terms} e^{−θj} · e^{2πi·f·j / length}; the first frequency is 0."""
    one = np.expm1(-theta + (2j * math.pi / length) * frequency)
    whole = math.exp(-theta * terms) * _roots(frequency * terms, length) - 1.0
    whole[0] = math.expm1(-theta * terms)
    if theta == 0.0:
        one[0], whole[0] = 1.0, terms
    return np.asarray(whole / one)
