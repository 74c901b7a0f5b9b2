"""Choose the next token of each row by the keyed exponential race, hashing only tokens that can still win.

The winner is exactly that of evaluating every candidate: what is left out is proven to lose. Since
E = −ln u is at least LEAST_RACE, a token scores at most logit − ln LEAST_RACE; below the best score of the
likeliest tokens it cannot win. Of the rest, only those whose word passes an integer threshold get a logarithm.
"""

import math
from functools import reduce
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.watermark.prf import CHUNK, MASK, Stream
from llm_label.watermark.schemes.gumbel import Gumbel

__all__ = ["LEAST_RACE", "winners"]

Row: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]

GUMBEL = Gumbel()
LEAST_RACE = float(GUMBEL.races(np.array([MASK], dtype=np.uint32))[0])  # 5.96e-8, from the largest u
FEW = 1024  # candidates up to which sorting out costs more than hashing them all
HEAD_WIDTH = 3.0  # nats below the largest logit that count as likely
SLACK = 1e-4  # nats; wider than any rounding of the bounds below


def winners(stream: Stream, contexts: Ids, logits: Row) -> Ids:
    """Return the winning token [r] after each context [r, h] among the logits [r, v] above −inf.

    It is −1 where a row's largest logit is NaN or infinite: such a row is no distribution to draw from.
    """
    states = stream.absorb(contexts)
    out = np.full(len(contexts), -1, dtype=np.int64)
    few: list[tuple[int, Ids]] = []
    for row, line in enumerate(logits):
        candidates = np.flatnonzero(line != -np.inf)
        many = len(candidates) > FEW
        top = (line if many else line[candidates]).max(initial=-np.inf)  # NaN if there is one
        if not np.isfinite(top):
            continue
        if many:
            out[row] = _among_many(stream, states[:, row : row + 1], line, top)
        else:
            few.append((row, candidates))
    if few:
        _among_few(stream, states, logits, few, out)
    return out


def _among_few(stream: Stream, states: Words, logits: Row, few: list[tuple[int, Ids]], out: Ids) -> None:
    """Hash the candidates of all rows in one go and fill in their winners."""
    lengths = [len(candidates) for _, candidates in few]
    owner = np.repeat([row for row, _ in few], lengths)
    tokens = np.concatenate([candidates for _, candidates in few])
    word = stream.candidate_words(states[:, owner], tokens)
    start = 0
    for (row, candidates), length in zip(few, lengths, strict=True):
        stop = start + length
        out[row] = candidates[GUMBEL.winner(logits[row, candidates], word[start:stop])]
        start = stop


def _among_many(stream: Stream, state: Words, line: Row, top: np.float32) -> int:
    """Race the likeliest tokens first, then whatever could still beat the best of them."""
    head = np.flatnonzero(line >= top - np.float32(HEAD_WIDTH))[:FEW]
    best = float(_values(stream, state, line, head).max())
    tokens = np.sort(_contenders(stream, state, line, best))  # holds the best of the head, too
    return int(tokens[np.argmax(_values(stream, state, line, tokens))])


def _values(stream: Stream, state: Words, line: Row, tokens: Ids) -> npt.NDArray[np.float64]:
    word = stream.candidate_words(state, tokens)
    return np.asarray(line[tokens].astype(np.float64) - np.log(GUMBEL.races(word)))


def _contenders(stream: Stream, state: Words, line: Row, best: float) -> Ids:
    """Return every token that may reach `best`, and few that may not.

    logit − ln E ≥ best needs 1 − u ≤ E ≤ exp(logit − best), so the word's top 24 bits must come within
    2^24 · exp(logit − best) of their maximum. One evaluation of the PRF gives the words of
    as many neighbouring ids as it has lanes.
    """
    lanes = stream.prf.lanes
    floor = np.nextafter(np.float32(best + math.log(LEAST_RACE) - SLACK), np.float32(-np.inf))
    padded = np.full(-(-len(line) // lanes) * lanes, -np.inf, dtype=np.float32)
    padded[: len(line)] = line
    by_lane = np.ascontiguousarray(padded.reshape(-1, lanes).T)  # [lanes, groups]
    able = by_lane >= floor
    groups = np.flatnonzero(reduce(np.logical_or, able))  # any(axis=0) takes four times as long
    found = []
    for start in range(0, len(groups), CHUNK):
        part = groups[start : start + CHUNK]
        with np.errstate(over="ignore"):  # −inf is as far behind as any
            behind = (by_lane[:, part].astype(np.float64) - best).astype(np.float32)
        # SLACK and three units more than exact arithmetic would need
        need = np.float32(2**24 - 3) - np.exp(behind, out=behind) * np.float32(2**24 * (1 + SLACK))
        word = stream.group_words(state, part.astype(np.uint64)) >> np.uint64(8)
        lane, group = np.divmod(np.flatnonzero(word.astype(np.float32) >= need), len(part))
        real = by_lane[lane, part[group]] > -np.inf  # the last three words of 2^24 pass any need, padding's too
        found.append((part[group] * lanes + lane)[real])
    return np.concatenate(found) if found else np.empty(0, dtype=np.int64)
