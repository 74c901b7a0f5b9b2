"""Clients and traffic classes: who is served, what a request may choose, and what never reaches the upstream."""

import hashlib
import json
import re
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import http_sf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from llm_label.errors import ClientError, InputError, NotAllowed, NotAuthorized, SettingsError
from llm_label.policy import OUR_HEADERS, Caller, Policy, RequestView, Skipped, decide
from llm_label.proxy.clients import Clients, Wish, digest_of, new_key, read_wish
from llm_label.settings import Settings, parse
from tests.proxy.running import proxy, stream, whole
from tests.proxy.test_app import MESSAGES, REPLY, STREAM, chunk

WEB, AGENT, OLD = "llk-web-1234567890abcdef", "llk-agent-1234567890abcdef", "llk-old-1234567890abcdef"
CLIENTS = [
    {"name": "web", "key_sha256": [digest_of(WEB), digest_of(OLD)], "traffic": ["human", "machine"],
     "positions_allowed": ["start", "end"]},
    {"name": "agent", "key_sha256": digest_of(AGENT), "traffic": "machine", "language": "zh", "structured": "refuse"},
    {"name": "chat", "key_sha256": "0" * 64, "positions": ["end", "start"]},
]  # fmt: skip


def made(clients: list[dict[str, Any]] | None = None, **labels: Any) -> Settings:
    given = CLIENTS if clients is None else clients
    return parse({"provider": {"name": "Acme"}, "clients": given, "labels": labels})


def caller_of(settings: Settings, headers: dict[str, str]) -> Caller:
    return Clients(settings).caller(CIMultiDict(headers))


def bearer(key: str, wish: str | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} | ({"X-LLM-Label-Request": wish} if wish is not None else {})


def post(url: str, headers: dict[str, str], path: str = "/v1/chat/completions", **more: Any) -> tuple[int, Any, Any]:
    body = json.dumps({"messages": MESSAGES, **more}).encode()
    request = urllib.request.Request(url + path, body if path.startswith("/v1/chat") else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response), response.headers
    except urllib.error.HTTPError as error:
        return error.code, json.load(error), error.headers


@pytest.mark.parametrize(
    "headers",
    [bearer(WEB), {"Authorization": f"bearer  {OLD}"}, {"x-api-key": WEB}, {"api-key": WEB},
     {"Authorization": "Bearer unknown", "x-api-key": WEB}],
)  # fmt: skip
def test_a_client_is_known_by_any_of_its_keys_in_any_usual_header(headers: dict[str, str]) -> None:
    caller = caller_of(made(), headers)
    assert (caller.name, caller.traffic, caller.positions, caller.language) == ("web", "human", None, None)


@pytest.mark.parametrize(
    ("headers", "line"),
    [
        ({}, "an API key is needed"),
        ({"Authorization": f"Basic {WEB}"}, "an API key is needed"),
        ({"Authorization": "Bearer "}, "an API key is needed"),
        (bearer("nobody"), "not known here"),
        (bearer(digest_of(WEB)), "not known here"),
        ({"Authorization": "Bearer \udcff"}, "not known here"),
    ],
)
def test_nobody_else_is_served(headers: dict[str, str], line: str) -> None:
    with pytest.raises(NotAuthorized, match=line) as caught:
        caller_of(made(), headers)
    assert (caught.value.status, caught.value.code) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("key", "wish", "traffic", "positions", "language"),
    [
        (WEB, None, "human", None, None),
        (WEB, "traffic=machine", "machine", None, None),
        (WEB, "label=(end  start), language=en", "human", ("start", "end"), "en"),
        (WEB, "label=end,traffic=human", "human", ("end",), None),
        (WEB, "label=(start)", "human", None, None),
        (AGENT, None, "machine", None, "zh"),
        (AGENT, "language=zh", "machine", None, "zh"),
    ],
)
def test_a_request_chooses_what_its_key_allows(
    key: str, wish: str | None, traffic: str, positions: Any, language: str | None
) -> None:
    caller = caller_of(made(), bearer(key, wish))
    assert (caller.traffic, caller.positions, caller.language, caller.asked) == (traffic, positions, language, wish and " ".join(wish.split()))  # fmt: skip


@pytest.mark.parametrize(
    ("key", "wish", "allowed"),
    [
        (AGENT, "traffic=human", "allowed: traffic=machine"),
        (AGENT, "language=en", "allowed: language=zh"),
        (AGENT, "label=(end)", "allowed: label=(start)"),
        (WEB, "label=()", "allowed: label=(start) or any of start, end"),
        (WEB, "label=(middle)", "allowed: label=(start) or any of start, end"),
    ],
)
def test_any_other_choice_names_what_is_allowed(key: str, wish: str, allowed: str) -> None:
    with pytest.raises(NotAllowed) as caught:
        caller_of(made(), bearer(key, wish))
    assert caught.value.status == 403 and str(caught.value).endswith(allowed) and "\n" not in str(caught.value)


