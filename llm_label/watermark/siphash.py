"""SipHash-2-4 over (key, context, token): the mapping siphash-2-4-v1, 128-bit keys, a cryptographic PRF.

Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). The message is, little-endian throughout, the
width h of the context in 8 bytes, its ids in 4 bytes each (−1, where there was no token yet, as 2^32 − 1), zeros up to
a whole number of 8 bytes, and half the token id in 4 bytes. That id's lowest bit picks one of the result's two halves,
the low one for even ids. A context is absorbed once; then two neighbouring candidates cost one message block with its
finalisation. The key's 16 bytes are taken in the order of the big-endian number that holds them.
"""

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["KEY_BYTES", "LANES", "NAME", "SEED", "absorb", "group_words"]

NAME = "siphash-2-4-v1"
KEY_BYTES = 16
LANES = 2  # words of one evaluation, for as many neighbouring token ids
Words: TypeAlias = npt.NDArray[np.uint64]

SEED = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)

_SHIFT = np.uint64(32)
_MASK = np.uint64(0xFFFFFFFF)
_FIRST = np.array([[13], [16]], dtype=np.uint64)  # rotations of v1, v3 in the two halves of a round
_SECOND = np.array([[17], [21]], dtype=np.uint64)


def _rotate(rows: Words, by: Words | np.uint64, scratch: Words) -> None:
    """Rotate 64-bit words to the left, in place."""
    np.left_shift(rows, by, out=scratch)
    np.right_shift(rows, np.uint64(64) - by, out=rows)
    rows |= scratch


def _rounds(state: Words, count: int) -> None:
    """Run SipRounds on states [4, n] in place; v0 and v2, v1 and v3 do the same, so each numpy call serves two."""
    even, odd = state[0::2], state[1::2]  # v0, v2 and v1, v3
    scratch = np.empty_like(odd)
    for _ in range(count):
        even += odd
        _rotate(odd, _FIRST, scratch)
        odd ^= even
        _rotate(even[0], _SHIFT, scratch[0])
        even += odd[::-1]
        _rotate(odd, _SECOND, scratch)
        odd ^= even[::-1]
        _rotate(even[1], _SHIFT, scratch[0])


def _compress(state: Words, block: Words | np.uint64) -> None:
    """Take in one message block [n] of 8 bytes."""
    state[3] ^= block
    _rounds(state, 2)
    state[0] ^= block


def _finish(state: Words) -> Words:
    """Return the hash [n]; the state is spent."""
    state[2] ^= np.uint64(0xFF)
    _rounds(state, 4)
    return np.asarray(np.bitwise_xor.reduce(state, axis=0))


def _halves(key: int) -> Words:
    """Return the 64-bit words [2, 1] of a key, most significant first."""
    return np.array([[key >> 64], [key & 0xFFFFFFFFFFFFFFFF]], dtype=np.uint64)


def _opened(key: Words, width: int) -> Words:
    """Return the states [4, n] of keys [2, n] after the width; SipHash reads a key's bytes as little-endian words."""
    halves = key.byteswap()
    state = np.concatenate([halves, halves]) ^ np.array(SEED, dtype=np.uint64)[:, None]
    _compress(state, np.uint64(width))
    return state


@lru_cache(maxsize=1024)
def _start(key: int, width: int) -> Words:
    return _opened(_halves(key), width)


def absorb(key: int | Words, contexts: npt.NDArray[np.int64]) -> Words:
    """Turn contexts [n, h] (−1 where there was no token yet) into states [5, n]; one key, or one each [2, n].

    The fifth row is what the last block holds beside the token: the message's length in its topmost byte.
    """
    n, width = contexts.shape
    ids = contexts.astype(np.int64).view(np.uint64) & _MASK
    state = np.empty((5, n), dtype=np.uint64)
    state[:4] = _start(key, width) if isinstance(key, int) else _opened(key, width)
    for column in range(0, width, 2):
        high = ids[:, column + 1] << _SHIFT if column + 1 < width else np.uint64(0)
        _compress(state[:4], ids[:, column] | high)
    state[4] = (8 + 8 * -(-width // 2) + 4) % 256 << 56
    return state


def group_words(key: int | Words, states: Words, groups: Words) -> Words:
    """Return the two words [2, n] that token ids 2g and 2g + 1 share; states [5, n] or [5, 1], groups [n]."""
    state = np.empty((4, len(groups)), dtype=np.uint64)
    state[:] = states[:4]
    _compress(state, groups | states[4])
    whole = _finish(state)
    return np.stack([whole & _MASK, whole >> _SHIFT])
