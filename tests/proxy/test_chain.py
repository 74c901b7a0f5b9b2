"""Two proxies in a row, on all four surfaces: the text is labelled once, and the first one's word holds."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from llm_label.audit.entry import disposition
from llm_label.cli.audit import audit
from llm_label.labels.wording import elements
from llm_label.metadata.aigc import Record
from tests.proxy.keeping import Keeper
from tests.proxy.running import Handler, Running, proxy, stream, web, whole
from tests.proxy.test_retrieval import CLIENTS, bodies, call

TEXT = "四月的天气很冷，要多穿衣服。\n\n五月的天气很暖，可以出去走走。\n\n六月的天气很热。"
PIECES = [TEXT[:3], TEXT[3:20], TEXT[20:33], TEXT[33:]]
OWN = "人工智能生成内容，供您参考"  # a wording that the outer one does not know
QUESTION = [{"role": "user", "content": "四月天气如何？"}]


def data(body: Any, kind: str | None = None) -> bytes:
    named = f"event: {kind}\n" if kind else ""
    return f"{named}data: {json.dumps(body, ensure_ascii=False)}\n\n".encode()


def chat(streamed: bool, share: float = 1) -> Handler:
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    if not streamed:
        message = {"role": "assistant", "content": TEXT}
        choices = [{"index": k, "message": message, "finish_reason": "stop"} for k in range(2)]
        return whole(json.dumps({**base, "object": "chat.completion", "choices": choices}).encode())
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in PIECES), {}]
    frames = [
        data({**base, "choices": [{"index": k, "delta": delta, "finish_reason": None if delta else "stop"}]})
        for delta in deltas
        for k in range(2)
    ]
    return begun([*frames, b"data: [DONE]\n\n"], share)


def completions(streamed: bool, share: float = 1) -> Handler:
    base = {"id": "c1", "object": "text_completion", "created": 1, "model": "m"}
    if not streamed:
        return whole(json.dumps({**base, "choices": [{"index": 0, "text": TEXT, "finish_reason": "stop"}]}).encode())
    frames = [
        data({**base, "choices": [{"index": 0, "text": piece, "finish_reason": None if piece else "stop"}]})
        for piece in [*PIECES, ""]
    ]
    return begun([*frames, b"data: [DONE]\n\n"], share)


def responses(streamed: bool, share: float = 1) -> Handler:
    keeper = Keeper(*PIECES)
    keeper.cut = None if share == 1 else int(12 * share)
    return keeper


def messages(streamed: bool, share: float = 1) -> Handler:
    thinking = {"type": "thinking", "thinking": "嗯", "signature": "s="}
    base = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    usage = {"input_tokens": 1, "output_tokens": 1}
    if not streamed:
        content = [thinking, {"type": "text", "text": TEXT}]
        return whole(json.dumps({**base, "content": content, "stop_reason": "end_turn", "usage": usage}).encode())
    said: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**base, "content": [], "stop_reason": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": thinking},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": piece}}
            for piece in PIECES
        ),
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]
    return begun([data(body, body["type"]) for body in said], share)


def begun(frames: list[bytes], share: float) -> Handler:
    """Stream so much of an answer."""
    return stream(frames[: int(len(frames) * share)])


REPLIES = {"chat/completions": chat, "completions": completions, "responses": responses, "messages": messages}
ASKED: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": QUESTION, "n": 2},
    "completions": {"prompt": "四月天气如何？"},
    "responses": {"input": "四月天气如何？"},
    "messages": {"messages": QUESTION, "max_tokens": 9},
}
EVERY = [(surface, streamed) for surface in REPLIES for streamed in (False, True)]


@contextlib.contextmanager
def chained(
    tmp_path: Path, reply: Handler, inner: dict[str, Any], outer: dict[str, Any], between: Any = None
) -> Iterator[tuple[Running, Running]]:
    """Run two proxies in a row; `between` may pass the inner one's answers on in its own way."""
    inner = {"provider": {"name": "Inner"}, **inner}
    with proxy(tmp_path / "inner", reply, **inner) as first:
        upstream = {"url": first.url}
        if between is None:
            with proxy(tmp_path / "outer", reply, upstream=upstream, **outer) as second:
                yield first, second
        else:
            with proxy(tmp_path / "outer", between(first), **outer) as second:
                yield first, second


