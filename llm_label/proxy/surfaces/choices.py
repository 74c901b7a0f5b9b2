"""Answers made of `choices`, whole and streamed: what chat and text completions have in common.

A subclass says where the text sits in a choice. What is kept here, and was measured against real clients: a label goes
into an existing piece of text wherever there is one; the end label goes into or before the frame with
`finish_reason`; where a frame carries `logprobs`, the label travels in a frame of its own with `logprobs: null`; usage
is never touched; nothing follows `[DONE]`; a stream that ends without a finish_reason is truncated.
Nothing here does I/O.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llm_label.errors import LabelError, UpstreamError
from llm_label.policy import Plan
from llm_label.proxy.jsonspan import Editor, dumps
from llm_label.proxy.notice import Notice, Outcome
from llm_label.proxy.sse import Event, frame
from llm_label.proxy.surfaces.choice import Choice, Delta, Piece, calls, outcome, reason
from llm_label.proxy.surfaces.pattern import LESSONS, Pattern
from llm_label.proxy.surfaces.reading import FIELD, error_body, malformed, read

__all__ = ["Choices"]

# What a chunk of our own copies from the chunk beside it.
COPIED = ("id", "object", "created", "model", "service_tier", "system_fingerprint", "provider")
CHANGING = ("obfuscation",)  # OpenAI's padding, in every chunk another
NOT_SIMPLE = frozenset(["error", FIELD])


@dataclass
class Choices(ABC):
    """Mark one answer, whole or as a stream. One object per response; raises UpstreamError for what it cannot read."""

    TEXT: ClassVar[tuple[str, ...]]  # where a chunk's choice keeps its text
    SIMPLE: ClassVar[frozenset[str]]  # keys of a choice that needs no closer look

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
    _pattern: Pattern | None = None  # of the last simple frame
    _lessons: int = LESSONS  # how often it may still be learnt
    _spare: Choice | None = None  # for the first choice: made while the upstream thinks

    def __post_init__(self) -> None:
        self._spare = self._new_choice()

    @abstractmethod
    def _label_whole(self, editor: Editor, at: int, choice: Mapping[str, Any], state: Choice) -> None:
        """Label the text of one choice of a whole answer."""

    @abstractmethod
    def _texts(self, at: int, choice: Mapping[str, Any]) -> list[Piece]:
        """Return the pieces of text that a chunk's choice brings. Raises UpstreamError where they may hide."""

    @abstractmethod
    def _label_chunk(
        self, editor: Editor, at: int, choice: Mapping[str, Any], pieces: list[Piece], state: Choice
    ) -> Delta:
        """Feed the text of one choice of a chunk; return its edits, to which the end may be added."""

    @abstractmethod
    def _alone(self, choice: Mapping[str, Any]) -> Any:
        """Return the text of a chunk's choice that holds nothing beside it."""

    @abstractmethod
    def _piece(self, text: str) -> dict[str, Any]:
        """Return the members of a choice of our own that hold `text`."""

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
            if not isinstance(choice, dict):
                raise malformed("a choice that is not an object")
            state = self._choice(at)
            state.finish_reason = reason(choice)
            self._label_whole(editor, at, choice, state)
        if (self.body_field or FIELD in body) and not self.notice.yields(body):
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

    def again(self, raw: bytes) -> bytes | None:
        """Return the bytes that go to the client for a frame like the one before; None: it has to be parsed."""
        pattern = self._pattern
        if pattern is None or self.ended or (found := pattern.read(raw)) is None:
            return None
        state = self._choices[pattern.index]
        if state.closed:
            return None
        new = state.feed(found[0])
        return raw if new == found[0] else self._with_text(pattern.event(raw), new, found[0])

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
        return outcome(self.plan, [*self._choices.values()], failed=self.failed, upstream_id=self._template.get("id"))

    def _choice(self, index: int) -> Choice:
        if index not in self._choices:
            self._choices[index], self._spare = self._spare or self._new_choice(), None
        return self._choices[index]

    def _new_choice(self) -> Choice:
        return Choice(self.plan.labeler())

    def _note_upstream(self, body: Mapping[str, Any]) -> None:
        if not self._template.get("id"):  # Azure's first frame has an empty one
            self._template = _copied(body)
        if body.get("usage") is not None:
            self._usage = body["usage"]

    def _chunk(self, event: Event) -> bytes:
        data = event.data or b""
        body = read(data)
        if not self._first and self._template.get("id") and (simple := self._simple(body)):
            return self._simple_chunk(event, *simple)
        editor = Editor(data)
        choices = body.get("choices")
        if choices is None:
            choices = []  # some gateways send chunks of their own
        if not isinstance(choices, list):
            raise malformed("a chunk whose choices are not a list")
        # Before anything is done: of a frame that is refused nothing counts.
        pieces = [self._read(at, choice) for at, choice in enumerate(choices)]
        self._note_upstream(body)
        finished, broken = self._finished, bool(body.get("error"))
        before = b"".join([self._chunk_choice(editor, at, body, texts, broken) for at, texts in enumerate(pieces)])
        if broken:
            self.failed = True
            before += self._flush()
        last = broken or (self._finished > finished and self._complete())
        if not self.notice.yields(body):
            self._put_notice(editor, last=last, theirs=FIELD in body)
        self._first, self._last = False, self._last or last
        return before + (event.with_data(editor.apply()) if editor.changed else event.raw)

    def _simple(self, body: Mapping[str, Any]) -> tuple[int, str] | None:
        """Return index and text of a frame that holds one piece of one choice's text and nothing else to look at."""
        choices = body.get("choices")
        if not isinstance(choices, list) or len(choices) != 1 or body.keys() & NOT_SIMPLE:
            return None
        choice = choices[0]
        if body.get("usage") is not None or not isinstance(choice, dict) or choice.keys() - self.SIMPLE:
            return None
        index, text = choice.get("index"), self._alone(choice)
        going_on = choice.get("finish_reason") is None and choice.get("logprobs") is None
        return (index, text) if going_on and type(index) is int and isinstance(text, str) else None

    def _simple_chunk(self, event: Event, index: int, text: str) -> bytes:
        """Do what `_chunk` does, for the frame that nearly every frame of a stream is."""
        if self._lessons:
            self._lessons -= 1
            self._pattern = Pattern.of(event, ("choices", 0, *self.TEXT), text, index, CHANGING)
        new = self._choice(index).feed(text)
        return event.raw if new == text else self._with_text(event, new, text)

    def _with_text(self, event: Event, new: str, text: str) -> bytes:
        editor = Editor(event.data or b"")
        editor.set(("choices", 0, *self.TEXT), new, text)
        return event.with_data(editor.apply())

    def _put_notice(self, editor: Editor, *, last: bool, theirs: bool) -> None:
        """Add our object to the first frame and to the last one that finishes a choice.

        An object of that name that came from the upstream is replaced: it would speak in our name.
        """
        if self.body_field and (last or self._first or theirs):
            editor.set((FIELD,), self.notice.happened(self.outcome()) if last else self.notice.planned())
        elif theirs:
            editor.set((FIELD,), None)

    def _read(self, at: int, choice: Any) -> list[Piece]:
        """Return the texts of a choice of a chunk. Raises UpstreamError for one that cannot be labelled."""
        if not isinstance(choice, dict):
            raise malformed("a choice that is not an object")
        pieces = self._texts(at, choice)
        if (state := self._choices.get(_index(choice, at))) and state.closed:
            for _, text in pieces:
                state.check(text)
        return pieces

    def _chunk_choice(
        self, editor: Editor, at: int, body: Mapping[str, Any], pieces: list[Piece], broken: bool
    ) -> bytes:
        """Edit one choice of a chunk; return the frames of our own that must stand before it."""
        choice = body["choices"][at]
        index = _index(choice, at)
        state = self._choice(index)
        edit = self._label_chunk(editor, at, choice, pieces, state)
        finish = reason(choice)
        if finish or broken or (state.text and calls(edit.delta)):
            edit.append(state.close())
        if finish and state.finish_reason is None:
            state.finish_reason = finish
            self._finished += 1
        edit.write(editor)
        return self._own_frame(index, edit.before, body) if edit.before else b""

    def _own_frame(
        self, index: int, text: str, beside: Mapping[str, Any] | None = None, said: dict[str, Any] | None = None
    ) -> bytes:
        """Return a frame that holds `text`, in the manner of the frame `beside` it, and our object where it is due."""
        chunk = dict(self._template if beside is None else _copied(beside))
        chunk["choices"] = [{"index": index, **self._piece(text), "logprobs": None, "finish_reason": None}]
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


def _index(choice: Mapping[str, Any], at: int) -> int:
    given = choice.get("index")
    return given if type(given) is int else at


def _copied(body: Mapping[str, Any]) -> dict[str, Any]:
    return {key: body[key] for key in COPIED if key in body}
