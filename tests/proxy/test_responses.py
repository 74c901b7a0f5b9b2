"""Where labels stand in responses, case by case; every stream case is also cut at many bytes."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest

from llm_label.errors import ClientError, UpstreamError
from llm_label.labels.labeler import strip
from llm_label.policy import RequestView
from llm_label.proxy.surfaces import responses
from tests.proxy import marking, running
from tests.proxy.touch import events
from tests.proxy.touch_responses import assert_only_marks_were_added, bodies, deltas, repeated

LABELS = {"zh": "AI生成"}
L = "AI生成"
S = len(f"{L}\n\n")
BOTH = marking.policy(positions=("start", "end"), texts=LABELS)
START = marking.policy(positions=("start",), texts=LABELS)
END = marking.policy(positions=("end",), texts=LABELS)
VIEW = RequestView("responses", stream=True)


class Upstream:
    """Write the events of a response as OpenAI sends them, numbered."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.output: list[dict[str, Any]] = []
        self.say("response.created", response=self.response("in_progress", []))

    def say(self, kind: str, **more: Any) -> "Upstream":
        body = {"type": f"{kind}", "sequence_number": len(self.frames), **more}
        data = json.dumps(body, ensure_ascii=False)
        self.frames.append(f"event: {kind}\ndata: {data}\n\n".encode())
        return self

    def raw(self, frame: bytes) -> "Upstream":
        self.frames.append(frame)
        return self

    def response(self, status: str, output: list[Any], **more: Any) -> dict[str, Any]:
        return {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": status, "error": None,
                "incomplete_details": None, "output": output, "parallel_tool_calls": True, "tool_choice": "auto",
                "tools": [], **more}  # fmt: skip

    def message(self, *pieces: str, phase: str | None = None, role: str = "assistant", close: bool = True,
                annotations: list[Any] | None = None, logprobs: list[Any] | None = None) -> "Upstream":  # fmt: skip
        at = len(self.output)
        item = {"id": f"msg_{at}", "type": "message", "role": role, "status": "completed", "content": []}
        item |= {"phase": phase} if phase else {}
        where = {"output_index": at, "content_index": 0, "item_id": f"msg_{at}"}
        self.say("response.output_item.added", output_index=at, item={**item, "status": "in_progress"})
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        self.say("response.content_part.added", **where, part=part)
        for piece in pieces:
            self.say("response.output_text.delta", **where, delta=piece, logprobs=logprobs or [], obfuscation="xY")
        for k, annotation in enumerate(annotations or []):
            self.say("response.output_text.annotation.added", **where, annotation_index=k, annotation=annotation)
        text = "".join(pieces)
        part = {**part, "text": text, "annotations": annotations or []}
        self.output.append({**item, "content": [part]})
        if close:
            self.say("response.output_text.done", **where, text=text, logprobs=[])
            self.say("response.content_part.done", **where, part=part)
            self.say("response.output_item.done", output_index=at, item=self.output[-1])
        return self

    def item(self, item: dict[str, Any]) -> "Upstream":
        at = len(self.output)
        self.say("response.output_item.added", output_index=at, item=item)
        self.output.append(item)
        return self.say("response.output_item.done", output_index=at, item=item)

    def end(self, kind: str = "response.completed", **more: Any) -> bytes:
        status = kind.removeprefix("response.")
        self.say(kind, response=self.response(status, self.output, **more))
        return b"".join(self.frames)


REASONING = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}
CALL = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"}


def run(body: bytes, policy: Any = BOTH, view: RequestView = VIEW, every: int = 5) -> bytes:
    whole = marking.stream([body], policy, view, surface=responses)
    for at in range(1, len(body), every):
        assert marking.stream([body[:at], body[at:]], policy, view, surface=responses) == whole, f"cut at {at}"
    return whole


def checked(body: bytes, policy: Any = BOTH, view: RequestView = VIEW) -> bytes:
    out = run(body, policy, view, every=97)
    assert_only_marks_were_added(body, out, policy.known)
    return out


def of(out: bytes, kind: str) -> list[dict[str, Any]]:
    return [body for body in bodies(out) if body["type"] == kind]


def pieces(out: bytes) -> list[str]:
    return [body["delta"] for body in of(out, "response.output_text.delta")]


