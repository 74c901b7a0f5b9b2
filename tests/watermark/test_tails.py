import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from llm_label.watermark.tails import gamma_log10_sf


def exact_log10_sf(n: int, score: Fraction) -> float:
    """Sum the Poisson masses in whole fractions; only the last logarithm is floating point."""
    term, total = Fraction(1), Fraction(1)
    for k in range(1, n):
        term = term * score / k
        total += term
    shift = total.numerator.bit_length() - total.denominator.bit_length()
    mantissa = float(total / Fraction(2) ** shift)
    return (math.log(mantissa) + shift * math.log(2.0) - float(score)) / math.log(10.0)


@pytest.mark.parametrize("n", [1, 2, 5, 15, 16, 17, 64, 200])
@pytest.mark.parametrize("ratio", [0.01, 0.5, 0.97, 1.0, 1.03, 1.5, 4.0, 16.6, 1000.0])
def test_tail_equals_the_sum_in_whole_fractions(n: int, ratio: float) -> None:
    score = n * ratio
    assert gamma_log10_sf(n, score) == pytest.approx(exact_log10_sf(n, Fraction(score)), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("n", [1, 10, 1000, 100_000, 10_000_000])
def test_tail_equals_scipy_where_scipy_does_not_underflow(n: int) -> None:
    for z in (-8.0, -3.0, -0.5, 0.0, 0.5, 1.0, 3.0, 6.0, 8.0):
        score = n + z * math.sqrt(n)
        if score > 0:
            expected = special.gammaincc(n, score)
            assert 10 ** gamma_log10_sf(n, score) == pytest.approx(expected, rel=1e-9)


def test_tail_equals_direct_integration() -> None:
    for n, score in ((20, 45.0), (100, 150.0)):
        value, _ = integrate.quad(stats.gamma(n).pdf, score, np.inf, epsabs=0.0, epsrel=1e-11)
        assert 10 ** gamma_log10_sf(n, score) == pytest.approx(value, rel=1e-9)


def test_tail_keeps_its_meaning_far_below_the_smallest_double() -> None:
    assert gamma_log10_sf(1, 1e6) == pytest.approx(-1e6 / math.log(10.0))
    assert gamma_log10_sf(500, 500 * 16.6) == pytest.approx(exact_log10_sf(500, Fraction(500 * 16.6)), rel=1e-12)
    assert gamma_log10_sf(10_000_000, 1.6e8) < -1e7


@given(n=st.integers(1, 10_000_000), ratio=st.floats(0.0, 20.0))
def test_tail_is_a_probability_and_falls_with_the_score(n: int, ratio: float) -> None:
    here, further = gamma_log10_sf(n, n * ratio), gamma_log10_sf(n, n * ratio * 1.01)
    assert -math.inf < further <= here + 1e-12
    assert here <= 0.0


def test_no_tokens_and_no_score_are_probability_one() -> None:
    assert gamma_log10_sf(0, 0.0) == 0.0
    assert gamma_log10_sf(5, 0.0) == 0.0
    assert gamma_log10_sf(1000, 1e-300) == 0.0
    assert str(gamma_log10_sf(1000, 1e-300)) == "0.0"


@pytest.mark.parametrize(("n", "score"), [(-1, 1.0), (3, -1.0), (3, math.nan), (3, math.inf)])
def test_impossible_scores_are_refused(n: int, score: float) -> None:
    with pytest.raises(ValueError, match="not possible"):
        gamma_log10_sf(n, score)
