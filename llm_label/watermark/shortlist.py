"""Which payloads of a key are worth a closer look in one text.

All 2^b payloads are scored block by block, for in a mixed document only some blocks are marked. Looked at are the
payload of the highest sum, and those of blocks where the highest is remarkable among 2^b. As every payload is paid for,
it does not matter to the null how many are looked at, or how they were chosen.

A long text is scored in evenly spread blocks only: MOST (token, payload) pairs take some seconds.
"""

import math

import numpy as np
import numpy.typing as npt

from llm_label.watermark.keyring import Key
from llm_label.watermark.payload import candidate_scores
from llm_label.watermark.scan import trace

__all__ = ["BLOCK", "MOST", "shortlist"]

BLOCK = 256  # tokens
MOST = 2**26
REMARKABLE = -2.0  # log10 of a block's p, all payloads paid for


def shortlist(ids: npt.NDArray[np.int64], key: Key) -> tuple[int, ...]:
    """Return payloads in ascending order; a key without payload_bits has but one."""
    bits, rules = key.spec.payload_bits, key.spec.rules
    if not bits:
        return (key.payload,)
    total, found = np.zeros(2**bits), set()
    for start in _starts(len(ids), bits):
        block = ids[max(0, start - rules.context_width) : start + BLOCK]
        scores = candidate_scores(block, key)
        best, scored = int(scores.argmax()), len(trace(block, key).positions)
        if rules.log10_tail(scored, float(scores[best])) + bits * math.log10(2.0) <= REMARKABLE:
            found.add(best)
        total += scores
    return tuple(sorted(found | {int(total.argmax())}))


def _starts(length: int, bits: int) -> list[int]:
    """Return where the blocks to score start."""
    starts = list(range(0, length, BLOCK))
    most = max(1, MOST // (BLOCK << bits))
    if len(starts) <= most:
        return starts
    return [starts[n * len(starts) // most] for n in range(most)]
