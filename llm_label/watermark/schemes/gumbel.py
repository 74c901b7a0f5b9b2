"""Gumbel-max (exponential minimum) watermark: Aaronson 2022; context rule and arithmetic as in vLLM.

The next token is argmax over tokens of logit − ln E with E = −ln u(context, token): over random keys this
draws exactly from softmax(logits). Detection adds −ln(1 − u) of the tokens that came. Without a mark these
are Exp(1) each, so over n distinct contexts the sum is Gamma(n, 1). (u has 24 bits: a single score is at most
16.64, and its survival exceeds e^−x by a factor of at most 1 + 2^−24 a token.)
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from llm_label.watermark import tails
from llm_label.watermark.prf import DEFAULT, PRFS, Keys, uniforms
from llm_label.watermark.schemes.parameters import known_prf

__all__ = ["Gumbel"]

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

# Mean score of a marked token in prose sampled with a little over 1 nat a token; 1.0 without a mark.
PLAUSIBLE_MEAN = 2.0


@dataclass(frozen=True)
class Gumbel:
    """The scheme without parameters; a change of arithmetic is a new version."""

    prf: str = DEFAULT

    name: ClassVar[str] = "gumbel"
    version: ClassVar[int] = 1
    context_width: ClassVar[int] = 4
    distorts: ClassVar[bool] = False
    marks_greedy: ClassVar[bool] = False
    once_per: ClassVar[Literal["context"]] = "context"

    def __post_init__(self) -> None:
        known_prf(self.name, self.prf)

    @property
    def key_bytes(self) -> int:
        return PRFS[self.prf].key_bytes

    @property
    def vllm(self) -> str | None:
        return "gumbel" if self.prf == DEFAULT else None

    def streams(self, key: int) -> tuple[tuple[float, int], ...]:
        """Return the weight and the key of the one stream of words."""
        return ((1.0, key),)

    def token_scores(self, key: Keys, contexts: Ids, tokens: Ids) -> Floats:
        """Score tokens [n] after contexts [n, 4]."""
        return self.scores(PRFS[self.prf].words(key, contexts, tokens))

    def scores(self, word: npt.NDArray[np.uint32]) -> Floats:
        """Score words [n] of tokens that came: −ln(1 − u), in float64."""
        return np.asarray(-np.log1p(-uniforms(word)))

    def races(self, word: npt.NDArray[np.uint32]) -> Floats:
        """Return E = −ln u [n] of candidates; the token with the smallest E / p wins."""
        return np.asarray(-np.log(uniforms(word)))

    def winner(self, logits: npt.NDArray[np.floating], word: npt.NDArray[np.uint32]) -> int:
        """Return the index of the winning candidate among logits [n] with words [n]; the first wins a tie.

        The sum is float64: two devices agree on every word, and on the winner unless the two best lie within
        the rounding of the model's own logits.
        """
        return int(np.argmax(logits.astype(np.float64) - np.log(self.races(word))))

    def log10_tail(self, n: int, score: float) -> float:
        """Return log10 P(Gamma(n, 1) ≥ score)."""
        return tails.gamma_log10_sf(n, score)

    def plausible(self, n: int) -> float:
        """Return the score to expect of n marked tokens of ordinary prose."""
        return PLAUSIBLE_MEAN * n
