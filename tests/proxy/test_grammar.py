"""Any stream that the grammar of chat chunks allows, at any cut, under any plan, keeps the laws; garbage ends in one error."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_label.errors import UpstreamError
from llm_label.policy import RequestView
from tests.proxy import marking
from tests.proxy.touch import assert_only_marks_were_added, assert_same_but_marks, frames, texts

POLICIES = [
    marking.policy(positions=positions, middle_after=12)
    for positions in (["start"], ["end"], ["start", "end"], ["start", "middle", "end"], ["middle"])
]
EXAMPLES = 150
LIMITS = settings(max_examples=EXAMPLES, derandomize=True, deadline=None)

words = st.sampled_from(
    ["春天。", "四月", "Spring is here. ", "AI", "AI生成 · ", "本内容由", "\n", "\n\n", " ", "", "- a\n", "```\n", "|", "\u2028", "😀", "\\", '"', "<think>", "</think>"]
)  # fmt: skip
prose = st.lists(words, max_size=4).map("".join)
probs = st.sampled_from([{}, {"logprobs": None}, {"logprobs": {"content": [{"token": "x", "logprob": -1.50}]}}])
contents = st.one_of(
    prose.map(lambda text: {"content": text}),
    prose.map(lambda text: {"content": [{"type": "text", "text": text}]}),
    prose.map(lambda text: {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]}),
    st.sampled_from([{}, {"content": None}, {"content": []}, {"role": "assistant", "content": ""}, {"refusal": "不"}]),
    prose.map(lambda text: {"reasoning_content": text}),
)
TOOL = {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
line_ends = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def choices(draw: st.DrawFn, index: int) -> list[dict[str, Any]]:
    """One choice: deltas, a tool call behind the text or none, a finish with or without text of its own."""
    deltas = [(draw(contents), draw(probs)) for _ in range(draw(st.integers(0, 5)))]
    if draw(st.booleans()):
        deltas += [(TOOL, {})] * draw(st.integers(1, 2))
    frames = [{"index": index, "delta": delta, "finish_reason": None, **more} for delta, more in deltas]
    last = draw(st.one_of(contents, st.just(None)))
    if deltas and deltas[-1][0] is TOOL:
        last = {}
    finish: dict[str, Any] = {"index": index, "delta": last, "finish_reason": "stop", **draw(probs)}
    if last is None and draw(st.booleans()):
        del finish["delta"]
    return [*frames, finish]


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, int]:
    """A whole stream: n choices interleaved, comments, frames with several choices, usage, `[DONE]`."""
    n = draw(st.integers(1, 3))
    queues = [draw(choices(index)) for index in range(n)]
    end = draw(line_ends)
    out = draw(st.sampled_from([b"", b"\xef\xbb\xbf", b": hi" + end * 2]))
    opened = 0
    while any(queues):
        ready = [i for i, queue in enumerate(queues) if queue and i <= opened]
        taken = draw(st.lists(st.sampled_from(ready), min_size=1, max_size=n, unique=True))
        opened = max(opened, *(i + 1 for i in taken))
        body = {"id": "c1", "created": 1.0, "choices": [queues[i].pop(0) for i in taken], "x": draw(prose)}
        text = json.dumps(body, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 1])))
        out += b"".join(b"data: " + line.encode() + end for line in text.split("\n")) + end
        if draw(st.integers(0, 5)) == 0:
            out += b": ping" + end * 2
    if draw(st.booleans()):
        out += b'data: {"id":"c1","choices":[],"usage":{"total_tokens":3}}' + end * 2
    return out + (b"data: [DONE]" + end * draw(st.integers(1, 2)) if draw(st.booleans()) else b""), n


@LIMITS
@given(streams(), st.sampled_from(POLICIES), st.booleans(), st.randoms(use_true_random=False))
def test_every_stream_keeps_the_cut_law_and_the_touch_law(
    made: tuple[bytes, int], policy: Any, body_field: bool, rng: Any
) -> None:
    body, n = made
    view = RequestView("chat", stream=True, n=n)
    whole = marking.stream([body], policy, view, body_field=body_field)
    assert marking.stream(marking.cuts(body, rng), policy, view, body_field=body_field) == whole
    assert_only_marks_were_added(body, whole, policy.known)
    for index, text in texts(body).items():
        assert (texts(whole)[index] != text) == bool(text.strip())
    notes = [json.loads(f)["llm_label"]["label"] for f in frames(whole) if b'"llm_label":' in f]
    assert len(notes) <= 2 * body_field
    if body_field:
        assert bool(notes[-1]["applied"]) == any(text.strip() for text in texts(body).values())


@LIMITS
@given(st.lists(prose, min_size=1, max_size=3), st.booleans(), st.sampled_from(POLICIES))
def test_a_stream_gives_the_text_of_the_whole_answer(given: list[str], parts: bool, policy: Any) -> None:
    messages = [[{"type": "text", "text": text}] if parts else text for text in given]
    body = {"choices": [{"index": i, "message": {"content": text}} for i, text in enumerate(messages)]}
    raw = json.dumps(body).encode()
    out = marking.answer(policy, RequestView("chat", n=len(given))).whole(raw)
    assert_same_but_marks(raw, out, policy.known)
    chunks = [{"index": i, "delta": {"content": text}, "finish_reason": "stop"} for i, text in enumerate(given)]
    sse = b"".join(b"data: " + json.dumps({"choices": [c]}).encode() + b"\n\n" for c in chunks)
    streamed = texts(marking.stream([sse], policy, RequestView("chat", stream=True, n=len(given))))
    for i, choice in enumerate(json.loads(out)["choices"]):
        content = choice["message"]["content"]
        assert streamed[i] == (content[0]["text"] if parts else content)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "x", "stop", "\ud800", 1e300]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "delta", "content", "message", "index", "text", "type", "error", "finish_reason", "llm_label", "usage", "id", "tool_calls", "refusal", "logprobs"]),
        inner,
        max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@LIMITS
@given(
    st.lists(st.binary(max_size=40) | json_values | st.sampled_from([b"\n", b"\r", b"data:", b"[DONE]"]), max_size=6),
    st.sampled_from(POLICIES),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_garbage_passes_or_ends_in_one_error(made: list[Any], policy: Any, body_field: bool, rng: Any) -> None:
    parts = [p if isinstance(p, bytes) else b"data: " + json.dumps(p).encode() + b"\n\n" for p in made]
    results = []
    for chunks in ([b"".join(parts)], marking.cuts(b"".join(parts), rng)):
        try:
            results.append(marking.stream(chunks, policy, body_field=body_field))
        except UpstreamError as error:
            results.append(str(error).encode())
    assert results[0] == results[1]


@LIMITS
@given(json_values, st.sampled_from(POLICIES))
def test_a_garbage_answer_is_marked_or_refused(value: Any, policy: Any) -> None:
    try:
        out = marking.answer(policy).whole(json.dumps(value).encode())
    except UpstreamError:
        return
    assert json.loads(out)["llm_label"]["content_id"] == marking.CONTENT_ID
