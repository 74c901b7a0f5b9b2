"""Token ids -> the g bits of SynthID-Text, as transformers computes them; whole numbers only, no torch.

An n-gram is hashed by a linear congruential generator modulo 2^64, h ← (h + token)·a + 1 from h = 1, the key of
a layer goes in last, and the lowest bits of the result address a table of random bits. So with a table of N = 2^b
bits only the lowest b bits of anything count: a token is a state x, a key a shift k, and its bit is
folded[(x + k) mod N] with folded[y] = table[(y·a + 1) mod N]. This is no cryptographic function: a key has b bits.

The table is what torch.randint(0, 2, (N,)) draws from a generator of the given seed, and differs by device.
"""

import functools
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from llm_label.watermark import philox

__all__ = ["LARGEST", "Device", "bits", "counts_by_key", "folded_table", "layer_sums", "sampling_table", "states"]

Device: TypeAlias = Literal["cpu", "cuda"]
Ids: TypeAlias = npt.NDArray[np.int64]
Bits: TypeAlias = npt.NDArray[np.uint8]
States: TypeAlias = npt.NDArray[np.uint32]

MULTIPLIER = np.uint32(6364136223846793005 & 0xFFFFFFFF)  # newlib's and musl's; LARGEST needs 20 bits of it
LARGEST = 2**20  # entries of a sampling table


def sampling_table(device: Device, seed: int, size: int) -> Bits:
    """Return the table [size] that torch makes on a device: 0 <= seed < 2^32, size a power of two up to LARGEST.

    On the CPU it is MT19937's 32-bit words, lowest bit. On CUDA, Philox4x32-10 with the seed as key and counter
    (0, 0, i, 0), first word, lowest bit; that holds where one launch has a thread for every entry.
    """
    if device not in get_args(Device) or not 0 <= seed < 2**32 or not _is_size(size):
        raise ValueError(f"no sampling table is known for device {device!r}, seed {seed!r}, size {size!r}")
    if device == "cpu":
        word = np.random.RandomState(seed).randint(0, 2**32, size, dtype=np.uint32)
    else:
        word = _cuda_words(seed, size)
    return np.asarray(word & np.uint32(1), dtype=np.uint8)


@functools.lru_cache(maxsize=32)
def folded_table(device: Device, seed: int, size: int) -> Bits:
    """Return the table [size] reordered so that entry x + k is the bit of state x under key k; read only."""
    index = (np.arange(size, dtype=np.uint32) * MULTIPLIER + np.uint32(1)) & np.uint32(size - 1)
    folded: Bits = sampling_table(device, seed, size)[index]
    folded.setflags(write=False)
    return folded


def states(grams: Ids, size: int) -> States:
    """Return the state [n] of each n-gram [n, ngram_len], its last token being the one that came, modulo size."""
    state = np.ones(len(grams), dtype=np.uint32)
    for column in grams.T:
        state += column.astype(np.uint32)  # modulo 2^32: higher bits cannot reach the lowest
        state *= MULTIPLIER
        state += np.uint32(1)
    return np.asarray(state & np.uint32(size - 1))


def bits(state: States, keys: tuple[int, ...], folded: Bits) -> Bits:
    """Return the g bits [n, depth] of states [n]."""
    size = len(folded)
    shift = np.array([key % size for key in keys], dtype=np.uint32)
    return np.asarray(folded[(state[:, None] + shift) & np.uint32(size - 1)])


def layer_sums(keys: tuple[int, ...], weights: Ids, folded: Bits) -> Ids:
    """Return the weighted sum of g bits [size] that each state has under these keys."""
    total = np.zeros(len(folded), dtype=np.int64)
    for key, weight in zip(keys, weights.tolist(), strict=True):
        shift = key % len(folded)
        total += np.concatenate([folded[shift:], folded[:shift]]).astype(np.int64) * weight
    return total


def counts_by_key(state: States, device: Device, seed: int, size: int) -> Ids:
    """Return for every key [size] how many of the states [n] have bit 1 under it.

    A circular correlation: off by rounding alone, and by less than a half up to 2^40 states.
    """
    often = np.bincount(state, minlength=size)
    spectrum = np.conj(np.fft.rfft(often)) * _spectrum(device, seed, size)
    return np.rint(np.fft.irfft(spectrum, size)).astype(np.int64)


@functools.lru_cache(maxsize=8)
def _spectrum(device: Device, seed: int, size: int) -> npt.NDArray[np.complex128]:
    return np.fft.rfft(folded_table(device, seed, size))


def _cuda_words(seed: int, size: int) -> npt.NDArray[np.uint32]:
    """Return the first word [size] of Philox with key (seed, 0) and counter (0, 0, i, 0)."""
    counter = np.zeros((4, size), dtype=np.uint64)
    counter[1] = np.arange(size, dtype=np.uint64)
    key = philox.TOKEN_DOMAIN << 32 | seed  # group_words takes the tag out again
    return np.asarray(philox.group_words(key, counter, np.zeros(size, dtype=np.uint64))[0], dtype=np.uint32)


def _is_size(size: int) -> bool:
    return 2 <= size <= LARGEST and size & (size - 1) == 0
