"""Answers that are asked for again: the same label at the same places, the same content id, and one entry."""

import http.client
import json
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from llm_label.audit.entry import Entry, disposition
from llm_label.audit.store import Store
from llm_label.errors import ClientError
from llm_label.labels.labeler import strip
from llm_label.policy import Caller
from llm_label.proxy.retrieval import derived_id, stored
from tests.proxy.keeping import TEXT, Keeper
from tests.proxy.running import Running, proxy
from tests.proxy.touch import events

L = "本内容由AI生成"
ASK = {"model": "m", "input": "四月天气如何？"}
CHAT = {"model": "m", "messages": [{"role": "user", "content": "四月天气如何？"}], "store": True}
ALL = {"positions": ["start", "end"]}


def call(up: Running, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(up.url.removeprefix("http://"), timeout=20)
    raw = None if body is None else json.dumps(body).encode()
    connection.request(method, path, raw, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    found = response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    connection.close()
    return found


def get(up: Running, path: str, **headers: str) -> Any:
    status, _, raw = call(up, "GET", path, **headers)
    assert status == 200, raw
    return json.loads(raw)


def post(up: Running, body: Any = None, path: str = "/v1/responses", **headers: str) -> Any:
    status, _, raw = call(up, "POST", path, ASK if body is None else body, **headers)
    assert status == 200, raw
    return json.loads(raw)


def text_of(body: dict[str, Any]) -> str:
    return "".join(part["text"] for item in body["output"] for part in item["content"])


def bodies(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(event.data) for event in events(raw) if event.data]


def content_id(headers: dict[str, str]) -> str:
    found: str = json.loads(headers["x-aigc"])["ProduceID"]
    return found


@pytest.mark.parametrize("positions", [["start"], ["end"], ["start", "middle", "end"]])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_retrieved_response_repeats_label_and_content_id(
    tmp_path: Path, positions: list[str], streamed: bool
) -> None:
    labels = {"positions": positions, "middle_after": 4}
    with proxy(tmp_path, Keeper("四月的天气很冷。\n\n", "五月的天气很暖。\n\n六月", "很热。"), labels=labels) as up:
        _, headers, first = call(up, "POST", "/v1/responses", {**ASK, "stream": streamed})
        _, again, whole = call(up, "GET", "/v1/responses/resp_0")
        _, resumed, stream = call(up, "GET", "/v1/responses/resp_0?stream=true")
        (entry,) = up.entries()
    last = bodies(first)[-1]["response"] if streamed else json.loads(first)
    assert content_id(headers) == content_id(again) == content_id(resumed) == entry.content_id
    assert headers["x-llm-label"] == again["x-llm-label"] == resumed["x-llm-label"]
    for kept in (json.loads(whole), bodies(stream)[-1]["response"]):
        assert text_of(kept) == text_of(last) and L in text_of(kept)
        assert kept["llm_label"] == last["llm_label"]
    if streamed:
        assert stream == first
    assert entry.retrieved == 2 and entry.label_applied == " ".join(positions)


@pytest.mark.parametrize("positions", [["start"], ["end"], ["start", "end"]])
def test_a_stream_that_is_taken_up_again_is_the_tail_of_the_first(tmp_path: Path, positions: list[str]) -> None:
    keeper = Keeper()
    with proxy(tmp_path, keeper, labels={"positions": positions}) as up:
        _, _, first = call(up, "POST", "/v1/responses", {**ASK, "stream": True})
        frames = [event.raw for event in events(first)]
        for after in range(-1, len(frames) + 1):
            query = f"stream=true&starting_after={after}" if after >= 0 else "stream=true"
            _, _, rest = call(up, "GET", f"/v1/responses/resp_0?{query}")
            assert rest == b"".join(frames[after + 1 :]), f"starting after {after}"
    assert [body["sequence_number"] for body in bodies(first)] == list(range(len(frames)))
    assert keeper.asked.count("GET /v1/responses/resp_0?stream=true") == len(frames) + 2, "asked from the start"


def test_a_resumed_stream_without_marks_is_the_tail_too(tmp_path: Path) -> None:
    with proxy(tmp_path, Keeper(), labels={"positions": []}, server={"body_field": False}) as up:
        _, _, first = call(up, "POST", "/v1/responses", {**ASK, "stream": True})
        _, _, rest = call(up, "GET", "/v1/responses/resp_0?stream=true&starting_after=4")
    assert rest == b"".join(event.raw for event in events(first)[5:])


def test_a_background_answer_is_labelled_when_it_is_there(tmp_path: Path) -> None:
    keeper = Keeper()
    with proxy(tmp_path, keeper, labels=ALL) as up:
        queued = post(up, {**ASK, "background": True})
        (entry,) = up.entries()
        assert (entry.label_skipped, disposition(entry)) == ("empty", ("skipped", "empty"))
        assert get(up, "/v1/responses/resp_0")["status"] == "queued"
        keeper.work()
        done = get(up, "/v1/responses/resp_0")
        (entry,) = up.entries()
        store = Store(up.audit)
        assert store.counts() == [("responses", "labelled", "", "complete", 1)]
        store.close()
    assert queued["output"] == [] and queued["llm_label"]["content_id"] == done["llm_label"]["content_id"]
    assert text_of(done) == f"{L}\n\n{TEXT}\n\n{L}"
    assert entry.label_applied == "start end" and entry.label_skipped is None and entry.retrieved == 2


def test_an_answer_is_found_while_its_first_request_still_runs(tmp_path: Path) -> None:
    keeper = Keeper()
    keeper.pause = 0.2
    with proxy(tmp_path, keeper) as up:
        connection = http.client.HTTPConnection(up.url.removeprefix("http://"), timeout=20)
        connection.request("POST", "/v1/responses", json.dumps({**ASK, "stream": True}))
        response = connection.getresponse()
        response.readline()
        _, headers, _ = call(up, "GET", "/v1/responses/resp_0")
        assert content_id(headers) == json.loads(response.getheader("X-AIGC") or "")["ProduceID"]
        response.read()
        connection.close()
        (entry,) = up.entries()
    assert (entry.result, entry.label_applied) == ("complete", "start")


def test_a_client_that_left_takes_the_answer_up_again(tmp_path: Path) -> None:
    keeper = Keeper()
    keeper.pause = 0.05
    with proxy(tmp_path, keeper, labels={"positions": ["end"]}) as up:
        with openai.OpenAI(base_url=up.url + "/v1", api_key="k", max_retries=0) as client:
            stream = client.responses.create(model="m", input="四月？", stream=True, background=True)
            seen = next(iter(stream)).sequence_number
            stream.close()
            time.sleep(0.2)
            (gone,) = up.entries()
            assert gone.result == "client_gone" and gone.label_applied == ""
            deltas = [
                event.delta
                for event in client.responses.retrieve("resp_0", stream=True, starting_after=seen)
                if event.type == "response.output_text.delta"
            ]
        (entry,) = up.entries()
    assert strip("".join(deltas), up.parts.policy.known) == TEXT and L in "".join(deltas)
    assert disposition(entry) == ("labelled", "") and entry.content_id == gone.content_id


def test_a_cancelled_answer_keeps_its_content_id(tmp_path: Path) -> None:
    with proxy(tmp_path, Keeper()) as up:
        first = post(up, {**ASK, "background": True})
        cancelled = post(up, {}, "/v1/responses/resp_0/cancel")
    assert cancelled["status"] == "cancelled"
    assert cancelled["llm_label"]["content_id"] == first["llm_label"]["content_id"]


def test_stored_chat_completions_repeat_their_label(tmp_path: Path) -> None:
    with proxy(tmp_path, Keeper(), labels=ALL) as up:
        first = post(up, CHAT, "/v1/chat/completions")
        assert get(up, "/v1/chat/completions/chatcmpl_0") == first
        (entry,) = up.entries()
    assert first["choices"][0]["message"]["content"].count(L) == 2 and entry.retrieved == 1


def test_the_real_sdk_retrieves(tmp_path: Path) -> None:
    with (
        proxy(tmp_path, Keeper(), labels=ALL) as up,
        openai.OpenAI(base_url=up.url + "/v1", api_key="k", max_retries=0) as client,
    ):
        first = client.responses.create(model="m", input="四月天气如何？")
        assert client.responses.retrieve(first.id).output_text == first.output_text
        resumed = list(client.responses.retrieve(first.id, stream=True, starting_after=3))
        assert [event.sequence_number for event in resumed] == list(range(4, 11))
        assert resumed[-1].response.output_text == first.output_text
        assert client.responses.retrieve(first.id, include=["reasoning.encrypted_content"]).id == first.id
        chat = client.chat.completions.create(model="m", messages=CHAT["messages"], store=True)  # type: ignore[arg-type]
        assert client.chat.completions.retrieve(chat.id).choices == chat.choices
        client.responses.delete(first.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(first.id)


# Without an entry: the answer was given past this installation.


def kept_elsewhere(*pieces: str, **asked: Any) -> Keeper:
    keeper = Keeper(*pieces)
    keeper.kept = {
        "resp_9": keeper._response("resp_9", asked),
        "chatcmpl_9": keeper._chat("chatcmpl_9", asked),
    }
    return keeper


@pytest.mark.parametrize(
    "path", ["/v1/responses/resp_9", "/v1/responses/resp_9?stream=true", "/v1/chat/completions/chatcmpl_9"]
)
def test_without_an_entry_the_content_id_is_derived_and_stays(tmp_path: Path, path: str) -> None:
    found = []
    for installation in ("a", "a", "b"):
        (tmp_path / installation).mkdir(exist_ok=True)
        with proxy(tmp_path / installation, kept_elsewhere()) as up:
            answers = [call(up, "GET", path) for _ in range(2)]
            assert answers[0][2] == answers[1][2]
            assert L in answers[0][2].decode()
            found.append(content_id(answers[0][1]))
            (entry,) = up.entries()
            assert entry.content_id == found[-1] and entry.label_applied == "start"
    assert found[0] == found[1] != found[2], "it outlives a restart, and is another installation's another"


def test_without_an_entry_the_language_is_the_answers(tmp_path: Path) -> None:
    keeper = kept_elsewhere("春は寒く、夏は暑いです。", "これは天気の話です。")
    with proxy(tmp_path, keeper) as up:
        label = up.parts.policy.texts["ja"]
        assert text_of(get(up, "/v1/responses/resp_9")).startswith(label)
        stream = call(up, "GET", "/v1/responses/resp_9?stream=true")[2]
    assert text_of(bodies(stream)[-1]["response"]).startswith(label)


def test_without_an_entry_a_queued_answer_is_looked_at_again_when_it_is_there(tmp_path: Path) -> None:
    keeper = kept_elsewhere("Bonjour. AVRIL", "春は寒く、夏は暑いです。これは天気の話です。", background=True)
    with proxy(tmp_path, keeper) as up:
        first = get(up, "/v1/responses/resp_9")
        keeper.pieces = ("春は寒く、夏は暑いです。", "これは天気の話です。")
        keeper.work()
        second = get(up, "/v1/responses/resp_9")
        assert text_of(second).startswith(up.parts.policy.texts["ja"])
        assert get(up, "/v1/responses/resp_9") == second
        (entry,) = up.entries()
    assert first["llm_label"]["content_id"] == second["llm_label"]["content_id"]
    assert disposition(entry) == ("labelled", "")


def test_without_an_entry_json_stays_json(tmp_path: Path) -> None:
    schema = {"format": {"type": "json_schema", "name": "x", "schema": {}}}
    with proxy(tmp_path, kept_elsewhere('{"四月": ', '"很冷"}', text=schema)) as up:
        answer = get(up, "/v1/responses/resp_9")
        (entry,) = up.entries()
    assert text_of(answer) == '{"四月": "很冷"}' and entry.label_skipped == "structured"


def test_the_derived_id_is_a_mac_of_the_upstreams(tmp_path: Path) -> None:
    assert derived_id(b"a" * 32, "resp_1") == derived_id(b"a" * 32, "resp_1") != derived_id(b"b" * 32, "resp_1")
    assert len(derived_id(b"a" * 32, "resp_1")) == 32 and derived_id(b"a" * 32, "resp_2") != derived_id(
        b"a" * 32, "resp_1"
    )


# What was skipped is skipped again.

MACHINE = {"name": "agent", "key_sha256": ["9" * 64], "traffic": ["human", "machine"]}


@pytest.mark.parametrize(
    ("more", "labels", "reason"),
    [
        ({"text": {"format": {"type": "json_object"}}}, {}, "structured"),
        ({"structured_outputs": {"regex": ".*"}}, {"structured": "allow"}, "structured"),
        ({}, {"positions": []}, "off"),
    ],
    ids=["json", "grammar", "off"],
)
def test_skips_repeat(tmp_path: Path, more: dict[str, Any], labels: dict[str, Any], reason: str) -> None:
    with proxy(tmp_path, Keeper('{"四月": "很冷"}'), labels=labels) as up:
        first = post(up, {**ASK, **more})
        assert first["llm_label"]["label"] == {"planned": [], "applied": [], "skipped": reason}
        again = get(up, "/v1/responses/resp_0")
        (entry,) = up.entries()
    assert again == first and entry.label_skipped == reason


def test_prose_where_json_was_asked_for_is_labelled_again(tmp_path: Path) -> None:
    with proxy(tmp_path, Keeper()) as up:
        first = post(up, {**ASK, "text": {"format": {"type": "json_object"}}})
        assert text_of(first).startswith(L) and get(up, "/v1/responses/resp_0") == first


def test_a_prefilled_answer_carries_its_label_at_the_end_again(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "四月？"}, {"role": "assistant", "content": "四月"}]
    with proxy(tmp_path, Keeper()) as up:
        first = post(up, {**ASK, "input": turns})
        assert text_of(first).endswith(f"\n\n{L}") and get(up, "/v1/responses/resp_0") == first


def client_key(name: str, key: str, **more: Any) -> dict[str, Any]:
    import hashlib

    return {"name": name, "key_sha256": [hashlib.sha256(key.encode()).hexdigest()], **more}


CLIENTS = [
    client_key("app", "app-key", traffic=["human", "machine"], positions_allowed=["end"]),
    client_key("other", "other-key"),
]


def test_what_a_request_chose_holds_for_its_answer(tmp_path: Path) -> None:
    auth = {"Authorization": "Bearer app-key"}
    with proxy(tmp_path, Keeper(), clients=CLIENTS) as up:
        for wish in ("traffic=machine", "label=(end), language=ja"):
            first = post(up, **auth, **{"X-LLM-Label-Request": wish})
            assert get(up, f"/v1/responses/{first['id']}", **auth) == first
        end, machine = up.entries()
    assert (machine.label_skipped, machine.retrieved, end.label_applied, end.retrieved) == ("machine", 1, "end", 1)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_0"),
        ("GET", "/v1/responses/resp_0?stream=true"),
        ("POST", "/v1/responses/resp_0/cancel"),
        ("DELETE", "/v1/responses/resp_0"),
        ("GET", "/v1/responses/resp_77"),
        ("DELETE", "/v1/chat/completions/chatcmpl_77"),
    ],
)
def test_another_clients_answer_is_not_there_and_is_never_asked_for(tmp_path: Path, method: str, path: str) -> None:
    keeper = Keeper()
    with proxy(tmp_path, keeper, clients=CLIENTS) as up:
        post(up, Authorization="Bearer app-key")
        status, _, raw = call(up, method, path, Authorization="Bearer other-key")
        assert (status, json.loads(raw)["error"]["code"]) == (404, "not_found")
        assert call(up, method, path)[0] == 401
        assert keeper.asked == ["POST /v1/responses"]
        owner = call(up, method, path, Authorization="Bearer app-key")
    assert owner[0] == (404 if "77" in path else 200)


