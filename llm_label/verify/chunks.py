"""Encode a long text in chunks whose ids, side by side, are exactly those of the whole text.

Where a text may be cut. All pre-tokenizers in use (GPT-2's pattern and its successors in cl100k, o200k, Qwen,
Llama 3, DeepSeek; white space; Metaspace) end a word right before a space, and most a run of letters or digits right
before a line feed or CJK punctuation, whatever stands before it: the pattern starts afresh there. That is a claim
about patterns, so every single cut is also tried: a window around it must give the same ids whole and in two
halves. Where the pre-tokenizer does not split (SentencePiece models), merges could in principle reach any distance;
there the two characters beside the cut must stand side by side in no piece of the vocabulary: no merge crosses.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

__all__ = ["Chunked"]

Arrays: TypeAlias = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

CHUNK = 2048  # characters after which a cut is sought; small, so that readings share most chunks
WINDOW = 16  # characters on either side of a cut that is tried
TRIES = 64  # places tried before the rest is taken as one chunk

_PLACE = re.compile(r"(?<=[^\s])(?= )|(?<=[^\W_])(?=[\n，。、；：！？」』）])")


class Chunked:
    """One tokenizer, and its twin that begins in the middle of a text."""

    def __init__(self, tokenizer_json: str) -> None:
        data = orjson.loads(tokenizer_json)
        self._first = _tokenizer(tokenizer_json)
        inner = _without_prepend(data)
        self._inner = self._first if inner is data else _tokenizer(orjson.dumps(inner).decode())

    def encode_all(self, texts: Sequence[str]) -> list[Arrays]:
        """Return ids [n] and character offsets [n, 2] of each text; equal chunks are encoded once."""
        known: dict[tuple[bool, str], Arrays] = {}
        tried: dict[tuple[str, str], bool] = {}
        return [self._encode(text, known, tried) for text in texts]

    def decode(self, ids: list[int]) -> str:
        return str(self._first.decode(ids, skip_special_tokens=False))

    def chunks(self, text: str, tried: dict[tuple[str, str], bool] | None = None) -> Iterator[tuple[int, int]]:
        """Yield the ranges that may be encoded one by one; `tried` keeps what was found out about places."""
        tried, start = {} if tried is None else tried, 0
        while len(text) - start > 2 * CHUNK:
            end = self._cut(text, start + CHUNK, tried)
            if end is None:
                break
            yield start, end
            start = end
        yield start, len(text)

    def _encode(self, text: str, known: dict[tuple[bool, str], Arrays], tried: dict[tuple[str, str], bool]) -> Arrays:
        ids: list[npt.NDArray[np.int64]] = []
        offsets: list[npt.NDArray[np.int64]] = []
        for start, end in self.chunks(text, tried):
            part = (start == 0, text[start:end])
            if part not in known:
                known[part] = _arrays(self._first if start == 0 else self._inner, part[1])
            ids.append(known[part][0])
            offsets.append(known[part][1] + start)
        return np.concatenate(ids), np.concatenate(offsets)

    def _cut(self, text: str, start: int, tried: dict[tuple[str, str], bool]) -> int | None:
        """Return a place from `start` on at which the text may be cut, if there is one.

        After the next line end, if one is near: readings that differ by some characters are cut alike there.
        """
        line_end = text.find("\n", start, start + CHUNK)
        for place in islice(_PLACE.finditer(text, max(start, line_end)), TRIES):
            at = place.start()
            sides = text[max(0, at - WINDOW) : at], text[at : at + WINDOW]
            if sides not in tried:
                tried[sides] = self._holds(*sides)
            if tried[sides]:
                return at
        return None

    def _holds(self, left: str, right: str) -> bool:
        """Tell whether two windows side by side have the same ids as apart, and no merge can join them from afar."""
        whole, first, second = (self._inner.encode(t, add_special_tokens=False) for t in (left + right, left, right))
        at = len(first)
        if not 0 < at < len(whole) or whole.ids != first.ids + second.ids:
            return False
        words = whole.word_ids  # of the pre-tokenizer, which no merge leaves
        return words[at - 1] != words[at] or self._normal(left[-1] + right[0]) not in self._pairs

    @cached_property
    def _pairs(self) -> frozenset[str]:
        """Every two characters that stand side by side in a piece."""
        vocabulary = self._first.get_vocab(with_added_tokens=False)
        return frozenset(piece[n : n + 2] for piece in vocabulary for n in range(len(piece) - 1))

    def _normal(self, text: str) -> str:
        normalizer = self._inner.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))


def _arrays(tokenizer: Any, text: str) -> Arrays:
    encoding = tokenizer.encode(text, add_special_tokens=False)
    offsets = np.fromiter(chain.from_iterable(encoding.offsets), dtype=np.int64, count=2 * len(encoding))
    return np.array(encoding.ids, dtype=np.int64), offsets.reshape(-1, 2)


def _tokenizer(tokenizer_json: str) -> Any:
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    tokenizer.post_processor = None  # some take blanks out of offsets
    return tokenizer


def _without_prepend(data: dict[str, Any]) -> dict[str, Any]:
    """Return a tokenizer's JSON that puts nothing before the first character; the same object if it never does.

    A tokenizer that also puts it after each added token is left alone: no cut will hold, and texts stay whole.
    """
    normalizer = data.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer])
    kept = [step for step in steps if step.get("type") != "Prepend"]
    if len(kept) == len(steps) or not all(token.get("special") for token in data.get("added_tokens", ())):
        return data
    return data | {"normalizer": {"type": "Sequence", "normalizers": kept}}
