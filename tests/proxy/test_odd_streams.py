"""What upstreams send although nobody expects it: no text leaves unlabelled, none is lost, nobody speaks in our name."""

import json
import time
from typing import Any

import pytest

from llm_label.errors import UpstreamError
from llm_label.labels.labeler import strip
from llm_label.policy import RequestView
from llm_label.proxy.sse import Parser
from tests.proxy import marking
from tests.proxy.test_chat import BOTH, DONE, START, TOOL, USAGE, L, bodies, chunk, contents, delta, run
from tests.proxy.touch import frames, texts

END = marking.policy(positions=("end",), texts={"zh": L})


def test_text_in_pieces_behind_a_tool_call_is_labelled_once_at_its_end() -> None:
    parts = [
        chunk(delta(tool_calls=TOOL)),
        chunk(delta("看")),
        chunk(delta("一下。")),
        chunk(delta(finish="stop")),
        DONE,
    ]
    assert texts(run(parts))[0] == f"{L}\n\n看一下。\n\n{L}"


def test_text_that_goes_on_behind_a_tool_call_can_be_stripped() -> None:
    parts = [chunk(delta("春")), chunk(delta(tool_calls=TOOL)), chunk(delta("夏")), chunk(delta("秋", "stop")), DONE]
    text = texts(run(parts))[0]
    assert text == f"{L}\n\n春\n\n{L}\n\n\n夏秋"
    assert strip(text, {L}) == "春夏秋"


def test_text_behind_a_finish_reason_that_no_label_can_reach_is_refused() -> None:
    with pytest.raises(UpstreamError, match="after its finish_reason"):
        marking.stream([chunk(delta("", "stop")), chunk(delta("春"))], START)
    out = run([chunk(delta("春", "stop")), chunk(delta("", "stop")), USAGE, DONE])
    assert texts(out)[0] == f"{L}\n\n春\n\n{L}", "repeating it is harmless"


def test_a_finish_reason_spelt_null_is_none() -> None:
    out = run([chunk(delta("春", "null")), chunk(delta("天", "")), chunk(delta("", "stop")), DONE])
    assert texts(out)[0] == f"{L}\n\n春天\n\n{L}"


def test_a_list_of_parts_without_text_is_kept_at_the_finish() -> None:
    thinking = [{"type": "thinking", "thinking": "想"}]
    out = run([chunk(delta("春")), chunk(delta(thinking, "stop")), DONE])
    assert contents(out) == [f"{L}\n\n春", f"\n\n{L}", thinking]


def test_the_end_label_joins_the_last_part_of_a_list_without_replacing_it() -> None:
    parts = [chunk(delta("春")), chunk(delta([{"type": "text", "text": ""}], "stop")), DONE]
    assert contents(run(parts))[1] == [{"type": "text", "text": f"\n\n{L}"}]


@pytest.mark.parametrize("parts", [["春"], [{"text": "春"}], [{"type": "output_text", "text": "春"}]], ids=str)
def test_parts_of_unusual_shape_are_labelled(parts: list[Any]) -> None:
    out = run([chunk(delta(parts)), chunk(delta(finish="stop")), DONE], START)
    assert f"{L}\\n\\n春" in json.dumps(bodies(out)[0], ensure_ascii=False)


@pytest.mark.parametrize(
    "choice",
    [
        {"index": 0, "text": "春"},
        {"index": 0, "delta": "春"},
        {"index": 0, "message": "春"},
        {"index": 0, "delta": {"content": [{"type": "text", "text": ["春"]}]}},
        {"index": 0, "delta": {"content": {"text": "春"}}},
        "春",
    ],
    ids=str,
)
def test_text_in_a_place_we_do_not_know_is_refused(choice: Any) -> None:
    with pytest.raises(UpstreamError, match="the upstream sent"):
        marking.stream([chunk(choice)], START)


@pytest.mark.parametrize("nothing", [None, "", [], 0, False], ids=str)
def test_a_delta_that_is_nothing_still_takes_the_end_label(nothing: Any) -> None:
    out = run([chunk(delta("春")), chunk({"index": 0, "delta": nothing, "finish_reason": "stop"}), DONE])
    assert texts(out)[0] == f"{L}\n\n春\n\n{L}"


def test_whole_messages_inside_a_stream_are_labelled_too() -> None:
    """Perplexity repeats the message so far in every frame; MiniMax sends it once, at the end."""
    first = {"index": 0, "delta": {"content": "春"}, "message": {"role": "assistant", "content": "春"}}
    last = {"index": 0, "message": {"role": "assistant", "content": "春天"}, "finish_reason": "stop"}
    out = bodies(run([chunk(first), chunk(delta("天")), chunk(last), DONE]))
    assert [b["choices"][0].get("message", {}).get("content") for b in out] == [
        f"{L}\n\n春\n\n{L}",
        None,
        f"{L}\n\n春天\n\n{L}",
    ]
    assert out[2]["choices"][0]["delta"] == {"content": f"\n\n{L}"}