def test_a_client_without_marks_finds_its_answers(tmp_path: Path) -> None:
    auth = {"Authorization": "Bearer app-key"}
    with proxy(tmp_path, Keeper(), clients=CLIENTS, labels={"positions": []}, server={"body_field": False}) as up:
        for streamed in (False, True):
            call(up, "POST", "/v1/responses", {**ASK, "stream": streamed}, **auth)
        for id in ("resp_0", "resp_1"):
            assert text_of(get(up, f"/v1/responses/{id}", **auth)) == TEXT


# What must not change the first entry.


def test_an_upstream_that_forgot_says_so_and_the_entry_stays(tmp_path: Path) -> None:
    keeper = Keeper()
    with proxy(tmp_path, keeper) as up:
        post(up)
        keeper.kept.clear()
        status, headers, raw = call(up, "GET", "/v1/responses/resp_0")
        (entry,) = up.entries()
    assert status == 404 and json.loads(raw)["error"]["code"] == "not_found" and "x-aigc" not in headers
    assert (entry.result, entry.status, entry.label_applied, entry.retrieved) == ("complete", 200, "start", 1)


def test_a_retrieval_that_breaks_off_changes_nothing_but_the_count(tmp_path: Path) -> None:
    keeper = Keeper()
    with proxy(tmp_path, keeper) as up:
        post(up)
        (first,) = up.entries()
        keeper.cut = 5
        _, _, raw = call(up, "GET", "/v1/responses/resp_0?stream=true")
        assert bodies(raw)[-1]["error"]["code"] == "upstream_truncated"
        (entry,) = up.entries()
    assert entry.retrieved == 1 and {**entry.to_dict(), "retrieved": 0} == first.to_dict()


