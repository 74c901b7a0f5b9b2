"""Annotations that cite characters of an answer: labels before the cited place move it. No I/O here.

Indices count characters (code points), as far as the recordings show; the APIs do not say.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from llm_label.labels.imprint import imprints
from llm_label.labels.labeler import Labeler

__all__ = ["indices", "label_spans", "moved"]

# Where an annotation says which characters it means: the fields that hold an index, by its type's habit.
RANGE = ("start_index", "end_index")
POINT = "index"  # of a `file_citation`: where in the text to insert it; of a `file_path` it counts files


def moved(annotation: Any, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[str, int]]:
    """Give the indices of an annotation that must change to mean the same characters as before."""
    for name, index, opens in indices(annotation):
        # A label at the very place stands before what begins there and behind what ends there.
        shift = sum(length for at, length in spans if at < index or (opens and at == index))
        if shift:
            yield name, index + shift


def label_spans(text: str, labeler: Labeler) -> Iterator[tuple[int, int]]:
    """Give place (in the text as it came) and length of each label that `labeler` put into `text`, but the last."""
    before = 0
    for imprint in imprints(text, labeler.written):
        if imprint.position != "end" and imprint.position in labeler.applied:
            length = imprint.end - imprint.start
            yield imprint.start - before, length
            before += length


def indices(annotation: Any) -> Iterator[tuple[str, int, bool]]:
    """Give the name and value of each index, and whether it opens a range. An empty range is a point."""
    if not isinstance(annotation, dict):
        return
    given = {name: annotation[name] for name in (*RANGE, POINT) if type(annotation.get(name)) is int}
    start, end = (given.get(name) for name in RANGE)
    if start is not None:
        yield RANGE[0], start, start != end
    if end is not None:
        yield RANGE[1], end, False
    if POINT in given and annotation.get("type") != "file_path":
        yield POINT, given[POINT], False
