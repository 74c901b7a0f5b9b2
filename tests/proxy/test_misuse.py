"""What a client may try: another client's answers, requests that cost more than they should, keys where they do not belong."""

import asyncio
import json
import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from llm_label.errors import ClientError, KeyringError, SettingsError
from llm_label.labels.wording import all_wordings
from llm_label.policy import Policy, RequestView, decide
from llm_label.proxy.clients import read_wish
from llm_label.proxy.guard import read_body, strip
from llm_label.proxy.server import _one_line
from llm_label.proxy.surfaces import messages
from llm_label.settings import parse
from tests.proxy.running import Running, proxy
from tests.proxy.test_clients import AGENT, CLIENTS, WEB, bearer
from tests.proxy.test_retrieval import call
from tests.proxy.wire import Client, until

REFUSED = 'llm_label_requests_refused_total{status="400"} '


async def keeper(request: web.Request) -> web.StreamResponse:
    """Answer like a server that lets a request name its own answer, as vLLM does, and keeps every answer."""
    asked = json.loads(await request.read() or b"{}")
    number = asked.get("request_id") or request.path.removeprefix("/v1/responses").strip("/") or "resp_1"
    part = {"type": "output_text", "text": "四月很冷。", "annotations": []}
    item = {"type": "message", "role": "assistant", "content": [part]}
    return web.json_response({"id": number, "status": "completed", "model": "m", "output": [item]})


def ask(up: Running, key: str, **more: Any) -> tuple[int, str]:
    status, _, raw = call(up, "POST", "/v1/responses", {"model": "m", "input": "四月", **more}, **bearer(key))
    return status, json.loads(raw).get("id", "")


def get(up: Running, key: str, number: str) -> int:
    return call(up, "GET", f"/v1/responses/{number}", **bearer(key))[0]


def test_an_answer_stays_with_the_client_that_got_it_first(tmp_path: Path) -> None:
    clients = [CLIENTS[0], {**CLIENTS[1], "structured": "allow"}]
    with proxy(tmp_path, keeper, clients=clients) as up:
        status, number = ask(up, WEB, request_id="resp_a")
        assert (status, number, get(up, WEB, number)) == (200, "resp_a", 200)
        assert ask(up, AGENT, request_id="resp_a", store=False) == (200, "resp_a")
        time.sleep(0.2)  # both entries are on disk
        assert (get(up, AGENT, number), get(up, WEB, number)) == (404, 200)
        assert call(up, "DELETE", "/v1/responses/resp_a", **bearer(AGENT))[0] == 404


def test_a_client_goes_on_from_its_own_answers_only(tmp_path: Path) -> None:
    long = "resp_" + "x" * 600
    with proxy(tmp_path, keeper, clients=CLIENTS) as up:
        assert ask(up, WEB, request_id="resp_a")[0] == ask(up, WEB, request_id=long)[0] == 200
        assert ask(up, AGENT, previous_response_id="resp_a")[0] == 404
        assert ask(up, AGENT, previous_response_id="resp_unknown")[0] == 404
        assert ask(up, WEB, previous_response_id="resp_a")[0] == 200
        assert ask(up, WEB, previous_response_id=long)[0] == 200
        counted = {"input": "四月", "previous_response_id": "resp_a"}
        assert call(up, "POST", "/v1/responses/input_tokens", counted, **bearer(AGENT))[0] == 404
        assert len([asked for asked in up.fake.asked if b"previous_response_id" in asked["body"]]) == 2


def test_without_clients_nobody_owns_an_answer(tmp_path: Path) -> None:
    with proxy(tmp_path, keeper) as up:
        assert call(up, "POST", "/v1/responses", {"input": "四月", "previous_response_id": "resp_z"})[0] == 200


def test_a_refused_request_is_counted_once(tmp_path: Path) -> None:
    with proxy(tmp_path, keeper, clients=CLIENTS) as up:
        for refused, (method, path) in enumerate((("GET", "/v1/responses/r"), ("DELETE", "/v1/responses/r")), 1):
            assert call(up, method, path, **bearer(WEB))[0] == 404
            metrics = call(up, "GET", "/metrics")[2].decode()
            assert f"{REFUSED}{refused}\n" in metrics


def seconds(work: Any, *args: Any) -> float:
    began = time.process_time()
    work(*args)
    return time.process_time() - began


def test_many_forbidden_names_cost_no_more_than_as_many_others() -> None:
    raw = json.dumps({"vllm_xargs": {f"llm_label_{k}": 1 for k in range(40_000)}, "n": 1}).encode()
    body = read_body(raw, 100)
    assert seconds(strip, raw, body) < 3  # the square of 40,000 takes half a minute
    assert body == {"vllm_xargs": {}, "n": 1}


def test_many_blocks_that_hold_a_label_cost_no_more_than_as_many_others() -> None:
    blocks = [{"type": "text", "text": min(all_wordings(), key=len)}] * 20_000 + [{"type": "text", "text": "x"}]
    body = {"messages": [{"role": "assistant", "content": blocks}]}
    raw = json.dumps(body).encode()
    assert seconds(messages.clean, raw, body, all_wordings()) < 4


