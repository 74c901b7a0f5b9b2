"""What a client may not send: bodies over the limits, keys named twice, and what switches marks off or smuggles code.

Nothing is ever added, and sampling parameters are never changed. What is taken out is named in the audit entry. No I/O.
"""

import json
from collections.abc import Iterable
from typing import Any

import orjson

from llm_label.errors import ClientError
from llm_label.proxy.jsonspan import Editor, Path, dumps, loads

__all__ = ["read_body", "strip"]

OWN = "llm_label"  # our object in answers, and the prefix of what we send to engines
# Fields that no client may set, by engine. Names are compared without case: some servers read them so.
FORBIDDEN = frozenset(
    [
        "watermarking",  # vLLM: false switches its watermark off
        "watermark",  # SGLang: its `key` would replace the server's
        "custom_logit_processor",  # SGLang: pickled code, run by the server
        "custom_params",  # SGLang: arguments of that code
        OWN,
    ]
)
XARGS = "vllm_xargs"  # vLLM: arguments of logits processors, among them ours
GENERATION = "generation_config"  # transformers serve: a JSON string
GENERATION_FORBIDDEN = ("watermarking_config",)
NESTED = "extra_body"  # LiteLLM moves its members to the top level
LOOKED_AT = FORBIDDEN | {XARGS, GENERATION, NESTED}


def read_body(raw: bytes, max_depth: int) -> dict[str, Any]:
    """Return the JSON object of a request. Raises ClientError with one line for anything else."""
    if not raw.strip():
        raise ClientError("the request has no body; a JSON object is expected")
    try:
        body = loads(raw)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except ValueError as error:
        if "depth limit" in str(error):  # orjson's own words
            raise _too_deep(max_depth) from None
        raise ClientError(f"the body is not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(body, dict):
        raise ClientError(f"the body must be a JSON object, not {_kind(body)}")
    if raw.count(b"{") + raw.count(b"[") > max_depth and _shape(body)[0] > max_depth:
        raise _too_deep(max_depth)
    _check_keys(raw, body, "the body")
    return body


def strip(raw: bytes, body: dict[str, Any]) -> tuple[bytes, tuple[str, ...]]:
    """Take out of both what clients may not set; return the new bytes and the names of what is gone.

    Raises ClientError for a `generation_config` that cannot be looked into.
    """
    if LOOKED_AT.isdisjoint(map(str.lower, body)):
        return raw, ()
    editor = Editor(raw)
    gone = _strip(editor, (), body)
    for name, inner in body.items():
        if name.lower() == NESTED and isinstance(inner, dict):
            gone += _strip(editor, (name,), inner)
    return (editor.apply() if editor.changed else raw), tuple(gone)


def _strip(editor: Editor, at: Path, found: dict[str, Any]) -> list[str]:
    gone = _delete(editor, at, found, [name for name in found if name.lower() in FORBIDDEN])
    for name, inner in found.items():
        if name.lower() == XARGS and isinstance(inner, dict):
            ours = [key for key in inner if key.lower().startswith(OWN + "_")]
            gone += _delete(editor, (*at, name), inner, ours)
        elif name.lower() == GENERATION and isinstance(inner, dict):
            gone += _delete(editor, (*at, name), inner, GENERATION_FORBIDDEN)
        elif name.lower() == GENERATION and isinstance(inner, str):
            found[name], names = _inner(inner)
            if names:
                editor.set((*at, name), found[name])
                gone += [".".join([*map(str, at), name, key]) for key in names]
    return gone


def _inner(text: str) -> tuple[str, list[str]]:
    """Strip the JSON inside a string, with the same rules as outside."""
    try:
        raw = text.encode()
        body = loads(raw)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise ClientError(f"{GENERATION} must hold a JSON object")
    _check_keys(raw, body, GENERATION)
    editor = Editor(raw)
    names = _delete(editor, (), body, GENERATION_FORBIDDEN)
    return (editor.apply().decode() if names else text), names


def _delete(editor: Editor, at: Path, found: dict[str, Any], names: Iterable[str]) -> list[str]:
    there = [name for name in names if name in found]
    if there:
        editor.delete(at, there)
    for name in there:
        del found[name]
    return [".".join([*map(str, at), name]) for name in there]


def _check_keys(raw: bytes, body: Any, what: str) -> None:
    """Refuse an object that names a key twice: the next parser may read the other one. Raises ClientError.

    A parsed tree holds each key once, so it has fewer keys than the text has colons outside strings. Nearly every
    client writes compact JSON, which is what a serialiser makes of the tree: then nothing needs counting.
    """
    try:
        if orjson.dumps(body) == raw:
            return
    except TypeError:  # half a surrogate pair, or nested too deep for it
        pass
    if _shape(body)[1] != _colons(raw):
        raise ClientError(f"{what} names the key {_twice(raw)} twice in one object", code="duplicate_key")


def _shape(value: Any) -> tuple[int, int]:
    """Return how deep containers nest, and how many members all objects have.

    Level by level: recursion would end where an attacker wants it.
    """
    depth, keys, level = 0, 0, [value]
    while level:
        depth += 1
        below: list[Any] = []
        for outer in level:
            if type(outer) is dict:
                keys += len(outer)
                outer = outer.values()
            below += [inner for inner in outer if type(inner) is dict or type(inner) is list]
        level = below
    return depth, keys


def _colons(raw: bytes) -> int:
    """Count the colons outside strings. Exact for valid JSON: without escapes every quote opens or closes a string."""
    if b"\\" in raw:
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(raw.split(b'"')[::2]).count(b":")


def _twice(raw: bytes) -> str:
    """Find the name that stands twice, for the message alone."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        found.extend(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]

    json.loads(raw, object_pairs_hook=look)
    return dumps(found[0][:40]).decode("utf-8", "replace") if found else "?"


def _too_deep(max_depth: int) -> ClientError:
    return ClientError(f"the body nests deeper than {max_depth} levels (server.max_depth)", code="too_deep")


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", type(None): "null", bool: "a boolean"}
    return names.get(type(value), "a number")
