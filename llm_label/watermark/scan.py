"""Token ids -> score and exact p-value under one key.

What carries fresh randomness under the key's scheme - each distinct context, or each distinct (context, token) -
is scored once, at its first occurrence: counting repeats would make templated text look marked (the null law).
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from llm_label.watermark import prf
from llm_label.watermark.keyring import Key
from llm_label.watermark.schemes import Conditional, Scheme

__all__ = [
    "Decision",
    "Scan",
    "Trace",
    "decision",
    "family_wise",
    "first_occurrences",
    "scan",
    "token_scores",
    "trace",
    "traces",
]

Decision: TypeAlias = Literal["marked", "not_shown", "insufficient"]
Ids: TypeAlias = npt.NDArray[np.int64]

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


@dataclass(frozen=True)
class Scan:
    """Hold what one key found: sum of scores, tokens scored and skipped, log10 of the one-test p-value."""

    score: float
    scored: int
    skipped: int
    log10_p: float


@dataclass(frozen=True, eq=False)
class Trace:
    """Hold token ids [n], the ascending positions [m] that count, and the score [m] of each, under one key."""

    tokens: Ids
    positions: npt.NDArray[np.intp]
    scores: npt.NDArray[np.float64]
    rules: Scheme

    def contexts(self, start: int = 0, stop: int | None = None) -> Ids:
        """Return the context [m, h] of each token that counts, or of some of them."""
        return _contexts(self.tokens, self.rules.context_width)[self.positions[start:stop]]

    def whole(self) -> Scan:
        """Return what all that was scored says together."""
        scored, score = len(self.positions), float(self.scores.sum())
        return Scan(score, scored, len(self.tokens) - scored, self.log10_p(0, scored, score))

    def log10_p(self, start: int, stop: int, score: float) -> float:
        """Return log10 of the chance that what was scored from `start` to `stop` scores at least so much unmarked."""
        if stop <= start:
            return 0.0
        if _is_conditional(type(self.rules)):
            tokens = self.tokens[self.positions[start:stop]]
            return cast(Conditional, self.rules).log10_p(self.contexts(start, stop), tokens, score)
        return self.rules.log10_tail(stop - start, score)


@lru_cache
def _is_conditional(kind: type) -> bool:
    return issubclass(kind, Conditional)  # asked anew it takes 10 µs, of 300 for a short text


def scan(ids: npt.ArrayLike, key: Key, eos: int | None = None) -> Scan:
    """Score token ids [n] of one completion, prompt not included, under the key's spec.

    `eos`: the end token; neither it nor the padding that follows is scored.
    """
    return trace(ids, key, eos).whole()


def token_scores(ids: npt.ArrayLike, key: Key) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the ascending positions that count and the score of each, for ids as `scan` takes them."""
    found = trace(ids, key)
    return found.positions, found.scores


def trace(ids: npt.ArrayLike, key: Key, eos: int | None = None) -> Trace:
    """Score token by token, for ids as `scan` takes them."""
    return next(traces(ids, (key,), eos))


def traces(ids: npt.ArrayLike, keys: Iterable[Key], eos: int | None = None) -> Iterator[Trace]:
    """Score token by token under one key after the other; what keys of one kind count is found once for all."""
    tokens = _before(_checked(ids), eos)
    known: dict[tuple[object, ...], tuple[npt.NDArray[np.intp], Ids]] = {}
    for key in keys:
        rules = key.spec.rules
        # tokens whose context still holds padding were drawn by the ordinary sampler
        start = rules.context_width if key.spec.variety == "default" else 0
        kind = (rules.context_width, rules.once_per, start)
        if kind not in known:
            contexts = _contexts(tokens, rules.context_width)
            units = contexts if rules.once_per == "context" else np.column_stack([contexts, tokens])
            chosen = start + first_occurrences(units[start:])
            known[kind] = chosen, contexts[chosen]
        chosen, contexts = known[kind]
        scores = np.empty(0, dtype=np.float64)
        if len(chosen):
            scores = rules.token_scores(key.scheme_key(), contexts, tokens[chosen] ^ key.payload)
        yield Trace(tokens, chosen, scores, rules)


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

    Contexts are sorted by a hash, and neighbours of one hash compared: no hash decides.
    """
    code = np.zeros(len(contexts), dtype=np.uint64)
    for column in contexts.T:
        code = (code ^ (code >> np.uint64(29))) * MULTIPLIER + column.view(np.uint64)
    order = np.argsort(code, kind="stable")
    code = code[order]
    again = np.flatnonzero(code[1:] == code[:-1])
    earlier, later = order[again], order[again + 1]
    if not np.array_equal(contexts[earlier], contexts[later]):
        return _firsts_by_rank(contexts)
    fresh = np.ones(len(contexts), dtype=bool)
    fresh[later] = False
    return np.flatnonzero(fresh)


def _firsts_by_rank(contexts: Ids) -> npt.NDArray[np.intp]:
    """Return the same where two contexts share a hash: equal contexts have equal ranks in every column."""
    code = np.zeros(len(contexts), dtype=np.int64)
    for column in contexts.T:
        ranks = np.unique(column, return_inverse=True)[1]
        code = np.unique(code * len(contexts) + ranks, return_inverse=True)[1]
    return np.sort(np.unique(code, return_index=True)[1])


def _contexts(tokens: Ids, width: int) -> Ids:
    """Return the context [n, width] before each token [n], padded with −1."""
    padded = np.concatenate([np.full(width, -1, dtype=np.int64), tokens])
    # what sliding_window_view does, in a third of its time
    return np.lib.stride_tricks.as_strided(padded, (len(tokens), width), (8, 8), writeable=False)


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
