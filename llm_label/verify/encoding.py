"""Token ids, and where in the text each token stands: found out late, for most texts are never asked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Encoding"]

Ids: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Encoding:
    """Token ids [n] of a text that was encoded part by part; `measure`: the characters [m, 2] of a part's tokens.

    A token stands for text[start:end]. Tokens that share one character, as the bytes of an emoji do, all have its
    whole range. A character that normalisation composes has the range of all its parts.
    """

    ids: Ids
    firsts: Ids = field(repr=False)  # the first token of each part, ascending
    measure: Callable[[int], Ids] = field(repr=False)

    @classmethod
    def measured(cls, ids: Ids, offsets: Ids) -> "Encoding":
        """Return one whose characters [n, 2] are known."""
        return cls(ids, np.zeros(1, dtype=np.int64), lambda _: offsets)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def offsets(self) -> Ids:
        """Return the characters [n, 2] of all tokens."""
        return np.concatenate([self.measure(part) for part in range(len(self.firsts))])

    def characters(self, tokens: Ids) -> Ids:
        """Return the characters [n, 2] of some tokens [n]; only their parts are measured."""
        part = np.searchsorted(self.firsts, tokens, side="right") - 1
        found = np.empty((len(tokens), 2), dtype=np.int64)
        for number in np.unique(part).tolist():
            chosen = part == number
            found[chosen] = self.measure(number)[tokens[chosen] - self.firsts[number]]
        return found
