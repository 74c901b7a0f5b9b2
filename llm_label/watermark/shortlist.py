"""Which payloads of a key are worth a closer look in one text.

All 2^b payloads are scored block by block, for in a mixed document only some blocks are marked, and one block may hold
passages of several. Looked at are the payload of the highest sum, and the first few of each block that are remarkable
among 2^b. As every payload is paid for, it does not matter to the null how many are looked at, or how they were chosen.

Work is bounded: of all texts of one input, MOST (token, payload) pairs are scored for a key, which takes some seconds;
with 12 payload bits that is 65,536 tokens, with 16 it is 4,096. Of more, evenly spread blocks are scored. A mark in the
others may be missed: that none was found says nothing then.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llm_label.watermark.keyring import Key
from llm_label.watermark.payload import candidate_scores
from llm_label.watermark.scan import trace

__all__ = ["BLOCK", "MOST", "Plan", "planned", "shortlist"]

BLOCK = 256  # tokens
MOST = 2**28
FEW = 4  # payloads of one block
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
    total, found = np.zeros(2**bits), set[int]()
    for start in planned([len(ids)], key).starts[0] if starts is None else starts:
        block = ids[max(0, start - rules.context_width) : start + BLOCK]
        scores = candidate_scores(block, key)
        found.update(_remarkable(scores, len(trace(block, key).positions), key))
        total += scores
    return tuple(sorted(found | {int(total.argmax())}))


def _remarkable(scores: npt.NDArray[np.float64], scored: int, key: Key) -> Iterator[int]:
    """Yield the payloads whose scores [2^b], of so many tokens, are remarkable, the highest first."""
    log10_level = REMARKABLE - key.spec.payload_bits * math.log10(2.0)
    for payload in np.argsort(-scores, kind="stable")[:FEW].tolist():
        if key.spec.rules.log10_tail(scored, float(scores[payload])) > log10_level:
            break
        yield payload
