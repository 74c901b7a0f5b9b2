"""Scores that may be drawn from and nothing else.

A logits processor is not told how its result will be used. Rather than guess from settings, the result itself
finds out: these scores turn into probabilities, the probabilities into draws, and both refuse every other use,
such as the argmax of greedy decoding, the top-k of beam and contrastive search or the copying of assisted
decoding. A decoding loop that nobody has thought of is refused too. Once drawn from, they behave like any
tensor, so `output_scores` returns something usable.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, SupportsIndex

import torch

from llm_label.errors import MarkError

__all__ = ["SampledScores"]

DRAW = {torch.multinomial, torch.Tensor.multinomial}
NORMALISE = {
    *(torch.nn.functional.softmax, torch.softmax, torch.Tensor.softmax),
    *(torch.nn.functional.log_softmax, torch.log_softmax, torch.Tensor.log_softmax),
}


class SampledScores(torch.Tensor):
    """Hold scores, or probabilities made from them, [b, v] until they are drawn from."""

    drawn = False
    source: "SampledScores | None" = None  # what these were normalised from

    @classmethod
    def wrap(cls, scores: torch.Tensor, source: "SampledScores | None" = None) -> "SampledScores":
        wrapped = scores.as_subclass(cls)
        wrapped.source = source
        return wrapped

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        waiting = [value for value in _tensors((args, kwargs or {})) if not value.drawn]
        if waiting and func not in DRAW and func not in NORMALISE and not _describes(func):
            raise MarkError(
                "the watermark marks plain sampling only and never alters greedy decoding, beams or assisted "
                "decoding; use do_sample=True with num_beams=1, or leave out watermarking_config"
            )
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        if func in NORMALISE and waiting:
            return cls.wrap(result, waiting[0])
        if func in DRAW:
            for value in waiting:
                value._be_drawn()
        return result

    def _be_drawn(self) -> None:
        """Become an ordinary tensor, together with what this was normalised from."""
        self.drawn = True
        if self.source is not None:
            self.source._be_drawn()
            self.source = None

    def __deepcopy__(self, memo: dict[int, Any]) -> torch.Tensor:
        return self.as_subclass(torch.Tensor).__deepcopy__(memo)  # type: ignore[no-untyped-call, no-any-return]

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        """Pickle as an ordinary tensor: whoever loads it need not have this package."""
        return self.as_subclass(torch.Tensor).__reduce_ex__(protocol)  # type: ignore[no-untyped-call]


def _tensors(value: Any) -> Iterator[SampledScores]:
    """Yield every SampledScores among (nested) arguments."""
    if isinstance(value, SampledScores):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _describes(func: Callable[..., Any]) -> bool:
    """Tell whether a function reads shape, type or place and no value."""
    name = getattr(func, "__name__", "")
    return name in {"__get__", "size", "dim", "ndimension", "numel", "stride", "is_floating_point", "__len__"}
