"""Every recorded chat answer keeps the touch law, whole and at every cut."""

import json
import random

import pytest

from llm_label.errors import UpstreamError
from llm_label.policy import RequestView
from tests.proxy import marking, recorded
from tests.proxy.touch import assert_only_marks_were_added, assert_same_but_marks, texts

POSITIONS = [("start",), ("start", "end"), ("start", "middle", "end"), ("end",)]


def view_of(exchange: dict) -> RequestView:  # type: ignore[type-arg]
    """Read the request where one was recorded; a plain one elsewhere."""
    from llm_label.proxy.surfaces import chat

    request = (exchange.get("request") or {}).get("body") or {}
    if isinstance(request, dict) and isinstance(request.get("messages"), list):
        return chat.view(request)
    return RequestView("chat", stream=exchange["stream"])


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_streams_carry_marks_and_nothing_else_changes(positions: tuple[str, ...]) -> None:
    policy = marking.policy(positions=positions)
    labelled = 0
    for number, (exchange, body) in enumerate(recorded.chat(stream=True)):
        view = view_of(exchange)
        try:
            whole = marking.stream([body], policy, view)
        except UpstreamError:
            assert "error" in exchange["features"] or b'"finish_reason":"' not in body.replace(b" ", b"")
            continue
        assert_only_marks_were_added(body, whole, policy.known)
        rng = random.Random(number)
        for _ in range(3):
            assert marking.stream(marking.cuts(body, rng), policy, view) == whole
        for index, text in texts(body).items():
            if text.strip() and not view.structured:
                labelled += 1
                assert texts(whole)[index] != text
            else:
                assert texts(whole)[index] == text
    assert labelled > 50


def test_every_stream_may_come_one_byte_at_a_time() -> None:
    policy = marking.policy(positions=("start", "middle", "end"))
    streams = recorded.chat(stream=True)
    assert len(streams) > 90
    for exchange, body in streams:
        view = view_of(exchange)
        bytewise = [body[at : at + 1] for at in range(len(body))]
        assert marking.stream(bytewise, policy, view) == marking.stream([body], policy, view), exchange["id"]


def test_short_streams_keep_the_law_at_every_byte() -> None:
    policy = marking.policy(positions=("start", "middle", "end"), middle_after=20)
    short = [(e, b) for e, b in recorded.chat(stream=True) if len(b) <= 1500]
    assert len(short) > 5
    for exchange, body in short:
        view = view_of(exchange)
        whole = marking.stream([body], policy, view)
        for at in range(len(body)):
            assert marking.stream([body[:at], body[at:]], policy, view) == whole
        assert marking.stream([bytes([b]) for b in body], policy, view) == whole


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_whole_answers_carry_marks_and_nothing_else_changes(positions: tuple[str, ...]) -> None:
    policy = marking.policy(positions=positions)
    labelled = 0
    for exchange, body in recorded.chat(stream=False):
        out = marking.answer(policy, view_of(exchange)).whole(body)
        assert_same_but_marks(body, out, policy.known)
        labelled += bool(json.loads(out)["llm_label"]["label"]["applied"])
    assert labelled > 50


def test_tool_and_json_turns_keep_their_bytes() -> None:
    policy = marking.policy(positions=("start", "end"))
    seen = 0
    for exchange, body in recorded.chat(stream=False):
        parsed = json.loads(body)
        view = view_of(exchange)
        for choice, marked in zip(
            parsed.get("choices") or [],
            json.loads(marking.answer(policy, view).whole(body)).get("choices") or [],
            strict=True,
        ):
            assert choice["message"].get("tool_calls") == marked["message"].get("tool_calls")
            if view.structured or not choice["message"].get("content"):
                seen += 1
                assert choice == marked
    assert seen > 20
