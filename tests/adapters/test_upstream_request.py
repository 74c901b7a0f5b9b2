"""What the local upstream accepts and refuses before any token is made."""

import json
from typing import Any

import pytest

pytest.importorskip("torch", reason="the adapter llm-label-transformers is not installed")

from llm_label_transformers.request import ChatRequest, RequestRefused

HELLO = [{"role": "user", "content": "Hello"}]


def parse(**fields: Any) -> ChatRequest:
    return ChatRequest.parse(json.dumps({"messages": HELLO, **fields}).encode())


def refused(**fields: Any) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        parse(**fields)
    assert "\n" not in str(caught.value)
    assert caught.value.status == 400
    return caught.value


def test_defaults_are_those_of_the_api() -> None:
    assert parse() == ChatRequest(messages=({"role": "user", "content": "Hello"},))
    assert (parse().temperature, parse().top_p, parse().n, parse().stop) == (1.0, 1.0, 1, ())


def test_null_means_not_given() -> None:
    names = ("n", "temperature", "top_p", "top_k", "max_tokens", "stop", "seed", "stream", "tools", "stream_options")
    assert parse(**dict.fromkeys(names)) == parse()


def test_every_setting_is_read() -> None:
    asked = parse(
        n=3, temperature=0, top_p=0.5, top_k=7, max_tokens=9, stop=["a", "b"], seed=-4, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    assert asked.greedy
    assert asked.include_usage
    assert (asked.n, asked.top_p, asked.top_k, asked.max_tokens) == (3, 0.5, 7, 9)
    assert (asked.stop, asked.seed, asked.stream) == (("a", "b"), -4, True)


def test_max_completion_tokens_goes_before_max_tokens() -> None:
    assert parse(max_completion_tokens=5, max_tokens=9).max_tokens == 5


def test_one_stop_string_needs_no_list_and_top_k_minus_one_is_off() -> None:
    assert parse(stop="。").stop == ("。",)
    assert parse(top_k=-1).top_k == 0


def test_text_parts_are_joined_by_line_breaks() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert parse(messages=[{"role": "user", "content": parts}]).messages[0]["content"] == "one\ntwo"


def test_fields_that_ask_for_nothing_are_accepted() -> None:
    plain = parse()
    empty = {
        "tools": [],
        "tool_choice": "none",
        "response_format": {"type": "text"},
        "logprobs": False,
        "logit_bias": {},
    }
    assert parse(**empty) == plain
    other = {"user": "someone", "metadata": {"a": "b"}, "store": False, "model": "any"}
    assert parse(frequency_penalty=0, presence_penalty=0.0, **other) == plain


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 0), ("n", 17), ("n", True), ("n", 1.5), ("n", "2"),
        ("temperature", -0.1), ("temperature", 2.1), ("temperature", "1"), ("temperature", True),
        ("top_p", 0), ("top_p", 1.1), ("top_k", -2), ("top_k", 1.0),
        ("max_tokens", 0), ("max_tokens", "5"), ("max_completion_tokens", -1),
        ("stop", 5), ("stop", ["a"] * 5), ("stop", [1]), ("stop", ""), ("stop", ["", "a"]),
        ("seed", 1.5), ("seed", 2**63), ("stream", "yes"), ("stream_options", True),
        ("tools", [{"type": "function"}]), ("response_format", {"type": "json_object"}),
        ("logprobs", True), ("logit_bias", {"5": 1}), ("frequency_penalty", 0.5), ("guided_json", {}),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_named(name: str, value: Any) -> None:
    error = refused(**{name: value})
    assert error.param == name
    assert name in str(error)


@pytest.mark.parametrize(
    "messages",
    [
        None, [], {}, "Hello", [1], [{}], [{"role": "user"}], [{"role": "user", "content": None}],
        [{"role": "robot", "content": "x"}], [{"role": ["user"], "content": "x"}],
        [{"role": "user", "content": 5}], [{"role": "user", "content": [5]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
        [{"role": "user", "content": [{"type": "text", "text": None}]}],
    ],
)  # fmt: skip
def test_messages_of_another_shape_are_refused(messages: Any) -> None:
    assert (refused(messages=messages).param or "").startswith("messages")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"5", b"\xff", b'{"messages": "\\ud800"}'])
def test_a_body_that_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        ChatRequest.parse(raw)
    assert "\n" not in str(caught.value)


def test_stream_options_need_a_stream() -> None:
    assert refused(stream_options={"include_usage": True}).param == "stream_options"
