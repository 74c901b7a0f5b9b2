"""A keyed coin per (context, token) raises the logits of the tokens that it favours.

Of the family of Kirchenbauer et al. 2023 (a green list biased by delta), with the list's permutation replaced by
one coin per token: no state, no vocabulary size, the same on every device. It marks whatever ranks logits –
sampling, greedy decoding, beams – at a price: the tokens are no longer drawn from the model's distribution.
Detection counts green tokens. Without a mark each distinct (context, token) is green with chance gamma,
independently, so the count is binomial. (vLLM's sbw hashes its contexts otherwise and reads none of this.)
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from llm_label.watermark import tails
from llm_label.watermark.prf import DEFAULT, PRFS, Keys
from llm_label.watermark.schemes.parameters import known_prf, number

__all__ = ["Bernoulli"]

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

CHOICES = 3  # equally likely tokens with a little over 1 nat, as in ordinary prose


@dataclass(frozen=True)
class Bernoulli:
    """The scheme with the share gamma of green tokens and the nats delta added to their logits."""

    gamma: float = 0.5
    delta: float = 2.0
    prf: str = DEFAULT

    name: ClassVar[str] = "bernoulli"
    version: ClassVar[int] = 1
    context_width: ClassVar[int] = 4
    vllm: ClassVar[str | None] = None
    distorts: ClassVar[bool] = True
    marks_greedy: ClassVar[bool] = True
    once_per: ClassVar[Literal["token"]] = "token"

    def __post_init__(self) -> None:
        known_prf(self.name, self.prf)
        object.__setattr__(self, "gamma", number(self.name, "gamma", self.gamma, 0.01, 0.99))
        object.__setattr__(self, "delta", number(self.name, "delta", self.delta, 0.1, 20.0))

    @property
    def key_bytes(self) -> int:
        return PRFS[self.prf].key_bytes

    @property
    def threshold(self) -> int:
        """Return the least word that is not green."""
        return round(self.gamma * 2**32)

    @property
    def chance(self) -> float:
        """Return the exact chance of green: gamma, rounded to 32 bits."""
        return self.threshold / 2**32

    def green(self, word: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
        """Tell which words [n] are green."""
        return np.asarray(word < np.uint32(self.threshold))

    def scores(self, word: npt.NDArray[np.uint32]) -> Floats:
        """Score words [n] of tokens that came: 1 if green, else 0."""
        return self.green(word).astype(np.float64)

    def streams(self, key: int) -> tuple[tuple[float, int], ...]:
        """Return the weight and the key of the one stream of words."""
        return ((1.0, key),)

    def token_scores(self, key: Keys, contexts: Ids, tokens: Ids) -> Floats:
        """Return 1 for each green token of tokens [n] after contexts [n, 4], else 0."""
        return self.scores(PRFS[self.prf].words(key, contexts, tokens))

    def log10_tail(self, n: int, score: float) -> float:
        """Return log10 P(Binomial(n, gamma) ≥ score)."""
        return tails.binomial_log10_sf(n, self.chance, math.ceil(score))

    def plausible(self, n: int) -> float:
        """Return the count to expect of n tokens, each chosen among CHOICES equally likely ones."""
        lift, mean = math.exp(self.delta), 0.0
        for green in range(1, CHOICES + 1):
            mass = math.comb(CHOICES, green) * self.chance**green * (1.0 - self.chance) ** (CHOICES - green)
            mean += mass * green * lift / (green * lift + CHOICES - green)
        return float(math.floor(mean * n))
