"""What is left of a JSON value without its texts and without our field, and which frames may be the proxy's own."""

import json
from typing import Any

from tests.fuzz.spots import Number, Spot

__all__ = ["FIELD", "bare", "own"]

FIELD = "llm_label"
INDICES = ("start_index", "end_index", "index")


def bare(api: str, body: Any, found: list[Spot]) -> str:
    """Return a JSON value without its texts and without our field, its keys in their order."""
    for spot in found:
        spot.where[spot.key] = None
    if not isinstance(body, dict):
        return json.dumps(body)
    body.pop(FIELD, None)
    for key in {"responses": ("response",), "messages": ("message",)}.get(api, ()):
        if isinstance(body.get(key), dict):
            body[key].pop(FIELD, None)
    if api in ("responses", "chat"):
        _forget_indices(body)
    for choice in body["choices"] if api == "chat" and isinstance(body.get("choices"), list) else ():
        if isinstance(choice, dict):
            _forget_added(choice)
    if api == "completions":
        for choice in body["choices"] if isinstance(body.get("choices"), list) else ():
            if isinstance(choice, dict) and choice.get("text") is None:
                choice.pop("text", None)
    return json.dumps(body)


def _forget_added(choice: dict[str, Any]) -> None:
    """Take out a `content` that may have been added, with its delta."""
    delta = choice.get("delta")
    if isinstance(delta, dict) and delta.get("content") is None:
        delta.pop("content", None)
    if not delta and isinstance(delta, dict | None):
        choice.pop("delta", None)


def _forget_indices(value: Any) -> None:
    """Forget where annotations point: labels before those places move them."""
    stack = [value]
    while stack:
        inner = stack.pop()
        if isinstance(inner, dict):
            for key, annotations in inner.items():
                if key == "annotation" and isinstance(annotations, dict):
                    _forget(annotations)
                for annotation in annotations if key == "annotations" and isinstance(annotations, list) else ():
                    _forget(annotation)
            stack += inner.values()
        elif isinstance(inner, list):
            stack += inner


def _forget(annotation: Any) -> None:
    if isinstance(annotation, dict) and isinstance(annotation.get("url_citation"), dict):
        _forget(annotation["url_citation"])
    for name in INDICES:
        if isinstance(annotation, dict) and isinstance(annotation.get(name), Number):
            annotation[name] = None


def own(api: str, body: Any) -> bool:
    """Say whether a frame may be one that the proxy added."""
    if not isinstance(body, dict):
        return False
    if api == "messages":
        return _own_block_event({key for key in body if key != FIELD}, body)
    choices = body.get("choices")
    if api == "responses" or not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return False
    keys = set(choices[0]) | {"text"}  # a text is already taken out of what is compared
    if choices[0].get("logprobs") is not None or choices[0].get("finish_reason") is not None:
        return False
    return keys <= {"index", "text", "delta", "logprobs", "finish_reason"}


def _own_block_event(keys: set[str], body: dict[str, Any]) -> bool:
    kind, delta, block = body.get("type"), body.get("delta"), body.get("content_block")
    if kind == "content_block_delta":
        return keys == {"type", "index", "delta"} and isinstance(delta, dict) and set(delta) == {"type", "text"}
    if kind == "content_block_start":
        return keys == {"type", "index", "content_block"} and isinstance(block, dict) and set(block) == {"type", "text"}
    return kind == "content_block_stop" and keys == {"type", "index"}
