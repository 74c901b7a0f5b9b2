"""The event-stream grammar on bytes: every cut, every line end."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_label.errors import UpstreamError
from llm_label.proxy.sse import Event, Parser, frame


def parse(chunks: list[bytes]) -> tuple[list[Event], bytes]:
    parser = Parser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events, parser.finish()


def cuts(body: bytes, seed: int) -> list[bytes]:
    points = sorted(random.Random(seed).sample(range(len(body) + 1), min(5, len(body))))
    return [body[a:b] for a, b in zip([0, *points], [*points, len(body)], strict=True)]


CASES = {
    "lf": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "cr": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "mixed": (b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"]),
    "no space": (b"data:a\n\ndata:{\n\n", [b"a", b"{"]),
    "two spaces": (b"data:  a\n\n", [b" a"]),
    "two data lines": (b"data: a\ndata: b\n\n", [b"a\nb"]),
    "comment between": (b": ping\n\ndata: a\n\n", [b"a"]),
    "comment inside": (b"data: a\n: note\ndata: b\n\n", [b"a\nb"]),
    "event and id": (b"event: x\nid: 3\ndata: a\n\n", [b"a"]),
    "line separator is text": ("data: a\u2028b\u0085c\n\n".encode(), ["a\u2028b\u0085c".encode()]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "extra blank lines": (b"\n\ndata: a\n\n\n\ndata: b\n\n", [b"a", b"b"]),
    "field without colon": (b"data\n\n", [b""]),
}


@pytest.mark.parametrize("name", CASES)
def test_every_cut_gives_the_same_events_and_bytes(name: str) -> None:
    body, expected = CASES[name]
    for at in range(len(body) + 1):
        for chunks in ([body[:at], body[at:]], [bytes([b]) for b in body]):
            events, rest = parse(chunks)
            assert [e.data for e in events if e.data is not None] == expected
            assert b"".join(e.raw for e in events) + rest == body.removeprefix(b"\xef\xbb\xbf")


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    st.lists(st.sampled_from([b"data: x", b"data:y", b": c", b"id: 1", b"\r\n", b"\n", b"\r", b"\n\n", b"\r\n\r\n"])),
    st.integers(0, 10_000),
)
def test_no_byte_is_lost_and_cuts_do_not_matter(parts: list[bytes], seed: int) -> None:
    body = b"".join(parts)
    whole, rest = parse([body])
    cut, cut_rest = parse(cuts(body, seed))
    assert b"".join(e.raw for e in whole) + rest == body == b"".join(e.raw for e in cut) + cut_rest
    assert [e.data for e in whole if e.data is not None] == [e.data for e in cut if e.data is not None]


def test_edited_events_keep_their_other_lines_and_line_ends() -> None:
    (event,), _ = parse([b"event: x\r\ndata: old\r\nid: 7\r\n\r\n"])
    assert event.with_data(b"new") == b"event: x\r\ndata: new\r\nid: 7\r\n\r\n"
    (event,), _ = parse([b"data:{\ndata:}\n\n"])
    assert event.with_data(b"{\n1}") == b"data:{\ndata:1}\n\n"


def test_unended_bytes_come_back_at_the_end() -> None:
    events, rest = parse([b'data: a\n\ndata: {"x'])
    assert [e.data for e in events] == [b"a"]
    assert rest == b'data: {"x'


def test_an_event_without_end_is_refused_at_the_limit() -> None:
    parser = Parser(max_event=1000)
    with pytest.raises(UpstreamError, match="more than 1000 bytes"):
        for _ in range(100):
            parser.feed(b"data: " + b"x" * 100)


def test_frame_is_read_back() -> None:
    (event,), rest = parse([frame(b"{}")])
    assert (event.data, rest) == (b"{}", b"")
