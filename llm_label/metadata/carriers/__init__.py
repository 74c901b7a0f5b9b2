"""Where records are carried: one file per format, chosen by name from `CARRIERS`."""

import re
from collections.abc import Callable
from dataclasses import replace

from llm_label.errors import InputError
from llm_label.metadata.carriers import json, markdown
from llm_label.metadata.carriers.carried import Carried

__all__ = ["CARRIERS", "LIMIT", "LONGEST", "Carried", "decode", "open_carrier", "sniff"]

LIMIT = 16 * 1024 * 1024  # bytes of one input
LONGEST = 2_000_000  # characters of text in it; bounds the time that one request can take

CARRIERS: dict[str, Callable[[str], Carried]] = {
    "json": json.read,
    "sse": json.read_sse,
    "markdown": markdown.read,  # plain text too: it has no carrier of its own in any guide
}

_HTTP_HEAD = re.compile(r"\AHTTP/[\d.]+ \d{3}[^\n]*\n(?:[^\s:]+:[^\n]*\n)*\r?\n")
_JSON_HEAD = re.compile(r'\s*\{\s*"[^"\n]*"\s*:')

_BINARY = {
    b"%PDF": "a PDF file",
    b"PK\x03\x04": "a ZIP or Office file",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"\x1f\x8b": "a gzip file; unpack it first",
}


def sniff(data: bytes) -> str:
    """Name the carrier of a byte string. Raises InputError for what is not text."""
    return _sniff(decode(data))


def decode(data: bytes) -> str:
    """Decode UTF-8, without a byte order mark. Raises InputError that says what the bytes are instead."""
    if len(data) > LIMIT:
        raise InputError(f"the input has {len(data)} bytes; allowed: {LIMIT}; give the parts one by one")
    for magic, name in _BINARY.items():
        if data.startswith(magic):
            raise InputError(f"the input is {name}; allowed: UTF-8 text, Markdown, JSON, an event stream")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = data[error.start]
        raise InputError(
            f"the input is not UTF-8: byte 0x{byte:02x} at {error.start}; convert it, for example with iconv"
        ) from None
    if "\0" in text:
        raise InputError(f"the input is binary: a NUL byte at {text.index(chr(0))}; allowed: UTF-8 text")
    return text


def open_carrier(source: bytes | str) -> Carried:
    """Decode, sniff and read. Raises InputError."""
    text = decode(source) if isinstance(source, bytes) else source.removeprefix("\ufeff")
    text = _HTTP_HEAD.sub("", text, count=1)  # what `curl -i` saves before the body
    kind = _sniff(text)
    if kind == "markdown":
        _check_size(len(text))  # before it is read line by line
    carried = CARRIERS[kind](text)
    if kind == "markdown" and _JSON_HEAD.match(text):
        problem = "it begins as JSON and is none: a file that was cut off?"
        carried = replace(carried, problems=(*carried.problems, problem), unread=True)
    _check_size(sum(map(len, carried.texts)))
    return replace(carried, texts=tuple(_whole(text) for text in carried.texts))


def _sniff(text: str) -> str:
    if json.looks_like_json(text):
        return "json"
    return "sse" if json.looks_like_sse(text) else "markdown"


def _check_size(size: int) -> None:
    if size > LONGEST:
        raise InputError(f"the text has {size} characters; allowed: {LONGEST}; give the parts one by one")


def _whole(text: str) -> str:
    """Join surrogate halves that JSON frames escape apart; replace one without its other half."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
