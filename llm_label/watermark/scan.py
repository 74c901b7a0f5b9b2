"""Token ids -> score and exact p-value under one key.

What carries fresh randomness under the key's scheme - each distinct context, or each distinct (context, token) -
is scored once, at its first occurrence: counting repeats would make templated text look marked (the null law).
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.watermark import prf
from llm_label.watermark.keyring import Key
from llm_label.watermark.schemes import Conditional, Scheme

__all__ = ["Decision", "Scan", "decision", "family_wise", "first_occurrences", "scan", "token_scores"]

Decision: TypeAlias = Literal["marked", "not_shown", "insufficient"]
Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Scan:
    """Hold what one key found: sum of scores, tokens scored and skipped, log10 of the one-test p-value."""

    score: float
    scored: int
    skipped: int
    log10_p: float


def scan(ids: npt.ArrayLike, key: Key, eos: int | None = None) -> Scan:
    """Score token ids [n] of one completion, prompt not included, under the key's spec.

    `eos`: the end token; neither it nor the padding that follows is scored.
    """
    tokens = _before(_checked(ids), eos)
    chosen, scores = _scored(tokens, key)
    score = float(scores.sum())
    log10_p = _log10_p(tokens, chosen, score, key.spec.rules)
    return Scan(score, len(chosen), len(tokens) - len(chosen), log10_p)


def token_scores(ids: npt.ArrayLike, key: Key) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the ascending positions that count and the score of each, for ids as `scan` takes them."""
    return _scored(_checked(ids), key)


def _scored(tokens: Ids, key: Key) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    rules = key.spec.rules
    contexts = _contexts(tokens, rules.context_width)
    # tokens whose context still holds padding were drawn by the ordinary sampler
    start = rules.context_width if key.spec.variety == "default" else 0
    units = contexts if rules.once_per == "context" else np.column_stack([contexts, tokens])
    chosen = start + first_occurrences(units[start:])
    if not len(chosen):
        return chosen, np.empty(0, dtype=np.float64)
    return chosen, rules.token_scores(key.scheme_key(), contexts[chosen], tokens[chosen])


def _log10_p(tokens: Ids, chosen: npt.NDArray[np.intp], score: float, rules: Scheme) -> float:
    if not len(chosen):
        return 0.0
    if isinstance(rules, Conditional):
        return rules.log10_p(_contexts(tokens, rules.context_width)[chosen], tokens[chosen], score)
    return rules.log10_tail(len(chosen), score)


def decision(found: Scan, key: Key, alpha: float, tests: int = 1) -> Decision:
    """Decide at the family-wise level alpha over the given number of tests.

    "insufficient" when so few tokens were scored that even the scheme's plausible score would miss
    alpha / tests: then a marked text of ordinary entropy would likely not be found either, and its absence
    says nothing.
    """
    if not 0.0 < alpha < 1.0 or tests < 1:
        raise ValueError(f"alpha is between 0 and 1 and tests at least 1, not {alpha!r} and {tests!r}")
    limit = math.log10(alpha)
    if family_wise(found.log10_p, tests) <= limit:
        return "marked"
    rules = key.spec.rules
    reachable = rules.log10_tail(found.scored, rules.plausible(found.scored))
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


def _before(tokens: Ids, eos: int | None) -> Ids:
    if eos is None:
        return tokens
    ends = np.flatnonzero(tokens == eos)
    return tokens[: ends[0]] if len(ends) else tokens


def _checked(ids: npt.ArrayLike) -> Ids:
    tokens = np.asarray(ids)
    if tokens.ndim != 1 or (tokens.size and tokens.dtype.kind not in "iu"):
        raise ValueError("token ids are one list of whole numbers")
    if tokens.size and not (int(tokens.min()) >= 0 and int(tokens.max()) < prf.MASK):
        raise ValueError("token ids are whole numbers from 0 to 2^32 - 2")
    return tokens.astype(np.int64)
