"""llm_label.watermark.philox on torch tensors of any device: the same words, by int64 arithmetic.

Products of two 32-bit values overflow int64, but two's complement keeps all 64 bits right; shifts to the
right are masked, since torch's are arithmetic.
"""

import torch

from llm_label.watermark.philox import MASK, ROUNDS, TOKEN_DOMAIN, WEYL

__all__ = ["candidate_words"]

M0, M1 = 0xD2511F53, 0xCD9E8D57


def _philox(counter: list[torch.Tensor], low: torch.Tensor, high: int) -> list[torch.Tensor]:
    c0, c1, c2, c3 = counter
    for round_index in range(ROUNDS):
        k0 = (low + round_index * WEYL[0]) & MASK
        k1 = (high + round_index * WEYL[1]) & MASK
        p0, p1 = c0 * M0, c2 * M1
        c0, c1 = ((p1 >> 32) & MASK) ^ c1 ^ k0, p1 & MASK
        c2, c3 = ((p0 >> 32) & MASK) ^ c3 ^ k1, p0 & MASK
    return [c0, c1, c2, c3]


def candidate_words(key: int, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the words int64[n] of candidate tokens int64[n] after absorbed contexts, states int64[4, n]."""
    counter = [(tokens & MASK) >> 2, states[0], states[1], states[2]]
    lanes = _philox(counter, states[3] ^ (key & MASK), (key >> 32) ^ TOKEN_DOMAIN)
    return torch.stack(lanes).gather(0, (tokens & 3)[None])[0]
