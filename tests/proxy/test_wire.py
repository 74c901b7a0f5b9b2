"""Bytes between the proxy and its two neighbours: encodings, framing, headers, breaks, retries, silence."""

import gzip
import json
import socket
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest
from backports import zstd

from llm_label.proxy import sse
from llm_label.proxy.marking import Marking
from llm_label.proxy.surfaces import chat, completions, messages, responses
from tests.proxy import marking
from tests.proxy.running import proxy, stream, web, whole
from tests.proxy.test_app import MESSAGES, REPLY, STREAM, chunk
from tests.proxy.wire import (
    APIS,
    LAST,
    SSE,
    Client,
    chunked,
    dechunked,
    head,
    open_connections,
    until,
    upstream,
    values,
)

ASK = json.dumps({"model": "m", "messages": MESSAGES}).encode()
BODY = json.dumps(REPLY).encode()
ENDS = {"positions": ["start", "end"], "language": "zh"}
CLOSE = "Connection: close"
OFF: dict[str, Any] = {"labels": {"positions": []}, "server": {"body_field": False}}


class Deflate:
    """zlib with a flush behind every piece, as servers compress streams."""

    def __init__(self, wbits: int) -> None:
        self._one = zlib.compressobj(wbits=wbits)

    def __call__(self, data: bytes) -> bytes:
        return self._one.compress(data) + self._one.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._one.flush()


class Brotli:
    def __init__(self) -> None:
        self._one = brotli.Compressor(quality=1)

    def __call__(self, data: bytes) -> bytes:
        return self._one.process(data) + self._one.flush()

    def end(self) -> bytes:
        return self._one.finish()


class Zstd:
    def __init__(self) -> None:
        self._one = zstd.ZstdCompressor()

    def __call__(self, data: bytes) -> bytes:
        return self._one.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK)

    def end(self) -> bytes:
        return self._one.flush()


CODINGS: dict[str, tuple[str, Callable[[], Any]]] = {
    "gzip": ("gzip", lambda: Deflate(31)),
    "deflate": ("deflate", lambda: Deflate(15)),
    "deflate without its header": ("deflate", lambda: Deflate(-15)),
    "br": ("br", Brotli),
    "zstd": ("zstd", Zstd),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_stream_is_read_event_by_event(tmp_path: Path, coding: str) -> None:
    """The upstream sends an event only when the client has the one before: nothing waits inside a decoder."""
    name, make = CODINGS[coding]
    seen: list[int] = []

    def script(sock: socket.socket, request: bytes) -> None:
        pack = make()
        sock.sendall(head(SSE, f"Content-Encoding: {name}", "Transfer-Encoding: chunked"))
        for number, event in enumerate(STREAM):
            until(lambda number=number: len(seen) >= number)
            sock.sendall(chunked(pack(event)))
        sock.sendall(chunked(pack.end()) + LAST)

    with upstream(script) as (url, asked), proxy(tmp_path, whole(b""), upstream={"url": url}) as up:
        with Client(up.url) as one:
            one.post(ASK, CLOSE)
            for number in range(1, len(STREAM) + 1):
                one.events(number)
                seen.append(number)
            answer = one.rest()
        (entry,) = up.entries()
    assert dechunked(answer).endswith(STREAM[-1])
    assert not values(answer, "content-encoding") and values(asked[0], "accept-encoding") == ["identity"]
    assert (entry.result, entry.label_applied) == ("complete", "start")


@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_request_and_answer_are_read(tmp_path: Path, coding: str) -> None:
    name, make = CODINGS[coding]

    def packed(body: bytes) -> bytes:
        pack = make()
        return bytes(pack(body) + pack.end())

    async def reply(request: web.Request) -> web.StreamResponse:
        return web.Response(body=packed(BODY), headers={"Content-Encoding": name, "Content-Type": "application/json"})

    with proxy(tmp_path, reply) as up, Client(up.url) as one:
        answer = one.post(packed(ASK), f"Content-Encoding: {name.upper()}", CLOSE).rest()
    assert b" 200 " in answer and b'"applied":["start"]' in answer
    assert up.fake.asked[0]["body"] == ASK and "Content-Encoding" not in up.fake.headers[0]


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (["Content-Encoding: compress"], 415, "unknown_encoding"),
        (["Content-Encoding: gzip, br"], 415, "unknown_encoding"),
        (["Content-Encoding: gzip", "Content-Encoding: br"], 415, "unknown_encoding"),
        (["Content-Encoding: \xe9"], 415, "unknown_encoding"),
        (["Content-Encoding: br"], 400, "invalid_request"),
        (["Content-Encoding: zstd"], 400, "invalid_request"),
        (["Content-Encoding: identity"], 200, None),
    ],
    ids=str,
)
def test_a_request_in_an_encoding_that_cannot_be_read_is_one_clear_line(
    tmp_path: Path, headers: list[str], status: int, code: str | None
) -> None:
    with proxy(tmp_path, whole(BODY)) as up, Client(up.url) as one:
        answer = one.post(ASK, *headers, CLOSE).rest()
        asked = len(up.fake.asked)
    body = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert int(answer.split()[1]) == status and body.get("error", {}).get("code") == code
    if code:
        assert asked == 0 and "\n" not in body["error"]["message"]