def test_a_failed_answer_is_not_made_good_by_asking_again(tmp_path: Path) -> None:
    keeper = Keeper()
    with proxy(tmp_path, keeper) as up:
        post(up)
        store = Store(up.audit)
        (entry,) = up.entries()
        entry.label_applied = ""
        store.write([entry])
        store.close()
        get(up, "/v1/responses/resp_0")
        (entry,) = up.entries()
    assert disposition(entry) == ("failed", "unlabelled") and entry.retrieved == 1


# Several workers, and the shape of requests.


def test_another_worker_finds_what_was_just_answered(tmp_path: Path) -> None:
    keeper = Keeper()
    with proxy(tmp_path, keeper) as one, proxy(tmp_path, keeper) as two:
        for _ in range(5):
            for streamed in (False, True):
                _, headers, _ = call(one, "POST", "/v1/responses", {**ASK, "stream": streamed})
                _, again, _ = call(two, "GET", f"/v1/responses/resp_{len(keeper.kept) - 1}")
                assert content_id(again) == content_id(headers)
        two.entries()
        entries = one.entries()
    assert len(entries) == 10 and {entry.retrieved for entry in entries} == {1}


def test_queries_reach_the_upstream_as_they_came(tmp_path: Path) -> None:
    keeper = Keeper()
    query = "include[]=a.b&include[]=c&include%5B%5D=d&stream=true&x=%26&y&z="
    with proxy(tmp_path, keeper) as up:
        post(up)
        call(up, "GET", f"/v1/responses/resp_0?{query}&starting_after=2")
        (asked,) = [ask for ask in up.fake.asked if ask["method"] == "GET"]
    assert asked["path"].replace("%5B%5D", "[]") == f"/v1/responses/resp_0?{query}".replace("%5B%5D", "[]")


