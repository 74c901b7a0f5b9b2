"""Every recorded response keeps the touch law, whole and at every cut, and its events agree about its text."""

import json
import random
from functools import cache
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web

from llm_label.errors import UpstreamError
from llm_label.labels.labeler import label, strip
from llm_label.policy import Policy, RequestView, decide
from llm_label.proxy.surfaces import responses
from tests.proxy import marking, recorded
from tests.proxy.running import proxy
from tests.proxy.touch import events
from tests.proxy.touch_responses import (
    assert_only_marks_were_added,
    assert_same_but_marks,
    bodies,
    citations,
    deltas,
    parts,
    repeated,
)

POSITIONS = [("start",), ("start", "end"), ("start", "middle", "end"), ("end",)]
TERMINAL = ("response.completed", "response.incomplete", "response.failed")
# Two recordings whose first or last event is half a JSON text, and so no answer.
HALF = ("openai-responses-683a8f16b0",)
# Deltas that their project shortened by hand: they do not say what the events behind them say.
SHORTENED = ("openai-responses-402870b08d", "openai-responses-8a64cabda1")


@cache
def recordings(stream: bool) -> list[tuple[dict[str, Any], bytes]]:
    return recorded.of("openai_responses", stream)


def view_of(exchange: dict[str, Any]) -> RequestView:
    request = (exchange.get("request") or {}).get("body") or {}
    if isinstance(request, dict) and "input" in request:
        return responses.view(request)
    return RequestView("responses", stream=exchange["stream"])


def marked(chunks: list[bytes], policy: Policy, view: RequestView, **more: Any) -> bytes:
    return marking.stream(chunks, policy, view, surface=responses, **more)


def streams() -> list[tuple[dict[str, Any], bytes, RequestView]]:
    return [(e, body, view_of(e)) for e, body in recordings(True) if e["id"] not in HALF]


def answers(stream: bytes) -> list[dict[str, Any]]:
    return [body["response"] for body in bodies(stream) if body["type"] in TERMINAL]


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_streams_carry_marks_and_nothing_else_changes(positions: tuple[str, ...]) -> None:
    policy = marking.policy(positions=positions)
    labelled = 0
    for number, (exchange, body, view) in enumerate(streams()):
        out = marked([body], policy, view)
        assert_only_marks_were_added(body, out, policy.known)
        if "middle" in positions:
            assert marked(marking.cuts(body, random.Random(number)), policy, view) == out, exchange["id"]
        silent = commentary(body)
        for where, text in deltas(body).items():
            due = bool(text.strip()) and not view.structured and where[:2] not in silent
            labelled += due
            assert (deltas(out)[where] != text) is due, exchange["id"]
    assert labelled > 50


def commentary(stream: bytes) -> set[tuple[int, int]]:
    silent, response = set(), 0
    for body in bodies(stream):
        if body["type"] == "response.output_item.added" and body["item"].get("phase") == "commentary":
            silent.add((response, body["output_index"]))
        response += body["type"] in TERMINAL
    return silent


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_deltas_and_the_events_that_repeat_them_agree(positions: tuple[str, ...]) -> None:
    policy, seen = marking.policy(positions=positions), 0
    for exchange, body, view in streams():
        if exchange["id"] in SHORTENED:
            continue
        out = marked([body], policy, view)
        texts = set(deltas(out).values())
        assert {text for text in repeated(out) if text} == {text for text in texts if text}, exchange["id"]
        seen += len(texts)
    assert seen > 50


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_the_final_response_of_a_stream_is_labelled_as_the_same_response_whole(positions: tuple[str, ...]) -> None:
    """One rule for both: `whole` on the object in `response.completed` gives the object the stream gives."""
    policy = marking.policy(positions=positions)
    compared = 0
    for exchange, body, view in streams():
        out = marked([body], policy, view)
        for upstream, final in zip(answers(body), answers(out), strict=True):
            answer = marking.answer(policy, view, surface=responses)
            alone = json.loads(answer.whole(json.dumps(upstream).encode()))
            assert final["output"] == alone["output"], exchange["id"]
            if len(answers(body)) == 1 and exchange["id"] not in SHORTENED:
                assert final["llm_label"] == alone["llm_label"]
            compared += any(parts(final))
    assert compared > 45


def test_every_stream_may_come_one_byte_at_a_time() -> None:
    policy = marking.policy(positions=("start", "middle", "end"))
    assert len(streams()) == 81
    for exchange, body, view in streams():
        if len(body) < 25_000:
            bytewise = [body[at : at + 1] for at in range(len(body))]
            assert marked(bytewise, policy, view) == marked([body], policy, view), exchange["id"]


def test_short_streams_keep_the_law_at_every_byte() -> None:
    policy = marking.policy(positions=("start", "middle", "end"), middle_after=20)
    short = [(body, view) for _, body, view in streams() if len(body) <= 4800]
    assert len(short) > 4
    for body, view in short:
        out = marked([body], policy, view)
        for at in range(1, len(body), 13):
            assert marked([body[:at], body[at:]], policy, view) == out


