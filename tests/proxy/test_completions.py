"""Where labels stand in text completions; every stream case is also cut at every byte, and every recording anywhere."""

import json
import random
from pathlib import Path
from typing import Any

import openai
import pytest

from llm_label.errors import ClientError, UpstreamError
from llm_label.labels.labeler import strip
from llm_label.policy import RequestView
from llm_label.proxy.jsonspan import dumps
from llm_label.proxy.sse import frame
from llm_label.proxy.surfaces import completions
from tests.proxy import marking, recorded
from tests.proxy.running import proxy, stream, whole
from tests.proxy.touch import OWN, frames, read

L = "AI生成"
TEXTS = {"zh": L}
BOTH = marking.policy(positions=("start", "end"), texts=TEXTS)
POSITIONS = [("start",), ("start", "end"), ("start", "middle", "end"), ("end",)]
DONE = b"data: [DONE]\n\n"
PROBS = {"tokens": ["春"], "token_logprobs": [-0.1], "top_logprobs": None, "text_offset": [0]}


def choice(text: str | None = "", finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish, **more}


def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
    return frame(
        dumps({"id": "c1", "object": "text_completion", "created": 1, "choices": choices, "model": "m", **more})
    )


def marked(chunks: list[bytes], policy: Any = BOTH, view: RequestView | None = None) -> bytes:
    return marking.stream(chunks, policy, view, surface=completions)


def run(parts: list[bytes], view: RequestView | None = None) -> bytes:
    body = b"".join(parts)
    out = marked([body], BOTH, view)
    for at in range(1, len(body)):
        assert marked([body[:at], body[at:]], BOTH, view) == out, f"cut at {at}"
    return out


def bodies(out: bytes) -> list[Any]:
    return [read(data) for data in frames(out) if data.strip() != b"[DONE]"]


def texts(out: bytes) -> dict[int, str]:
    joined: dict[int, str] = {}
    for body in bodies(out):
        for part in body["choices"]:
            joined[int(part["index"])] = joined.get(int(part["index"]), "") + (part["text"] or "")
    return joined


def pieces(out: bytes) -> list[Any]:
    return [part["text"] for body in bodies(out) for part in body["choices"]]


def assert_only_marks_were_added(before: bytes, after: bytes, known: Any) -> None:
    old, new = bodies(before), bodies(after)
    for body in (*old, *new):
        body.pop(OWN, None)
        body["texts"] = [part.pop("text") for part in body["choices"]]
    assert [{**body, "texts": 0} for body in new] == [{**body, "texts": 0} for body in old], "none of our own is needed"
    assert {i: strip(text, known) for i, text in texts(after).items()} == texts(before)


def test_the_labels_join_the_first_text_and_the_finish_frame() -> None:
    usage = chunk(usage={"total_tokens": 3})
    out = run([chunk(choice("春")), chunk(choice("天")), chunk(choice("", "stop")), usage, DONE])
    assert pieces(out) == [f"{L}\n\n春", "天", f"\n\n{L}"]
    assert out.endswith(usage + DONE)
    assert [OWN in body for body in bodies(out)] == [True, False, True, False]
    assert bodies(out)[2][OWN]["label"]["applied"] == ["start", "end"]


def test_every_choice_of_every_prompt_has_its_own_labels() -> None:
    view = completions.view({"prompt": ["a", "b"], "n": 1})
    out = run(
        [chunk(choice("春"), choice("秋", index=1)), chunk(choice("", "stop", 1)), chunk(choice("", "length")), DONE],
        view,
    )
    assert texts(out) == {0: f"{L}\n\n春\n\n{L}", 1: f"{L}\n\n秋\n\n{L}"}
    assert [OWN in body for body in bodies(out)] == [True, False, True]


