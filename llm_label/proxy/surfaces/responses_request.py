"""What a request for a response tells, and what of ours comes back in it. No I/O here."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from llm_label.errors import ClientError
from llm_label.labels.history import clean_text
from llm_label.policy import RequestView
from llm_label.proxy.jsonspan import Editor, Path
from llm_label.proxy.surfaces import asked
from llm_label.proxy.surfaces.responses_text import restored

__all__ = ["NAME", "clean", "view"]

NAME = "responses"
# The types of the parts in which an assistant's text comes back as input.
REPLAYED = ("output_text", "input_text", "text")


def view(body: Mapping[str, Any]) -> RequestView:
    """Return what policy may know of a request. Raises ClientError when `input` is no text and no list of items."""
    given = body.get("input")
    items, previous = given if isinstance(given, list) else [], body.get("previous_response_id")
    if not isinstance(given, str | list | None) or not all(isinstance(item, dict) for item in items):
        raise ClientError("input must be a string or a list of items")
    users = (asked.plain(item.get("content")) for item in reversed(items) if item.get("role") == "user")
    return RequestView(
        surface=NAME,
        model=asked.model(body),
        stream=body.get("stream") is True,
        structured=_asks(asked.structured, body),
        json=_asks(asked.json_only, body),
        prefill=bool(items) and _is_assistant(items[-1]),
        greedy=asked.greedy(body),
        prompt=given if isinstance(given, str) else next(users, ""),
        continues=previous if isinstance(previous, str) else None,
    )


def clean(raw: bytes, body: Mapping[str, Any], known: Collection[str]) -> bytes:
    """Take our own labels out of assistant turns, and touch nothing else: no reasoning, nothing encrypted."""
    editor: Editor | None = None
    items = body.get("input")
    for i, item in enumerate(items if isinstance(items, list) else ()):
        for path, part, text in _replayed(item, ("input", i)):
            cleaned = clean_text(text, known)
            if cleaned != text:
                editor = editor or Editor(raw)
                editor.set(path, cleaned, text)
                for where, index in restored(part, text, known):
                    editor.set((*path[:-1], *where), index)
    return editor.apply() if editor else raw


def _is_assistant(item: Mapping[str, Any]) -> bool:
    return item.get("type") in (None, "message") and item.get("role") == "assistant"


def _replayed(item: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Mapping[str, Any], str]]:
    """Give path, part and text of each text in an assistant's message."""
    content = item.get("content")
    if not _is_assistant(item) or "encrypted_content" in item:  # what is sealed must stay as it is
        return
    if isinstance(content, str):
        yield (*path, "content"), {}, content
    for k, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, dict) and part.get("type") in REPLAYED and isinstance(part.get("text"), str):
            yield (*path, "content", k, "text"), part, part["text"]


def _asks(which: Callable[[Mapping[str, Any]], bool], body: Mapping[str, Any]) -> bool:
    """Ask about the fields of engines, and about `text.format`, which is this API's `response_format`."""
    text = body.get("text")
    given = text.get("format") if isinstance(text, dict) else None
    return which(body) or which({"response_format": given})
