"""Faults on both sides of the proxy, over real sockets: nothing unmarked leaves, no entry is lost, no answer lands in another."""

import asyncio
import contextlib
import gzip
import json
import socket
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from llm_label.errors import LabelError, SettingsError
from llm_label.proxy.upstream import OpenAIUpstream, UpstreamResponse, forwarded
from llm_label.settings import UpstreamSettings
from tests.proxy import marking
from tests.proxy.running import Running, proxy, stream, web, whole
from tests.proxy.test_app import MESSAGES, REPLY, STREAM, chunk, post

PATH = "/v1/chat/completions"
ASK = json.dumps({"model": "m", "messages": MESSAGES}).encode()
BODY = json.dumps(REPLY).encode()
ENDS = {"positions": ["start", "end"], "language": "zh"}


def talk(up: Running, raw: bytes) -> bytes:
    """Send bytes, read until the proxy closes."""
    host, port = up.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as sock:
        sock.sendall(raw)
        with contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: sock.recv(65536), b""))
    return b""


def http(body: bytes = ASK, *headers: str, path: str = PATH, method: str = "POST", close: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, *(["Connection: close"] if close else []), "", ""]).encode("latin-1") + body


def header(answer: bytes, name: str) -> list[str]:
    lines = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    return [line.partition(":")[2].strip() for line in lines if line.lower().startswith(name.lower() + ":")]


def replying(headers: list[tuple[str, str]], body: bytes = BODY, status: int = 200) -> Any:
    async def reply(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers=headers)

    return reply


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/../responses/resp_1",
        "/v1/models/%2e%2e/responses/resp_1",
        "/v1/models/..%2fresponses/resp_1",
        "/v1/models/%252e%252e/responses/resp_1",
        "/v1/models//../responses",
        "/v1/models/a;/../../responses",
        "/v1/models/..\\responses",
    ],
)
def test_a_data_route_cannot_be_bent_to_another(tmp_path: Path, path: str) -> None:
    with proxy(tmp_path, whole(BODY)) as up:
        status, answer = post(up.url, b"", path, "GET")
        assert up.fake.asked == []
    assert (status, answer["error"]["code"]) == (501, "not_offered")


def test_model_names_with_slashes_are_names(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(b"{}")) as up:
        assert post(up.url, b"", "/v1/models/meta-llama/Llama-3.1:8b", "GET")[0] == 200
        assert up.fake.asked[0]["path"] == "/v1/models/meta-llama/Llama-3.1:8b"


def test_the_upstream_is_asked_at_the_route_that_was_checked(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(BODY)) as up:
        talk(up, http(path=f"http://elsewhere{PATH}?api-version=1"))
        talk(up, http(path="/v1/%63hat/completions"))
    assert [a["path"] for a in up.fake.asked] == [f"{PATH}?api-version=1", PATH]


def test_a_broken_body_full_of_quotes_is_refused_at_once(tmp_path: Path) -> None:
    """Looking for brackets outside strings took minutes for one megabyte."""
    with proxy(tmp_path, whole(BODY)) as up:
        began = time.monotonic()
        status, _ = post(up.url, b'{"a' + b'\\"' * 500_000)
    assert status == 400 and time.monotonic() - began < 5


def test_compressed_requests_reach_the_upstream_readable(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(BODY)) as up:
        answer = talk(up, http(gzip.compress(ASK), "Content-Encoding: gzip"))
        broken = talk(up, http(b"no gzip", "Content-Encoding: gzip"))
    assert b" 200 " in answer and up.fake.asked[0]["body"] == ASK
    assert "Content-Encoding" not in up.fake.headers[0]
    assert b" 400 " in broken and len(up.fake.asked) == 1


def test_chunked_requests_and_those_that_wait_for_leave_are_read(tmp_path: Path) -> None:
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(ASK), ASK)
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    with proxy(tmp_path, whole(BODY)) as up:
        assert b" 200 " in talk(up, head + chunked)
        assert talk(up, http(ASK, "Expect: 100-continue")).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
    assert [a["body"] for a in up.fake.asked] == [ASK, ASK]


