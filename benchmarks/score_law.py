"""The law of one token's score, and from it exactly how often a text of n tokens is found.

When every token has a context of its own and the PRF is ideal, the scores of a text are independent and alike: the
law of their sum is an n-fold convolution, one Fourier transform away, and no text need be drawn. The law of a single
token is in closed form for the race (the winner's E is p·M with M ~ Exp(1), whoever wins); the coins and the
tournament are played by the package's own code on fresh contexts, and averaged over what the token could then be.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.watermark import knockout
from llm_label.watermark.prf import PRFS
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label.watermark.schemes.dual_gumbel import DualGumbel
from llm_label.watermark.schemes.gumbel import Gumbel
from llm_label.watermark.schemes.synthid import SynthID

__all__ = ["SCHEMES", "VOCAB", "Law", "Rules", "fewest", "fresh_contexts", "fresh_key", "race", "score_laws", "zipf"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ids: TypeAlias = npt.NDArray[np.int64]
Rules: TypeAlias = Gumbel | DualGumbel | Bernoulli | SynthID

VOCAB = 400
FINE, COARSE = 1e-3, 1e-2  # steps of score at which a density is cut up, and of the lattice it is put on
CAP = 16.64  # the largest score a 24-bit word gives
BATCH = 500  # fresh contexts under one fresh key
RARE = 1e-7  # tokens below, together less than 2e-6, take no part in the tournaments that are averaged
PRECISION = 0.003  # standard error of an estimated rise of the mean score, relative; that of n is twice as large

SCHEMES: dict[str, Rules] = {
    "gumbel": Gumbel(),
    "dual_gumbel": DualGumbel(0.1),
    "synthid mean": SynthID(statistic="mean"),
    "synthid weighted": SynthID(statistic="weighted"),
    "bernoulli .25": Bernoulli(0.25, 2.0),
    "bernoulli .5": Bernoulli(0.5, 2.0),
}


def zipf(entropy: float) -> Floats:
    """Return probabilities [VOCAB] in proportion to rank^−s, s such that they have this entropy in nats."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2.0
        p = np.arange(1.0, VOCAB + 1.0) ** -middle
        p /= p.sum()
        low, high = (middle, high) if -(p @ np.log(p)) > entropy else (low, middle)
    return np.asarray(p)


@dataclass(frozen=True, eq=False)
class Law:
    """Hold a distribution on the lattice (first + i)·step by its masses [i]."""

    step: float
    first: int
    mass: Floats

    @classmethod
    def of(cls, values: Floats, masses: Floats, step: float) -> "Law":
        """Put values [n] on the lattice, each shared by its two neighbours so that the mean stays what it is."""
        place = np.asarray(values) / step
        below = np.floor(place + 1e-9)
        share = np.clip(place - below, 0.0, 1.0)
        at = (below - below.min()).astype(np.int64)
        size = int(at.max()) + 2
        mass = np.bincount(at, masses * (1.0 - share), size) + np.bincount(at + 1, masses * share, size)
        return cls(step, int(below.min()), np.trim_zeros(mass, "b"))

    @property
    def values(self) -> Floats:
        return (self.first + np.arange(len(self.mass))) * self.step

    @property
    def mean(self) -> float:
        return float(self.mass @ self.values)

    def times(self, n: int) -> "Law":
        """Return the law of the sum of n."""
        size = n * (len(self.mass) - 1) + 1
        length = 1 << (size - 1).bit_length()
        mass = np.fft.irfft(np.fft.rfft(self.mass, length) ** n, length)[:size]
        return Law(self.step, n * self.first, np.maximum(mass, 0.0))

    def plus(self, other: "Law") -> "Law":
        """Return the law of the sum of two."""
        return Law(self.step, self.first + other.first, np.maximum(np.convolve(self.mass, other.mass), 0.0))

    def mixed(self, other: "Law", share: float) -> "Law":
        """Return the law of a token that is this with chance share, else the other."""
        values = np.concatenate([self.values, other.values])
        return Law.of(values, np.concatenate([share * self.mass, (1.0 - share) * other.mass]), self.step)

    def at_least(self, value: float) -> float:
        return float(self.mass[self.values >= value - 1e-9].sum())


def fewest(found: Callable[[int], float], share: float, ragged: bool = False) -> int:
    """Return the smallest n with found(n) ≥ share; a chance that goes up and down in steps is ragged."""
    low, high = 0, 1
    while found(high) < share:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) >= share else (middle, high)
    earlier = (n for n in range(max(1, int(0.85 * high)), high) if found(n) >= share)
    return next(earlier, high) if ragged else high


def fresh_contexts(rng: np.random.Generator, count: int, width: int) -> Ids:
    return rng.integers(0, 2**31, (count, width))


def fresh_key(rng: np.random.Generator, rules: Rules) -> int:
    return int.from_bytes(rng.bytes(rules.key_bytes), "big")


