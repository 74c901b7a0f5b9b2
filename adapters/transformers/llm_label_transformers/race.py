"""The keyed race of llm_label.watermark.choice on torch tensors, a whole batch at a time."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import torch

from llm_label.errors import MarkError
from llm_label.watermark import philox as philox_of_numpy
from llm_label.watermark import siphash as siphash_of_numpy
from llm_label.watermark.choice import LEAST_RACE, SLACK
from llm_label.watermark.prf import PRFS, Stream
from llm_label_transformers import philox, siphash

__all__ = ["candidate_words", "check_device", "states", "uniforms", "winners"]

HEAD = 64
CandidateWords: TypeAlias = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]
ARITHMETIC: Mapping[str, CandidateWords] = MappingProxyType(
    {philox_of_numpy.NAME: philox.candidate_words, siphash_of_numpy.NAME: siphash.candidate_words}
)


@lru_cache
def check_device(device: torch.device, name: str) -> None:
    """Raise MarkError unless this device computes the words of that PRF, bit for bit."""
    contexts = np.array([[1, 2, 3, 4], [-1, -1, 151_935, 0]], dtype=np.int64)
    tokens = np.array([7, 151_935], dtype=np.int64)
    stream = Stream(PRFS[name], 2 ** (8 * PRFS[name].key_bytes) - 42)
    words = candidate_words(stream, _states(stream, contexts, device), torch.from_numpy(tokens).to(device))
    if words.tolist() != stream.words(contexts, tokens).tolist():
        raise MarkError(f"device {device} does not compute the watermark's integers right; generate on another device")


def states(stream: Stream, contexts: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return the states int64[s, r] of contexts [r, h] on a device, or raise MarkError if it cannot be relied on."""
    check_device(device, stream.prf.name)
    return _states(stream, contexts, device)


def _states(stream: Stream, contexts: np.ndarray, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(stream.absorb(contexts).view(np.int64)).to(device)


def candidate_words(stream: Stream, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the words int64[n] of candidate tokens int64[n] after absorbed contexts, states int64[s, n]."""
    return ARITHMETIC[stream.prf.name](stream.key, states, tokens ^ stream.payload)


def uniforms(words: torch.Tensor) -> torch.Tensor:
    """Map words to float32((top 24 bits + 1) / (2^24 + 1)), as float64."""
    mantissa = (words >> 8).double() + 1.0
    return (mantissa / float(2**24 + 1)).float().double()


def winners(stream: Stream, states: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return the winning token int64[r] of each row; states int64[s, r], logits [r, v].

    It is −1 where a row holds NaN, or no token that is possible.
    The HEAD likeliest tokens of each row set a bound; only tokens that can reach it are hashed.
    """
    head = logits.topk(min(HEAD, logits.shape[1])).indices  # [r, HEAD]
    rows = torch.arange(len(logits), device=logits.device)[:, None].expand_as(head).reshape(-1)
    best = _values(stream, states, logits, rows, head.reshape(-1)).view_as(head).amax(1)  # [r]
    floor = best + torch.log(best.new_tensor(LEAST_RACE)) - SLACK
    rows, tokens = torch.nonzero((logits > -torch.inf) & (logits >= floor[:, None]), as_tuple=True)
    values = _values(stream, states, logits, rows, tokens)
    best = torch.full_like(best, -torch.inf).scatter_reduce(0, rows, values, "amax")
    tokens = torch.where(values == best[rows], tokens, logits.shape[1])  # the first wins a tie
    first = torch.full_like(states[0], logits.shape[1]).scatter_reduce(0, rows, tokens, "amin")
    return torch.where(first < logits.shape[1], first, -1)


def _values(
    stream: Stream, states: torch.Tensor, logits: torch.Tensor, rows: torch.Tensor, tokens: torch.Tensor
) -> torch.Tensor:
    words = candidate_words(stream, states[:, rows], tokens)
    return logits[rows, tokens].double() - torch.log(-torch.log(uniforms(words)))