def test_a_name_no_database_can_store_harms_neither_this_answer_nor_the_next(tmp_path: Path) -> None:
    odd = b'{"model": "\\ud83d%s", "messages": []}' % (b"x" * 5000)
    reply = BODY.replace(b"chatcmpl-1", b"\\ud83d").replace(b'"stop"', b'"\\udc00"')
    with proxy(tmp_path, whole(reply), server={"ai_disclosure": True}) as up:
        assert [post(up.url, body)[0] for body in (odd, ASK)] == [200, 200]
        newest, oldest = up.entries()
    assert (newest.result, oldest.result) == ("complete", "complete")
    assert oldest.model is not None and len(oldest.model) <= 500


def test_headers_of_the_upstream_that_would_speak_for_us_or_no_longer_fit_are_dropped(tmp_path: Path) -> None:
    given = [("X-AIGC", "forged"), ("x-llm-label", "forged"), ("AI-Disclosure", "forged"), ("ETag", "1"), ("Content-Digest", "1"),
             ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Request-Id", "r"), ("Connection", "X-Hop"), ("X-Hop", "1"),
             ("Content-Type", "application/json; charset=utf-8")]  # fmt: skip
    with proxy(tmp_path, replying(given), server={"ai_disclosure": True}) as up:
        answer = talk(up, http())
    assert b"forged" not in answer
    for name, count in (("x-aigc", 1), ("x-llm-label", 1), ("ai-disclosure", 1), ("etag", 0), ("content-digest", 0),
                        ("set-cookie", 2), ("x-request-id", 1), ("x-hop", 0), ("content-length", 1)):  # fmt: skip
        assert len(header(answer, name)) == count, name
    assert header(answer, "content-type") == ["application/json; charset=utf-8"]
    body = answer.partition(b"\r\n\r\n")[2]
    assert len(body) == int(header(answer, "content-length")[0])


def test_headers_that_http_cannot_carry_on_are_left_out(tmp_path: Path) -> None:
    assert forwarded([("a", "x\udce9"), ("b", "x\ny"), ("c", "é")]) == [("c", "é")]
    with proxy(tmp_path, whole(BODY)) as up:
        assert b" 200 " in talk(up, http(ASK, "X-Odd: caf\xe9"))


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 405), ("OPTIONS", 405), ("PUT", 405), ("DELETE", 405), ("GET", 501)]
)
def test_other_methods_on_a_surface_are_refused(tmp_path: Path, method: str, status: int) -> None:
    with proxy(tmp_path, whole(BODY)) as up:
        assert b" %d " % status in talk(up, http(b"", method=method))
        assert up.fake.asked == []


@pytest.mark.parametrize("status", [204, 301, 304])
def test_an_answer_without_text_is_refused(tmp_path: Path, status: int) -> None:
    with proxy(tmp_path, replying([("Location", "/x")], b"", status)) as up:
        assert post(up.url, ASK)[0] == 502
        assert up.entries()[0].result == "upstream_malformed" and up.entries()[0].status == 502


def test_what_the_upstream_sends_decides_between_stream_and_whole(tmp_path: Path) -> None:
    streaming = json.dumps({"messages": MESSAGES, "stream": True}).encode()
    with proxy(tmp_path, stream(STREAM), labels=ENDS) as up:
        assert talk(up, http()).count(b"\\n\\n") == 2
    (tmp_path / "2").mkdir()
    with proxy(tmp_path / "2", whole(BODY), labels=ENDS) as up:
        assert post(up.url, streaming)[1]["llm_label"]["label"]["applied"] == ["start", "end"]


def test_the_kind_of_a_stream_is_told_in_any_case(tmp_path: Path) -> None:
    with proxy(tmp_path, replying([("Content-Type", "Text/Event-Stream")], b"".join(STREAM))) as up:
        assert b'"applied":["start"]' in talk(up, http())


@pytest.mark.parametrize("streaming", [True, False])
def test_a_mistake_of_our_own_ends_in_an_error_inside_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streaming: bool
) -> None:
    """A second HTTP response must never be written into a stream that has begun."""
    from llm_label.proxy.surfaces import chat

    calls = []

    def broken(*_: Any) -> bytes:
        calls.append(1)
        if streaming and len(calls) < 3:
            return b": fine\n\n"
        raise LookupError("a bug")

    monkeypatch.setattr(chat.Answer, "feed" if streaming else "whole", broken)
    with proxy(tmp_path, stream(STREAM) if streaming else whole(BODY)) as up:
        answer = talk(up, http())
        (entry,) = up.entries()
    assert answer.count(b"HTTP/1.1") == 1 and b"llm-label failed" in answer and b"a bug" not in answer
    assert entry.result == "failed" and entry.label_applied == ""


