"""(key, context, token) -> integer word, by the mapping philox4x32-10-v1.

Philox4x32-10 is Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011). The way contexts and
tokens enter it is vLLM's, constant for constant, so that either side reads what the other wrote. Integers
only: the contract between devices is equality of these words. Philox is fast and reproducible; it is not a
cryptographic PRF, and these words do not hide the key from an adversary who can choose contexts at will.

numpy's own Philox is the 4x64 variant and cannot stand in.
"""

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["PRF", "absorb", "candidate_words", "group_words", "uniforms", "words"]

PRF = "philox4x32-10-v1"
Words: TypeAlias = npt.NDArray[np.uint64]

CONTEXT_DOMAIN = 0x574D4358
TOKEN_DOMAIN = 0x574D544B
MASK = 0xFFFFFFFF
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
CHUNK = 8192  # lanes whose ten rounds stay within a core's second-level cache

_MASK = np.uint64(MASK)
_SHIFT = np.uint64(32)
_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], dtype=np.uint64)


def _philox(even: Words, odd: Words, key: Words) -> tuple[Words, Words]:
    """Run ten rounds on counters [c0, c2] and [c3, c1], both [2, n]; key is [k1, k0], [2, 1] or [2, n].

    The two halves of a round do the same thing, so each numpy call serves both: rows are paired such that
    [hi(c0·M0), hi(c2·M1)] ^ [c3, c1] ^ [k1, k0] gives [c2', c0'], and the low halves give [c3', c1'].
    """
    product = np.empty_like(even)
    high = np.empty_like(even)
    low = odd.copy()
    bump = np.array([[WEYL[1]], [WEYL[0]]], dtype=np.uint64)
    key = key.copy()
    for round_index in range(ROUNDS):
        if round_index:
            key += bump
            key &= _MASK
        np.multiply(even, _MULTIPLIERS, out=product)
        np.right_shift(product, _SHIFT, out=high)
        high ^= low
        high ^= key
        np.bitwise_and(product, _MASK, out=low)
        even, high = high[::-1], even[::-1]  # rows swap back into [c0, c2]
    return even, low


def absorb(key: int | Words, contexts: npt.NDArray[np.int64]) -> Words:
    """Turn contexts [n, h] (−1 where there was no token yet) into states [4, n]; one key, or one each [n]."""
    n, width = contexts.shape
    block = contexts.astype(np.int64).view(np.uint64) & _MASK
    state = np.zeros((4, n), dtype=np.uint64)
    state[0], state[1] = CONTEXT_DOMAIN, width
    for offset in range(0, width, 4):
        for lane in range(4):
            position = offset + lane
            state[lane] ^= block[:, position] if position < width else np.uint64(MASK - lane)
        block_key = np.array([key >> 32, (key & MASK) ^ offset], dtype=np.uint64).reshape(2, -1)
        even, odd = _philox(state[0::2], state[3::-2], block_key)
        state = np.stack([even[0], odd[1], even[1], odd[0]])
    return state


def group_words(key: int | Words, states: Words, groups: Words) -> Words:
    """Return the four words [4, n] that token ids 4g … 4g+3 share; states [4, n] or [4, 1], groups [n], key or [n]."""
    n = groups.shape[0]
    # counter (g, s0, s1, s2); key (low ^ s3, high ^ tag)
    even = np.empty((2, n), dtype=np.uint64)
    odd = np.empty((2, n), dtype=np.uint64)
    even[0], even[1] = groups, states[1]
    odd[0], odd[1] = states[2], states[0]
    lanes = max(states.shape[1], np.size(key))
    token_key = np.empty((2, lanes), dtype=np.uint64)
    token_key[0] = (key >> 32) ^ TOKEN_DOMAIN
    token_key[1] = states[3] ^ np.uint64(key & MASK)
    even, odd = _philox(even, odd, token_key)
    return np.stack([even[0], odd[1], even[1], odd[0]])


def _pick(key: int | Words, states: Words, tokens: Words) -> npt.NDArray[np.uint32]:
    groups = group_words(key, states, tokens >> np.uint64(2))
    lane = (tokens & np.uint64(3)).astype(np.intp)
    return groups[lane, np.arange(tokens.shape[0])].astype(np.uint32)


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, n, CHUNK))


def words(key: int | Words, contexts: npt.NDArray[np.int64], tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Return the word [n] of each (context, token); contexts [n, h], tokens [n]; a length of 1 broadcasts.

    key: one for all, or one each, [n] in uint64.
    """
    _check_key(key)
    n = max(len(contexts), len(tokens), np.size(key))
    contexts = np.broadcast_to(contexts, (n, contexts.shape[1]))
    ids = np.broadcast_to(np.asarray(tokens, dtype=np.int64), (n,)).astype(np.uint64) & _MASK
    keys = key if isinstance(key, int) else np.broadcast_to(key, (n,))
    out = np.empty(n, dtype=np.uint32)
    for part in _chunks(n):
        here = keys if isinstance(keys, int) else keys[part]
        out[part] = _pick(here, absorb(here, contexts[part]), ids[part])
    return out


def candidate_words(key: int, state: Words, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.uint32]:
    """Return the word [n] of each candidate token [n] after one absorbed context, state [4, 1] or [4, n]."""
    ids = tokens.astype(np.uint64) & _MASK
    shared = state.shape[1] == 1
    out = np.empty(len(ids), dtype=np.uint32)
    for part in _chunks(len(ids)):
        out[part] = _pick(key, state if shared else state[:, part], ids[part])
    return out


def uniforms(word: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """Map words to float32((top 24 bits + 1) / (2^24 + 1)), strictly inside (0, 1), widened to float64."""
    mantissa = (word >> np.uint32(8)).astype(np.float64) + 1.0
    mantissa /= float(2**24 + 1)
    return mantissa.astype(np.float32).astype(np.float64)


def _check_key(key: int | Words) -> None:
    right = 0 <= key < 2**64 if isinstance(key, int) else key.dtype == np.uint64
    if not right:
        raise ValueError("a Philox key is an integer of 64 bits, 0 to 2^64 - 1")
