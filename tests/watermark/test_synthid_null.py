"""Null law of SynthID keys: exact over keys for every text, whatever its repeats; never too small on any."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from llm_label.watermark import tournament
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import scan, token_scores
from llm_label.watermark.schemes.synthid import SynthID
from tests.watermark.golden_synthid import imported
from tests.watermark.test_null_law import periodic, plain, templated, two_letters

LEVELS = (0.5, 0.1, 0.01, 0.001)
TEXTS = 300
TINY = 16  # entries of a table so small that all keys can be tried


@pytest.mark.parametrize("statistic", ["weighted", "mean"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("length", [1, 3, 12, 200])
def test_p_is_the_share_of_all_keys_that_score_as_high(statistic: str, device: str, length: int) -> None:
    """Every pair of layer keys there is, on texts with repeats, with colliding hashes, and on very short ones."""
    ids = np.random.default_rng(length).integers(0, 5, length)
    found = [
        scan(ids, imported(list(pair), sampling_table_size=TINY, statistic=statistic, sampling_table=device))
        for pair in itertools.product(range(TINY), repeat=2)
    ]
    scores = np.array([one.score for one in found])
    p = np.array([10**one.log10_p for one in found])
    assert p == pytest.approx((scores[None, :] >= scores[:, None]).mean(1), rel=1e-9)
    for level in (0.5, 0.1, 0.01):
        assert (p <= level * (1.0 + 1e-9)).mean() <= level


@pytest.mark.parametrize("size", [2, 8, 16, 256, 4096])
@pytest.mark.parametrize("n", [1, 400, 1023, 1024, 70_000])
def test_counts_for_all_keys_equal_those_key_by_key(size: int, n: int) -> None:
    """As few and as many as share a number, one state and many: what is added up there must not run over."""
    folded = tournament.folded_table("cpu", 3, size).astype(np.int64)
    for state in (np.random.default_rng(2).integers(0, size, n), np.full(n, size - 1), np.arange(n) % 2):
        counts = tournament.counts_by_key(state.astype(np.uint32), "cpu", 3, size)
        often = np.bincount(state, minlength=size)
        expected = [int(often @ np.roll(folded, -key)) for key in range(size)]
        assert counts.tolist() == expected
        assert (
            tournament.keys_by_count(state.astype(np.uint32), "cpu", 3, size).tolist() == np.bincount(expected).tolist()
        )


@pytest.mark.parametrize("text", [plain, periodic, templated, two_letters])
def test_p_values_of_unmarked_ids_are_uniform_or_above(text: Callable[[np.random.Generator], np.ndarray]) -> None:
    """A fresh key a text; chance of failing below 1e-6 a level for a random seed."""
    rng = np.random.default_rng(20261122)
    spec = Spec(scheme="synthid")
    found = np.array([scan(text(rng), Key.new("null", rng.bytes(32), spec)).log10_p for _ in range(TEXTS)])
    for level in LEVELS:
        assert (found <= np.log10(level)).sum() <= stats.binom.isf(1e-6, TEXTS, level)
    assert (found <= np.log10(0.5)).sum() >= stats.binom.ppf(1e-6, TEXTS, 0.45)  # and not wastefully above


def test_counting_a_repeated_context_twice_would_break_the_law_of_independent_bits() -> None:
    """The wrong way, shown to be wrong: a loop of ten tokens, every turn counted, bits taken for independent."""
    rng = np.random.default_rng(6)
    spec = Spec(scheme="synthid", parameters={"statistic": "mean"})  # type: ignore[arg-type]
    wrong, right = [], []
    for _ in range(200):
        ids = np.tile(rng.integers(0, 4096, 10), 20)
        key = Key.new("null", rng.bytes(32), spec)
        rules = key.spec.rules
        assert isinstance(rules, SynthID)
        contexts = np.lib.stride_tricks.sliding_window_view(ids, 4)[:-1]
        score = float(rules.token_scores(key.scheme_key(), contexts, ids[4:]).sum())
        wrong.append(rules.log10_tail(len(ids) - 4, score))
        right.append(rules.log10_p(contexts, ids[4:], score))
    assert (np.array(wrong) <= -2.0).sum() > 20  # expected: 2
    assert (np.array(right) <= -2.0).sum() <= stats.binom.isf(1e-6, 200, 0.01)


def test_the_law_without_the_text_is_close_on_text_without_repeats() -> None:
    rng = np.random.default_rng(11)
    ids = rng.integers(0, 50_000, 254)
    for statistic in ("weighted", "mean"):
        key = imported([*range(0, 3000, 100)], variety="default", statistic=statistic)
        rules = key.spec.rules
        assert isinstance(rules, SynthID)
        positions, scores = token_scores(ids, key)
        for lift in (1.04, 1.06):
            score = float(round(scores.mean() * len(positions) * lift))
            contexts = np.lib.stride_tricks.sliding_window_view(ids, 4)[:-1]
            exact = rules.log10_p(contexts, ids[4:], score)
            assert exact == pytest.approx(rules.log10_tail(len(positions), score), abs=0.4)


def test_p_cannot_fall_below_one_key_in_all() -> None:
    """However marked a text looks: 65536 keys a layer is what there is, and p says so."""
    key = imported([77])
    folded = SynthID(depth=1)._folded()
    rng = np.random.default_rng(12)
    ids: list[int] = []
    for _ in range(300):  # every bit a one
        contexts = np.array([([-1] * 4 + ids)[-4:]] * 64)
        state = SynthID(depth=1).states(contexts, candidates := rng.integers(0, 50_000, 64))
        ids.append(int(candidates[np.argmax(tournament.bits(state, (77,), folded)[:, 0])]))
    found = scan(ids, key)
    assert found.score == 10.0 * found.scored
    assert found.log10_p == pytest.approx(-math.log10(65536), abs=1e-9)
