"""What a technique can report: one frozen class per kind of evidence, each with its JSON form."""

from dataclasses import dataclass
from typing import Any, TypeAlias

from llm_label.metadata.aigc import Record

__all__ = ["Finding", "InvisibleMark", "RecordMark", "Segment", "VisibleLabel", "WatermarkTest"]


@dataclass(frozen=True)
class RecordMark:
    """An AIGC record, or a place for one that holds something else."""

    carrier: str  # markdown, json, sse
    record: Record | None
    placed: bool  # where the format puts a record; anything else is only a trace
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        record = None if self.record is None else self.record.to_dict()
        place = "metadata" if self.placed else "text"
        return {
            "kind": "record",
            "carrier": self.carrier,
            "place": place,
            "record": record,
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class VisibleLabel:
    """A visible text label."""

    position: str
    text: str
    own: bool  # a wording that this installation issues
    choice: int | None = None  # which choice of an answer with several

    def to_dict(self) -> dict[str, Any]:
        found = {"kind": "label", "position": self.position, "text": self.text, "own": self.own}
        return _with_choice(found, self.choice)


@dataclass(frozen=True)
class Segment:
    """A stretch of the original text that is marked: characters from start to end, the last one excluded."""

    start: int
    end: int
    log10_p: float  # family-wise, of the loudest window in it
    scored: int  # of the stretch, also where its end is given to a louder one of another payload
    excerpt: str  # how it begins and ends
    choice: int | None = None
    payload: int | None = None  # of a key that has payload_bits
    payload_name: str | None = None  # by the keyring

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "start": self.start,
            "end": self.end,
            "log10_p": self.log10_p,
            "scored": self.scored,
            "excerpt": self.excerpt,
        }
        if self.payload is not None:
            found |= {"payload": self.payload, "payload_name": self.payload_name}
        return _with_choice(found, self.choice)


@dataclass(frozen=True)
class WatermarkTest:
    """What one key says, corrected for every key, choice, variant and window that was tried."""

    key: str
    fingerprint: str
    scheme: str
    log10_p: float  # family-wise
    scored: int
    skipped: int
    # Readings under all keys, times the payloads of this one. Each is a whole text and its windows, which share its
    # level: they are not counted here, and paid for all the same.
    tests: int
    decision: str  # marked, not_shown, insufficient
    variant: str  # the reading of the text that spoke loudest
    choice: int | None = None
    windows: int = 0  # of that reading
    segments: tuple[Segment, ...] = ()  # the marked parts, in the order of the text
    more_tokens: int | None = None  # when insufficient: about how many more a marked text would need
    payload: int | None = None  # when marked under a key that has payload_bits
    payload_name: str | None = None  # by the keyring
    # Tokens, of all readings, whose payloads were not searched, for that would take too long: what is not marked is
    # insufficient then.
    unsearched: int = 0

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "kind": "watermark",
            "key": self.key,
            "fingerprint": self.fingerprint,
            "scheme": self.scheme,
            "log10_p": self.log10_p,
            "scored": self.scored,
            "skipped": self.skipped,
            "tests": self.tests,
            "windows": self.windows,
            "decision": self.decision,
            "variant": self.variant,
            "segments": [segment.to_dict() for segment in self.segments],
        }
        if self.payload is not None:
            found |= {"payload": self.payload, "payload_name": self.payload_name}
        if self.more_tokens is not None:
            found["more_tokens"] = self.more_tokens
        if self.unsearched:
            found["unsearched"] = self.unsearched
        return _with_choice(found, self.choice)


@dataclass(frozen=True)
class InvisibleMark:
    """Another maker's sequence of invisible characters."""

    maker: str
    mark: str  # U+200B U+034F …
    count: int
    at: int  # character offset of the first
    choice: int | None = None

    def to_dict(self) -> dict[str, Any]:
        found = {
            "kind": "invisible",
            "maker": self.maker,
            "mark": self.mark,
            "count": self.count,
            "at": self.at,
        }
        return _with_choice(found, self.choice)


Finding: TypeAlias = RecordMark | VisibleLabel | WatermarkTest | InvisibleMark


def _with_choice(found: dict[str, Any], choice: int | None) -> dict[str, Any]:
    return found if choice is None else {**found, "choice": choice}
