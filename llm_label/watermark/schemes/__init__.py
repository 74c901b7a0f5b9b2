"""Watermark schemes by name; each file holds one, with its own small parameters."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from llm_label.watermark.schemes.gumbel import Gumbel

__all__ = ["SCHEMES", "Scheme"]


class Scheme(Protocol):
    """Turn words into scores and a sum of scores into an exact tail."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def prf(self) -> str: ...
    @property
    def context_width(self) -> int: ...

    def scores(self, word: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]: ...
    def winner(self, logits: npt.NDArray[np.floating], word: npt.NDArray[np.uint32]) -> int: ...
    def log10_tail(self, n: int, score: float) -> float: ...


SCHEMES: Mapping[str, Scheme] = MappingProxyType({"gumbel": Gumbel()})
