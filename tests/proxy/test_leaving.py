"""Clients that leave, stall or stay while the server stops, and long silences: nothing leaks, nothing is lost."""

import asyncio
import gc
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from llm_label.audit.store import Store
from llm_label.proxy import writer
from llm_label.proxy.writer import KEEP_ALIVE
from tests.proxy.running import Handler, proxy, stream, web, whole
from tests.proxy.test_app import STREAM, chunk
from tests.proxy.test_wire import ASK, BODY, CLOSE, ENDS, OFF
from tests.proxy.wire import APIS, LAST, SSE, Client, chunked, dechunked, head, open_connections, until, upstream

TOOL = {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}


class Gate:
    """An upstream that sends a stream and waits in the middle until it is told to go on."""

    def __init__(self, before: list[bytes], after: list[bytes]) -> None:
        self.before, self.after = before, after
        self.go = threading.Event()
        self.sent_all = False
        self.dropped = False

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            if self.before:
                await response.prepare(request)
                await response.write(b"".join(self.before))
            while not self.go.is_set():
                await asyncio.sleep(0.005)
                self.dropped = self.dropped or request.transport is None
            if not self.before:
                await response.prepare(request)
            for event in self.after:
                await response.write(event)
            await response.write_eof()
            self.sent_all = not self.dropped and request.transport is not None
        except ConnectionError:
            self.dropped = True
        return response


@pytest.mark.parametrize("policy", ["cancel", "drain"])
@pytest.mark.parametrize("phase", ["before headers", "before text", "behind the start label"])
@pytest.mark.parametrize("name", APIS)
def test_a_client_may_leave_in_any_phase(tmp_path: Path, name: str, phase: str, policy: str) -> None:
    api = APIS[name]
    count = {"before headers": 0, "before text": api.first_text - 1, "behind the start label": api.first_text}[phase]
    labels = "start" if phase == "behind the start label" else ""
    gate = Gate(api.events[:count], api.events[count:])
    with proxy(tmp_path, gate, labels=ENDS, server={"on_disconnect": policy}) as up:
        with Client(up.url) as one:
            one.post(api.ask, path=api.path)
            until(lambda: up.fake.asked)
            if count:
                one.events(1)
                time.sleep(0.1)  # the rest of what comes together
            one.reset()
        if policy == "cancel":
            until(lambda: gate.dropped and open_connections(up) == 0)
        else:
            time.sleep(0.1)
            assert open_connections(up) == 1 and up.parts.proxy.open == 1, "the upstream goes on"
        gate.go.set()
        (entry,) = up.entries()
        until(lambda: open_connections(up) == 0 and up.parts.proxy.open == 0)
        assert gate.sent_all == (policy == "drain")
    assert (entry.result, entry.label_applied) == ("client_gone", labels), "what came after it left reached nobody"
    assert entry.status == (200 if count else None)
    if policy == "drain":
        assert entry.finish_reasons and entry.upstream_id, "how it ended is on record all the same"


@pytest.mark.parametrize("policy", ["cancel", "drain"])
def test_a_client_may_leave_behind_a_tool_call(tmp_path: Path, policy: str) -> None:
    """Coding agents do it: they have what they wanted."""
    gate = Gate([*STREAM[:3], chunk(TOOL)], [chunk({}, "tool_calls"), STREAM[-1]])
    with proxy(tmp_path, gate, labels=ENDS, server={"on_disconnect": policy}) as up:
        with Client(up.url) as one:
            one.post(ASK).until(b"tool_calls")
            one.sock.shutdown(socket.SHUT_RDWR)
            until(lambda: one.sock.recv(1) == b"")
        time.sleep(0.1)
        gate.go.set()
        (entry,) = up.entries()
        until(lambda: open_connections(up) == 0)
    assert (entry.result, entry.label_applied) == ("client_gone", "start end")
    assert entry.finish_reasons == ("tool_calls" if policy == "drain" else "")


@pytest.mark.parametrize("policy", ["cancel", "drain"])
def test_a_client_may_leave_before_a_whole_answer(tmp_path: Path, policy: str) -> None:
    go, told = threading.Event(), []

    async def reply(request: web.Request) -> web.StreamResponse:
        await asyncio.to_thread(go.wait, 10)
        told.append(request.transport is not None)
        return web.Response(body=BODY, content_type="application/json")

    with proxy(tmp_path, reply, server={"on_disconnect": policy}) as up:
        with Client(up.url) as one:
            one.post(ASK)
            until(lambda: up.fake.asked)
        time.sleep(0.1)
        assert open_connections(up) == (policy == "drain")
        go.set()
        (entry,) = up.entries()
        until(lambda: told and open_connections(up) == 0)
    assert told == [policy == "drain"]
    assert (entry.result, entry.status, entry.label_applied) == ("client_gone", None, "")
    assert entry.upstream_id == ("chatcmpl-1" if policy == "drain" else None), "a stored answer can be asked for again"


