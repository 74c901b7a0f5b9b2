"""Read a client's request body within limits, before anything else looks at it. No I/O here."""

from typing import Any

from llm_label.errors import ClientError
from llm_label.proxy.jsonspan import loads

__all__ = ["read_body"]


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
    if raw.count(b"{") + raw.count(b"[") > max_depth and _depth(body) > max_depth:
        raise _too_deep(max_depth)
    return body


def _too_deep(max_depth: int) -> ClientError:
    return ClientError(f"the body nests deeper than {max_depth} levels (server.max_depth)", code="too_deep")


def _depth(value: Any) -> int:
    """Count nested containers, level by level: recursion would end where an attacker wants it."""
    level, depth = [value], 0
    while level:
        depth += 1
        below = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
        level = [v for v in below if isinstance(v, dict | list)]
    return depth


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", type(None): "null", bool: "a boolean"}
    return names.get(type(value), "a number")
