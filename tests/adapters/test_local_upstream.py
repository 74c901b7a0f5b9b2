"""The local upstream, with the embedded model and a shared checkpoint, answers as an OpenAI server does."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("torch", reason="the adapter llm-label-transformers is not installed")
pytest.importorskip("transformers", reason="the adapter llm-label-transformers is not installed")

from llm_label_transformers import engine as engine_module
from llm_label_transformers.upstream import LocalUpstream

from llm_label.errors import SettingsError
from llm_label.proxy.upstream import Mark, UpstreamRequest, UpstreamResponse
from llm_label.settings import UpstreamSettings
from llm_label.watermark.keyring import Key, Spec
from tests.testdata import folder

PROMPT = [{"role": "user", "content": "Tell me about styles."}]
KEY = Key.new("test", bytes(range(32)), Spec())


@pytest.fixture(scope="module")
def embedded() -> Iterator[LocalUpstream]:
    upstream = LocalUpstream()
    yield upstream
    asyncio.run(upstream.close())


@pytest.fixture(scope="module")
def stories() -> Iterator[LocalUpstream]:
    upstream = LocalUpstream(UpstreamSettings(url=f"local:{folder('models/stories260K')}"))
    yield upstream
    asyncio.run(upstream.close())


def request(fields: dict[str, Any], mark: Mark | None = None) -> UpstreamRequest:
    body = json.dumps({"messages": PROMPT, "max_tokens": 8, **fields}).encode()
    return UpstreamRequest("POST", "/v1/chat/completions", [], body, mark)


async def read(response: UpstreamResponse) -> bytes:
    return b"".join([chunk async for chunk in response.chunks])


def call(upstream: LocalUpstream, sent: UpstreamRequest) -> tuple[UpstreamResponse, bytes]:
    async def run() -> tuple[UpstreamResponse, bytes]:
        response = await upstream.send(sent)
        return response, await read(response)

    return asyncio.run(run())


def ask(upstream: LocalUpstream, **fields: Any) -> dict[str, Any]:
    response, body = call(upstream, request(fields))
    assert response.header("content-length") == str(len(body))
    return {"status": response.status, **json.loads(body)}


def events(raw: bytes) -> list[dict[str, Any]]:
    """Return the JSON of every event; the stream ends with [DONE]."""
    lines = raw.decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def stream(upstream: LocalUpstream, **fields: Any) -> list[dict[str, Any]]:
    response, raw = call(upstream, request({"stream": True, **fields}))
    assert response.status == 200
    assert response.header("content-type").startswith("text/event-stream")
    return events(raw)


def texts(answer: dict[str, Any]) -> list[str]:
    return [choice["message"]["content"] for choice in answer["choices"]]


def streamed_texts(chunks: list[dict[str, Any]], n: int) -> list[str]:
    joined = [""] * n
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        joined[choice["index"]] += choice["delta"].get("content", "")
    return joined


# --- shape -----------------------------------------------------------------------------------------------------


def test_a_whole_answer_has_the_shape_of_the_api(embedded: LocalUpstream) -> None:
    answer = ask(embedded, n=2)
    assert answer["status"] == 200
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["model"]) == ("chat.completion", "llm-label-embedded")
    assert abs(answer["created"] - time.time()) < 60
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert all(choice["message"]["role"] == "assistant" for choice in answer["choices"])
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert 0 < usage["completion_tokens"] <= 16


def test_a_stream_gives_roles_first_then_text_then_reasons(embedded: LocalUpstream) -> None:
    chunks = stream(embedded, n=3, seed=1)
    assert len({chunk["id"] for chunk in chunks}) == 1
    first = [chunk["choices"][0] for chunk in chunks[:3]]
    assert [(choice["index"], choice["delta"]["role"]) for choice in first] == [(i, "assistant") for i in range(3)]
    assert all("role" not in chunk["choices"][0]["delta"] for chunk in chunks[3:])
    assert all("usage" not in chunk for chunk in chunks)
    for index in range(3):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert [choice["finish_reason"] for choice in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1]["finish_reason"] in ("stop", "length")


def test_usage_comes_last_in_a_stream_that_asks_for_it(embedded: LocalUpstream) -> None:
    whole = ask(embedded, seed=3)
    chunks = stream(embedded, seed=3, stream_options={"include_usage": True})
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])


def test_models_are_listed(embedded: LocalUpstream) -> None:
    _, raw = call(embedded, UpstreamRequest("GET", "/v1/models", [], b""))
    listed = json.loads(raw)["data"]
    assert [model["id"] for model in listed] == ["llm-label-embedded"]
    _, raw = call(embedded, UpstreamRequest("GET", "/v1/models/llm-label-embedded?x=1", [], b""))
    assert json.loads(raw) == listed[0]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/models/other", "model_not_found"),
        ("POST", "/v1/embeddings", "unknown_url"),
        ("GET", "/v1/chat/completions", "unknown_url"),
        ("DELETE", "/v1/models/llm-label-embedded", "unknown_url"),
    ],
)
def test_everything_else_is_not_found(embedded: LocalUpstream, method: str, path: str, code: str) -> None:
    response, raw = call(embedded, UpstreamRequest(method, path, [], b""))
    assert (response.status, json.loads(raw)["error"]["code"]) == (404, code)


def test_a_wrong_request_gets_an_error_object(embedded: LocalUpstream) -> None:
    answer = ask(embedded, temperature=3)
    assert answer["status"] == 400
    assert answer["error"]["type"] == "invalid_request_error"
    assert answer["error"]["param"] == "temperature"


# --- sampling --------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_answers_whole_and_streamed(embedded: LocalUpstream) -> None:
    whole = ask(embedded, n=3, seed=7)
    assert texts(ask(embedded, n=3, seed=7)) == texts(whole)
    assert streamed_texts(stream(embedded, n=3, seed=7), 3) == texts(whole)
    assert texts(ask(embedded, n=3, seed=8)) != texts(whole)


def test_without_a_seed_answers_differ(embedded: LocalUpstream) -> None:
    """Chance of failing: below 1e-3, as 8 tokens of more than one nat each would have to agree."""
    assert texts(ask(embedded)) != texts(ask(embedded))
    assert len(set(texts(ask(embedded, n=4)))) > 1


def test_temperature_zero_is_greedy(embedded: LocalUpstream) -> None:
    answers = texts(ask(embedded, temperature=0, n=2)) + texts(ask(embedded, temperature=0, seed=4))
    assert len(set(answers)) == 1
    assert texts(ask(embedded, top_k=1))[0] == answers[0]
    assert texts(ask(embedded, temperature=1e-30))[0] == answers[0]


def test_sampling_leaves_the_callers_generator_alone(embedded: LocalUpstream) -> None:
    import torch

    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    ask(embedded, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_max_tokens_ends_with_length(embedded: LocalUpstream) -> None:
    answer = ask(embedded, max_tokens=3, seed=1)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 3


def test_an_answer_ends_where_the_context_ends(stories: LocalUpstream) -> None:
    long = [{"role": "user", "content": "the cat sat on the mat. " * 33}]
    answer = ask(stories, messages=long, max_tokens=4000, temperature=0)
    assert answer["choices"][0]["finish_reason"] in ("length", "stop")
    assert answer["usage"]["total_tokens"] <= 512


def test_a_prompt_beyond_the_context_is_refused(embedded: LocalUpstream) -> None:
    answer = ask(embedded, messages=[{"role": "user", "content": "你好" * 5000}])
    assert (answer["status"], answer["error"]["code"]) == (400, "context_length_exceeded")


# --- ends ------------------------------------------------------------------------------------------------------


def test_a_stop_string_across_tokens_ends_the_answer_and_is_not_sent(stories: LocalUpstream) -> None:
    prompt = [{"role": "user", "content": "Once upon a time"}]
    full = texts(ask(stories, messages=prompt, temperature=0, max_tokens=30))[0]
    for stop in (full[9:14], full[20:21], full[15:30]):
        asked = {"messages": prompt, "temperature": 0, "max_tokens": 30, "stop": ["\x00", stop]}
        answer = ask(stories, **asked)
        assert texts(answer)[0] == full[: full.index(stop)]
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert streamed_texts(stream(stories, **asked), 1)[0] == texts(answer)[0]


def test_rows_of_a_batch_end_one_by_one(embedded: LocalUpstream) -> None:
    asked = {"n": 8, "seed": 2, "max_tokens": 40, "stop": ["."]}
    answer = ask(embedded, **asked)
    reasons = [choice["finish_reason"] for choice in answer["choices"]]
    lengths = {len(text) for text in texts(answer)}
    assert "stop" in reasons
    assert len(lengths) > 1
    assert all("." not in text for text in texts(answer))
    assert answer["usage"]["completion_tokens"] < 8 * 40
    assert streamed_texts(stream(embedded, **asked), 8) == texts(answer)


def test_the_models_own_end_stops_one_row_and_not_the_others(
    embedded: LocalUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token that only some rows have plays the end token, so that rows end at different steps."""
    asked = {"n": 6, "seed": 3, "max_tokens": 16}
    encode = embedded.engine.tokenizer.encode
    rows = [encode(text, add_special_tokens=False) for text in texts(ask(embedded, **asked))]
    end = next(token for token in rows[0][2:-2] if any(token not in row for row in rows))
    monkeypatch.setattr(embedded.engine, "_ends", frozenset({end}))
    answer = ask(embedded, **asked)
    reasons = [choice["finish_reason"] for choice in answer["choices"]]
    assert (reasons[0], set(reasons)) == ("stop", {"stop", "length"})
    assert all(end not in encode(text, add_special_tokens=False) for text in texts(answer))
    assert streamed_texts(stream(embedded, **asked), 6) == texts(answer)


