"""Where labels stand in Messages, case by case; every stream case is also cut at every byte."""

import json
from pathlib import Path
from typing import Any

import pytest

from llm_label.errors import ClientError, LabelError, NotOffered, Stopping, UpstreamError, UpstreamTimeout
from llm_label.labels.labeler import strip
from llm_label.policy import RequestView
from llm_label.proxy.jsonspan import dumps
from llm_label.proxy.sse import frame
from llm_label.proxy.surfaces import messages
from tests.proxy import marking
from tests.proxy.running import proxy, stream, whole
from tests.proxy.touch import events
from tests.proxy.touch_messages import blocks

L = "AI生成"
TEXTS = {"zh": L}
BOTH = marking.policy(positions=("start", "end"), texts=TEXTS)
START = marking.policy(positions=("start",), texts=TEXTS)
END = marking.policy(positions=("end",), texts=TEXTS)
MIDDLE = marking.policy(positions=("start", "middle", "end"), texts=TEXTS, middle_after=4)

TEXT = {"type": "text", "text": ""}
THINKING = {"type": "thinking", "thinking": "", "signature": ""}
TOOL = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
SEARCH = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}


def event(kind: str, **body: Any) -> bytes:
    return f"event: {kind}\n".encode() + frame(dumps({"type": kind, **body}))


BEGIN = event("message_start", message={"id": "m1", "role": "assistant", "content": [], "usage": {"input_tokens": 1}})
PING = event("ping")
STOP = event("message_stop")


def start(index: int, block: dict[str, Any]) -> bytes:
    return event("content_block_start", index=index, content_block=block)


def delta(index: int, text: str) -> bytes:
    return event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})


def stop(index: int) -> bytes:
    return event("content_block_stop", index=index)


def block(index: int, *texts: str) -> bytes:
    return start(index, TEXT) + b"".join(delta(index, text) for text in texts) + stop(index)


def ending(reason: str = "end_turn") -> bytes:
    return event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 3})


def run(parts: list[bytes], policy: Any = BOTH, view: RequestView | None = None) -> bytes:
    body = b"".join(parts)
    out = marking.stream([body], policy, view, surface=messages)
    for at in range(1, len(body)):
        assert marking.stream([body[:at], body[at:]], policy, view, surface=messages) == out, f"cut at {at}"
    return out


def bodies(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(e.data) for e in events(out) if e.data is not None]


def said(out: bytes) -> dict[str, Any]:
    """Return what our last object says about the label."""
    return next(b["llm_label"]["label"] for b in reversed(bodies(out)) if "llm_label" in b)


def texts(out: bytes) -> list[str | None]:
    return [b.get("text") for b in blocks(out)]


def test_both_labels_join_the_text_and_the_stop_follows_the_end_label() -> None:
    out = run([BEGIN, PING, block(0, "春", "天"), ending(), STOP])
    assert texts(out) == [f"{L}\n\n春天\n\n{L}"]
    assert [b["type"] for b in bodies(out)] == [
        "message_start", "ping", "content_block_start", *["content_block_delta"] * 3, "content_block_stop",
        "message_delta", "message_stop"]  # fmt: skip
    assert stop(0) in out and out.endswith(STOP)


def test_the_first_event_says_what_is_planned_and_the_last_what_happened() -> None:
    out = bodies(run([BEGIN, block(0, "春"), ending(), STOP]))
    assert out[0]["message"]["llm_label"]["label"] == {"planned": ["start", "end"], "applied": [], "skipped": None}
    assert out[-2]["llm_label"]["label"]["applied"] == ["start", "end"]
    assert out[-2]["usage"] == {"output_tokens": 3} and "llm_label" not in out[-1]


def test_thinking_leads_and_keeps_every_byte() -> None:
    thinking = [start(0, THINKING), event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "想"}),
                event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2ln"}), stop(0)]  # fmt: skip
    out = run([BEGIN, *thinking, block(1, "春"), ending(), STOP])
    assert b"".join(thinking) in out
    assert texts(out) == [None, f"{L}\n\n春\n\n{L}"]


