"""Streams: whatever an upstream sends, and however it is cut, the laws hold for what the client gets."""

import re
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from llm_label.errors import UpstreamError
from llm_label.labels.labeler import strip
from llm_label.proxy.marking import Marking
from tests.fuzz.bare import own
from tests.fuzz.case import Case
from tests.fuzz.reader import MARKED_LINE, MARKS, Reader, split

__all__ = ["check"]

LONGEST = 400  # characters that the marks of one text may add, closing lines and all,
CLOSING = 12  # but for those of HTML, of which there may be as many as tags
SECONDS, SECONDS_PER_BYTE = 2.0, 100e-6  # of CPU; what grows too fast shows in `growth`


@dataclass
class Passed:
    """What a client got, and how it ended."""

    out: bytes
    error: bytes  # the frame that tells it of an error
    broke: str | None
    opened: bool
    outcome: Any
    code: str | None
    fed: int  # pieces until it broke


def check(data: bytes) -> None:
    """Raise AssertionError unless the laws hold for the stream in `data`."""
    case = Case.of(data)
    began = time.thread_time()
    whole = _pass(case, [case.body])
    took = time.thread_time() - began
    assert took < SECONDS + SECONDS_PER_BYTE * len(case.body), f"{took:.1f} s of CPU for {len(case.body)} bytes"
    events = split(case.body)
    byevent = _pass(case, _event_by_event(case.body, events))
    for other in (byevent, *(_pass(case, pieces) for pieces in case.cuts(case.body))):
        assert (other.broke, other.opened) == (whole.broke, whole.opened), "the cutting decides how it ends"
        assert _lines(other.out) == _lines(whole.out), "the cutting shows in the output"
        assert other.error == whole.error, "the cutting shows in the error"
        assert other.outcome == whole.outcome, "the cutting shows in the outcome"
    fed = min(byevent.fed, len(events))
    if byevent.fed > len(events) and byevent.code not in (None, "upstream_truncated"):
        fed -= 1  # the last event lacked its blank line, and was looked at only in the end
    _compare(case, whole, events[:fed])


def _pass(case: Case, pieces: Iterable[bytes]) -> Passed:
    answer = case.answer(stream=True)
    marking, broken = Marking(answer, untouched=False, fail_open=case.fail_open), _flushing_aloud(answer)
    out, fed = [], 0
    for piece in pieces:
        out.append(marking.feed(piece))
        if marking.broke:
            break
        fed += 1
    if not marking.broke:
        out.append(marking.end())
    error = b""
    if marking.broke:
        assert isinstance(marking.broke, UpstreamError), repr(marking.broke)
        error = answer.error_frame(marking.broke)
        pending = marking.broken_off(marking.broke)
        assert not broken, repr(broken[0])
        error = error if pending.endswith(error) else answer.error_frame(marking.broke)
        assert pending.endswith(error), "the error frame is not the last thing that is said"
        out.append(pending.removesuffix(error))
    told, code = (str(marking.broke), getattr(marking.broke, "code", "")) if marking.broke else (None, None)
    return Passed(b"".join(out), error, told, marking.opened is not None, answer.outcome(), code, fed)


def _flushing_aloud(answer: Any) -> list[Exception]:
    """Let an answer's `flush`, whose mistakes nobody hears of, tell them; return the list that they will stand in."""
    flush, heard = answer.flush, list[Exception]()

    def told() -> bytes:
        try:
            return bytes(flush())
        except Exception as error:
            heard.append(error)
            raise

    answer.flush = told
    return heard


def _lines(out: bytes) -> list[tuple[bytes, bytes | None]]:
    """Return the events of a stream; how many empty lines stand between them may depend on the cutting."""
    return [(raw.rstrip(b"\r\n"), data) for raw, data in split(out + b"\n\n") if raw.strip(b"\r\n")]


def _event_by_event(body: bytes, events: list[tuple[bytes, bytes | None]]) -> list[bytes]:
    """Cut between events; half an event at the end is a piece as well, be it empty."""
    mark = MARKS.match(body)[0]
    raws = [raw for raw, _ in events]
    rest = body[len(mark) + sum(map(len, raws)) :]
    return [mark + raws[0], *raws[1:], rest] if raws else [body]


