"""An event that is known again goes out as if it had been parsed: any frames, any bytes in them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_label.proxy.marking import Marking
from llm_label.proxy.sse import Event
from llm_label.proxy.surfaces import chat, completions, messages, responses
from llm_label.proxy.surfaces.pattern import Pattern
from llm_label.proxy.surfaces.surface import Surface
from tests.proxy import marking

TEXTS = [
    "春",
    " day",
    "",
    "\n",
    "。\n\n",
    '"',
    "\\",
    "\\u0022",
    "é",
    "\u2028",
    "\x7f",
    '"},"x":{"a":"',
    "AI生成",
    "A",
    "0",
]


def _chat(text: str, number: int) -> bytes:
    delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return _frame({"id": "c", "created": number // 3, "choices": [delta], "obfuscation": "x" * (number % 3)})


def _completions(text: str, number: int) -> bytes:
    return _frame({"id": "c", "choices": [{"index": number % 2, "text": text, "finish_reason": None}]})


def _messages(text: str, number: int) -> bytes:
    body = {"type": "content_block_delta", "index": number // 9, "delta": {"type": "text_delta", "text": text}}
    return b"event: content_block_delta\n" + _frame(body)


def _responses(text: str, number: int) -> bytes:
    place = {"output_index": 0, "content_index": number // 9}
    return _frame({"type": "response.output_text.delta", **place, "delta": text, "sequence_number": number})


SHAPES: dict[str, tuple[Surface, Callable[[str, int], bytes]]] = {
    "chat": (chat, _chat),
    "completions": (completions, _completions),
    "messages": (messages, _messages),
    "responses": (responses, _responses),
}


def _frame(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def _passed(surface: Surface, frames: list[bytes], positions: tuple[str, ...], *, knowing: bool) -> tuple[Any, ...]:
    answer = marking.answer(marking.policy(positions=positions, middle_after=3), surface=surface)
    if not knowing:
        answer.again = lambda raw: None  # type: ignore[method-assign]
    marked = Marking(answer, untouched=False, fail_open=False)
    out = b"".join([*map(marked.feed, frames), marked.end()])
    return out, str(marked.broke), answer.flush(), answer.outcome()


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(TEXTS), min_size=4, max_size=24),
    st.sampled_from([("start",), ("end",), ("start", "middle", "end")]),
    st.lists(st.tuples(st.integers(0, 23), st.integers(0, 200), st.sampled_from(b'"\\\n{}0,:\x00\xff ')), max_size=3),
)
def test_what_is_known_again_goes_out_as_if_it_were_parsed(
    name: str, texts: list[str], positions: tuple[str, ...], spoilt: list[tuple[int, int, int]]
) -> None:
    surface, shape = SHAPES[name]
    frames = [shape(text, number) for number, text in enumerate(texts)]
    for at, place, byte in spoilt:
        if at < len(frames) and place < len(frames[at]):
            frames[at] = frames[at][:place] + bytes([byte]) + frames[at][place + 1 :]
    known = _passed(surface, frames, positions, knowing=True)
    assert known == _passed(surface, frames, positions, knowing=False)


@pytest.mark.parametrize("name", SHAPES)
def test_most_events_of_a_stream_are_known_again(name: str) -> None:
    surface, shape = SHAPES[name]
    answer = marking.answer(marking.policy(), surface=surface)
    again, known = answer.again, list[bytes]()

    def noted(raw: bytes) -> bytes | None:
        out = again(raw)
        known.extend([] if out is None else [out])
        return out

    answer.again = noted  # type: ignore[method-assign]
    marked = Marking(answer, untouched=False, fail_open=False)
    for number in range(60):
        marked.feed(shape(f"词{number}", 4))
    assert len(known) >= 50


@pytest.mark.parametrize("number", [b"007", b"-1", b"1.5", b"1e3", b"", b"9" * 30, b"null"])
def test_a_number_of_another_form_is_parsed(number: bytes) -> None:
    raw = _responses("a", 3)
    pattern = Pattern.of(Event(raw, raw[6:-2]), ("delta",), "a", 0, ("sequence_number",))
    assert pattern and pattern.read(raw) == ("a", 3)
    assert pattern.read(raw.replace(b":3}", b":" + number + b"}")) is None


@pytest.mark.parametrize("behind", [b": %b\n\n", b"id: %b\n\n", b"x%b\n\n"])
def test_an_event_with_more_behind_its_data_is_parsed(behind: bytes) -> None:
    data = _responses("a", 3)[6:-2]
    assert Pattern.of(Event(b"data: " + data + b"\n" + behind % data, data), ("delta",), "a", 0) is None


@pytest.mark.parametrize("before", [b"", b"event: e\n", b": comment\r\n", b"id: 1\r"])
def test_what_stands_before_the_data_belongs_to_the_pattern(before: bytes) -> None:
    data = _responses("a", 3)[6:-2]
    raw = before + b"data:" + data + b"\n\n"
    pattern = Pattern.of(Event(raw, data), ("delta",), "a", 0)
    assert pattern and pattern.read(raw) == ("a", None) and pattern.read(b"x" + raw) is None
    assert pattern.event(raw) == Event(raw, data)