def _bomb(coding: str, size: int) -> bytes:
    pack = CODINGS[coding][1]()
    piece = b" " * (1 << 20)
    return b"".join(pack(piece) for _ in range(size >> 20)) + bytes(pack.end())


def test_members_in_a_row_are_one_body_and_half_a_body_is_none(tmp_path: Path) -> None:
    members = gzip.compress(ASK[:10]) + gzip.compress(ASK[10:])
    with proxy(tmp_path, whole(BODY)) as up:
        for body, status in ((members, 200), (members[:-3], 400), (gzip.compress(b"") * 5000, 400), (b"", 400)):
            with Client(up.url) as one:
                assert int(one.post(body, "Content-Encoding: gzip", CLOSE).rest().split()[1]) == status
        assert [a["body"] for a in up.fake.asked] == [ASK]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_goes_off_at_the_limit_and_nowhere_else(tmp_path: Path, coding: str) -> None:
    bomb = _bomb(coding, 128 << 20)
    assert len(bomb) < 300_000
    with proxy(tmp_path, whole(BODY), server={"max_body": 1 << 20}) as up, Client(up.url) as one, Client(up.url) as two:
        cpu = time.process_time()
        answer = one.post(bomb, f"Content-Encoding: {coding}", CLOSE).rest()
        assert int(answer.split()[1]) == 413 and b"1048576 bytes" in answer
        assert b" 200 " in two.post(ASK, CLOSE).rest(), "others are served meanwhile"
        assert time.process_time() - cpu < 1, "what is behind the limit is not unpacked"
        assert len(up.fake.asked) == 1


def test_a_body_that_says_it_is_too_large_is_not_waited_for(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(BODY), server={"max_body": 1024}) as up, Client(up.url) as one:
        one.sock.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999\r\n\r\n"
        )
        assert int(one.until(b"request_too_large").split()[1]) == 413


@pytest.mark.parametrize("encoding", ["compress", "gzip, gzip", "x-gzip"])
@pytest.mark.parametrize("kind", [SSE, "Content-Type: application/json"])
def test_an_answer_in_an_encoding_that_cannot_be_read_is_malformed(tmp_path: Path, encoding: str, kind: str) -> None:
    def script(sock: socket.socket, request: bytes) -> None:
        sock.sendall(head(kind, f"Content-Encoding: {encoding}", "Content-Length: 3") + b"abc")

    with upstream(script) as (url, _), proxy(tmp_path, whole(b""), upstream={"url": url}) as up:
        with Client(up.url) as one:
            answer = one.post(ASK, CLOSE).rest()
        (entry,) = up.entries()
        assert open_connections(up) == 0
    assert int(answer.split()[1]) == 502 and encoding.encode() in answer and b"br, deflate, gzip" in answer
    assert entry.result == "upstream_malformed"


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_an_answer_that_is_not_in_the_encoding_it_names_is_malformed(tmp_path: Path, coding: str) -> None:
    pack = CODINGS[coding][1]()
    good = pack(b"".join(STREAM[:3]))

    def script(sock: socket.socket, request: bytes) -> None:
        sock.sendall(head(SSE, f"Content-Encoding: {coding}", "Transfer-Encoding: chunked") + chunked(good))
        time.sleep(0.1)
        sock.sendall(chunked(b"\xff\x00this is none\xff" * 9) + LAST)

    with upstream(script) as (url, _), proxy(tmp_path, whole(b""), upstream={"url": url}) as up:
        with Client(up.url) as one:
            answer = dechunked(one.post(ASK, CLOSE).rest())
        (entry,) = up.entries()
    assert "四月" in answer.decode() and b"not in the encoding it names" in answer
    assert entry.result == "upstream_malformed" and entry.label_applied == "start"


HOP = [
    "Keep-Alive: timeout=5",
    "TE: trailers",
    "Trailer: X-Sum",
    "Proxy-Connection: keep-alive",
    "Upgrade: h2c",
    "X-Foo: 1",
    "X-Bar: 1",
]
CONNECTION = ["Connection: X-Foo", "Connection: x-bar , Keep-Alive"]


