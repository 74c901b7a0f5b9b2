import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_label.watermark import choice, philox
from llm_label.watermark.prf import DEFAULT, MASK, PRFS, Keys, Stream
from llm_label.watermark.schemes.gumbel import Gumbel

PHILOX = PRFS[DEFAULT]
CONTEXT = np.array([[1, 2, 3, 4]])


def full_winner(stream: Stream, context: np.ndarray, logits: np.ndarray) -> int:
    """Evaluate every token: what pruning must agree with."""
    return Gumbel().winner(logits, stream.words(context[None], np.arange(len(logits))))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    vocabulary=st.integers(1, 20_000),
    spread=st.sampled_from([0.0, 0.1, 1.0, 3.0, 12.0, 3000.0, 8e37]),
    kept=st.sampled_from([1, 5, 50, 1500, None]),
    shift=st.sampled_from([0.0, -80.0, 500.0]),
    prf=st.sampled_from(list(PRFS)),
    payload=st.sampled_from([0, 0, 1, 2, 7, 255, 40_000]),
)
def test_pruning_finds_the_winner_of_the_full_race(
    seed: int, vocabulary: int, spread: float, kept: int | None, shift: float, prf: str, payload: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = (spread * rng.standard_normal((3, vocabulary)) + shift).clip(-3.4e38, 3.4e38).astype(np.float32)
    if kept is not None:  # as a top-k warper leaves them
        logits[np.argsort(np.argsort(-logits, axis=1), axis=1) >= kept] = -np.inf
    contexts = rng.integers(0, vocabulary, (3, 4))
    stream = Stream(PRFS[prf], seed, payload)
    expected = [full_winner(stream, c, line) for c, line in zip(contexts, logits, strict=True)]
    assert choice.winners(stream, contexts, logits).tolist() == expected


def test_winners_follow_the_distribution() -> None:
    """Over 20,000 contexts the choice is a sample of softmax(logits): chi-square of 7 degrees below 29.9.

    Chance of failing for a random key: 1e-4; the key is fixed.
    """
    logits = np.log(np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.05, 0.02], dtype=np.float32))
    contexts = np.random.default_rng(5).integers(0, 50_000, (20_000, 4))
    drawn = choice.winners(Stream(PHILOX, 99), contexts, np.broadcast_to(logits, (20_000, 8)))
    expected = 20_000 * np.exp(logits.astype(np.float64))
    observed = np.bincount(drawn, minlength=8)
    assert float(((observed - expected) ** 2 / expected).sum()) < 29.9


def test_only_tokens_that_can_win_are_hashed() -> None:
    hashed = 0

    def counting(key: Keys, states: np.ndarray, groups: np.ndarray) -> np.ndarray:
        nonlocal hashed
        hashed += len(groups)
        return philox.group_words(key, states, groups)

    stream = Stream(dataclasses.replace(PHILOX, group_words=counting), 1)
    logits = np.full((1, 150_000), -40.0, dtype=np.float32)
    logits[0, ::1000] = 0.0
    choice.winners(stream, CONTEXT, logits)
    assert hashed < 1000


def test_the_least_race_is_that_of_the_largest_uniform() -> None:
    assert pytest.approx(2.0**-24, rel=1e-6) == choice.LEAST_RACE


@pytest.mark.parametrize("vocabulary", [2001, 2002, 2003])
def test_words_of_ids_beyond_the_vocabulary_are_never_looked_up(vocabulary: int) -> None:
    """Ids come in groups of four; the largest words pass any threshold, also in the last group's empty lanes."""
    largest = dataclasses.replace(PHILOX, group_words=lambda k, s, g: np.full((4, len(g)), MASK, dtype=np.uint64))
    logits = np.zeros((1, vocabulary), dtype=np.float32)
    assert choice.winners(Stream(largest, 1), CONTEXT, logits).tolist() == [0]


@pytest.mark.parametrize("vocabulary", [10, 3000])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", [[0], [9], slice(None)])
def test_a_row_that_is_no_distribution_has_no_winner(vocabulary: int, value: float, where: object) -> None:
    logits = np.zeros((2, vocabulary), dtype=np.float32)
    logits[0, where] = value  # type: ignore[index]
    contexts = np.array([[1, 2, 3, 4], [1, 2, 3, 4]])
    stream = Stream(PHILOX, 1)
    assert choice.winners(stream, contexts, logits).tolist() == [-1, full_winner(stream, contexts[1], logits[1])]