def test_prose_before_a_tool_call_is_labelled_before_the_call_begins() -> None:
    call = start(1, TOOL) + event(
        "content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": "{}"}
    )
    out = run([BEGIN, block(0, "看一下。"), PING, call, stop(1), ending("tool_use"), STOP])
    assert texts(out) == [f"{L}\n\n看一下。\n\n{L}", None]
    assert out.index(stop(0)) < out.index(PING) < out.index(call)


def test_a_tool_call_alone_carries_no_label() -> None:
    parts = [start(0, TOOL), stop(0)]
    out = run([BEGIN, *parts, ending("tool_use"), STOP])
    assert b"".join(parts) in out and said(out)["skipped"] == "tool_call"


def test_the_end_label_waits_for_the_last_block_of_cited_text() -> None:
    cited = start(1, {"citations": [], "type": "text", "text": ""}) + event(
        "content_block_delta", index=1, delta={"type": "citations_delta", "citation": {"start_char_index": 3}}
    )
    out = run([BEGIN, block(0, "据"), cited, delta(1, "报道"), stop(1), block(2, "。"), ending(), STOP])
    assert texts(out) == [f"{L}\n\n据", "报道", f"。\n\n{L}"]
    assert cited in out


def test_server_tools_stand_between_the_start_and_the_end_label() -> None:
    tools = [start(1, SEARCH), stop(1), start(2, RESULT), stop(2)]
    out = run([BEGIN, block(0, "我查一下。"), *tools, block(3, "查到了。"), ending(), STOP])
    assert texts(out) == [f"{L}\n\n我查一下。", None, None, f"查到了。\n\n{L}"]
    assert b"".join(tools) in out


def test_a_text_block_of_our_own_labels_what_no_other_block_can() -> None:
    out = run([BEGIN, block(0, "我查一下。"), start(1, SEARCH), stop(1), ending("pause_turn"), STOP], END)
    assert texts(out) == ["我查一下。", None, f"\n\n{L}"]
    assert said(out)["applied"] == ["end"]


def test_no_such_block_is_added_where_a_label_stands_already() -> None:
    out = run([BEGIN, block(0, "我查一下。"), start(1, SEARCH), stop(1), ending("pause_turn"), STOP])
    assert texts(out) == [f"{L}\n\n我查一下。", None] and said(out)["applied"] == ["start"]


@pytest.mark.parametrize("blank", ["", "\n\n", " "])
def test_a_blank_block_at_the_end_stays_blank(blank: str) -> None:
    last = block(1, blank) if blank else block(1)
    out = run([BEGIN, block(0, "春"), last, ending(), STOP])
    assert texts(out) == [f"{L}\n\n春\n\n{L}", blank] and last in out


def test_a_blank_block_between_texts_is_held_and_released() -> None:
    out = run([BEGIN, block(0, "春"), block(1, "\n\n"), PING, block(2, "天"), ending(), STOP])
    assert texts(out) == [f"{L}\n\n春", "\n\n", f"天\n\n{L}"]


def test_text_stays_in_its_block_where_the_labeler_had_to_wait() -> None:
    assert texts(run([BEGIN, block(0, "AI"), block(1, " writes"), ending(), STOP])) == [
        f"{L}\n\nAI", f" writes\n\n{L}"]  # fmt: skip
    assert texts(run([BEGIN, block(0, "  "), block(1, "<thi"), block(2, "nk"), ending(), STOP], START)) == [
        "  ", f"{L}\n\n<thi", "nk"]  # fmt: skip


def test_a_block_may_begin_with_text() -> None:
    out = run([BEGIN, start(0, {"type": "text", "text": "春"}), delta(0, "天"), stop(0), ending(), STOP])
    assert texts(out) == [f"{L}\n\n春天\n\n{L}"]


def test_a_missing_block_stop_loses_nothing() -> None:
    out = run([BEGIN, start(0, TEXT), delta(0, "AI"), start(1, TOOL), stop(1), ending("tool_use"), STOP])
    assert texts(out) == [f"{L}\n\nAI\n\n{L}", None]