@pytest.mark.parametrize("header", ["label=(" + " " * 8000 + '"', "label=(" + "a " * 4000 + '"', "label=" + "(" * 8000])
def test_a_request_header_is_read_in_one_pass(header: str) -> None:
    began = time.process_time()
    with pytest.raises(ClientError):
        read_wish(header)
    assert time.process_time() - began < 0.05


def token_file(folder: Path, text: str) -> Path:
    file = folder / "token"
    file.write_text(text)
    file.chmod(0o600)
    return file


def test_an_empty_token_opens_nothing(tmp_path: Path) -> None:
    server = {"admin_token_file": token_file(tmp_path, "\n")}
    with pytest.raises(KeyringError, match="is empty"), proxy(tmp_path, keeper, server=server):
        pass


def test_a_token_that_is_no_text_is_a_wrong_one(tmp_path: Path) -> None:
    server = {"admin_token_file": token_file(tmp_path, "right")}
    with proxy(tmp_path, keeper, server=server) as up, Client(up.url) as client:
        client.post(b"A text.", "Authorization: Bearer \xff\xfe", path="/llm-label/detect")
        assert client.until(b"invalid_api_key").startswith(b"HTTP/1.1 401")


def test_clients_that_leave_do_not_have_their_texts_judged_side_by_side(tmp_path: Path) -> None:
    at_once: list[int] = []
    running, end = threading.Semaphore(0), threading.Event()

    def judge(text: bytes | str, exact: bool) -> dict[str, Any]:
        at_once.append(1)
        running.release()
        end.wait(10)
        at_once.pop()
        return {}

    with proxy(tmp_path, keeper) as up:
        up.parts.proxy._pages._detect = judge
        try:
            for turn in range(3):
                with Client(up.url) as client:
                    client.post(b"A text.", path="/llm-label/detect")
                    assert turn or running.acquire(timeout=10)
            assert not running.acquire(timeout=0.5)
            assert len(at_once) == 1
        finally:
            end.set()


def test_a_password_in_the_url_of_the_upstream_is_refused_unsaid(tmp_path: Path) -> None:
    upstream = {"url": "http://user:s3cret@127.0.0.1:1/v1"}
    with pytest.raises(SettingsError, match="api_key_file") as caught, proxy(tmp_path, keeper, upstream=upstream):
        pass
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("line", ["Authorization : Bearer llk-secret", "A: b\rBearer llk-secret", "X: llk-secret\0"])
def test_a_key_in_bad_http_is_in_no_log(line: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("aiohttp.server").addFilter(_one_line)
    try:
        with proxy(tmp_path, keeper) as up, Client(up.url) as client:
            client.post(b"{}", line)
            assert b" 400 " in client.rest()
            until(lambda: caplog.records)
    finally:
        logging.getLogger("aiohttp.server").removeFilter(_one_line)
    assert "bad HTTP: " in caplog.text
    assert "llk-secret" not in caplog.text


def test_an_unknown_answer_that_two_ask_for_at_once_is_counted_once(tmp_path: Path) -> None:
    begun, end = threading.Event(), threading.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        if request.headers.get("X-Slow"):
            begun.set()
            await asyncio.to_thread(end.wait, 10)
        return await keeper(request)

    with proxy(tmp_path, slow) as up, Client(up.url) as late:
        late.post(b"", "X-Slow: yes", path="/v1/responses/resp_z", method="GET")
        assert begun.wait(10)
        assert call(up, "GET", "/v1/responses/resp_z")[0] == 200
        assert [entry.result for entry in up.entries()] == ["complete"]
        end.set()
        assert b" 200 " in late.until("四月".encode())
        assert len(up.entries()) == 1
        metrics = call(up, "GET", "/metrics")[2].decode()
        assert 'llm_label_eligible_total{surface="responses"} 1\n' in metrics


def test_the_language_of_a_long_prompt_is_told_by_its_ends() -> None:
    policy = Policy.of(parse({"provider": {"name": "Acme"}}), upstream_watermarks=False)
    view = RequestView("chat", prompt="四" * 8_000_000)
    assert seconds(decide, view, policy) < 0.2  # all of it takes more than a second
    labels = decide(view, policy).labels
    assert labels is not None and labels.start == "zh"


def test_a_thousand_brackets_do_not_make_prose_json() -> None:
    policy = Policy.of(parse({"provider": {"name": "Acme"}}), upstream_watermarks=False)
    labeler = decide(RequestView("chat", structured=True, json=True), policy).labeler()
    assert labeler is not None
    answer = "[" * 3000 + " 四月很冷。"
    marked = labeler.feed(answer) + labeler.finish()
    assert marked.startswith(answer)
    assert (labeler.applied, labeler.present) == (("end",), False)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "x-original-url", "X-Rewrite-URL"])
def test_no_header_makes_a_route_another_one(name: str, tmp_path: Path) -> None:
    with proxy(tmp_path, keeper) as up:
        assert (
            call(up, "POST", "/v1/embeddings", {"input": "x"}, **{name: "/v1/chat/completions", "X-Kept": "1"})[0]
            == 200
        )
        sent = {key.lower() for key in up.fake.headers[0]}
        assert "x-kept" in sent
        assert name.lower() not in sent
