"""One text of a response: what came, what goes out, and which places labels have moved. No I/O here."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from llm_label.labels.history import clean_text
from llm_label.labels.imprint import Imprint, cut_out, imprints
from llm_label.labels.labeler import Labeler
from llm_label.proxy.surfaces.citations import indices, label_spans, moved

__all__ = ["Text", "reach", "restored"]


class Text:
    """The label state of one `output_text` part. `feed` its pieces, then `close`; whole texts do both at once."""

    def __init__(self, labeler: Labeler | None) -> None:
        self.closed = False
        self._labeler = labeler
        self._came: list[str] = []
        self._goes: list[str] = []
        self._known_spans: tuple[int, list[tuple[int, int]]] | None = None  # and for how many pieces they were found

    @property
    def came(self) -> str:
        return "".join(self._came)

    @property
    def goes(self) -> str:
        return "".join(self._goes)

    @property
    def shown(self) -> bool:
        """Whether there is more than white space."""
        return any(piece and not piece.isspace() for piece in self._came)

    @property
    def applied(self) -> tuple[str, ...]:
        return self._labeler.applied if self._labeler else ()

    @property
    def present(self) -> bool:
        return self._labeler is not None and self._labeler.present

    @property
    def settled(self) -> bool:
        """Whether nothing of ours can follow any more: a start label alone is over once it stands."""
        return self.closed or self._labeler is None or not self._labeler.due

    def feed(self, piece: str) -> str:
        """Return what goes out now; not after `close`."""
        out = self._labeler.feed(piece) if self._labeler else piece
        self._came.append(piece)
        self._goes.append(out)
        return out

    def close(self) -> str:
        """Return what still has to follow the text, once."""
        rest = self._labeler.finish() if self._labeler and not self.closed else ""
        self.closed = True
        self._goes.append(rest)
        return rest

    def moved(self, annotation: Any) -> Iterator[tuple[str, int]]:
        """Give the indices of an annotation that must change to mean the same characters as before."""
        if not self.applied:
            return
        yield from moved(annotation, self._spans())

    def reaches(self, index: int) -> bool:
        """Say whether no label can come before `index` any more."""
        return self.settled or len(self.goes) - sum(length for _, length in self._spans()) >= index

    def _spans(self) -> list[tuple[int, int]]:
        """List place (in the text as it came) and length of each label with text behind it."""
        if self._labeler is None or not self.applied:
            return []
        if self._known_spans is None or self._known_spans[0] != len(self._goes):
            self._known_spans = len(self._goes), list(label_spans(self.goes, self._labeler))
        return self._known_spans[1]


def reach(annotation: Any) -> int:
    """Return the last index that an annotation names."""
    return max((index for _, index, _ in indices(annotation)), default=0)


def restored(part: Mapping[str, Any], text: str, known: Collection[str]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Give the indices of a replayed part's annotations as they were before `text` was labelled, by their path."""
    annotations = part.get("annotations")
    if not isinstance(annotations, list) or not annotations:
        return
    found = [imprint for imprint in imprints(text, known) if imprint.position != "end"]
    if not cut_out(text, found).startswith(clean_text(text, known)):  # rewritten on its way: no place is sure
        return
    for at, annotation in enumerate(annotations):
        for name, index, _ in indices(annotation):
            if gone := _before(found, index):
                yield ("annotations", at, name), index - gone


def _before(found: Iterable[Imprint], index: int) -> int:
    return sum(min(max(index - imprint.start, 0), imprint.end - imprint.start) for imprint in found)
