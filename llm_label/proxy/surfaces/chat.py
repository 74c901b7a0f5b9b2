"""Chat completions: the text sits in `choices[].message.content`, in streams in `choices[].delta.content`.

Rules kept here (and measured against real clients): a label goes into an existing delta wherever there is one, never
with a `role`; the end label goes into or before the frame with `finish_reason` and before the first tool delta; where
a frame carries `logprobs`, the label travels in a frame of its own with `logprobs: null`; usage is never touched.
A whole `message` in a frame of a stream is labelled like a whole answer; text where no label can reach it is refused.
Nothing here does I/O.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_label.errors import ClientError, LabelError, UpstreamError
from llm_label.labels.history import clean_text
from llm_label.labels.labeler import Labeler
from llm_label.labels.wording import POSITIONS
from llm_label.policy import Plan, RequestView, Skipped
from llm_label.proxy.jsonspan import Editor, dumps
from llm_label.proxy.notice import Notice, Outcome
from llm_label.proxy.sse import Event, frame
from llm_label.proxy.surfaces.choice import Choice, Delta, answered, calls, reason, texts
from llm_label.proxy.surfaces.reading import FIELD, error_body, malformed, read

__all__ = ["NAME", "PATH", "Answer", "clean", "error_body", "view"]

NAME = "chat"

PATH = "/v1/chat/completions"

# Request fields of OpenAI, vLLM, SGLang, llama.cpp and Ollama that make the answer something a program parses.
STRUCTURED = frozenset((
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
    "regex", "ebnf", "json_schema", "grammar", "format",
))  # fmt: skip
# A frame of one choice with these keys, a delta of content alone and none of the others needs no closer look.
SIMPLE = frozenset(["index", "delta", "finish_reason", "logprobs"])
NOT_SIMPLE = frozenset(["error", FIELD])

# What a chunk of our own copies from the chunk beside it.
COPIED = ("id", "object", "created", "model", "service_tier", "system_fingerprint", "provider")


def view(body: Mapping[str, Any]) -> RequestView:
    """Return what policy may know of a request. Raises ClientError when `messages` is not a list of objects."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise ClientError("messages must be a list of objects with role and content")
    n = body.get("n")
    model = body.get("model")
    last = messages[-1] if messages else {}
    return RequestView(
        surface=NAME,
        model=model if isinstance(model, str) else None,
        stream=body.get("stream") is True,
        n=n if isinstance(n, int) and n > 0 else 1,
        structured=_structured(body),
        prefill=last.get("role") == "assistant",
        greedy=_greedy(body),
        prompt=next((_text(m.get("content")) for m in reversed(messages) if m.get("role") == "user"), ""),
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
class Answer:
    """Mark one answer, whole or as a stream. One object per response; raises UpstreamError for what it cannot read."""

    plan: Plan
    notice: Notice
    n: int = 1
    body_field: bool = True
    failed: bool = False  # the upstream sent an error object
    ended: bool = False  # `[DONE]` has passed
    _choices: dict[int, Choice] = field(default_factory=dict)
    _template: Mapping[str, Any] = field(default_factory=dict)  # what our own frames copy
    _usage: Any = None  # as it came last: clients keep the last frame's
    _finished: int = 0  # choices that gave a finish_reason
    _first: bool = True
    _last: bool = False  # the closing `llm_label` object was sent

    def whole(self, raw: bytes) -> bytes:
        """Return the JSON answer with its marks."""
        body = read(raw)
        editor = Editor(raw)
        self.failed = bool(body.get("error"))
        choices = body.get("choices")
        if not isinstance(choices, list) and not (self.failed and choices is None):
            raise malformed("an answer without a list of choices")
        self._note_upstream(body)
        for at, choice in enumerate(choices or []):
            if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
                raise malformed("a choice without a message")
            state = self._choice(at)
            state.finish_reason = reason(choice)
            _label_message(editor, at, choice["message"], state)
        if self.body_field or FIELD in body:
            editor.set((FIELD,), self.notice.happened(self.outcome()) if self.body_field else None)
        return editor.apply()

    def feed(self, event: Event) -> bytes:
        """Return the bytes that go to the client for one event of the stream."""
        if event.data is None:
            # Clients of this API parse every dispatched event; one without data would end their stream.
            return event.raw if event.only_comments else b""
        if self.ended:
            return b""
        if event.data.strip() == b"[DONE]":
            self.ended = True
            return self._flush() + self._closing() + event.raw
        return self._chunk(event)

    def finish(self) -> bytes:
        """Return what must follow when the upstream's bytes end; raises UpstreamError when they end too early."""
        if self.ended or self.failed or self._complete():
            return self.flush()
        raise UpstreamError("the upstream's answer ended without a finish_reason", code="upstream_truncated")

    def flush(self) -> bytes:
        """Return pending text and labels of a stream that breaks off; the error frame comes after it."""
        return b"" if self.ended else self._flush()

    def error_frame(self, error: LabelError) -> bytes:
        """Return an error as an event of the stream: SDKs raise it."""
        body = error_body(error)
        if self.body_field:
            body[FIELD] = self.notice.happened(self.outcome())
        return frame(dumps(body))

    def outcome(self) -> Outcome:
        """Say what really happened so far."""
        choices = self._choices.values()
        applied = [c.applied for c in choices if c.applied]
        skipped = None if applied else self._skipped()
        everywhere = applied[0] if len(applied) == 1 else tuple(p for p in POSITIONS if p in set().union(*applied))
        return Outcome(
            label_applied=everywhere,
            label_skipped=str(skipped) if skipped else None,
            upstream_id=str(self._template["id"]) if self._template.get("id") else None,
            finish_reasons=tuple(c.finish_reason for c in choices if c.finish_reason),
            choices=len(self._choices),
            labelled=len(applied),
        )

    def _skipped(self) -> Skipped | None:
        if self.plan.label_skipped:
            return self.plan.label_skipped
        reasons = [c.skipped() for c in self._choices.values()]
        if None in reasons:
            return None  # there is text, and its label is still to come
        if self.failed:
            return Skipped.ERROR
        return reasons[0] if reasons else Skipped.EMPTY

    def _choice(self, index: int) -> Choice:
        if index not in self._choices:
            self._choices[index] = self._new_choice()
        return self._choices[index]

    def _new_choice(self) -> Choice:
        return Choice(Labeler(self.plan.labels) if self.plan.labels else None)

    def _note_upstream(self, body: Mapping[str, Any]) -> None:
        if not self._template.get("id"):  # Azure's first frame has an empty one
            self._template = _copied(body)
        if body.get("usage") is not None:
            self._usage = body["usage"]

    def _chunk(self, event: Event) -> bytes:
        data = event.data or b""
        body = read(data)
        if (simple := _simple(body)) and not self._first and self._template.get("id"):
            return self._simple_chunk(event, *simple)
        editor = Editor(data)
        choices = body.get("choices")
        if choices is None:
            choices = []  # some gateways send chunks of their own
        if not isinstance(choices, list):
            raise malformed("a chunk whose choices are not a list")
        self._note_upstream(body)
        finished, broken = self._finished, bool(body.get("error"))
        before = b"".join(self._chunk_choice(editor, at, c, body, broken) for at, c in enumerate(choices))
        if broken:
            self.failed = True
            before += self._flush()
        last = broken or (self._finished > finished and self._complete())
        return before + self._with_notice(event, editor, last=last, theirs=FIELD in body)

    def _simple_chunk(self, event: Event, index: int, text: str) -> bytes:
        """Do what `_chunk` does, for the frame that nearly every frame of a stream is."""
        new = self._choice(index).feed(text)
        if new == text:
            return event.raw
        editor = Editor(event.data or b"")
        editor.set(("choices", 0, "delta", "content"), new, text)
        return event.with_data(editor.apply())

    def _with_notice(self, event: Event, editor: Editor, *, last: bool, theirs: bool) -> bytes:
        """Edit the event and add our object to the first frame and to the last one that finishes a choice.

        An object of that name that came from the upstream is replaced: it would speak in our name.
        """
        if self.body_field and (last or self._first or theirs):
            editor.set((FIELD,), self.notice.happened(self.outcome()) if last else self.notice.planned())
        elif theirs:
            editor.set((FIELD,), None)
        self._first = False
        self._last = self._last or last
        return event.with_data(editor.apply()) if editor.changed else event.raw

    def _chunk_choice(self, editor: Editor, at: int, choice: Any, body: Mapping[str, Any], broken: bool) -> bytes:
        """Edit one choice of a chunk; return the frames of our own that must stand before it."""
        delta = _delta(choice)
        index = choice["index"] if type(choice.get("index")) is int else at
        state = self._choice(index)
        edit = Delta(("choices", at, "delta"), delta, choice.get("logprobs") is not None)
        for where, text in answered(delta.get("content"), ("choices", at, "delta", "content")):
            edit.replace(where, text, state.feed(text))
        state.note(delta)
        if choice.get("message"):
            self._repeated(editor, at, choice["message"], state)
        finish = reason(choice)
        if finish or broken or (state.text and calls(delta)):
            edit.append(state.close())
        if finish and state.finish_reason is None:
            state.finish_reason = finish
            self._finished += 1
        edit.write(editor, isinstance(choice.get("delta"), dict))
        return self._own_frame(index, edit.before, body) if edit.before else b""

    def _repeated(self, editor: Editor, at: int, message: Mapping[str, Any], state: Choice) -> None:
        """Label the whole message so far, which some servers send beside the deltas, or instead of them."""
        repeated = self._new_choice()
        _label_message(editor, at, message, repeated)
        state.note(message)
        if not state.text:
            state.shown = repeated.applied

    def _own_frame(
        self, index: int, text: str, beside: Mapping[str, Any] | None = None, said: dict[str, Any] | None = None
    ) -> bytes:
        """Return a frame that holds `text`, in the manner of the frame `beside` it, and our object where it is due."""
        chunk = dict(self._template if beside is None else _copied(beside))
        chunk["choices"] = [{"index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": None}]
        if beside is None and self._usage is not None:
            chunk["usage"] = self._usage
        elif beside is not None and "usage" in beside:
            chunk["usage"] = None
        if self.body_field and (said or self._first):
            chunk[FIELD] = said or self.notice.planned()
            self._first = False
        return frame(dumps(chunk))

    def _complete(self) -> bool:
        return self._finished == len(self._choices) >= self.n

    def _flush(self) -> bytes:
        """Send what the labelers of unfinished choices still hold, before `[DONE]` or an error."""
        tails = [(index, state.close()) for index, state in self._choices.items()]
        return b"".join(self._own_frame(index, tail) for index, tail in tails if tail)

    def _closing(self) -> bytes:
        """Say what happened before `[DONE]`, where no frame was known to be the last: fewer choices, no reason."""
        if self._last or not self.body_field or not self._choices:
            return b""
        self._last = True
        return self._own_frame(next(iter(self._choices)), "", said=self.notice.happened(self.outcome()))


def _simple(body: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return index and text of a frame that holds one piece of one choice's text and nothing else to look at."""
    choices = body.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or body.keys() & NOT_SIMPLE or body.get("usage") is not None:
        return None
    choice = choices[0]
    if not isinstance(choice, dict) or choice.keys() - SIMPLE or not isinstance(choice.get("delta"), dict):
        return None
    index, text = choice.get("index"), choice["delta"].get("content")
    alone = len(choice["delta"]) == 1 and choice.get("finish_reason") is None and choice.get("logprobs") is None
    return (index, text) if alone and type(index) is int and isinstance(text, str) else None


def _label_message(editor: Editor, at: int, message: Mapping[str, Any], state: Choice) -> None:
    state.note(message)
    parts = answered(message.get("content"), ("choices", at, "message", "content"))
    for k, (where, text) in enumerate(parts, 1):
        new = state.feed(text) + (state.close() if k == len(parts) else "")
        if new != text:
            editor.set(where, new, text)


def _delta(choice: Any) -> Mapping[str, Any]:
    """Return the delta of a choice. Raises UpstreamError where text may stand in a place we do not know."""
    if not isinstance(choice, dict):
        raise malformed("a choice that is not an object")
    delta, message = choice.get("delta") or {}, choice.get("message") or {}
    if not isinstance(delta, dict) or not isinstance(message, dict):
        raise malformed("a choice whose delta or message is not an object")
    if choice.get("text") and not delta and not message:
        raise malformed("a choice with text but without a delta")
    return delta


def _copied(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: body[key] for key in COPIED if key in body}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str))


def _structured(body: Mapping[str, Any]) -> bool:
    asked = body.get("response_format")
    kind = asked.get("type") if isinstance(asked, dict) else None
    return kind in ("json_object", "json_schema", "grammar", "regex") or any(body.get(key) for key in STRUCTURED)


def _greedy(body: Mapping[str, Any]) -> bool:
    temperature = body.get("temperature")
    return bool(isinstance(temperature, int | float) and temperature == 0) or bool(body.get("use_beam_search"))
