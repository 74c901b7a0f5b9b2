"""Gumbel-max with two keys, as vLLM's dual_key_gumbel: each token is raced under key B with chance alpha, else under A.

Both keys derive from one. Which of them a token gets is the sampler's own coin, so equal prompts differ, and an
engine may give drafts one key and corrections the other. Detection adds (1 − alpha)·s_A + alpha·s_B, the scores
of gumbel under either key. Without a mark that is a weighted sum of two independent Gamma(n, 1), whose tail is
taken exactly; vLLM matches moments, which at 1e-6 reports p-values up to 1.8 times too small.
"""

import hashlib
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from llm_label.errors import KeyringError
from llm_label.watermark import tails
from llm_label.watermark.prf import DEFAULT, PRFS
from llm_label.watermark.schemes.gumbel import PLAUSIBLE_MEAN, Gumbel
from llm_label.watermark.schemes.parameters import known_prf, number

__all__ = ["DualGumbel"]

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

GUMBEL = Gumbel()


@dataclass(frozen=True)
class DualGumbel:
    """The scheme with the share of tokens that key B chooses."""

    alpha: float = 0.1
    prf: str = DEFAULT

    name: ClassVar[str] = "dual_gumbel"
    version: ClassVar[int] = 1
    context_width: ClassVar[int] = 4
    distorts: ClassVar[bool] = False
    marks_greedy: ClassVar[bool] = False
    once_per: ClassVar[Literal["context"]] = "context"

    def __post_init__(self) -> None:
        known_prf(self.name, self.prf)
        alpha, least = number(self.name, "alpha", self.alpha, 0.0, 1.0), tails.LEAST_SHARE
        if alpha not in (0.0, 1.0) and not least <= alpha <= 1.0 - least:
            raise KeyringError(f"scheme {self.name!r}: alpha is 0, 1 or from {least} to {1 - least}, not {alpha!r}")
        object.__setattr__(self, "alpha", alpha)

    @property
    def key_bytes(self) -> int:
        return PRFS[self.prf].key_bytes

    @property
    def vllm(self) -> str | None:
        return "dual_key_gumbel" if self.prf == DEFAULT else None

    def keys(self, key: int) -> tuple[int, int]:
        """Return keys A and B: as many bytes of SHA-256 over a label and the key as a key has, all big-endian."""
        size = self.key_bytes
        whole = key.to_bytes(size, "big")
        digests = (hashlib.sha256(label + whole).digest() for label in (b"key_a", b"key_b"))
        first, second = (int.from_bytes(digest[:size], "big") for digest in digests)
        return first, second

    def scores(self, word: npt.NDArray[np.uint32]) -> Floats:
        """Score words [n] of tokens that came, under one of the keys."""
        return GUMBEL.scores(word)

    def streams(self, key: int) -> tuple[tuple[float, int], ...]:
        """Return the weight and the key of both streams of words."""
        first, second = self.keys(key)
        return ((1.0 - self.alpha, first), (self.alpha, second))

    def token_scores(self, key: int, contexts: Ids, tokens: Ids) -> Floats:
        """Score tokens [n] after contexts [n, 4] under both keys."""
        a, b = self.scores(PRFS[self.prf].words_of_each(self.keys(key), contexts, tokens))
        return np.asarray((1.0 - self.alpha) * a + self.alpha * b)

    def log10_tail(self, n: int, score: float) -> float:
        """Return log10 P((1 − alpha)·A + alpha·B ≥ score) for independent A, B ~ Gamma(n, 1)."""
        return tails.dual_gamma_log10_sf(n, self.alpha, score)

    def plausible(self, n: int) -> float:
        """Return the score to expect of n marked tokens of ordinary prose: the other key's score has mean 1."""
        right = (1.0 - self.alpha) ** 2 + self.alpha**2
        return (right * PLAUSIBLE_MEAN + 1.0 - right) * n
