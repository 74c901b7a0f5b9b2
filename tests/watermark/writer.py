"""Many answers at once, each under a key of its own, written out from the definitions of the schemes.

A model's place is taken by a Markov chain. The rules are those of generate() with a watermark: a context is used once
an answer; with variety "default" the first four tokens are the sampler's.
"""

from typing import Any

import numpy as np

from llm_label.watermark import tournament
from llm_label.watermark.prf import PRFS
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label.watermark.schemes.dual_gumbel import DualGumbel
from llm_label.watermark.schemes.gumbel import Gumbel
from llm_label.watermark.schemes.synthid import SynthID


def draw(p: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw a token [r] from each row of probabilities [r, v], as a sampler does."""
    return (rng.random((len(p), 1)) * p.sum(axis=1, keepdims=True) > p.cumsum(axis=1)).sum(axis=1)


class Writer:
    """Write answers side by side: row r under key r of a scheme, or none; `once`: each context once, the right way."""

    def __init__(self, scheme: str | None, keys: np.ndarray, variety: str = "default", once: bool = True) -> None:
        self.scheme, self.keys, self.variety, self.once = scheme, keys, variety, once

    def write(self, chain: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
        """Return tokens [r, length] of the chain [v, v], which starts as after token 0."""
        rows, size = len(self.keys), len(chain)
        ids = np.full((rows, 4 + length), -1, dtype=np.int64)
        seen = np.zeros((rows, (size + 1) ** 4), dtype=bool)
        code, padding = (size + 1) ** np.arange(4), 0 if self.scheme == "synthid" else -1  # as it is hashed
        for at in range(4, 4 + length):
            p = chain[np.maximum(ids[:, at - 1], 0)]
            ids[:, at] = draw(p, rng)
            contexts = ids[:, at - 4 : at]
            place = (np.maximum(contexts, padding) + 1) @ code
            fresh = ~seen[np.arange(rows), place] if self.once else np.ones(rows, dtype=bool)
            seen[np.arange(rows), place] = True
            if self.scheme is None or (self.variety == "default" and at < 8):
                continue
            which = np.flatnonzero(fresh)
            ids[which, at] = getattr(self, self.scheme)(which, contexts[which], p[which], rng)
        return ids[:, 4:]

    def _words(self, keys: np.ndarray, contexts: np.ndarray, size: int) -> np.ndarray:
        prf, n = PRFS[Gumbel().prf], len(keys)
        every = np.tile(np.arange(size), n)
        return prf.words(np.repeat(keys, size), np.repeat(contexts, size, axis=0), every).reshape(n, size)

    def gumbel(self, rows: np.ndarray, contexts: np.ndarray, p: np.ndarray, rng: Any) -> np.ndarray:
        return (Gumbel().races(self._words(self.keys[rows], contexts, p.shape[1])) / p).argmin(axis=1)

    def dual_gumbel(self, rows: np.ndarray, contexts: np.ndarray, p: np.ndarray, rng: Any) -> np.ndarray:
        both = np.array([DualGumbel().keys(int(key)) for key in self.keys[rows]], dtype=np.uint64)
        second = (rng.random(len(rows)) < DualGumbel().alpha).astype(int)
        words = self._words(both[np.arange(len(rows)), second], contexts, p.shape[1])
        return (Gumbel().races(words) / p).argmin(axis=1)

    def layer_keys(self) -> np.ndarray:
        """Return the keys [r, 30] of the layers that a row's key stands for here."""
        distinct, place = np.unique(self.keys, return_inverse=True)
        return np.random.default_rng(distinct).integers(0, 2**16, (len(distinct), 30), dtype=np.uint32)[place]

    def synthid(self, rows: np.ndarray, contexts: np.ndarray, p: np.ndarray, rng: Any) -> np.ndarray:
        size, folded = p.shape[1], tournament.folded_table("cpu", 0, 65536)
        state = SynthID().states(np.repeat(contexts, size, axis=0), np.tile(np.arange(size), len(rows)))
        shifts = self.layer_keys()[rows]
        mass = p.copy()
        for layer in range(30):
            g = folded[(state.reshape(p.shape) + shifts[:, layer, None]) % 65536]
            mass *= 1.0 + g - (g * mass).sum(axis=1, keepdims=True)
        return draw(mass, rng)

    def bernoulli(self, rows: np.ndarray, contexts: np.ndarray, p: np.ndarray, rng: Any) -> np.ndarray:
        rules = Bernoulli()
        return draw(p * np.exp(rules.delta * rules.green(self._words(self.keys[rows], contexts, p.shape[1]))), rng)


def fresh_keys(count: int) -> np.ndarray:
    return np.random.default_rng(9).integers(0, 2**63, count, dtype=np.uint64)
