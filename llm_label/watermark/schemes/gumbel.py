"""Gumbel-max (exponential minimum) watermark: Aaronson 2022; context rule and arithmetic as in vLLM.

The next token is argmax over tokens of logit − ln E with E = −ln u(context, token): over random keys this
draws exactly from softmax(logits). Detection adds −ln(1 − u) of the tokens that came. Without a mark these
are Exp(1) each, so over n distinct contexts the sum is Gamma(n, 1). (u has 24 bits: a single score is at most
16.64, and its survival exceeds e^−x by a factor of at most 1 + 2^−24 a token.)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_label.watermark import prf, tails

__all__ = ["Gumbel"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gumbel:
    """Hold the scheme's name, version and PRF; a change of arithmetic is a new version."""

    name: str = "gumbel"
    version: int = 1
    prf: str = prf.PRF
    context_width: int = 4

    def scores(self, word: npt.NDArray[np.uint32]) -> Floats:
        """Score words [n] of tokens that came: −ln(1 − u), in float64."""
        return np.asarray(-np.log1p(-prf.uniforms(word)))

    def races(self, word: npt.NDArray[np.uint32]) -> Floats:
        """Return E = −ln u [n] of candidates; the token with the smallest E / p wins."""
        return np.asarray(-np.log(prf.uniforms(word)))

    def winner(self, logits: npt.NDArray[np.floating], word: npt.NDArray[np.uint32]) -> int:
        """Return the index of the winning candidate among logits [n] with words [n]; the first wins a tie.

        The sum is float64: two devices agree on every word, and on the winner unless the two best lie within
        the rounding of the model's own logits.
        """
        return int(np.argmax(logits.astype(np.float64) - np.log(self.races(word))))

    def log10_tail(self, n: int, score: float) -> float:
        """Return log10 P(Gamma(n, 1) ≥ score)."""
        return tails.gamma_log10_sf(n, score)