def test_blanks_of_a_block_that_never_stops_are_not_lost() -> None:
    assert texts(run([BEGIN, start(0, TEXT), delta(0, " "), ending(), STOP])) == [" "]


def test_nothing_is_held_where_only_the_start_is_labelled() -> None:
    marked = marking.answer(START, surface=messages)
    sent = [marked.feed(e) for e in events(BEGIN + block(0, "春天"))]
    assert sent[-1] == stop(0)


def test_what_is_held_is_one_stop_and_nothing_else() -> None:
    marked = marking.answer(BOTH, surface=messages)
    sent = [marked.feed(e) for e in events(BEGIN + block(0, "春", "天"))]
    assert [bool(out) for out in sent] == [True, True, True, True, False]
    assert marked.feed(events(start(1, SEARCH))[0]) == stop(0) + start(1, SEARCH)


def test_structured_output_is_untouched_and_says_why() -> None:
    view = messages.view({"messages": [], "output_format": {"type": "json_schema", "schema": {}}})
    out = run([BEGIN, block(0, '{"a": 1.0}'), ending(), STOP], BOTH, view)
    assert block(0, '{"a": 1.0}') in out
    assert said(out) == {"planned": [], "applied": [], "skipped": "structured"}


def test_what_was_to_be_json_and_is_none_is_labelled() -> None:
    view = messages.view({"messages": [], "output_config": {"format": {"type": "json_schema", "schema": {}}}})
    out = run([BEGIN, block(0, "春"), block(1, "天"), ending(), STOP], BOTH, view)
    assert texts(out) == [f"{L}\n\n春", f"天\n\n{L}"] and said(out)["applied"] == ["start", "end"]


def test_a_refusal_and_an_empty_answer_say_so() -> None:
    assert said(run([BEGIN, ending("refusal"), STOP]))["skipped"] == "refusal"
    assert said(run([BEGIN, block(0), ending(), STOP]))["skipped"] == "empty"


def test_an_answer_that_brings_our_label_gets_no_second_one() -> None:
    out = run([BEGIN, block(0, "AI", "生成\n\n春"), ending(), STOP], START)
    assert texts(out) == [f"{L}\n\n春"] and said(out)["skipped"] == "labelled"


def test_pings_and_unknown_events_keep_their_bytes() -> None:
    odd = event("content_block_annotation", index=0, text="春") + b": note\n\n" + b"event: ping\n\n"
    out = run([BEGIN, odd, block(0, "春"), odd, ending(), STOP])
    assert out.count(odd) == 2 and texts(out) == [f"{L}\n\n春\n\n{L}"]


def test_an_error_event_passes_behind_the_pending_label() -> None:
    error = event("error", error={"type": "overloaded_error", "message": "Overloaded"})
    out = run([BEGIN, start(0, TEXT), delta(0, "春"), error])
    assert texts(out) == [f"{L}\n\n春\n\n{L}"]
    assert bodies(out)[-1]["error"] == {"type": "overloaded_error", "message": "Overloaded"}
    assert said(out)["applied"] == ["start", "end"]


def test_a_missing_stop_reason_is_a_truncation_and_a_missing_message_stop_is_none() -> None:
    run([BEGIN, block(0, "春"), ending()])
    with pytest.raises(UpstreamError, match="stop_reason") as caught:
        marking.stream([BEGIN + block(0, "春")], BOTH, surface=messages)
    assert caught.value.code == "upstream_truncated"


def test_what_was_held_goes_out_before_the_error_of_a_broken_stream() -> None:
    marked = marking.answer(BOTH, surface=messages)
    sent = b"".join(marked.feed(e) for e in events(BEGIN + block(0, "春")))
    pending = marked.flush()
    assert texts(sent + pending) == [f"{L}\n\n春\n\n{L}"] and pending.endswith(stop(0))


def test_a_message_stop_says_what_happened_where_no_delta_did() -> None:
    out = run([BEGIN, block(0, "春"), STOP])
    assert texts(out) == [f"{L}\n\n春\n\n{L}"] and bodies(out)[-1]["llm_label"]["label"]["applied"] == ["start", "end"]


