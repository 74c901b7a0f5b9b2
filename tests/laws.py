"""The laws of the project, each one helper with many cases.

A *machine* is anything with `feed(piece) -> piece` and `finish() -> piece`, over text or over bytes.
"""

import random
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from llm_label.labels.labeler import Labeler, Labels, label, strip

Data = TypeVar("Data", str, bytes)


class Machine(Protocol[Data]):
    def feed(self, piece: Data, /) -> Data: ...

    def finish(self) -> Data: ...


def run(machine: Machine[Data], pieces: list[Data]) -> Data:
    """Feed all pieces, finish, and join what came out."""
    out = [machine.feed(piece) for piece in pieces]
    rest = machine.finish()
    return rest[:0].join([*out, rest])


def cuts(data: Data, seed: int = 0, times: int = 3) -> Iterator[list[Data]]:
    """Cut `data` one unit at a time, and several times at random places, with empty pieces among them."""
    yield [data[at : at + 1] for at in range(len(data))]
    dice = random.Random(f"{seed}:{len(data)}")
    for _ in range(times):
        places = sorted(dice.randint(0, len(data)) for _ in range(dice.randint(1, 2 + len(data) // 4)))
        yield [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


def hold_cut_law(make: Callable[[], Machine[Data]], data: Data, seed: int = 0) -> Data:
    """For every way of cutting, the joined output is the output for the whole; return that."""
    whole = run(make(), [data])
    for pieces in cuts(data, seed):
        assert run(make(), pieces) == whole, f"cut {pieces!r}"
    return whole


def hold_strip_law(text: str, labels: Labels) -> str:
    """Labels come out without a trace, go in once, and are reported truly; return the labelled text."""
    labelled = label(text, labels)
    assert label(labelled, labels) == labelled or not text.strip(), "labelled twice"
    if strip(text, labels.known) == text:
        assert strip(labelled, labels.known) == text, "not restored"
    return labelled


def hold_label_laws(text: str, labels: Labels, seed: int = 0) -> str:
    """Cut law and strip law together."""
    labelled = hold_strip_law(text, labels)
    assert hold_cut_law(lambda: Labeler(labels), text, seed) == labelled
    return labelled
