"""How often keys find a mark in text that carries none: the realised false-positive rate beside the nominal one.

The unit is (family, key): for every key, one document of every family is drawn, whatever the key, and scored.
Under the null law each unit's p-value is uniform or above; units of different keys, and of families that share no
text, are independent, so counts of them are binomial. Counting every document instead would count each shared
template many times.

Detection tries every payload of a key, so a key of the ring is measured with all of them, and pays for them as there. A
throw-away key is measured with one: each payload's stream is as good as another key.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.watermark.families import Ids, Labels, Template
from llm_label.watermark.intervals import clopper_pearson
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.payload import identify
from llm_label.watermark.scan import scan

__all__ = [
    "CONFIDENCE",
    "LEAST",
    "LEVELS",
    "Driver",
    "Excess",
    "Level",
    "OwnKey",
    "Point",
    "Rates",
    "ThrowAway",
    "curve",
    "draws",
    "excess",
    "levels",
    "own_keys",
    "p_values",
    "rates",
    "throw_away",
    "throw_away_key",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Point: TypeAlias = tuple[float, float, float, float]
Status: TypeAlias = Literal["fine", "above", "unresolved"]

LEVELS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
CONFIDENCE = 0.999
LEAST = 25  # tokens of a document; shorter ones can show next to nothing
POINTS = 60  # of a curve
SHOWN = 5  # templates of an own key


@dataclass(frozen=True)
class Level:
    """Hold what came of one nominal level: units at or below it, and the rates that this leaves possible."""

    level: float
    units: int
    hits: int
    low: float
    high: float

    @property
    def rate(self) -> float:
        return self.hits / self.units

    @property
    def status(self) -> Status:
        """Say "above" where chance does not explain it, "unresolved" where the units are too few to show it."""
        if self.low > self.level:
            return "above"
        return "unresolved" if self.level * self.units < 1.0 - 1e-9 else "fine"


@dataclass(frozen=True)
class Excess:
    """Hold the one-sided Kolmogorov–Smirnov distance, sup F(p) − p, and log10 of a bound on its p-value."""

    distance: float
    log10_p: float


@dataclass(frozen=True)
class Rates:
    """Hold what the p-values of a set of units come to."""

    levels: tuple[Level, ...]
    excess: Excess
    curve: tuple[Point, ...]


@dataclass(frozen=True)
class ThrowAway:
    """Hold the rates over keys made for this alone, and the spread of the first level's rate from key to key."""

    keys: int
    rates: Rates
    spread: tuple[float, float, float]  # least, median, largest


@dataclass(frozen=True)
class Driver:
    """Hold a template and how marked it looks, alone, under one key."""

    template: Template
    log10_p: float


@dataclass(frozen=True)
class OwnKey:
    """Hold the rates of one key of the ring, and where the documents lie that it flags.

    hits: documents at or below each level, families not regarded. worst: the family with most documents at or
    below the first level, how many of them, of how many; None where no family has two.
    """

    key: Key
    rates: Rates
    hits: tuple[int, ...]
    worst: tuple[int, int, int] | None
    drivers: tuple[Driver, ...]


def throw_away_key(spec: Spec, seed: bytes, number: int) -> Key:
    """Make the key of that number, from 0, that a seed gives for a spec; it is for calibration and nothing else."""
    return Key.new(f"throw-away-{number}", hashlib.sha256(seed + number.to_bytes(8, "big")).digest(), spec)


def throw_away(
    documents: Sequence[Ids], labels: Labels, keys: Sequence[Key], seed: int, tick: Callable[[], None] = lambda: None
) -> ThrowAway:
    """Measure keys made for this alone on one document of each family; `tick` is called after each key."""
    found = np.empty((len(keys), int(labels.max()) + 1), dtype=np.float64)
    for row, key, drawn in zip(found, keys, draws(labels, seed), strict=False):
        row[:] = p_values((documents[d] for d in drawn), key)
        tick()
    by_key = (found <= math.log10(LEVELS[0])).mean(axis=1)
    spread = (float(by_key.min()), float(np.median(by_key)), float(by_key.max()))
    return ThrowAway(len(keys), rates(found.ravel(), CONFIDENCE), spread)