def test_headers_of_a_hop_stay_on_it_in_both_directions(tmp_path: Path) -> None:
    """RFC 9110 7.6.1: also those that `Connection` names, in any of its lines."""
    answer_head = head(SSE, *HOP, *CONNECTION, "Proxy-Authenticate: Basic", "X-Kept: 1", "Transfer-Encoding: chunked")

    def script(sock: socket.socket, request: bytes) -> None:
        sock.sendall(answer_head + chunked(b"".join(STREAM)) + LAST)

    with (
        upstream(script) as (url, asked),
        proxy(tmp_path, whole(b""), upstream={"url": url}) as up,
        Client(up.url) as one,
    ):
        answer = one.post(ASK, *HOP, *CONNECTION, "Proxy-Authorization: Basic eDp5", "X-Kept: 1").events(len(STREAM))
        answer = one.got
    gone = ["keep-alive", "te", "trailer", "proxy-connection", "upgrade", "x-foo", "x-bar"]
    for name in [*gone, "proxy-authorization", "connection"]:
        assert not values(asked[0], name), name
    for name in [*gone, "proxy-authenticate"]:
        assert not values(answer, name), name
    assert values(asked[0], "x-kept") == values(answer, "x-kept") == ["1"]
    assert values(asked[0], "host") == [url.removeprefix("http://")]


@pytest.mark.parametrize("framing", ["chunked", "length", "close", "http/1.0", "trailers", "one byte at a time"])
def test_streams_are_read_in_every_framing_of_http(tmp_path: Path, framing: str) -> None:
    body = b"".join(STREAM)

    def script(sock: socket.socket, request: bytes) -> None:
        if framing in ("chunked", "trailers"):
            last = b"0\r\nX-Sum: 1\r\nX-AIGC: forged\r\n\r\n" if framing == "trailers" else LAST
            sock.sendall(head(SSE, "Transfer-Encoding: chunked") + chunked(body) + last)
        elif framing == "length":
            sock.sendall(head(SSE, f"Content-Length: {len(body)}") + body)
        elif framing == "one byte at a time":
            for k in range(len(answer := head(SSE, f"Content-Length: {len(body)}") + body)):
                sock.sendall(answer[k : k + 1])
        else:
            sock.sendall(head(SSE, version="1.0" if framing == "http/1.0" else "1.1") + body)

    with upstream(script) as (url, _), proxy(tmp_path, whole(b""), upstream={"url": url}) as up:
        with Client(up.url) as one:
            answer = one.post(ASK, CLOSE).rest()
        (entry,) = up.entries()
        assert open_connections(up) == 0
    assert values(answer, "transfer-encoding") == ["chunked"] and not values(answer, "content-length")
    assert values(answer, "x-accel-buffering") == ["no"] and values(answer, "cache-control") == ["no-cache"]
    assert b"forged" not in answer and answer.endswith(LAST) and dechunked(answer).endswith(STREAM[-1])
    assert (entry.result, entry.label_applied) == ("complete", "start")


