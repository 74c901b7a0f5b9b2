"""Nothing of ours follows an error or the end of a stream, and no client reads a line that we did not."""

import json
from typing import Any

import pytest

from llm_label.errors import UpstreamError
from llm_label.policy import Policy, RequestView
from llm_label.proxy import sse
from llm_label.proxy.marking import Marking
from llm_label.proxy.surfaces import chat, completions, messages, responses
from llm_label.proxy.surfaces.surface import Surface
from tests.proxy import marking

L = "AI生成"
START = marking.policy(positions=("start",), texts={"zh": L})
END = marking.policy(positions=("end",), texts={"zh": L})
BOM = b"\xef\xbb\xbf"


def data(body: Any) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def passed(chunks: list[bytes], surface: Surface, policy: Policy = START) -> tuple[list[bytes], Marking]:
    """Return the data that a client gets in the end, errors of ours included."""
    answer = marking.answer(policy, RequestView(surface.NAME, stream=True), surface=surface)
    one = Marking(answer, untouched=False, fail_open=False)
    out = b"".join(one.feed(chunk) for chunk in chunks if not one.broke) + one.end()
    out += one.broken_off(one.broke) if one.broke else b""  # type: ignore[arg-type]
    return [event.data for event in sse.Parser().feed(out) if event.data is not None], one


TEXT = {
    "chat": data({"choices": [{"index": 0, "delta": {"content": "春"}, "finish_reason": None}]}),
    "completions": data({"choices": [{"index": 0, "text": "春", "finish_reason": None}]}),
    "responses": data({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "春"}),
    "messages": data({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "春"}}),
}
ERROR = {name: data({"error": {"message": "gone"}}) for name in TEXT} | {
    "messages": data({"type": "error", "error": {"type": "overloaded_error", "message": "gone"}})
}
OVER = {
    "chat": data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n",
    "completions": data({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}) + b"data: [DONE]\n\n",
    "responses": data({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}}),
    "messages": data({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}) + data({"type": "message_stop"}),
}
SURFACES = [chat, completions, responses, messages]
# What each surface refuses while the answer runs: no JSON, no object, no shape that it knows.
JUNK = [(surface, raw) for surface in SURFACES for raw in (b"data: {half\n\n", b"data: []\n\n")] + [
    (chat, data({"choices": 5})),
    (completions, data({"choices": 5})),
    (responses, data({"delta": 5})),
    (messages, data({"type": "content_block_delta", "delta": 5})),
]


@pytest.mark.parametrize(("surface", "junk"), JUNK)
def test_junk_is_refused_while_the_answer_runs(surface: Surface, junk: bytes) -> None:
    _, one = passed([TEXT[surface.NAME], junk], surface)
    assert isinstance(one.broke, UpstreamError) and one.broke.code == "upstream_malformed"


@pytest.mark.parametrize(("surface", "junk"), JUNK)
def test_an_error_is_told_once(surface: Surface, junk: bytes) -> None:
    """SDKs raise at the upstream's error; one of ours behind it would be told to those alone that read on."""
    name = surface.NAME
    got, one = passed([TEXT[name], ERROR[name], junk], surface)
    assert one.broke is None and one.answer.failed
    assert [b'"gone"' in frame for frame in got] == [False] * (len(got) - 1) + [True]


@pytest.mark.parametrize(("surface", "junk"), JUNK)
def test_an_answer_that_is_complete_does_not_fail_afterwards(surface: Surface, junk: bytes) -> None:
    """SDKs read on behind `response.completed` and `message_stop`, and would throw the whole answer away."""
    name = surface.NAME
    whole, _ = passed([TEXT[name], OVER[name]], surface)
    got, one = passed([TEXT[name], OVER[name], junk, junk], surface)
    assert one.broke is None
    assert got == whole


def test_an_end_that_cannot_be_read_is_no_end() -> None:
    """It sets the answer to ended before its output is looked at, and must not pass for one that came behind the end."""
    end = {"type": "response.completed", "response": {"id": "r", "output": [5]}}
    _, one = passed([TEXT["responses"], data(end)], responses)
    assert isinstance(one.broke, UpstreamError) and one.broke.code == "upstream_malformed"


def test_text_that_no_label_can_reach_behind_an_error_is_left_out() -> None:
    blank = data({"choices": [{"index": 0, "delta": {"content": " "}, "finish_reason": None}]})
    got, one = passed([blank, ERROR["chat"], TEXT["chat"], b"data: [DONE]\n\n"], chat, END)
    assert one.broke is None
    assert not any("春".encode() in frame for frame in got)
    assert got[-1] == b"[DONE]"


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.NAME)
def test_a_line_behind_a_byte_order_mark_reaches_nobody(surface: Surface) -> None:
    """Both SDKs for node decode line by line, and each time take off a mark: they read what others pass over."""
    hidden = TEXT[surface.NAME].replace("春".encode(), "夏".encode())
    event = b"event: content_block_delta\n" + BOM + hidden
    answer = marking.answer(START, RequestView(surface.NAME, stream=True), surface=surface)
    one = Marking(answer, untouched=False, fail_open=False)
    body = TEXT[surface.NAME] + event + TEXT[surface.NAME]
    assert "夏".encode() not in one.feed(body) + one.end() + answer.flush()


def test_no_output_begins_with_a_byte_order_mark() -> None:
    """An event without data is dropped here; behind it a mark would stand first, where every client takes it off."""
    answer = marking.answer(START, RequestView("chat", stream=True), surface=chat)
    one = Marking(answer, untouched=False, fail_open=False)
    out = one.feed(b"event: x\n\n" + BOM + b"data: {}\n" + TEXT["chat"])
    assert out.startswith(b"data: {") and BOM not in out
    assert f"{L}\\n\\n春".encode() in out


def test_an_error_object_that_holds_an_answer_is_labelled() -> None:
    """Clients go by the status: of a 200 they show the content, whatever its type says."""
    body = {"type": "error", "content": [{"type": "text", "text": "春"}]}
    out = marking.answer(START, surface=messages).whole(json.dumps(body).encode())
    assert json.loads(out)["content"][0]["text"] == f"{L}\n\n春"


def test_a_second_message_of_a_stream_tells_of_itself() -> None:
    """It told of all before it as well, which took the square of their number."""
    begin = data({"type": "message_start", "message": {"id": "m", "content": []}})
    got, _ = passed([begin, TEXT["messages"], OVER["messages"], begin, OVER["messages"]], messages)
    told = [body["llm_label"]["label"] for frame in got if "llm_label" in (body := json.loads(frame))]
    assert [one["applied"] for one in told] == [["start"], []]
    assert told[1]["skipped"] == "empty"
