"""Tails of weighted sums of independent counts: exact against whole numbers, at any depth."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llm_label.watermark import lattice
from llm_label.watermark.lattice import Law, _Sum, bit_law, law_of, log10_sf

STRAIGHT = [round(10 - 9 * layer / 29) for layer in range(30)]
TRANSFORMERS = [290 - 9 * layer for layer in range(30)]  # its weights, linspace(10, 1, 30), times 29


def log10(value: Fraction) -> float:
    shift = value.numerator.bit_length() - value.denominator.bit_length()
    return (math.log(float(value / Fraction(2) ** shift)) + shift * math.log(2.0)) / math.log(10.0)


def exact(n: int, weights: list[int], score: int) -> float:
    """Multiply the generating polynomials as whole numbers, one field of bits a coefficient, and add up the tail."""
    width = n * len(weights) + 8
    product = 1
    for weight in weights:
        product *= sum(math.comb(n, k) << (width * k * weight) for k in range(n + 1))
    product >>= width * score
    total = 0
    while product:
        total += product & ((1 << width) - 1)
        product >>= width
    return log10(Fraction(total, 2 ** (n * len(weights))))


@pytest.mark.parametrize(
    ("n", "weights"),
    [
        (1, [1]),
        (3, [10, 5, 1]),
        (5, [3] * 4),
        (8, list(range(10, 0, -1))),
        (6, TRANSFORMERS[::6]),
        (9, STRAIGHT),
        (50, [1] * 9),
    ],
)
def test_tail_equals_the_count_in_whole_numbers(n: int, weights: list[int]) -> None:
    top = n * sum(weights)
    scores = {
        0,
        1,
        top // 4,
        top // 2,
        *(int(top * share) for share in (0.51, 0.55, 0.6, 0.7, 0.9, 0.99)),
        top - 1,
        top,
    }
    for score in scores:
        got = log10_sf(bit_law(0.5), np.array(weights), score, copies=n)
        assert got == pytest.approx(exact(n, weights, score), abs=1e-9)


def test_tail_is_right_far_below_the_smallest_double() -> None:
    assert log10_sf(bit_law(0.5), np.array(STRAIGHT), 250 * sum(STRAIGHT), copies=250) == pytest.approx(
        -7500 * math.log10(2.0), rel=1e-12
    )
    deep = log10_sf(bit_law(0.5), np.array([1] * 30), 4700, copies=250)
    ones = Fraction(sum(math.comb(7500, k) for k in range(4700, 7501)), 2**7500)
    assert deep == pytest.approx(log10(ones), abs=1e-9)
    assert deep < -100.0
    assert log10_sf(bit_law(0.5), np.array(STRAIGHT), 9 * sum(STRAIGHT) - 40, copies=9) < -60.0


def test_equal_weights_give_the_binomial_tail() -> None:
    for share in (0.4996, 0.5, 0.5003):
        for count in (200, 3690, 3750, 3900, 4100, 4400):
            expected = stats.binom.logsf(count - 1, 7500, share) / math.log(10.0)
            got = log10_sf(bit_law(share), np.ones(30, dtype=np.int64), count, copies=250)
            assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_tail_of_a_weighted_sum_equals_simulation() -> None:
    rng = np.random.default_rng(5)
    weights = np.array(STRAIGHT)
    sums = rng.binomial(60, 0.5, (100_000, 30)) @ weights
    for level in (0.3, 0.05, 1e-3):
        score = int(np.quantile(sums, 1.0 - level))
        share = (sums >= score).mean()
        got = 10 ** log10_sf(bit_law(0.5), weights, score, copies=60)
        # five standard errors: chance of failing below 1e-6
        assert abs(share - got) < 5.0 * math.sqrt(got / len(sums))


def test_tail_of_any_law_equals_counting_every_outcome() -> None:
    rng = np.random.default_rng(8)
    for _ in range(20):
        values = rng.integers(-3, 9, 12)
        weights = rng.integers(1, 6, 3)
        outcomes = np.array([np.dot(pick, weights) for pick in itertools.product(values, repeat=3)])
        for score in np.unique(outcomes):
            share = (outcomes >= score).mean()
            assert log10_sf(law_of(values), weights, int(score)) == pytest.approx(math.log10(share), abs=1e-9)


@pytest.mark.parametrize("spread", [1, 7, 40])
def test_a_chance_found_without_tilting_is_the_tilted_one(spread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    law = law_of(np.random.default_rng(3).binomial(400, 0.5, 4000) // spread)
    weights = np.array(STRAIGHT)
    middle, deviation = _Sum(law, weights, 1).mean, _Sum(law, weights, 1).variance ** 0.5
    scores = [round(middle + away * deviation) for away in (-3.0, -1.0, 0.0, 1.0, 2.0, 3.0)]
    assert all(_Sum(law, weights, 1).is_likely(score) for score in scores)
    straight = [log10_sf(law, weights, score) for score in scores]
    monkeypatch.setattr(_Sum, "is_likely", lambda self, score: False)
    assert straight == pytest.approx([log10_sf(law, weights, score) for score in scores], rel=1e-9, abs=1e-12)


def test_frequencies_left_out_are_negligible(monkeypatch: pytest.MonkeyPatch) -> None:
    law = law_of(np.random.default_rng(4).binomial(400, 0.5, 4000))
    scores = [round(_Sum(law, np.array(STRAIGHT), 1).mean * share) for share in (0.99, 1.01, 1.05, 1.2)]
    few = [log10_sf(law, np.array(STRAIGHT), score) for score in scores]
    assert len(_Sum(law, np.array(STRAIGHT), 1)._characters(0.0, 8192)[0]) < 400
    monkeypatch.setattr(lattice, "NEGLIGIBLE", 0.0)
    assert few == pytest.approx([log10_sf(law, np.array(STRAIGHT), score) for score in scores], rel=1e-11)


@given(
    n=st.integers(1, 400),
    share=st.floats(0.05, 0.95),
    depth=st.integers(1, 30),
    part=st.floats(0.0, 1.0),
)
@settings(deadline=None, max_examples=60)
def test_tail_is_a_probability_and_never_zero_or_nan(n: int, share: float, depth: int, part: float) -> None:
    weights = np.rint(np.linspace(10, 1, depth)).astype(np.int64)
    top = n * int(weights.sum())
    score = round(part * top)
    here = log10_sf(bit_law(share), weights, score, copies=n)
    further = log10_sf(bit_law(share), weights, min(score + 10, top), copies=n)
    assert -math.inf < further <= here + 1e-9
    assert here <= 0.0


def test_a_law_of_one_value_is_certain() -> None:
    law = Law(np.array([4]), np.array([0.0]))
    assert log10_sf(law, np.array([2, 1]), 12) == 0.0


def test_an_impossible_score_is_refused() -> None:
    with pytest.raises(ValueError, match="the largest is 30"):
        log10_sf(bit_law(0.5), np.array([2, 1]), 31, copies=10)
