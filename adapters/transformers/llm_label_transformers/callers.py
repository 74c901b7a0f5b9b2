"""Who calls a logits processor: the list that it is in, and whether its answer is only a draft.

`generate()` merges what `logits_processor=` brings before it makes a processor of its configuration, and tells neither
of the other. Only the list that runs them knows both, and only its frame leads to it.
"""

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from transformers import LogitsProcessor, LogitsProcessorList
from transformers.generation.candidate_generator import CandidateGenerator

__all__ = ["are_drafts", "running_with"]

NEAR = 6  # frames between a processor and its list: decorators, and room for more of them


def running_with(processor: LogitsProcessor) -> list[LogitsProcessor]:
    """Return the list that is running this processor; it alone where it was called by itself."""
    for number, caller in enumerate(_callers()):
        if isinstance(caller, LogitsProcessorList):
            return list(caller) if any(one is processor for one in caller) else [processor]
        if number == NEAR:
            break
    return [processor]


def are_drafts() -> bool:
    """Tell whether an assistant is writing what its model will look through and correct."""
    return any(isinstance(caller, CandidateGenerator) for caller in _callers())


def _callers() -> Iterator[Any]:
    """Yield the `self` of every caller, the nearest first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame.f_locals.get("self")
        frame = frame.f_back
