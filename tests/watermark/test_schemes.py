"""dual_gumbel and bernoulli: golden files, agreement with vLLM, what counts once, what a mark should score."""

import json
import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy import stats

from llm_label.errors import KeyringError
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import Scan, decision, scan, token_scores
from llm_label.watermark.schemes import SCHEMES, Scheme, parameters
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label.watermark.schemes.dual_gumbel import DualGumbel
from llm_label.watermark.schemes.gumbel import Gumbel
from tests.watermark import golden_bernoulli, golden_dual_gumbel
from tests.watermark.golden_gumbel import generate as generate_gumbel

DUAL = Spec(scheme="dual_gumbel")
COIN = Spec(scheme="bernoulli")


def vllm(key: int, alpha: float) -> Key:
    return Key.imported("vllm", key, Spec(scheme="dual_gumbel", parameters={"alpha": alpha}, variety="none"))  # type: ignore[arg-type]


@pytest.mark.parametrize("golden", [golden_dual_gumbel, golden_bernoulli])
def test_the_golden_file_is_what_the_scheme_computes(golden: ModuleType) -> None:
    held = json.loads(golden.FILE.read_text(encoding="utf-8"))
    computed = json.loads(json.dumps(golden.compute()))
    for mine, theirs in zip(held.pop("generations"), computed.pop("generations"), strict=True):
        for figure in ("score", "log10_p"):
            assert mine.pop(figure) == pytest.approx(theirs.pop(figure), rel=1e-12)
        assert mine == theirs
    assert held == computed


@pytest.mark.parametrize(
    ("key", "pair"),
    [
        (0, (15691511769010696906, 9736202488081271922)),
        (7, (3490214442843822077, 7720047515392181251)),
        (42, (37150756557148556, 15826636237805488045)),
        (2**32, (9864452095710749384, 10834826187781349534)),
        (2**64 - 1, (11075965703501209888, 7399018451426338514)),
    ],
)
def test_both_keys_derive_as_in_vllm(key: int, pair: tuple[int, int]) -> None:
    """vLLM tests/watermarking/watermarking_goldens.json (Apache-2.0), here and below."""
    assert DualGumbel().keys(key) == pair


@pytest.mark.parametrize(
    ("key", "made", "read", "first", "score", "matched"),
    [
        (0, 0.1, 0.1, [70, 56, 91, 90, 72, 68, 17, 78], 241.81126265648692, 1.234132682420224e-51),
        (42, 0.1, 0.2, [46, 56, 6, 122, 30, 100, 121, 67], 215.24386344560963, 1.6569954931292397e-49),
        (2**64 - 1, 0.4, 0.4, [7, 42, 13, 55, 103, 125, 96, 85], 177.98266424643373, 5.9713149418801004e-43),
    ],
)
def test_two_keys_generate_and_score_as_in_vllm_and_its_p_is_too_small(
    key: int, made: float, read: float, first: list[int], score: float, matched: float
) -> None:
    ids = golden_dual_gumbel.generate(key, made)
    assert ids[:8] == first
    found = scan(ids, vllm(key, read))
    assert (found.scored, found.score) == (64, pytest.approx(score, rel=1e-12))
    assert found.log10_p > math.log10(matched) + 1.0  # moment matching: ten times too small this far out, and more


def test_a_short_text_of_few_tokens_scores_as_in_vllm() -> None:
    ids = golden_dual_gumbel.generate(7, 0.1, length=8, vocabulary=16)
    assert ids == [7, 3, 13, 2, 5, 1, 4, 14]
    found = scan(ids, vllm(7, 0.1))
    assert found.score == pytest.approx(17.2829982488662, rel=1e-12)
    assert 1.0 < 10**found.log10_p / 0.002130807652336366 < 1.2


def test_with_no_share_the_other_key_is_silent() -> None:
    ids = np.random.default_rng(3).integers(0, 5000, 200)
    a, b = DualGumbel().keys(42)
    for alpha, alone in ((0.0, a), (1.0, b)):
        assert scan(ids, vllm(42, alpha)) == scan(ids, Key.imported("one", alone, Spec(variety="none")))


def test_a_text_under_one_key_alone_is_found_with_two() -> None:
    """Drafts get key A in speculative decoding, whatever alpha says."""
    ids = generate_gumbel(DualGumbel().keys(42)[0], 4, skip_repeats=True)
    assert scan(ids, vllm(42, 0.1)).log10_p < -40