def test_a_client_of_http_1_0_gets_its_stream_until_the_connection_ends(tmp_path: Path) -> None:
    with proxy(tmp_path, stream(STREAM)) as up, Client(up.url) as one:
        one.sock.sendall(b"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(ASK) + ASK)
        answer = one.rest()
    assert not values(answer, "transfer-encoding") and not values(answer, "content-length")
    assert answer.endswith(STREAM[-1])


def test_the_operators_own_buffering_headers_are_kept(tmp_path: Path) -> None:
    given = [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store"), ("X-Accel-Buffering", "yes")]

    async def reply(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"".join(STREAM), headers=given)

    with proxy(tmp_path, reply) as up, Client(up.url) as one:
        answer = one.post(ASK, CLOSE).rest()
    assert (values(answer, "cache-control"), values(answer, "x-accel-buffering")) == (["no-store"], ["yes"])


def _breaking(events: list[bytes], how: str) -> Any:
    def script(sock: socket.socket, request: bytes) -> None:
        sock.sendall(head(SSE, "Transfer-Encoding: chunked") + chunked(b"".join(events)))
        if how == "clean end":
            sock.sendall(LAST)
        elif how == "end in the middle of JSON":
            sock.sendall(chunked(b'data: {"x": "') + LAST)
        elif how == "end in the middle of a chunk":
            sock.sendall(b"ff\r\ndata: {")
        elif how == "reset":
            time.sleep(0.1)  # or the bytes before it would be lost with it
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        elif how == "silence":
            time.sleep(1)

    return script


BREAKS = ["clean end", "end in the middle of JSON", "end in the middle of a chunk", "reset", "silence"]


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", APIS)
def test_a_stream_that_breaks_off_ends_in_one_error_behind_its_labels(tmp_path: Path, name: str, how: str) -> None:
    api = APIS[name]
    script = _breaking(api.events[: api.first_text], how)
    with (
        upstream(script) as (url, _),
        proxy(tmp_path, whole(b""), upstream={"url": url, "read_timeout": 0.4}, labels=ENDS) as up,
    ):
        with Client(up.url) as one:
            answer = one.post(api.ask, CLOSE, path=api.path).rest()
        (entry,) = up.entries()
        assert open_connections(up) == 0
    body = dechunked(answer)
    last = json.loads(body.strip().split(b"\n")[-1].removeprefix(b"data: "))
    assert body.count("生成".encode()) + body.count(b"\\u751f\\u6210") >= 2, "both labels stand around what was sent"
    assert answer.endswith(LAST) and b"[DONE]" not in body and b"message_stop" not in body
    assert last.get("type", "error") == "error"
    assert (last.get("error") or last)["message"].startswith("the upstream")
    assert entry.result == ("upstream_error" if how == "silence" else "truncated")
    assert entry.label_applied == "start end" and entry.note


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("name", APIS)
def test_behind_the_end_of_an_answer_a_break_is_no_news(tmp_path: Path, name: str, how: str) -> None:
    """A missing `[DONE]` or `message_stop` alone is no truncation, however the connection ends."""
    api = APIS[name]
    with (
        upstream(_breaking(api.events, how)) as (url, _),
        proxy(tmp_path, whole(b""), upstream={"url": url, "read_timeout": 0.4}) as up,
    ):
        with Client(up.url) as one:
            answer = one.post(api.ask, CLOSE, path=api.path).rest()
        (entry,) = up.entries()
    assert answer.endswith(LAST) and b'"error":{' not in answer and b"the upstream" not in answer
    assert (entry.result, entry.label_applied, entry.note) == ("complete", "start", None)


@pytest.mark.parametrize("how", ["clean end", "reset"])
def test_nothing_follows_done(tmp_path: Path, how: str) -> None:
    late = [chunk({"content": "夏"}), b'data: {"error": {"message": "late"}}\n\n', b"event: ping\n\n"]
    script = _breaking([*STREAM, *late], how)
    with upstream(script) as (url, _), proxy(tmp_path, whole(b""), upstream={"url": url}) as up:
        with Client(up.url) as one:
            body = dechunked(one.post(ASK, CLOSE).rest())
        (entry,) = up.entries()
    assert body.endswith(STREAM[-1]) and entry.result == "complete"


def test_an_unmarked_stream_that_breaks_off_ends_in_an_error_too(tmp_path: Path) -> None:
    script = _breaking(STREAM[:2], "end in the middle of a chunk")
    with (
        upstream(script) as (url, _),
        proxy(tmp_path, whole(b""), upstream={"url": url}, **OFF) as up,
        Client(up.url) as one,
    ):
        body = dechunked(one.post(ASK, CLOSE).rest())
    assert body.startswith(b"".join(STREAM[:2])) and b"\n\n" in body and b'"code":"upstream_truncated"' in body


SURFACES: dict[str, Any] = {"chat": chat, "completions": completions, "responses": responses, "messages": messages}


@pytest.mark.parametrize("name", APIS)
def test_very_many_events_and_enormous_ones_take_linear_time(name: str) -> None:
    """In packets that hold hundreds of events, and in packets of which an event needs hundreds."""
    api = APIS[name]
    answer = marking.answer(marking.policy(positions=("start", "end")), surface=SURFACES[name])
    through = Marking(answer, untouched=False, fail_open=False)
    lead, text = b"".join(api.events[: api.first_text - 1]), api.events[api.first_text - 1]
    big = text.replace("四月".encode(), b"x" * 5_000_000).replace(b"\\u56db\\u6708", b"x" * 5_000_000)
    began = time.process_time()
    size = len(through.feed(lead)) + sum(len(through.feed(text * 500)) for _ in range(80))
    size += sum(len(through.feed(big[at : at + 1400])) for at in range(0, len(big), 1400))
    size += len(through.feed(b"".join(api.events[api.first_text :])) + through.end())
    assert through.broke is None and size > 40_000 * len(text) + 5_000_000
    assert time.process_time() - began < 3


@pytest.mark.parametrize("fail_open", [False, True])
def test_an_event_without_end_is_malformed(fail_open: bool) -> None:
    through = Marking(marking.answer(marking.policy()), untouched=False, fail_open=fail_open)
    through._parser = sse.Parser(max_event=1000)
    pieces = [b"".join(STREAM[:2]), b"data: ", *[b"x" * 300] * 9]
    out = b"".join(through.feed(piece) for piece in pieces)
    assert (through.broke is None) == fail_open and (through.opened is not None) == fail_open
    assert out.endswith(b"data: " + b"x" * 2700) == fail_open