def test_without_clients_no_header_takes_a_mark_away() -> None:
    assert caller_of(made([]), bearer("sk-upstream")).withheld == OUR_HEADERS
    assert caller_of(made([]), {"X-LLM-Label-Request": "language=en"}).language == "en"
    for wish in ("traffic=machine", "label=()", "label=(end)"):
        with pytest.raises(NotAllowed, match="clients of this server"):
            caller_of(made([]), {"X-LLM-Label-Request": wish})
    with pytest.raises(NotAllowed, match="allowed: language=zh"):
        caller_of(made([], language="zh"), {"X-LLM-Label-Request": "language=en"})


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("", "'' cannot be read"),
        ("traffic", "'traffic' cannot be read"),
        ("traffic=machine,", "'' cannot be read"),
        ("traffic=machine;q=1", "cannot be read"),
        ("Traffic=machine", "cannot be read"),
        ("traffic=machine, traffic=human", "cannot be read"),
        ('language="zh"', "cannot be read"),
        ("label=(start", "cannot be read"),
        ("watermark=off", "cannot be read"),
        ("traffic=robot", "known: human, machine"),
        ("traffic=(machine)", "without parentheses"),
        ("label=(top)", "known: start, middle, end"),
        ("language=tlh", "known: auto, zh, en"),
    ],
)
def test_a_header_that_cannot_be_read_is_400(header: str, line: str) -> None:
    with pytest.raises(ClientError) as caught:
        read_wish(header)
    assert caught.value.status == 400 and line in str(caught.value) and "an example: " in str(caught.value)


pieces = st.sampled_from(
    ["traffic", "label", "language", "=", ",", " ", "\t", "(", ")", "machine", "human", "start", "end", "zh", "*", ";", "a", '"']
)  # fmt: skip


@settings(max_examples=500, derandomize=True, deadline=None)
@given(st.lists(pieces, max_size=9).map("".join))
def test_what_is_read_is_what_rfc_9651_says(header: str) -> None:
    try:
        wish = read_wish(header)
    except ClientError:
        return
    parsed = http_sf.parse(header.encode(), tltype="dictionary")
    flat = {k: tuple(str(t) for t, _ in v) if isinstance(v, list) else (str(v),) for k, (v, _) in parsed.items()}
    assert {k: sorted(set(v)) for k, v in flat.items()} == {
        k: sorted([v] if isinstance(v, str) else v) for k, v in vars(wish).items() if v is not None
    }


def test_the_property_above_reads_something() -> None:
    assert read_wish(" traffic=human,\tlabel=( end start )") == Wish("human", ("start", "end"), None)


@pytest.mark.parametrize(
    ("clients", "line"),
    [
        ([CLIENTS[0], CLIENTS[0]], "the name 'web' stands twice"),
        ([CLIENTS[0], CLIENTS[1] | {"key_sha256": digest_of(OLD)}], "a key of 'agent' stands twice"),
        ([CLIENTS[0] | {"language": "tlh"}], "language of 'web': 'tlh' is not known"),
    ],
)
def test_tables_that_contradict_each_other_are_refused(clients: list[dict[str, Any]], line: str) -> None:
    with pytest.raises(SettingsError, match=line):
        Clients(made(clients))


def test_new_keys_are_strong_and_weak_ones_are_refused() -> None:
    assert len({new_key() for _ in range(50)}) == 50
    assert digest_of(WEB) == hashlib.sha256(WEB.encode()).hexdigest()
    digest_of(new_key())
    for weak in ("", "hunter2", "a" * 64, "12345678" * 4, "two words of some length here", "schlüssel" * 5):
        with pytest.raises(InputError):
            digest_of(weak)


def test_machine_traffic_has_no_visible_label_but_its_watermark() -> None:
    given = parse({"provider": {"name": "Acme"}, "clients": CLIENTS, "watermark": {"key": "k"}})
    policy = Policy.of(given, upstream_watermarks=True)
    plan = decide(RequestView("chat", caller=caller_of(given, bearer(AGENT))), policy)
    assert (plan.labels, plan.label_skipped, plan.watermark) == (None, Skipped.MACHINE, "k")


