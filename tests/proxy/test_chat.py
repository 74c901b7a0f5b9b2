"""Where labels stand in chat completions, case by case; every stream case is also cut at every byte."""

import json
from typing import Any

import pytest

from llm_label.errors import ClientError, UpstreamError
from llm_label.policy import RequestView
from llm_label.proxy.surfaces import chat
from tests.proxy import marking
from tests.proxy.touch import frames, texts

LABELS = {"zh": "AI生成"}
L = "AI生成"
BOTH = marking.policy(positions=("start", "end"), texts=LABELS)
START = marking.policy(positions=("start",), texts=LABELS)


def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
    body = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1.0,
        "model": "m",
        "choices": list(choices),
        **more,
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def delta(content: Any = None, finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    inner = {k: v for k, v in more.items() if k not in ("logprobs",)}
    if content is not None:
        inner["content"] = content
    choice: dict[str, Any] = {"index": index, "delta": inner, "finish_reason": finish}
    if "logprobs" in more:
        choice["logprobs"] = more["logprobs"]
    return choice


DONE = b"data: [DONE]\n\n"
USAGE = chunk(usage={"total_tokens": 3})
TOOL = [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]


def run(parts: list[bytes], policy: Any = BOTH, view: RequestView | None = None) -> bytes:
    body = b"".join(parts)
    whole = marking.stream([body], policy, view)
    for at in range(1, len(body)):
        assert marking.stream([body[:at], body[at:]], policy, view) == whole, f"cut at {at}"
    return whole


def bodies(out: bytes) -> list[dict[str, Any]]:
    return [json.loads(data) for data in frames(out) if data.strip() != b"[DONE]"]


def contents(out: bytes) -> list[Any]:
    return [c["delta"].get("content") for b in bodies(out) for c in b["choices"]]


def test_the_start_label_joins_the_first_text_and_the_end_label_the_finish_frame() -> None:
    out = run(
        [
            chunk(delta("", role="assistant")),
            chunk(delta("春")),
            chunk(delta("天")),
            chunk(delta(finish="stop")),
            USAGE,
            DONE,
        ]
    )
    assert contents(out) == ["", f"{L}\n\n春", "天", f"\n\n{L}"]
    assert [list(c["delta"]) for b in bodies(out) for c in b["choices"]] == [
        ["role", "content"], ["content"], ["content"], ["content"]]  # fmt: skip
    assert out.endswith(USAGE + DONE), "usage and what follows keep their bytes"


def test_the_first_frame_says_what_is_planned_and_the_last_what_happened() -> None:
    out = bodies(run([chunk(delta("", role="assistant")), chunk(delta("春")), chunk(delta("", "stop")), USAGE, DONE]))
    assert [("llm_label" in body) for body in out] == [True, False, True, False]
    assert out[0]["llm_label"]["label"] == {"planned": ["start", "end"], "applied": [], "skipped": None}
    assert out[2]["llm_label"]["label"] == {
        "planned": ["start", "end"],
        "applied": ["start", "end"],
        "skipped": None,
    }


def test_a_role_only_stream_and_one_without_role_are_labelled() -> None:
    assert contents(run([chunk(delta("春")), chunk(delta("天", "stop")), DONE])) == [
        f"{L}\n\n春",
        f"天\n\n{L}",
    ]


def test_a_null_content_stays_null_and_the_label_waits_for_text() -> None:
    out = run([chunk({"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}),
               chunk(delta("春")), chunk({"index": 0, "delta": {"content": None}, "finish_reason": "stop"}), DONE])  # fmt: skip
    assert contents(out) == [None, f"{L}\n\n春", f"\n\n{L}"]


def test_reasoning_comes_first_and_carries_no_label() -> None:
    out = run([chunk(delta(reasoning_content="想")), chunk(delta("春")), chunk(delta(finish="stop")), DONE], START)
    assert [b["choices"][0]["delta"] for b in bodies(out)] == [
        {"reasoning_content": "想"}, {"content": f"{L}\n\n春"}, {}]  # fmt: skip


def test_inline_thinking_split_over_frames_is_not_labelled() -> None:
    parts = [chunk(delta(t)) for t in ("<th", "ink>想", "</thi", "nk>\n\n", "春")]
    out = run([*parts, chunk(delta(finish="stop")), DONE], START)
    assert texts(out)[0] == f"<think>想</think>\n\n{L}\n\n春"


def test_every_choice_has_its_own_labels() -> None:
    view = RequestView("chat", stream=True, n=2)
    out = run([chunk(delta("春", index=0)), chunk(delta("秋", index=1)), chunk(delta(finish="stop", index=0)),
               chunk(delta(finish="stop", index=1)), DONE], BOTH, view)  # fmt: skip
    assert texts(out) == {0: f"{L}\n\n春\n\n{L}", 1: f"{L}\n\n秋\n\n{L}"}
    assert [("llm_label" in body) for body in bodies(out)] == [True, False, False, True]


def test_two_choices_in_one_frame_are_both_labelled() -> None:
    view = RequestView("chat", stream=True, n=2)
    out = run(
        [
            chunk(delta("春", index=0), delta("秋", index=1)),
            chunk(delta("", "stop", 0), delta("", "stop", 1)),
            DONE,
        ],
        BOTH,
        view,
    )
    assert texts(out) == {0: f"{L}\n\n春\n\n{L}", 1: f"{L}\n\n秋\n\n{L}"}


def test_a_label_lands_in_its_own_choice_of_a_shared_frame() -> None:
    view = RequestView("chat", stream=True, n=2)
    parts = [
        chunk(delta("春", index=0), delta("秋", index=1)),
        chunk(delta("", index=0), delta(finish="stop", index=1)),
    ]
    out = run([*parts, chunk(delta(finish="stop", index=0)), DONE], BOTH, view)
    assert texts(out) == {0: f"{L}\n\n春\n\n{L}", 1: f"{L}\n\n秋\n\n{L}"}
    assert contents(out)[2:4] == ["", f"\n\n{L}"]


def test_prose_before_a_tool_call_is_labelled_before_the_first_tool_delta() -> None:
    out = run([chunk(delta("看一下。")), chunk(delta(tool_calls=TOOL)), chunk(delta(finish="tool_calls")), DONE])
    assert contents(out) == [f"{L}\n\n看一下。", f"\n\n{L}", None, None]
    assert bodies(out)[2]["choices"][0]["delta"] == {"tool_calls": TOOL}


def test_a_tool_call_alone_keeps_every_byte_of_its_choices() -> None:
    parts = [
        chunk(delta(role="assistant", tool_calls=TOOL)),
        chunk(delta(tool_calls=TOOL)),
        chunk(delta(finish="tool_calls")),
    ]
    out = run([*parts, DONE])
    assert [b["choices"] for b in bodies(out)] == [json.loads(p[6:])["choices"] for p in parts]
    assert bodies(out)[-1]["llm_label"]["label"]["skipped"] == "tool_call"


def test_structured_output_is_untouched_and_says_why() -> None:
    view = chat.view({"messages": [], "response_format": {"type": "json_schema", "json_schema": {}}})
    out = run([chunk(delta('{"a": 1.0}')), chunk(delta(finish="stop")), DONE], BOTH, view)
    assert contents(out) == ['{"a": 1.0}', None]
    assert bodies(out)[-1]["llm_label"]["label"] == {"planned": [], "applied": [], "skipped": "structured"}


def test_after_a_prefill_only_the_end_is_labelled() -> None:
    view = chat.view({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "从前"}]})
    out = run([chunk(delta("有座山")), chunk(delta(finish="stop")), DONE], BOTH, view)
    assert texts(out)[0] == f"有座山\n\n{L}"


def test_with_logprobs_the_label_travels_in_frames_of_its_own() -> None:
    probs = {"content": [{"token": "春", "logprob": -0.1, "bytes": None, "top_logprobs": []}]}
    parts = [chunk(delta("春", logprobs=probs)), chunk(delta(finish="stop", logprobs=probs))]
    out = bodies(run([*parts, DONE]))
    assert [b["choices"][0]["delta"].get("content") for b in out] == [f"{L}\n\n", "春", f"\n\n{L}", None]
    assert [b["choices"][0]["logprobs"] for b in out] == [None, probs, None, probs]
    assert out[0]["id"] == "c1" and "role" not in out[0]["choices"][0]["delta"]


def test_content_as_a_list_of_parts_is_labelled_in_its_text_parts() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "想"}]}
    out = run(
        [
            chunk(delta([thinking])),
            chunk(delta([{"type": "text", "text": "春"}])),
            chunk(delta("", "stop")),
            DONE,
        ]
    )
    assert contents(out)[:2] == [[thinking], [{"type": "text", "text": f"{L}\n\n春"}]]
    assert contents(out)[2] == f"\n\n{L}"


