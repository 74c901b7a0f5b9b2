"""The litellm upstream behind the proxy: errors, ends, disconnects, credentials, what it loads and when."""

import asyncio
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("litellm") is None:
    pytest.skip("the adapter llm-label-litellm is not installed", allow_module_level=True)

import openai
from aiohttp import web

from tests.adapters.litellm_server import CREDENTIALS, WARNINGS, point
from tests.proxy.running import Running, proxy

pytestmark = WARNINGS

ASK: dict[str, Any] = {"model": "gemini-2.5-flash", "messages": [{"role": "user", "content": "Hello"}]}
LABELS = {"positions": ["start", "end"], "language": "en"}


def part(text: str, finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
    used = {"promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7}
    return {"candidates": [{**candidate, **({"finishReason": finish} if finish else {})}], "usageMetadata": used}


WHOLE = [part("Hello there", "STOP")]
PARTS = [part("Hello"), part(" there"), part(".", "STOP")]


class Gemini:
    """Answer as Gemini does: so many parts, a pause after each, then perhaps the end of the connection."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.parts, self.pause, self.breaks = PARTS, 0.0, False
        self.status, self.error, self.wait = 200, "", ""
        self.begun = self.left = False
        self.headers: dict[str, str] = {}
        self.path, self.body = "", b""

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.path, self.headers, self.body = request.path, dict(request.headers), await request.read()
        self.begun = True
        if self.status >= 400:
            error = {"error": {"code": self.status, "message": self.error, "status": "X"}}
            return web.json_response(error, status=self.status, headers={"Retry-After": self.wait} if self.wait else {})
        try:
            return await (self._stream(request) if "streamGenerate" in request.path else self._whole())
        except (asyncio.CancelledError, ConnectionError):
            self.left = True
            raise

    async def _whole(self) -> web.StreamResponse:
        await asyncio.sleep(self.pause)
        return web.json_response(self.parts[0])

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for each in self.parts:
            await response.write(f"data: {json.dumps(each)}\r\n\r\n".encode())
            await asyncio.sleep(self.pause)
        if self.breaks and request.transport:
            request.transport.abort()
        return response


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gemini, Running]]:
    gemini, folder = Gemini(), tmp_path_factory.mktemp("litellm")
    upstream = {"url": "litellm:gemini/", "read_timeout": 2.0}
    with pytest.MonkeyPatch.context() as environ, proxy(folder, gemini, upstream=upstream, labels=LABELS) as up:
        point(environ, up.fake_url)
        yield gemini, up


@pytest.fixture
def gemini(running: tuple[Gemini, Running]) -> Gemini:
    running[0].reset()
    return running[0]


@pytest.fixture
def up(running: tuple[Gemini, Running]) -> Running:
    return running[1]


@pytest.fixture
def client(up: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=up.url + "/v1", api_key="the-clients-own-key", max_retries=0, timeout=20) as client:
        yield client


def waited(condition: Any) -> bool:
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def test_a_stream_reads_as_openais(client: openai.OpenAI, gemini: Gemini) -> None:
    chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
    *body, usage = chunks
    assert len({chunk.id for chunk in chunks}) == 1
    assert usage.choices == [] and usage.usage.total_tokens == 7
    assert all(chunk.usage is None for chunk in body)
    assert [c.choices[0].finish_reason for c in body if c.choices[0].finish_reason] == ["stop"]
    text = "".join(c.choices[0].delta.content or "" for c in body)
    assert "Hello there." in text and text != "Hello there."
    assert body[0].model_extra["llm_label"]["label"]["planned"] == ["start", "end"]


def test_no_usage_is_sent_to_who_did_not_ask(client: openai.OpenAI, gemini: Gemini) -> None:
    assert all(c.usage is None and c.choices for c in client.chat.completions.create(**ASK, stream=True))


def test_a_whole_answer_reads_as_openais(client: openai.OpenAI, gemini: Gemini) -> None:
    gemini.parts = WHOLE
    answer = client.chat.completions.create(**ASK)
    assert answer.choices[0].finish_reason == "stop" and answer.usage.total_tokens == 7
    assert "Hello there" in answer.choices[0].message.content
    assert answer.model_extra["llm_label"]["label"]["applied"] == ["start", "end"]


def test_the_clients_key_stays_here(client: openai.OpenAI, gemini: Gemini) -> None:
    gemini.parts = WHOLE
    client.chat.completions.create(**ASK)
    sent = json.dumps(gemini.headers) + gemini.path + gemini.body.decode()
    assert "the-clients-own-key" not in sent and CREDENTIALS["GEMINI_API_KEY"] in sent
    assert gemini.path == "/models/gemini-2.5-flash:generateContent"


def test_a_client_cannot_name_another_server(client: openai.OpenAI, gemini: Gemini) -> None:
    with pytest.raises(openai.BadRequestError, match="api_base") as refused:
        client.chat.completions.create(**ASK, extra_body={"api_base": "http://127.0.0.1:1"})
    assert refused.value.param == "api_base" and not gemini.begun


def test_a_client_cannot_have_images_fetched_from_inside(up: Running, client: openai.OpenAI, gemini: Gemini) -> None:
    image = {"type": "image_url", "image_url": {"url": up.fake_url + "/inside.png"}}
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**{**ASK, "messages": [{"role": "user", "content": [image]}]})
    assert not gemini.begun


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("status", "raised"),
    [(400, openai.BadRequestError), (401, openai.AuthenticationError), (404, openai.NotFoundError),
     (429, openai.RateLimitError), (500, openai.InternalServerError), (503, openai.InternalServerError)],
)  # fmt: skip
def test_a_refusal_keeps_its_status(
    client: openai.OpenAI, gemini: Gemini, up: Running, status: int, raised: Any, stream: bool
) -> None:
    gemini.status, gemini.error, gemini.wait = status, "Not so.", "7"
    with pytest.raises(raised) as refused:
        client.chat.completions.create(**ASK, stream=stream)
    assert refused.value.status_code == status
    said = refused.value.body["message"]
    assert ("Not so" in said) == (status != 401) and "\n" not in said and "Traceback" not in said
    assert CREDENTIALS["GEMINI_API_KEY"] not in refused.value.response.text
    if status == 429 and not stream:  # litellm loses the headers of a refused stream
        assert refused.value.response.headers["retry-after"] == "7"
    assert up.entries()[0].result == "upstream_error"


def test_a_key_in_a_message_is_left_out(client: openai.OpenAI, gemini: Gemini) -> None:
    gemini.status, gemini.error = 400, f"the key {CREDENTIALS['GEMINI_API_KEY']} may not do this"
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**ASK)
    assert "may not do this" in refused.value.response.text
    assert CREDENTIALS["GEMINI_API_KEY"] not in refused.value.response.text


@pytest.mark.parametrize(("parts", "breaks"), [(PARTS[:2], False), (PARTS[:2], True), (PARTS[:1], False)])
def test_a_stream_without_its_end_is_an_error(
    client: openai.OpenAI, gemini: Gemini, up: Running, parts: list[Any], breaks: bool
) -> None:
    gemini.parts, gemini.breaks = parts, breaks
    with pytest.raises(openai.APIError) as failed:
        list(client.chat.completions.create(**ASK, stream=True))
    assert failed.value.code == "upstream_truncated"
    assert up.entries()[0].result == "truncated"


def test_silence_before_the_answer_is_a_timeout(client: openai.OpenAI, gemini: Gemini) -> None:
    gemini.parts, gemini.pause = WHOLE, 4
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(**ASK)
    assert (failed.value.status_code, failed.value.code) == (504, "upstream_timeout")


def test_silence_in_a_stream_is_a_timeout(client: openai.OpenAI, gemini: Gemini) -> None:
    gemini.pause = 4
    with pytest.raises(openai.APIError) as failed:
        list(client.chat.completions.create(**ASK, stream=True))
    assert failed.value.code == "upstream_timeout"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_answer_at_the_provider(up: Running, gemini: Gemini, stream: bool) -> None:
    gemini.parts, gemini.pause = [part("word ")] * 200 if stream else WHOLE, 0.05 if stream else 1.5
    with openai.OpenAI(base_url=up.url + "/v1", api_key="k", max_retries=0, timeout=0.4) as client:
        if stream:
            chunks = client.chat.completions.create(**ASK, stream=True)
            next(iter(chunks))
            chunks.close()
        else:
            with pytest.raises(openai.APITimeoutError):
                client.chat.completions.create(**ASK)
    assert waited(lambda: gemini.left)
    assert up.entries()[0].result == "client_gone"


def test_models_of_the_prefix_are_listed(client: openai.OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert "gemini/gemini-2.5-flash" in names and all(name.startswith("gemini/") for name in names)
    assert client.models.retrieve("gemini/gemini-2.5-flash").owned_by == "gemini"
    with pytest.raises(openai.NotFoundError, match="is not listed here"):
        client.models.retrieve("gpt-4o")


def test_other_data_routes_are_refused_in_a_sentence(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError, match="is not offered with litellm") as refused:
        client.moderations.create(input="x")
    assert refused.value.status_code == 501


def test_embeddings_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
        used = {"prompt_tokens": 1, "total_tokens": 1}
        return web.json_response({"object": "list", "data": data, "model": "e", "usage": used})

    with proxy(tmp_path, reply, upstream={"url": "litellm:openai/text-embedding-3-small"}) as up:
        point(monkeypatch, up.fake_url)
        with openai.OpenAI(base_url=up.url + "/v1", api_key="k", max_retries=0, timeout=20) as client:
            found = client.embeddings.create(model="any", input="x", encoding_format="float")
    assert found.data[0].embedding == [0.5, -0.25]


def test_the_key_of_the_file_is_the_providers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gemini, file = Gemini(), tmp_path / "key"
    gemini.parts = WHOLE
    file.write_text("key-of-the-file\n")
    file.chmod(0o600)
    with proxy(tmp_path, gemini, upstream={"url": "litellm:gemini/g", "api_key_file": str(file)}) as up:
        point(monkeypatch, up.fake_url)
        with openai.OpenAI(base_url=up.url + "/v1", api_key="k", max_retries=0, timeout=20) as client:
            client.chat.completions.create(**ASK)
    assert "key-of-the-file" in json.dumps(gemini.headers)
    assert CREDENTIALS["GEMINI_API_KEY"] not in json.dumps(gemini.headers)


def test_litellm_loads_when_configured_and_without_the_network() -> None:
    program = """
import socket, sys, warnings
from llm_label.proxy.upstream import connect
from llm_label.settings import UpstreamSettings
import llm_label_litellm
upstream = connect(UpstreamSettings(url="litellm:gemini/gemini-2.5-flash"))
assert "litellm" not in sys.modules
def refuse(*args, **kwargs): raise AssertionError(f"the network was reached for: {args}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
upstream.start()
litellm = sys.modules["litellm"]
assert not litellm.drop_params and not litellm.modify_params
assert not (litellm.callbacks or litellm.success_callback or litellm.failure_callback or litellm.input_callback)
print("loaded")
"""
    environ = {"PATH": "/usr/bin:/bin", "LITELLM_DROP_PARAMS": "True", "LITELLM_MODIFY_PARAMS": "True"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loaded\n", "")
