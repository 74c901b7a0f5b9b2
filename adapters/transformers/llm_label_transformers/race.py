"""The keyed race of llm_label.watermark.choice on torch tensors, a whole batch at a time."""

from functools import lru_cache

import numpy as np
import torch

from llm_label.errors import MarkError
from llm_label.watermark import prf
from llm_label.watermark.choice import LEAST_RACE, SLACK
from llm_label_transformers import philox

__all__ = ["check_device", "winners"]

HEAD = 64


@lru_cache
def check_device(device: torch.device) -> None:
    """Raise MarkError unless this device computes the words of llm_label.watermark.prf, bit for bit."""
    contexts = np.array([[1, 2, 3, 4], [-1, -1, 151_935, 0]], dtype=np.int64)
    tokens = np.array([7, 151_935], dtype=np.int64)
    key = 2**64 - 42
    states = torch.from_numpy(prf.absorb(key, contexts).astype(np.int64)).to(device)
    words = philox.candidate_words(key, states, torch.from_numpy(tokens).to(device))
    if words.tolist() != prf.words(key, contexts, tokens).tolist():
        raise MarkError(f"device {device} does not compute the watermark's integers right; generate on another device")


def winners(key: int, states: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return the winning token int64[r] of each row; states int64[4, r], logits [r, v].

    It is −1 where a row holds NaN, or no token that is possible.
    The HEAD likeliest tokens of each row set a bound; only tokens that can reach it are hashed.
    """
    head = logits.topk(min(HEAD, logits.shape[1])).indices  # [r, HEAD]
    rows = torch.arange(len(logits), device=logits.device)[:, None].expand_as(head).reshape(-1)
    best = _values(key, states, logits, rows, head.reshape(-1)).view_as(head).amax(1)  # [r]
    floor = best + torch.log(best.new_tensor(LEAST_RACE)) - SLACK
    rows, tokens = torch.nonzero((logits > -torch.inf) & (logits >= floor[:, None]), as_tuple=True)
    values = _values(key, states, logits, rows, tokens)
    best = torch.full_like(best, -torch.inf).scatter_reduce(0, rows, values, "amax")
    tokens = torch.where(values == best[rows], tokens, logits.shape[1])  # the first wins a tie
    first = torch.full_like(states[0], logits.shape[1]).scatter_reduce(0, rows, tokens, "amin")
    return torch.where(first < logits.shape[1], first, -1)


def _values(
    key: int, states: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    words = philox.candidate_words(key, states[:, rows], tokens)
    return logits[rows, tokens].double() - torch.log(-torch.log(philox.uniforms(words)))