@pytest.mark.parametrize("positions", POSITIONS, ids="+".join)
def test_whole_answers_carry_marks_and_nothing_else_changes(positions: tuple[str, ...]) -> None:
    policy = marking.policy(positions=positions)
    labelled = 0
    for exchange, body in recordings(False):
        view = view_of(exchange)
        out = marking.answer(policy, view, surface=responses).whole(body)
        assert_same_but_marks(body, out, policy.known)
        plan = decide(view, policy)
        for item, new in zip(json.loads(body).get("output", []), json.loads(out).get("output", []), strict=True):
            texts = [label(p["text"], plan.labels) if plan.labels else p["text"] for p in parts(item)]
            texts = texts if item.get("phase") != "commentary" else [p["text"] for p in parts(item)]
            assert [p["text"] for p in parts(new)] == texts
            labelled += texts != [p["text"] for p in parts(item)]
    assert labelled > 50


def test_every_citation_still_cites_its_text() -> None:
    """`assert_only_marks_were_added` compares them; here that there is something to compare."""
    policy = marking.policy(positions=("start", "middle", "end"), middle_after=40)
    cited, moved = 0, 0
    for _, body, view in streams():
        if b'"annotation":' in body:
            out = marked([body], policy, view)
            assert citations(out) == citations(body)
            cited += sum(len(c) for c in citations(body))
            moved += sum(
                b.get("annotation") != a.get("annotation") for a, b in zip(bodies(body), bodies(out), strict=True)
            )
    assert cited > 80 and moved >= 20


def test_half_a_json_event_is_an_error_before_any_text() -> None:
    policy = marking.policy(positions=("start",))
    for exchange, body in recordings(True):
        if exchange["id"] in HALF:
            with pytest.raises(UpstreamError, match="not JSON"):
                marked([body], policy, view_of(exchange))


def test_a_stream_taken_up_again_repeats_the_first_one_from_there() -> None:
    """What a client gets behind `starting_after` is what it would have got, whatever the number."""
    policy = marking.policy(positions=("start", "middle", "end"), middle_after=20)
    body = next(body for e, body, _ in streams() if e["id"] == "openai-responses-a190c4c31d")
    full = marked([body], policy, RequestView("responses"))
    for after in range(len(bodies(body))):
        answer = marking.answer(policy, RequestView("responses"), surface=responses)
        again = responses.Answer(answer.plan, answer.notice, skip_through=after)  # type: ignore[attr-defined]
        out = [again.feed(event) for event in events(body)]
        assert bodies(b"".join([*out, again.finish()])) == bodies(full)[after + 1 :]


class Replay:
    """Answer each request with the recording that is on, cut at random bytes."""

    def __init__(self) -> None:
        self.body, self.rng = b"", random.Random(7)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in marking.cuts(self.body, self.rng):
            if chunk:
                await response.write(chunk)
        return response


def helped(client: openai.OpenAI) -> tuple[list[Any], Any]:
    """Read a stream through the client's helper: its events, and the response it puts together."""
    with client.responses.stream(model="m", input="x") as stream:
        return list(stream), stream.get_final_response()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the client's, about items it does not know
def test_the_real_client_puts_together_what_it_would_have_without_us(tmp_path: Path) -> None:
    replay, compared = Replay(), 0
    with proxy(tmp_path, replay, labels={"positions": ["start", "end"], "language": "zh"}) as up:
        known = up.parts.proxy._policy.known
        direct = openai.OpenAI(base_url=up.fake_url + "/v1", api_key="sk-test", max_retries=0, timeout=20)
        through = direct.with_options(base_url=up.url + "/v1")
        for exchange, replay.body, _ in streams():
            if len(replay.body) > 60_000:
                continue
            try:
                before, was = helped(direct)
            except (RuntimeError, IndexError, AssertionError):  # several responses in one stream, part 1 without 0
                continue
            after, final = helped(through)
            assert [(e.type, getattr(e, "sequence_number", None)) for e in after] == [
                (e.type, getattr(e, "sequence_number", None)) for e in before
            ], exchange["id"]
            assert strip_all(final, known) == strip_all(was, known), exchange["id"]
            text = "".join(e.delta for e in after if e.type == "response.output_text.delta")
            if exchange["id"] not in SHORTENED:
                assert text == final.output_text, exchange["id"]
            compared += bool(text)
        direct.close()
    assert compared > 30


def strip_all(parsed: Any, known: frozenset[str]) -> dict[str, Any]:
    response: dict[str, Any] = parsed.model_dump(warnings=False)
    response.pop("llm_label", None)
    for item in response["output"]:
        for part in item.get("content") or []:
            if part.get("text"):
                part["text"] = strip(part["text"], known)
                for annotation in part.get("annotations") or []:
                    annotation.update(dict.fromkeys(("start_index", "end_index", "index")))
    return response
