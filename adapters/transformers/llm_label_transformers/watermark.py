"""Mark what `generate()` samples: `model.generate(..., do_sample=True, watermarking_config=config)`.

transformers appends the processor of a watermarking configuration after temperature, top-k and top-p, so only
tokens that survived are hashed. The configuration names a key by id and fingerprint; the secret stays in this
process's keys, which `watermarking_config` and `use_keyring` fill.
"""

from typing import Any

import numpy as np
import torch
from transformers import LogitsProcessor
from transformers.generation.configuration_utils import BaseWatermarkingConfig

from llm_label.errors import KeyringError, MarkError
from llm_label.watermark import choice, prf
from llm_label.watermark.keyring import VARIETIES, Key, Keyring
from llm_label.watermark.schemes import SCHEMES
from llm_label_transformers import race
from llm_label_transformers.sampled import SampledScores

__all__ = ["GumbelLogitsProcessor", "GumbelWatermarkingConfig", "use_keyring", "watermarking_config"]

_KEYS: dict[str, Key] = {}  # fingerprint -> key, for this process only


def use_keyring(ring: Keyring) -> None:
    """Make every key of a ring known to this process, so that reloaded configurations find theirs."""
    for key in ring.keys:
        _KEYS[key.fingerprint] = key


def watermarking_config(key: Key, variety: str | None = None) -> "GumbelWatermarkingConfig":
    """Return the configuration that marks with this key; variety defaults to that of the key's spec."""
    _KEYS[key.fingerprint] = key
    return GumbelWatermarkingConfig(
        llm_label_key=key.id,
        llm_label_fingerprint=key.fingerprint,
        llm_label_scheme=key.spec.scheme,
        llm_label_variety=key.spec.variety if variety is None else variety,
    )


class GumbelWatermarkingConfig(BaseWatermarkingConfig):
    """Name a key and how to mark with it; holds no secret.

    transformers turns any *dict* into its own KGW configuration, whatever the dict says. KGW's constructor knows
    no `llm_label_…` field, so a saved generation_config.json fails to load instead of marking with another
    scheme; rebuild with `GumbelWatermarkingConfig.from_dict(...)` and pass the object.
    """

    def __init__(
        self,
        llm_label_key: str,
        llm_label_fingerprint: str,
        llm_label_scheme: str = "gumbel",
        llm_label_variety: str = "default",
    ) -> None:
        self.llm_label_key = llm_label_key
        self.llm_label_fingerprint = llm_label_fingerprint
        self.llm_label_scheme = llm_label_scheme
        self.llm_label_variety = llm_label_variety
        self.validate()

    def validate(self) -> None:
        scheme, variety = self.llm_label_scheme, self.llm_label_variety
        if scheme not in SCHEMES:
            raise KeyringError(f"scheme {scheme!r} is not known; known: {', '.join(SCHEMES)}")
        if variety not in VARIETIES:
            raise KeyringError(f"variety {variety!r} is not known; use one of: {', '.join(VARIETIES)}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GumbelWatermarkingConfig) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # mutable through `update`, like its transformers siblings

    def construct_processor(self, vocab_size: int, device: Any = None) -> "GumbelLogitsProcessor":
        """Return a fresh processor, or raise KeyringError when the key is not known to this process."""
        key = _KEYS.get(self.llm_label_fingerprint)
        if key is None:
            raise KeyringError(
                f"watermark key {self.llm_label_key!r} (fingerprint {self.llm_label_fingerprint}) is not "
                "loaded in this process; call use_keyring(ring) with the ring that holds it"
            )
        return GumbelLogitsProcessor(key, self.llm_label_variety)


class GumbelLogitsProcessor(LogitsProcessor):
    """Leave each marked row one token, the keyed winner; one processor serves one `generate()` call."""

    def __init__(self, key: Key, variety: str) -> None:
        self._key = key
        self._width = key.spec.context_width
        self._variety = variety
        self._prompt: int | None = None
        self._length = 0
        self._seen: list[set[tuple[int, ...]]] = []

    @property
    def supports_continuous_batching(self) -> bool:  # type: ignore[override]  # read before any batch is made
        """Refuse: in `generate_batch` rows come and go, and "no" would drop the watermark with a warning."""
        raise MarkError(
            "the watermark cannot follow continuous batching, whose rows come and go; use generate(), or leave "
            "out watermarking_config"
        )

    @torch.no_grad()
    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return scores [b, v] with everything but the winner at −inf in marked rows; ids are [b, length]."""
        self._follow(input_ids)
        rows, contexts = self._fresh_contexts(input_ids)
        marked = self._mark(scores, rows, contexts) if rows else scores
        return SampledScores.wrap(marked)  # type: ignore[return-value]  # FloatTensor is an alias in name only

    def _follow(self, input_ids: torch.Tensor) -> None:
        """Learn the prompt's length at the first call; refuse decoding that does not go token by token."""
        count, length = input_ids.shape
        if self._prompt is None:
            self._prompt = length
            self._seen = [set() for _ in range(count)]
        elif length != self._length + 1 or count != len(self._seen):
            raise MarkError(
                "the watermark marks plain sampling only, one token after the other; this decoding goes back "
                "(assisted or speculative): leave out watermarking_config or the assistant"
            )
        self._length = length

    def _fresh_contexts(self, input_ids: torch.Tensor) -> tuple[list[int], list[tuple[int, ...]]]:
        """Return the rows whose context may carry a mark, and these contexts; each is used once a row."""
        assert self._prompt is not None
        done = self._length - self._prompt
        if done < self._width and self._variety == "default":
            return [], []
        first = max(self._prompt, self._length - self._width)
        padding = (-1,) * (self._width - min(done, self._width))
        rows, contexts = [], []
        for row, tail in enumerate(input_ids[:, first:].tolist()):
            context = (*padding, *tail)
            if context not in self._seen[row]:
                self._seen[row].add(context)
                rows.append(row)
                contexts.append(context)
        return rows, contexts

    def _mark(self, scores: torch.Tensor, rows: list[int], contexts: list[tuple[int, ...]]) -> torch.Tensor:
        chosen = scores if len(rows) == len(scores) else scores[rows]
        race_on = winners_on_host if scores.device.type == "cpu" else winners_on_device
        winner = race_on(self._key.scheme_key(), np.array(contexts, dtype=np.int64), chosen)
        only = torch.full_like(chosen, -torch.inf)
        score = chosen.gather(1, winner.clamp(min=0)[:, None])
        # What sampling would refuse (NaN, infinity, an empty row) stays refused.
        only.scatter_(1, winner.clamp(min=0)[:, None], score.masked_fill(winner[:, None] < 0, torch.nan))
        if len(rows) == len(scores):
            return only
        marked = scores.clone()
        marked[rows] = only
        return marked


def winners_on_host(key: int, contexts: np.ndarray, scores: torch.Tensor) -> torch.Tensor:
    """Return the winners [r] among CPU scores [r, v]: numpy takes a tenth of torch's time here."""
    return torch.from_numpy(choice.winners(key, contexts, scores.float().numpy()))


def winners_on_device(key: int, contexts: np.ndarray, scores: torch.Tensor) -> torch.Tensor:
    """Return the winners [r] among scores [r, v] without moving them off their device."""
    race.check_device(scores.device)
    states = torch.from_numpy(prf.absorb(key, contexts).astype(np.int64)).to(scores.device)
    return race.winners(key, states, scores)
