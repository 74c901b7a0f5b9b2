"""(key, context, token) -> integer word, by one of the mappings in PRFS.

Integers only: the contract between devices is equality of these words. A mapping absorbs a context once, and
then gives the words of neighbouring token ids together, as many as it has lanes. A further mapping is one more file
with `absorb` and `group_words`, and one more entry.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.watermark import philox, siphash

__all__ = ["DEFAULT", "MASK", "PRF", "PRFS", "Keys", "Stream", "uniforms"]

Words: TypeAlias = npt.NDArray[np.uint64]
Ids: TypeAlias = npt.NDArray[np.int64]
Keys: TypeAlias = int | Words  # one key, or one each: 64-bit words [key_bytes / 8, n], most significant first

MASK = 0xFFFFFFFF
CHUNK = 8192  # lanes whose rounds stay within a core's second-level cache


@dataclass(frozen=True)
class PRF:
    """A mapping with its key size; states [s, n] are its own business."""

    name: str
    key_bytes: int
    lanes: int  # a power of two
    absorb: Callable[[Keys, Ids], Words]  # key, contexts [n, h] -> states [s, n]
    # key, states [s, n] or [s, 1], groups [n] -> words [lanes, n] of token ids lanes·g, lanes·g + 1, …
    group_words: Callable[[Keys, Words, Words], Words]

    def words(self, key: Keys, contexts: Ids, tokens: Ids) -> npt.NDArray[np.uint32]:
        """Return the word [n] of each (context, token); contexts [n, h], tokens [n]; a length of 1 broadcasts."""
        self._check(key)
        sizes = (len(contexts), len(tokens), 1 if isinstance(key, int) else key.shape[-1])
        if not min(sizes):
            return np.empty(0, dtype=np.uint32)
        n = max(sizes)
        if len(contexts) < n:
            contexts = np.broadcast_to(contexts, (n, contexts.shape[1]))
        ids = np.asarray(tokens).astype(np.uint64) & np.uint64(MASK)
        if len(ids) < n:
            ids = np.broadcast_to(ids, n)
        keys = key if isinstance(key, int) or key.shape[-1] == n else np.broadcast_to(key, (*key.shape[:-1], n))
        out = np.empty(n, dtype=np.uint32)
        for part in _chunks(n):
            here = keys if isinstance(keys, int) else keys[..., part]
            out[part] = self._pick(here, self.absorb(here, contexts[part]), ids[part])
        return out

    def words_of_each(self, keys: Sequence[int], contexts: Ids, tokens: Ids) -> npt.NDArray[np.uint32]:
        """Return the words [k, n] that each of k keys gives, in one go: for short texts much of a call is its start."""
        if len(keys) == 1:
            return self.words(keys[0], contexts, tokens)[None]
        if len(tokens) > CHUNK:
            return np.stack([self.words(key, contexts, tokens) for key in keys])
        whole = b"".join(key.to_bytes(self.key_bytes, "big") for key in keys)
        each = np.frombuffer(whole, dtype=">u8").astype(np.uint64).reshape(len(keys), -1).T
        contexts, ids = np.concatenate([contexts] * len(keys)), np.concatenate([tokens] * len(keys))
        return self.words(np.repeat(each, len(tokens), axis=1), contexts, ids).reshape(len(keys), -1)

    def candidate_words(self, key: int, state: Words, tokens: Ids) -> npt.NDArray[np.uint32]:
        """Return the word [n] of each candidate token [n] after one absorbed context, state [s, 1], or each [s, n]."""
        ids = tokens.astype(np.uint64) & np.uint64(MASK)
        shared = state.shape[1] == 1
        out = np.empty(len(ids), dtype=np.uint32)
        for part in _chunks(len(ids)):
            out[part] = self._pick(key, state if shared else state[:, part], ids[part])
        return out

    def _pick(self, key: Keys, states: Words, tokens: Words) -> npt.NDArray[np.uint32]:
        last = self.lanes - 1
        groups = self.group_words(key, states, tokens >> np.uint64(last.bit_length()))
        lane = (tokens & np.uint64(last)).astype(np.intp)
        return groups[lane, np.arange(tokens.shape[0])].astype(np.uint32)

    def _check(self, key: Keys) -> None:
        right = 0 <= key < 2 ** (8 * self.key_bytes) if isinstance(key, int) else key.dtype == np.uint64
        if not right:
            raise ValueError(f"a key of {self.name} is an integer of {8 * self.key_bytes} bits, 0 and above")


PRFS: Mapping[str, PRF] = MappingProxyType(
    {
        module.NAME: PRF(module.NAME, module.KEY_BYTES, module.LANES, module.absorb, module.group_words)
        for module in (philox, siphash)
    }
)
DEFAULT = philox.NAME


@dataclass(frozen=True)
class Stream:
    """The words that one key gives for one payload: token id t has the word that t XOR payload has for payload 0."""

    prf: PRF
    key: int = field(repr=False)
    payload: int = 0

    def absorb(self, contexts: Ids) -> Words:
        """Turn contexts [n, h] into states [s, n]; they are the same for every payload."""
        return self.prf.absorb(self.key, contexts)

    def words(self, contexts: Ids, tokens: Ids) -> npt.NDArray[np.uint32]:
        """Return the word [n] of each (context, token), as `PRF.words`."""
        return self.prf.words(self.key, contexts, np.asarray(tokens) ^ self.payload)

    def candidate_words(self, state: Words, tokens: Ids) -> npt.NDArray[np.uint32]:
        """Return the word [n] of each candidate, as `PRF.candidate_words`."""
        return self.prf.candidate_words(self.key, state, tokens ^ self.payload)

    def group_words(self, states: Words, groups: Words) -> Words:
        """Return the words [lanes, n] of token ids lanes·g, lanes·g + 1, …, as `PRF.group_words`."""
        high, low = divmod(self.payload, self.prf.lanes)
        found = self.prf.group_words(self.key, states, groups ^ np.uint64(high))
        return found[np.arange(self.prf.lanes) ^ low] if low else found


def uniforms(word: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """Map words to float32((top 24 bits + 1) / (2^24 + 1)), strictly inside (0, 1), widened to float64."""
    mantissa = (word >> np.uint32(8)).astype(np.float64) + 1.0
    mantissa /= float(2**24 + 1)
    return mantissa.astype(np.float32).astype(np.float64)


def _chunks(n: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, n, CHUNK))
