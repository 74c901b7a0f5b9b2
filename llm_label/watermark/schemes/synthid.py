"""SynthID-Text (Dathathri et al., Nature 634:818, 2024), the variant of transformers: a tournament of keyed bits.

Every layer of the tournament has a key; a token that came has a bit g in each, 1 more often than not. Detection
adds g over tokens and layers, by default weighted, for the first layers know most: whole weights from 10 to 1, the
straight line of the paper rounded, so that the sum lives on a narrow lattice and its tail is exact.

What is random without a mark are the keys: layer keys drawn uniformly and independently of the text. `log10_p` is
exact under just that for the very text at hand, repeats, collisions of the 16-bit hash and the lopsided table
included: how many bits each of all keys would find is counted. `log10_tail` knows only how many tokens there
are and takes all bits for independent, with the table's share of ones.
"""

import functools
import struct
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from llm_label.errors import KeyringError
from llm_label.watermark import lattice, tails, tournament
from llm_label.watermark.schemes.parameters import shown

__all__ = ["Statistic", "SynthID", "join_keys"]

Statistic = Literal["weighted", "mean"]
Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
States = npt.NDArray[np.uint32]

LAYER_BYTES = 8
MOST_LAYERS = 256
STEEPEST, FLATTEST = 10, 1  # weights of the first and last layer
FEW = 4096  # tokens of a short text: single bits are looked up faster than sums for all states are made
# 1 − Σp² of ordinary prose, a little over 1 nat a token; every layer of the tournament uses some of it up
COLLISION_FREE = 0.5


@dataclass(frozen=True)
class SynthID:
    """The scheme with its number of layers, its n-grams, and where its table of bits was made."""

    depth: int = 30
    ngram_len: int = 5
    sampling_table: tournament.Device = "cpu"
    sampling_table_seed: int = 0
    sampling_table_size: int = 65536
    statistic: Statistic = "weighted"

    name: ClassVar[str] = "synthid"
    version: ClassVar[int] = 1
    prf: ClassVar[str] = "transformers-lcg64-v1"
    vllm: ClassVar[str | None] = None
    distorts: ClassVar[bool] = False
    marks_greedy: ClassVar[bool] = False
    once_per: ClassVar[Literal["context"]] = "context"

    def __post_init__(self) -> None:
        self._whole("depth", 1, MOST_LAYERS)
        self._whole("ngram_len", 2, 17)
        self._whole("sampling_table_seed", 0, 2**32 - 1)
        self._whole("sampling_table_size", 2, tournament.LARGEST)
        if self.sampling_table_size & (self.sampling_table_size - 1):
            raise KeyringError(
                f"scheme 'synthid': sampling_table_size is a power of two, not {shown(self.sampling_table_size)}"
            )
        self._one_of("sampling_table", get_args(tournament.Device))
        self._one_of("statistic", get_args(Statistic))

    @property
    def context_width(self) -> int:
        return self.ngram_len - 1

    @property
    def key_bytes(self) -> int:
        return LAYER_BYTES * self.depth

    @property
    def weights(self) -> Ids:
        """Return the whole weight [depth] of each layer."""
        return _weights(self.statistic, self.depth)

    def layer_keys(self, key: int) -> tuple[int, ...]:
        """Return the keys of the layers as transformers takes them: signed numbers of 64 bits, first layer first."""
        return struct.unpack(f">{self.depth}q", key.to_bytes(self.key_bytes, "big"))

    def states(self, contexts: Ids, tokens: Ids) -> States:
        """Return the hash [n] of tokens [n] after contexts [n, h]; transformers pads contexts with 0."""
        grams = np.column_stack([np.maximum(contexts, 0), tokens])
        return tournament.states(grams, self.sampling_table_size)

    def bits(self, key: int, contexts: Ids, tokens: Ids) -> npt.NDArray[np.uint8]:
        """Return the g values [n, depth] of tokens [n] after contexts [n, h]."""
        return tournament.bits(self.states(contexts, tokens), self.layer_keys(key), self._folded())

    def token_scores(self, key: int, contexts: Ids, tokens: Ids) -> Floats:
        """Return the weighted number of ones [n] of tokens [n] after contexts [n, h]."""
        if len(tokens) <= FEW:
            return np.asarray(self.bits(key, contexts, tokens).astype(np.float64) @ self.weights.astype(np.float64))
        sums = tournament.layer_sums(self.layer_keys(key), self.weights, self._folded())
        return sums[self.states(contexts, tokens)].astype(np.float64)

    def log10_p(self, contexts: Ids, tokens: Ids, score: float) -> float:
        """Return log10 of the share of all keys under which these tokens would score at least as much."""
        if not len(tokens):
            return 0.0
        state = self.states(contexts, tokens)
        law = _law(state, *self._table) if len(state) > FEW else _short_law(state.tobytes(), *self._table)
        return lattice.log10_sf(law, self.weights, round(score))

    def log10_tail(self, n: int, score: float) -> float:
        """Return log10 P(S ≥ score) over n tokens whose bits are independent: binomial for the mean."""
        if n == 0:
            return 0.0
        share = float(self._folded().mean())
        if self.statistic == "mean":
            return tails.binomial_log10_sf(n * self.depth, share, round(score))
        return lattice.log10_sf(lattice.bit_law(share), self.weights, round(score), copies=n)

    def plausible(self, n: int) -> float:
        """Return the score to expect of n marked tokens of ordinary prose.

        A layer lifts the mean of g from 1/2 by a quarter of 1 − Σp², and leaves that about a quarter of its
        square smaller.
        """
        free = COLLISION_FREE / (1.0 + 0.25 * COLLISION_FREE * np.arange(self.depth))
        return float(np.floor(n * (self.weights @ (0.5 + 0.25 * free))))

    @property
    def _table(self) -> tuple[tournament.Device, int, int]:
        return self.sampling_table, self.sampling_table_seed, self.sampling_table_size

    def _folded(self) -> npt.NDArray[np.uint8]:
        return tournament.folded_table(*self._table)

    def _whole(self, name: str, low: int, high: int) -> None:
        value = getattr(self, name)
        if type(value) is not int or not low <= value <= high:
            raise KeyringError(f"scheme 'synthid': {name} is a whole number from {low} to {high}, not {shown(value)}")

    def _one_of(self, name: str, known: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in known:
            raise KeyringError(f"scheme 'synthid': {name} {shown(value)} is not known; known: {', '.join(known)}")


def join_keys(keys: list[int]) -> int:
    """Return the scheme key made of layer keys, whole numbers of 64 bits with or without sign."""
    whole = b"".join((key % 2**64).to_bytes(LAYER_BYTES, "big") for key in keys)
    return int.from_bytes(whole, "big")


@functools.lru_cache(maxsize=64)
def _weights(statistic: Statistic, depth: int) -> Ids:
    steps = [1.0] * depth if statistic == "mean" else np.linspace(STEEPEST, FLATTEST, depth)
    weights = np.rint(steps).astype(np.int64)
    weights.setflags(write=False)
    return weights


def _law(state: States, device: tournament.Device, seed: int, size: int) -> lattice.Law:
    """Return the law, over all keys, of how many of the states [n] have bit 1."""
    return lattice.law_of_counts(tournament.keys_by_count(state, device, seed, size))


@functools.lru_cache(maxsize=16)
def _short_law(state: bytes, device: tournament.Device, seed: int, size: int) -> lattice.Law:
    """Return the same for a short text, which all keys of a ring ask for."""
    return _law(np.frombuffer(state, dtype=np.uint32), device, seed, size)
