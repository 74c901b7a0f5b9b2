"""Text to units that need no model's tokenizer: its letters and digits, one id each.

Letters are compared as a reader would hear them: upper and lower case, full and half width, accented and bare count
as one; white space, punctuation, Markdown, combining marks and emoji count as nothing. What is left survives
reformatting, and is the same in every script: a Han character is one unit, an English word as many as it has letters.

An id is a code point, so no two letters share one. Every character is mapped by itself, wherever it stands.
"""

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["LETTERS", "Letters", "letters"]

LETTERS = "letters-v1"  # stands where the spec of other keys has the path of a tokenizer.json
Arrays: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


def letters(text: str) -> Arrays:
    """Return the units [n] of a text, and the characters [n, 2] that each stands for: text[start:end]."""
    if not text:
        return np.empty(0, dtype=np.int64), np.empty((0, 2), dtype=np.int64)
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    found, which = np.unique(codes, return_inverse=True)
    kinds = [_heard(int(code)) for code in found]
    sizes = np.array([len(kind) for kind in kinds], dtype=np.int64)
    table = np.array([unit for kind in kinds for unit in kind], dtype=np.int64)
    first = np.cumsum(sizes) - sizes  # where each kind's units begin in the table
    each = sizes[which]
    at = np.repeat(np.arange(len(codes)), each)  # the character of each unit
    nth = np.arange(len(at)) - np.repeat(np.cumsum(each) - each, each)  # which of its character's units it is
    return table[first[which[at]] + nth], np.column_stack([at, at + 1])


class Letters:
    """Encode and decode as a tokenizer would."""

    def encode_all(self, texts: Sequence[str]) -> list[Arrays]:
        """Return units [n] and character offsets [n, 2] of each text."""
        return [letters(text) for text in texts]

    def decode(self, ids: list[int]) -> str:
        """Return the letters alone."""
        return "".join(map(chr, ids))


@lru_cache(maxsize=1 << 16)
def _heard(code: int) -> tuple[int, ...]:
    """Return the units of one character. Those of letters younger than this Python's Unicode tables are none."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", chr(code)).casefold())
    return tuple(ord(c) for c in plain if unicodedata.category(c)[0] in "LN")