def own_keys(
    documents: Sequence[Ids],
    labels: Labels,
    keys: Sequence[Key],
    templates: Sequence[Template],
    seed: int,
    tick: Callable[[], None] = lambda: None,
) -> list[OwnKey]:
    """Measure keys that are in use on every document; the interval's error is divided over them.

    `tick` is called after each document under each key.
    """
    confidence = 1.0 - (1.0 - CONFIDENCE) / max(1, len(keys))
    found = []
    for key, drawn in zip(keys, draws(labels, seed), strict=False):
        log10_p = np.empty(len(documents), dtype=np.float64)
        for place, ids in enumerate(documents):
            log10_p[place] = _reported(ids, key)
            tick()
        hits = tuple(int((log10_p <= math.log10(level)).sum()) for level in LEVELS)
        worst = _worst(log10_p <= math.log10(LEVELS[0]), labels)
        found.append(OwnKey(key, rates(log10_p[drawn], confidence), hits, worst, _drivers(templates, key)))
    return found


def draws(labels: Labels, seed: int) -> Iterator[Labels]:
    """Yield, for key after key, one document [families] of each family."""
    rng = np.random.default_rng(seed)
    members = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    starts = np.cumsum(sizes) - sizes
    while True:
        yield members[starts + rng.integers(sizes)]


def p_values(documents: Iterable[Ids], key: Key) -> Floats:
    """Return log10 of the one-test p-value [n] of each document under a key."""
    return np.array([scan(ids, key).log10_p for ids in documents], dtype=np.float64)


def _reported(ids: Ids, key: Key) -> float:
    """Return log10 of the p-value under a key that is in use: of its loudest payload, for detection tries them all."""
    return identify(ids, key).log10_p


def rates(log10_p: Floats, confidence: float) -> Rates:
    """Sum up the p-values of units."""
    return Rates(levels(log10_p, confidence), excess(log10_p), curve(log10_p, confidence))


def levels(log10_p: Floats, confidence: float) -> tuple[Level, ...]:
    """Count the units at or below each level, with Clopper–Pearson intervals."""
    n = len(log10_p)
    hits = [int((log10_p <= math.log10(level)).sum()) for level in LEVELS]
    return tuple(Level(level, n, h, *clopper_pearson(h, n, confidence)) for level, h in zip(LEVELS, hits, strict=True))


def excess(log10_p: Floats) -> Excess:
    """Measure how far small p-values are too common; p-values above uniform, as the null law allows, give 0.

    The bound is exp(−2 n D²), Massart 1990.
    """
    n = len(log10_p)
    distance = max(0.0, float((np.arange(1, n + 1) / n - 10.0 ** np.sort(log10_p)).max()))
    return Excess(distance, -2.0 * n * distance**2 / math.log(10.0))


def curve(log10_p: Floats, confidence: float) -> tuple[Point, ...]:
    """Return points (log10 of a p-value, share of units at or below it, low, high), evenly spaced in the logarithm."""
    n, values = len(log10_p), np.sort(log10_p)
    ranks = np.unique(np.geomspace(1, n, POINTS).round().astype(int)).tolist()
    return tuple((float(values[k - 1]), k / n, *clopper_pearson(k, n, confidence)) for k in ranks)


def _worst(hit: npt.NDArray[np.bool_], labels: Labels) -> tuple[int, int, int] | None:
    counts = np.bincount(labels, weights=hit)
    family = int(counts.argmax())
    return (family, int(counts[family]), int((labels == family).sum())) if counts[family] >= 2 else None


def _drivers(tried: Sequence[Template], key: Key) -> tuple[Driver, ...]:
    """Return the templates that push most documents furthest towards a false alarm under this key."""
    found = [Driver(template, _reported(template.ids, key)) for template in tried]
    marked = [driver for driver in found if driver.log10_p <= math.log10(LEVELS[0])]
    return tuple(sorted(marked, key=lambda driver: driver.template.documents * driver.log10_p)[:SHOWN])
