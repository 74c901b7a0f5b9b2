"""The proxy over real sockets, with a real client and with bad ones."""

import contextlib
import gzip
import hashlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web

from tests.proxy import running
from tests.proxy.running import proxy, stream, whole

ZH, SEP = "AI生成", "\n\n"
REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "四月很冷。"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6},
}


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    body = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
        **more,
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


STREAM = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "四月"}),
    chunk({"content": "很冷。"}),
    chunk({}, "stop"),
    b"data: [DONE]\n\n",
]


@contextlib.contextmanager
def client(url: str) -> Iterator[Any]:
    with openai.OpenAI(base_url=url + "/v1", api_key="sk-test", max_retries=0, timeout=20) as made:
        yield made.chat.completions


MESSAGES: Any = [{"role": "user", "content": "四月天气如何？"}]


def post(url: str, body: bytes, path: str = "/v1/chat/completions", method: str = "POST") -> tuple[int, Any]:
    """Speak HTTP by hand, so that nothing tidies up the request."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as sock:
        head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        sock.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    head_bytes, _, payload = answer.partition(b"\r\n\r\n")
    return int(head_bytes.split()[1]), json.loads(payload)


def test_a_whole_answer_carries_label_record_and_headers(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(json.dumps(REPLY).encode())) as up:
        with client(up.url) as chat:
            raw = chat.with_raw_response.create(model="m", messages=MESSAGES)
            answer = raw.parse()
        (entry,) = up.entries()
    content = answer.choices[0].message.content
    assert content is not None and content.endswith("四月很冷。") and "AI" in content and "生成" in content
    record = json.loads(raw.headers["x-aigc"])
    own = answer.model_extra["llm_label"] if answer.model_extra else {}
    assert own["record"] == record and record["ContentProducer"] == "Acme" and record["Label"] == "1"
    assert own["content_id"] == record["ProduceID"] == entry.content_id
    assert own["label"] == {"planned": ["start"], "applied": ["start"], "skipped": None}
    assert raw.headers["x-llm-label"].startswith("label=(start), ")
    assert (entry.result, entry.label_applied, entry.upstream_id) == ("complete", "start", "chatcmpl-1")
    assert answer.usage is not None and answer.usage.total_tokens == 6


def test_the_stream_helper_sees_labels_in_its_final_message(tmp_path: Path) -> None:
    with proxy(tmp_path, stream(STREAM), labels={"positions": ["start", "end"], "language": "zh"}) as up:
        with client(up.url) as chat, chat.stream(model="m", messages=MESSAGES) as events:
            done = [event for event in events if event.type == "content.done"]
            final = events.get_final_completion()
        (entry,) = up.entries()
    content = final.choices[0].message.content
    assert content is not None and content.count("AI") == 2
    assert done[0].content == content
    assert entry.label_applied == "start end" and entry.finish_reasons == "stop"


def test_our_label_in_history_does_not_reach_the_upstream(tmp_path: Path) -> None:
    labels = {"positions": ["start", "end"]}
    with proxy(tmp_path, whole(json.dumps(REPLY).encode()), labels=labels) as up, client(up.url) as chat:
        content = chat.create(model="m", messages=MESSAGES).choices[0].message.content
        turns = [{"role": "assistant", "content": content}, {"role": "user", "content": content}]
        chat.create(model="m", messages=[*MESSAGES, *turns])
    sent = json.loads(up.fake.asked[-1]["body"])["messages"]
    assert sent[1]["content"] == "四月很冷。"
    assert sent[2]["content"] == content, "a user's text is never touched"


def test_authorization_reaches_the_upstream_and_hop_headers_do_not(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(json.dumps(REPLY).encode())) as up, client(up.url) as chat:
        chat.create(model="m", messages=MESSAGES)
    headers = {k.lower(): v for k, v in up.fake.headers[0].items()}
    assert headers["authorization"] == "Bearer sk-test"
    assert headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("body", "status", "code", "hint"),
    [
        (b"", 400, "invalid_request", "no body"),
        (b"{", 400, "invalid_request", "not JSON"),
        (b"[1]", 400, "invalid_request", "an array"),
        (b'{"messages": 3}', 400, "invalid_request", "messages must be a list"),
        (b'{"messages": [], "x": ' + b"[" * 300 + b"]" * 300 + b"}", 400, "too_deep", "100 levels"),
        (b'{"messages": [], "x": ' + b"[" * 9000 + b"]" * 9000 + b"}", 400, "too_deep", "100 levels"),
        (b'{"x": "' + b"a" * 3000 + b'"}', 413, "request_too_large", "2048 bytes"),
    ],
    ids=["empty", "no json", "array", "messages", "deep", "very deep", "large"],
)
def test_a_bad_request_gets_one_clear_line(tmp_path: Path, body: bytes, status: int, code: str, hint: str) -> None:
    limit = 2048 if status == 413 else 1 << 20
    with proxy(tmp_path, whole(b"{}"), server={"max_body": limit}) as up:
        got, answer = post(up.url, body)
        assert up.fake.asked == [] and up.entries() == []
    assert (got, answer["error"]["code"]) == (status, code)
    assert hint in answer["error"]["message"] and "\n" not in answer["error"]["message"]


@pytest.mark.parametrize(
    "path", ["/v1/responses/r/input_items", "/v1/batches", "/v1/files/f/content", "/nope", "/v1/chat/completions/x"]
)
def test_a_route_that_could_carry_unmarked_text_answers_501(tmp_path: Path, path: str) -> None:
    with proxy(tmp_path, whole(json.dumps(REPLY).encode())) as up:
        status, answer = post(up.url, b"{}", path)
        assert up.fake.asked == []
    assert (status, answer["error"]["code"]) == (501, "not_offered")


def test_data_routes_pass_unchanged(tmp_path: Path) -> None:
    body = b'{"object": "list",  "data": [1.0]}'
    with proxy(tmp_path, whole(body)) as up:
        assert post(up.url, b"", "/v1/models", "GET") == (200, {"object": "list", "data": [1.0]})
        status, _ = post(up.url, b'{"input": "x"}', "/v1/embeddings")
    assert status == 200
    assert [a["path"] for a in up.fake.asked] == ["/v1/models", "/v1/embeddings"]


@pytest.mark.parametrize(
    "reply",
    [
        b"<html>not json</html>",
        b"[]",
        b'{"id": 1}',
        b'{"choices": 3}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{}]}',
    ],
)
def test_an_upstream_that_answers_garbage_gives_502_and_an_entry(tmp_path: Path, reply: bytes) -> None:
    with proxy(tmp_path, whole(reply)) as up:
        with client(up.url) as chat, pytest.raises(openai.APIStatusError) as caught:
            chat.create(model="m", messages=MESSAGES)
        (entry,) = up.entries()
    assert caught.value.status_code == 502
    assert entry.result == "upstream_malformed" and entry.label_applied == "" and entry.note


def test_garbage_passes_where_the_operator_wrote_open_and_is_on_record(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(b'{"choices": 3}'), labels={"on_failure": "open"}) as up:
        status, answer = post(up.url, json.dumps({"messages": MESSAGES}).encode())
        (entry,) = up.entries()
    assert (status, answer) == (200, {"choices": 3})
    assert entry.result == "upstream_malformed"


def test_an_upstream_that_is_down_gives_502(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(b"{}"), upstream={"url": "http://127.0.0.1:9"}) as up:
        status, answer = post(up.url, json.dumps({"messages": MESSAGES}).encode())
        (entry,) = up.entries()
    assert (status, answer["error"]["code"]) == (502, "upstream")
    assert "http://127.0.0.1:9" in answer["error"]["message"]
    assert entry.result == "upstream_error"


def test_a_slow_upstream_gives_504(tmp_path: Path) -> None:
    async def slow(request: Any) -> Any:
        import asyncio

        await asyncio.sleep(3)

    with proxy(tmp_path, slow, upstream={"read_timeout": 0.2}) as up:
        status, answer = post(up.url, json.dumps({"messages": MESSAGES}).encode())
        (entry,) = up.entries()
    assert (status, answer["error"]["code"]) == (504, "upstream_timeout")
    assert entry.result == "upstream_error"


def test_an_error_of_the_upstream_passes_unlabelled(tmp_path: Path) -> None:
    error = b'{"error": {"message": "no such model", "type": "invalid_request_error"}}'
    with proxy(tmp_path, whole(error, 404)) as up:
        raw = post(up.url, json.dumps({"messages": MESSAGES}).encode())
        (entry,) = up.entries()
    assert raw == (404, json.loads(error))
    assert (entry.result, entry.status, entry.label_skipped) == ("upstream_error", 404, "error")


@pytest.mark.parametrize(
    ("chunks", "result"),
    [
        (STREAM[:2], "truncated"),
        ([*STREAM[:2], b'data: {"x\n\n'], "upstream_malformed"),
        ([*STREAM[:2], b"data: [1]\n\n"], "upstream_malformed"),
        ([*STREAM[:2], chunk({"content": 5})], "upstream_malformed"),
    ],
    ids=["truncated", "no json", "no object", "content is a number"],
)
def test_a_stream_that_breaks_ends_in_an_error_sdks_raise(tmp_path: Path, chunks: list[bytes], result: str) -> None:
    with proxy(tmp_path, stream(chunks), labels={"positions": ["start", "end"], "language": "zh"}) as up:
        text = ""
        with client(up.url) as chat, pytest.raises(openai.APIError) as caught:
            for event in chat.create(model="m", messages=MESSAGES, stream=True):
                text += event.choices[0].delta.content or ""
        (entry,) = up.entries()
    assert "upstream" in str(caught.value)
    assert text.count("AI") == 2 and "四月" in text, "what was sent carries its labels, the pending one too"
    assert entry.result == result and entry.label_applied == "start end"


def test_a_client_that_leaves_closes_the_upstream_and_the_entry(tmp_path: Path) -> None:
    endless = [STREAM[0]] + [STREAM[1]] * 2000
    with proxy(tmp_path, stream(endless, pause=0.01)) as up:
        with client(up.url) as chat:
            events = chat.create(model="m", messages=MESSAGES, stream=True)
            while not next(events).choices[0].delta.content:
                pass
            events.response.close()
        (entry,) = up.entries()
        assert up.parts.proxy.open == 0
    assert entry.result == "client_gone" and entry.label_applied == "start"


def test_compressed_upstreams_are_read(tmp_path: Path) -> None:
    async def zipped(request: Any) -> Any:
        body = gzip.compress(json.dumps(REPLY).encode())
        return running.web.Response(body=body, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    with proxy(tmp_path, zipped) as up:
        status, answer = post(up.url, json.dumps({"messages": MESSAGES}).encode())
    assert status == 200 and answer["llm_label"]["label"]["applied"] == ["start"]


def test_with_every_mark_off_the_bytes_pass_unparsed(tmp_path: Path) -> None:
    body = b'{ "not": "what we know",\n "n": 1.00 }'
    with proxy(tmp_path, whole(body), labels={"positions": []}, server={"body_field": False}) as up:
        host, port = up.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 20) as sock:
            ask = json.dumps({"messages": MESSAGES}).encode()
            sock.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n" % len(ask) + ask
            )
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.endswith(b"\r\n\r\n" + body)


def test_detection_is_coarse_for_strangers_and_exact_with_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("let-me-in\n")
    (tmp_path / "token").chmod(0o600)
    text = "本内容由AI生成\n\n" + "四月的天气很冷，五月的天气很暖。" * 5
    with proxy(tmp_path, whole(b"{}"), server={"admin_token_file": tmp_path / "token"}) as up:
        for body in (text.encode(), json.dumps({"text": text}).encode()):
            status, verdict = post(up.url, body, "/llm-label/detect")
            assert (status, verdict["verdict"], verdict["label"]) == (200, "suspected", "3")
            assert "keys:" not in verdict["signature"]
        request = urllib.request.Request(
            up.url + "/llm-label/detect", text.encode(), {"Authorization": "Bearer let-me-in"}
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            assert "keys:none" in json.load(response)["signature"]
        assert post(up.url, b"x" * 300_000, "/llm-label/detect")[0] == 413
        status, answer = post(up.url, b"\xff\xfe\x00", "/llm-label/detect")
    assert (status, answer["error"]["code"]) == (400, "input")
    assert up.entries() == [], "nothing submitted is kept"


@pytest.mark.parametrize(
    "body", [b"", b" \n", b"\xef\xbb\xbf", "\u3000".encode(), b'{"text": ""}', b'{"text": " \\n"}']
)
def test_detection_of_no_text_is_the_clients_mistake(tmp_path: Path, body: bytes) -> None:
    """As it is an error on the command line; a saved answer without text is an answer, and inconclusive."""
    with proxy(tmp_path, whole(b"{}")) as up:
        status, answer = post(up.url, body, "/llm-label/detect")
        assert status == 400 and "no text was sent; the body is the text itself" in answer["error"]["message"]
        saved = b'{"choices": [{"message": {"content": ""}}]}'
        assert post(up.url, saved, "/llm-label/detect")[1]["verdict"] == "inconclusive"


def test_health_and_readiness(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(b"{}")) as up:
        assert post(up.url, b"", "/healthz", "GET")[0] == 200
        assert post(up.url, b"", "/readyz", "GET")[0] == 200
        up.parts.proxy.drain()
        assert post(up.url, b"", "/readyz", "GET")[0] == 503


def test_a_browsers_preflight_goes_to_the_upstream_without_a_key(tmp_path: Path) -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        return web.Response(headers={"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"})

    digest = hashlib.sha256(b"x" * 40).hexdigest()
    with proxy(tmp_path, reply, clients=[{"name": "web", "key_sha256": digest}]) as up:
        ask = urllib.request.Request(up.url + "/v1/chat/completions", method="OPTIONS")
        ask.add_header("Origin", "http://example.com")
        ask.add_header("Access-Control-Request-Method", "POST")
        ask.add_header("X-HTTP-Method-Override", "POST")
        ask.add_header("Authorization", "Bearer " + "x" * 40)
        ask.data = b'{"messages": []}'
        with urllib.request.urlopen(ask) as answer:
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert [(asked["method"], asked["body"]) for asked in up.fake.asked] == [("OPTIONS", b"")]
        assert not {"authorization", "x-http-method-override"} & {name.lower() for name in up.fake.headers[0]}


def test_a_wrong_method_says_which_one_is_right(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(b"{}")) as up, pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(up.url + "/v1/messages", method="PUT"))
    with refused.value as answer:
        assert answer.status == 405 and answer.headers["Allow"] == "POST"