def test_a_refusal_is_not_labelled() -> None:
    out = run([chunk(delta(refusal="不行")), chunk(delta(finish="stop")), DONE])
    assert contents(out) == [None, None]
    assert bodies(out)[-1]["llm_label"]["label"]["skipped"] == "refusal"


def test_an_empty_answer_is_not_labelled() -> None:
    out = run([chunk(delta("", role="assistant")), chunk(delta(finish="stop")), DONE])
    assert bodies(out)[-1]["llm_label"]["label"]["skipped"] == "empty"


def test_an_answer_that_brings_our_label_gets_no_second_one() -> None:
    out = run([chunk(delta("AI")), chunk(delta("生成\n\n春")), chunk(delta(finish="stop")), DONE], START)
    assert texts(out)[0] == f"{L}\n\n春"
    assert bodies(out)[-1]["llm_label"]["label"]["skipped"] == "labelled"


def test_comments_pass_and_events_without_data_do_not() -> None:
    out = run([b": ping\n\n", b"event: ping\n\n", chunk(delta("春", "stop")), b"retry: 5\n\n", DONE])
    assert out.startswith(b": ping\n\ndata:") and b"event" not in out and b"retry" not in out


def test_nothing_follows_done() -> None:
    assert run([chunk(delta("春", "stop")), DONE, chunk(delta("夏"))]).endswith(DONE)