def said(out: bytes, kind: str = "response.completed") -> dict[str, Any]:
    label: dict[str, Any] = of(out, kind)[-1]["response"]["llm_label"]["label"]
    return label


def whole(body: dict[str, Any], policy: Any = BOTH, view: RequestView = VIEW) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(marking.answer(policy, view, surface=responses).whole(json.dumps(body).encode()))
    return out


def test_labels_join_deltas_that_are_there_and_every_repetition_agrees() -> None:
    out = checked(Upstream().message("春", "天", "来了").end())
    assert pieces(out) == [f"{L}\n\n春", "天", f"来了\n\n{L}"]
    assert set(repeated(out)) - {""} == {f"{L}\n\n春天来了\n\n{L}"} and len(repeated(out)) == 5
    assert [body["sequence_number"] for body in bodies(out)] == list(range(10))


def test_the_created_event_says_what_is_planned_and_the_last_what_happened() -> None:
    out = run(Upstream().message("春").end())
    assert of(out, "response.created")[0]["response"]["llm_label"]["label"] == {
        "planned": ["start", "end"], "applied": [], "skipped": None}  # fmt: skip
    assert said(out) == {"planned": ["start", "end"], "applied": ["start", "end"], "skipped": None}
    assert sum("llm_label" in str(body) for body in bodies(out)) == 2


def test_a_single_delta_carries_both_labels() -> None:
    assert pieces(checked(Upstream().message("春").end())) == [f"{L}\n\n春\n\n{L}"]


def test_with_a_start_label_alone_no_delta_waits() -> None:
    answer = marking.answer(START, VIEW, surface=responses)
    for event in events(Upstream().message("春", "天", "来").end()):
        assert answer.feed(event), f"held back: {event.raw!r}"


def test_before_an_end_label_one_delta_waits_for_the_next() -> None:
    answer = marking.answer(BOTH, VIEW, surface=responses)
    out = [answer.feed(event) for event in events(Upstream().message("春", "天", "来").end())]
    assert [len(bodies(sent)) for sent in out] == [1, 1, 1, 0, 1, 1, 2, 1, 1, 1]


def test_what_came_behind_a_waiting_delta_does_not_overtake_it_and_comments_do() -> None:
    up = (
        Upstream()
        .message("春", close=False)
        .raw(b": ping\n\n")
        .say("response.web_search_call.searching", output_index=1)
    )
    answer = marking.answer(BOTH, VIEW, surface=responses)
    out = [answer.feed(event) for event in events(b"".join(up.frames))]
    assert out[3:] == [b"", b": ping\n\n", b""]
    assert [body["type"] for body in bodies(answer.flush())] == [
        "response.output_text.delta", "response.web_search_call.searching"]  # fmt: skip


def test_a_waiting_delta_that_is_not_the_last_keeps_its_bytes() -> None:
    up = Upstream().message("春", "天", "来", "了", logprobs=[{"token": "x", "logprob": -1.0}])
    frames = up.frames[:]
    out = run(up.end(), END)
    assert all(frame in out for frame in frames[3:6])
    assert [d["logprobs"] for d in of(out, "response.output_text.delta")] == [[{"token": "x", "logprob": -1.0}]] * 4


def test_every_final_message_carries_its_own_labels() -> None:
    """Clients show the last message alone, and no stream tells which one is the last."""
    out = checked(Upstream().message("我查一下。").item(REASONING).message("晴。").end(), START)
    assert set(deltas(out).values()) == {f"{L}\n\n我查一下。", f"{L}\n\n晴。"}


def test_commentary_reasoning_and_tool_calls_keep_their_bytes() -> None:
    up = Upstream().item(REASONING).message("让我看看。", phase="commentary").item(CALL)
    frames = up.frames[:]
    out = run(up.message("晴。", phase="final_answer").end(), every=11)
    assert all(frame in out for frame in frames[1:])
    assert [i["content"][0]["text"] for i in of(out, "response.completed")[0]["response"]["output"] if "content" in i] == [
        "让我看看。", f"{L}\n\n晴。\n\n{L}"]  # fmt: skip


