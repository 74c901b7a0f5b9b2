"""Redistribute each row's probability by SynthID's tournament, hashing only tokens that are possible.

One layer with bits g turns p into p·(1 + g − Σ g·p), as if two tokens were drawn and the one with the larger bit kept
(Nature 634:818, two leaves). The result is what transformers' processor gives, to rounding. Behind top-k it looks up
the survivors' bits alone. For a whole vocabulary it works on classes: after one context, tokens whose ids are
equal modulo the size of the table share all bits, so their probabilities add up before the first layer, and
the bits of neighbouring classes are neighbours in a table that is laid out once a key.
"""

import functools
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.watermark import tournament
from llm_label.watermark.schemes.synthid import SynthID

__all__ = ["bit_table", "redistribute"]

Floats: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]

MANY = 8192  # possible tokens from which classes are the faster way
LARGEST = 65536  # entries of a table that is laid out as numbers for classes


def redistribute(rules: SynthID, key: int, contexts: Ids, logits: Floats) -> Floats:
    """Return log probabilities [r, v] after the tournament that follows each context [r, h]; −inf stays.

    A row whose largest logit is NaN or infinite is no distribution and comes back as it is.
    """
    out = logits.copy()
    top = logits.max(axis=1)
    starts = tournament.states(np.maximum(contexts, 0), rules.sampling_table_size)
    few = []
    for row in np.flatnonzero(np.isfinite(top)).tolist():
        tokens = np.flatnonzero(logits[row] != -np.inf)
        if len(tokens) >= MANY and rules.sampling_table_size <= LARGEST:
            out[row] = _by_class(_spread(rules, key), int(starts[row]), logits[row], top[row])
        else:
            few.append((row, tokens))
    if few:
        _by_token(rules, key, starts, logits, few, out)
    return out


@functools.lru_cache(maxsize=8)
def bit_table(rules: SynthID, key: int) -> npt.NDArray[np.uint8]:
    """Return the bits [depth, size] of each layer by context state plus token, modulo size; read only."""
    sums = np.arange(rules.sampling_table_size, dtype=np.uint32)
    state = sums * tournament.MULTIPLIER + np.uint32(1)
    folded = tournament.folded_table(rules.sampling_table, rules.sampling_table_seed, rules.sampling_table_size)
    table = np.ascontiguousarray(tournament.bits(state, rules.layer_keys(key), folded).T)
    table.setflags(write=False)
    return table


@functools.lru_cache(maxsize=2)  # 16 MB at 30 layers
def _spread(rules: SynthID, key: int) -> Floats:
    """Return the bits [depth, 2·size] as numbers, twice in a row, so that any rotation is one slice."""
    return np.tile(bit_table(rules, key), 2).astype(np.float32)


def _by_class(spread: Floats, start: int, line: Floats, top: np.float32) -> Floats:
    size = spread.shape[1] // 2
    padded = np.full(-(-len(line) // size) * size, -np.inf, dtype=np.float32)
    np.subtract(line, top, out=padded[: len(line)])
    mass = np.exp(padded, out=padded).reshape(-1, size).sum(axis=0)
    total = mass.sum()
    mass /= total
    factor, lift = np.ones(size, dtype=np.float32), np.empty(size, dtype=np.float32)
    start %= size
    for layer in spread[:, start : start + size]:
        np.add(layer, max(np.float32(0.0), np.float32(1.0) - layer @ mass), out=lift)  # 1 by rounding may be more
        mass *= lift
        factor *= lift
    with np.errstate(divide="ignore"):  # a factor of zero: a layer on which others surely won
        np.log(factor, out=factor)
    return np.asarray(line - (top + np.log(total)) + np.resize(factor, len(line)))


def _by_token(
    rules: SynthID,
    key: int,
    starts: npt.NDArray[np.uint32],
    logits: Floats,
    few: list[tuple[int, npt.NDArray[np.intp]]],
    out: Floats,
) -> None:
    """Play the rows of few tokens side by side, shorter rows filled up with tokens of probability zero."""
    rows = np.array([row for row, _ in few])
    width = max(len(tokens) for _, tokens in few)
    place = np.zeros((len(few), width), dtype=np.intp)
    mass = np.zeros((len(few), width))
    for n, (row, tokens) in enumerate(few):
        place[n, : len(tokens)] = tokens
        mass[n, : len(tokens)] = np.exp(logits[row, tokens].astype(np.float64) - logits[row, tokens].max())
    mass /= mass.sum(axis=1, keepdims=True)
    index = (starts[rows][:, None] + place.astype(np.uint32)) & np.uint32(rules.sampling_table_size - 1)
    for layer in bit_table(rules, key).take(index, axis=1):
        mass *= layer + np.maximum(0.0, 1.0 - (layer * mass).sum(axis=1, keepdims=True))
    with np.errstate(divide="ignore"):
        np.log(mass, out=mass)
    for n, (row, tokens) in enumerate(few):
        out[row, tokens] = mass[n, : len(tokens)]
