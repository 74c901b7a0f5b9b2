import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_label.watermark import choice, prf
from llm_label.watermark.schemes.gumbel import Gumbel


def full_winner(key: int, context: np.ndarray, logits: np.ndarray) -> int:
    """Evaluate every token: what pruning must agree with."""
    return Gumbel().winner(logits, prf.words(key, context[None], np.arange(len(logits))))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocabulary=st.integers(1, 20_000),
    spread=st.sampled_from([0.0, 0.1, 1.0, 3.0, 12.0, 3000.0, 8e37]),
    kept=st.sampled_from([1, 5, 50, 1500, None]),
    shift=st.sampled_from([0.0, -80.0, 500.0]),
)
def test_pruning_finds_the_winner_of_the_full_race(
    seed: int, vocabulary: int, spread: float, kept: int | None, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    logits = (spread * rng.standard_normal((3, vocabulary)) + shift).clip(-3.4e38, 3.4e38).astype(np.float32)
    if kept is not None:  # as a top-k warper leaves them
        logits[np.argsort(np.argsort(-logits, axis=1), axis=1) >= kept] = -np.inf
    contexts = rng.integers(0, vocabulary, (3, 4))
    expected = [full_winner(seed, c, line) for c, line in zip(contexts, logits, strict=True)]
    assert choice.winners(seed, contexts, logits).tolist() == expected


def test_winners_follow_the_distribution() -> None:
    """Over 20,000 contexts the choice is a sample of softmax(logits): chi-square of 7 degrees below 29.9.

    Chance of failing for a random key: 1e-4; the key is fixed.
    """
    logits = np.log(np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.05, 0.02], dtype=np.float32))
    contexts = np.random.default_rng(5).integers(0, 50_000, (20_000, 4))
    drawn = choice.winners(99, contexts, np.broadcast_to(logits, (20_000, 8)))
    expected = 20_000 * np.exp(logits.astype(np.float64))
    observed = np.bincount(drawn, minlength=8)
    assert float(((observed - expected) ** 2 / expected).sum()) < 29.9


def test_only_tokens_that_can_win_are_hashed(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = 0
    real = prf.group_words

    def counting(key: int, states: np.ndarray, groups: np.ndarray) -> np.ndarray:
        nonlocal hashed
        hashed += len(groups)
        return real(key, states, groups)

    monkeypatch.setattr(prf, "group_words", counting)
    logits = np.full((1, 150_000), -40.0, dtype=np.float32)
    logits[0, ::1000] = 0.0
    choice.winners(1, np.array([[1, 2, 3, 4]]), logits)
    assert hashed < 1000


def test_the_least_race_is_that_of_the_largest_uniform() -> None:
    assert pytest.approx(2.0**-24, rel=1e-6) == choice.LEAST_RACE


@pytest.mark.parametrize("vocabulary", [2001, 2002, 2003])
def test_words_of_ids_beyond_the_vocabulary_are_never_looked_up(
    monkeypatch: pytest.MonkeyPatch, vocabulary: int
) -> None:
    """Ids come in groups of four; the largest words pass any threshold, also in the last group's empty lanes."""
    largest = np.uint64(prf.MASK)
    monkeypatch.setattr(prf, "group_words", lambda key, states, groups: np.full((4, len(groups)), largest))
    assert choice.winners(1, np.array([[1, 2, 3, 4]]), np.zeros((1, vocabulary), dtype=np.float32)).tolist() == [0]


@pytest.mark.parametrize("vocabulary", [10, 3000])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", [[0], [9], slice(None)])
def test_a_row_that_is_no_distribution_has_no_winner(vocabulary: int, value: float, where: object) -> None:
    logits = np.zeros((2, vocabulary), dtype=np.float32)
    logits[0, where] = value  # type: ignore[index]
    contexts = np.array([[1, 2, 3, 4], [1, 2, 3, 4]])
    assert choice.winners(1, contexts, logits).tolist() == [-1, full_winner(1, contexts[1], logits[1])]