def ask(up: Running, surface: str, streamed: bool, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return call(up, "POST", f"/v1/{surface}", {"model": "m", "stream": streamed, **ASKED[surface]}, **headers)


def texts(surface: str, streamed: bool, raw: bytes) -> list[str]:
    """List the texts of an answer as a client has them in the end."""
    if surface == "responses":
        body = bodies(raw)[-1]["response"] if streamed else json.loads(raw)
        deltas = "".join(b["delta"] for b in bodies(raw) if b["type"].endswith("text.delta")) if streamed else None
        (text,) = [part["text"] for item in body["output"] for part in item["content"]]
        assert deltas in (None, text)
        return [text]
    if surface == "messages":
        if not streamed:
            return ["".join(block.get("text", "") for block in json.loads(raw)["content"])]
        return ["".join(body.get("delta", {}).get("text", "") for body in bodies(raw))]
    found: dict[int, str] = {}
    frames = [json.loads(e) for e in raw.decode().split("data: ")[1:] if e.strip() != "[DONE]"] if streamed else [
        json.loads(raw)
    ]  # fmt: skip
    for choice in (choice for body in frames for choice in body.get("choices", [])):
        piece = choice.get("text") or (choice.get("delta") or choice.get("message") or {}).get("content") or ""
        found[choice["index"]] = found.get(choice["index"], "") + piece
    return list(found.values())


def objects(raw: bytes) -> list[dict[str, Any]]:
    """Find every `llm_label` object of an answer."""
    found: list[dict[str, Any]] = []

    def look(value: Any) -> None:
        if isinstance(value, dict):
            found.extend([value["llm_label"]] if "llm_label" in value else [])
            for inner in value.values():
                look(inner)

    text = raw.decode()
    parts = [line[6:] for line in text.split("\n") if line.startswith("data: {")] or [text]
    for part in parts:
        look(json.loads(part))
    return found


def lines_that_label(text: str) -> int:
    return sum(line == OWN or (len(line) < 40 and bool(elements(line))) for line in text.split("\n"))


SETUPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "start start": ({"positions": ["start"]}, {"positions": ["start"]}),
    "end end": ({"positions": ["end"]}, {"positions": ["end"]}),
    "start end": ({"positions": ["start"]}, {"positions": ["end"]}),
    "end start": ({"positions": ["end"]}, {"positions": ["start"]}),
    "middle all": ({"positions": ["middle"], "middle_after": 10}, {"positions": ["start", "middle", "end"]}),
    "all all": ({"positions": ["start", "middle", "end"], "middle_after": 10}, {"positions": ["start", "middle", "end"]}),
    "languages": ({"positions": ["start", "end"], "language": "en"}, {"positions": ["start", "end"], "language": "ja"}),
    "own words": ({"positions": ["end"], "texts": {"zh": OWN}}, {"positions": ["start", "end"]}),
    "own words first": ({"positions": ["start"], "texts": {"zh": OWN}}, {"positions": ["start", "middle", "end"]}),
}  # fmt: skip