def test_with_log_probabilities_only_the_end_is_labelled_and_no_offset_shifts() -> None:
    view = completions.view({"prompt": "x", "logprobs": 0})
    out = run([chunk(choice("春", logprobs=PROBS)), chunk(choice("", "stop", logprobs=PROBS)), DONE], view)
    assert pieces(out) == ["春", f"\n\n{L}", ""]
    assert [b["choices"][0]["logprobs"] is None for b in bodies(out)] == [False, True, False]
    body = {"id": "c1", "choices": [choice("春", "stop", logprobs=PROBS)]}
    answered = json.loads(marking.answer(BOTH, view, surface=completions).whole(dumps(body)))
    assert answered["choices"] == [choice(f"春\n\n{L}", "stop", logprobs=PROBS)]


def test_an_echoed_prompt_has_no_label_before_it_whole_or_streamed() -> None:
    view = completions.view({"prompt": "从前", "echo": True})
    out = run([chunk(choice("从前")), chunk(choice("有座山", "stop")), DONE], view)
    assert texts(out) == {0: f"从前有座山\n\n{L}"}
    body = dumps({"choices": [choice("从前有座山", "stop")]})
    answered = json.loads(marking.answer(BOTH, view, surface=completions).whole(body))
    assert answered["choices"][0]["text"] == texts(out)[0]


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "def f(", "suffix": "return x"},
        {"prompt": "<|fim_prefix|>def f(<|fim_suffix|>return x<|fim_middle|>"},
        {"prompt": ["<PRE> def f( <SUF>return x <MID>"]},
        {"prompt": "<｜fim▁begin｜>def f(<｜fim▁hole｜>return x<｜fim▁end｜>"},
        {"prompt": "[SUFFIX]return x[PREFIX]def f("},
    ],
)
def test_what_fills_a_gap_is_untouched_and_says_why(body: dict[str, Any]) -> None:
    view = completions.view(body)
    out = run([chunk(choice("a, b")), chunk(choice("):\n", "stop")), DONE], view)
    assert pieces(out) == ["a, b", "):\n"]
    assert bodies(out)[-1][OWN]["label"] == {"planned": [], "applied": [], "skipped": "fill_in"}


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "What does <|fim_prefix|> mean?"},
        {"prompt": "<PRE>text</PRE>"},
        {"prompt": "x", "suffix": ""},
        {"prompt": "x", "suffix": None},
        {"prompt": ["<fim_prefix>a<fim_suffix>b<fim_middle>", "Tell me a story."]},
        {},
    ],
)
def test_what_only_looks_like_a_gap_is_labelled(body: dict[str, Any]) -> None:
    assert not completions.view(body).fill_in


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"prompt": "你好"}, {"n": 1, "prompt": "你好", "prefill": False, "structured": False}),
        ({"prompt": ["你好", "b", "c"], "n": 2}, {"n": 6, "prompt": "你好"}),
        ({"prompt": [1, 2, 3]}, {"n": 1, "prompt": ""}),
        ({"prompt": [[1], [2, 3]], "n": 2}, {"n": 4}),
        ({"prompt": []}, {"n": 1}),
        ({"prompt": "x", "echo": True}, {"prefill": True}),
        ({"prompt": "x", "logprobs": 0}, {"prefill": True}),
        ({"prompt": "x", "logprobs": None}, {"prefill": False}),
        ({"prompt": "x", "guided_json": {}}, {"structured": False}),
        ({"prompt": "x", "guided_regex": "a*"}, {"structured": True}),
        ({"prompt": "x", "response_format": {"type": "json_object"}}, {"structured": True}),
        (
            {"prompt": "x", "temperature": 0, "stream": True, "model": "m"},
            {"greedy": True, "stream": True, "model": "m"},
        ),
    ],
)
def test_what_policy_may_know_of_a_request(body: dict[str, Any], expected: dict[str, Any]) -> None:
    seen = completions.view(body)
    assert {k: getattr(seen, k) for k in expected} == expected


@pytest.mark.parametrize("prompt", [1, {}, True])
def test_a_prompt_of_another_shape_is_refused(prompt: Any) -> None:
    with pytest.raises(ClientError, match="prompt must be"):
        completions.view({"prompt": prompt})