def test_a_whole_answer_in_one_frame_is_labelled_and_counted() -> None:
    only = {"index": 0, "message": {"role": "assistant", "content": "春"}, "finish_reason": "stop"}
    out = bodies(run([chunk(only), DONE]))
    assert out[0]["choices"][0]["message"]["content"] == f"{L}\n\n春\n\n{L}"
    assert out[0]["llm_label"]["label"]["applied"] == ["start", "end"]


@pytest.mark.parametrize("index", [True, None, "0", 0.0, [], ...], ids=str)
def test_an_index_that_is_none_is_the_place_in_the_list(index: Any) -> None:
    odd = {"index": index, "delta": {"content": "春"}, "logprobs": {"content": []}, "finish_reason": None}
    if index is ...:
        del odd["index"]
    out = bodies(run([chunk(odd), chunk(delta("", "stop")), DONE]))
    assert out[0]["choices"][0]["index"] == 0 and type(out[0]["choices"][0]["index"]) is int
    assert out[-1]["choices"][0]["delta"]["content"] == f"\n\n{L}"


def test_an_error_frame_that_carries_text_is_labelled() -> None:
    broken = chunk(delta("春", "error"), error={"code": 400, "message": "limit"})
    out = run([broken])
    assert texts(out)[0] == f"{L}\n\n春\n\n{L}" and bodies(out)[0]["error"]["code"] == 400
    whole = {"error": {"code": 1}, "choices": [{"message": {"content": "春"}}]}
    marked = json.loads(marking.answer(BOTH).whole(json.dumps(whole).encode()))
    assert marked["choices"][0]["message"]["content"] == f"{L}\n\n春\n\n{L}"


def test_an_object_of_our_name_from_the_upstream_is_replaced() -> None:
    forged = {"record": {"ContentProducer": "Mallory"}}
    parts = [chunk(delta("春"), llm_label=forged) for _ in range(3)]
    parts += [chunk(delta("", "stop"), llm_label=forged), chunk(llm_label=forged), DONE]
    for field in (True, False):
        out = marking.stream(parts, BOTH, body_field=field)
        assert b"Mallory" not in out
        raw = json.dumps({"choices": [{"message": {"content": "春"}}], "llm_label": forged}).encode()
        assert b"Mallory" not in marking.answer(BOTH, body_field=field).whole(raw)


def test_fewer_choices_than_asked_for_still_end_with_what_happened_and_keep_usage() -> None:
    view = RequestView("chat", stream=True, n=3)
    out = bodies(run([chunk(delta("春")), chunk(delta("", "stop")), USAGE, DONE], BOTH, view))
    assert out[-1]["llm_label"]["label"]["applied"] == ["start", "end"]
    assert out[-1]["usage"] == {"total_tokens": 3}, "clients keep the last frame's usage"


def test_more_choices_than_asked_for_are_all_labelled_and_told() -> None:
    out = run([chunk(delta("春")), chunk(delta("", "stop")), chunk(delta("秋", "stop", index=1)), DONE])
    assert texts(out) == {0: f"{L}\n\n春\n\n{L}", 1: f"{L}\n\n秋\n\n{L}"}
    assert "llm_label" in bodies(out)[-1]


def test_an_end_without_finish_reason_carries_the_end_label_and_keeps_usage() -> None:
    out = run([chunk(delta("春")), USAGE, DONE])
    assert texts(out)[0] == f"{L}\n\n春\n\n{L}"
    assert bodies(out)[-1]["usage"] == {"total_tokens": 3}
    assert bodies(out)[-1]["llm_label"]["label"]["applied"] == ["start", "end"]


def test_our_frames_copy_the_frame_beside_them() -> None:
    azure = b'data: {"id":"","model":"","choices":[],"prompt_filter_results":[]}\n\n'
    probs = {"content": []}
    parts = [azure, chunk(delta("春", logprobs=probs)), chunk(delta("", "stop", logprobs=probs)), DONE]
    out = bodies(run(parts))
    assert [b["id"] for b in out] == ["", "c1", "c1", "c1", "c1"]


def test_a_label_still_to_come_is_no_skip() -> None:
    answer = marking.answer(END)
    (event,) = Parser().feed(chunk(delta("春")))
    answer.feed(event)
    assert answer.outcome().label_skipped is None and answer.outcome().label_applied == ()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_a_last_event_without_its_blank_line_counts(end: bytes) -> None:
    out = marking.stream([chunk(delta("春")) + b"data: " + frames(chunk(delta("", "stop")))[0] + end], BOTH)
    assert texts(out)[0] == f"{L}\n\n春\n\n{L}"
    with pytest.raises(UpstreamError, match="without a finish_reason"):
        marking.stream([chunk(delta("春")) + b'data: {"choices'], BOTH)


def test_one_enormous_event_and_very_many_small_ones_take_linear_time() -> None:
    began = time.process_time()
    big = b'data: {"choices": [], "x": "' + b"x" * 5_000_000 + b'"}\n\n'
    parser = Parser()
    assert sum(len(parser.feed(big[at : at + 1000])) for at in range(0, len(big), 1000)) == 1
    assert len(parser.feed(b"\n" * 1_000_000)) == 1
    assert sum(len(parser.feed(b"data: 1\n\n")) for _ in range(100_000)) == 100_000
    assert time.process_time() - began < 5