def test_a_drained_answer_gives_its_connection_back(tmp_path: Path) -> None:
    gate = Gate(STREAM[:2], STREAM[2:])
    with proxy(tmp_path, gate, server={"on_disconnect": "drain"}) as up:
        for _ in range(3):
            gate.go.clear()
            with Client(up.url) as one:
                one.post(ASK).events(2)
                one.reset()
            gate.go.set()
            until(lambda: up.parts.proxy.open == 0)
        session = up.parts.upstream._session  # type: ignore[attr-defined]
        assert sum(len(idle) for idle in session.connector._conns.values()) == 1


def test_draining_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_label.proxy.exchange.DRAIN", 0.3)
    with proxy(tmp_path, stream([STREAM[1]] * 10_000, pause=0.01), server={"on_disconnect": "drain"}) as up:
        with Client(up.url) as one:
            one.post(ASK).events(2)
            one.reset()
        began = time.monotonic()
        (entry,) = up.entries()
        until(lambda: open_connections(up) == 0)
    assert 0.2 < time.monotonic() - began < 8 and entry.result == "client_gone"


def test_what_breaks_while_nobody_reads_is_no_error_of_the_answer(tmp_path: Path) -> None:
    gate = Gate(STREAM[:2], [b"data: 3\n\n"])
    with proxy(tmp_path, gate, server={"on_disconnect": "drain"}) as up:
        with Client(up.url) as one:
            one.post(ASK).events(2)
            one.reset()
        time.sleep(0.05)
        gate.go.set()
        (entry,) = up.entries()
    assert (entry.result, entry.label_applied) == ("client_gone", "start")


@pytest.mark.parametrize("policy", ["cancel", "drain"])
def test_the_server_stops_although_an_upstream_goes_on_for_nobody(tmp_path: Path, policy: str) -> None:
    gate = Gate(STREAM[:2], STREAM[2:])
    with proxy(tmp_path, gate, server={"on_disconnect": policy}) as up:
        with Client(up.url) as one:
            one.post(ASK).events(2)
            one.reset()
        time.sleep(0.1)
        loops = [exchange._task.get_loop() for exchange in up.parts.proxy._open]
        assert len(loops) == (policy == "drain")
        for loop in loops:
            loop.call_soon_threadsafe(up.parts.proxy.stop)
        (entry,) = up.entries()
        until(lambda: open_connections(up) == 0 and up.parts.proxy.open == 0)
        gate.go.set()
    assert (entry.result, entry.label_applied) == ("client_gone", "start")


def test_a_slow_client_slows_the_upstream_and_fills_no_memory(tmp_path: Path) -> None:
    """The client reads nothing: upstream and proxy come to rest after a few megabytes of a stream of two hundred."""
    sent = []
    event = chunk({"content": "春" * 10_000})

    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(200_000_000 // len(event)):
            await response.write(event)
            sent.append(len(event))
        return response

    with proxy(tmp_path, reply) as up:
        with Client(up.url, buffer=4096) as one:
            one.post(ASK)
            until(lambda: sent)
            before = -1
            while before != len(sent):
                before = len(sent)
                time.sleep(0.3)
            assert sum(sent) < 20_000_000
            one.until(b"llm_label")
            one.reset()
        (entry,) = up.entries()
        until(lambda: open_connections(up) == 0)
    assert entry.result == "client_gone"


LONG = chunk({"content": "春" * 10_000})
LARGE = json.dumps({"choices": [{"index": 0, "message": {"content": "x" * 16_000_000}}]}).encode()
STALLING: dict[str, tuple[Handler, dict[str, Any]]] = {
    "a stream": (stream([LONG] * 5000), {}),
    "a stream without marks": (stream([LONG] * 5000), OFF),
    "a stream with comments": (stream([LONG] * 5000), {"server": {"keep_alive": 0.1}}),
    "a whole answer": (whole(LARGE), {}),
}


@pytest.mark.parametrize("case", STALLING)
def test_a_client_that_takes_nothing_for_ever_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """And it is the client that is, not the upstream: its time limit does not run while nobody reads."""
    monkeypatch.setattr(writer, "STALLED", 0.5)
    reply, more = STALLING[case]
    with proxy(tmp_path, reply, upstream={"read_timeout": 0.3}, **more) as up, Client(up.url, buffer=4096) as one:
        began = time.monotonic()
        one.post(ASK)
        until(lambda: up.fake.asked)
        (entry,) = up.entries()
        assert 0.4 < time.monotonic() - began < 8
        until(lambda: open_connections(up) == 0)
    assert entry.result == "client_gone"


def test_a_client_that_is_only_slow_is_served_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "STALLED", 1.5)
    reply, _ = STALLING["a whole answer"]
    with proxy(tmp_path, reply) as up, Client(up.url, buffer=65536) as one:
        one.post(ASK, CLOSE).until(b"\r\n\r\n")
        began = time.monotonic()
        while time.monotonic() < began + 3.5:
            time.sleep(0.04)
            one.got += one.sock.recv(200_000)
        assert len(one.got) < 15_000_000, "it was slow indeed"
        assert b"llm_label" in one.rest()[-2000:]
        (entry,) = up.entries()
    assert entry.result == "complete"


