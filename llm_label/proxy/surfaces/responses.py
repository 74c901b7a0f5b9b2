"""Responses: the text sits in `output[]`, in the `output_text` parts of messages, in streams also in deltas.

Rules kept here (and measured against real clients):

- No event is added, none is taken away, and `sequence_number` stays: labels go into deltas that are there. Every
  event that repeats a text (text done, part done, item done, the response itself) repeats it labelled.
- Every `output_text` part of a message is a text of its own and carries all its labels. Clients show, replay and
  return messages one by one, often the last alone, and no stream tells which one will be the last.
- Messages of the phase `commentary`, reasoning, tool calls, refusals and whatever else is no message stay as they are.
- A text is labelled as a function of itself alone, so a retrieved or half finished response agrees with its stream.
- Indices of annotations are moved by the labels before them; logprobs stay: label text has none.

Nothing here does I/O.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_label.errors import LabelError, UpstreamError
from llm_label.labels.wording import POSITIONS
from llm_label.policy import Plan
from llm_label.proxy.jsonspan import Editor, Path, dumps
from llm_label.proxy.notice import Notice, Outcome
from llm_label.proxy.sse import Event, frame
from llm_label.proxy.surfaces.choice import TEXT_PARTS
from llm_label.proxy.surfaces.pattern import LESSONS, Pattern
from llm_label.proxy.surfaces.reading import FIELD, error_body, malformed, read
from llm_label.proxy.surfaces.responses_output import Output, is_labelled, object_of, string_of
from llm_label.proxy.surfaces.responses_queue import Citation, Held, Part, Piece, Queue, Ready, kind_of, place_of
from llm_label.proxy.surfaces.responses_request import NAME, clean, view

__all__ = ["NAME", "PATH", "Answer", "clean", "error_body", "view"]

PATH = "/v1/responses"

TERMINAL = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
CHANGING = ("sequence_number", "obfuscation")  # from delta to delta
UNFINISHED = ("queued", "in_progress", "cancelled")  # a response of this status may come without output


@dataclass
class Answer:
    """Mark one response, whole or as a stream. One object per response; raises UpstreamError for what it cannot read.

    `skip_through` is for a stream that a client takes up again (`starting_after`): the upstream is asked from the
    start, and events up to that sequence number are swallowed after they were read, so that the rest is the same.
    """

    plan: Plan
    notice: Notice
    n: int = 1
    body_field: bool = True
    skip_through: int | None = None
    failed: bool = False  # the upstream sent an error
    ended: bool = False  # a terminal event has passed
    _id: str | None = None
    _reason: str | None = None
    _number: int = -1  # the last sequence number
    _announced: bool = False  # the planned `llm_label` object was sent
    _silent: set[Any] = field(default_factory=set)  # output_index of messages that carry no label
    _parts: dict[tuple[Any, Any], Part] = field(default_factory=dict)  # (output_index, content_index)
    _pattern: tuple[Pattern, Part] | None = None  # of the event before, if it was a text delta
    _lessons: int = LESSONS  # how often it may still be learnt
    _output: Output = field(init=False)
    _queue: Queue = field(init=False)

    def __post_init__(self) -> None:
        self._output, self._queue = Output(self.plan), Queue(self.skip_through)

    def whole(self, raw: bytes) -> bytes:
        """Return the JSON answer with its marks."""
        body = read(raw)
        editor = Editor(raw)
        self.failed = bool(body.get("error"))
        if not isinstance(body.get("output"), list) and not (self.failed or body.get("status") in UNFINISHED):
            raise malformed("a response without a list as its output")
        self._write_response(editor, (), body)
        self._concluded(body)
        self._say_happened(editor, (), body)
        return editor.apply()

    def feed(self, event: Event) -> bytes:
        """Return the bytes that go to the client for one event of the stream, or for those that waited for it."""
        if event.data is None:
            # Clients of this API parse every dispatched event; one without data would end their stream.
            return event.raw if event.only_comments else b""
        if event.data.strip() == b"[DONE]":  # some servers end so; without a terminal event it is no end
            return event.raw if self.ended else b""
        body = read(event.data)
        kind = kind_of(body)
        if self.ended and (kind in HANDLERS or kind in TERMINAL):
            return b""  # text behind the end would have no label
        if kind == "response.created" and self.ended:
            self._restart()
        number = body.get("sequence_number")
        number = number if type(number) is int else None
        self._number = self._number if number is None else max(self._number, number)
        self._pattern = None
        return self._queue.put(self._handle(kind, event, body), number)

    def again(self, raw: bytes) -> bytes | None:
        """Return the bytes that go to the client for a text delta like the one before; None: it has to be parsed."""
        if self._pattern is None:
            return None
        pattern, part = self._pattern
        found = pattern.read(raw)
        if found is None or part.text.closed:
            return None
        text, number = found
        self._number = self._number if number is None else max(self._number, number)
        return self._queue.put(self._piece(pattern.event(raw), ("delta",), text, part), number)

    def finish(self) -> bytes:
        """Return what must follow when the upstream's bytes end; raises UpstreamError when they end too early."""
        if self.ended or self.failed:
            return self.flush()
        raise UpstreamError("the upstream's answer ended without response.completed", code="upstream_truncated")

    def flush(self) -> bytes:
        """Return pending text and labels of a stream that breaks off; the error frame comes after it."""
        self._close(lambda _: True)
        return self._queue.drain()

    def error_frame(self, error: LabelError) -> bytes:
        """Return an error as an event of the stream.

        Its fields stand both at the top, as documented, and in an `error` object, as the API really sends it: some
        clients read only the one, and openai-python raises only on the other.
        """
        nested = error_body(error)["error"]
        flat = {"code": error.code, "message": str(error), "param": None, "sequence_number": self._number + 1}
        body = {"type": "error", **flat, "error": nested}
        if self.body_field:
            body[FIELD] = self.notice.happened(self.outcome())
        return b"event: error\n" + frame(dumps(body))

    def outcome(self) -> Outcome:
        """Say what really happened so far."""
        output = self._output
        applied = {position for text in output.texts for position in text.applied}
        skipped = None if applied else self.plan.label_skipped or output.skipped(self.failed)
        return Outcome(
            label_applied=tuple(position for position in POSITIONS if position in applied),
            label_skipped=str(skipped) if skipped else None,
            upstream_id=self._id,
            finish_reasons=(self._reason,) if self._reason else (),
            choices=int(output.seen),
            labelled=int(bool(applied)),
        )

    def _restart(self) -> None:
        """Begin anew: a stream that brings a second response brings a second answer."""
        self.ended = self.failed = self._announced = False
        self._silent.clear()
        self._parts.clear()

    def _handle(self, kind: str | None, event: Event, body: Mapping[str, Any]) -> Held:
        if kind in TERMINAL:
            return self._terminal(event, body)
        if kind in HANDLERS:
            return HANDLERS[kind](self, event, body)
        response = body.get("response")
        return self._lifecycle(event, response) if isinstance(response, dict) else Ready(event.raw)

    # Events that bring text.

    def _delta(self, event: Event, body: Mapping[str, Any]) -> Held:
        piece = string_of(body.get("delta"), "a text delta")
        if self._is_silent(body):
            return Ready(event.raw)
        part = self._part(body)
        if self._lessons:
            self._lessons -= 1
            learnt = Pattern.of(event, ("delta",), piece, 0, CHANGING)
            self._pattern = (learnt, part) if learnt else None
        return self._piece(event, ("delta",), piece, part)

    def _piece(self, event: Event, path: Path, came: str, part: Part) -> Piece:
        part.last = Piece(event, path, part, came, part.text.feed(came))
        return part.last

    def _part_added(self, event: Event, body: Mapping[str, Any]) -> Held:
        part = object_of(body.get("part"), "a part")
        self._output.note(part)
        if part.get("type") not in TEXT_PARTS or self._is_silent(body):
            return Ready(event.raw)
        self._close_part(body)
        self._parts.pop(place_of(body), None)
        text = part.get("text")
        if not text:
            return Ready(event.raw)
        return self._piece(event, ("part", "text"), string_of(text, "a text part"), self._part(body))

    def _item_added(self, event: Event, body: Mapping[str, Any]) -> Held:
        index, item = place_of(body)[0], object_of(body.get("item") or {}, "an item")
        self._close(lambda key: key[0] == index)
        self._parts = {key: part for key, part in self._parts.items() if key[0] != index}
        if item.get("type") == "message" and not is_labelled(item):
            self._silent.add(index)
        else:
            self._silent.discard(index)
        editor = Editor(event.data or b"")
        self._output.write_item(editor, ("item",), item)
        return _edited(event, editor)

    # Events that repeat it.

    def _text_done(self, event: Event, body: Mapping[str, Any]) -> Held:
        self._close_part(body)
        editor = Editor(event.data or b"")
        if body.get("text") is not None and not self._is_silent(body):
            self._output.write(editor, ("text",), string_of(body["text"], "a finished text"))
        return _edited(event, editor)

    def _part_done(self, event: Event, body: Mapping[str, Any]) -> Held:
        part = object_of(body.get("part"), "a part")
        self._output.note(part)
        self._close_part(body)
        editor = Editor(event.data or b"")
        if not self._is_silent(body):
            self._output.write_part(editor, ("part",), part)
        return _edited(event, editor)

    def _item_done(self, event: Event, body: Mapping[str, Any]) -> Held:
        index, item = place_of(body)[0], object_of(body.get("item"), "an item")
        self._close(lambda key: key[0] == index)
        editor = Editor(event.data or b"")
        self._output.write_item(editor, ("item",), item)
        return _edited(event, editor)

    def _annotation(self, event: Event, body: Mapping[str, Any]) -> Held:
        part = self._parts.get(place_of(body))
        return Citation(event, part, body.get("annotation")) if part else Ready(event.raw)

    # Events about the response.

    def _lifecycle(self, event: Event, response: Mapping[str, Any]) -> Held:
        editor = Editor(event.data or b"")
        self._write_response(editor, ("response",), response)
        due = self.body_field and not self._announced
        # An object of that name from the upstream would speak in our name.
        if (due or FIELD in response) and not self.notice.yields(response):
            editor.set(("response", FIELD), self.notice.planned() if self.body_field else None)
        self._announced = True
        return _edited(event, editor)

    def _terminal(self, event: Event, body: Mapping[str, Any]) -> Held:
        response = object_of(body.get("response"), "a response")
        self._close(lambda _: True)
        self.ended = True
        self.failed = body.get("type") == "response.failed"
        editor = Editor(event.data or b"")
        self._write_response(editor, ("response",), response)
        self._concluded(response)
        self._say_happened(editor, ("response",), response)
        return _edited(event, editor)

    def _error(self, event: Event, body: Mapping[str, Any]) -> Held:
        self._close(lambda _: True)
        self.ended = self.failed = True
        editor = Editor(event.data or b"")
        self._say_happened(editor, (), body)
        return _edited(event, editor)

    def _write_response(self, editor: Editor, path: Path, response: Mapping[str, Any]) -> None:
        given = response.get("id")
        self._id = given if isinstance(given, str) and given else self._id
        self._output.write_response(editor, path, response)

    def _say_happened(self, editor: Editor, path: Path, into: Mapping[str, Any]) -> None:
        if (self.body_field or FIELD in into) and not self.notice.yields(into):
            editor.set((*path, FIELD), self.notice.happened(self.outcome()) if self.body_field else None)

    # The parts of the stream.

    def _part(self, body: Mapping[str, Any]) -> Part:
        """Return the part an event is about; one that was done and goes on is a text of its own again."""
        where = place_of(body)
        if where not in self._parts or self._parts[where].text.closed:
            self._parts[where] = Part(self._output.begin())
        return self._parts[where]

    def _close(self, which: Callable[[tuple[Any, Any]], bool]) -> None:
        for key, part in self._parts.items():
            if which(key) and not part.text.closed:
                part.close()
                self._output.end(part.text)

    def _close_part(self, body: Mapping[str, Any]) -> None:
        where = place_of(body)
        self._close(lambda key: key == where)

    def _is_silent(self, body: Mapping[str, Any]) -> bool:
        return place_of(body)[0] in self._silent

    def _concluded(self, response: Mapping[str, Any]) -> None:
        status, details = response.get("status"), response.get("incomplete_details")
        reason = details.get("reason") if isinstance(details, dict) else None
        self._reason = reason if isinstance(reason, str) else status if isinstance(status, str) else None
        self._output.seen = self._output.seen or not self.failed


HANDLERS: dict[str, Callable[[Answer, Event, Mapping[str, Any]], Held]] = {
    "response.output_text.delta": Answer._delta,
    "response.output_text.done": Answer._text_done,
    "response.content_part.added": Answer._part_added,
    "response.content_part.done": Answer._part_done,
    "response.output_item.added": Answer._item_added,
    "response.output_item.done": Answer._item_done,
    "response.output_text.annotation.added": Answer._annotation,
    "error": Answer._error,
}


def _edited(event: Event, editor: Editor) -> Ready:
    return Ready(event.with_data(editor.apply()) if editor.changed else event.raw)