@pytest.mark.parametrize("query", ["stream=true&stream=false", "stream=maybe", "stream=true&starting_after=-1",
                                   "starting_after=1&starting_after=2", "stream=true&starting_after=x"])  # fmt: skip
def test_a_query_that_says_two_things_is_refused(tmp_path: Path, query: str) -> None:
    with proxy(tmp_path, Keeper()) as up:
        status, _, raw = call(up, "GET", f"/v1/responses/resp_0?{query}")
        assert up.fake.asked == []
    assert status == 400 and "\n" not in json.loads(raw)["error"]["message"]


@pytest.mark.parametrize("id", ["resp_68af40", "resp_bGl0ZWxsbTpj+dXN0==", "chat-1.2:3@x~y", "r" * 400])
def test_numbers_of_many_gateways_are_known(id: str) -> None:
    found = stored("GET", f"/v1/responses/{id}", "")
    assert found is not None and (found.id, found.whole) == (id, f"/v1/responses/{id}")


@pytest.mark.parametrize("id", [".", "..", "a/b", "a b", "a%2Fb", "", "r" * 401, "a;b", "ä"])
def test_what_could_be_another_path_is_no_number(id: str) -> None:
    assert stored("GET", f"/v1/responses/{id}", "") is None


def test_bad_queries_raise_without_a_server() -> None:
    with pytest.raises(ClientError, match="twice"):
        stored("GET", "/v1/responses/r", "stream=true&stream=true")


def test_a_policy_that_changed_does_not_change_an_answer() -> None:
    entry = Entry("a" * 32, 1.0, "responses", "u", "m", False, "Acme", "p", "start end", None, language="en")
    found = stored("GET", "/v1/responses/r", "")
    assert found is not None
    view = found.again(entry, Caller())
    assert (view.caller.positions, view.start, view.caller.language) == (("start", "end"), "en", "auto")
