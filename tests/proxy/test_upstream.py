"""The way out over real sockets: retries, connections used again, silence, garbage, and data relayed in pieces."""

import asyncio
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.proxy.running import Handler, proxy, stream, web, whole
from tests.proxy.test_app import STREAM, client
from tests.proxy.test_wire import ASK, BODY, CLOSE, ENDS
from tests.proxy.wire import (
    APIS,
    LAST,
    SSE,
    Client,
    Script,
    chunked,
    dechunked,
    head,
    idle_connections,
    open_connections,
    until,
    upstream,
    values,
)

JSON = "Content-Type: application/json"


def answers(sock: socket.socket, request: bytes) -> None:
    sock.sendall(head(JSON, f"Content-Length: {len(BODY)}") + BODY)


def hangs_up(sock: socket.socket, request: bytes) -> None:
    pass


def resets(sock: socket.socket, request: bytes) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")


def begins(sock: socket.socket, request: bytes) -> None:
    sock.sendall(head(JSON, "Content-Length: 9999") + BODY)


def refuses(sock: socket.socket, request: bytes) -> None:
    sock.sendall(head(JSON, "Content-Length: 2", status="503 Busy") + b"{}")


@pytest.mark.parametrize(
    ("scripts", "retries", "status", "asked"),
    [
        ([hangs_up, answers], 1, 200, 2),
        ([resets, answers], 1, 200, 2),
        ([hangs_up, resets, answers], 2, 200, 3),
        ([hangs_up, resets, answers], 1, 502, 2),
        ([hangs_up, answers], 0, 502, 1),
        ([begins, answers], 5, 502, 1),
        ([refuses, answers], 5, 503, 1),
    ],
)
def test_a_request_is_sent_again_only_while_no_byte_has_come(
    tmp_path: Path, scripts: list[Script], retries: int, status: int, asked: int
) -> None:
    """With its whole body: the large one is a stream for the client library, and a stream is empty once it was sent."""
    large = json.dumps({"messages": [{"role": "user", "content": "x" * 600_000}]}).encode()
    for body in (ASK, large):
        with (
            upstream(*scripts) as (url, seen),
            proxy(tmp_path, whole(b""), upstream={"url": url, "retries": retries}) as up,
        ):
            with Client(up.url) as one:
                answer = one.post(body, CLOSE).rest()
            entry = up.entries()[0]
        assert int(answer.split()[1]) == status
        assert [request.partition(b"\r\n\r\n")[2] for request in seen] == [body] * asked
        assert (entry.result == "complete") == (status == 200) and entry.status == status


def test_a_server_that_starts_a_moment_later_is_reached(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def later() -> None:
        time.sleep(0.15)
        with socket.create_server(("127.0.0.1", port)) as server:
            sock, _ = server.accept()
            with sock:
                sock.recv(65536)
                answers(sock, b"")

    with proxy(tmp_path, whole(b""), upstream={"url": f"http://127.0.0.1:{port}", "retries": 3}) as up:
        thread = threading.Thread(target=later)
        thread.start()
        with Client(up.url) as one:
            assert int(one.post(ASK, CLOSE).rest().split()[1]) == 200
        thread.join()


def test_a_pooled_connection_that_the_upstream_closed_costs_nobody_an_answer(tmp_path: Path) -> None:
    """Its end and the next request may cross: even without retries left, nothing that was answered is lost."""
    closed = []

    def once(sock: socket.socket, request: bytes) -> None:
        answers(sock, request)
        sock.shutdown(socket.SHUT_RDWR)
        closed.append(1)

    with upstream(once) as (url, asked), proxy(tmp_path, whole(b""), upstream={"url": url, "retries": 1}) as up:
        with Client(up.url) as one:
            for number in range(1, 6):
                one.got = b""
                one.post(ASK).until(b"chatcmpl-1")
                until(lambda number=number: len(closed) == number)
        assert len(asked) == 5 and [e.result for e in up.entries()] == ["complete"] * 5


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n", b"\0\1\2\r\n\r\n"]
)
def test_what_is_no_http_is_malformed(tmp_path: Path, garbage: bytes) -> None:
    with (
        upstream(lambda sock, _: sock.sendall(garbage)) as (url, asked),
        proxy(tmp_path, whole(b""), upstream={"url": url}) as up,
    ):
        with Client(up.url) as one:
            answer = one.post(ASK, CLOSE).rest()
        (entry,) = up.entries()
    message = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert int(answer.split()[1]) == 502 and "\n" not in message and "no HTTP" in message
    assert (entry.result, len(asked)) == ("upstream_malformed", 1)