def test_a_tool_call_alone_says_why_there_is_no_label() -> None:
    up = Upstream().item(REASONING).item(CALL)
    frames = up.frames[1:]
    out = run(up.end(), every=11)
    assert b"".join(frames) in out and said(out)["skipped"] == "tool_call"


def test_a_refusal_keeps_its_bytes_and_says_why() -> None:
    item = {"id": "m", "type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "不行"}]}
    out = checked(Upstream().item(item).end())
    assert said(out)["skipped"] == "refusal" and item in of(out, "response.completed")[0]["response"]["output"]


def test_text_that_comes_without_deltas_is_labelled_in_every_event() -> None:
    up = Upstream().message("春天。")
    up.frames = [frame for frame in up.frames if b"output_text.delta" not in frame]
    out = checked(up.end())
    assert set(repeated(out)) - {""} == {f"{L}\n\n春天。\n\n{L}"}


def test_text_that_comes_in_the_part_or_the_item_that_is_added_is_labelled_there() -> None:
    where = {"output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": "春", "annotations": []}
    body = Upstream().say("response.content_part.added", **where, part=part).say(
        "response.output_text.delta", **where, delta="天").end()  # fmt: skip
    out = run(body)
    assert of(out, "response.content_part.added")[0]["part"]["text"] == f"{L}\n\n春"
    assert pieces(out) == [f"天\n\n{L}"]
    item = {"type": "message", "role": "assistant", "content": [part]}
    out = run(Upstream().say("response.output_item.added", output_index=0, item=item).end())
    assert repeated(out) == [f"{L}\n\n春\n\n{L}"]


def test_deltas_without_any_event_around_them_are_labelled() -> None:
    body = Upstream().say("response.output_text.delta", delta="春").say("response.output_text.delta", delta="天").end()
    assert pieces(run(body)) == [f"{L}\n\n春", f"天\n\n{L}"]


def test_messages_that_share_an_index_do_not_share_labels() -> None:
    where = {"output_index": 0, "content_index": 0}
    item = {"type": "message", "role": "assistant", "content": []}
    up = Upstream()
    for text in ("春", "秋"):
        up.say("response.output_item.added", output_index=0, item=item).say(
            "response.output_text.delta", **where, delta=text
        )
    assert pieces(run(up.end())) == [f"{L}\n\n春\n\n{L}", f"{L}\n\n秋\n\n{L}"]


def test_indices_of_citations_move_with_their_text() -> None:
    cited = {"type": "url_citation", "start_index": 0, "end_index": 2, "url": "u", "title": "t"}
    file = {"type": "file_citation", "index": 3, "file_id": "f", "filename": "a"}
    path = {"type": "file_path", "index": 1, "file_id": "f"}
    nowhere = {"type": "container_file_citation", "start_index": 0, "end_index": 0}
    given = [cited, file, path, nowhere]
    out = run(Upstream().message("春天", "来了。", annotations=given).end(), every=11)
    moved = [{**cited, "start_index": S, "end_index": S + 2}, {**file, "index": 3 + S}, path, nowhere]
    assert [body["annotation"] for body in of(out, "response.output_text.annotation.added")] == moved
    assert of(out, "response.content_part.done")[0]["part"]["annotations"] == moved
    assert of(out, "response.output_item.done")[0]["item"]["content"][0]["annotations"] == moved
    assert of(out, "response.completed")[0]["response"]["output"][0]["content"][0]["annotations"] == moved


def test_behind_a_middle_label_a_citation_moves_by_both() -> None:
    policy = marking.policy(positions=("start", "middle"), texts=LABELS, middle_after=3)
    text = "春天来了。\n\n花开了。"
    at = text.index("花")
    cited = {"type": "url_citation", "start_index": at, "end_index": at + 3}
    out = checked(Upstream().message(*text, annotations=[cited]).end(), policy)
    assert deltas(out)[0, 0, 0] == f"{L}\n\n春天来了。\n\n{L}\n\n花开了。"
    assert of(out, "response.output_text.annotation.added")[0]["annotation"]["start_index"] == at + 2 * S


def test_structured_output_is_untouched_and_says_why() -> None:
    view = responses.view({"input": "x", "text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}})
    out = checked(Upstream().message('{"a": ', "1.0}").end(), BOTH, view)
    assert pieces(out) == ['{"a": ', "1.0}"] and said(out)["skipped"] == "structured"


def test_after_a_prefill_only_the_end_is_labelled() -> None:
    view = responses.view({"input": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "从前"}]})
    assert deltas(checked(Upstream().message("有座", "山").end(), BOTH, view))[0, 0, 0] == f"有座山\n\n{L}"


def test_an_answer_that_brings_our_label_gets_no_second_one() -> None:
    out = run(Upstream().message("AI", "生成\n\n春").end(), START, every=11)
    assert deltas(out)[0, 0, 0] == f"{L}\n\n春" and said(out)["skipped"] == "labelled"


@pytest.mark.parametrize("kind", ["response.incomplete", "response.failed", "response.cancelled"])
def test_an_answer_that_ends_otherwise_is_labelled_all_the_same(kind: str) -> None:
    up = Upstream().message("春", "天", close=False)
    out = run(up.end(kind, incomplete_details={"reason": "max_output_tokens"}))
    assert pieces(out) == [f"{L}\n\n春", f"天\n\n{L}"]
    assert repeated(out)[-1] == f"{L}\n\n春天\n\n{L}" and said(out, kind)["applied"] == ["start", "end"]


def test_what_happened_is_told_to_the_log() -> None:
    answer = marking.answer(BOTH, VIEW, surface=responses)
    body = Upstream().message("春").end("response.incomplete", incomplete_details={"reason": "max_output_tokens"})
    for event in events(body):
        answer.feed(event)
    told = answer.outcome()
    assert (told.upstream_id, told.finish_reasons) == ("resp_1", ("max_output_tokens",))
    assert (told.choices, told.labelled, told.label_applied) == (1, 1, ("start", "end"))


def test_an_end_without_a_terminal_event_is_an_error_behind_the_pending_label() -> None:
    body = b"".join(Upstream().message("春", "天", close=False).frames) + b"data: [DONE]\n\n"
    answer = marking.answer(BOTH, VIEW, surface=responses)
    sent = b"".join(answer.feed(event) for event in events(body))
    with pytest.raises(UpstreamError, match=r"response\.completed") as caught:
        answer.finish()
    sent += answer.flush() + answer.error_frame(caught.value)
    assert pieces(sent) == [f"{L}\n\n春", f"天\n\n{L}"] and b"[DONE]" not in sent
    last = bodies(sent)[-1]
    assert sent.endswith(b"\n\n") and b"event: error\ndata: " in sent
    assert {k: last[k] for k in ("type", "code", "param", "sequence_number")} == {
        "type": "error", "code": "upstream_truncated", "param": None, "sequence_number": 5}  # fmt: skip
    assert last["error"]["message"] == last["message"] and last["llm_label"]["label"]["applied"] == ["start", "end"]


def test_an_error_event_passes_behind_the_pending_label() -> None:
    up = Upstream().message("春", close=False).say("error", code="server_error", message="overloaded", param=None)
    answer = marking.answer(BOTH, VIEW, surface=responses)
    out = b"".join(answer.feed(event) for event in events(b"".join(up.frames))) + answer.finish()
    assert pieces(out) == [f"{L}\n\n春\n\n{L}"] and answer.failed
    assert bodies(out)[-1]["message"] == "overloaded" and "llm_label" in bodies(out)[-1]


def test_the_error_object_of_other_apis_is_an_error_too() -> None:
    answer = marking.answer(BOTH, VIEW, surface=responses)
    assert answer.feed(events(b'data: {"error": {"message": "overloaded"}}\n\n')[0]) and answer.failed
    assert answer.outcome().label_skipped == "error" and answer.outcome().choices == 0


def test_nothing_with_text_follows_the_end() -> None:
    end = Upstream().message("春").end()
    late = Upstream().message("夏").frames[1:]
    assert run(end + b"".join(late) + b"data: [DONE]\n\n", every=11) == run(end, every=997) + b"data: [DONE]\n\n"


def test_a_second_response_in_the_same_stream_is_labelled_like_the_first() -> None:
    out = run(Upstream().item(CALL).end() + Upstream().message("春").end(), every=11)
    assert pieces(out) == [f"{L}\n\n春\n\n{L}"] and str(bodies(out)).count("'planned'") == 4


def test_unknown_events_and_comments_pass_and_events_without_data_do_not() -> None:
    unknown = b'event: vendor.thing\ndata: {"type": "vendor.thing",  "text": "x", "n": 1.0}\n\n'
    out = run(Upstream().raw(b": ping\n\n").raw(unknown).raw(b"event: ping\n\n").message("春").end(), every=11)
    assert b": ping\n\n" + unknown + b"event: response.output_item.added" in out and b"event: ping" not in out


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        '{"delta": "text"}',
        '{"type": "response.output_text.delta", "delta": 1}',
        '{"type": "response.output_text.delta"}',
        '{"type": "response.output_text.done", "text": ["x"]}',
        '{"type": "response.content_part.done", "part": "x"}',
        '{"type": "response.output_item.done", "item": "x"}',
        '{"type": "response.output_item.done", "item": {"type": "message", "content": {"text": "x"}}}',
        '{"type": "response.output_item.done", "item": {"type": "message", "content": [{"type": "output_text", "text": 1}]}}',
        '{"type": "response.completed"}',
        '{"type": "response.completed", "response": {"output": {}}}',
        '{"type": "response.completed", "response": {"output": ["x"]}}',
    ],
)
def test_what_could_hide_text_is_malformed(data: str) -> None:
    answer = marking.answer(BOTH, VIEW, surface=responses)
    with pytest.raises(UpstreamError) as caught:
        answer.feed(events(f"data: {data}\n\n".encode())[0])
    assert caught.value.code == "upstream_malformed"