def score_laws(p: Floats, rng: np.random.Generator) -> dict[str, Law]:
    """Return the law of the score of one marked token that is drawn from p [v], for each of SCHEMES."""
    of_mean, of_weighted = (SCHEMES[f"synthid {name}"] for name in ("mean", "weighted"))
    mean, weighted = _tournaments((of_mean, of_weighted), p, rng)
    return {
        "gumbel": race(p),
        "dual_gumbel": _two_races(SCHEMES["dual_gumbel"].alpha, p),
        "synthid mean": mean,
        "synthid weighted": weighted,
        **{name: _coin(rules, p, rng) for name, rules in SCHEMES.items() if isinstance(rules, Bernoulli)},
    }


def race(p: Floats) -> Law:
    """Return the law of a winner's score."""
    return Law.of(*_density(p), COARSE)


def _density(p: Floats) -> tuple[Floats, Floats]:
    """Return scores and masses: P(−ln(1 − u) ≤ s) = Σ p·(1 − e^−s)^(1/p)."""
    edges = np.linspace(0.0, CAP, round(CAP / FINE) + 1)
    r = -np.expm1(-edges)
    cumulative = np.zeros_like(edges)
    for chance in p:
        cumulative += chance * r ** (1.0 / chance)
    mass = np.diff(cumulative)
    mass[-1] += 1.0 - mass.sum()
    return (edges[1:] + edges[:-1]) / 2.0, mass


def _two_races(alpha: float, p: Floats) -> Law:
    """Return the law of (1 − α)·s_A + α·s_B; the key that did not choose scores as on any text."""
    won, other = _density(p), _density(np.ones(1))

    def chosen_by(weight: float) -> Law:
        return Law.of(weight * won[0], won[1], COARSE).plus(Law.of((1.0 - weight) * other[0], other[1], COARSE))

    return chosen_by(1.0 - alpha).mixed(chosen_by(alpha), 1.0 - alpha)


def _coin(rules: Bernoulli, p: Floats, rng: np.random.Generator) -> Law:
    """Return the law of one count: green before the bias has mean gamma exactly, so only its rise is estimated."""
    mapping = PRFS[rules.prf]
    groups = np.arange(-(-len(p) // mapping.lanes), dtype=np.uint64)

    def rises() -> float:
        key, contexts = fresh_key(rng, rules), fresh_contexts(rng, BATCH, rules.context_width)
        states = np.repeat(mapping.absorb(key, contexts), len(groups), axis=1)
        words = mapping.group_words(key, states, np.tile(groups, BATCH)).astype(np.uint32)
        green = rules.green(words.T.reshape(BATCH, -1)[:, : len(p)]) @ p
        lifted = green * math.exp(rules.delta)
        return float((lifted / (lifted + 1.0 - green) - green).mean())

    chance = rules.chance + float(_until_precise(rises, p))
    return Law(1.0, 0, np.array([1.0 - chance, chance]))


def _tournaments(statistics: tuple[SynthID, ...], p: Floats, rng: np.random.Generator) -> list[Law]:
    """Return the law of one (weighted) number of ones; estimated is how it differs from that of unmarked bits."""
    p = p[p > RARE] / p[p > RARE].sum()
    logits = np.tile(np.log(p).astype(np.float32), (BATCH, 1))
    tokens = np.tile(np.arange(len(p)), BATCH)
    widths = [int(rules.weights.sum()) + 1 for rules in statistics]

    def rises() -> Floats:
        """Return the change of every mass, one statistic after the other."""
        rules = statistics[0]
        key, contexts = fresh_key(rng, rules), fresh_contexts(rng, BATCH, rules.context_width)
        after = np.exp(knockout.redistribute(rules, key, contexts, logits).astype(np.float64))
        change = (after / after.sum(axis=1, keepdims=True) - p).ravel() / BATCH
        each = np.repeat(contexts, len(p), axis=0)
        sums = (r.token_scores(key, each, tokens).astype(np.int64) for r in statistics)
        return np.concatenate([np.bincount(s, change, width) for s, width in zip(sums, widths, strict=True)])

    change = np.split(_until_precise(rises, p, np.arange(widths[0])), [widths[0]])
    laws = []
    for rules, rise in zip(statistics, change, strict=True):
        mass = np.maximum(_unmarked(rules) + rise, 0.0)
        laws.append(Law(1.0, 0, mass / mass.sum()))
    return laws


def _until_precise(rises: Callable[[], Any], p: Floats, values: Floats | None = None) -> Any:
    """Return the mean of draws that go on until the mean score that they give (values, if masses) is precise."""
    if len(p) == 1:
        return 0.0 * rises()  # a token that is sure carries nothing
    total, scores = 0.0, []
    while True:
        drawn = rises()
        total = total + drawn
        scores.append(drawn if values is None else float(drawn[: len(values)] @ values))
        if len(scores) >= 20:
            error = np.std(scores, ddof=1) / math.sqrt(len(scores))
            if error <= PRECISION * np.mean(scores):
                return total / len(scores)


def _unmarked(rules: SynthID) -> Floats:
    """Return the masses of a weighted number of ones without a mark."""
    share, mass = float(rules._folded().mean()), np.ones(1)
    for weight in rules.weights.tolist():
        bit = np.zeros(weight + 1)
        bit[0], bit[-1] = 1.0 - share, share
        mass = np.convolve(mass, bit)
    return mass