def test_a_missing_done_is_no_truncation_but_a_missing_finish_reason_is() -> None:
    run([chunk(delta("春", "stop"))])
    with pytest.raises(UpstreamError, match="finish_reason"):
        marking.stream([chunk(delta("春"))], BOTH)


def test_an_error_frame_passes_with_our_object_after_the_pending_label() -> None:
    error = b'data: {"error": {"message": "overloaded"}}\n\n'
    out = run([chunk(delta("春")), error])
    assert texts(out)[0] == f"{L}\n\n春\n\n{L}"
    assert bodies(out)[-1]["error"] == {"message": "overloaded"}
    assert bodies(out)[-1]["llm_label"]["label"]["applied"] == ["start", "end"]


def test_azure_style_first_frames_without_choices_pass() -> None:
    out = run([chunk(prompt_filter_results=[1]), chunk(delta("春", "stop")), DONE])
    assert bodies(out)[0]["choices"] == [] and contents(out) == [f"{L}\n\n春\n\n{L}"]


def test_a_finish_frame_without_a_delta_still_carries_the_end_label() -> None:
    out = run([chunk(delta("春")), chunk({"index": 0, "finish_reason": "stop"}), DONE])
    assert texts(out)[0] == f"{L}\n\n春\n\n{L}"


def test_half_a_surrogate_pair_passes_as_it_came() -> None:
    raw = b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"\\ud83d"}}]}\n\n'
    rest = b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"\\ude00"},"finish_reason":"stop"}]}\n\n'
    assert b'"content":"AI\\u751f\\u6210\\n\\n\\ud83d"' in run([raw, rest, DONE], START)