@pytest.mark.parametrize("data", [b"[]", b"x", b"{}", b'{"output": "x"}', b'{"status": "completed", "output": null}'])
def test_a_whole_answer_without_output_is_malformed(data: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        marking.answer(BOTH, VIEW, surface=responses).whole(data)
    assert caught.value.code == "upstream_malformed"


def test_whole_answers_follow_the_same_rules() -> None:
    up = Upstream().item(REASONING).message("让我看看。", phase="commentary").message("春").item(CALL)
    body = up.response("completed", up.output)
    marked = whole(body)
    label = marked.pop("llm_label")["label"]
    assert marked["output"][2]["content"][0]["text"] == f"{L}\n\n春\n\n{L}"
    marked["output"][2]["content"][0]["text"] = "春"
    assert marked == body and label["applied"] == ["start", "end"]


def test_every_part_of_a_message_is_a_text_of_its_own_streamed_and_whole() -> None:
    content: list[dict[str, Any]] = [{"type": "output_text", "text": text, "annotations": []} for text in ("春", "秋")]
    item = {"type": "message", "role": "assistant", "content": content}
    up = Upstream()
    for k, part in enumerate(content):
        where = {"output_index": 0, "content_index": k}
        up.say("response.output_text.delta", **where, delta=part["text"]).say(
            "response.content_part.done", **where, part=part
        )
    up.output.append(item)
    out = run(up.say("response.output_item.done", output_index=0, item=item).end(), every=3)
    expected = [f"{L}\n\n春\n\n{L}", f"{L}\n\n秋\n\n{L}"]
    assert list(deltas(out).values()) == expected and repeated(out) == expected * 3
    assert [p["text"] for p in whole(up.response("completed", [item]))["output"][0]["content"]] == expected


@pytest.mark.parametrize("status", ["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"])
def test_a_response_that_is_fetched_before_its_end_carries_labels_on_what_is_there(status: str) -> None:
    up = Upstream().message("春")
    assert whole(up.response(status, up.output))["output"][0]["content"][0]["text"] == f"{L}\n\n春\n\n{L}"
    assert whole(up.response(status, []))["llm_label"]["label"]["skipped"] == "empty"


def test_a_joined_text_beside_the_output_is_labelled_with_it() -> None:
    up = Upstream().message("看看。", phase="commentary").message("春")
    marked = whole(up.response("completed", up.output, output_text="看看。春"))
    assert marked["output_text"] == f"看看。{L}\n\n春\n\n{L}"
    assert whole(up.response("completed", up.output, output_text="别的"))["output_text"] == f"{L}\n\n别的\n\n{L}"


def test_an_object_of_our_name_from_the_upstream_is_replaced() -> None:
    up = Upstream().say("response.in_progress", response=Upstream().response("in_progress", [], llm_label="theirs"))
    assert b"theirs" not in run(up.message("春").end(llm_label="theirs"), every=11)


def test_without_the_body_field_only_texts_change() -> None:
    body = Upstream().message("春").end()
    out = marking.stream([body], START, VIEW, surface=responses, body_field=False)
    assert b"llm_label" not in out
    assert out == body.replace("春".encode(), f"{L}\\n\\n春".encode())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"prompt": ""}),
        ({"input": "你好"}, {"prompt": "你好"}),
        ({"input": [{"role": "user", "content": "一"}, {"role": "user", "content": [{"type": "input_text", "text": "二"}]}]},
         {"prompt": "二"}),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, {"prompt": "", "prefill": False}),
        ({"stream": True, "model": "m", "temperature": 0}, {"stream": True, "model": "m", "greedy": True, "n": 1}),
        ({"text": {"format": {"type": "text"}}}, {"structured": False}),
        ({"text": {"format": {"type": "json_object"}}}, {"structured": True}),
        ({"structured_outputs": {"regex": "a*"}}, {"structured": True}),
        ({"input": [{"type": "message", "role": "assistant", "content": "从前"}]}, {"prefill": True}),
        ({"previous_response_id": "resp_0", "input": "再来"}, {"prompt": "再来", "prefill": False}),
    ],
)  # fmt: skip
def test_what_policy_may_know_of_a_request(body: dict[str, Any], expected: dict[str, Any]) -> None:
    seen = responses.view(body)
    assert {k: getattr(seen, k) for k in expected} == expected


