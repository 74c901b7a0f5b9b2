"""Mark by the tournament: scheme synthid, for plain sampling."""

import functools

import numpy as np
import torch

from llm_label.watermark import knockout, tournament
from llm_label.watermark.schemes.synthid import SynthID
from llm_label_transformers.completion import Context
from llm_label_transformers.racing import RaceLogitsProcessor

__all__ = ["KnockoutLogitsProcessor", "on_device", "on_host"]


class KnockoutLogitsProcessor(RaceLogitsProcessor):
    """Give each marked row the probabilities that transformers' SynthID processor gives it.

    Unlike that one it hashes what top-k and top-p left over, keeps no state from one generate() to the next, and
    leaves a context that came before in the same answer unmarked however long ago it was.
    """

    def _contexts(self, input_ids: torch.Tensor) -> list[Context]:
        """Return contexts padded with 0, as they are hashed: an answer's first one comes again after a token 0."""
        return [tuple(max(token, 0) for token in context) for context in super()._contexts(input_ids)]

    def _mark(self, scores: torch.Tensor, rows: list[int], contexts: list[Context]) -> torch.Tensor:
        rules = self._key.spec.rules
        assert isinstance(rules, SynthID)
        chosen = scores if len(rows) == len(scores) else scores[rows]
        play = on_host if scores.device.type == "cpu" else on_device
        after = play(rules, self._key.scheme_key(), np.array(contexts, dtype=np.int64), chosen).to(scores.dtype)
        if len(rows) == len(scores):
            return after
        marked = scores.clone()
        marked[rows] = after
        return marked


def on_host(rules: SynthID, key: int, contexts: np.ndarray, scores: torch.Tensor) -> torch.Tensor:
    """Return log probabilities [r, v] after the tournament for CPU scores [r, v]."""
    return torch.from_numpy(knockout.redistribute(rules, key, contexts, scores.float().numpy()))


def on_device(rules: SynthID, key: int, contexts: np.ndarray, scores: torch.Tensor) -> torch.Tensor:
    """Return the same without moving the scores [r, v] off their device; hash values come from the host."""
    size = rules.sampling_table_size
    starts = tournament.states(np.maximum(contexts, 0), size).astype(np.int64)
    tokens = _possible(scores)  # [r, s]
    mass = torch.softmax(scores.double().gather(1, tokens), dim=1)
    index = (torch.from_numpy(starts).to(scores.device)[:, None] + tokens) % size
    for layer in _bits(rules, key, scores.device):
        g = layer[index].double()
        mass = mass * (g + (1.0 - (g * mass).sum(dim=1, keepdim=True)).clamp(min=0.0))
    return torch.full_like(scores, -torch.inf).scatter_(1, tokens, torch.log(mass).to(scores.dtype))


@functools.lru_cache(maxsize=8)
def _bits(rules: SynthID, key: int, device: torch.device) -> torch.Tensor:
    return torch.tensor(knockout.bit_table(rules, key), device=device)  # [depth, size]


def _possible(scores: torch.Tensor) -> torch.Tensor:
    """Return token ids [r, s]: every row's possible ones, and others to fill up the shorter rows."""
    most = int((scores > -torch.inf).sum(dim=1).max())
    if 2 * most > scores.shape[1]:
        return torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
    return scores.topk(max(most, 1), dim=1).indices
