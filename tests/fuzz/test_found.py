"""What the fuzzer found, each made small and written anew."""

import json
import time
from typing import Any

import pytest

from llm_label.errors import UpstreamError
from llm_label.labels.history import clean_text
from llm_label.labels.labeler import strip
from llm_label.policy import RequestView
from llm_label.proxy.jsonspan import loads
from llm_label.proxy.marking import Marking
from llm_label.proxy.surfaces import chat, messages, responses
from llm_label.proxy.surfaces.surface import Surface
from tests.fuzz.reader import Reader, split
from tests.proxy import marking

L = "AI生成"
BOTH = marking.policy(positions=("start", "end"), texts={"zh": L})
CALL = {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}


def data(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def chunk(finish: str | None = None, **choice: Any) -> bytes:
    return data({"id": "c", "choices": [{"index": 0, "finish_reason": finish, **choice}]})


def passed(stream: bytes, surface: Surface) -> tuple[bytes, Exception | None]:
    """Return what goes out, without the error frame, and why it broke."""
    answer = marking.answer(BOTH, RequestView(surface.NAME, stream=True), surface=surface)
    one = Marking(answer, untouched=False, fail_open=False)
    out = one.feed(stream)
    out += b"" if one.broke else one.end()
    return out + (answer.flush() if one.broke else b""), one.broke


def text(out: bytes, api: str) -> str:
    reader = Reader(api)
    for raw, said in split(out):
        if said is not None:
            reader.feed(raw, said)
    return "".join(reader.texts.values())


def test_text_behind_the_end_of_a_whole_message_is_refused() -> None:
    """The label stood in the message, and what follows in a delta has none."""
    stream = chunk("stop", delta={}, message={"content": "One."}) + chunk(delta={"content": " Two."})
    out, broke = passed(stream, chat)
    assert isinstance(broke, UpstreamError)
    assert b"Two." not in out


@pytest.mark.parametrize("rest", ["\nThen this.", " then this.", "\n\n  Then this.", "Then this.", "\n"])
def test_text_behind_a_tool_call_can_be_restored(rest: str) -> None:
    """The end label had to stand before the tool call; what follows may begin with white space."""
    stream = chunk(delta={"content": "I look."}) + chunk(delta=CALL) + chunk(delta={"content": rest})
    out, broke = passed(stream + chunk("tool_calls", delta={}) + b"data: [DONE]\n\n", chat)
    labelled = text(out, "chat")
    assert broke is None
    assert labelled.startswith(f"{L}\n\nI look.\n\n{L}")
    if rest.strip():
        assert strip(labelled, BOTH.known) == f"I look.{rest}"


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text"}},
        {"type": "message_start", "message": {"content": [{"type": "text", "text": "x"}]}},
    ],
)
def test_what_a_message_holds_back_is_sent_before_it_breaks(bad: dict[str, Any]) -> None:
    held = {"type": "content_block_stop", "index": 0}
    events = [
        {"type": "message_start", "message": {"id": "m", "content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
    ]
    out, broke = passed(b"".join(map(data, [*events, held, bad])), messages)
    assert isinstance(broke, UpstreamError)
    assert data(held) in out
    assert text(out, "messages") == f"{L}\n\nHello.\n\n{L}"


@pytest.mark.parametrize("bad", [[], {"index": 1, "delta": {"content": 5}}, {"index": 0, "message": {"content": 5}}])
def test_of_a_frame_that_is_refused_nothing_counts(bad: Any) -> None:
    """Its label was said to be applied, and came out alone."""
    good = {"index": 0, "delta": {"content": "Hello."}, "finish_reason": "stop"}
    answer = marking.answer(BOTH, RequestView("chat", stream=True))
    one = Marking(answer, untouched=False, fail_open=False)
    out = one.feed(data({"id": "c", "choices": [good, bad]})) + answer.flush()
    assert isinstance(one.broke, UpstreamError)
    assert (out, answer.outcome().labelled) == (b"", 0)


@pytest.mark.parametrize("marks", [1, 2, 3])
@pytest.mark.parametrize("surface", [chat, messages], ids=["chat", "messages"])
def test_no_byte_order_mark_hides_text(surface: Surface, marks: int) -> None:
    """A client takes one mark off what it gets."""
    body = {
        "chat": {"choices": [{"index": 0, "delta": {"content": "Hello."}, "finish_reason": "stop"}]},
        "messages": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
    }[surface.NAME]
    out, _ = passed(b"\xef\xbb\xbf" * marks + data(body), surface)
    assert "Hello." not in text(out, surface.NAME) or text(out, surface.NAME).startswith(L)


def test_a_message_that_never_began_may_end() -> None:
    """What stood behind its end began it anew, and so it was said to have no end."""
    text_block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "Hello."}}
    out, broke = passed(data({"type": "message_stop"}) + data(text_block), messages)
    assert broke is None
    assert json.dumps(f"{L}\n\nHello.", ensure_ascii=False).encode() in out


def test_nan_is_no_json_with_and_without_escapes() -> None:
    for raw in (b'{"a": NaN}', b'{"\\u0061": NaN}', b'{"\\u0061": -Infinity}'):
        with pytest.raises(ValueError, match=r"."):
            loads(raw)


MANY = 1500
CITED = [{"type": "url_citation", "start_index": at, "end_index": at + 4} for at in range(MANY)]
PART = {"type": "output_text", "text": "word " * MANY, "annotations": CITED}
LARGE = {
    "choices": (chat, {"choices": [{"index": at, "message": {"content": "Hi."}} for at in range(MANY)]}),
    "items": (responses, {"output": [{"type": "message", "content": [{**PART, "text": f"Hi {at}.", "annotations": []}]}
                                     for at in range(MANY)]}),
    "citations": (responses, {"output": [{"type": "message", "content": [PART]}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_a_large_answer_is_marked_in_one_walk(name: str) -> None:
    """It took the square of the number of labels: half a minute for each of these."""
    surface, body = LARGE[name]
    began = time.thread_time()
    out = marking.answer(BOTH, surface=surface).whole(json.dumps(body).encode())
    assert time.thread_time() - began < 3
    assert json.loads(out)["llm_label"]["label"]["applied"] == ["start", "end"]


def test_a_request_full_of_labels_is_cleaned_in_time() -> None:
    """It took the square of the number of labels: a quarter of a minute for this one."""
    began = time.thread_time()
    clean_text(f"a.\n\n{L}\n\n" * 4000, BOTH.known)
    assert time.thread_time() - began < 5