def test_a_second_message_in_one_stream_is_labelled_too() -> None:
    one = [BEGIN, block(0, "春"), ending(), STOP]
    assert run([*one, *one]).count(L.encode()) == 4


def test_our_field_is_ours_alone() -> None:
    theirs = BEGIN.replace(b'"id":"m1"', b'"id":"m1","llm_label":1')
    assert bodies(run([theirs, block(0, "春"), ending(), STOP]))[0]["message"]["llm_label"]["content_id"]
    out = marking.stream([theirs, block(0, "春"), ending(), STOP], BOTH, surface=messages, body_field=False)
    assert bodies(out)[0]["message"]["llm_label"] is None and b"content_id" not in out


@pytest.mark.parametrize(
    "broken",
    [
        frame(b"{"),
        frame(b"[]"),
        event("content_block_start", index=0),
        event("content_block_start", index=0, content_block={"type": "text"}),
        event("content_block_delta", index=0),
        event("content_block_delta", delta={"type": "text_delta", "text": "x"}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": 1}),
        event("message_start", message={"content": [{"type": "text", "text": "x"}]}),
        event("message_start"),
        event("message_start", message={"content": 1}),
    ],
)
def test_text_that_no_label_reaches_is_refused(broken: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        marking.stream([BEGIN, broken], BOTH, surface=messages)
    assert caught.value.code == "upstream_malformed"


def test_whole_answers_follow_the_same_rules() -> None:
    content = [
        {"type": "thinking", "thinking": "想", "signature": "c2ln"}, {"type": "text", "text": "查。"}, SEARCH, RESULT,
        {"type": "text", "text": "据", "citations": None}, {"text": "报道", "type": "text"}, {"type": "text", "text": "\n"}, TOOL,
    ]  # fmt: skip
    body = {"id": "m1", "type": "message", "content": content, "stop_reason": "tool_use", "usage": {"output_tokens": 1}}
    marked = json.loads(marking.answer(BOTH, surface=messages).whole(dumps(body)))
    assert [b.get("text") for b in marked["content"]] == [
        None, f"{L}\n\n查。", None, None, "据", f"报道\n\n{L}", "\n", None]  # fmt: skip
    assert [b for b in marked["content"] if b["type"] != "text"] == [b for b in content if b["type"] != "text"]
    assert marked["usage"] == body["usage"] and marked["llm_label"]["label"]["applied"] == ["start", "end"]


def test_a_whole_answer_gets_a_block_of_its_own_too() -> None:
    body = {"id": "m1", "content": [{"type": "text", "text": "查。"}, SEARCH], "stop_reason": "pause_turn"}
    marked = json.loads(marking.answer(END, surface=messages).whole(dumps(body)))
    assert marked["content"][2:] == [{"type": "text", "text": f"\n\n{L}"}]


@pytest.mark.parametrize("raw", [b"{}", b'{"content": "x"}', b'{"content": [1]}', b'{"content":[{"type":"text"}]}'])
def test_whole_answers_of_another_shape_are_refused(raw: bytes) -> None:
    with pytest.raises(UpstreamError):
        marking.answer(BOTH, surface=messages).whole(raw)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"n": 1, "structured": False, "prefill": False, "greedy": False}),
        ({"stream": True, "model": "m", "temperature": 0}, {"stream": True, "model": "m", "greedy": True}),
        ({"output_config": {"effort": "low"}, "output_format": {"type": "text"}}, {"structured": False}),
        ({"output_config": {"format": {"type": "json_schema"}}}, {"structured": True}),
    ],
)
def test_what_policy_may_know_of_a_request(body: dict[str, Any], expected: dict[str, Any]) -> None:
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "你好"}]},
        {"role": "assistant", "content": [TOOL]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "hello"}]},
    ]
    seen = messages.view({"messages": turns, **body})
    assert {k: getattr(seen, k) for k in expected} == expected
    assert seen.prompt == "你好"