@pytest.mark.parametrize("setup", SETUPS)
@pytest.mark.parametrize(("surface", "streamed"), EVERY)
def test_the_text_is_labelled_once_and_the_first_one_has_the_word(
    tmp_path: Path, surface: str, streamed: bool, setup: str
) -> None:
    inner, outer = ({"labels": labels} for labels in SETUPS[setup])
    with chained(tmp_path, REPLIES[surface](streamed), inner, outer) as (first, second):
        _, headers, alone = ask(first, surface, streamed)
        _, chained_headers, both = ask(second, surface, streamed)
        (entry,) = second.entries()
        produced = first.entries()[0]
    assert texts(surface, streamed, both) == texts(surface, streamed, alone)
    planned = len(inner["labels"]["positions"])
    assert {lines_that_label(text) for text in texts(surface, streamed, both)} == {planned}
    record = json.loads(chained_headers["x-aigc"])
    assert (record["ContentProducer"], record["ProduceID"]) == ("Inner", produced.content_id)
    assert chained_headers["x-llm-label"] == headers["x-llm-label"]
    said = objects(both)
    assert said and all(one["record"] == record and one["content_id"] == produced.content_id for one in said)
    assert said[-1]["label"] == objects(alone)[-1]["label"]
    assert (disposition(entry), entry.adopted) == (("skipped", "labelled"), produced.content_id)
    assert entry.upstream_id == produced.upstream_id


@pytest.mark.parametrize(("surface", "streamed"), EVERY)
def test_every_byte_of_the_first_one_passes(tmp_path: Path, surface: str, streamed: bool) -> None:
    inner: dict[str, Any] = {"labels": {"positions": ["start", "end"]}}
    seen: list[bytes] = []

    def between(first: Running) -> Handler:
        async def reply(request: web.Request) -> web.StreamResponse:
            args = first, surface, streamed
            _, headers, raw = await asyncio.to_thread(ask, *args)
            seen.append(raw)
            told = {k: v for k, v in headers.items() if k in ("x-aigc", "x-llm-label", "content-type")}
            return web.Response(body=raw, headers=told)

        return reply

    with chained(tmp_path, REPLIES[surface](streamed), inner, {}, between) as (_, second):
        _, _, raw = ask(second, surface, streamed)
    assert raw == seen[0]


@pytest.mark.parametrize(("surface", "streamed"), EVERY)
def test_one_without_labels_gets_the_outers_and_keeps_its_record(tmp_path: Path, surface: str, streamed: bool) -> None:
    inner: dict[str, Any] = {"labels": {"positions": []}}
    with chained(tmp_path, REPLIES[surface](streamed), inner, {}) as (first, second):
        _, headers, raw = ask(second, surface, streamed)
        (entry,), (produced,) = second.entries(), first.entries()
    assert {lines_that_label(text) for text in texts(surface, streamed, raw)} == {1}
    record = json.loads(headers["x-aigc"])
    assert (record["ContentProducer"], record["ProduceID"]) == ("Inner", produced.content_id)
    assert headers["x-llm-label"].startswith("label=(start)")
    assert all(one["record"] == record for one in objects(raw)) and objects(raw)
    assert objects(raw)[-1]["label"] == {"planned": ["start"], "applied": ["start"], "skipped": None}
    assert disposition(entry) == ("labelled", "") and entry.adopted == produced.content_id


RECORD = Record.produced("Inner", "f" * 32).to_json()
CLAIM = {"X-AIGC": RECORD, "X-LLM-Label": 'label=(start), policy="cn-1"'}


def relabelled(headers: dict[str, str]) -> Any:
    """Pass on the answers of an upstream with headers of our choice."""

    def between(first: Running) -> Handler:
        async def reply(request: web.Request) -> web.StreamResponse:
            url, body = first.fake_url + request.path_qs, await request.read()
            async with aiohttp.ClientSession() as session, session.post(url, data=body) as answer:
                kind = answer.headers["Content-Type"]
                return web.Response(body=await answer.read(), headers={**headers, "Content-Type": kind})

        return reply

    return between


@pytest.mark.parametrize(("surface", "streamed"), EVERY)
def test_a_promise_that_is_not_kept_is_made_good(tmp_path: Path, surface: str, streamed: bool) -> None:
    with chained(tmp_path, REPLIES[surface](streamed), {}, {}, relabelled(CLAIM)) as (_, second):
        _, headers, raw = ask(second, surface, streamed)
        (entry,) = second.entries()
    for text in texts(surface, streamed, raw):
        assert text == f"{TEXT}\n\n本内容由AI生成"
    assert json.loads(headers["x-aigc"])["ContentProducer"] == "Inner"
    assert (disposition(entry), entry.label_applied) == (("labelled", ""), "end")
    assert objects(raw)[-1]["label"] == {"planned": ["start"], "applied": ["end"], "skipped": None}


