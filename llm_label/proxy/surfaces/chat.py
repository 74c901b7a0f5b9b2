"""Chat completions: the text sits in `choices[].message.content`, in streams in `choices[].delta.content`.

Beside the rules of `choices.py`: a label never travels with a `role`; the end label stands before the first tool
delta; a whole `message` in a frame of a stream is labelled like a whole answer; text where no label can reach it is
refused. Nothing here does I/O.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from llm_label.labels.history import clean_text
from llm_label.policy import RequestView
from llm_label.proxy.jsonspan import Editor
from llm_label.proxy.surfaces import asked
from llm_label.proxy.surfaces.choice import Choice, Delta, Piece, answered, texts
from llm_label.proxy.surfaces.choices import Choices
from llm_label.proxy.surfaces.reading import error_body, malformed

__all__ = ["NAME", "PATH", "Answer", "clean", "error_body", "view"]

NAME = "chat"

PATH = "/v1/chat/completions"


def view(body: Mapping[str, Any]) -> RequestView:
    """Return what policy may know of a request. Raises ClientError when `messages` is not a list of objects."""
    messages = asked.messages(body)
    last = messages[-1] if messages else {}
    return RequestView(
        surface=NAME,
        model=asked.model(body),
        stream=body.get("stream") is True,
        n=asked.count(body),
        structured=asked.structured(body),
        json=asked.json_only(body),
        prefill=last.get("role") == "assistant",
        greedy=asked.greedy(body),
        prompt=next((asked.plain(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), ""),
    )


def clean(raw: bytes, body: Mapping[str, Any], known: Collection[str]) -> bytes:
    """Take our own labels out of assistant turns, and touch nothing else of the request."""
    editor: Editor | None = None
    for i, message in enumerate(body["messages"]):
        if message.get("role") != "assistant":
            continue
        for path, text in texts(message.get("content"), ("messages", i, "content")):
            cleaned = clean_text(text, known)
            if cleaned != text:
                editor = editor or Editor(raw)
                editor.set(path, cleaned, text)
    return editor.apply() if editor else raw


@dataclass
class Answer(Choices):
    """Mark one chat answer, whole or as a stream."""

    TEXT = ("delta", "content")
    SIMPLE = frozenset(["index", "delta", "finish_reason", "logprobs"])

    def _label_whole(self, editor: Editor, at: int, choice: Mapping[str, Any], state: Choice) -> None:
        if not isinstance(choice.get("message"), dict):
            raise malformed("a choice without a message")
        _label_message(editor, at, choice["message"], state)

    def _texts(self, at: int, choice: Mapping[str, Any]) -> list[Piece]:
        delta = _delta(choice)
        if choice.get("message"):
            answered(choice["message"].get("content"), ())
        return answered(delta.get("content"), ("choices", at, "delta", "content"))

    def _label_chunk(
        self, editor: Editor, at: int, choice: Mapping[str, Any], pieces: list[Piece], state: Choice
    ) -> Delta:
        there = isinstance(choice.get("delta"), dict)
        delta = choice["delta"] if there else {}
        edit = Delta(("choices", at, "delta"), delta, choice.get("logprobs") is not None, there=there)
        for where, text in pieces:
            edit.replace(where, text, state.feed(text))
        state.note(delta)
        if choice.get("message"):
            self._repeated(editor, at, choice["message"], state)
        if delta.get("annotations"):
            state.cite(editor, ("choices", at, "delta", "annotations"), delta["annotations"])
        return edit

    def _repeated(self, editor: Editor, at: int, message: Mapping[str, Any], state: Choice) -> None:
        """Label the whole message so far, which some servers send beside the deltas, or instead of them."""
        repeated = self._new_choice()
        _label_message(editor, at, message, repeated)
        state.note(message)
        if not state.text:
            state.shown = repeated.applied

    def _alone(self, choice: Mapping[str, Any]) -> Any:
        delta = choice.get("delta")
        return delta.get("content") if isinstance(delta, dict) and len(delta) == 1 else None

    def _piece(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text}}


def _label_message(editor: Editor, at: int, message: Mapping[str, Any], state: Choice) -> None:
    state.note(message)
    parts = answered(message.get("content"), ("choices", at, "message", "content"))
    for k, (where, text) in enumerate(parts, 1):
        new = state.feed(text) + (state.close() if k == len(parts) else "")
        if new != text:
            editor.set(where, new, text)
    if message.get("annotations"):
        state.cite(editor, ("choices", at, "message", "annotations"), message["annotations"])


def _delta(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the delta of a choice. Raises UpstreamError where text may stand in a place we do not know."""
    delta, message = choice.get("delta") or {}, choice.get("message") or {}
    if not isinstance(delta, dict) or not isinstance(message, dict):
        raise malformed("a choice whose delta or message is not an object")
    if choice.get("text") and not delta and not message:
        raise malformed("a choice with text but without a delta")
    return delta
