"""Every recorded Messages answer keeps the touch law, whole and at every cut; its replay loses our labels again."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from llm_label.policy import RequestView
from llm_label.proxy.surfaces import messages
from tests.proxy import marking, recorded
from tests.proxy.replay import Replay
from tests.proxy.running import proxy
from tests.proxy.touch_messages import (
    assert_only_marks_were_added,
    assert_same_but_marks,
    blocks,
    replayed,
    streams_like,
    texts,
    turns,
)

POSITIONS = [("start",), ("start", "end"), ("start", "middle", "end"), ("end",)]


def exchanges(stream: bool) -> list[tuple[dict[str, Any], bytes]]:
    return recorded.of("anthropic_messages", stream)


def marked(chunks: list[bytes], policy: Any, view: RequestView) -> bytes:
    return marking.stream(chunks, policy, view, surface=messages)


def view_of(exchange: dict[str, Any]) -> RequestView:
    """Read the request where one was recorded; a plain one elsewhere."""
    request = (exchange.get("request") or {}).get("body") or {}
    if isinstance(request, dict) and isinstance(request.get("messages"), list):
        return messages.view(request)
    return RequestView("messages", stream=exchange["stream"])


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_streams_carry_marks_and_nothing_else_changes(positions: tuple[str, ...]) -> None:
    policy = marking.policy(positions=positions, middle_after=60)
    labelled = 0
    for number, (exchange, body) in enumerate(exchanges(stream=True)):
        view = view_of(exchange)
        whole = marked([body], policy, view)
        assert_only_marks_were_added(body, whole, policy.known)
        rng = random.Random(number)
        for _ in range(3):
            assert marked(marking.cuts(body, rng), policy, view) == whole, exchange["id"]
        for mine, theirs in zip(turns(whole), turns(body), strict=True):
            plain, out = "".join(texts(theirs).values()), "".join(texts(mine).values())
            assert (plain == out) == (not plain.strip() or view.structured), exchange["id"]
            labelled += plain != out
    assert labelled > 30


def test_every_stream_may_come_one_byte_at_a_time() -> None:
    policy = marking.policy(positions=("start", "middle", "end"))
    streams = exchanges(stream=True)
    assert len(streams) > 40
    for exchange, body in streams:
        view = view_of(exchange)
        bytewise = [body[at : at + 1] for at in range(len(body))]
        assert marked(bytewise, policy, view) == marked([body], policy, view), exchange["id"]


def test_short_streams_keep_the_law_at_every_byte() -> None:
    policy = marking.policy(positions=("start", "middle", "end"), middle_after=20)
    short = [(e, b) for e, b in exchanges(stream=True) if len(b) <= 1400]
    assert len(short) > 3
    for exchange, body in short:
        view = view_of(exchange)
        whole = marked([body], policy, view)
        for at in range(len(body)):
            assert marked([body[:at], body[at:]], policy, view) == whole


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_whole_answers_carry_marks_and_nothing_else_changes(positions: tuple[str, ...]) -> None:
    policy = marking.policy(positions=positions, middle_after=60)
    labelled = 0
    for exchange, body in exchanges(stream=False):
        out = marking.answer(policy, view_of(exchange), surface=messages).whole(body)
        assert_same_but_marks(body, out, policy.known)
        labelled += bool(json.loads(out)["llm_label"]["label"]["applied"])
    assert labelled > 25


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_a_whole_answer_and_its_stream_are_labelled_alike(positions: tuple[str, ...]) -> None:
    policy = marking.policy(positions=positions, middle_after=60)
    for exchange, body in exchanges(stream=False):
        view = view_of(exchange)
        answer = json.loads(body)
        whole = json.loads(marking.answer(policy, view, surface=messages).whole(body))
        rng = random.Random(exchange["id"])
        streamed = blocks(marked([streams_like(answer, rng)], policy, view))
        assert [b.get("text") for b in streamed] == [b.get("text") for b in whole["content"]], exchange["id"]


def test_a_replayed_turn_is_what_the_upstream_wrote() -> None:
    policy = marking.policy(positions=("start", "middle", "end"), middle_after=60)
    for exchange, body in exchanges(stream=False):
        content = json.loads(body).get("content") or []
        labelled = json.loads(marking.answer(policy, view_of(exchange), surface=messages).whole(body))["content"]
        assert replayed(labelled, policy.known) == replayed(content, ())
    for exchange, body in exchanges(stream=True):
        if len(turns(body)) == 1:
            labelled = blocks(marked([body], policy, view_of(exchange)))
            assert replayed(labelled, policy.known) == replayed(blocks(body), ())


@pytest.mark.parametrize("helper", [False, True], ids=["raw", "stream helper"])
def test_the_client_reads_every_stream_as_well_as_without_us(tmp_path: Path, helper: bool) -> None:
    replay, read = Replay(), 0
    replay.stream = True
    with proxy(tmp_path, replay, labels={"positions": ["start", "end"], "language": "zh"}) as up:
        for exchange, body in exchanges(stream=True):
            replay.body = body
            direct, through = final(up.fake_url, helper), final(up.url, helper)
            if isinstance(direct, Exception):
                continue  # what the client cannot read without us is none of our business
            assert not isinstance(through, Exception), f"{exchange['id']}: {through!r}, without us {direct!r}"
            read += 1
            if len(turns(body)) == 1:
                assert replayed(through, up.parts.policy.known) == replayed(direct, ())
            assert (through == direct) == (not "".join(b.get("text", "") for b in direct).strip())
    assert read > 30


def final(url: str, helper: bool) -> list[Any] | Exception:
    """Return the content that the client put together, or what it raised."""
    anthropic = pytest.importorskip("anthropic", reason="the anthropic client is not installed")
    ask: dict[str, Any] = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, timeout=20) as client:
        try:
            if helper:
                with client.messages.stream(**ask) as events:
                    content = events.get_final_message().content
                return [block.model_dump(mode="json", exclude_none=True) for block in content]
            with client.messages.create(**ask, stream=True) as chunks:
                text = "".join(
                    c.delta.text for c in chunks if c.type == "content_block_delta" and c.delta.type == "text_delta"
                )
                return [{"type": "text", "text": text}]
        except Exception as error:
            return error