DEFECTS = [
    {"X-AIGC": RECORD},
    {"X-LLM-Label": CLAIM["X-LLM-Label"]},
    {**CLAIM, "X-AIGC": RECORD.replace('"Label":"1"', '"Label":"7"')},
    {**CLAIM, "X-AIGC": "{}"},
    {**CLAIM, "X-AIGC": "not JSON"},
    {**CLAIM, "X-AIGC": RECORD.replace('"ProduceID"', '"produceid"')},
]


@pytest.mark.parametrize("headers", DEFECTS, ids=range(len(DEFECTS)))
def test_only_a_record_without_a_defect_counts(tmp_path: Path, headers: dict[str, str]) -> None:
    with chained(tmp_path, chat(False), {}, {}, relabelled(headers)) as (_, second):
        _, told, raw = ask(second, "chat/completions", False)
        (entry,) = second.entries()
    assert json.loads(told["x-aigc"])["ContentProducer"] == "Acme"
    assert texts("chat/completions", False, raw) == [f"本内容由AI生成\n\n{TEXT}"] * 2
    assert entry.adopted is None


@pytest.mark.parametrize("clients", [False, True])
def test_an_upstream_that_reflects_request_headers_says_nothing(tmp_path: Path, clients: bool) -> None:
    async def reflect(request: web.Request) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if "label" in k.lower() or "aigc" in k.lower()}
        response = await chat(False)(request)
        response.headers.update(headers)
        return response

    sent = {**CLAIM, **{f"llm_provider-{name}": value for name, value in CLAIM.items()}}
    more = {"clients": CLIENTS} if clients else {}
    with proxy(tmp_path, reflect, **more) as up:
        _, told, raw = ask(up, "chat/completions", False, Authorization="Bearer app-key", **sent)
        (seen,) = up.fake.headers
        call(up, "GET", "/v1/models", Authorization="Bearer app-key", **sent)
        assert all("aigc" not in n.lower() and "label" not in n.lower() for h in up.fake.headers for n in h), seen
    assert json.loads(told["x-aigc"])["ContentProducer"] == "Acme"
    assert texts("chat/completions", False, raw) == [f"本内容由AI生成\n\n{TEXT}"] * 2


@pytest.mark.parametrize("streamed", [False, True])
def test_a_gateway_between_that_renames_the_headers_is_understood(tmp_path: Path, streamed: bool) -> None:
    """LiteLLM passes its upstream's headers on with a prefix, and drops what it does not know of a body."""

    def between(first: Running) -> Handler:
        async def reply(request: web.Request) -> web.StreamResponse:
            _, headers, raw = await asyncio.to_thread(ask, first, "chat/completions", streamed)
            renamed = {f"llm_provider-{k}": v for k, v in headers.items() if k in ("x-aigc", "x-llm-label")}
            return web.Response(body=raw, headers={**renamed, "Content-Type": headers["content-type"]})

        return reply

    inner = {"labels": {"positions": ["end"]}, "server": {"body_field": False}}
    with chained(tmp_path, chat(streamed), inner, {}, between) as (first, second):
        _, headers, raw = ask(second, "chat/completions", streamed)
        produced = first.entries()[0]
    assert texts("chat/completions", streamed, raw) == [f"{TEXT}\n\n本内容由AI生成"] * 2
    assert json.loads(headers["x-aigc"])["ProduceID"] == produced.content_id
    assert headers["x-llm-label"].startswith("label=(end)")
    label = {"planned": ["end"], "applied": ["end"], "skipped": None}
    assert objects(raw)[-1]["label"] == label and objects(raw)[-1]["content_id"] == produced.content_id


