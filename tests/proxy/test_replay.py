"""Recorded answers, replayed by an upstream on a socket and read by the real client."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest

from llm_label.labels.labeler import strip
from tests.proxy import recorded
from tests.proxy.replay import Replay
from tests.proxy.running import Running, proxy
from tests.proxy.touch import assert_only_marks_were_added, assert_same_but_marks

LABELS = {"positions": ["start", "end"], "language": "zh"}
ASK = {"model": "m", "messages": [{"role": "user", "content": "你好"}]}


def ask(up: Running, stream: bool, body: dict[str, Any]) -> bytes:
    data = json.dumps({**body, "stream": stream}).encode()
    request = urllib.request.Request(up.url + "/v1/chat/completions", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        return bytes(response.read())


def asked(exchange: dict[str, Any]) -> dict[str, Any]:
    request = (exchange.get("request") or {}).get("body")
    return request if isinstance(request, dict) and isinstance(request.get("messages"), list) else ASK


def test_replayed_streams_keep_the_touch_law_on_the_wire(tmp_path: Path) -> None:
    replay = Replay()
    with proxy(tmp_path, replay, labels=LABELS) as up:
        replay.stream = True
        for exchange, body in recorded.chat(stream=True):
            replay.body = body
            out = ask(up, True, asked(exchange))
            if b'"upstream_truncated"' not in out and b'"error"' not in body:
                assert_only_marks_were_added(body, out, up.parts.policy.known)
        entries = [e for e in up.entries() if e.result not in ("complete", "truncated", "upstream_error")]
    assert entries == []


def test_replayed_answers_keep_the_touch_law_on_the_wire(tmp_path: Path) -> None:
    replay = Replay()
    with proxy(tmp_path, replay, labels=LABELS) as up:
        for exchange, body in recorded.chat(stream=False):
            replay.body = body
            assert_same_but_marks(body, ask(up, False, asked(exchange)), up.parts.policy.known)


@pytest.mark.parametrize("helper", [False, True], ids=["raw", "stream helper"])
def test_the_client_reads_every_stream_as_well_as_without_us(tmp_path: Path, helper: bool) -> None:
    replay = Replay()
    replay.stream = True
    read = 0
    with proxy(tmp_path, replay, labels=LABELS) as up:
        for _, body in recorded.chat(stream=True):
            replay.body = body
            direct, marked = _final(up.fake_url, helper), _final(up.url, helper)
            if isinstance(direct, Exception) or direct is None:
                continue
            assert not isinstance(marked, Exception), f"{marked!r} where the client read {direct!r} without us"
            read += 1
            assert strip(marked or "", up.parts.policy.known) == direct
            assert (marked == direct) == (not direct.strip())
    assert read > 60


def _final(url: str, helper: bool) -> str | Exception | None:
    with openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0, timeout=20) as client:
        try:
            if helper:
                with client.chat.completions.stream(**ASK) as events:
                    return events.get_final_completion().choices[0].message.content or ""
            with client.chat.completions.create(**ASK, stream=True) as chunks:
                return "".join((c.choices[0].delta.content or "") if c.choices else "" for c in chunks)
        except Exception as error:  # what the client cannot read without us is none of our business
            return error
