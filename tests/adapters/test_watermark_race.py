"""The torch arithmetic gives the words and winners of the numpy one, on every device that is there."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the transformers adapter needs torch")

from llm_label_transformers import philox, race, siphash  # after the skip

from llm_label.errors import MarkError
from llm_label.watermark import choice
from llm_label.watermark.prf import DEFAULT, PRF, PRFS, Stream, uniforms

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("prf", PRFS.values(), ids=list(PRFS))
@pytest.mark.parametrize("payload", [0, 200])
@pytest.mark.parametrize("key", [0, 42, 2**32 + 7, 2**63 + 11, -1])
def test_words_and_uniforms_equal_those_of_numpy(key: int, payload: int, prf: PRF, device: str) -> None:
    rng = np.random.default_rng(3)
    contexts = rng.integers(-1, 200_000, (500, 4))
    tokens = rng.integers(0, 200_000, 500)
    stream = Stream(prf, key % 2 ** (8 * prf.key_bytes), payload)
    expected = stream.words(contexts, tokens)
    states = race.states(stream, contexts, torch.device(device))
    words = race.candidate_words(stream, states, torch.from_numpy(tokens).to(device))
    assert words.tolist() == expected.tolist()
    assert race.uniforms(words).tolist() == uniforms(expected).tolist()


@pytest.mark.parametrize("prf", PRFS.values(), ids=list(PRFS))
@pytest.mark.parametrize("kept", [1, 50, None])
@pytest.mark.parametrize("spread", [0.1, 3.0, 12.0])
def test_winners_equal_those_of_numpy(kept: int | None, spread: float, prf: PRF, device: str) -> None:
    rng = np.random.default_rng(8)
    logits = (spread * rng.standard_normal((6, 5000))).astype(np.float32)
    if kept is not None:
        logits[np.argsort(np.argsort(-logits, axis=1), axis=1) >= kept] = -np.inf
    contexts = rng.integers(0, 5000, (6, 4))
    stream = Stream(prf, 5, 3)
    states = race.states(stream, contexts, torch.device(device))
    chosen = race.winners(stream, states, torch.from_numpy(logits).to(device))
    assert chosen.tolist() == choice.winners(stream, contexts, logits).tolist()


def test_a_row_without_any_candidate_has_no_winner_on_either_side() -> None:
    logits = np.full((1, 100), -np.inf, dtype=np.float32)
    contexts, stream = np.array([[1, 2, 3, 4]]), Stream(PRFS[DEFAULT], 5)
    states = race.states(stream, contexts, torch.device("cpu"))
    assert choice.winners(stream, contexts, logits).tolist() == [-1]
    assert race.winners(stream, states, torch.from_numpy(logits)).tolist() == [-1]


@pytest.mark.parametrize(("prf", "module", "constant"), [(DEFAULT, philox, "M0"), ("siphash-2-4-v1", siphash, "MASK")])
def test_a_device_that_computes_other_words_is_refused(
    prf: str, module: Any, constant: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    race.check_device.cache_clear()
    race.check_device(torch.device(device), prf)
    race.check_device.cache_clear()
    monkeypatch.setattr(module, constant, getattr(module, constant) - 2)
    with pytest.raises(MarkError, match="does not compute the watermark's integers right"):
        race.check_device(torch.device(device), prf)
    race.check_device.cache_clear()
