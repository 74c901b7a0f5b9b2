"""The AIGC record of GB 45438-2025 Annex E: seven strings, written strictly, read leniently.

Clause letters are those of Annex E. The writer refuses what clause j) does not list; the reader takes what it
finds and lists each deviation, because a defective record still says what it says.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from llm_label.errors import SettingsError

__all__ = ["FIELDS", "KEY", "Reading", "Record", "fits_charset", "loads", "read"]

KEY = "AIGC"
FIELDS = (
    "Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2",
)  # fmt: skip
LABELS = ("1", "2", "3")  # is, may be, suspected (clause c)
MAY_BE_EMPTY = ("ReservedCode1", "ReservedCode2")
SHOWN = 8  # unknown fields named in full
LIMIT = 64 * 1024  # characters of a record given as JSON text; a sealed one has about 2,000

# Clause j): 0x21, 0x23-0x5B, 0x5D-0x7E and the quote, which JSON writes escaped. No space, no backslash.
_CHARSET = re.compile(r"[\x21-\x5B\x5D-\x7E]*")


class Record(NamedTuple):
    """Hold the seven fields, as they are: `problems` says what is wrong with them, and the writer refuses it."""

    label: str
    content_producer: str
    produce_id: str
    reserved_code1: str
    content_propagator: str
    propagate_id: str
    reserved_code2: str

    @classmethod
    def produced(cls, producer: str, content_id: str) -> "Record":
        """Write the record of fresh content; its first propagator is the producer (note 1). Raises SettingsError."""
        for name, value in (("ContentProducer", producer), ("ProduceID", content_id)):
            if problem := _problem(name, value):
                raise SettingsError(problem)
        return cls("1", producer, content_id, "", producer, content_id, "")

    def to_dict(self) -> dict[str, str]:
        """Return the seven fields under the standard's names, in its order."""
        return dict(zip(FIELDS, self, strict=True))

    def to_json(self) -> str:
        """Return compact JSON of the seven fields. Raises SettingsError for a defective record."""
        if problems := self.problems():
            raise SettingsError(problems[0])
        return orjson.dumps(self.to_dict()).decode()

    def problems(self) -> list[str]:
        """Name what clauses c) and j) say against its values."""
        return [problem for name, value in zip(FIELDS, self, strict=True) if (problem := _problem(name, value))]


@dataclass(frozen=True)
class Reading:
    """What a reader made of one object: the record, if any field of one was there, and every deviation."""

    record: Record | None
    problems: tuple[str, ...] = ()


class Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a key given twice is seen."""


def fits_charset(value: str) -> bool:
    """Tell whether every character is one of clause j)."""
    return _CHARSET.fullmatch(value) is not None


def loads(text: str) -> Any:
    """Parse JSON, objects as `Pairs`. Raises ValueError, also for JSON that nests too deep."""
    try:
        return json.loads(text, object_pairs_hook=Pairs)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def read(obj: object) -> Reading:
    """Read a record: seven bare fields or `{"AIGC": {...}}`, as a mapping, as pairs or as JSON text."""
    pairs = _pairs(obj)
    if isinstance(pairs, str):
        return Reading(None, (pairs,))
    wrapped = [value for key, value in pairs if key == KEY]
    if not wrapped:
        return _read_fields(pairs)
    # Other keys beside AIGC belong to what carries the record. A wrapper in the wrapper is an unknown field.
    again = (f"{KEY} is given {len(wrapped)} times; one record per file (6.1 c)",) if len(wrapped) > 1 else ()
    inner = _pairs(wrapped[0])
    if isinstance(inner, str):
        return Reading(None, (inner, *again))
    reading = _read_fields(inner)
    return Reading(reading.record, reading.problems + again)


def _pairs(obj: object) -> list[tuple[str, Any]] | str:
    """Return the pairs of an object, or what is wrong with it."""
    if isinstance(obj, str):
        if len(obj) > LIMIT:
            return f"the record has {len(obj)} characters, more than {LIMIT}; not read"
        try:
            obj = loads(obj)
        except ValueError as error:
            return f"the record is not JSON: {error}"
    if isinstance(obj, Pairs):
        return obj
    if isinstance(obj, Mapping):
        return [(str(key), value) for key, value in obj.items()]
    return f"{KEY} is {_kind(obj)}, not an object with the seven fields"


def _read_fields(pairs: list[tuple[str, Any]]) -> Reading:
    problems: list[str] = []
    values: dict[str, str] = {}
    unknown = [key for key, _ in pairs if key not in FIELDS]
    problems += [f"unknown field {key[:40]!r}" for key in unknown[:SHOWN]]
    if len(unknown) > SHOWN:
        problems.append(f"{len(unknown) - SHOWN} more unknown fields")
    for key, value in pairs:
        if key in values:
            problems.append(f"{key} is given more than once")
        elif key in FIELDS:
            values[key] = _text(key, value, problems)
    if not values:
        return Reading(None, ("none of the seven fields is there", *problems))
    for name in FIELDS:
        if name not in values:
            problems.append(f"{name} is missing")
        elif problem := _problem(name, values[name]):
            problems.append(problem)
    # Not validated: a record that breaks a rule is still shown as it was found.
    return Reading(Record(*(values.get(name, "") for name in FIELDS)), tuple(dict.fromkeys(problems)))


def _text(name: str, value: object, problems: list[str]) -> str:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be shown
    problems.append(f"{name} is {_kind(value)}, not a string")
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""


@lru_cache(maxsize=256)  # a server writes the same producer into every record
def _problem(name: str, value: str) -> str | None:
    """Name what clause c) or j) says against a value."""
    if name == "Label" and value not in LABELS:
        return f"Label is {value[:40]!r}; allowed: '1' (is), '2' (may be), '3' (suspected)"
    if not value and name not in MAY_BE_EMPTY:
        return f"{name} is empty"
    if not fits_charset(value):
        at = next(c for c in value if not fits_charset(c))
        return f"{name} has the character U+{ord(at):04X}; Annex E allows ASCII without spaces and backslashes"
    return None


def _kind(value: object) -> str:
    """Name the JSON type of a value."""
    if value is None:
        return "null"
    for types, name in (
        (bool, "a boolean"),
        ((int, float), "a number"),
        (str, "a string"),
        ((Pairs, Mapping), "an object"),
        (list, "a list"),
    ):
        if isinstance(value, types):
            return name
    return type(value).__name__
