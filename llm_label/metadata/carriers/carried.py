"""What every carrier returns."""

from dataclasses import dataclass

from llm_label.metadata.aigc import Reading, Record

__all__ = ["ONE_RECORD", "Carried", "once"]

ONE_RECORD = "records that differ; GB 45438 6.1 c) allows one per file"


@dataclass(frozen=True)
class Carried:
    """The texts that a file carries, as the model wrote them, and the records that it carries beside them."""

    kind: str
    texts: tuple[str, ...]  # one per choice; what the carrier itself added is cut out
    readings: tuple[Reading, ...] = ()  # where the format places a record
    strays: tuple[Reading, ...] = ()  # elsewhere: a trace, but not the file's metadata
    problems: tuple[str, ...] = ()
    unread: bool = False  # a place that may hold a record could not be read, or what a model wrote is not in it

    @property
    def records(self) -> tuple[Record, ...]:
        return tuple(reading.record for reading in self.readings if reading.record is not None)


def once(readings: list[Reading]) -> tuple[Reading, ...]:
    """Drop exact repetitions: a stream carries its record in the first and the last frame."""
    return tuple(dict.fromkeys(readings))
