"""Payloads worth a closer look: the right ones are among them, also in a small part of a long text."""

import numpy as np
import pytest

from llm_label.watermark import shortlist as module
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.shortlist import BLOCK, MOST, planned, shortlist
from tests.verify.marking import marked_ids

KEY = Key.new("k", bytes(range(32)), Spec(payload_bits=8))


def human(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 150_000, length)


def test_a_key_without_payloads_has_a_list_of_one() -> None:
    assert shortlist(human(100), Key.new("k", bytes(32), Spec())) == (0,)


@pytest.mark.parametrize("length", [0, 1, 100, 2000])
def test_unmarked_text_has_few(length: int) -> None:
    assert 1 <= len(shortlist(human(length), KEY)) <= 2


def test_passages_of_two_payloads_in_a_long_text_are_both_found() -> None:
    marks = [np.array(marked_ids(KEY.carrying(payload), list(range(1000, 1400)), 120, payload)) for payload in (7, 250)]
    ids = np.concatenate([human(3000), marks[0], human(3000, 1), marks[1], human(3000, 2)])
    assert {7, 250} <= set(shortlist(ids, KEY))


@pytest.mark.parametrize("bits", [1, 8, 12])
def test_passages_of_two_payloads_in_one_block_are_both_found(bits: int) -> None:
    """Two answers of 60 tokens, from two deployments, pasted one after the other."""
    key = Key.new("k", bytes(range(32)), Spec(payload_bits=bits))
    marks = [marked_ids(key.carrying(payload), list(range(1000, 1400)), 60, payload) for payload in (0, 2**bits - 1)]
    assert shortlist(np.concatenate(marks), key) == (0, 2**bits - 1)


def test_work_on_a_long_text_is_bounded_and_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 10 * BLOCK * 256)
    (starts,), left_out = planned([1_000_000], KEY)
    assert len(starts) == 10 and starts[0] < 110_000 and starts[-1] > 890_000
    assert len(set(np.diff(starts).tolist())) <= 2
    assert 9 * BLOCK < 1_000_000 - left_out <= 10 * BLOCK
    assert planned([1000], KEY) == ([[0, 256, 512, 768]], 0)
    assert MOST >> 16 >= BLOCK, "at 16 bits too something is read"


def test_texts_of_one_input_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1000 * 256)
    lengths = [30] * 200 + [0, 3000]
    starts, left_out = planned(lengths, KEY)
    taken = [sum(min(BLOCK, n - start) for start in at) for n, at in zip(lengths, starts, strict=True)]
    assert 1000 - BLOCK <= sum(taken) <= 1000 and left_out == sum(lengths) - sum(taken)
    assert abs(sum(taken[:200]) - 667) <= BLOCK and taken[200] == 0 and taken[201] > 0
    assert shortlist(human(3000), KEY, []) == (0,), "a text that got nothing is still tried once"


def test_a_key_without_payloads_leaves_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    assert planned([5000, 10], Key.new("k", bytes(32), Spec())).left_out == 0