@pytest.mark.parametrize("given", [1, {}, ["x"], [[]]])
def test_input_of_another_shape_is_refused(given: Any) -> None:
    with pytest.raises(ClientError, match="string or a list of items"):
        responses.view({"input": given})


def cleaned(items: Any) -> Any:
    raw = json.dumps({"input": items, "top_p": 1.0}, ensure_ascii=False).encode()
    return json.loads(responses.clean(raw, json.loads(raw), {L}))["input"]


def test_history_is_cleaned_in_assistant_messages_alone() -> None:
    text = f"{L}\n\n春\n\n{L}"
    parts = [{"type": kind, "text": text} for kind in ("output_text", "input_text", "text", "refusal")]
    given = [{"role": "assistant", "content": text}, {"type": "message", "role": "assistant", "content": parts},
             {"role": "user", "content": text}, {"type": "function_call_output", "output": text},
             {**REASONING, "content": [{"type": "reasoning_text", "text": text}]},
             {"role": "assistant", "encrypted_content": "x", "content": text}]  # fmt: skip
    got = cleaned(given)
    assert got[0]["content"] == "春" and [p["text"] for p in got[1]["content"]] == ["春"] * 3 + [text]
    assert got[2:] == given[2:] and cleaned("x") == "x"


def test_what_needs_no_cleaning_keeps_its_bytes() -> None:
    raw = '{ "input" : [{"role":"assistant","content":"AI生成的"}], "temperature": 1.0 }'.encode()
    assert responses.clean(raw, json.loads(raw), {L}) is raw
    assert responses.clean(b'{"model":"m"}', {"model": "m"}, {L}) == b'{"model":"m"}'


