import json

import numpy as np
import pytest

from llm_label.watermark import philox, prf
from llm_label.watermark.prf import DEFAULT, PRFS, Stream
from tests.watermark import golden_gumbel

PHILOX = PRFS[DEFAULT]
M0, M1 = 0xD2511F53, 0xCD9E8D57


def slow_philox(counter: list[int], key: tuple[int, int]) -> list[int]:
    """Philox4x32-10 as the paper writes it, on Python integers: the second, independent way."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & prf.MASK, (p0 >> 32) ^ c3 ^ k1, p0 & prf.MASK
        k0, k1 = (k0 + philox.WEYL[0]) & prf.MASK, (k1 + philox.WEYL[1]) & prf.MASK
    return [c0, c1, c2, c3]


def slow_word(key: int, context: list[int], token: int) -> int:
    low, high = key & prf.MASK, key >> 32
    state = [philox.CONTEXT_DOMAIN, len(context), 0, 0]
    for offset in range(0, len(context), 4):
        block = [c & prf.MASK for c in context[offset : offset + 4]]
        block += [prf.MASK - lane for lane in range(len(block), 4)]
        state = slow_philox([s ^ b for s, b in zip(state, block, strict=True)], (low ^ offset, high))
    return slow_philox([token >> 2, *state[:3]], (low ^ state[3], high ^ philox.TOKEN_DOMAIN))[token & 3]


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter: list[int], key: list[int], expected: str) -> None:
    answer = [int(word, 16) for word in expected.split()]
    assert slow_philox(counter, (key[0], key[1])) == answer
    c0, c1, c2, c3 = counter
    even, odd = philox._philox(
        np.array([[c0], [c2]], dtype=np.uint64),
        np.array([[c3], [c1]], dtype=np.uint64),
        np.array([[key[1]], [key[0]]], dtype=np.uint64),
    )
    assert [int(even[0, 0]), int(odd[1, 0]), int(even[1, 0]), int(odd[0, 0])] == answer


def test_words_and_mantissas_equal_the_vectors_of_vllm() -> None:
    """vLLM tests/watermarking/test_prf.py (Apache-2.0)."""
    contexts = np.array([[1, 2, 3, 4], [1, 2, 3, 4], [4, 5, 6, 7], [4, 5, 6, 7]])
    word = PHILOX.words(42, contexts, np.array([7, 8, 7, 8]))
    assert word.tolist() == [425429266, 2706218805, 2494036831, 3424185538]
    assert (word >> 8).tolist() == [1661833, 10571167, 9742331, 13375724]


def test_words_equal_the_golden_file() -> None:
    golden = json.loads(golden_gumbel.FILE.read_text(encoding="utf-8"))
    assert golden == golden_gumbel.compute()


@pytest.mark.parametrize("width", [1, 3, 4, 5, 8, 16])
def test_words_equal_plain_integer_arithmetic(width: int) -> None:
    rng = np.random.default_rng(width)
    contexts = rng.integers(-1, 200_000, (20, width))
    tokens = rng.integers(0, 200_000, 20)
    for key in (0, 42, 2**32 + 5, 2**64 - 1):
        expected = [slow_word(key, c, t) for c, t in zip(contexts.tolist(), tokens.tolist(), strict=True)]
        assert PHILOX.words(key, contexts, tokens).tolist() == expected


def test_words_broadcast_and_do_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    context = np.array([[3, 1, 4, 1]])
    tokens = np.arange(1000)
    whole = PHILOX.words(7, context, tokens)
    assert np.array_equal(PHILOX.candidate_words(7, PHILOX.absorb(7, context), tokens), whole)
    assert np.array_equal(PHILOX.words(7, np.repeat(context, 1000, axis=0), tokens), whole)
    monkeypatch.setattr(prf, "CHUNK", 7)
    assert np.array_equal(PHILOX.words(7, context, tokens), whole)
    assert np.array_equal(PHILOX.words(7, np.repeat(context, 1000, axis=0), tokens), whole)


def test_uniforms_lie_strictly_inside_zero_and_one() -> None:
    ends = prf.uniforms(np.array([0, 0xFFFFFFFF], dtype=np.uint32))
    assert 0.0 < ends[0] < 6e-8
    assert 1.0 - 6e-8 < ends[1] < 1.0
    assert ends.tolist() == [float(np.float32(1 / (2**24 + 1))), float(np.float32(2**24 / (2**24 + 1)))]


def test_keys_beyond_64_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        PHILOX.words(2**64, np.zeros((1, 4), dtype=np.int64), np.zeros(1, dtype=np.int64))


def test_a_key_of_its_own_for_each_gives_the_words_of_each_key() -> None:
    rng = np.random.default_rng(8)
    n = prf.CHUNK + 50
    keys = rng.integers(0, 2**64, n, dtype=np.uint64)
    contexts, tokens = rng.integers(-1, 2**31, (n, 5)), rng.integers(0, 2**31, n)
    found = PHILOX.words(keys, contexts, tokens)
    for k in (0, 1, 777, prf.CHUNK - 1, prf.CHUNK, n - 1):
        assert found[k] == PHILOX.words(int(keys[k]), contexts[k : k + 1], tokens[k : k + 1])[0]
    one = PHILOX.words(keys[:9], contexts[:1], tokens[:1])
    assert one.tolist() == [int(PHILOX.words(int(key), contexts[:1], tokens[:1])[0]) for key in keys[:9]]
    with pytest.raises(ValueError, match="64 bits"):
        PHILOX.words(keys.astype(np.int64), contexts, tokens)


@pytest.mark.parametrize("name", list(PRFS))
@pytest.mark.parametrize("payload", [0, 1, 6, 1000])
def test_a_payload_permutes_the_words_of_the_tokens(name: str, payload: int) -> None:
    """In every way that words are asked for, token t has the word that t XOR payload has without one."""
    contexts, tokens = np.array([[5, -1, 7, 9]]), np.arange(64)
    plain, laden = Stream(PRFS[name], 99), Stream(PRFS[name], 99, payload)
    expected = plain.words(contexts, tokens ^ payload)
    state = laden.absorb(contexts)
    assert np.array_equal(state, plain.absorb(contexts))
    assert np.array_equal(laden.words(contexts, tokens), expected)
    assert np.array_equal(laden.candidate_words(state, tokens), expected)
    groups = np.arange(64 // PRFS[name].lanes, dtype=np.uint64)
    assert np.array_equal(laden.group_words(state, groups).T.reshape(-1), expected)


def test_nothing_in_gives_nothing_out() -> None:
    nothing = np.empty((0, 4), dtype=np.int64)
    for made in PRFS.values():
        assert len(made.words(1, nothing, nothing[:, 0])) == 0 == len(made.words(1, nothing, np.array([3])))


def test_a_stream_does_not_show_its_key() -> None:
    assert "987654321" not in repr(Stream(PHILOX, 987654321))