def test_a_broken_stream_does_not_spoil_the_next_request_on_its_connection(tmp_path: Path) -> None:
    with proxy(tmp_path, stream([*STREAM[:2], b"data: 3\n\n"])) as up:
        answer = talk(up, http(close=False) + http(b"{", close=False) + http())
    assert [answer.count(text) for text in (b"HTTP/1.1 200", b"HTTP/1.1 400", b"upstream_malformed")] == [2, 1, 2]


@pytest.mark.parametrize("streaming", [True, False])
def test_a_stopping_server_tells_its_clients(tmp_path: Path, streaming: bool) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    with proxy(tmp_path, stream(STREAM[:2], then=hang) if streaming else hang, labels=ENDS) as up:
        host, port = up.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 20) as sock:
            sock.sendall(http())
            answer = sock.recv(65536) if streaming else b""
            while streaming and "四".encode() not in answer and b"\\u56db" not in answer:
                answer += sock.recv(65536)
            while not up.parts.proxy.open:
                time.sleep(0.01)
            time.sleep(0.1)
            next(iter(up.parts.proxy._open))._task.get_loop().call_soon_threadsafe(up.parts.proxy.stop)
            answer += b"".join(iter(lambda: sock.recv(65536), b""))
        (entry,) = up.entries()
        status, refused = post(up.url, ASK)
    assert b"server_stopped" in answer and answer.count(b"HTTP/1.1") == 1
    assert (b" 503 " in answer) == (not streaming)
    assert (entry.result, entry.label_applied) == ("stopped", "start end" if streaming else "")
    assert (status, refused["error"]["code"]) == (503, "server_stopped")


def test_a_client_that_leaves_before_the_upstream_answers_is_noticed(tmp_path: Path) -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    with proxy(tmp_path, hang) as up:
        host, port = up.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 20) as sock:
            sock.sendall(http())
            while not up.fake.asked:
                time.sleep(0.01)
        (entry,) = up.entries()
        assert up.parts.proxy.open == 0
    assert (entry.result, entry.status, entry.label_applied) == ("client_gone", None, "")