def test_whole_answers_follow_the_same_rules() -> None:
    body = {
        "id": "c1", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "春", "reasoning": "想"}, "logprobs": {"content": []}},
            {"index": 1, "message": {"role": "assistant", "content": None, "tool_calls": TOOL}},
            {"index": 2, "message": {"role": "assistant", "content": [{"type": "text", "text": "夏"}, {"type": "text", "text": "秋"}]}},
        ],
    }  # fmt: skip
    marked = json.loads(marking.answer(BOTH, RequestView("chat", n=3)).whole(json.dumps(body).encode()))
    assert marked["choices"][0] == {
        **body["choices"][0],
        "message": {**body["choices"][0]["message"], "content": f"{L}\n\n春\n\n{L}"},
    }
    assert marked["choices"][1] == body["choices"][1]
    assert [p["text"] for p in marked["choices"][2]["message"]["content"]] == [f"{L}\n\n夏", f"秋\n\n{L}"]
    assert marked["llm_label"]["label"]["applied"] == ["start", "end"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {}),
        ({"n": 3, "stream": True, "model": "m"}, {"n": 3, "stream": True, "model": "m"}),
        ({"temperature": 0}, {"greedy": True}),
        ({"temperature": 0.0}, {"greedy": True}),
        ({"response_format": {"type": "text"}}, {"structured": False}),
        ({"guided_regex": "a*"}, {"structured": True}),
        ({"grammar": "root ::= x"}, {"structured": True}),
        ({"logprobs": True, "stop": ["x"]}, {"structured": False}),
    ],
)
def test_what_policy_may_know_of_a_request(body: dict[str, Any], expected: dict[str, Any]) -> None:
    seen = chat.view({"messages": [{"role": "user", "content": [{"type": "text", "text": "你好"}]}], **body})
    assert {k: getattr(seen, k) for k in expected} == expected
    assert seen.prompt == "你好"


@pytest.mark.parametrize("messages", [None, "x", [1], {}])
def test_messages_of_another_shape_are_refused(messages: Any) -> None:
    with pytest.raises(ClientError, match="list of objects"):
        chat.view({"messages": messages})


def test_history_is_cleaned_in_place() -> None:
    raw = b'{ "messages": [{"role":"assistant","content":"AI\xe7\x94\x9f\xe6\x88\x90\\n\\n\xe6\x98\xa5"},{"role":"assistant","content":[{"type":"text","text":"x\\n\\nAI\xe7\x94\x9f\xe6\x88\x90"},3]},{"role":"user","content":"AI\xe7\x94\x9f\xe6\x88\x90\\n\\nx"}], "top_p": 1.0 }'
    cleaned = chat.clean(raw, json.loads(raw), {L})
    assert cleaned == raw.replace("AI生成\\n\\n春".encode(), "春".encode()).replace('x\\n\\nAI生成"}'.encode(), b'x"}')


def test_citations_keep_their_words_behind_a_start_label() -> None:
    text = "Spring is cold [1]. It rains."
    at = text.index("cold")
    cited = [
        {"type": "url_citation", "url_citation": {"start_index": at, "end_index": at + 4, "url": "u", "title": "t"}}
    ]
    policy = marking.policy(positions=("start", "end"))
    message = {"role": "assistant", "content": text, "annotations": cited}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    out = json.loads(marking.answer(policy).whole(json.dumps(body).encode()))["choices"][0]["message"]
    where = out["annotations"][0]["url_citation"]
    assert out["content"][where["start_index"] : where["end_index"]] == "cold"

    deltas = [{"role": "assistant", "content": text[:20]}, {"content": text[20:], "annotations": cited}, {}]
    frames = [
        {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}]}
        for delta in deltas
    ]
    stream = b"".join(b"data: " + json.dumps(frame).encode() + b"\n\n" for frame in frames) + b"data: [DONE]\n\n"
    chunks = bodies(marking.stream([stream], policy))
    shown = "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])
    moved = [a for chunk in chunks for c in chunk["choices"] for a in c["delta"].get("annotations") or []]
    assert shown[moved[0]["url_citation"]["start_index"] :].startswith("cold")
