"""Anthropic Messages: the text sits in `content[].text` of blocks of type `text`, in streams in their `text_delta`s.

One labeler runs over all text blocks of an answer, as over one text. Thinking, tool calls, the results of server
tools and citations (whose offsets count in the sources, not in the answer) keep their bytes. Where the labels stand:

- start: in the first text block that is not blank. It comes after the thinking, which must lead a turn.
- end: in the last text block that is not blank, before its `content_block_stop`, where nothing but blank blocks
  follows it or where the next other block is a `tool_use`. Which block is the last shows only afterwards, so a stream
  holds the stop of a text block until the next event tells: one small event, and never text.
- An answer with text that would have no label at all, since something else follows its last text block and no label
  was planned before it, gets one in a text block of its own at the end. `clean` takes such a block out again.

Events that nobody edits keep their bytes, `ping` and unknown ones too. Nothing here does I/O.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_label.errors import LabelError, UpstreamError
from llm_label.policy import Plan
from llm_label.proxy.jsonspan import Editor
from llm_label.proxy.notice import Notice, Outcome
from llm_label.proxy.sse import Event
from llm_label.proxy.surfaces.choice import Choice, outcome
from llm_label.proxy.surfaces.messages_blocks import (
    block_of,
    delta_text,
    goes_on,
    is_tool,
    own_delta,
    own_event,
    reason_of,
    text_of,
)
from llm_label.proxy.surfaces.messages_error import error_body
from llm_label.proxy.surfaces.messages_request import NAME, clean, view
from llm_label.proxy.surfaces.pattern import LESSONS, Pattern
from llm_label.proxy.surfaces.reading import FIELD, malformed, read

__all__ = ["NAME", "PATH", "Answer", "clean", "error_body", "view"]

PATH = "/v1/messages"

BLOCK_EVENTS = ("content_block_start", "content_block_delta", "content_block_stop")
TEXT = ("delta", "text")  # where a `text_delta` holds it

Body = Mapping[str, Any]


@dataclass
class Answer:
    """Mark one answer, whole or as a stream. One object per response; raises UpstreamError for what it cannot read."""

    plan: Plan
    notice: Notice
    n: int = 1
    body_field: bool = True
    failed: bool = False  # the upstream sent an error object
    ended: bool = False  # `message_stop` has passed
    _turns: list[Choice] = field(default_factory=list)  # one, unless a stream begins its message anew
    _upstream_id: Any = None
    _held: list[tuple[Event, Body]] = field(default_factory=list)  # the stop of a text block, and blank blocks behind
    _place: int | None = None  # index of the last text block, while the end label may still go into it
    _open: int | None = None  # index of the text block that has begun
    _next: int = 0  # index of the next block
    _last: bool = False  # the closing `llm_label` object was sent
    _pattern: Pattern | None = None  # of the last event that brought text
    _lessons: int = LESSONS  # how often it may still be learnt
    _spare: Choice | None = None  # for the first turn: made while the upstream thinks

    def __post_init__(self) -> None:
        self._spare = Choice(self.plan.labeler())

    def whole(self, raw: bytes) -> bytes:
        """Return the JSON answer with its marks."""
        body = read(raw)
        editor = Editor(raw)
        self.failed = body.get("type") == "error"
        blocks = body.get("content")
        if not isinstance(blocks, list) and not (self.failed and blocks is None):
            raise malformed("an answer without a list of content blocks")
        self._upstream_id = body.get("id")
        if blocks or not self.failed:  # clients look at the status, and show what a 200 holds
            self._label_blocks(editor, blocks or [], body)
        if (self.body_field or FIELD in body) and not self.notice.yields(body):
            editor.set((FIELD,), self.notice.happened(self.outcome()) if self.body_field else None)
        return editor.apply()

    def feed(self, event: Event) -> bytes:
        """Return the bytes that go to the client for one event of the stream."""
        if event.data is None or event.data.strip() == b"[DONE]":
            return self._pass(event, {})
        body = read(event.data)
        kind = body.get("type")
        if kind in ("error", "message_start", "message_delta", "message_stop") or body.get("error"):
            return self._message(event, body, "error" if body.get("error") else str(kind))
        self._check(body)
        if kind == "content_block_start" and block_of(body).get("type") == "tool_use":
            return self._end() + self._live(event, body)
        if self._held and not goes_on(body):
            return self._pass(event, body)
        return self._release() + self._live(event, body)

    def again(self, raw: bytes) -> bytes | None:
        """Return the bytes that go to the client for a `text_delta` like the one before; None: it has to be parsed."""
        pattern = self._pattern
        if pattern is None or self._held or self._turn.closed or (found := pattern.read(raw)) is None:
            return None
        return self._write(pattern.event(raw), TEXT, found[0], pattern.index)

    def finish(self) -> bytes:
        """Return what must follow when the upstream's bytes end; raises UpstreamError when they end too early."""
        if self.ended or self.failed or (self._turns and self._turns[-1].finish_reason):
            return self.flush()
        raise UpstreamError("the upstream's answer ended without a stop_reason", code="upstream_truncated")

    def flush(self) -> bytes:
        """Return pending text and labels of a stream that breaks off; the error frame comes after it."""
        return self._end(alone=True)

    def error_frame(self, error: LabelError) -> bytes:
        """Return an error as an event of the stream: SDKs raise it."""
        body = error_body(error)
        if self.body_field:
            body[FIELD] = self.notice.happened(self.outcome())
        return own_event("error", body)

    def outcome(self) -> Outcome:
        """Say what really happened so far."""
        return self._of(self._turns)

    def _of(self, turns: list[Choice]) -> Outcome:
        return outcome(self.plan, turns, failed=self.failed, upstream_id=self._upstream_id)

    @property
    def _turn(self) -> Choice:
        if not self._turns:
            self._begin()
        return self._turns[-1]

    def _begin(self, blocks: int = 0) -> None:
        self._turns.append(self._spare or Choice(self.plan.labeler()))
        self._spare = None
        self._next, self._last, self._pattern = blocks, False, None

    # Whole answers.

    def _label_blocks(self, editor: Editor, blocks: list[Any], body: Body) -> None:
        """Go through the blocks by the rules of the stream: what it holds is here the blank blocks of `blank`."""
        turn, new, blank = self._turn, dict[int, str](), list[int]()
        for k, block in enumerate(blocks):
            text = text_of(block)
            if text is not None and not text.strip() and self._place is not None:
                blank.append(k)
                continue
            if block.get("type") == "tool_use":
                self._tail(new)
            else:
                new |= {at: turn.feed(blocks[at]["text"]) + turn.settle() for at in blank}
            blank.clear()
            if text is not None:
                new[k] = turn.feed(text) + turn.settle()
                self._place = k if text.strip() else None
            else:
                turn.tools, self._place = turn.tools or is_tool(block), None
        turn.finish_reason = reason_of(body)
        turn.refusal = turn.finish_reason == "refusal"
        self._tail(new)
        for k, text in new.items():
            if text != blocks[k]["text"]:
                editor.set(("content", k, "text"), text, blocks[k]["text"])
        if extra := self._extra():
            editor.append(("content",), {"type": "text", "text": extra})

    def _tail(self, new: dict[int, str]) -> None:
        if self._place is not None:
            new[self._place] += self._turn.close()
        self._place = None

    # Streams: events about the message, then events about its blocks.

    def _message(self, event: Event, body: Body, kind: str) -> bytes:
        editor = Editor(event.data or b"")
        if kind == "message_start":
            message = body.get("message")
            content = (message.get("content") or []) if isinstance(message, dict) else None
            if not isinstance(message, dict) or not isinstance(content, list) or any(map(text_of, content)):
                raise malformed("a message_start without a message, or with text of its own")
            before = self._end(alone=True) if self._turns else b""
            self._begin(len(content))
            self.ended = False
            self._upstream_id = self._upstream_id or message.get("id")
            self._say(editor, ("message", FIELD), message, self.notice.planned())
            return before + _edited(event, editor)
        if kind == "message_delta" and not self._stop_reason(body):
            return self._pass(event, body)
        self.failed = self.failed or kind == "error"
        before = self._end(alone=True)
        said = None if self._last and kind != "error" else self.notice.happened(self._of(self._turns[-1:]))
        self._say(editor, (FIELD,), body, said)
        self._last, self.ended = True, self.ended or kind == "message_stop"
        return before + _edited(event, editor)

    def _say(self, editor: Editor, path: tuple[str, ...], there: Body, said: dict[str, Any] | None) -> None:
        """Put our object at `path`; one from the upstream is replaced: it would speak in our name."""
        if ((self.body_field and said) or FIELD in there) and not self.notice.yields(there):
            editor.set(path, said if self.body_field else None)

    def _stop_reason(self, body: Body) -> bool:
        delta = body.get("delta")
        reason = reason_of(delta) if isinstance(delta, dict) else None
        if reason:
            self._turn.finish_reason, self._turn.refusal = reason, reason == "refusal"
        return reason is not None

    def _pass(self, event: Event, body: Body) -> bytes:
        if not self._held:
            return event.raw
        self._held.append((event, body))
        return b""

    def _release(self) -> bytes:
        """Send what was held: the answer goes on, and its end label is not due yet."""
        held, self._held = self._held, []
        return b"".join(event.raw if at == 0 else self._live(event, body) for at, (event, body) in enumerate(held))

    def _check(self, body: Body) -> None:
        """Raise UpstreamError for an event about a block that cannot be read, before anything held is let go."""
        kind = body.get("type")
        if kind in BLOCK_EVENTS and type(body.get("index")) is not int:
            raise malformed(f"{kind} without an index")

    def _live(self, event: Event, body: Body) -> bytes:
        """Mark an event about a block."""
        kind, index = body.get("type"), body.get("index")
        if kind not in BLOCK_EVENTS or type(index) is not int:  # `_check` has refused the latter
            return event.raw
        self._next = max(self._next, index + 1)
        if kind == "content_block_start":
            return self._block_starts(event, block_of(body), index)
        if kind == "content_block_stop":
            return self._block_stops(event, body, index)
        text = delta_text(body)
        if text is None:
            return event.raw
        if self._lessons:
            self._lessons -= 1
            self._pattern = Pattern.of(event, TEXT, text, index)
        return self._write(event, TEXT, text, index)

    def _block_starts(self, event: Event, block: Body, index: int) -> bytes:
        text = text_of(block)
        before = b"" if self._open is None else own_delta(self._open, self._turn.settle())  # its stop is missing
        self._open = None
        if text is None:
            self._place, self._turn.tools = None, self._turn.tools or is_tool(block)
            return before + event.raw
        self._open = index
        return before + self._write(event, ("content_block", "text"), text, index)

    def _block_stops(self, event: Event, body: Body, index: int) -> bytes:
        if index != self._open:
            return event.raw
        self._open = None
        rest = own_delta(index, self._turn.settle())
        if self._place != index or not self._turn.due:
            return rest + event.raw
        self._held = [(event, body)]
        return rest

    def _write(self, event: Event, path: tuple[str, ...], text: str, index: int) -> bytes:
        new = self._turn.feed(text)
        if text and not text.isspace():
            self._place = index
        if new == text:
            return event.raw
        editor = Editor(event.data or b"")
        editor.set(path, new, text)
        return event.with_data(editor.apply())

    def _end(self, *, alone: bool = False) -> bytes:
        """Write the end label where the text ended, or, if `alone`, in a block of its own where there is none."""
        if not self._turns:
            return b""
        out = b"" if self._place is None else own_delta(self._place, self._turn.close())
        if self._open is not None:  # a blank block without its stop
            out += own_delta(self._open, self._turn.settle())
        out += b"".join(event.raw for event, _ in self._held)
        self._held, self._place = [], None
        if alone and (extra := self._extra()):
            block = {"type": "text", "text": ""}
            out += own_event("content_block_start", {"index": self._next, "content_block": block})
            out += own_delta(self._next, extra)
            out += own_event("content_block_stop", {"index": self._next})
            self._next += 1
        return out

    def _extra(self) -> str:
        """Return the label of an answer that has text, and no label, and no text block left to hold it."""
        turn = self._turn
        return turn.close() if turn.text and not turn.applied else ""


def _edited(event: Event, editor: Editor) -> bytes:
    return event.with_data(editor.apply()) if editor.changed else event.raw
