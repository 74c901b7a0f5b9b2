"""Eligible is labelled + skipped + failed: in the log, on the command line and in /metrics, with any number of workers."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from llm_label.audit.entry import disposition
from llm_label.audit.store import Store
from llm_label.cli.audit import _summed
from llm_label.proxy.metrics import BUCKETS, Board, render
from tests.proxy.running import Running, proxy, whole
from tests.proxy.running import stream as streaming
from tests.proxy.test_app import MESSAGES, REPLY, STREAM, chunk

TOOLS = {"choices": [{"message": {"content": None, "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}, "finish_reason": "tool_calls"}]}  # fmt: skip
REFUSAL = {"choices": [{"message": {"content": None, "refusal": "no"}, "finish_reason": "stop"}]}
# what the upstream does, by the model's name -> what must become of the answer
CASES = {
    "plain": ("labelled", ""),
    "streamed": ("labelled", ""),
    "tools": ("skipped", "tool_call"),
    "refusal": ("skipped", "refusal"),
    "json": ("skipped", "structured"),
    "json ignored": ("labelled", ""),
    "error": ("skipped", "error"),
    "garbage": ("failed", "upstream_malformed"),
    "truncated": ("labelled", ""),
    "broken": ("failed", "upstream_malformed"),
    "slow": ("skipped", "empty"),
    "leaves": ("labelled", ""),
    "empty": ("skipped", "empty"),
}


async def upstream(request: web.Request) -> web.StreamResponse:
    kind = json.loads(await request.read())["model"]
    endless = streaming([STREAM[0]] + [STREAM[1]] * 2000, pause=0.01)
    empty = {"choices": [{"message": {"content": ""}, "finish_reason": "stop"}]}
    replies = {
        "tools": whole(json.dumps(TOOLS).encode()),
        "refusal": whole(json.dumps(REFUSAL).encode()),
        "json": whole(b'{"choices": [{"message": {"content": "{}"}, "finish_reason": "stop"}]}'),
        "error": whole(b'{"error": {"message": "no"}}', 429),
        "garbage": whole(b"<html>"),
        "streamed": streaming(STREAM),
        "truncated": streaming(STREAM[:3]),
        "broken": streaming([STREAM[0], chunk({"content": 5})]),
        "leaves": endless,
        "empty": whole(json.dumps(empty).encode()),
    }
    if kind == "slow":
        await asyncio.sleep(30)
    return await replies.get(kind, whole(json.dumps(REPLY).encode()))(request)


def ask(url: str, kind: str) -> None:
    """Ask, and leave early where the case says so."""
    body: dict[str, Any] = {"model": kind, "messages": MESSAGES, "stream": kind in ("streamed", "truncated", "broken", "leaves")}  # fmt: skip
    if kind.startswith("json"):
        body["response_format"] = {"type": "json_object"}
    raw = json.dumps(body).encode()
    host, port = url.removeprefix("http://").split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(raw)}\r\n\r\n"
    with socket.create_connection((host, int(port)), 20) as sock:
        sock.sendall(head.encode() + raw)
        if kind == "slow":
            time.sleep(0.3)
        elif kind == "leaves":
            seen = b""
            while "生成".encode() not in seen:
                seen += sock.recv(65536)
        else:
            while sock.recv(65536):
                pass


def scrape(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url + "/metrics", timeout=20) as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = response.read().decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r'llm_label_[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+-]+', line), line
    assert len({line.rsplit(" ", 1)[0] for line in lines}) == len(lines), "every series stands once"
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def settled(up: Running, answers: int) -> None:
    deadline = time.monotonic() + 10
    while up.parts.proxy.open or len(up.entries()) < answers:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_eligible_is_labelled_and_skipped_and_failed_everywhere(tmp_path: Path) -> None:
    with proxy(tmp_path, upstream) as up:
        for kind in CASES:
            ask(up.url, kind)
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(up.url + "/v1/chat/completions", b"{", timeout=20)
        settled(up, len(CASES))
        entries, said = up.entries(), scrape(up.url)
    assert {e.model: disposition(e) for e in entries} == CASES
    counted = Counter(CASES.values())
    answers = {k: v for k, v in said.items() if k.startswith("llm_label_answers_total")}
    assert answers == {
        f'llm_label_answers_total{{surface="chat",disposition="{d}",reason="{r}"}}': n for (d, r), n in counted.items()
    }
    store = Store(tmp_path / "audit.sqlite3")
    sums = _summed(store.counts())["chat"]
    assert store.counts() == store.counts(0.0)
    store.close()
    parts = sums["labelled"] + sum(sums["skipped"].values()) + sum(sums["failed"].values())
    assert said['llm_label_eligible_total{surface="chat"}'] == sum(answers.values()) == sums["eligible"] == parts == len(CASES)  # fmt: skip
    assert said['llm_label_marks_failed_total{surface="chat"}'] == sum(sums["failed"].values()) == 2
    assert said['llm_label_upstream_errors_total{surface="chat"}'] == 4
    assert said['llm_label_requests_refused_total{status="400"}'] == 1
    assert said["llm_label_in_flight"] == said["llm_label_audit_waiting"] == 0
    # A first byte for each answer but those that were errors of ours or never began.
    assert said["llm_label_time_to_first_byte_seconds_count"] >= 9


def test_what_the_operator_let_pass_unmarked_is_counted_as_failed(tmp_path: Path) -> None:
    with proxy(tmp_path, upstream, labels={"on_failure": "open"}) as up:
        ask(up.url, "garbage")
        ask(up.url, "broken")
        settled(up, 2)
        said = scrape(up.url)
    assert said['llm_label_marks_failed_total{surface="chat"}'] == 2


def test_no_word_of_a_client_or_an_upstream_stands_in_the_figures(tmp_path: Path) -> None:
    clients = [{"name": "secret-customer", "key_sha256": "0" * 64}]
    with (
        proxy(tmp_path, upstream, clients=clients) as up,
        urllib.request.urlopen(up.url + "/metrics", timeout=20) as response,
    ):
        text = response.read().decode()
    assert "secret-customer" not in text and up.fake_url not in text
    build = re.search(r'llm_label_build_info\{version="([^"]+)",policy="(cn-[0-9a-f]{8})"\} 1', text)
    assert build is not None


def test_times_fall_into_their_buckets_and_their_sum() -> None:
    board = Board()
    row = board.row()
    for seconds in (0.001, 0.01, 0.3, 1000.0):
        row.first_byte(seconds)
    text = render([], board, {})
    found = dict(re.findall(r'seconds_bucket\{le="([^"]+)"\} (\d+)', text))
    assert len(found) == len(BUCKETS) + 1
    assert (found["0.01"], found["0.25"], found["0.5"], found["60.0"], found["+Inf"]) == ("2", "2", "3", "3", "4")
    assert "llm_label_time_to_first_byte_seconds_sum 1000.311" in text
    assert "llm_label_time_to_first_byte_seconds_count 4\n" in text


def test_a_worker_that_is_replaced_keeps_its_counters_and_loses_its_gauges() -> None:
    board = Board(2)
    board.row(0).refused(401)
    row = board.row(1)
    row.refused(401)
    row.refused(418)
    row.in_flight(7)
    board.row(1)
    text = render([], board, {"version": '1"\n\\'})
    assert 'refused_total{status="401"} 2' in text and 'refused_total{status="400"} 1' in text
    assert "llm_label_in_flight 0" in text
    assert r'version="1\"\n\\"' in text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_scrape_of_any_worker_gives_the_figures_of_all(tmp_path: Path) -> None:
    with _served(tmp_path, workers=2) as url:
        bodies = [json.dumps({"model": "m", "messages": MESSAGES}).encode(), b"{"]
        for k in range(30):
            with contextlib.suppress(urllib.error.HTTPError):
                urllib.request.urlopen(url + "/v1/chat/completions", bodies[k % 3 == 0], timeout=20)
        deadline = time.monotonic() + 5
        while (said := scrape(url))["llm_label_audit_waiting"] and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(8):
            said = scrape(url)
            assert said['llm_label_eligible_total{surface="chat"}'] == 20
            assert said['llm_label_answers_total{surface="chat",disposition="skipped",reason="error"}'] == 20
            assert said['llm_label_requests_refused_total{status="400"}'] == 10


@contextlib.contextmanager
def _served(tmp_path: Path, workers: int) -> Any:
    """Run the program itself, before an upstream that is not there."""
    command = [sys.executable, "-m", "llm_label", "serve", "--port", "0", "--upstream", "http://127.0.0.1:9", "--provider", "A"]  # fmt: skip
    env = {**os.environ, "LLM_LABEL_AUDIT_PATH": str(tmp_path / "a.sqlite3"), "LLM_LABEL_SERVER_WORKERS": str(workers)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path, env=env) as server:  # fmt: skip
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(20)
