"""Where text that people read stands in a JSON value, written apart from the proxy: what it must agree with."""

import json
import re
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

__all__ = [
    "Number", "Spot", "is_text", "kind_of", "number_in", "of_blocks", "of_item", "of_part", "of_response", "read",
    "read_by_people", "spots",
]  # fmt: skip

TEXT_PARTS = (None, "text", "output_text")


class Number(str):
    """A JSON number as it was written."""

    def __bool__(self) -> bool:
        return float(self) != 0.0


class Spot(NamedTuple):
    """Where a piece of text stands: its container, its key there, and which text it is a piece of."""

    where: Any  # dict or list
    key: Any
    text: Hashable  # pieces of one text share it; None: a whole text of its own

    @property
    def value(self) -> str:
        return str(self.where[self.key])


def read(raw: bytes) -> Any:
    return json.loads(raw.decode(), parse_float=Number, parse_int=Number)


def number_in(value: Any, otherwise: Any = None) -> Any:
    """Return a whole number; what does not fit into 64 bits is none, to the parsers of many languages."""
    return int(value) if isinstance(value, Number) and re.fullmatch(r"-?\d{1,18}", value) else otherwise


def spots(api: str, body: Any, *, whole: bool = False) -> Iterator[Spot]:
    """Give the spots of a frame, or of a whole answer, which need nothing that came before."""
    if not isinstance(body, dict):
        return
    if api in ("chat", "completions"):
        yield from _of_choices(api, body, whole)
    elif api == "messages" and whole:
        yield from of_blocks(body.get("content"), "text")
    elif api == "responses" and whole:
        yield from of_response(body)


def _of_choices(api: str, body: dict[str, Any], whole: bool) -> Iterator[Spot]:
    choices = body.get("choices")
    for at, choice in enumerate(choices if isinstance(choices, list) else ()):
        if not isinstance(choice, dict):
            continue
        given = choice.get("index")
        index = at if whole else number_in(given, at)
        if api == "completions":
            if isinstance(choice.get("text"), str):
                yield Spot(choice, "text", index)
            continue
        if not whole and isinstance(choice.get("delta"), dict):
            yield from _of_content(choice["delta"], index)
        if isinstance(choice.get("message"), dict):
            yield from _of_content(choice["message"], index if whole else None)


def _of_content(holder: dict[str, Any], text: Hashable) -> Iterator[Spot]:
    content = holder.get("content")
    if isinstance(content, str) and not isinstance(content, Number):
        yield Spot(holder, "content", text)
    yield from _of_parts(content, text)


def _of_parts(content: Any, text: Hashable) -> Iterator[Spot]:
    for k, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, str) and not isinstance(part, Number):
            yield Spot(content, k, text)
        elif isinstance(part, dict) and kind_of(part) in TEXT_PARTS and is_text(part.get("text")):
            yield Spot(part, "text", text)


def of_blocks(content: Any, text: Hashable) -> Iterator[Spot]:
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict) and block.get("type") == "text" and is_text(block.get("text")):
            yield Spot(block, "text", text)


def of_response(response: dict[str, Any]) -> Iterator[Spot]:
    output = response.get("output")
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict):
            yield from of_item(item)
    if is_text(response.get("output_text")):
        yield Spot(response, "output_text", "joined")


def of_item(item: dict[str, Any]) -> Iterator[Spot]:
    if not read_by_people(item):
        return
    if is_text(item.get("content")):
        yield Spot(item, "content", None)
    for k, part in enumerate(item["content"] if isinstance(item.get("content"), list) else ()):
        if isinstance(part, str) and not isinstance(part, Number):
            yield Spot(item["content"], k, None)
        elif isinstance(part, dict):
            yield from of_part(part)


def of_part(part: dict[str, Any], text: Hashable = None) -> Iterator[Spot]:
    if kind_of(part) in TEXT_PARTS and is_text(part.get("text")):
        yield Spot(part, "text", text)


def read_by_people(item: dict[str, Any]) -> bool:
    return (
        item.get("type") == "message"
        and item.get("role") not in ("user", "system", "developer", "tool")
        and item.get("phase") != "commentary"
    )


def kind_of(part: dict[str, Any]) -> Any:
    kind = part.get("type")
    return kind if kind is None or isinstance(kind, str) else "another"


def is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)
