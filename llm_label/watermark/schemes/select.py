"""Choose among whole answers: for models behind an API that gives no hand in the choice of tokens.

After Bahri & Wieting, "A Watermark for Black-Box Language Models" (arXiv:2410.02099): draw several candidates, give
every n-gram a keyed score, and keep the candidate whose score is highest for its number of n-grams. An n-gram that
stands in several candidates tells none from another and is left out; then the ranks u of the candidates are
independent and uniform over keys, and taking the largest u^(1/c), c the number of equal candidates, draws each with
the chance that it came with: over keys the answers are distributed as the model's own.

A candidate with fewer than eight n-grams of its own is not ranked: it would show nothing, and answers so short come
again and again, so the key would prefer one of "Yes" and "No" for as long as it lives. Draws are exchangeable, so the
first of them stands for all: where it is such a candidate it is kept as it came, unmarked; else the key chooses among
the others. With m of k such candidates one of the m is kept in m of k cases, whatever the key: this is exact as well.

Detection adds −ln(1 − u) of all distinct n-grams, as gumbel does: without a mark Gamma(n, 1), exactly. The price: a
choice among k shifts the whole sum once. However long the answer, its p-value is about that of the best of k,
1 / (k + 1); only several choices in one text - answers of one author, or one answer written block by block with
`before` - come to proof. N-grams are of letters (see `letters.py`), so no tokenizer is needed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log1p, sqrt
from operator import itemgetter
from statistics import NormalDist
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from llm_label.errors import KeyringError
from llm_label.watermark import tails
from llm_label.watermark.letters import LETTERS, letters
from llm_label.watermark.prf import DEFAULT, PRFS, Keys, uniforms
from llm_label.watermark.schemes.parameters import known_prf, number

__all__ = ["Choice", "Select"]

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

MOST = 128  # candidates
LEAST = 8  # n-grams of its own that a candidate is ranked by: one letter that differs within a text makes as many


class Choice(NamedTuple):
    """The index of the candidate to keep, and whether the key chose it: else it carries no mark."""

    kept: int
    marks: bool


@dataclass(frozen=True)
class Select:
    """The scheme with the number of candidates to draw for each answer."""

    candidates: int = 8
    prf: str = DEFAULT

    name: ClassVar[str] = "select"
    version: ClassVar[int] = 1
    # n-grams of eight letters: two words, or eight Han characters. Of 200 tokens in English one in eleven also stood
    # in one of seven other answers to the question, of shorter ones many more; longer ones break at more edits.
    context_width: ClassVar[int] = 7
    vllm: ClassVar[str | None] = None
    distorts: ClassVar[bool] = False
    marks_greedy: ClassVar[bool] = False
    once_per: ClassVar[Literal["token"]] = "token"
    units: ClassVar[str | None] = LETTERS

    def __post_init__(self) -> None:
        known_prf(self.name, self.prf)
        value = number(self.name, "candidates", self.candidates, 2, MOST)
        if value != int(value):
            raise KeyringError(f"scheme {self.name!r}: candidates is a whole number from 2 to {MOST}, not {value:g}")
        object.__setattr__(self, "candidates", int(value))

    @property
    def key_bytes(self) -> int:
        return PRFS[self.prf].key_bytes

    def token_scores(self, key: Keys, contexts: Ids, tokens: Ids) -> Floats:
        """Score tokens [n] after contexts [n, 7]: −ln(1 − u), in float64."""
        return np.asarray(-np.log1p(-uniforms(PRFS[self.prf].words(key, contexts, tokens))))

    def log10_tail(self, n: int, score: float) -> float:
        """Return log10 P(Gamma(n, 1) ≥ score)."""
        return tails.gamma_log10_sf(n, score)

    def plausible(self, n: int) -> float:
        """Return the sum of scores to expect of one answer with n n-grams: that of the best of all candidates."""
        return n + sqrt(n) * NormalDist().inv_cdf(self.candidates / (self.candidates + 1))

    def choose(self, key: Keys, candidates: Sequence[str], before: str = "") -> Choice:
        """Choose among candidates in the order in which they were drawn; `before` is the text that they go on from."""
        past = letters(before)[0]
        units = [letters(candidate)[0] for candidate in candidates]
        same: dict[bytes, list[int]] = {}
        for index, own in enumerate(units):
            same.setdefault(own.tobytes(), []).append(index)
        groups = list(same.values())
        ranks = self._ranks(key, past, [units[group[0]] for group in groups])
        # u^(1/c), by logarithms
        ranked = [(rank / len(group), group[0]) for rank, group in zip(ranks, groups, strict=True) if rank is not None]
        if ranks[0] is None or len(ranked) < 2:
            return Choice(0, marks=False)
        # of equal candidates the first, which is as good as any
        return Choice(max(ranked, key=itemgetter(0))[1], marks=True)

    def _ranks(self, key: Keys, past: Ids, texts: list[Ids]) -> list[float | None]:
        """Return ln u of distinct texts after `past`: u is uniform over keys, and independent of the others'.

        None: the text has fewer than LEAST n-grams of its own.
        """
        grams, owner = self._own(past, texts)
        scores = self.token_scores(key, grams[:, :-1], grams[:, -1]) if len(grams) else np.empty(0)
        sums = np.bincount(owner, weights=scores, minlength=len(texts))
        counts = np.bincount(owner, minlength=len(texts))
        return [
            _ln_rest(self.log10_tail(int(n), float(score))) if n >= LEAST else None
            for n, score in zip(counts, sums, strict=True)
        ]

    def _own(self, past: Ids, texts: list[Ids]) -> tuple[Ids, Ids]:
        """Return the distinct n-grams [n, 8] that stand in one text alone and not in `past`, and whose each is."""
        tail = past[-self.context_width :]
        parts = [self._grams(past), *(self._grams(np.concatenate([tail, text])) for text in texts)]
        whose = np.repeat(np.arange(-1, len(texts)), [len(part) for part in parts])
        grams = np.concatenate(parts)
        if not len(grams):
            return grams, whose
        which = _kinds(grams)
        at = np.lexsort((whose, which))
        starts = np.flatnonzero(np.diff(which[at], prepend=-1))  # owners of equal n-grams stand in a row, in order
        first, last = at[starts], at[np.append(starts[1:], len(at)) - 1]
        own = first[(whose[first] == whose[last]) & (whose[first] >= 0)]
        return grams[own], whose[own]

    def _grams(self, units: Ids) -> Ids:
        size = self.context_width + 1
        if len(units) < size:
            return np.empty((0, size), dtype=np.int64)
        return np.lib.stride_tricks.sliding_window_view(units, size)


def _kinds(grams: Ids) -> Ids:
    """Return a number [n] for each n-gram [n, 8], the same for equal ones. No hash decides."""
    _, ranks = np.unique(grams, return_inverse=True)
    ranks = ranks.reshape(grams.shape)
    base, kind = int(ranks.max(initial=0)) + 1, np.zeros(len(grams), dtype=np.int64)
    for column in range(grams.shape[1]):
        if (int(kind.max(initial=0)) + 1) * base > 2**63:  # the next would not fit
            _, kind = np.unique(kind, return_inverse=True)
        kind = kind * base + ranks[:, column]
    return kind


def _ln_rest(log10_p: float) -> float:
    """Return ln(1 − p); far below, all are as bad."""
    p = 10.0**log10_p
    return log1p(-p) if p < 1.0 else -np.inf