def test_a_locked_audit_log_holds_answers_back_but_not_the_event_loop(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(BODY)) as up:
        up.parts.log._patience = 1.0
        other = sqlite3.connect(up.audit, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", int(up.url.rpartition(":")[2])), 20) as sock:
            sock.sendall(http())
            time.sleep(0.2)
            asked = time.monotonic()
            assert post(up.url, b"", "/healthz", "GET")[0] == 200
            assert time.monotonic() - asked < 0.5
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert b" 500 " in answer and b"audit log" in answer and "四月".encode() not in answer
        assert time.monotonic() - began > 0.9
        other.execute("ROLLBACK")
        other.close()
        (entry,) = up.entries()
    assert entry.result == "failed" and entry.label_applied == ""


def test_a_lock_of_a_moment_costs_nobody_the_answer(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(BODY)) as up:
        other = sqlite3.connect(up.audit, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with socket.create_connection(("127.0.0.1", int(up.url.rpartition(":")[2])), 20) as sock:
            sock.sendall(http())
            time.sleep(0.3)
            other.execute("ROLLBACK")
            assert b" 200 " in b"".join(iter(lambda: sock.recv(65536), b""))
        other.close()


def test_a_required_watermark_that_only_shows_as_missing_at_the_end_is_an_error(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(BODY)) as up:
        policy = up.parts.policy
    for streaming in (False, True):
        with proxy(tmp_path, stream(STREAM) if streaming else whole(BODY)) as up:
            _require_watermark(up, policy)
            answer = talk(up, http())
            entry = up.entries()[0]
        assert b"mark_not_applied" in answer and b"no randomness" in answer
        assert ("四月".encode() in answer or b"\\u56db" in answer) == streaming
        assert entry.result == "failed"


def _require_watermark(up: Running, policy: Any) -> None:
    """Let the upstream say, once its answer has ended, that it could not watermark it."""
    from dataclasses import replace

    inner, ended = up.parts.upstream.send, []

    async def send(request: Any) -> UpstreamResponse:
        response = await inner(request)
        chunks = response.chunks

        async def watched() -> Any:
            async for part in chunks:
                yield part
            ended.append(1)

        response.chunks = watched()
        response.watermark_skipped = lambda: "no randomness" if ended else None
        return response

    up.parts.upstream.send = send  # type: ignore[method-assign]
    up.parts.proxy._policy = replace(policy, key="k", upstream_watermarks=True, watermark_required=True)


def test_an_open_failure_loses_no_text_and_is_on_record(tmp_path: Path) -> None:
    """`AI` is held back, since it may become a label; then comes what cannot be read."""
    chunks = [chunk({"content": "AI"}), b"data: 3\n\n", chunk({"content": "很冷"}), chunk({}, "stop")]
    with proxy(tmp_path, stream(chunks), labels={"on_failure": "open", "texts": {"zh": "AI生成"}}) as up:
        answer = talk(up, http())
        (entry,) = up.entries()
    assert b"data: 3\n\n" in answer and b"AI" in answer.partition(b"data: 3")[0].partition(b"content")[2]
    assert answer.endswith(b"0\r\n\r\n") and b'"finish_reason": "stop"' in answer
    assert entry.result == "upstream_malformed"


def test_an_endless_whole_answer_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_label.proxy.body.MAX_WHOLE", 10_000)
    with proxy(tmp_path, whole(b"[" * 20_000)) as up:
        status, answer = post(up.url, ASK)
    assert status == 502 and "more than 10000 bytes" in answer["error"]["message"]


def test_an_error_object_with_status_200_is_no_complete_answer(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(b'{"error": {"message": "overloaded"}}')) as up:
        assert post(up.url, ASK)[1]["error"] == {"message": "overloaded"}
        assert up.entries()[0].result == "upstream_error"


def test_an_entry_claims_no_label_for_an_answer_that_was_refused(tmp_path: Path) -> None:
    half = {"choices": [REPLY["choices"][0], {"message": 3}]}  # type: ignore[index]
    with proxy(tmp_path, whole(json.dumps(half).encode())) as up:
        assert post(up.url, ASK)[0] == 502
        (entry,) = up.entries()
    assert (entry.label_applied, entry.labelled, entry.status) == ("", 0, 502)


def test_an_unmarked_stream_that_breaks_off_still_ends_in_an_error_of_its_own(tmp_path: Path) -> None:
    async def abort(request: web.Request) -> web.StreamResponse:
        request.transport.abort()  # type: ignore[union-attr]
        return web.Response()

    off = {"labels": {"positions": []}, "server": {"body_field": False}}
    with proxy(tmp_path, stream([b'data: {"x'], pause=0.1, then=abort), **off) as up:
        body = talk(up, http()).partition(b"\r\n\r\n")[2]
    assert b'data: {"x' in body and b'\n\ndata: {"error"' in body


def test_long_requests_and_answers_are_served(tmp_path: Path) -> None:
    long = json.dumps({**REPLY, "choices": [{"index": 0, "message": {"content": "很冷。" * 200_000}}]}).encode()
    with proxy(tmp_path, whole(long), labels=ENDS) as up:
        answer = post(up.url, json.dumps({"messages": MESSAGES * 12_000}).encode())[1]
    assert answer["llm_label"]["label"]["applied"] == ["start", "end"]


@pytest.mark.parametrize("key", ["", "a\nb", "ключ", "a b"])
def test_an_api_key_that_no_header_can_carry_is_refused_at_the_start(tmp_path: Path, key: str) -> None:
    file = tmp_path / "key"
    file.write_text(key)
    file.chmod(0o600)
    with pytest.raises(SettingsError, match="API key file"):
        OpenAIUpstream(UpstreamSettings(url="http://x", api_key_file=file))


def test_names_that_would_break_a_header_never_reach_one(tmp_path: Path) -> None:
    """The model's name is the client's; it stands in a header only if it fits one."""
    with proxy(tmp_path, whole(BODY), server={"ai_disclosure": True}) as up:
        for model in ("a\r\nX-Evil: 1", "модель", 'q"\\', "x" * 9000):
            answer = talk(up, http(json.dumps({"model": model, "messages": []}).encode()))
            assert b" 200 " in answer and not header(answer, "x-evil")
    assert marking.policy().id.isascii() and LabelError.status == 500