@pytest.mark.parametrize(
    ("content", "prefill"),
    [("从前", True), ([{"type": "text", "text": "从前"}], True), ([{"type": "text", "text": "x"}, SEARCH], False)],
)
def test_only_a_turn_that_ends_in_text_is_continued(content: Any, prefill: bool) -> None:
    assert messages.view({"messages": [{"role": "assistant", "content": content}]}).prefill is prefill


@pytest.mark.parametrize("given", [None, "x", [1], {}])
def test_messages_of_another_shape_are_refused(given: Any) -> None:
    with pytest.raises(ClientError, match="list of objects"):
        messages.view({"messages": given})


CLEANED: dict[str, tuple[Any, Any]] = {
    "a string": (f"{L}\n\n春\n\n{L}", "春"),
    "blocks": ([{"type": "text", "text": f"{L}\n\n春"}, {"text": f"天\n\n{L}", "type": "text"}],
               [{"type": "text", "text": "春"}, {"text": "天", "type": "text"}]),
    "a cache breakpoint": ([{"type": "text", "text": f"{L}\n\n春", "cache_control": {"type": "ephemeral"}}],
                           [{"type": "text", "text": "春", "cache_control": {"type": "ephemeral"}}]),
    "a block of ours": ([{"type": "text", "text": "查。"}, SEARCH, {"type": "text", "text": f"\n\n{L}"}],
                        [{"type": "text", "text": "查。"}, SEARCH]),
    "a trimmed block of ours": ([{"type": "text", "text": L}, {"type": "text", "text": "春"}, {"type": "text", "text": L}],
                                [{"type": "text", "text": "春"}]),
    "nothing but a label": ([{"type": "text", "text": L}], [{"type": "text", "text": L}]),
    "a label for a string": (L, L),
    "some blocks only": ([{"type": "text", "text": f"春\n\n{L}"}, {"type": "text", "text": f"{L}\n\n天"}],
                         [{"type": "text", "text": "春"}, {"type": "text", "text": "天"}]),
    "a fence over two blocks": ([{"type": "text", "text": f"{L}\n\n```py\nx"}, {"type": "text", "text": f"y\n``` \n\n{L}"}],
                                [{"type": "text", "text": "```py\nx"}, {"type": "text", "text": "y"}]),
    "a quotation": ([{"type": "text", "text": f"Say {L} here"}], [{"type": "text", "text": f"Say {L} here"}]),
}  # fmt: skip


@pytest.mark.parametrize(("given", "expected"), CLEANED.values(), ids=CLEANED)
def test_history_is_cleaned_in_place(given: Any, expected: Any) -> None:
    signed = {"type": "thinking", "thinking": f"{L}\n\n想", "signature": "c2ln"}

    def request(content: Any) -> bytes:
        turn = [signed, *content] if isinstance(content, list) and len(content) > 1 else content
        turns = [{"role": "user", "content": f"{L}\n\nx"}, {"role": "assistant", "content": turn}]
        return dumps({"model": "m", "top_p": 1.0, "messages": [*turns, {"role": "user", "content": "y"}]})

    raw = request(given)
    wanted = request(expected)
    if isinstance(given, list) and len(given) > 1 and len(expected) == 1:
        wanted = wanted.replace(dumps(expected), dumps([signed, *expected]))
    assert messages.clean(raw, json.loads(raw), {L}) == wanted


def test_a_request_without_labels_passes_unparsed() -> None:
    raw = (
        b'{ "messages": [ {"role":"assistant","content":[{"type":"text","text":"x"},1,null]},{"role":"assistant"}, 3 ]}'
    )
    assert messages.clean(raw, json.loads(raw), {L}) is raw
    assert messages.clean(b"{}", {}, {L}) == b"{}", "count_tokens is cleaned before anything has looked at it"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ClientError("x"), "invalid_request_error"),
        (NotOffered("x"), "invalid_request_error"),
        (UpstreamError("x"), "api_error"),
        (UpstreamTimeout("x"), "timeout_error"),
        (Stopping("x"), "overloaded_error"),
    ],
)
def test_errors_have_the_shape_of_this_api(error: LabelError, kind: str) -> None:
    expected = {"type": "error", "error": {"type": kind, "message": "x", "code": error.code}}
    assert messages.error_body(error) == expected
    out = marking.answer(BOTH, surface=messages, body_field=False).error_frame(error)
    assert out == b"event: error\n" + frame(dumps(expected))


