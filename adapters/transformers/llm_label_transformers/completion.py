"""What every watermark processor shares: it serves one `generate()` call and marks the completion, not the prompt."""

import torch
from transformers import LogitsProcessor

from llm_label.errors import MarkError
from llm_label.watermark.keyring import Key

__all__ = ["CompletionProcessor", "Context"]

Context = tuple[int, ...]


class CompletionProcessor(LogitsProcessor):
    """Learn the prompt's length at the first call and return the context of each row from then on."""

    def __init__(self, key: Key, variety: str) -> None:
        self._key = key
        self._width = key.spec.context_width
        self._variety = variety
        self._prompt: int | None = None

    @property
    def supports_continuous_batching(self) -> bool:  # type: ignore[override]  # read before any batch is made
        """Refuse: in `generate_batch` rows come and go, and "no" would drop the watermark with a warning."""
        raise MarkError(
            "the watermark cannot follow continuous batching, whose rows come and go; use generate(), or leave "
            "out watermarking_config"
        )

    def _contexts(self, input_ids: torch.Tensor) -> list[Context]:
        """Return the context of each row of ids [b, length]; none where the ordinary sampler is to choose."""
        length = input_ids.shape[1]
        if self._prompt is None:
            self._prompt = length
        done = length - self._prompt
        if done < self._width and self._variety == "default":
            return []
        first = max(self._prompt, length - self._width)
        padding = (-1,) * (self._width - min(done, self._width))
        return [(*padding, *tail) for tail in input_ids[:, first:].tolist()]
