"""Scores for chances and lengths for levels: the exact tail, the other way round."""

import math

import pytest

from llm_label.watermark.keyring import Spec
from llm_label.watermark.power import critical_score, ordinary_score, tokens_needed
from llm_label.watermark.schemes import Scheme

SPECS = {
    "gumbel": Spec(),
    "dual_gumbel": Spec(scheme="dual_gumbel"),
    "bernoulli": Spec(scheme="bernoulli", parameters=(("gamma", 0.25),)),
    "synthid": Spec(scheme="synthid"),
    "synthid-mean": Spec(scheme="synthid", parameters=(("statistic", "mean"),)),
}
RULES = {name: spec.rules for name, spec in SPECS.items()}


def tail(rules: Scheme, n: int, score: float) -> float:
    try:
        return rules.log10_tail(n, score)
    except ValueError:  # more than n tokens can score
        return -math.inf


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("n", [1, 16, 24, 100, 1024, 1536])
@pytest.mark.parametrize("level", [-0.3, -2.0, -5.0])
def test_a_critical_score_is_not_yet_remarkable_and_a_little_more_is(name: str, n: int, level: float) -> None:
    rules = RULES[name]
    score = critical_score(rules, n, level)
    assert tail(rules, n, score) > level
    more = score + (0.5 if name.startswith(("synthid", "bernoulli")) else 0.0) + 1e-3 * max(1.0, score)
    assert tail(rules, n, more + 0.5) <= level


@pytest.mark.parametrize(("name", "mean"), [("gumbel", 1.0), ("dual_gumbel", 1.0), ("bernoulli", 0.25)])
def test_the_ordinary_score_is_the_mean_without_a_mark(name: str, mean: float) -> None:
    assert ordinary_score(RULES[name]) == pytest.approx(mean, rel=2e-3)


def test_a_scheme_that_hardly_marks_says_that_no_length_is_enough() -> None:
    weak = Spec(scheme="bernoulli", parameters=(("delta", 0.1), ("gamma", 0.99))).rules
    assert tokens_needed(weak, -300.0) is None


@pytest.mark.parametrize("name", RULES)
def test_tokens_needed_is_the_first_length_that_reaches_the_level(name: str) -> None:
    rules = RULES[name]
    needed = tokens_needed(rules, -6.0)
    assert needed is not None
    assert rules.log10_tail(needed, rules.plausible(needed)) <= -6.0
    assert rules.log10_tail(needed - 1, rules.plausible(needed - 1)) > -6.0
    assert tokens_needed(rules, -5.0) < needed  # type: ignore[operator]


def test_tokens_needed_by_gumbel_is_the_published_closed_form() -> None:
    """The smallest n with Q(n, 2n) <= 1e-5: by scipy, another way to the Gamma tail."""
    from scipy import stats

    expected = next(n for n in range(1, 100) if stats.gamma.sf(2.0 * n, n) <= 1e-5)
    assert tokens_needed(RULES["gumbel"], -5.0) == expected