def test_a_clients_own_positions_and_language_are_planned() -> None:
    given = made([CLIENTS[2] | {"key_sha256": digest_of(WEB), "language": "ja"}])
    caller = caller_of(given, bearer(WEB))
    plan = decide(RequestView("chat", caller=caller), Policy.of(given, upstream_watermarks=False))
    assert plan.labels is not None
    assert (plan.labels.positions, plan.labels.start, plan.labels.rest) == (("start", "end"), "ja", "ja")


@pytest.mark.parametrize(
    ("terms", "json", "line"),
    [
        ({"structured": "refuse"}, True, "to client 'web': it carries no label; text is served;"),
        (
            {"structured": "json"},
            False,
            "to client 'web': it carries no label; text, JSON mode and JSON schemas are served;",
        ),
        ({"structured": "json"}, True, None),
        ({"structured": "allow"}, False, None),
        ({}, True, "text is served;"),
        ({"structured": "json", "traffic": ["machine"]}, False, None),
    ],
)
def test_structured_output_can_be_refused_per_client(terms: dict[str, Any], json: bool, line: str | None) -> None:
    served = made([CLIENTS[0] | terms], structured="refuse")
    view = RequestView("chat", structured=True, json=json, caller=caller_of(served, bearer(WEB)))
    policy = Policy.of(served, upstream_watermarks=False)
    if line is None:
        assert decide(view, policy).label_skipped in (Skipped.STRUCTURED, Skipped.MACHINE)
        return
    with pytest.raises(NotAllowed) as caught:
        decide(view, policy)
    assert (caught.value.status, caught.value.code) == (403, "structured_refused") and line in str(caught.value)


def test_by_default_no_field_that_an_upstream_may_ignore_takes_a_label_away() -> None:
    policy = Policy.of(made([]), upstream_watermarks=False)
    caller = caller_of(made([]), {})
    for view in (
        RequestView("chat", structured=True, caller=caller),
        RequestView("completions", fill_in=True, caller=caller),
    ):
        with pytest.raises(NotAllowed, match="it carries no label"):
            decide(view, policy)
    unmarked = Policy.of(made([], positions=[]), upstream_watermarks=False)
    assert decide(RequestView("chat", structured=True, caller=caller), unmarked).label_skipped == Skipped.OFF


def test_structured_output_can_be_refused_to_everybody() -> None:
    served = made([], structured="refuse")
    view = RequestView("chat", structured=True, caller=caller_of(served, {}))
    with pytest.raises(NotAllowed, match="not served: it carries"):
        decide(view, Policy.of(served, upstream_watermarks=False))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("asked", "content", "label"),
    [
        ({"response_format": {"type": "json_object"}}, '{"a": "四月很冷"}', "structured"),
        ({"response_format": {"type": "json_object"}}, "四月很冷。", "start"),
        ({"guided_json": {"type": "object"}}, '{"a": 1} 好了', "end"),
        ({"guided_regex": ".*"}, "四月很冷。", "structured"),
        ({"response_format": {"type": "json_object"}, "grammar": "x"}, "四月很冷。", "structured"),
    ],
)
def test_prose_in_place_of_json_is_labelled(
    tmp_path: Path, asked: dict[str, Any], content: str, label: str, streamed: bool
) -> None:
    answer = {**REPLY, "choices": [{"message": {"content": content}, "finish_reason": "stop"}]}
    chunks = [chunk({"content": piece}) for piece in content] + [chunk({}, "stop"), b"data: [DONE]\n\n"]
    reply = stream(chunks) if streamed else whole(json.dumps(answer).encode())
    body = json.dumps({"messages": MESSAGES, "stream": streamed, **asked}).encode()
    with proxy(tmp_path, reply, server={"body_field": False}, labels={"structured": "allow"}) as up:
        with urllib.request.urlopen(up.url + "/v1/chat/completions", body, timeout=20) as response:
            said = response.read().decode()
            assert response.headers["X-LLM-Label"].startswith('skipped="structured"')
        (entry,) = up.entries()
    assert (entry.label_applied or entry.label_skipped) == label
    assert ("本内容由AI生成" in said) == (label != "structured")


def test_another_key_changes_no_policy_but_another_class_does() -> None:
    ids = [
        Policy.of(made(clients), upstream_watermarks=False).id
        for clients in ([CLIENTS[0]], [CLIENTS[0] | {"key_sha256": "1" * 64}], [CLIENTS[0] | {"traffic": "human"}], [])
    ]
    assert ids[0] == ids[1] and len(set(ids)) == 3


