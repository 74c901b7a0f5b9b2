"""Choosing among answers before an upstream that gives no hand in their tokens: real sockets, a real SDK."""

import asyncio
import itertools
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web

from llm_label.errors import ClientError, MarkError
from llm_label.keyfile import write_keyring
from llm_label.policy import Policy, RequestView, decide
from llm_label.proxy import candidates
from llm_label.settings import parse
from llm_label.watermark.keyring import Key, Keyring, Spec
from llm_label.watermark.selection import choose
from tests.proxy.running import Handler, Running, proxy

WORDS = ["label", "reader", "text", "model", "answer", "picture", "river", "stone", "window", "garden", "letter"]
KEY = Key.new("s", bytes(range(32)), Spec(scheme="select", parameters={"candidates": 5}))  # type: ignore[arg-type]
ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Tell me about labels, please."}]}
USAGE = {"prompt_tokens": 7, "completion_tokens": 40, "prompt_tokens_details": {"cached_tokens": 3}}


class Model:
    """Answer as a server that knows `n`, ignores it, or refuses it."""

    def __init__(self, n: str = "known", **message: Any) -> None:
        self.n, self.message, self.drawn, self.fail = n, message, [], set[int]()
        self._random, self._calls = random.Random(1), 0

    def text(self) -> str:
        return " ".join(self._random.choices(WORDS, k=40)) + "."

    async def reply(self, request: web.Request) -> web.StreamResponse:
        body, self._calls = await request.json(), self._calls + 1
        count = body.get("n") or 1
        if body.get("stream"):
            raise AssertionError("what is to be chosen must come whole")
        if self._calls in self.fail or (self.n == "refused" and count > 1):
            error = {"error": {"message": "n is 1 here", "type": "invalid_request_error"}}
            return web.json_response(error, status=500 if self._calls in self.fail else 400)
        texts = [self.text() for _ in range(1 if self.n == "ignored" else count)]
        self.drawn += texts
        return web.Response(body=answer(texts, **self.message), content_type="application/json")


def answer(texts: list[str], **message: Any) -> bytes:
    choices = [
        {
            "index": at,
            "message": {"role": "assistant", "content": text, **message},
            "logprobs": None,
            "finish_reason": "stop",
        }
        for at, text in enumerate(texts)
    ]
    body = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": USAGE}
    return json.dumps({**body, "cost": "C"}).replace('"C"', "1.50e0").encode()  # a number as only it writes it


@contextmanager
def chosen(folder: Path, reply: Handler, **watermark: Any) -> Iterator[Running]:
    write_keyring(folder / "ring.json", Keyring((KEY,)))
    marks = {"keyring": folder / "ring.json", "key": "s", **watermark}
    with proxy(folder, reply, watermark=marks, labels={"positions": []}) as up:
        yield up


@dataclass
class Reply:
    status: int
    headers: Any
    raw: bytes

    def json(self) -> Any:
        return json.loads(self.raw)


