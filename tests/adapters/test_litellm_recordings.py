"""Recorded answers of Gemini, Bedrock and Cohere: through us, marks taken off, they equal litellm's own."""

import asyncio
import importlib.util
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

if importlib.util.find_spec("litellm") is None:
    pytest.skip("the adapter llm-label-litellm is not installed", allow_module_level=True)

from llm_label_litellm import library

from llm_label.labels.labeler import strip
from tests.adapters.litellm_server import MODELS, WARNINGS, Provider, point, recorded
from tests.proxy.running import Running, proxy
from tests.proxy.touch import texts

pytestmark = WARNINGS

litellm = library.load()
LABELS = {"positions": ["start", "end"], "language": "en"}
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}

# (file, streamed) -> how many recordings litellm reads, and how many are there
PLAYED = {
    ("google_generate_content", True): (28, 31),  # three stream a tool's arguments in parts, which litellm cannot read
    ("google_generate_content", False): (28, 30),  # two are errors
    ("bedrock_converse", True): (12, 12),
    ("bedrock_converse", False): (15, 15),
    ("bedrock_invoke", True): (0, 0),
    ("bedrock_invoke", False): (2, 3),  # one is an embedding
    ("cohere_chat", True): (12, 12),
    ("cohere_chat", False): (11, 11),
}


@pytest.fixture(params=MODELS, scope="module")
def served(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Provider, Running]]:
    provider, upstream = Provider(), {"url": "litellm:" + MODELS[request.param]}
    folder = tmp_path_factory.mktemp("litellm")
    with pytest.MonkeyPatch.context() as environ, proxy(folder, provider, upstream=upstream, labels=LABELS) as up:
        point(environ, up.fake_url)
        yield request.param, provider, up


def test_the_text_is_litellms_and_labelled(served: tuple[str, Provider, Running]) -> None:
    file, provider, up = served
    provider.share = 1.0
    played: dict[tuple[str, bool], tuple[int, int]] = {}
    with asyncio.Runner() as runner:
        for stream in (True, False):
            exchanges = list(recorded(file, stream))
            read = 0
            for provider.exchange in exchanges:
                alone = runner.run(_alone(MODELS[file], stream))
                read += alone is not None
                _assert_equal_but_marks(alone, *ask(up.url, stream), stream, up)
            played[file, stream] = (read, len(exchanges))
        runner.run(litellm.close_litellm_async_clients())
    assert played == {key: value for key, value in PLAYED.items() if key[0] == file}


def test_a_recording_that_breaks_off_is_an_error(served: tuple[str, Provider, Running]) -> None:
    file, provider, up = served
    provider.share = 0.6
    for provider.exchange in recorded(file, True):
        status, raw = ask(up.url, True)
        assert status >= 400 or b'"error":' in raw, f"{provider.exchange['id']}: {raw[-400:]!r}"
        assert b"[DONE]" not in raw


def _assert_equal_but_marks(alone: dict[str, Any] | None, status: int, raw: bytes, stream: bool, up: Running) -> None:
    if alone is None:
        assert status >= 400 or b'"error":' in raw, f"litellm cannot read this, and we sent {raw[-400:]!r}"
        return
    assert status == 200 and b'data: {"error":' not in raw, raw[-400:]
    ours = _ours(raw, stream)
    text = ours.pop("text")
    assert strip(text, up.parts.policy.known) == alone["text"]
    assert (text != alone["text"]) == bool(alone["text"].strip())
    assert ours == {key: alone[key] for key in ours}


async def _alone(model: str, stream: bool) -> dict[str, Any] | None:
    """Ask litellm itself; `None` where it raises."""
    try:
        answer = await litellm.acompletion(model=model, stream=stream, max_retries=0, **ASK)
        parts = [part async for part in answer] if stream else [answer]
    except Exception:
        return None
    choices = [part.choices[0].delta if stream else part.choices[0].message for part in parts if part.choices]
    calls = [call.model_dump() for choice in choices for call in choice.tool_calls or ()]
    return {
        "text": "".join(choice.content or "" for choice in choices),
        "reasoning": "".join(getattr(choice, "reasoning_content", None) or "" for choice in choices),
        "tools": [(call["function"]["name"], call["function"]["arguments"]) for call in calls],
        "finish": [part.choices[0].finish_reason for part in parts if part.choices and part.choices[0].finish_reason],
    }


def _ours(raw: bytes, stream: bool) -> dict[str, Any]:
    lines = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")] if stream else [raw]
    assert not stream or lines.pop() == b"[DONE]"
    choices = [choice for line in lines for choice in json.loads(line)["choices"]]
    messages = [choice["delta" if stream else "message"] for choice in choices]
    calls = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    return {
        "text": texts(raw).get(0, "") if stream else messages[0]["content"] or "",
        "reasoning": "".join(message.get("reasoning_content", "") for message in messages),
        "tools": [(call.get("name"), call["arguments"]) for call in calls],
        "finish": [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
    }


def ask(url: str, stream: bool) -> tuple[int, bytes]:
    data = json.dumps({**ASK, "model": "any", "stream": stream}).encode()
    request = urllib.request.Request(url + "/v1/chat/completions", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
