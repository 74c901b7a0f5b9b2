import decimal
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from llm_label.watermark.tails import binomial_log10_sf, dual_gamma_log10_sf, gamma_log10_sf


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


def exact_binomial_log10_sf(n: int, chance: Fraction, count: int) -> float:
    """Add up every mass from the count on, in whole fractions."""
    total = sum(math.comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(count, n + 1))
    shift = total.numerator.bit_length() - total.denominator.bit_length()
    return (math.log(float(total / Fraction(2) ** shift)) + shift * math.log(2.0)) / math.log(10.0)


@pytest.mark.parametrize("n", [1, 2, 5, 17, 64, 300, 700])
@pytest.mark.parametrize("chance", [0.25, 0.5, 0.875])
def test_the_binomial_tail_equals_the_sum_in_whole_fractions(n: int, chance: float) -> None:
    counts = {0, 1, int(n * chance), int(n * chance) + 1, (2 * n + 1) // 3, n - 1, n}
    for count in sorted(c for c in counts if c <= n):
        expected = exact_binomial_log10_sf(n, Fraction(chance), count)
        assert binomial_log10_sf(n, chance, count) == pytest.approx(expected, rel=1e-11, abs=1e-14)


def test_the_binomial_tail_equals_the_count_of_all_outcomes() -> None:
    for n in range(1, 13):
        for count in range(n + 1):
            outcomes = sum(bin(outcome).count("1") >= count for outcome in range(2**n))
            assert 10 ** binomial_log10_sf(n, 0.5, count) == pytest.approx(outcomes / 2**n, rel=1e-12)


@pytest.mark.parametrize("n", [10, 1000, 100_000, 10_000_000])
def test_the_binomial_tail_equals_scipy(n: int) -> None:
    for z in (-6.0, -1.0, 0.0, 1.0, 6.0, 30.0):
        count = round(n * 0.25 + z * math.sqrt(n * 0.1875))
        if 0 <= count <= n:
            expected = stats.binom.logsf(count - 1, n, 0.25) / math.log(10.0)
            assert binomial_log10_sf(n, 0.25, count) == pytest.approx(expected, rel=1e-7, abs=1e-12)


@settings(deadline=None)
@given(n=st.integers(1, 1_000_000), share=st.floats(0.0, 1.0), chance=st.floats(0.01, 0.99))
def test_the_binomial_tail_is_a_probability_and_falls_with_the_count(n: int, share: float, chance: float) -> None:
    count = min(n, int(share * n))
    here, further = binomial_log10_sf(n, chance, count), binomial_log10_sf(n, chance, min(n, count + 1))
    assert -math.inf < further <= here + 1e-12
    assert here <= 0.0


@pytest.mark.parametrize(
    ("n", "chance", "count"), [(3, 0.5, 4), (3, 0.5, -1), (3, 0.0, 1), (3, 1.0, 1), (3, math.nan, 1)]
)
def test_impossible_counts_are_refused(n: int, chance: float, count: int) -> None:
    with pytest.raises(ValueError, match="not possible"):
        binomial_log10_sf(n, chance, count)


def exact_dual_log10_sf(n: int, share: float, score: float) -> float:
    """Expand the two rates in partial fractions, whose signs alternate, with 900 digits."""
    with decimal.localcontext(decimal.Context(prec=900)):
        a, t = decimal.Decimal(share), decimal.Decimal(score)
        rates = (1 / (1 - a), 1 / a)
        total = decimal.Decimal(0)
        for own, other in (rates, rates[::-1]):
            survival, term = decimal.Decimal(0), (-own * t).exp()
            for i in range(1, n + 1):
                survival += term  # of the sum of i exponentials
                term *= own * t / i
                sign = -1 if (n - i) % 2 else 1
                total += sign * math.comb(2 * n - i - 1, n - i) / (other - own) ** (2 * n - i) * survival / own**i
        return float((total * (rates[0] * rates[1]) ** n).log10())


@pytest.mark.parametrize("n", [1, 2, 20, 100])
@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.4, 0.499, 0.7, 0.9, 0.99])
def test_the_dual_tail_equals_partial_fractions_with_900_digits(n: int, share: float) -> None:
    for ratio in (0.05, 0.7, 1.0, 1.4, 3.0, 8.0, 16.5):
        expected = exact_dual_log10_sf(n, share, n * ratio)
        assert dual_gamma_log10_sf(n, share, n * ratio) == pytest.approx(expected, rel=1e-10, abs=1e-9)