def _compare(case: Case, passed: Passed, events: list[tuple[bytes, bytes | None]]) -> None:
    """Hold what came out against what the upstream said before it broke."""
    theirs, ours, known = Reader(case.api), Reader(case.api), case.policy.known
    if passed.opened:  # from some event on, bytes passed as they were, and only their order can be told
        return _same_order([raw for raw, data in events if data is not None], passed.out)
    for raw, data in events:
        if data is not None:
            theirs.feed(raw, data)
    assert not MARKED_LINE.search(passed.out), "a line that some clients read and others do not"
    for raw, data in split(passed.out):
        assert data is not None or case.api == "messages" or not raw.strip(b"\r\n") or raw.startswith(b":"), raw
        if data is not None:
            ours.feed(raw, data)
    assert not (passed.error and (ours.failed or ours.ended)), "an error behind an error, or behind the end"
    _same_frames(case.api, theirs, ours)
    labels, lenient = case.labels_due(stream=True), case.unless_json(stream=True)
    for key in theirs.texts.keys() | ours.texts.keys():
        same_text(theirs.texts[key], ours.texts[key], known)
        if labels:
            labelled(ours.texts[key], known)
        elif not lenient:
            assert theirs.texts[key] == ours.texts[key], "a text changed that gets no label"
    for text in ours.late.values() if labels else ():
        labelled(text, known)
    assert len(theirs.repeated) == len(ours.repeated)
    for came, goes in zip(theirs.repeated, ours.repeated, strict=True):
        same_text(came, goes, known)
        if labels:
            labelled(goes, known)
    for came, goes in zip(theirs.joined, ours.joined, strict=True):
        loosely_same(came, goes)
    if passed.outcome.label_applied:
        texts = [*ours.texts.values(), *ours.repeated, *ours.joined, *ours.late.values()]
        assert any(label in text for text in texts for label in known), "says that it labelled, and did not"


def _same_frames(api: str, theirs: Reader, ours: Reader) -> None:
    at = 0
    for frame in ours.frames:
        if at < len(theirs.frames) and frame.bare == theirs.frames[at].bare:
            at += 1
        else:
            told = theirs.frames[at].raw if at < len(theirs.frames) else b"nothing"
            assert own(api, frame.body), f"{frame.raw!r} came out where the upstream said {told!r}"
    missing = theirs.frames[at:]
    assert not missing, f"{len(missing)} frames are missing, the first is {missing[0].raw!r}"


def _same_order(raws: list[bytes], out: bytes) -> None:
    at = 0
    for raw in raws[-1:]:
        at = out.find(raw.strip(b"\r\n"), at)
        assert at >= 0, f"{raw!r} is missing"


def same_text(came: str, goes: str, known: Collection[str]) -> None:
    """Raise AssertionError unless `goes` is `came` with labels."""
    if came == goes:
        return
    if any(label in came for label in known):
        return loosely_same(came, goes)
    if any(re.search(rf"\n\S+ \n\n{re.escape(label)}\n\n\n", goes) for label in known if label in goes):
        # A fence was open where a tool call came: it was closed for the end label, and no way leads back from there.
        return loosely_same(came, goes)
    stripped = goes
    while (once := strip(stripped, known)) != stripped:
        stripped = once
    # Blank blocks may follow the one that took the end label.
    tail = came[len(came.rstrip()) :]
    restored = stripped == came or strip(goes.rstrip(), known) + tail == came
    restored = restored or strip(goes[: len(goes) - len(tail)], known) + tail == came
    # White space that comes behind a finish_reason stands behind the end label.
    restored = restored or strip(goes.rstrip(), known).rstrip() == came.rstrip() and loosely_same(came, goes) is None
    assert restored, f"{came!r} came, {goes!r} went out"


def loosely_same(came: str, goes: str, most: int | None = None) -> None:
    """Raise AssertionError unless nothing of `came` was lost or moved, and at most that many characters were added."""
    most = LONGEST + CLOSING * came.count("<") if most is None else most
    at = 0
    for letter in came:
        at = goes.find(letter, at) + 1
        assert at, f"{came!r} came, {goes!r} went out"
    assert len(goes) - len(came) <= most, f"{came!r} came, {goes!r} went out"


def labelled(text: str, known: Collection[str]) -> None:
    """Raise AssertionError for text that people read and that has no label."""
    assert not text.strip() or any(label in text for label in known), f"no label in {text!r}"
