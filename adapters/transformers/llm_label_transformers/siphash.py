"""llm_label.watermark.siphash on torch tensors of any device: the same words, by int64 arithmetic.

Sums wrap as those of unsigned words do; shifts to the right are masked, since torch's are arithmetic.
"""

import torch

__all__ = ["candidate_words"]

MASK = 0xFFFFFFFF


def _rotate(word: torch.Tensor, by: int) -> torch.Tensor:
    return (word << by) | ((word >> (64 - by)) & ((1 << by) - 1))


def _rounds(state: list[torch.Tensor], count: int) -> list[torch.Tensor]:
    v0, v1, v2, v3 = state
    for _ in range(count):
        v0, v2 = v0 + v1, v2 + v3
        v1, v3 = _rotate(v1, 13) ^ v0, _rotate(v3, 16) ^ v2
        v0, v2 = _rotate(v0, 32) + v3, v2 + v1
        v1, v3 = _rotate(v1, 17) ^ v2, _rotate(v3, 21) ^ v0
        v2 = _rotate(v2, 32)
    return [v0, v1, v2, v3]


def candidate_words(key: int, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the words int64[n] of candidate tokens int64[n] after absorbed contexts, states int64[5, n]."""
    block = ((tokens & MASK) >> 1) | states[4]
    v0, v1, v2, v3 = _rounds([states[0], states[1], states[2], states[3] ^ block], 2)
    v0, v1, v2, v3 = _rounds([v0 ^ block, v1, v2 ^ 0xFF, v3], 4)
    return ((v0 ^ v1 ^ v2 ^ v3) >> ((tokens & 1) << 5)) & MASK