def test_a_context_counts_once_for_two_keys_and_again_with_another_token_for_the_coin() -> None:
    ids = [1, 2, 3, 4, 5, 1, 2, 3, 4, 6, 1, 2, 3, 4, 5]
    pairs = [tuple(ids[n - 4 : n + 1]) for n in range(4, len(ids))]
    assert scan(ids, Key.new("k", bytes(32), DUAL)).scored == len({pair[:4] for pair in pairs}) == 9
    assert scan(ids, Key.new("k", bytes(32), COIN)).scored == len(set(pairs)) == 10
    positions, scores = token_scores(ids, Key.new("k", bytes(32), COIN))
    assert positions.tolist() == list(range(4, 14))
    assert set(scores.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("gamma", [0.01, 0.1, 0.25, 0.5, 0.9, 0.99])
def test_green_words_are_an_exact_share_of_all_words(gamma: float) -> None:
    rules = Bernoulli(gamma)
    around = np.array([0, rules.threshold - 1, rules.threshold, 2**32 - 1], dtype=np.uint32)
    assert rules.green(around).tolist() == [True, True, False, False]
    assert rules.chance == rules.threshold / 2**32 == pytest.approx(gamma, abs=2**-33)


def test_over_keys_green_tokens_come_at_the_rate_gamma() -> None:
    """20,000 contexts; the key is fixed. Chance of failing for a random key: 1e-4."""
    rng = np.random.default_rng(9)
    contexts, tokens = rng.integers(0, 150_000, (20_000, 4)), rng.integers(0, 150_000, 20_000)
    greens = int(Bernoulli(0.25).token_scores(5, contexts, tokens).sum())
    assert stats.binom.cdf(greens, 20_000, 0.25) == pytest.approx(0.5, abs=0.49995)


def test_a_plausible_score_is_that_of_three_even_choices() -> None:
    """The expectation by drawing, within 5 standard errors; and two keys dilute one."""
    rng, rules = np.random.default_rng(4), Bernoulli(0.25, 2.0)
    green = rng.random((200_000, 3)) < 0.25
    weight = np.where(green, math.exp(2.0), 1.0)
    rate = (weight * green).sum(1) / weight.sum(1)
    assert rules.plausible(10**6) / 10**6 == pytest.approx(rate.mean(), abs=5 * rate.std() / math.sqrt(200_000))
    assert DualGumbel(0.0).plausible(10) == DualGumbel(1.0).plausible(10) == Gumbel().plausible(10)
    assert DualGumbel(0.1).plausible(100) == pytest.approx(182.0)
    assert DualGumbel(0.5).plausible(100) == pytest.approx(150.0)


@pytest.mark.parametrize(
    ("spec", "needed"),
    [(Spec(), 37), (DUAL, 43), (Spec(scheme="bernoulli", parameters={"gamma": 0.25}), 101)],  # type: ignore[arg-type]
)
def test_too_few_tokens_are_insufficient_by_the_power_of_the_scheme(spec: Spec, needed: int) -> None:
    key = Key.new("k", bytes(32), spec)
    decisions = [decision(Scan(0.0, n, 4, -0.1), key, 1e-6) for n in range(400)]
    first = decisions.index("not_shown")
    assert first == pytest.approx(needed, rel=0.05)
    assert set(decisions[: first - 4]) == {"insufficient"}
    assert set(decisions[first + 4 :]) == {"not_shown"}, "counts are whole: the border may flicker, not more"


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_says_what_all_keys_need_and_never_underflows(name: str) -> None:
    rules: Scheme = Spec(scheme=name).rules
    assert rules.name == name and rules.once_per in ("context", "token") and rules.key_bytes >= 8
    key = Key.new("k", bytes(range(32)), Spec(scheme=name))
    auditor = key.for_auditor()
    ids = np.random.default_rng(1).integers(0, 5000, 300)
    assert scan(ids, auditor) == scan(ids, key)
    assert auditor.spec.parameters == key.spec.parameters and auditor.fingerprint == key.fingerprint
    for length in (0, 1, 4):
        assert scan(ids[:length], key) == Scan(0.0, 0, length, 0.0)
    for n in (1, 100, 10_000):
        log10_p = rules.log10_tail(n, rules.plausible(n) if n == 1 else 0.99 * n)
        assert math.isfinite(log10_p) and log10_p <= 0.0


def test_schemes_derive_keys_of_their_own() -> None:
    keys = {name: Key.new("k", bytes(range(32)), Spec(scheme=name)).scheme_key() for name in SCHEMES}
    assert len(set(keys.values())) == len(SCHEMES)


@pytest.mark.parametrize(
    ("scheme", "given", "message"),
    [
        ("dual_gumbel", {"alpha": 1.5}, "alpha is a number from 0 to 1, not 1.5"),
        ("dual_gumbel", {"alpha": 0.001}, "alpha is 0, 1 or from 0.01 to 0.99, not 0.001"),
        ("dual_gumbel", {"alpha": "0.1"}, "alpha is a number from 0 to 1, not '0.1'"),
        ("dual_gumbel", {"alpha": True}, "not True"),
        ("dual_gumbel", {"alpha": math.nan}, "not nan"),
        ("dual_gumbel", {"gamma": 0.5}, "scheme 'dual_gumbel' has no parameter 'gamma'; known: alpha"),
        ("gumbel", {"alpha": 0.5}, "scheme 'gumbel' has no parameter 'alpha'; known: none"),
        ("bernoulli", {"gamma": 0.0}, "gamma is a number from 0.01 to 0.99, not 0.0"),
        ("bernoulli", {"gamma": 1}, "not 1"),
        ("bernoulli", {"delta": 0}, "delta is a number from 0.1 to 20, not 0"),
        ("bernoulli", {"delta": None}, "not None"),
        ("bernoulli", {"delta": 10**400}, "(not shown)"),
        ("bernoulli", {"delta": [bytes(32).hex()]}, "(not shown)"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(scheme: str, given: Any, message: str) -> None:
    with pytest.raises(KeyringError) as caught:
        Spec(scheme=scheme, parameters=given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_specs_hold_their_parameters_by_value() -> None:
    short, whole = (
        Spec(scheme="bernoulli", parameters={"delta": 2}),
        Spec(  # type: ignore[arg-type]
            scheme="bernoulli", parameters=(("gamma", 0.5), ("delta", 2.0))
        ),
    )
    assert short == whole and hash(short) == hash(whole) and short.rules is whole.rules
    assert parameters("bernoulli") == ("gamma", "delta") and parameters("gumbel") == ()
