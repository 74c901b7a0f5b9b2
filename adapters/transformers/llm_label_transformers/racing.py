"""Mark by the keyed race: schemes gumbel and dual_gumbel, for plain sampling."""

import numpy as np
import torch

from llm_label.errors import MarkError
from llm_label.watermark import choice
from llm_label.watermark.keyring import Key
from llm_label.watermark.prf import Stream
from llm_label.watermark.schemes.dual_gumbel import DualGumbel
from llm_label_transformers import race
from llm_label_transformers.completion import CompletionProcessor, Context
from llm_label_transformers.sampled import SampledScores

__all__ = ["RaceLogitsProcessor", "winners_on_device", "winners_on_host"]


class RaceLogitsProcessor(CompletionProcessor):
    """Leave each marked row one token, the keyed winner."""

    def __init__(self, key: Key, variety: str) -> None:
        super().__init__(key, variety)
        rules = key.spec.rules
        self._second = rules.alpha if isinstance(rules, DualGumbel) else 0.0  # the second key's share
        self._length = 0
        self._seen: list[set[Context]] = []

    @torch.no_grad()
    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return scores [b, v] with everything but the winner at −inf in marked rows; ids are [b, length]."""
        self._follow(input_ids)
        rows, contexts = self._fresh_contexts(input_ids)
        marked = self._mark(scores, rows, contexts) if rows else scores
        return SampledScores.wrap(marked)  # type: ignore[return-value]  # FloatTensor is an alias in name only

    def _follow(self, input_ids: torch.Tensor) -> None:
        """Refuse decoding that does not go token by token."""
        count, length = input_ids.shape
        if self._prompt is None:
            self._seen = [set() for _ in range(count)]
        elif length != self._length + 1 or count != len(self._seen):
            raise MarkError(
                "the watermark marks plain sampling only, one token after the other; this decoding goes back "
                "(assisted or speculative): leave out watermarking_config or the assistant"
            )
        self._length = length

    def _fresh_contexts(self, input_ids: torch.Tensor) -> tuple[list[int], list[Context]]:
        """Return the rows whose context may carry a mark, and these contexts; each is used once a row."""
        rows, contexts = [], []
        for row, context in enumerate(self._contexts(input_ids)):
            if context not in self._seen[row]:
                self._seen[row].add(context)
                rows.append(row)
                contexts.append(context)
        return rows, contexts

    def _mark(self, scores: torch.Tensor, rows: list[int], contexts: list[Context]) -> torch.Tensor:
        chosen = scores if len(rows) == len(scores) else scores[rows]
        winner = self._winners(np.array(contexts, dtype=np.int64), chosen)
        only = torch.full_like(chosen, -torch.inf)
        score = chosen.gather(1, winner.clamp(min=0)[:, None])
        # What sampling would refuse (NaN, infinity, an empty row) stays refused.
        only.scatter_(1, winner.clamp(min=0)[:, None], score.masked_fill(winner[:, None] < 0, torch.nan))
        if len(rows) == len(scores):
            return only
        marked = scores.clone()
        marked[rows] = only
        return marked

    def _winners(self, contexts: np.ndarray, scores: torch.Tensor) -> torch.Tensor:
        """Race each row under its stream; which of two that is, is the sampler's own coin, not the keys'."""
        race_on = winners_on_host if scores.device.type == "cpu" else winners_on_device
        streams = self._key.streams()
        if self._second in (0.0, 1.0):
            return race_on(streams[int(self._second)], contexts, scores)
        second = (torch.rand(len(contexts)) < self._second).numpy()
        winner = torch.empty(len(contexts), dtype=torch.int64, device=scores.device)
        for stream, mine in zip(streams, (~second, second), strict=True):
            rows = np.flatnonzero(mine)
            if len(rows):
                winner[rows] = race_on(stream, contexts[rows], scores if len(rows) == len(scores) else scores[rows])
        return winner


def winners_on_host(stream: Stream, contexts: np.ndarray, scores: torch.Tensor) -> torch.Tensor:
    """Return the winners [r] among CPU scores [r, v]: numpy takes a tenth of torch's time here."""
    return torch.from_numpy(choice.winners(stream, contexts, scores.float().numpy()))


def winners_on_device(stream: Stream, contexts: np.ndarray, scores: torch.Tensor) -> torch.Tensor:
    """Return the winners [r] among scores [r, v] without moving them off their device."""
    return race.winners(stream, race.states(stream, contexts, scores.device), scores)