def post(up: Running, path: str, body: dict[str, Any], **headers: str) -> Reply:
    named = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(up.url + path, json.dumps(body).encode(), named)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return Reply(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        return Reply(error.code, error.headers, error.read())


def asked(up: Running, **more: Any) -> Reply:
    return post(up, "/v1/chat/completions", {**ASK, **more})


def sent(up: Running) -> list[dict[str, Any]]:
    return [json.loads(request["body"]) for request in up.fake.asked]


def test_one_request_brings_the_candidates_and_one_of_them_goes_on(tmp_path: Path) -> None:
    model = Model()
    with chosen(tmp_path, model.reply) as up:
        response = asked(up)
        (entry,) = up.entries()
    body = response.json()
    assert [request["n"] for request in sent(up)] == [5] and len(model.drawn) == 5
    assert [choice["index"] for choice in body["choices"]] == [0]
    assert body["choices"][0]["message"]["content"] == model.drawn[choose(model.drawn, KEY)]
    assert body["usage"] == USAGE and b'"cost": 1.50e0' in response.raw
    assert body["llm_label"]["watermark"] == {"scheme": "select", "key": "s", "skipped": None}
    assert 'watermark="select", key="s"' in response.headers["x-llm-label"]
    assert (entry.watermark_applied, entry.watermark_skipped, entry.choices) == ("s", None, 1)


def test_every_choice_that_a_client_asks_for_is_chosen_by_itself(tmp_path: Path) -> None:
    model = Model()
    with chosen(tmp_path, model.reply) as up:
        choices = asked(up, n=3).json()["choices"]
    assert [request["n"] for request in sent(up)] == [15]
    groups = [model.drawn[index::3] for index in range(3)]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    assert [c["message"]["content"] for c in choices] == [group[choose(group, KEY)] for group in groups]


@pytest.mark.parametrize(("n", "first", "later"), [("refused", [5, None, None, None, None, None], 5), ("ignored", [5, *[None] * 4], 5)])  # fmt: skip
def test_an_upstream_without_n_is_asked_once_for_each_candidate(
    tmp_path: Path, n: str, first: list[int | None], later: int
) -> None:
    model = Model(n)
    with chosen(tmp_path, model.reply) as up:
        kept = post(up, "/v1/chat/completions", {**ASK, "seed": 7}, **{"Idempotency-Key": "once"}).json()
        requests, texts = sent(up), list(model.drawn)
        keys = [headers.get("Idempotency-Key") for headers in up.fake.headers]
        asked(up)
    assert [request.get("n") for request in requests] == first
    assert len({request["seed"] for request in requests}) == 5, "one seed would give one answer"
    assert keys.count("once") == 1, "a request under the same key would get the same answer"
    assert kept["choices"][0]["message"]["content"] == texts[choose(texts, KEY)]
    assert kept["usage"] == {
        "prompt_tokens": 35,
        "completion_tokens": 200,
        "prompt_tokens_details": {"cached_tokens": 15},
    }
    assert len(sent(up)) == len(first) + later, "what the upstream cannot is not tried again"


def test_a_number_that_is_too_large_once_is_no_limit_for_smaller_ones(tmp_path: Path) -> None:
    model = Model()

    async def at_most_eight(request: web.Request) -> web.StreamResponse:
        count = (await request.json()).get("n")
        bad = count is not None and not (isinstance(count, int) and 0 < count <= 8)
        return web.json_response({"error": {"message": "n"}}, status=400) if bad else await model.reply(request)

    with chosen(tmp_path, at_most_eight) as up:
        assert asked(up, n=2).status == 200
        assert asked(up).status == 200
        assert [request.get("n") for request in sent(up)] == [10, 2, 2, 2, 2, 2, 5]
        assert asked(up, n=0).status == 400, "what the client got wrong is not put right"
        assert sent(up)[-1]["n"] == 0 and len(sent(up)) == 8


def test_what_was_learnt_of_an_upstream_lapses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM refuses `n` for a temperature that is nearly 0: other requests must not pay for it for ever."""
    model, clock = Model(), [1000.0]
    monkeypatch.setattr(candidates, "_now", lambda: clock[0])

    async def one_if_cold(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        bad = body.get("temperature") == 1e-9 and body.get("n")
        return web.json_response({"error": {"message": "n"}}, status=400) if bad else await model.reply(request)

    with chosen(tmp_path, one_if_cold) as up:
        for step, (more, n) in enumerate([({"temperature": 1e-9}, [5, *[None] * 5]), ({}, [None] * 5), ({}, [5])]):
            clock[0] += 59.0 if step == 1 else 2.0
            before = len(sent(up))
            assert asked(up, **more).status == 200
            assert [request.get("n") for request in sent(up)[before:]] == n


@pytest.mark.parametrize("status", [404, 500])
def test_an_upstream_that_fails_at_n_is_asked_without_it_once(tmp_path: Path, status: int) -> None:
    model = Model()

    async def broken(request: web.Request) -> web.StreamResponse:
        bad = "n" in await request.json()
        return web.json_response({"error": {"message": "n?"}}, status=status) if bad else await model.reply(request)

    async def down(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "down"}}, status=status)

    with chosen(tmp_path, broken) as up:
        assert asked(up).json()["choices"][0]["message"]["content"] == model.drawn[choose(model.drawn, KEY)]
        assert len(sent(up)) == 6
    (tmp_path / "down").mkdir()
    with chosen(tmp_path / "down", down) as up:
        assert asked(up).status == status and [request.get("n") for request in sent(up)] == [5, None]


def test_eight_candidates_are_drawn_at_a_time_and_no_more_than_128(tmp_path: Path) -> None:
    model, open_, most = Model("ignored"), [0], [0]

    async def slow(request: web.Request) -> web.StreamResponse:
        open_[0] += 1
        most[0] = max(most[0], open_[0])
        await asyncio.sleep(0.02)
        open_[0] -= 1
        return await model.reply(request)

    with chosen(tmp_path, slow) as up:
        refused = asked(up, n=26)
        assert refused.status == 400 and "ask for n = 25 or fewer" in refused.json()["error"]["message"]
        assert not sent(up), "before anything is sent"
        assert not up.entries(), "no answer was due, so none has failed"
        assert len(asked(up, n=6).json()["choices"]) == 6
        assert len(sent(up)) == 30 and 1 < most[0] <= 8


def test_two_answers_are_chosen_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, lock, busy, most = candidates._kept, threading.Lock(), [0], [0]

    def slow(*given: Any) -> Any:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.05)
        with lock:
            busy[0] -= 1
        return real(*given)

    monkeypatch.setattr(candidates, "_kept", slow)
    with chosen(tmp_path, Model().reply) as up, ThreadPoolExecutor(6) as clients:
        assert {reply.status for reply in clients.map(lambda _: asked(up), range(6))} == {200}
    assert most == [2]


def test_answers_that_the_upstream_would_keep_are_refused(tmp_path: Path) -> None:
    with chosen(tmp_path, Model().reply) as up:
        refused = asked(up, store=True)
        assert refused.status == 400 and "store is not served" in refused.json()["error"]["message"]
        assert not sent(up) and asked(up, store=False).status == 200


@pytest.mark.parametrize("n", ["known", "refused"])
def test_a_stream_is_the_kept_answer_once_it_is_whole(tmp_path: Path, n: str) -> None:
    model = Model(n, reasoning_content="So.", refusal=None)
    more = {"stream": True, "stream_options": {"include_usage": True}}
    with chosen(tmp_path, model.reply) as up, openai.OpenAI(base_url=up.url + "/v1", api_key="k") as client:
        chunks = list(client.chat.completions.create(**ASK, **more))
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    text = "".join(delta.content or "" for delta in deltas)
    assert text == model.drawn[choose(model.drawn, KEY)]
    assert deltas[0].role == "assistant"
    assert [d.model_extra["reasoning_content"] for d in deltas if d.model_extra] == ["So."]
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == (40 if n == "known" else 200)
    told = [
        chunk.model_extra["llm_label"]["watermark"] for chunk in chunks if (chunk.model_extra or {}).get("llm_label")
    ]
    assert told[-1] == {"scheme": "select", "key": "s", "skipped": None}


def test_tool_calls_reach_a_streaming_client(tmp_path: Path) -> None:
    call = {"id": "t", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
    model = Model(tool_calls=[call])
    model.text = lambda: ""  # type: ignore[method-assign]
    with chosen(tmp_path, model.reply) as up, openai.OpenAI(base_url=up.url + "/v1", api_key="k") as client:
        with client.chat.completions.stream(model="m", messages=ASK["messages"]) as events:
            message = events.get_final_completion().choices[0].message
        (entry,) = up.entries()
    assert message.tool_calls is not None and message.tool_calls[0].function.arguments == '{"at": 1}'
    assert (entry.watermark_applied, entry.watermark_skipped) == (None, "empty")


def test_greedy_requests_pass_as_they_are_and_say_so(tmp_path: Path) -> None:
    model = Model()
    with chosen(tmp_path, model.reply) as up:
        body = asked(up, temperature=0).json()
    assert sent(up) == [{**ASK, "temperature": 0}]
    assert body["llm_label"]["watermark"]["skipped"] == "greedy"


def test_the_same_answer_every_time_leaves_nothing_to_choose(tmp_path: Path) -> None:
    model = Model()
    model.text = lambda: "Yes."  # type: ignore[method-assign]
    with chosen(tmp_path, model.reply) as up:
        assert asked(up).json()["llm_label"]["watermark"]["skipped"] == "greedy"
    strict = tmp_path / "strict"
    strict.mkdir()
    with chosen(strict, model.reply, required=True) as up:
        refused = asked(up)
        assert refused.status == 500 and "was not applied: greedy" in refused.json()["error"]["message"]


@pytest.mark.parametrize("required", [False, True])
@pytest.mark.parametrize("first", ["Yes.", ""])
def test_one_choice_without_the_mark_speaks_for_the_answer_if_it_has_text(
    tmp_path: Path, first: str, required: bool
) -> None:
    model = Model()
    text, calls = model.text, itertools.count()
    model.text = lambda: text() if next(calls) % 2 else first  # type: ignore[method-assign]
    with chosen(tmp_path, model.reply, required=required) as up:
        response = asked(up, n=2)
    if first and required:
        assert response.status == 500 and "was not applied: greedy" in response.json()["error"]["message"]
    else:
        skipped = "greedy" if first else None
        assert response.json()["llm_label"]["watermark"]["skipped"] == skipped


def test_short_answers_come_as_they_are_drawn_and_say_so(tmp_path: Path) -> None:
    model = Model()
    texts = itertools.cycle(["Yes.", "No."])
    model.text = lambda: next(texts)  # type: ignore[method-assign]
    with chosen(tmp_path, model.reply) as up:
        bodies = [asked(up).json() for _ in range(4)]
    assert [body["choices"][0]["message"]["content"] for body in bodies] == ["Yes.", "No.", "Yes.", "No."]
    assert {body["llm_label"]["watermark"]["skipped"] for body in bodies} == {"greedy"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_required_mark_is_not_asked_of_an_answer_without_text(tmp_path: Path, stream: bool) -> None:
    call = {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    model = Model(tool_calls=[call])
    model.text = lambda: "\n\n"  # type: ignore[method-assign]
    with chosen(tmp_path, model.reply, required=True) as up:
        response = asked(up, stream=stream)
        (entry,) = up.entries()
    assert response.status == 200 and b'"look"' in response.raw
    assert (entry.watermark_applied, entry.watermark_skipped, entry.result) == (None, "empty", "complete")


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_of_the_upstream_passes_with_its_status(tmp_path: Path, stream: bool) -> None:
    async def limited(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "3"})

    with chosen(tmp_path, limited) as up:
        response = asked(up, stream=stream)
    assert (response.status, response.headers["retry-after"]) == (429, "3")
    assert len(sent(up)) == 1, "errors are not multiplied"


def test_candidates_that_fail_are_left_out_of_the_choice(tmp_path: Path) -> None:
    model = Model("ignored")
    model.fail = {2, 4}
    with chosen(tmp_path, model.reply) as up:
        body = asked(up).json()
        assert len(model.drawn) == 3
        assert body["choices"][0]["message"]["content"] == model.drawn[choose(model.drawn, KEY)]
        assert body["llm_label"]["watermark"]["skipped"] is None
        model.drawn, model.fail = [], set(range(7, 99))  # the first of the next five is number 6
        body = asked(up).json()
        assert body["choices"][0]["message"]["content"] == model.drawn[0]
        assert body["llm_label"]["watermark"]["skipped"] == "upstream", "one candidate is no choice"


def test_a_prefilled_answer_is_chosen_as_its_continuation(tmp_path: Path) -> None:
    model = Model()
    begun = {"role": "assistant", "content": "A label is"}
    with chosen(tmp_path, model.reply) as up:
        body = asked(up, messages=[*ASK["messages"], begun]).json()
    assert body["choices"][0]["message"]["content"] == model.drawn[choose(model.drawn, KEY, "A label is")]


def test_other_apis_pass_unmarked_unless_the_mark_is_required(tmp_path: Path) -> None:
    async def completion(request: web.Request) -> web.StreamResponse:
        choice = {"index": 0, "text": "A text.", "finish_reason": "stop", "logprobs": None}
        return web.json_response({"id": "x", "object": "text_completion", "choices": [choice]})

    prompt = {"model": "m", "prompt": "Say"}
    with chosen(tmp_path, completion) as up:
        body = post(up, "/v1/completions", prompt).json()
        assert sent(up) == [prompt] and body["llm_label"]["watermark"]["skipped"] == "upstream"
    strict = tmp_path / "strict"
    strict.mkdir()
    with chosen(strict, completion, required=True) as up:
        refused = post(up, "/v1/completions", prompt)
    assert refused.status == 400 and "those that can be watermarked: chat" in refused.json()["error"]["message"]
    assert not up.fake.asked


def test_policy_asks_for_a_key_of_this_kind_where_the_upstream_has_none() -> None:
    given = parse({"provider": {"name": "Acme"}, "watermark": {"key": "k", "required": True}})
    with pytest.raises(MarkError, match="a key of scheme select"):
        Policy.of(given, upstream_watermarks=False)
    policy = Policy.of(given, upstream_watermarks=True, surfaces=frozenset(["chat"]))
    assert decide(RequestView("chat"), policy).watermark == "k"
    with pytest.raises(ClientError, match="ask another API"):
        decide(RequestView("messages"), policy)


def test_labels_stand_around_the_kept_answer(tmp_path: Path) -> None:
    write_keyring(tmp_path / "ring.json", Keyring((KEY,)))
    marks = {"keyring": tmp_path / "ring.json", "key": "s"}
    model = Model()
    with proxy(tmp_path, model.reply, watermark=marks, labels={"positions": ["start", "end"]}) as up:
        text = asked(up).json()["choices"][0]["message"]["content"]
    assert model.drawn[choose(model.drawn, KEY)] in text and text.count("AI生成") == 2
