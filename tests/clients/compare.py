"""Say whether what a client saw through the proxy is what it saw without it, marks aside. No I/O here.

A scenario of a client reports `prose` (texts that must be labelled), `opening` (texts of which only the start label
is sure, such as words before a tool call), `exact` (everything else that the user of the client gets) and `counted`
(what may differ where text was added, such as the number of chunks). Under `marks` it reports the content ids that it
found; with marks on there must be one everywhere, the same.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from llm_label.labels.labeler import strip

__all__ = ["Marks", "differences", "same"]

Seen = dict[str, Any]


@dataclass(frozen=True)
class Marks:
    """The label that the proxy writes, and every one that strip knows."""

    label: str
    known: Collection[str]


def same(direct: Seen, seen: Seen) -> list[str]:
    """List what differs although no marks were set."""
    if problem := _failed(direct, seen):
        return [problem]
    fields = sorted({*direct, *seen} - {"marks", "trace"})
    return [_differs(name, direct.get(name), seen.get(name)) for name in fields if direct.get(name) != seen.get(name)]


def differences(direct: Seen, seen: Seen, marks: Marks) -> list[str]:
    """List what differs beyond the labels, and which labels are missing."""
    if problem := _failed(direct, seen):
        return [problem]
    found = []
    if direct.get("exact") != seen.get("exact"):
        found.append(_differs("exact", direct.get("exact"), seen.get("exact")))
    if (ids := seen.get("marks")) is not None and (None in ids.values() or len({*ids.values()}) != 1):
        found.append(f"the content ids are {ids}, not one and the same")
    for field, ends in (("prose", ("start", "end")), ("opening", ("start",))):
        before, after = dict(_texts(direct.get(field))), dict(_texts(seen.get(field)))
        if before.keys() != after.keys():
            found.append(_differs(field, sorted(before), sorted(after)))
            continue
        for name, text in before.items():
            found += [f"{field}.{name}: {fault}" for fault in _faults(text, after[name], ends, marks)]
    return found


def _faults(before: str, after: str, ends: Collection[str], marks: Marks) -> Iterator[str]:
    if strip(before, marks.known) != before:
        yield f"the upstream's own text holds a label: {before!r}"
    if not before.strip():
        yield f"the upstream's text is blank, which shows nothing: {before!r}"
    if (stripped := strip(after, marks.known)) != before:
        yield f"is {stripped!r} after strip, directly {before!r}"
    if "start" in ends and not after.lstrip().startswith(marks.label):
        yield f"no start label in {after!r}"
    if "end" in ends and not after.rstrip().endswith(marks.label):
        yield f"no end label in {after!r}"


def _texts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a tree with its place."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, dict | list):
        rows = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in rows:
            yield from _texts(inner, f"{name}.{key}" if name else str(key))
    elif value is not None:
        raise TypeError(f"{name} must be text, not {value!r}")


def _failed(direct: Seen, seen: Seen) -> str | None:
    if "error" in direct:
        return f"the client fails without the proxy: {direct['error']}"
    return f"the client fails: {seen['error']}" if "error" in seen else None


def _differs(name: str, direct: Any, seen: Any) -> str:
    if isinstance(direct, dict) and isinstance(seen, dict):
        for key in sorted({*direct, *seen}, key=str):
            if direct.get(key) != seen.get(key):
                return _differs(f"{name}.{key}", direct.get(key), seen.get(key))
    return f"{name} is {seen!r}, directly {direct!r}"