@pytest.mark.parametrize(
    "policy", [START, BOTH, marking.policy(positions=("start", "middle"), texts=LABELS, middle_after=3)]
)
def test_a_message_that_comes_back_is_the_upstreams_again_with_its_citations(policy: Any) -> None:
    text = "春天来了。\n\n花开了。"
    cited = [
        {"type": "url_citation", "start_index": a, "end_index": b, "url": "u"} for a, b in ((0, 2), (7, 9), (0, 0))
    ]
    up = Upstream().message(text, annotations=cited)
    out = whole(up.response("completed", up.output), policy)["output"]
    assert out != up.output and cleaned(out) == up.output


LABELS_ON = {"positions": ["start", "end"], "language": "zh", "texts": LABELS}
ASK: Any = {"model": "m", "input": "四月天气如何？"}


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url + "/v1", api_key="sk-test", max_retries=0, timeout=20)


def test_the_real_client_reads_a_whole_answer(tmp_path: Path) -> None:
    up = Upstream().item(REASONING).message("四月很冷。")
    body = json.dumps(up.response("completed", up.output)).encode()
    with running.proxy(tmp_path, running.whole(body), labels=LABELS_ON) as proxy, client(proxy.url) as sdk:
        answer = sdk.responses.create(**ASK)
        entry = proxy.entries()[0]
    assert answer.output_text == f"{L}\n\n四月很冷。\n\n{L}"
    assert (entry.surface, entry.upstream_id, entry.label_applied) == ("responses", "resp_1", "start end")


