"""Philox4x32-10 over (key, context, token): the mapping philox4x32-10-v1, 64-bit keys.

Philox4x32-10 is Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011). The way contexts and
tokens enter it is vLLM's, constant for constant, so that either side reads what the other wrote. Philox is fast
and reproducible; it is not a cryptographic PRF, and its words do not hide the key from an adversary who can choose
contexts at will.

numpy's own Philox is the 4x64 variant and cannot stand in.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "CONTEXT_DOMAIN",
    "KEY_BYTES",
    "LANES",
    "MASK",
    "NAME",
    "ROUNDS",
    "TOKEN_DOMAIN",
    "WEYL",
    "absorb",
    "group_words",
]

NAME = "philox4x32-10-v1"
KEY_BYTES = 8
LANES = 4  # words of one evaluation, for as many neighbouring token ids
Words: TypeAlias = npt.NDArray[np.uint64]

CONTEXT_DOMAIN = 0x574D4358
TOKEN_DOMAIN = 0x574D544B
MASK = 0xFFFFFFFF
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10

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
        state = _joined(*_philox(state[0::2], state[3::-2], block_key))
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
    return _joined(*_philox(even, odd, token_key))


def _joined(even: Words, odd: Words) -> Words:
    """Return words [4, n] from [c0, c2] and [c3, c1]."""
    whole = np.empty((4, even.shape[1]), dtype=np.uint64)
    whole[0::2] = even
    whole[3::-2] = odd
    return whole
