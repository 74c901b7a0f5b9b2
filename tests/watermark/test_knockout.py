"""The tournament on probabilities, against the formula written out; in the mean over keys it changes nothing."""

import json

import numpy as np
import pytest

from llm_label.watermark import knockout
from llm_label.watermark.schemes.synthid import SynthID, join_keys
from tests.testdata import folder

KEYS = [*range(5, 305, 10)]
CONTEXTS = np.array([[3, 1, 4, 1], [-1, -1, 5, 9], [2, 6, 5, 3]])


def plain(rules: SynthID, key: int, context: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Return the probabilities after every layer, token by token as the paper has it."""
    weight = np.exp(logits.astype(np.float64) - logits.max())
    mass = weight / weight.sum()
    every = np.arange(len(logits))
    bits = rules.bits(key, np.repeat(context[None], len(logits), axis=0), every)
    for g in bits.T:
        mass = mass * (1.0 + g - (g * mass).sum())
    return mass


def logits_of(rows: int, vocabulary: int, seed: int = 1) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(rows, vocabulary)) * 3.0).astype(np.float32)


@pytest.mark.parametrize("vocabulary", [30, 5000, 20_000, 140_000])
@pytest.mark.parametrize("size", [256, 65536, 2**17])
def test_rows_equal_the_formula(vocabulary: int, size: int) -> None:
    rules = SynthID(sampling_table="cuda", sampling_table_size=size)
    logits = logits_of(3, vocabulary)
    logits[1, 7:] = -np.inf  # a row of seven tokens beside rows of all
    after = np.exp(knockout.redistribute(rules, join_keys(KEYS), CONTEXTS, logits).astype(np.float64))
    for row in range(3):
        expected = plain(rules, join_keys(KEYS), CONTEXTS[row], logits[row])
        assert np.abs(after[row] - expected).max() < 3e-6
        assert after[row].sum() == pytest.approx(1.0, abs=1e-5)
    assert (after[1, 7:] == 0.0).all()


def test_scores_equal_those_of_transformers() -> None:
    lines = (folder("data/watermarked") / "prf_vectors.jsonl").read_text().splitlines()
    cases = [case for case in map(json.loads, lines) if case["kind"] == "synthid_scores"]
    assert cases
    for case in cases:
        rules = SynthID(
            depth=len(case["keys"]),
            ngram_len=case["ngram_len"],
            sampling_table_seed=case["sampling_table_seed"],
        )
        key, seen = join_keys(case["keys"]), set()
        logits = np.array([case["logits"]], dtype=np.float32)
        prompt = len(case["steps"][0]["input_ids"])
        for step in case["steps"]:
            written = [0] * rules.context_width + step["input_ids"][prompt:]
            context = tuple(written[-rules.context_width :])
            if context not in seen:
                got = knockout.redistribute(rules, key, np.array([context]), logits)[0].astype(np.float64)
                assert np.exp(got) == pytest.approx(np.exp(step["log_probs"]), rel=2e-4, abs=1e-9)
            seen.add(context)
        assert len(seen) >= 2


def test_over_keys_the_probabilities_are_the_models() -> None:
    """Within six standard errors for six tokens: chance of failing about 1e-8 for random keys."""
    logits = np.log(np.array([[0.3, 0.25, 0.2, 0.1, 0.1, 0.05]], dtype=np.float32))
    rng, rules = np.random.default_rng(5), SynthID(sampling_table_size=2048)
    keys = [join_keys(rng.integers(0, 2**62, 30).tolist()) for _ in range(500)]
    contexts = rng.integers(0, 5000, (6, 4))
    drawn = np.concatenate(
        [np.exp(knockout.redistribute(rules, key, contexts, np.tile(logits, (6, 1)))) for key in keys]
    )
    error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - np.exp(logits[0])) < 6.0 * error).all()
    assert drawn.max(axis=1).mean() > 0.8  # while a single key nearly decides


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_distribution_comes_back_as_it_is(bad: float) -> None:
    logits = logits_of(3, 40)
    logits[1, :] = bad
    after = knockout.redistribute(SynthID(), join_keys(KEYS), CONTEXTS, logits)
    assert np.array_equal(after[1], logits[1], equal_nan=True)
    assert np.exp(after[0].astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-5)


def test_the_logits_given_are_not_changed() -> None:
    logits = logits_of(3, 40)
    before = logits.copy()
    knockout.redistribute(SynthID(), join_keys(KEYS), CONTEXTS, logits)
    assert np.array_equal(logits, before)