@pytest.mark.parametrize(("surface", "streamed"), EVERY)
@pytest.mark.parametrize("positions", [["start"], ["end"], ["start", "end"]])
def test_where_the_headers_are_gone_the_text_tells(
    tmp_path: Path, surface: str, streamed: bool, positions: list[str]
) -> None:
    def between(first: Running) -> Handler:
        async def reply(request: web.Request) -> web.StreamResponse:
            _, headers, raw = await asyncio.to_thread(ask, first, surface, streamed)
            return web.Response(body=raw, headers={"Content-Type": headers["content-type"]})

        return reply

    labels = {"labels": {"positions": positions}}
    with chained(tmp_path, REPLIES[surface](streamed), labels, labels, between) as (_, second):
        _, headers, raw = ask(second, surface, streamed)
        (entry,) = second.entries()
    assert {lines_that_label(text) for text in texts(surface, streamed, raw)} == {len(positions)}
    if "start" in positions:
        assert disposition(entry) == ("skipped", "labelled")
    assert json.loads(headers["x-aigc"])["ContentProducer"] == "Acme"


@pytest.mark.parametrize(("surface", "streamed"), EVERY)
def test_errors_pass_both(tmp_path: Path, surface: str, streamed: bool) -> None:
    refused = whole(b'{"error": {"message": "no", "type": "x", "code": "busy"}}', 429)
    with chained(tmp_path, refused, {}, {}) as (first, second):
        assert ask(second, surface, streamed)[::2] == ask(first, surface, streamed)[::2]
        (entry,) = second.entries()
    assert disposition(entry) == ("skipped", "error") and entry.adopted is None


@pytest.mark.parametrize("surface", REPLIES)
@pytest.mark.parametrize("positions", [["start"], ["end"]])
def test_an_answer_that_breaks_off_breaks_off_once(tmp_path: Path, surface: str, positions: list[str]) -> None:
    inner = {"labels": {"positions": positions}}
    with chained(tmp_path, REPLIES[surface](True, 0.6), inner, {}) as (first, second):
        _, _, alone = ask(first, surface, True)
        _, _, both = ask(second, surface, True)
        (entry,) = second.entries()
    assert both.count(b"upstream_truncated") == alone.count(b"upstream_truncated") > 0
    assert len(bodies(both.replace(b"[DONE]", b"{}"))) == len(bodies(alone.replace(b"[DONE]", b"{}")))
    assert entry.result != "complete"


def test_the_outers_log_finds_the_content_id_that_clients_see(tmp_path: Path) -> None:
    with chained(tmp_path, chat(False), {}, {}) as (first, second):
        _, headers, _ = ask(second, "chat/completions", False)
        (produced,), (entry,) = first.entries(), second.entries()
    shown = json.loads(headers["x-aigc"])["ProduceID"]
    assert shown == produced.content_id != entry.content_id
    result = CliRunner().invoke(audit, ["show", shown, "--log", str(second.audit), "--json"])
    assert result.exit_code == 0 and json.loads(result.output)["content_id"] == entry.content_id


@pytest.mark.parametrize("streamed", [False, True])
def test_stored_answers_are_retrieved_through_both(tmp_path: Path, streamed: bool) -> None:
    inner = {"labels": {"positions": ["start", "end"]}}
    with chained(tmp_path, Keeper(*PIECES), inner, {}) as (_, second):
        _, headers, first = ask(second, "responses", streamed)
        _, again, stored = call(second, "GET", f"/v1/responses/resp_0?stream={str(streamed).lower()}")
        if streamed:
            _, _, rest = call(second, "GET", "/v1/responses/resp_0?stream=true&starting_after=5")
            assert first.endswith(rest) and b'"sequence_number": 6' in rest
        (entry,) = second.entries()
    assert stored == first and again["x-aigc"] == headers["x-aigc"]
    assert disposition(entry) == ("skipped", "labelled")
