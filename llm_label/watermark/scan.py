"""Token ids -> score and exact p-value under one key.

Each distinct context is scored once, at its first occurrence: repeats carry no new randomness, and counting
them would make templated text look marked (the null law).
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.watermark import prf
from llm_label.watermark.keyring import Key
from llm_label.watermark.schemes import SCHEMES

__all__ = ["Decision", "Scan", "decision", "family_wise", "first_occurrences", "scan"]

Decision: TypeAlias = Literal["marked", "not_shown", "insufficient"]
Ids: TypeAlias = npt.NDArray[np.int64]

# Mean score of a marked token in prose sampled with a little over 1 nat a token; 1.0 without a mark.
PLAUSIBLE_MEAN = 2.0


@dataclass(frozen=True)
class Scan:
    """Hold what one key found: sum of scores, tokens scored and skipped, log10 of the one-test p-value."""

    score: float
    scored: int
    skipped: int
    log10_p: float


def scan(ids: npt.ArrayLike, key: Key) -> Scan:
    """Score token ids [n] of one completion, prompt not included, under the key's spec."""
    tokens = _checked(ids)
    scheme = SCHEMES[key.spec.scheme]
    contexts = _contexts(tokens, scheme.context_width)
    # tokens whose context still holds padding were drawn by the ordinary sampler
    start = scheme.context_width if key.spec.variety == "default" else 0
    chosen = start + first_occurrences(contexts[start:])
    if not len(chosen):
        return Scan(0.0, 0, len(tokens), 0.0)
    word = prf.words(key.scheme_key(), contexts[chosen], tokens[chosen])
    score = float(scheme.scores(word).sum())
    return Scan(score, len(chosen), len(tokens) - len(chosen), scheme.log10_tail(len(chosen), score))


def decision(found: Scan, key: Key, alpha: float, tests: int = 1) -> Decision:
    """Decide at the family-wise level alpha over the given number of tests.

    "insufficient" when so few tokens were scored that even PLAUSIBLE_MEAN a token would miss alpha / tests:
    then a marked text of ordinary entropy would likely not be found either, and its absence says nothing.
    """
    if not 0.0 < alpha < 1.0 or tests < 1:
        raise ValueError(f"alpha is between 0 and 1 and tests at least 1, not {alpha!r} and {tests!r}")
    limit = math.log10(alpha)
    if family_wise(found.log10_p, tests) <= limit:
        return "marked"
    scheme = SCHEMES[key.spec.scheme]
    reachable = scheme.log10_tail(found.scored, PLAUSIBLE_MEAN * found.scored)
    return "not_shown" if family_wise(reachable, tests) <= limit else "insufficient"


def family_wise(log10_p: float, tests: int) -> float:
    """Return log10 of a p-value corrected for all tests, by Bonferroni.

    Variants of one text are dependent, so nothing sharper is sure to be an upper bound.
    """
    return min(0.0, log10_p + math.log10(tests))


def first_occurrences(contexts: Ids) -> npt.NDArray[np.intp]:
    """Return the ascending positions in contexts [n, h] at which a context stands for the first time.

    Exact: columns are packed side by side into 64 bits, and what is packed so far is replaced by its rank
    whenever the next column would not fit. No hash decides.
    """
    n, width = contexts.shape
    if n < 2:
        return np.arange(n)
    base = int(contexts.max()) + 2  # ids from −1 on
    code, distinct = np.zeros(n, dtype=np.uint64), 1
    for column in range(width):
        if distinct * base > 2**64:
            values, ranks = np.unique(code, return_inverse=True)
            code, distinct = ranks.astype(np.uint64), len(values)
        code = code * np.uint64(base) + (contexts[:, column] + 1).astype(np.uint64)
        distinct *= base
    _, first = np.unique(code, return_index=True)
    return np.sort(first)


def _contexts(tokens: Ids, width: int) -> Ids:
    """Return the context [n, width] before each token [n], padded with −1."""
    padded = np.concatenate([np.full(width, -1, dtype=np.int64), tokens])
    return np.lib.stride_tricks.sliding_window_view(padded, width)[:-1]


def _checked(ids: npt.ArrayLike) -> Ids:
    tokens = np.asarray(ids)
    if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
        raise ValueError("token ids are one list of whole numbers")
    if tokens.size and not (int(tokens.min()) >= 0 and int(tokens.max()) < prf.MASK):
        raise ValueError("token ids are whole numbers from 0 to 2^32 - 2")
    return tokens.astype(np.int64)