def test_an_assistant_turn_is_continued_without_being_repeated(stories: LocalUpstream) -> None:
    turns = [{"role": "user", "content": "Once upon"}, {"role": "assistant", "content": " a time"}]
    answer = ask(stories, messages=turns, temperature=0)
    assert not texts(answer)[0].startswith(" a time")


# --- leaving, waiting, failing -----------------------------------------------------------------------------------


def test_a_client_that_goes_away_ends_its_request(embedded: LocalUpstream) -> None:
    async def run() -> int:
        response = await embedded.send(request({"stream": True, "max_tokens": 400, "n": 4}))
        chunks = response.chunks
        for _ in range(6):
            await anext(chunks)
        await chunks.aclose()  # type: ignore[attr-defined]
        begun = time.monotonic()
        after = await embedded.send(request({"max_tokens": 1}))
        assert after.status == 200
        assert time.monotonic() - begun < 5
        return after.status

    assert asyncio.run(run()) == 200


def test_a_stream_closed_before_it_is_read_never_runs(embedded: LocalUpstream) -> None:
    async def run() -> bytes:
        busy = await embedded.send(request({"stream": True, "max_tokens": 30}))
        left = await embedded.send(request({"stream": True, "max_tokens": 400}))
        left.close()
        return await read(busy)

    assert events(asyncio.run(run()))


