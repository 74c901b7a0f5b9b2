"""Null law: over a key drawn independently of the text, p-values are uniform or above.

The count of p-values at or below a level must not exceed what a
binomial with that level gives with probability 1e-6. Keys and texts are fixed by seeds; for a random seed the
chance of failing is below 1e-6 per level, below 1e-5 per test.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import scan

LEVELS = (0.5, 0.1, 0.01, 0.001)
TEXTS = 1500


def periodic(rng: np.random.Generator) -> np.ndarray:
    """Loop 5 to 20 tokens, as a degenerate model does."""
    return np.tile(rng.integers(0, 4096, rng.integers(5, 21)), 40)[:200]


def templated(rng: np.random.Generator) -> np.ndarray:
    """Repeat a long template with a few words changed, as letters and tables do."""
    template = rng.integers(0, 4096, 60)
    copies = [template.copy() for _ in range(5)]
    for copy in copies:
        copy[rng.integers(0, 60, 3)] = rng.integers(0, 4096, 3)
    return np.concatenate(copies)


def two_letters(rng: np.random.Generator) -> np.ndarray:
    """Use two tokens only: at most 16 distinct contexts."""
    return rng.integers(0, 2, 300)


def plain(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 151_936, 100)


@pytest.mark.parametrize("text", [plain, periodic, templated, two_letters])
@pytest.mark.parametrize("variety", ["default", "none"])
def test_p_values_of_unmarked_ids_are_uniform_or_above(
    text: Callable[[np.random.Generator], np.ndarray], variety: str
) -> None:
    rng = np.random.default_rng(20260901)
    spec = Spec(variety=variety)
    found = np.array([scan(text(rng), Key.new("null", rng.bytes(32), spec)).log10_p for _ in range(TEXTS)])
    for level in LEVELS:
        most = stats.binom.isf(1e-6, TEXTS, level)
        assert (found <= np.log10(level)).sum() <= most
    # and not wastefully above: the test is exact up to 2^-24
    least = stats.binom.ppf(1e-6, TEXTS, 0.5)
    assert (found <= np.log10(0.5)).sum() >= least


def test_one_key_on_many_texts_keeps_the_rate_as_well() -> None:
    """Distinct random texts under one fixed key: the other direction of independence."""
    rng = np.random.default_rng(7)
    key = Key.new("fixed", bytes(range(32)), Spec())
    found = np.array([scan(plain(rng), key).log10_p for _ in range(TEXTS)])
    for level in LEVELS:
        assert (found <= np.log10(level)).sum() <= stats.binom.isf(1e-6, TEXTS, level)


@pytest.mark.parametrize("text", [plain, periodic, templated, two_letters])
@pytest.mark.parametrize(
    "spec",
    [
        Spec(scheme="dual_gumbel"),
        Spec(scheme="dual_gumbel", parameters=(("alpha", 0.4),), variety="none"),
        Spec(scheme="bernoulli"),
        Spec(scheme="bernoulli", parameters=(("gamma", 0.25),), variety="none"),
    ],
    ids=lambda spec: f"{spec.scheme}-{spec.parameters[0][1]}",
)
def test_the_rate_holds_for_every_scheme(text: Callable[[np.random.Generator], np.ndarray], spec: Spec) -> None:
    rng = np.random.default_rng(20260902)
    found = np.array([scan(text(rng), Key.new("null", rng.bytes(32), spec)).log10_p for _ in range(TEXTS // 2)])
    for level in LEVELS:
        assert (found <= np.log10(level)).sum() <= stats.binom.isf(1e-6, TEXTS // 2, level)
    # counts are whole and their tails include ties, so a level is not used up; but it is not far from it
    assert (found <= np.log10(0.5)).sum() >= stats.binom.ppf(1e-6, TEXTS // 2, 0.25)


def counting_repeats(ids: np.ndarray, key: Key) -> float:
    """Score as if every position carried fresh randomness: the mistake."""
    rules = key.spec.rules
    contexts = np.lib.stride_tricks.sliding_window_view(ids, 4)[:-1]
    scores = rules.token_scores(key.scheme_key(), contexts, ids[4:])
    return rules.log10_tail(len(scores), float(scores.sum()))


@pytest.mark.parametrize("scheme", ["gumbel", "dual_gumbel", "bernoulli"])
def test_counting_repeats_would_break_the_rate(scheme: str) -> None:
    rng = np.random.default_rng(3)
    found = [counting_repeats(periodic(rng), Key.new("n", rng.bytes(32), Spec(scheme=scheme))) for _ in range(300)]
    assert (np.array(found) <= np.log10(0.01)).sum() > 10 * 300 * 0.01