@pytest.mark.parametrize("name", APIS)
def test_silence_is_filled_with_comments_between_events(tmp_path: Path, name: str) -> None:
    """Also where the upstream is silent in the middle of an event: the client has seen nothing of it yet."""
    api = APIS[name]
    one_event, rest = api.events[0], b"".join(api.events[1:])

    def script(sock: socket.socket, request: bytes) -> None:
        sock.sendall(head(SSE, "Transfer-Encoding: chunked"))
        for piece in (one_event[:20], one_event[20:] + rest[:30], rest[30:]):
            time.sleep(0.25)
            sock.sendall(chunked(piece))
        sock.sendall(LAST)

    with (
        upstream(script) as (url, _),
        proxy(tmp_path, whole(b""), upstream={"url": url}, server={"keep_alive": 0.07}) as up,
    ):
        with Client(up.url) as one:
            body = dechunked(one.post(api.ask, CLOSE, path=api.path).rest())
        (entry,) = up.entries()
    events = body.removesuffix(b"\n\n").split(b"\n\n")
    comments = [event for event in events if event == KEEP_ALIVE.strip()]
    assert 4 <= len(comments) <= 12 and KEEP_ALIVE.strip() == events[0]
    assert len(events) - len(comments) == len(api.events), "no event was cut in two"
    assert entry.result == "complete"


@pytest.mark.parametrize("policy", ["cancel", "drain"])
def test_a_client_may_leave_while_a_comment_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, policy: str
) -> None:
    """Nobody waits for the task that writes it; an error of it would stand in the log as one nobody heard of."""
    monkeypatch.setattr(writer, "KEEP_ALIVE", b":" + b" " * 8_000_000 + b"\n\n")  # more than sockets hold
    gate = Gate(STREAM[:2], STREAM[2:])
    with proxy(tmp_path, gate, server={"on_disconnect": policy, "keep_alive": 0.05}) as up:
        with Client(up.url, buffer=4096) as one:
            one.post(ASK).until(b" " * 1000)
            time.sleep(0.2)
            one.reset()
        time.sleep(0.1)
        gate.go.set()
        (entry,) = up.entries()
        until(lambda: open_connections(up) == 0 and up.parts.proxy.open == 0)
    gc.collect()  # a task that is forgotten tells then
    assert entry.result == "client_gone"
    assert not [record.getMessage() for record in caplog.records if record.name == "asyncio"]


def test_a_stream_that_flows_carries_no_comments(tmp_path: Path) -> None:
    with (
        proxy(
            tmp_path, stream([*STREAM[:1], *[STREAM[1]] * 40, *STREAM[3:]], pause=0.03), server={"keep_alive": 0.8}
        ) as up,
        Client(up.url) as one,
    ):
        body = dechunked(one.post(ASK, CLOSE).rest())
    assert KEEP_ALIVE not in body and body.endswith(STREAM[-1])


@pytest.mark.parametrize("off", ["marks", "comments", "given up"])
def test_no_comment_lands_in_bytes_that_are_not_whole_events(tmp_path: Path, off: str) -> None:
    """With marks off, or given up where the operator wrote open, pieces of events pass."""
    more: dict[str, Any] = {
        "marks": {**OFF, "server": {"body_field": False, "keep_alive": 0.05}},
        "comments": {"server": {"keep_alive": 0}},
        "given up": {"labels": {"on_failure": "open"}, "server": {"keep_alive": 0.05}},
    }[off]
    pieces = [b"data: 3\n\ndata: {", b'"x":', b" 1}\n\n"]
    with (
        proxy(tmp_path, stream([b"".join(STREAM[:2]) + pieces[0], *pieces[1:]], pause=0.2), **more) as up,
        Client(up.url) as one,
    ):
        body = dechunked(one.post(ASK, CLOSE).rest())
    assert (b"".join(pieces) in body) == (off != "comments") and KEEP_ALIVE not in body


