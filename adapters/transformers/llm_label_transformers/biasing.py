"""Mark by a bias: scheme bernoulli, for everything that ranks or samples scores."""

import numpy as np
import torch

from llm_label.errors import MarkError
from llm_label.watermark import prf
from llm_label.watermark.keyring import Key
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label_transformers import philox, race
from llm_label_transformers.completion import CompletionProcessor

__all__ = ["BiasLogitsProcessor", "greens_on_device", "greens_on_host"]

SPARSE = 4  # one Philox call serves four tokens: up to a share of 1 / SPARSE, hashing one by one is less work


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
        rows, tokens = greens(self._rules, self._key.scheme_key(), contexts, scores)
        biased = scores.clone()
        biased[rows, tokens] += self._rules.delta
        return biased  # type: ignore[return-value]  # FloatTensor is an alias in name only

    def _check_prompt(self, input_ids: torch.Tensor) -> None:
        """Refuse drafts that another tokenizer wrote: their prompt is not the one that was learnt."""
        if len(input_ids) != 1:  # such drafts come one at a time
            return
        if self._first is None:
            self._first = input_ids[0].clone()
        if not torch.equal(input_ids[0, : len(self._first)], self._first):
            raise MarkError(
                "the watermark cannot follow an assistant that starts from other tokens than the model; use one "
                "with the model's tokenizer, or leave out watermarking_config or the assistant"
            )


def greens_on_host(
    rules: Bernoulli, key: int, contexts: np.ndarray, scores: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows and tokens of the green ones among CPU scores [r, v] above −inf."""
    states = prf.absorb(key, contexts)
    able = scores.float().numpy() > -np.inf
    if SPARSE * np.count_nonzero(able) < able.size:
        rows, tokens = np.nonzero(able)
        green = rules.green(prf.candidate_words(key, states[:, rows], tokens))
        rows, tokens = rows[green], tokens[green]
    else:
        green = np.stack(
            [_greens_of_all(rules, key, states[:, row : row + 1], able.shape[1]) for row in range(len(able))]
        )
        rows, tokens = np.nonzero(able & green)
    return torch.from_numpy(rows), torch.from_numpy(tokens)


def _greens_of_all(rules: Bernoulli, key: int, state: np.ndarray, vocabulary: int) -> np.ndarray:
    """Tell of every token [v] whether it is green after one context."""
    groups = np.arange(-(-vocabulary // 4), dtype=np.uint64)
    parts = [prf.group_words(key, state, groups[at : at + prf.CHUNK]) for at in range(0, len(groups), prf.CHUNK)]
    return rules.green(np.concatenate(parts, axis=1).T.reshape(-1)[:vocabulary].astype(np.uint32))


def greens_on_device(
    rules: Bernoulli, key: int, contexts: np.ndarray, scores: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows and tokens of the green ones among scores [r, v] above −inf, on their device."""
    race.check_device(scores.device)
    states = torch.from_numpy(prf.absorb(key, contexts).astype(np.int64)).to(scores.device)
    rows, tokens = torch.nonzero(scores > -torch.inf, as_tuple=True)
    green = philox.candidate_words(key, states[:, rows], tokens) < rules.threshold
    return rows[green], tokens[green]
