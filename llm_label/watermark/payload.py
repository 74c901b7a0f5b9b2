"""A few bits that a marked text carries: which of 2^b equally likely streams of words it was written with.

Construction. A key gives a stream for every payload i: token t after a context has the word that token t XOR i has in
the stream of payload 0. It is the cyclic shift of Fernandez et al. ("Three Bricks to Consolidate Watermarks for Large
Language Models", 2023, section 6) with XOR for addition, which needs no size of the vocabulary and makes a block of
2^b neighbouring words hold the candidates of one token: contexts are absorbed once, and every lane of the PRF is used.

Why it is sound. XOR with i is one-to-one, so within a stream distinct (context, token) have distinct inputs of the
PRF and every scheme works as it does without a payload: each p-value is exact. In one position two streams read
two different inputs, whose words are independent. Streams do share words across tokens: in a text of payload i, the
candidate j reads what token t XOR i XOR j had when t was chosen. That token lost, or was no candidate: its score is
that of an unmarked token or less. So a false candidate of a marked text does no better than on an unmarked one.
Bernoulli is an exception, for it scores a context again with each new token: where contexts come with two tokens each,
and the two ids differ by the same XOR d everywhere, payloads i and i XOR d read the same coins and score the same. A
text is marked all the same; which of the two wrote it cannot be told. Ordinary text has few contexts that come twice.

Estimate, then verify. The candidate of highest score is the estimate; all of them were tried, so its p-value is
multiplied by their number (the union bound). A text is read with a wrong payload, at that corrected p-value, with
no greater chance than an unmarked text is read at all.

It tells deployments of one operator apart, and is no secret between them: whoever holds the key can write any
payload. Who needs that gives each its own key.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.watermark.keyring import Key
from llm_label.watermark.power import tokens_needed
from llm_label.watermark.prf import CHUNK, PRFS, Stream
from llm_label.watermark.scan import Scan, family_wise, scan, trace
from llm_label.watermark.schemes import Worded

__all__ = ["Identified", "candidate_scores", "identify", "tokens_for"]

Floats: TypeAlias = npt.NDArray[np.float64]
Ids: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.uint64]

SPAN = 2**14  # payloads scored together; their words stay within a core's second-level cache


@dataclass(frozen=True)
class Identified:
    """Hold the payload that speaks loudest, what its stream alone says, and how many payloads were tried."""

    payload: int
    found: Scan
    tests: int

    @property
    def log10_p(self) -> float:
        """Return log10 of the p-value, corrected for all payloads that were tried."""
        return family_wise(self.found.log10_p, self.tests)


def identify(ids: npt.ArrayLike, key: Key, eos: int | None = None) -> Identified:
    """Read the payload from ids as `scan` takes them; a key without payload_bits has but one.

    The cost is not bounded: all 2^payload_bits words of every token, some 30 million a second on one core. A text of
    10,000 tokens takes less than 0.1 s with 8 bits and 20 s with 16; text of strangers is for `shortlist`.
    """
    bits = key.spec.payload_bits
    best = int(candidate_scores(ids, key, eos).argmax()) if bits else key.payload
    return Identified(best, scan(ids, key.carrying(best), eos), 2**bits)


def candidate_scores(ids: npt.ArrayLike, key: Key, eos: int | None = None) -> Floats:
    """Return the sum of scores [2^payload_bits] of each payload."""
    rules, size = key.spec.rules, 2**key.spec.payload_bits
    counted = trace(ids, key, eos)
    tokens = counted.tokens[counted.positions]
    total = np.zeros(size, dtype=np.float64)
    if not isinstance(rules, Worded) or not len(tokens):
        return total
    for weight, one in rules.streams(key.scheme_key()):
        stream = Stream(PRFS[rules.prf], one)
        states = stream.absorb(counted.contexts())
        for first in range(0, size, SPAN):
            some = total[first : first + SPAN]
            for word in _words(stream, states, tokens ^ first, max(len(some), stream.prf.lanes)):
                some += weight * rules.scores(word).sum(axis=1).T.reshape(-1)[: len(some)]
    return total


def _words(stream: Stream, states: Words, tokens: Ids, span: int) -> Iterator[npt.NDArray[np.uint32]]:
    """Yield, a few tokens at a time, the words [lanes, tokens, span / lanes] of payloads lane + lanes · group.

    Words come in groups of ids: token XOR payload has group XOR group and lane XOR lane.
    """
    lanes = stream.prf.lanes
    high, low = np.divmod(tokens, lanes)
    groups, order = np.arange(span // lanes), np.arange(lanes)[:, None]
    step = max(1, CHUNK // len(groups))
    for at in range(0, len(tokens), step):
        each, lane = (high[at : at + step, None] ^ groups).astype(np.uint64), low[at : at + step] ^ order
        state = states[:, at : at + step]
        if len(each) > 1:
            state = np.repeat(state, len(groups), axis=1)
        made = stream.group_words(state, each.reshape(-1)).astype(np.uint32).reshape(lanes, *each.shape)
        yield made[lane, np.arange(len(each))]


def tokens_for(key: Key, alpha: float) -> tuple[int | None, int | None]:
    """Return how many scored tokens of ordinary prose are found at the level without a payload, and with one."""
    rules, level = key.spec.rules, math.log10(alpha)
    return tokens_needed(rules, level), tokens_needed(rules, level - key.spec.payload_bits * math.log10(2.0))