def test_comments_tell_a_client_that_vanished_from_one_that_waits(tmp_path: Path) -> None:
    """A client that is gone without a word is found out by the comment that nobody takes; one that waits stays."""
    gate = Gate(STREAM[:2], STREAM[2:])
    with proxy(tmp_path, gate, server={"keep_alive": 0.1}) as up, Client(up.url) as waits, Client(up.url) as leaves:
        waits.post(ASK).events(2)
        leaves.post(ASK).events(2)
        leaves.reset()
        until(lambda: up.parts.proxy.open == 1)
        waits.until(KEEP_ALIVE)
        gate.go.set()
        waits.until(b"[DONE]")
    assert waits.got.count(b"[DONE]") == 1


def served(tmp_path: Path, url: str, **server: Any) -> tuple[subprocess.Popen[str], str]:
    settings = ["[provider]", 'name = "Acme"', "[server]", "port = 0", *(f"{k} = {json.dumps(v)}" for k, v in server.items()),
                "[labels]", 'positions = ["start", "end"]', "[audit]", f'path = "{tmp_path}/audit.sqlite3"',
                "[[upstreams]]", f'url = "{url}"']  # fmt: skip
    (tmp_path / "llm-label.toml").write_text("\n".join(settings))
    command = [sys.executable, "-m", "llm_label", "serve", "--config", str(tmp_path / "llm-label.toml")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


def hangs(first: bytes) -> Handler:
    async def reply(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(first)
        await asyncio.sleep(60)
        return response

    return reply


def test_a_hundred_open_streams_hear_that_the_server_stops(tmp_path: Path) -> None:
    (tmp_path / "fake").mkdir()
    with proxy(tmp_path / "fake", hangs(b"".join(STREAM[:2]))) as fake:
        process, url = served(tmp_path, fake.fake_url, drain=0.3)
        clients = [Client(url).post(ASK) for _ in range(100)]
        for one in clients:
            one.until("四月".encode())
        stopped = time.monotonic()
        process.send_signal(signal.SIGTERM)
        answers = [one.rest() for one in clients]
        status, (_, said) = process.wait(20), process.communicate()
        for one in clients:
            one.sock.close()
    assert time.monotonic() - stopped < 8 and status == 0 and said.count("\n") == 1, said
    for answer in answers:
        body = dechunked(answer)
        assert answer.endswith(LAST) and b"server_stopped" in body.split(b"\n\n")[-2]
        assert "生成" in body.decode().partition("四月")[2], "the end label stands before the error"
    store = Store(tmp_path / "audit.sqlite3")
    entries = store.list(limit=1000)
    store.close()
    assert [(e.result, e.label_applied) for e in entries] == [("stopped", "start end")] * 100


def test_an_open_stream_may_finish_while_the_server_stops(tmp_path: Path) -> None:
    (tmp_path / "fake").mkdir()
    gate = Gate(STREAM[:2], STREAM[2:])
    with proxy(tmp_path / "fake", gate) as fake:
        process, url = served(tmp_path, fake.fake_url, drain=20)
        with Client(url) as one:
            one.post(ASK).until("四月".encode())
            process.send_signal(signal.SIGTERM)
            until(lambda: _refuses(url))
            gate.go.set()
            one.until(STREAM[-1])
        assert process.wait(10) == 0
        process.communicate()
    assert b"server_stopped" not in one.got and one.got.count("生成".encode()) + one.got.count(b"\\u751f") >= 2


def _refuses(url: str) -> bool:
    host, port = url.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), 5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("policy", ["cancel", "drain"])
@pytest.mark.parametrize("name", APIS)
def test_a_client_that_leaves_at_the_last_event_has_everything(tmp_path: Path, name: str, policy: str) -> None:
    """As real clients do, while the upstream has yet to close."""
    api = APIS[name]
    gate = Gate(api.events, [])
    with proxy(tmp_path, gate, labels=ENDS, server={"on_disconnect": policy}) as up:
        with Client(up.url) as one:
            one.post(api.ask, path=api.path).events(len(api.events))
            one.reset()
        time.sleep(0.05)
        gate.go.set()
        (entry,) = up.entries()
        until(lambda: open_connections(up) == 0)
    assert (entry.result, entry.label_applied) == ("complete", "start end")


@pytest.mark.parametrize("policy", ["cancel", "drain"])
def test_a_client_that_leaves_at_an_error_changes_nothing_about_it(tmp_path: Path, policy: str) -> None:
    for event, result in (
        (b'data: {"error": {"message": "busy"}}\n\n', "upstream_error"),
        (b"data: 3\n\n", "upstream_malformed"),
    ):
        gate = Gate([*STREAM[:2], event], [])
        with proxy(tmp_path, gate, server={"on_disconnect": policy}) as up:
            with Client(up.url) as one:
                one.post(ASK).until(b'"error"')
                one.reset()
            time.sleep(0.05)
            gate.go.set()
            entry = up.entries()[0]
        assert (entry.result, entry.label_applied) == (result, "start")
