"""Encode a long text in chunks whose ids, side by side, are exactly those of the whole text.

Where a text may be cut. All pre-tokenizers in use (GPT-2's pattern and its successors in cl100k, o200k, Qwen,
Llama 3, DeepSeek; white space; Metaspace) end a word right before a space, and most a run of letters or digits right
before a line feed or CJK punctuation, whatever stands before it: the pattern starts afresh there. That is a claim
about patterns, so every single cut is also tried: a window around it must give the same ids whole and in two
halves. Where the pre-tokenizer does not split (SentencePiece models), merges could in principle reach any distance;
there the two characters beside the cut must stand side by side in no piece of the vocabulary: no merge crosses.

Readings of one text have much in common. One that lost whole parts is cut alike where it does, at either end of a long
stretch that it has from another, so that what lies between is encoded once; the rest fall into step at line ends.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, chain, islice
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from llm_label.verify.encoding import Encoding

__all__ = ["SHARED", "Chunked", "Common"]

Ids: TypeAlias = npt.NDArray[np.int64]
Tried: TypeAlias = dict[tuple[str, str], bool]

CHUNK = 2048  # characters after which a cut is sought; small, so that readings share most chunks
WINDOW = 16  # characters on either side of a cut that is tried
TRIES = 64  # places tried before the rest is taken as one chunk
SHARED = 512  # characters of a stretch that is worth two cuts
SHRUNK = 0.9  # of a text: what has lost more of it would else be cut elsewhere
MARGIN = 256  # characters from either end of a stretch in which it is cut

_PLACE = re.compile(r"(?<=[^\s])(?= )|(?<=[^\W_])(?=[\n，。、；：！？」』）])")


class Common(NamedTuple):
    """A stretch that one of several texts has from another: their numbers, where it starts in each, its length."""

    one: int
    other: int
    here: int
    there: int
    length: int


class Chunked:
    """One tokenizer, and its twin that begins in the middle of a text."""

    def __init__(self, tokenizer_json: str) -> None:
        data = orjson.loads(tokenizer_json)
        self._first = _tokenizer(tokenizer_json)
        inner = _without_prepend(data)
        self._inner = self._first if inner is data else _tokenizer(orjson.dumps(inner).decode())

    def encode_all(self, texts: Sequence[str], common: Sequence[Common] = ()) -> list[Encoding]:
        """Encode each text; equal chunks are encoded once."""
        known: dict[tuple[bool, str], Ids] = {}
        tried: Tried = {}
        seams = self._seams(texts, common, tried)
        return [self._encode(text, known, tried, of_text) for text, of_text in zip(texts, seams, strict=True)]

    def decode(self, ids: list[int]) -> str:
        return str(self._first.decode(ids, skip_special_tokens=False))

    def chunks(self, text: str, tried: Tried | None = None, seams: Sequence[int] = ()) -> Iterator[tuple[int, int]]:
        """Yield the ranges that may be encoded one by one, cut at the seams and where they are long.

        `tried` keeps what was found out about places.
        """
        tried, start = {} if tried is None else tried, 0
        for stop in (*seams, len(text)):
            while stop - start > 2 * CHUNK:
                end = self._cut(text, start + CHUNK, stop, tried)
                if end is None:
                    break
                yield start, end
                start = end
            yield start, stop
            start = stop

    def _encode(self, text: str, known: dict[tuple[bool, str], Ids], tried: Tried, seams: Sequence[int]) -> Encoding:
        ranges, ids = list(self.chunks(text, tried, seams)), []
        for start, end in ranges:
            part = (start == 0, text[start:end])
            if part not in known:
                known[part] = np.array(self._of(*part).ids, dtype=np.int64)
            ids.append(known[part])

        def measure(number: int) -> Ids:
            start, end = ranges[number]
            return _offsets(self._of(start == 0, text[start:end])) + start

        firsts = np.array([0, *accumulate(map(len, ids[:-1]))], dtype=np.int64)
        return Encoding(np.concatenate(ids), firsts, measure)

    def _of(self, is_first: bool, text: str) -> Any:
        return (self._first if is_first else self._inner).encode(text, add_special_tokens=False)

    def _seams(self, texts: Sequence[str], common: Sequence[Common], tried: Tried) -> list[list[int]]:
        """Return for each text the places, ascending, at which long stretches are cut in both texts that have them.

        A text must come before those that have stretches from it.
        """
        seams: list[list[int]] = [[] for _ in texts]
        for one, other, _, there, length in common:
            if len(texts[one]) > SHRUNK * len(texts[other]):
                continue  # little was moved: after some line ends they are cut alike again
            end = there + length - WINDOW  # what is tried of a place lies within the stretch
            for start in (there + WINDOW, end + WINDOW - MARGIN):
                place = self._place(texts[other], start, min(start + MARGIN, end), tried)
                seams[other] += [place] if place else []
        for one, of_text in enumerate(seams):
            of_text[:] = sorted({*of_text, *_taken_over(one, texts, common, seams)})
        return seams

    def _cut(self, text: str, start: int, stop: int, tried: Tried) -> int | None:
        """Return a place from `start` on and before `stop` at which the text may be cut, if there is one.

        After the next line end, if one is near: readings that differ by some characters are cut alike there.
        """
        line_end = text.find("\n", start, start + CHUNK)
        return self._place(text, max(start, line_end), stop, tried)

    def _place(self, text: str, start: int, stop: int, tried: Tried) -> int | None:
        """Return the first of the next places before `stop` that holds."""
        for place in islice(_PLACE.finditer(text, start), TRIES):
            at = place.start()
            if at >= stop:
                break
            sides = _sides(text, at)
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


def _taken_over(one: int, texts: Sequence[str], common: Sequence[Common], seams: list[list[int]]) -> Iterator[int]:
    """Yield the seams of other texts in the stretches that a text has from them."""
    for _, other, here, there, length in (stretch for stretch in common if stretch.one == one):
        of_other = seams[other]
        for place in of_other[bisect_left(of_other, there + WINDOW) : bisect_right(of_other, there + length - WINDOW)]:
            moved = here + place - there
            # a place is as good as what stands around it, and nothing else decides that here
            if _sides(texts[one], moved) == _sides(texts[other], place):
                yield moved


def _sides(text: str, at: int) -> tuple[str, str]:
    return text[max(0, at - WINDOW) : at], text[at : at + WINDOW]


def _offsets(encoding: Any) -> Ids:
    flat = np.fromiter(chain.from_iterable(encoding.offsets), dtype=np.int64, count=2 * len(encoding))
    return flat.reshape(-1, 2)


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