# Through a running proxy, with the real client.

ASK: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "你好"}]}
LABELS = {"positions": ["start", "middle", "end"], "language": "zh", "middle_after": 4}
ANSWER = [
    BEGIN.replace(b'"id":"m1"', b'"id":"m1","type":"message","model":"m","stop_reason":null,"stop_sequence":null'),
    start(0, THINKING), event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "想"}),
    event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "c2ln"}), stop(0),
    block(1, "我查", "一下。\n\n好的"), start(2, SEARCH), stop(2), start(3, RESULT), stop(3), PING,
    block(4, "春", "天。\n\n", "完"), ending(), STOP,
]  # fmt: skip


def client(url: str) -> Any:
    anthropic = pytest.importorskip("anthropic", reason="the anthropic client is not installed")
    return anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, timeout=20)


def test_the_client_reads_a_stream_and_sends_it_back_as_it_was(tmp_path: Path) -> None:
    with proxy(tmp_path, stream(ANSWER), labels=LABELS) as up, client(up.url) as anthropic:
        known = up.parts.policy.known
        deltas: dict[int, str] = {}
        with anthropic.messages.create(**ASK, stream=True) as chunks:
            for chunk in chunks:
                if chunk.type == "content_block_delta" and chunk.delta.type == "text_delta":
                    deltas[chunk.index] = deltas.get(chunk.index, "") + chunk.delta.text
        with anthropic.messages.stream(**ASK) as helper:
            joined = "".join(helper.text_stream)
            final = helper.get_final_message()
        assert "".join(deltas.values()) == joined == "".join(b.text for b in final.content if b.type == "text")
        assert strip(joined, known) == "我查一下。\n\n好的春天。\n\n完" != joined
        assert final.stop_reason == "end_turn" and final.usage.output_tokens == 3
        assert final.model_extra["llm_label"]["label"]["planned"] == ["start", "middle", "end"]
        turn = {"role": "assistant", "content": final.model_dump(mode="json", exclude_none=True)["content"]}
        with anthropic.messages.stream(**{**ASK, "messages": [*ASK["messages"], turn, *ASK["messages"]]}) as helper:
            helper.get_final_message()
        sent = json.loads(up.fake.asked[-1]["body"])["messages"][1]["content"]
        assert [b.get("text") for b in sent] == [None, "我查一下。\n\n好的", None, None, "春天。\n\n完"]
        assert sent[0] == {"type": "thinking", "thinking": "想", "signature": "c2ln"}
        assert [e.label_applied for e in up.entries()] == ["start middle end"] * 3


def test_the_client_reads_a_whole_answer_and_an_error(tmp_path: Path) -> None:
    body = {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "春"}],
            "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}  # fmt: skip
    with proxy(tmp_path, whole(dumps(body)), labels=LABELS) as up, client(up.url) as anthropic:
        answer = anthropic.messages.create(**ASK)
        assert strip(answer.content[0].text, up.parts.policy.known) == "春" != answer.content[0].text
        with pytest.raises(Exception, match="list of objects") as caught:
            anthropic.messages.create(**{**ASK, "messages": "x"})
        assert type(caught.value).__name__ == "BadRequestError"


def test_the_client_raises_on_a_stream_that_breaks_off(tmp_path: Path) -> None:
    with proxy(tmp_path, stream(ANSWER[:6]), labels=LABELS) as up, client(up.url) as anthropic:
        seen = []
        with pytest.raises(Exception, match="without a stop_reason"), anthropic.messages.stream(**ASK) as helper:
            for piece in helper.text_stream:
                seen.append(piece)
        assert strip("".join(seen), up.parts.policy.known) == "我查一下。\n\n好的" != "".join(seen)
        assert [e.result for e in up.entries()] == ["truncated"]
