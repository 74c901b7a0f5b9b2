"""Which tokens carry the mark: every character of a text with the level of its token's score under one key.

Level k: without a mark, a token scores so high with a chance of at most one in 2^k. Half of all tokens and more are
expected at level 0, whatever the scheme. One token proves nothing, and a text without a mark has its bright spots;
what proves are the tests over many tokens, which the segments come from.
"""

import math
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llm_label.verify.findings import Segment, WatermarkTest
from llm_label.verify.reading import Reading
from llm_label.verify.source import Written
from llm_label.verify.watermarks import Encoded
from llm_label.watermark.keyring import Key
from llm_label.watermark.power import critical_score
from llm_label.watermark.schemes import Scheme
from llm_label.watermark.segments import Search, search

__all__ = ["ADDED", "LEVELS", "UNSCORED", "HeatMap", "Piece", "heatmaps", "token_levels", "visible"]

LEVELS = 6  # the highest
UNSCORED = -1  # a repeat, the first tokens, or what no token stands for
ADDED = -2  # a label, a record: not the model's
_HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Piece(NamedTuple):
    """Characters from start to end that look the same: one token, or neighbours without a colour."""

    start: int
    end: int
    level: int


@dataclass(frozen=True)
class HeatMap:
    """Hold one text under one key."""

    text: str
    test: WatermarkTest
    choice: int | None
    pieces: tuple[Piece, ...]  # the whole text, in order
    counts: tuple[int, ...]  # scored tokens of each level
    segments: tuple[Segment, ...]
    payload: int | None = None  # the one whose scores are drawn, of a key that has payload_bits
    payload_name: str | None = None

    @property
    def title(self) -> str:
        test, choice = self.test, "" if self.choice is None else f", choice {self.choice}"
        payload = ""
        if self.payload is not None:  # without a mark no payload was read, and some one is drawn
            payload = f", {'' if test.decision == 'marked' else 'drawn as '}payload {self.payload}"
            payload += f" ({self.payload_name})" if self.payload_name else ""
        said = test.decision.replace("_", " ")
        return f"key {test.key} ({test.scheme}){choice}: {said}{payload}, {sum(self.counts)} tokens scored"

    @property
    def marked(self) -> tuple[dict[int, Segment], set[int]]:
        """Return the segments by where they start, and where they end."""
        shown = [segment for segment in self.segments if segment.end > segment.start]
        return {segment.start: segment for segment in shown}, {segment.end for segment in shown}

    def shown(self, piece: Piece) -> str:
        """Return a piece's characters, those that no reader should be handed as U+FFFD."""
        text = self.text[piece.start : piece.end]
        if text.endswith("\r") and self.text[piece.end : piece.end + 1] == "\n":
            text = text[:-1]
        return visible(text)


def heatmaps(
    texts: Sequence[Written],
    tests: Sequence[tuple[Key, WatermarkTest, Sequence[Encoded]]],
    only: Collection[str] = (),
) -> tuple[HeatMap, ...]:
    """Draw the texts under the keys of the ids in `only`; if none is named, under those that found a mark.

    Where none did, under the loudest one. Each text is drawn as the reading that spoke loudest shows it; where a mark
    was found, only texts that hold it.
    """
    if not tests:
        return ()
    shown = [each for each in tests if (each[0].id in only if only else each[1].decision == "marked")]
    found: list[HeatMap] = []
    for key, test, readings in shown or [min(tests, key=lambda each: each[1].log10_p)]:
        drawn = {(s.choice or 0, s.payload or 0) for s in test.segments} or {(test.choice or 0, test.payload or 0)}
        for choice, payload in sorted(drawn):
            copy = key.carrying(payload) if key.spec.payload_bits else key
            tries = [(search(one.encoding.ids, copy), one) for one in readings if one.choice == choice]
            if tries:
                loudest = min(tries, key=lambda each: each[0].log10_p)
                found.append(_drawn(texts[choice], test, choice if len(texts) > 1 else None, copy, *loudest))
    return tuple(found)


def visible(text: str) -> str:
    """Show what commands a terminal, turns the order of letters or is half a character as U+FFFD."""
    return _HIDDEN.sub("\ufffd", text.replace("\r\n", "\n"))


def token_levels(rules: Scheme, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the level [n] of token scores [n]."""
    # a hair above, since a chance that is a power of two need not be one in log10
    chances = [-level * math.log10(2.0) + 1e-9 for level in range(1, LEVELS + 1)]
    limits = [critical_score(rules, 1, chance, within=1e-6) for chance in chances]
    return np.searchsorted(np.array(limits), scores, side="left").astype(np.int64)


def _drawn(written: Written, test: WatermarkTest, choice: int | None, key: Key, found: Search, one: Encoded) -> HeatMap:
    levels = token_levels(found.trace.rules, found.trace.scores)
    of_token = np.full(len(one.encoding), UNSCORED, dtype=np.int64)
    of_token[found.trace.positions] = levels
    segments = tuple(
        segment for segment in test.segments if segment.choice == choice and (segment.payload or 0) == key.payload
    )
    painted, owner = _painted(written, one, of_token)
    edges = sorted({place for segment in segments for place in (segment.start, segment.end)})
    pieces = tuple(_pieces(painted, owner, edges))
    counts = tuple(np.bincount(levels, minlength=LEVELS + 1).tolist())
    payload = (key.payload, key.name_of(key.payload)) if key.spec.payload_bits else (None, None)
    return HeatMap(written.original, test, choice, pieces, counts, segments, *payload)


def _painted(
    written: Written, one: Encoded, of_token: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return for each character the level of its token, the highest of several, and its last token."""
    size = len(written.original)
    painted, owner = np.full(size, ADDED, dtype=np.int64), np.full(size, -1, dtype=np.int64)
    painted[_kept(written.reading)] = UNSCORED
    characters, which = _characters(one.reading.origin(one.encoding.offsets))
    read = np.zeros(size, dtype=bool)
    read[_kept(one.reading)] = True
    inside = read[characters]  # a token may span what was cut out
    characters, which = characters[inside], which[inside]
    np.maximum.at(painted, characters, of_token[which])
    np.maximum.at(owner, characters, which)
    return painted, owner


def _kept(reading: Reading) -> npt.NDArray[np.int64]:
    """Return the characters of the original that a reading keeps, or puts something in place of."""
    each = np.arange(len(reading.text), dtype=np.int64)
    return _characters(reading.origin(np.column_stack([each, each + 1])))[0]


def _characters(ranges: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp]]:
    """Return every character of ranges [n, 2], and the range that each belongs to."""
    sizes = np.maximum(ranges[:, 1] - ranges[:, 0], 0)
    which = np.repeat(np.arange(len(ranges)), sizes)
    begin = np.cumsum(sizes) - sizes
    return ranges[which, 0] + np.arange(len(which)) - begin[which], which


def _pieces(painted: npt.NDArray[np.int64], owner: npt.NDArray[np.int64], edges: Sequence[int]) -> Iterator[Piece]:
    """Yield the runs of one look, cut at the edges of segments as well."""
    if not len(painted):
        return
    turns = (np.diff(painted) != 0) | ((painted[1:] > 0) & (np.diff(owner) != 0))
    starts = np.union1d(np.flatnonzero(turns) + 1, [0, *(edge for edge in edges if edge < len(painted))])
    ends = np.append(starts[1:], len(painted))
    for start, end, level in zip(starts.tolist(), ends.tolist(), painted[starts].tolist(), strict=True):
        yield Piece(start, end, level)
