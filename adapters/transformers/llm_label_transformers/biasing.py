"""Mark by a bias: scheme bernoulli, for everything that ranks or samples scores."""

import numpy as np
import torch

from llm_label.errors import MarkError
from llm_label.watermark.keyring import Key
from llm_label.watermark.prf import CHUNK, Stream
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label_transformers import race
from llm_label_transformers.completion import CompletionProcessor

__all__ = ["BiasLogitsProcessor", "greens_on_device", "greens_on_host"]


class BiasLogitsProcessor(CompletionProcessor):
    """Add delta to the scores of green tokens.

    It depends on nothing but a row's tokens, so sampling, greedy decoding, beams and drafts that are taken back
    are all marked alike. It does not matter that a context repeats: the coin is the same, and counts once.
    """

    def __init__(self, key: Key, variety: str) -> None:
        super().__init__(key, variety)
        assert isinstance(key.spec.rules, Bernoulli)
        self._rules = key.spec.rules
        self._first: torch.Tensor | None = None

    @torch.no_grad()
    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return scores [b, v] with delta added where (context, token) is green; ids are [b, length]."""
        self._check_prompt(input_ids)
        contexts = np.array(self._contexts(input_ids), dtype=np.int64)
        if not len(contexts):
            return scores
        greens = greens_on_host if scores.device.type == "cpu" else greens_on_device
        rows, tokens = greens(self._rules, self._key.streams()[0], contexts, scores)
        biased = scores.clone()
        biased[rows, tokens] += self._rules.delta
        return biased  # type: ignore[return-value]  # FloatTensor is an alias in name only

    def _check_prompt(self, input_ids: torch.Tensor) -> None:
        """Refuse another prompt than the one that was learnt: of drafts by another tokenizer, or of another call."""
        if self._first is None:
            self._first = input_ids.clone()
        if not torch.equal(input_ids[:, : self._first.shape[1]], self._first):
            raise MarkError(
                "the watermark cannot follow an assistant that starts from other tokens than the model; use one "
                "with the model's tokenizer, or leave out watermarking_config or the assistant. Without an assistant: "
                "make a processor for each generate()"
            )


def greens_on_host(
    rules: Bernoulli, stream: Stream, contexts: np.ndarray, scores: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows and tokens of the green ones among CPU scores [r, v] above −inf."""
    states = stream.absorb(contexts)
    able = scores.float().numpy() > -np.inf
    if stream.prf.lanes * np.count_nonzero(able) < able.size:
        rows, tokens = np.nonzero(able)
        green = rules.green(stream.candidate_words(states[:, rows], tokens))
        rows, tokens = rows[green], tokens[green]
    else:
        green = np.stack(
            [_greens_of_all(rules, stream, states[:, row : row + 1], able.shape[1]) for row in range(len(able))]
        )
        rows, tokens = np.nonzero(able & green)
    return torch.from_numpy(rows), torch.from_numpy(tokens)


def _greens_of_all(rules: Bernoulli, stream: Stream, state: np.ndarray, vocabulary: int) -> np.ndarray:
    """Tell of every token [v] whether it is green after one context."""
    groups = np.arange(-(-vocabulary // stream.prf.lanes), dtype=np.uint64)
    parts = [stream.group_words(state, groups[at : at + CHUNK]) for at in range(0, len(groups), CHUNK)]
    return rules.green(np.concatenate(parts, axis=1).T.reshape(-1)[:vocabulary].astype(np.uint32))


def greens_on_device(
    rules: Bernoulli, stream: Stream, contexts: np.ndarray, scores: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows and tokens of the green ones among scores [r, v] above −inf, on their device."""
    states = race.states(stream, contexts, scores.device)
    rows, tokens = torch.nonzero(scores > -torch.inf, as_tuple=True)
    green = race.candidate_words(stream, states[:, rows], tokens) < rules.threshold
    return rows[green], tokens[green]