@pytest.mark.parametrize("file", [False, True])
def test_a_clients_key_stays_here_and_the_upstream_gets_ours_or_none(tmp_path: Path, file: bool) -> None:
    (tmp_path / "key").write_text("sk-upstream\n")
    (tmp_path / "key").chmod(0o600)
    upstream = {"api_key_file": tmp_path / "key"} if file else {}
    with proxy(tmp_path, whole(json.dumps(REPLY).encode()), clients=CLIENTS, upstream=upstream) as up:
        sent = {**bearer(WEB, "traffic=machine"), "x-api-key": WEB, "Api-Key": WEB, "X-Other": "1"}
        status, answer, headers = post(up.url, sent)
        assert post(up.url, {"x-api-key": WEB}, "/v1/models")[0] == 200
        (entry,) = up.entries()
    for got in up.fake.headers:
        names = {name.lower(): value for name, value in got.items()}
        assert names.get("authorization") == ("Bearer sk-upstream" if file else None)
        assert not {"x-api-key", "api-key", "x-llm-label-request"} & set(names) and WEB not in str(got)
    assert "X-Other" in up.fake.headers[0]
    assert (status, answer["choices"]) == (200, REPLY["choices"])
    assert answer["llm_label"]["label"] == {"planned": [], "applied": [], "skipped": "machine"}
    assert 'skipped="machine"' in headers["X-LLM-Label"] and answer["llm_label"]["record"]
    assert (entry.client, entry.traffic, entry.asked, entry.label_skipped) == ("web", "machine", "traffic=machine", "machine")  # fmt: skip


def test_a_chosen_position_and_language_are_applied_and_on_record(tmp_path: Path) -> None:
    body = {"messages": MESSAGES, "stream": True}
    with proxy(tmp_path, stream(STREAM), clients=CLIENTS) as up:
        headers = bearer(OLD, "label=(end), language=en")
        request = urllib.request.Request(up.url + "/v1/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=20) as response:
            text = response.read().decode()
            assert "label=(end)" in response.headers["X-LLM-Label"]
        (entry,) = up.entries()
    assert "AI-generated" in text and re.search(r'"applied":\s*\["end"\]', text)
    assert (entry.label_applied, entry.language, entry.asked) == ("end", "en en", "label=(end), language=en")


def test_without_clients_the_header_is_read_but_not_sent_on(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(json.dumps(REPLY).encode())) as up:
        assert post(up.url, bearer("sk-u", "language=en"))[0] == 200
        status, answer, _ = post(up.url, bearer("sk-u", "traffic=machine"))
        assert (status, answer["error"]["code"]) == (403, "not_allowed")
        (entry,) = up.entries()
    assert up.fake.headers[0]["Authorization"] == "Bearer sk-u"
    assert "X-LLM-Label-Request" not in up.fake.headers[0]
    assert (entry.client, entry.traffic, entry.language) == (None, "human", "en en")


def test_refusals_reach_no_upstream_leave_no_entry_and_are_counted(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(json.dumps(REPLY).encode()), clients=CLIENTS) as up:
        status, answer, headers = post(up.url, {})
        assert (status, answer["error"]["code"], headers["WWW-Authenticate"]) == (401, "invalid_api_key", "Bearer")
        assert "\n" not in answer["error"]["message"]
        assert post(up.url, bearer("nobody"), "/v1/models")[0] == 401
        assert post(up.url, bearer(WEB, "label=()"))[0] == 403
        assert post(up.url, bearer(AGENT), response_format={"type": "json_object"})[0] == 403
        assert post(up.url, bearer(WEB, "nonsense"))[0] == 400
        assert post(up.url, {}, "/healthz")[0] == 200
        with urllib.request.urlopen(up.url + "/metrics", timeout=20) as response:
            said = response.read().decode()
        assert up.fake.asked == [] and up.entries() == []
    found = dict(re.findall(r'requests_refused_total\{status="(\d+)"\} (\d+)', said))
    assert {k: v for k, v in found.items() if v != "0"} == {"400": "1", "401": "2", "403": "2"}


def test_what_the_guard_took_out_is_on_record(tmp_path: Path) -> None:
    with proxy(tmp_path, whole(json.dumps(REPLY).encode())) as up:
        more = {"watermarking": False, "vllm_xargs": {"llm_label_x": 1, "y": 2}, "temperature": 0.1}
        assert post(up.url, {}, **more)[0] == 200
        (entry,) = up.entries()
    sent = json.loads(up.fake.asked[0]["body"])
    assert sent == {"messages": MESSAGES, "vllm_xargs": {"y": 2}, "temperature": 0.1}
    assert entry.guard == "watermarking vllm_xargs.llm_label_x"
