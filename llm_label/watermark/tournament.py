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

__all__ = [
    "LARGEST",
    "Device",
    "bits",
    "counts_by_key",
    "folded_table",
    "keys_by_count",
    "layer_sums",
    "sampling_table",
    "states",
]

Device: TypeAlias = Literal["cpu", "cuda"]
Ids: TypeAlias = npt.NDArray[np.int64]
Bits: TypeAlias = npt.NDArray[np.uint8]
States: TypeAlias = npt.NDArray[np.uint32]

MULTIPLIER = np.uint32(6364136223846793005 & 0xFFFFFFFF)  # newlib's and musl's; LARGEST needs 20 bits of it
LARGEST = 2**20  # entries of a sampling table
PHASES = 8  # of a correlation
BITS = 40  # of a number that is told from its neighbours after a Fourier transform there and back


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
    return np.asarray(folded[state.astype(np.intp)[:, None] + _shifts(keys, len(folded)) & len(folded) - 1])


@functools.lru_cache(maxsize=256)
def _shifts(keys: tuple[int, ...], size: int) -> npt.NDArray[np.intp]:
    return np.array([key % size for key in keys], dtype=np.intp)


def layer_sums(keys: tuple[int, ...], weights: Ids, folded: Bits) -> Ids:
    """Return the weighted sum of g bits [size] that each state has under these keys."""
    total = np.zeros(len(folded), dtype=np.int64)
    for key, weight in zip(keys, weights.tolist(), strict=True):
        shift = key % len(folded)
        total += np.concatenate([folded[shift:], folded[:shift]]).astype(np.int64) * weight
    return total


def counts_by_key(state: States, device: Device, seed: int, size: int) -> Ids:
    """Return for every key [size] how many of the states [n], n < 2^40, have bit 1 under it."""
    counts = _counts(state, device, seed, size)
    return counts.transpose(2, 1, 0).reshape(-1)  # key phases·m + lanes·g + lane


def keys_by_count(state: States, device: Device, seed: int, size: int) -> Ids:
    """Return under how many keys 0, 1, 2, … of the states [n] have bit 1, up to the most that have."""
    return np.bincount(_counts(state, device, seed, size).reshape(-1))


def _counts(state: States, device: Device, seed: int, size: int) -> Ids:
    """Return the counts [lanes, groups, m] of ones among the states [n] under all keys.

    A circular correlation of states with the table, cut into PHASES short ones: in phase s are the states and the
    entries whose places are s modulo PHASES, so that all fit a core's cache. The counts of neighbouring keys, as many
    as n is small enough for, are digits of one number. Numbers stay below 2^BITS, and their errors below a half.
    """
    phases, lanes = _cut(len(state), size)
    often = np.bincount(state % phases * np.uint32(size // phases) + state // phases, minlength=size)
    spectrum = np.fft.rfft(often.reshape(phases, -1).astype(np.float64))
    table, width = _spectra(device, seed, size, phases, lanes), BITS // lanes
    packed = np.fft.irfft(np.stack([(spectrum * of_group).sum(axis=0) for of_group in table]).conj(), size // phases)
    packed += 0.5 * len(state) * sum(1 << width * lane for lane in range(lanes))
    digits = np.rint(packed, out=packed).astype(np.int64)
    counts = np.empty((lanes, *digits.shape), dtype=np.int64)
    for lane, of_lane in enumerate(counts):
        np.right_shift(digits, width * lane, out=of_lane)
    counts &= (1 << width) - 1
    return counts


def _cut(n: int, size: int) -> tuple[int, int]:
    """Return the number of phases, and how many counts up to n share a number."""
    lanes = next(lanes for lanes in (4, 2, 1) if n < 1 << BITS // lanes)
    return (PHASES, lanes) if size > PHASES else (1, 1)


@functools.lru_cache(maxsize=3)
def _spectra(device: Device, seed: int, size: int, phases: int, lanes: int) -> npt.NDArray[np.complex128]:
    """Return the conjugate spectra [phases / lanes, phases, size / phases / 2 + 1] of the table's bits minus a half.

    In group g, phase s stands at m the entry phases·m + s + lanes·g, with those that follow as higher digits.
    """
    bits = folded_table(device, seed, size) - 0.5
    digit = [float(1 << BITS // lanes * lane) for lane in range(lanes)]
    entries = sum(d * np.roll(bits, -lane) for lane, d in enumerate(digit))
    groups = [
        [np.roll(entries, -(s + lanes * g))[::phases] for s in range(phases)] for g in range(max(1, phases // lanes))
    ]
    return np.asarray(np.fft.rfft(np.array(groups)).conj())


def _cuda_words(seed: int, size: int) -> npt.NDArray[np.uint32]:
    """Return the first word [size] of Philox with key (seed, 0) and counter (0, 0, i, 0)."""
    counter = np.zeros((4, size), dtype=np.uint64)
    counter[1] = np.arange(size, dtype=np.uint64)
    key = philox.TOKEN_DOMAIN << 32 | seed  # group_words takes the tag out again
    return np.asarray(philox.group_words(key, counter, np.zeros(size, dtype=np.uint64))[0], dtype=np.uint32)


def _is_size(size: int) -> bool:
    return 2 <= size <= LARGEST and size & (size - 1) == 0