@pytest.mark.parametrize("pause", [0.0, 0.01])
def test_the_real_client_reads_a_stream_raw_and_through_its_helper(tmp_path: Path, pause: float) -> None:
    cited = [{"type": "url_citation", "start_index": 0, "end_index": 2, "url": "u", "title": "t"}]
    up = Upstream().item(REASONING).message("四月", "很", "冷。", annotations=cited).item(CALL)
    body = up.end()
    chunks = [body[at : at + 101] for at in range(0, len(body), 101)]
    with running.proxy(tmp_path, running.stream(chunks, pause), labels=LABELS_ON) as proxy, client(proxy.url) as sdk:
        raw = list(sdk.responses.create(**ASK, stream=True))
        with sdk.responses.stream(**ASK) as helper:
            helped = list(helper)
            final = helper.get_final_response()
    expected = f"{L}\n\n四月很冷。\n\n{L}"
    assert [event.sequence_number for event in raw] == list(range(len(up.frames)))
    assert "".join(e.delta for e in raw if e.type == "response.output_text.delta") == expected
    assert [e.snapshot for e in helped if e.type == "response.output_text.delta"][-1] == expected
    assert [e.text for e in helped if e.type == "response.output_text.done"] == [expected]
    assert final.output_text == expected == raw[-1].response.output_text
    assert strip(final.output_text, {L}) == "四月很冷。"


def test_the_real_client_raises_when_a_stream_breaks_off(tmp_path: Path) -> None:
    frames = Upstream().message("四月", close=False).frames
    with running.proxy(tmp_path, running.stream(frames), labels=LABELS_ON) as proxy, client(proxy.url) as sdk:
        got = []
        with pytest.raises(openai.APIError, match=r"without response\.completed"):
            for event in sdk.responses.create(**ASK, stream=True):
                got.append(event)
        entry = proxy.entries()[0]
    assert got[-1].delta == f"{L}\n\n四月\n\n{L}" and entry.result == "truncated"


def test_what_the_client_sends_back_reaches_the_upstream_without_labels(tmp_path: Path) -> None:
    up = Upstream().message("四月很冷。")
    body = json.dumps(up.response("completed", up.output)).encode()
    with running.proxy(tmp_path, running.whole(body), labels=LABELS_ON) as proxy, client(proxy.url) as sdk:
        first = sdk.responses.create(**ASK)
        turns: Any = [{"role": "user", "content": "x"}, *first.output, {"role": "user", "content": "五月呢？"}]
        sdk.responses.create(model="m", input=turns)
    sent = json.loads(proxy.fake.asked[1]["body"])["input"]
    assert sent[1]["content"][0]["text"] == "四月很冷。"


@pytest.mark.parametrize("text", ["Sorry, no JSON today.", '{"a": 1} and some prose'])
def test_an_answer_that_is_not_the_json_it_was_to_be_is_labelled(text: str) -> None:
    asked = responses.view({"input": "q", "text": {"format": {"type": "json_schema", "schema": {}}}})
    policy = marking.policy(positions=("start",))
    body = {"id": "r", "status": "completed", "output": [
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text, "annotations": []}]}
    ]}  # fmt: skip
    out = json.loads(marking.answer(policy, asked, surface=responses).whole(json.dumps(body).encode()))
    shown = out["output"][0]["content"][0]["text"]
    assert shown != text and strip(shown, policy.known) == text
    body["output"][0]["content"][0]["text"] = '{"a": 1}'
    out = json.loads(marking.answer(policy, asked, surface=responses).whole(json.dumps(body).encode()))
    assert out["output"][0]["content"][0]["text"] == '{"a": 1}'
    assert out["llm_label"]["label"]["skipped"] == "structured"
