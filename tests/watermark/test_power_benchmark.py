"""benchmarks/power.py: how many tokens `gumbel` needs, computed, drawn, and as a simulation found it before."""

import importlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.special import digamma

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LEVEL = 1e-5
# (position in SOURCES, n50, n95) of Monte Carlo by another program
SIMULATED = [(3, 13, 27), (4, 7, 14), (6, 39, 86)]


@pytest.fixture(scope="module")
def power() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("power")
    sys.path.remove(str(BENCHMARKS))


def power_of(power: ModuleType, position: int) -> partial[float]:
    race = importlib.import_module("score_law").race
    return partial(power.scheme_power, power.SCHEMES["gumbel"], power.SOURCES[position].mixed(race), LEVEL)


@pytest.mark.parametrize(("position", "n50", "n95"), SIMULATED)
def test_what_is_computed_agrees_with_what_was_simulated(power: ModuleType, position: int, n50: int, n95: int) -> None:
    """Within 3 % or one token; nothing is drawn here, so nothing fails by chance."""
    ours = power.lengths(power_of(power, position))
    assert ours == [pytest.approx(n50, rel=0.03, abs=1), pytest.approx(n95, rel=0.03, abs=1)]


def test_half_of_the_texts_that_the_package_writes_are_found_at_n50(power: ModuleType) -> None:
    """400 texts, seed fixed; by chance 1 in 30,000 would fail."""
    position, n50, _ = SIMULATED[0]
    rng = np.random.default_rng(0)
    drawn = power.found_really(power.SCHEMES["gumbel"], power.SOURCES[position], n50, LEVEL, 400, rng)
    computed = power_of(power, position)(n50)
    assert drawn == pytest.approx(computed, abs=4.2 * (computed * (1 - computed) / 400) ** 0.5)


def test_the_mean_score_is_the_harmonic_number_of_the_inverse_probability(power: ModuleType) -> None:
    """E −ln(1 − u) of a winner of probability p is H(1/p), whatever else could have won."""
    score_law = importlib.import_module("score_law")
    p = score_law.zipf(1.0)
    assert score_law.race(p).mean == pytest.approx(float(p @ (digamma(1.0 / p + 1.0) + np.euler_gamma)), rel=1e-4)