def test_the_event_loop_keeps_turning_while_requests_wait(embedded: LocalUpstream) -> None:
    async def run() -> tuple[int, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        answers = await asyncio.gather(*(embedded.send(request({"max_tokens": 20})) for _ in range(3)))
        ticking.cancel()
        return ticks, sum(answer.status == 200 for answer in answers)

    ticks, answered = asyncio.run(run())
    assert answered == 3
    assert ticks >= 3


def test_a_model_that_fails_gives_an_error_object(
    embedded: LocalUpstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory at /some/place")

    monkeypatch.setattr(embedded.engine.model, "generate", broken)
    answer = ask(embedded)
    assert (answer["status"], answer["error"]["code"]) == (500, "generation_failed")
    assert "memory" not in answer["error"]["message"]
    last = stream(embedded)[-1]
    assert last["error"]["code"] == "generation_failed"
    assert "out of memory" in caplog.text


@pytest.mark.parametrize("path", ["/nowhere", "."])
def test_a_folder_that_is_no_checkpoint_is_named(path: str) -> None:
    with pytest.raises(SettingsError, match="config.json") as caught:
        LocalUpstream(UpstreamSettings(url=f"local:{path}"))
    assert "\n" not in str(caught.value)


def test_a_broken_checkpoint_is_one_line(tmp_path: Any) -> None:
    for name in os.listdir(engine_module.EMBEDDED):
        if name.endswith((".json", ".jinja")):
            (tmp_path / name).write_bytes((engine_module.EMBEDDED / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(SettingsError, match="cannot be loaded") as caught:
        LocalUpstream(str(tmp_path)).start()
    assert "\n" not in str(caught.value)


def test_the_model_loads_when_it_is_first_needed() -> None:
    upstream = LocalUpstream()
    asyncio.run(upstream.close())
    code = "import sys, llm_label_transformers.upstream; sys.exit('torch' in sys.modules or 'jinja2' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        ).returncode
        == 0
    )


# --- watermark -------------------------------------------------------------------------------------------------


def test_a_marked_answer_is_found_again(embedded: LocalUpstream, detect: Callable[[str, Key], float]) -> None:
    fields = {"max_tokens": 150, "seed": 1, "top_p": 0.95}
    response, raw = call(embedded, request(fields, Mark(KEY)))
    marked = texts(json.loads(raw))[0]
    assert response.watermark_skipped() is None
    assert detect(marked, KEY) < -6
    assert detect(texts(ask(embedded, **fields))[0], KEY) > -4


def test_marked_streams_equal_marked_answers_and_choices_differ(embedded: LocalUpstream) -> None:
    _, raw = call(embedded, request({"n": 3, "seed": 5}, Mark(KEY)))
    _, streamed = call(embedded, request({"n": 3, "seed": 5, "stream": True}, Mark(KEY)))
    assert streamed_texts(events(streamed), 3) == texts(json.loads(raw))
    assert len(set(texts(json.loads(raw)))) > 1


def test_a_greedy_answer_is_not_marked_and_says_so(embedded: LocalUpstream) -> None:
    response, raw = call(embedded, request({"temperature": 0}, Mark(KEY)))
    assert response.watermark_skipped() == "greedy"
    assert texts(json.loads(raw)) == texts(ask(embedded, temperature=0))


@pytest.fixture(scope="module")
def detect(embedded: LocalUpstream) -> Callable[[str, Key], float]:
    from llm_label.watermark.scan import scan

    def log10_p(text: str, key: Key) -> float:
        ids = embedded.engine.tokenizer(text, add_special_tokens=False).input_ids
        return float(scan(ids, key).log10_p)

    return log10_p