@pytest.mark.parametrize("name", ["chat", "messages"])
def test_a_dripping_upstream_is_followed_and_a_silent_one_given_up(tmp_path: Path, name: str) -> None:
    """The time limit counts silence, not length: a byte every 50 ms outlives a limit of 400 ms."""
    api = APIS[name]
    event = b"".join(api.events[: api.first_text])

    def script(sock: socket.socket, request: bytes) -> None:
        sock.sendall(head(SSE, "Transfer-Encoding: chunked"))
        step = -(-len(event) // 16)
        for at in range(0, len(event), step):
            sock.sendall(chunked(event[at : at + step]))
            time.sleep(0.05)
        until(lambda: sock.recv(1) == b"")

    with upstream(script) as (url, _), proxy(tmp_path, whole(b""), upstream={"url": url, "read_timeout": 0.4}) as up:
        with Client(up.url) as one:
            began = time.monotonic()
            answer = one.post(api.ask, CLOSE, path=api.path).rest()
        (entry,) = up.entries()
    assert time.monotonic() - began > 1 and b"stopped sending" in answer and answer.endswith(LAST)
    assert entry.result == "upstream_error" and entry.label_applied == "start"


def test_the_headers_of_a_stream_do_not_wait_for_its_first_event(tmp_path: Path) -> None:
    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(0.5)
        await response.write(b"".join(STREAM))
        return response

    with proxy(tmp_path, reply) as up, Client(up.url) as one:
        one.post(ASK).until(b"\r\n\r\n")
        assert b"data:" not in one.got
        one.until(b"[DONE]")


def test_a_connection_serves_on_after_a_stream_an_error_and_a_refusal(tmp_path: Path) -> None:
    turns: list[tuple[Handler, bytes, str, bytes]] = [
        (stream(STREAM), ASK, "/v1/chat/completions", b"0\r\n\r\n"),
        (whole(b'{"error": {"message": "no"}}', 429), ASK, "/v1/chat/completions", b'"no"}}'),
        (whole(b""), b"{", "/v1/chat/completions", b"not JSON"),
        (stream(STREAM[:2]), ASK, "/v1/chat/completions", b"0\r\n\r\n"),
        (whole(b""), b"{}", "/v1/batches", b"not_offered"),
        (whole(BODY), ASK, "/v1/chat/completions", b'"applied":["start"]'),
    ]
    with proxy(tmp_path, whole(b"")) as up, Client(up.url) as one:
        for _ in range(3):
            for reply, body, path, end in turns:
                up.fake.reply, one.got = reply, b""
                one.post(body, path=path).until(end)
        until(lambda: open_connections(up) == 0)
        assert idle_connections(up) == 1, "one connection to the upstream served all of them"
        assert len(up.fake.asked) == 12


# What an upstream may send in the middle of a stream that is no event of its API.
GARBAGE: dict[str, bytes] = {
    "no JSON": b"data: {oops\n\n",
    "an array": b"data: [1]\n\n",
    "half a surrogate in JSON": b'data: {"x": "\xed\xa0\x80"}\n\n',
    "HTML": b"data: <html>\n\n",
}


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", APIS)
def test_a_malformed_frame_ends_the_stream_where_marks_are_required(tmp_path: Path, name: str, garbage: str) -> None:
    api = APIS[name]
    events = [*api.events[: api.first_text], GARBAGE[garbage], *api.events[api.first_text :]]
    with proxy(tmp_path, stream(events), labels=ENDS) as up:
        with Client(up.url) as one:
            body = dechunked(one.post(api.ask, CLOSE, path=api.path).rest())
        (entry,) = up.entries()
    assert GARBAGE[garbage] not in body and b"upstream_malformed" in body or b"the upstream sent" in body
    assert "很冷" not in body.decode() and b"\\u5f88\\u51b7" not in body, "what came behind it did not leave"
    assert (entry.result, entry.label_applied) == ("upstream_malformed", "start end")


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("name", APIS)
def test_a_malformed_frame_passes_where_the_operator_wrote_open(tmp_path: Path, name: str, garbage: str) -> None:
    api = APIS[name]
    rest = [GARBAGE[garbage], *api.events[api.first_text :]]
    with proxy(tmp_path, stream(api.events[: api.first_text] + rest), labels={**ENDS, "on_failure": "open"}) as up:
        with Client(up.url) as one:
            body = dechunked(one.post(api.ask, CLOSE, path=api.path).rest())
        (entry,) = up.entries()
        with Client(up.url) as two:
            figures = two.post(b"", CLOSE, path="/metrics", method="GET").rest().decode()
    assert body.endswith(b"".join(rest)), "everything behind it passes as it came"
    assert entry.result == "upstream_malformed" and entry.note
    assert any(
        "failed" in line and "upstream_malformed" in line and line.endswith(" 1") for line in figures.splitlines()
    )


BROKEN = {
    "malformed": (GARBAGE["no JSON"], "upstream_malformed"),
    "cut off": (b"", "truncated"),
    "its own error": (
        b'data: {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}\n\n',
        "upstream_error",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("name", APIS)
def test_the_real_client_raises_on_what_breaks_a_stream(tmp_path: Path, name: str, case: str) -> None:
    api, (event, result) = APIS[name], BROKEN[case]
    if name == "messages" and case == "its own error":
        event = b"event: error\n" + event
    with proxy(tmp_path, stream([*api.events[: api.first_text], event])) as up:
        sdk, error = _sdk(name, up.url)
        with sdk, pytest.raises(error):
            for _ in _asked(sdk, name, json.loads(api.ask)):
                pass
        (entry,) = up.entries()
    assert (entry.result, entry.label_applied) == (result, "start")


def _sdk(name: str, url: str) -> tuple[Any, type[Exception]]:
    if name != "messages":
        return openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0, timeout=20), openai.APIError
    anthropic = pytest.importorskip("anthropic", reason="the anthropic client is not installed")
    return anthropic.Anthropic(base_url=url, api_key="k", max_retries=0, timeout=20), anthropic.APIError


def _asked(sdk: Any, name: str, body: dict[str, Any]) -> Any:
    return (sdk.chat.completions if name == "chat" else getattr(sdk, name)).create(**body)


def test_events_without_data_never_reach_clients_that_would_die_of_them(tmp_path: Path) -> None:
    """openai parses every event it dispatches: `event: ping` alone would end its stream with a JSONDecodeError."""
    odd = [b"event: ping\n\n", b"retry: 3000\n\n", b": comment\n\n", b"id: 1\n\n", b"\xef\xbb\xbf"]
    pieces = [odd[4] + odd[0], STREAM[0], odd[1], STREAM[1], odd[2], STREAM[2], odd[3], *STREAM[3:]]
    with proxy(tmp_path, stream(pieces)) as up, client(up.url) as chat:
        text = "".join(c.choices[0].delta.content or "" for c in chat.create(model="m", messages=[], stream=True))
    assert text.endswith("四月很冷。") and "AI" in text


AUDIO = bytes(range(256)) * 4096  # 1 MiB


def test_data_is_relayed_in_pieces_with_its_length(tmp_path: Path) -> None:
    gate = threading.Event()

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/mpeg", "Content-Length": str(len(AUDIO))})
        await response.prepare(request)
        await response.write(AUDIO[:1000])
        await asyncio.to_thread(gate.wait, 10)
        await response.write(AUDIO[1000:])
        return response

    with proxy(tmp_path, reply) as up, Client(up.url) as one:
        one.post(b'{"input": "x"}', CLOSE, path="/v1/audio/speech").until(AUDIO[:1000])
        gate.set()
        answer = one.rest()
        assert up.entries() == []
    assert values(answer, "content-length") == [str(len(AUDIO))] and values(answer, "content-type") == ["audio/mpeg"]
    assert answer.partition(b"\r\n\r\n")[2] == AUDIO


@pytest.mark.parametrize(
    "answer",
    [head(f"Content-Length: {len(AUDIO)}") + AUDIO[:5000], head("Transfer-Encoding: chunked") + chunked(AUDIO[:5000])],
    ids=["length", "chunked"],
)
def test_data_that_breaks_off_is_not_passed_off_as_whole(tmp_path: Path, answer: bytes) -> None:
    with (
        upstream(lambda sock, _: sock.sendall(answer)) as (url, _),
        proxy(tmp_path, whole(b""), upstream={"url": url}) as up,
        Client(up.url) as one,
    ):
        got = one.post(b"{}", path="/v1/audio/speech").rest()
    assert AUDIO[:5000] in got and not got.endswith(LAST) and got.count(b"HTTP/1.1") == 1


def test_a_client_that_leaves_data_behind_leaves_no_connection(tmp_path: Path) -> None:
    with proxy(tmp_path, stream([AUDIO] * 1000)) as up:
        with Client(up.url) as one:
            one.post(b"{}", path="/v1/audio/speech").until(AUDIO[:1000])
            assert open_connections(up) == 1
            one.reset()
        until(lambda: open_connections(up) == 0)


@pytest.mark.parametrize(
    ("method", "path", "headers", "hint"),
    [
        ("GET", "/v1/realtime?model=m", ["Upgrade: websocket", "Connection: Upgrade"], "WebSocket"),
        ("GET", "/v1/responses", ["Upgrade: websocket", "Connection: Upgrade"], "WebSocket"),
        ("POST", "/v1/realtime/client_secrets", [], "Realtime"),
        ("POST", "/v1/batches", [], "batch results"),
        ("GET", "/v1/batches/b_1", [], "batch results"),
        ("GET", "/v1/files/f_1/content", [], "batch results"),
        ("PUT", "/v1/messages", [], "takes POST"),
        ("DELETE", "/v1/completions", [], "takes POST"),
    ],
)
def test_what_is_not_served_says_so_in_one_sentence(
    tmp_path: Path, method: str, path: str, headers: list[str], hint: str
) -> None:
    with proxy(tmp_path, whole(BODY)) as up, Client(up.url) as one:
        answer = one.post(b"", *headers, *([] if headers else [CLOSE]), path=path, method=method).until(b"}}")
        assert up.fake.asked == []
    error: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert int(answer.split()[1]) == (405 if hint == "takes POST" else 501)
    assert hint in error["message"] and "\n" not in error["message"]