def test_a_prompt_keeps_its_bytes_whatever_it_holds() -> None:
    raw = dumps({"prompt": f"{L}\n\n春\n\n{L}"})
    assert completions.clean(raw, json.loads(raw), {L}) is raw


@pytest.mark.parametrize(
    "part", [{"text": 1}, {"text": ["x"]}, {"delta": {"content": "x"}}, {"message": {"content": "x"}}]
)
def test_text_that_no_label_reaches_is_refused(part: dict[str, Any]) -> None:
    with pytest.raises(UpstreamError) as caught:
        marked([chunk({"index": 0, "finish_reason": None, **part})])
    assert caught.value.code == "upstream_malformed"
    with pytest.raises(UpstreamError):
        marking.answer(BOTH, surface=completions).whole(dumps({"choices": [part]}))


def test_a_null_text_stays_null_and_a_missing_finish_reason_is_a_truncation() -> None:
    assert pieces(run([chunk(choice(None)), chunk(choice("春")), chunk(choice(None, "stop")), DONE])) == [
        None, f"{L}\n\n春", f"\n\n{L}"]  # fmt: skip
    with pytest.raises(UpstreamError, match="finish_reason"):
        marked([chunk(choice("春"))])


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_recorded_answers_keep_the_touch_law_at_every_cut(positions: tuple[str, ...]) -> None:
    policy = marking.policy(positions=positions, middle_after=10)
    streams = recorded.of("openai_completions", stream=True)
    assert len(streams) == 2
    for number, (exchange, body) in enumerate(streams):
        view = completions.view(exchange["request"]["body"])
        out = marked([body], policy, view)
        assert_only_marks_were_added(body, out, policy.known)
        assert texts(out) != texts(body)
        assert marked([body[at : at + 1] for at in range(len(body))], policy, view) == out
        rng = random.Random(number)
        for _ in range(50):
            assert marked(marking.cuts(body, rng), policy, view) == out


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_recorded_whole_answers_keep_the_touch_law(positions: tuple[str, ...]) -> None:
    policy = marking.policy(positions=positions, middle_after=10)
    labelled = 0
    for exchange, body in recorded.of("openai_completions", stream=False):
        view = completions.view(exchange["request"]["body"])
        out = read(marking.answer(policy, view, surface=completions).whole(body))
        before = read(body)
        assert out.pop(OWN)["label"]["skipped"] == ("fill_in" if view.fill_in else None)
        assert len(before["choices"]) == view.n
        for mine, theirs in zip(out["choices"], before["choices"], strict=True):
            labelled += mine["text"] != theirs["text"]
            assert strip(mine.pop("text"), policy.known) == theirs.pop("text")
        assert json.dumps(out) == json.dumps(before)
    assert labelled == 8


def test_the_client_reads_streams_and_answers(tmp_path: Path) -> None:
    labels = {"positions": ["start", "end"], "language": "zh"}
    chunks = [chunk(choice("春")), chunk(choice("天")), chunk(choice("", "stop")), DONE]
    with (
        proxy(tmp_path, stream(chunks), labels=labels) as up,
        openai.OpenAI(base_url=up.url + "/v1", api_key="k") as ai,
    ):
        got = list(ai.completions.create(model="m", prompt="你好", stream=True))
        joined = "".join(part.choices[0].text for part in got)
        assert strip(joined, up.parts.policy.known) == "春天" != joined
        up.fake.reply = whole(dumps({"id": "c1", "object": "text_completion", "choices": [choice("春", "stop")]}))
        answer = ai.completions.create(model="m", prompt="你好")
        assert strip(answer.choices[0].text, up.parts.policy.known) == "春" != answer.choices[0].text
        up.fake.reply = stream([chunk(choice("春"))])
        with pytest.raises(openai.APIError, match="without a finish_reason"):
            list(ai.completions.create(model="m", prompt="你好", stream=True))
        assert [e.result for e in up.entries()] == ["truncated", "complete", "complete"]
        assert {e.surface for e in up.entries()} == {"completions"}