def test_the_dual_tail_holds_at_a_p_of_1e_300() -> None:
    assert exact_dual_log10_sf(100, 0.1, 928.0) < -300
    assert dual_gamma_log10_sf(100, 0.1, 928.0) == pytest.approx(exact_dual_log10_sf(100, 0.1, 928.0), rel=1e-12)


@pytest.mark.parametrize(("n", "share", "score"), [(20, 0.1, 45.0), (100, 0.1, 150.0), (500, 0.2, 620.0)])
def test_the_dual_tail_equals_direct_integration(n: int, share: float, score: float) -> None:
    def outer(a: float) -> float:
        rest = max(0.0, (score - (1.0 - share) * a) / share)
        return float(stats.gamma.pdf(a, n) * special.gammaincc(n, rest))

    most = score / (1.0 - share)
    edges = np.linspace(0.0, most, 41)
    parts = [integrate.quad(outer, x, y, epsabs=0.0, epsrel=1e-11)[0] for x, y in itertools.pairwise(edges)]
    expected = sum(parts) + special.gammaincc(n, most)
    assert 10 ** dual_gamma_log10_sf(n, share, score) == pytest.approx(expected, rel=1e-10)


@settings(deadline=None)
@given(n=st.integers(1, 20_000), share=st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.5, 0.8, 1.0]), ratio=st.floats(0, 16))
def test_the_dual_tail_is_a_probability_and_falls_with_the_score(n: int, share: float, ratio: float) -> None:
    here, further = dual_gamma_log10_sf(n, share, n * ratio), dual_gamma_log10_sf(n, share, n * ratio * 1.01)
    assert -math.inf < further <= here + 1e-9
    assert here <= 0.0


def test_the_dual_tail_is_that_of_one_key_where_the_other_has_no_share() -> None:
    for score in (0.0, 3.0, 60.0):
        assert dual_gamma_log10_sf(12, 0.0, score) == dual_gamma_log10_sf(12, 1.0, score) == gamma_log10_sf(12, score)
        assert dual_gamma_log10_sf(12, 0.5, score) == gamma_log10_sf(24, 2 * score)
    assert dual_gamma_log10_sf(0, 0.1, 0.0) == 0.0


@pytest.mark.parametrize(("n", "share", "score"), [(3, 0.1, -1.0), (3, 0.1, math.nan), (3, 0.1, 60.0), (3, 0.001, 2.0)])
def test_impossible_dual_scores_are_refused(n: int, share: float, score: float) -> None:
    with pytest.raises(ValueError, match="not possible"):
        dual_gamma_log10_sf(n, share, score)


@pytest.mark.parametrize(
    ("n", "share", "factor"), [(100, 0.1, 1.25), (20, 0.1, 1.49), (100, 0.2, 1.37), (20, 0.2, 1.79)]
)
def test_matching_the_moments_of_two_keys_would_report_too_small_a_p(n: int, share: float, factor: float) -> None:
    """What other detectors do: Gamma with the right mean and variance, at its nominal 1e-6."""
    variance = (1.0 - share) ** 2 + share**2
    score = variance * stats.gamma.isf(1e-6, n / variance)
    assert 10 ** dual_gamma_log10_sf(n, share, score) / 1e-6 == pytest.approx(factor, abs=0.006)
