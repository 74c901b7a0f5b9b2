"""Which payloads of a key are worth a closer look in one text.

All 2^b payloads are scored block by block, for in a mixed document only some blocks are marked. Looked at are the
payload of the highest sum, and those of blocks where the highest is remarkable among 2^b. As every payload is paid for,
it does not matter to the null how many are looked at, or how they were chosen.

Work is bounded: of all texts of one input, MOST (token, payload) pairs are scored for a key, which takes some seconds;
with 12 payload bits that is 65,536 tokens, with 16 it is 4,096. Of more, evenly spread blocks are scored. A mark in the
others may be missed: that none was found says nothing then.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llm_label.watermark.keyring import Key
from llm_label.watermark.payload import candidate_scores
from llm_label.watermark.scan import trace

__all__ = ["BLOCK", "MOST", "Plan", "planned", "shortlist"]

BLOCK = 256  # tokens
MOST = 2**28
REMARKABLE = -2.0  # log10 of a block's p, all payloads paid for


class Plan(NamedTuple):
    """Where the blocks to score start in each text, and how many tokens are in none of them."""

    starts: list[list[int]]
    left_out: int


def planned(lengths: Sequence[int], key: Key) -> Plan:
    """Share MOST among texts of one input, given how many tokens each has: every part of it has an equal chance."""
    starts: list[list[int]] = [[] for _ in lengths]
    total, credit, taken = sum(lengths), 0, 0
    allowed = min(total, MOST >> key.spec.payload_bits) if key.spec.payload_bits else total
    for text, length in enumerate(lengths):
        for start in range(0, length, BLOCK):
            size = min(BLOCK, length - start)
            credit += size * allowed  # a block costs its size times the total: exact in whole numbers
            if credit >= size * total:
                credit -= size * total
                taken += size
                starts[text].append(start)
    return Plan(starts, total - taken)


def shortlist(ids: npt.NDArray[np.int64], key: Key, starts: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return payloads in ascending order; a key without payload_bits has but one.

    `starts`: of the blocks to score, as planned together with other texts.
    """
    bits, rules = key.spec.payload_bits, key.spec.rules
    if not bits:
        return (key.payload,)
    total, found = np.zeros(2**bits), set()
    for start in planned([len(ids)], key).starts[0] if starts is None else starts:
        block = ids[max(0, start - rules.context_width) : start + BLOCK]
        scores = candidate_scores(block, key)
        best, scored = int(scores.argmax()), len(trace(block, key).positions)
        if rules.log10_tail(scored, float(scores[best])) + bits * math.log10(2.0) <= REMARKABLE:
            found.add(best)
        total += scores
    return tuple(sorted(found | {int(total.argmax())}))
