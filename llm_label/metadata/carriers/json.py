"""Saved API answers, as JSON or as an event stream, and bare records.

Known are Chat Completions, Completions, Responses and Messages. No guide places a record in JSON. Ours stands in
`llm_label.record`, in streams of the last two APIs inside the object they begin with; a top-level `AIGC` or `aigc` of
others is read too.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from llm_label.metadata.aigc import KEY, Pairs, Reading, loads
from llm_label.metadata.aigc import read as read_record
from llm_label.metadata.carriers.carried import ONE_RECORD, Carried, once

__all__ = ["looks_like_json", "looks_like_sse", "read", "read_sse"]

_LINE_END = re.compile(r"\r\n|\n|\r")  # the only line ends of an event stream
_FIELD = re.compile(r"(?:data|event|id|retry)?:")
TERMINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
Place = tuple[int, ...]  # which text of a stream: choice, or output and part
RECORDS = 64  # of one file; beyond it, they are not read
BROKEN = 1000  # frames of a stream

_BARE = {"Label", "ContentProducer", "ProduceID"}  # enough to know a bare record by
# All that error answers have at their top; a model that writes JSON mostly writes something else beside an `error`.
_OF_ERRORS = {
    *("error", "type", "object", "message", "code", "param", "status"),
    *("request_id", "user_id", "error_type", "sequence_number", "llm_label"),
}
_ERROR = "it is built like an API's error answer, which holds no text that a model wrote"


def looks_like_json(text: str) -> bool:
    """Tell whether a text is one JSON object."""
    if not text.strip().startswith("{"):
        return False
    try:
        return isinstance(loads(text.strip()), Pairs)
    except ValueError:
        return False


def looks_like_sse(text: str) -> bool:
    """Tell whether a text is an event stream with JSON in it."""
    lines = [line for line in _LINE_END.split(text[:4096]) if line]
    if not lines or not _FIELD.match(lines[0]):
        return False
    return any(line.startswith("data:") and line[5:].lstrip().startswith("{") for line in lines)


def read(text: str) -> Carried:
    """Read one saved answer. Raises ValueError for what is no JSON object."""
    answer = loads(text.strip())
    if not isinstance(answer, Pairs):
        raise ValueError("not a JSON object")
    problems: list[str] = []
    readings = once(list(islice(_readings(answer, problems), RECORDS)))
    texts = _texts(answer)
    failed = _is_error(answer) if texts is None else _has_failed(answer, texts)
    if failed:
        problems.append(_ERROR)
    if texts is None:
        # Not an answer that we know: the file itself may be what a model wrote, unless it holds a record.
        texts = () if readings else (text,)
    return Carried("json", texts, readings, (), _checked(readings, problems), failed)


def read_sse(text: str) -> Carried:
    """Read a saved stream: pieces joined text by text, the record from any frame."""
    problems: list[str] = []
    readings: dict[Reading, None] = {}  # a stream carries its record in several frames
    texts: dict[Place, list[str]] = {}
    finished: list[str] = []  # texts that the end of a stream repeats as a whole
    failed, broken = False, 0
    for payload in _payloads(text):
        if payload.strip() == "[DONE]":
            continue
        try:
            frame = loads(payload)
        except ValueError:
            broken += 1
            if broken == BROKEN:
                break
            continue
        if isinstance(frame, Pairs):
            readings.update(dict.fromkeys(islice(_readings_of_event(frame, problems), RECORDS - len(readings))))
            for place, piece in _pieces(frame):
                texts.setdefault(place, []).append(piece)
            finished += _finished(frame)
            failed = failed or _is_error(frame) or _get(frame, "type") == "response.failed"
    if broken:
        rest = "the rest is not read" if broken == BROKEN else "a stream that was cut off?"
        problems.append(f"{broken} frames of the stream are not JSON; {rest}")
    found = tuple(readings)
    joined = tuple(finished) or tuple("".join(texts[place]) for place in sorted(texts))
    if failed and not any(joined):
        problems.append(_ERROR)
    return Carried("sse", joined, found, (), _checked(found, list(dict.fromkeys(problems))), broken == BROKEN)


def _readings(answer: Pairs, problems: list[str]) -> Iterator[Reading]:
    keys = [key for key, _ in answer]
    for key in (KEY, "llm_label"):
        if keys.count(key) > 1:
            problems.append(f"{key} is given {keys.count(key)} times in one object")
    for key, value in answer:
        if key in (KEY, KEY.lower()):
            yield read_record(value)
        elif key == "llm_label" and isinstance(value, Pairs):
            record = _get(value, "record")
            if record is not None:
                yield read_record(record)
    if set(keys) >= _BARE:
        yield read_record(answer)


def _readings_of_event(event: Pairs, problems: list[str]) -> Iterator[Reading]:
    yield from _readings(event, problems)
    for name in ("response", "message"):  # what an event of Responses or Messages is about
        inner = _get(event, name)
        if isinstance(inner, Pairs):
            yield from _readings(inner, problems)


def _texts(answer: Pairs) -> tuple[str, ...] | None:
    choices = _get(answer, "choices")
    if isinstance(choices, list):
        return tuple(_choice(choice, "message") for choice in choices if isinstance(choice, Pairs))
    keys = {key for key, _ in answer}
    if _get(answer, "object") == "response" or ("output" in keys and "status" in keys):
        return tuple(_output(answer))
    if "content" in keys and "role" in keys:  # a single message
        return (_text(_get(answer, "content")),)
    if keys == {"text"}:  # what other detection servers are asked with
        return (_text(_get(answer, "text")),)
    return None


def _is_error(answer: Pairs) -> bool:
    """Tell whether an object is built like an API's error answer. Ollama's `error` is a text, DashScope has none."""
    keys = {key for key, _ in answer}
    told = isinstance(_get(answer, "error"), Pairs | str) or "error" in (_get(answer, "type"), _get(answer, "object"))
    return keys <= _OF_ERRORS and (told or keys >= {"code", "message", "request_id"})


def _has_failed(answer: Pairs, texts: tuple[str, ...]) -> bool:
    """Tell whether an answer holds an error in place of texts, as a failed response does."""
    return isinstance(_get(answer, "error"), Pairs) and not any(texts)


def _output(response: Pairs) -> Iterator[str]:
    """Yield the texts of a response: the parts of its messages, one by one, as they are labelled."""
    output = _get(response, "output")
    for item in output if isinstance(output, list) else ():
        content = _get(item, "content") if isinstance(item, Pairs) and _get(item, "type") == "message" else None
        for part in content if isinstance(content, list) else ():
            if isinstance(part, Pairs) and _get(part, "type") == "output_text":
                yield _text(_get(part, "text"))


def _finished(event: Pairs) -> Iterator[str]:
    if _get(event, "type") in TERMINAL and isinstance(response := _get(event, "response"), Pairs):
        yield from _output(response)


def _pieces(frame: Pairs) -> Iterator[tuple[Place, str]]:
    """Yield which text a frame brings a piece of, and the piece."""
    choices = _get(frame, "choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, Pairs):
            yield _place(choice, "index"), _choice(choice, "delta")
    kind = _get(frame, "type")
    if kind == "response.output_text.delta":
        yield _place(frame, "output_index", "content_index"), _text(_get(frame, "delta"))
    elif kind in ("content_block_start", "content_block_delta"):  # the blocks of a message are one text
        block = _get(frame, "content_block" if kind == "content_block_start" else "delta")
        yield (), _text(_get(block, "text")) if isinstance(block, Pairs) else ""


def _place(frame: Pairs, *names: str) -> Place:
    given = (_get(frame, name) for name in names)
    return tuple(value if isinstance(value, int) else 0 for value in given)


def _choice(choice: Pairs, holder: str) -> str:
    """Return the text of a choice: chat has it in a message or delta, the old completions in `text`."""
    message = _get(choice, holder)
    return _text(_get(message, "content")) if isinstance(message, Pairs) else _text(_get(choice, "text"))


def _text(content: object) -> str:
    """Join the text of a string or of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (_get(part, "text") for part in content if isinstance(part, Pairs))
        return "".join(part for part in parts if isinstance(part, str))
    return ""


def _get(pairs: Pairs, key: str) -> Any:
    """Return the last value of a key, as other readers of JSON do."""
    return next((value for name, value in reversed(pairs) if name == key), None)


def _payloads(text: str) -> Iterator[str]:
    """Yield the data of each event; an event without its blank line at the end of the file counts."""
    data: list[str] = []
    for line in [*_LINE_END.split(text), ""]:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []


def _checked(readings: tuple[Reading, ...], problems: list[str]) -> tuple[str, ...]:
    differing = {reading.record for reading in readings if reading.record is not None}
    if len(differing) > 1:
        problems.append(f"{len(differing)} {ONE_RECORD}")
    return tuple(problems)
