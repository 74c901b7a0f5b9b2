"""What clients send back reaches the upstream as if there had never been a label: byte for byte, in every shape."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.proxy.keeping import Keeper
from tests.proxy.running import Running, proxy, whole
from tests.proxy.test_chain import ASKED, REPLIES, TEXT, ask, texts
from tests.proxy.test_retrieval import call

OLD = {"zh": "AI生成 · 旧版提示"}
NEWER = {"zh": "人工智能合成，仅供参考"}
MARKED = {"positions": ["start", "middle", "end"], "middle_after": 10}
ANSWERS = ("chat/completions", "responses", "messages")


def turn(surface: str, text: str, role: str = "assistant") -> dict[str, Any]:
    """Write a turn of a conversation as clients of an API do."""
    kind = ("output_text" if role == "assistant" else "input_text") if surface == "responses" else "text"
    if surface == "chat/completions":
        return {"role": role, "content": text}
    return {"role": role, "content": [{"type": kind, "text": text}]}


def conversation(surface: str, *turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    name = "input" if surface == "responses" else "messages"
    return {"model": "m", **{k: v for k, v in ASKED[surface].items() if k == "max_tokens"}, name: list(turns), **more}


def send(up: Running, path: str, body: Any) -> bytes:
    """Post a body, written as JavaScript does, and return what the upstream got."""
    return posted(up, path, wire(body).decode())


def labelled(up: Running, surface: str, streamed: bool) -> str:
    """Ask, and return the answer's text with its labels."""
    text = texts(surface, streamed, ask(up, surface, streamed)[2])[0]
    assert text != TEXT
    return text


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("surface", ANSWERS)
def test_labels_of_every_wording_ever_issued_are_taken_out(tmp_path: Path, surface: str, streamed: bool) -> None:
    came = []
    for words in (OLD, NEWER, {}):
        with proxy(tmp_path, REPLIES[surface](streamed), labels={**MARKED, "texts": words}) as up:
            came.append(labelled(up, surface, streamed))
            if words:
                assert came[-1].count(words["zh"]) == 3
    user, system = turn(surface, f"{OLD['zh']}\n\n这是什么？", "user"), turn(surface, OLD["zh"], "user")
    turns = [x for text in came for x in (user, turn(surface, text))] + [system]
    bare = [x for _ in came for x in (user, turn(surface, TEXT))] + [system]
    with proxy(tmp_path, REPLIES[surface](False)) as up:
        assert send(up, f"/v1/{surface}", conversation(surface, *turns)) == wire(conversation(surface, *bare))


def wire(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("surface", "path"), [("messages", "/v1/messages/count_tokens"), ("responses", "/v1/responses/input_tokens")]
)
def test_tokens_are_counted_without_labels(tmp_path: Path, surface: str, path: str) -> None:
    user = turn(surface, "四月？", "user")
    with proxy(tmp_path, REPLIES[surface](False), labels=MARKED) as up:
        text = labelled(up, surface, False)
        up.fake.reply = whole(b'{"input_tokens": 7}')
        body = conversation(surface, user, turn(surface, text), user)
        bare = conversation(surface, user, turn(surface, TEXT), user)
        assert send(up, path, body) == wire(bare)
        status, headers, raw = call(up, "POST", path, body)  # written as Python does, with escapes
        assert (status, raw) == (200, b'{"input_tokens": 7}') and "x-aigc" not in headers
        assert json.loads(up.fake.asked[-1]["body"]) == bare
        assert len(up.entries()) == 1, "counting is no answer"


L = "本内容由AI生成"
MINE = f"{L}\n\n{TEXT}"
SIGNED = {"type": "thinking", "thinking": MINE, "signature": "EqQB+/=="}
SEALED = {"type": "redacted_thinking", "data": MINE}
TOOL = {"type": "tool_use", "id": "t", "name": "save", "input": {"text": MINE}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": MINE}]}
REASONING = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": MINE}],
             "encrypted_content": f"gAAAA{MINE}"}  # fmt: skip
CALL = {"type": "function_call", "call_id": "c", "name": "save", "arguments": json.dumps({"text": MINE})}
OUTPUT = {"type": "function_call_output", "call_id": "c", "output": MINE}
CHAT_CALL = {"id": "c", "type": "function", "function": {"name": "save", "arguments": json.dumps({"text": MINE})}}

OTHERS: dict[str, list[dict[str, Any]]] = {
    "chat/completions": [
        {"role": "system", "content": MINE},
        {"role": "developer", "content": MINE},
        {"role": "user", "content": MINE},
        {"role": "user", "content": [{"type": "text", "text": MINE}]},
        {"role": "assistant", "content": None, "reasoning_content": MINE, "refusal": MINE, "tool_calls": [CHAT_CALL]},
        {"role": "tool", "tool_call_id": "c", "content": MINE},
        {"role": "assistant", "content": f"引用：\n\n> {L}\n\n```\n{L}\n```\n好"},
    ],
    "responses": [
        {"role": "system", "content": MINE},
        {"role": "user", "content": MINE},
        {"role": "user", "content": [{"type": "input_text", "text": MINE}]},
        REASONING,
        CALL,
        OUTPUT,
        {"type": "item_reference", "id": MINE},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": MINE}]},
    ],
    "messages": [
        {"role": "user", "content": MINE},
        {"role": "assistant", "content": [SIGNED, SEALED, TOOL]},
        RESULT,
        {"role": "user", "content": [{"type": "text", "text": MINE, "cache_control": {"type": "ephemeral"}}]},
    ],
}


@pytest.mark.parametrize("surface", ANSWERS)
@pytest.mark.parametrize("spaced", [False, True])
def test_nothing_but_the_text_of_assistant_turns_changes(tmp_path: Path, surface: str, spaced: bool) -> None:
    body = conversation(surface, *OTHERS[surface], system=MINE, instructions=MINE, metadata={"n": 1.50, "u": "\u2028"})
    raw = json.dumps(body, ensure_ascii=spaced, indent=1 if spaced else None).replace("1.5", "1.50e0")
    with proxy(tmp_path, REPLIES[surface](False)) as up:
        assert posted(up, f"/v1/{surface}", raw) == raw.encode()
        # beside them, an assistant's turn with a label, and the rest still byte for byte
        turns = [*OTHERS[surface], turn(surface, MINE), {"role": "user", "content": "继续"}]
        raw = json.dumps(conversation(surface, *turns), ensure_ascii=False)
        bare = json.dumps(conversation(surface, *[*turns[:-2], turn(surface, TEXT), turns[-1]]), ensure_ascii=False)
        assert posted(up, f"/v1/{surface}", raw).decode() == bare


def posted(up: Running, path: str, raw: str) -> bytes:
    """Post a body as it is written, and return what the upstream got."""
    request = urllib.request.Request(up.url + path, raw.encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.status == 200
    found: bytes = up.fake.asked[-1]["body"]
    return found


def test_a_turn_of_signed_thinking_and_text_loses_the_label_alone(tmp_path: Path) -> None:
    user = {"role": "user", "content": "四月？"}
    turns = [user, {"role": "assistant", "content": [SIGNED, {"type": "text", "text": MINE}, TOOL]}, RESULT]
    bare = [user, {"role": "assistant", "content": [SIGNED, {"type": "text", "text": TEXT}, TOOL]}, RESULT]
    with proxy(tmp_path, REPLIES["messages"](False)) as up:
        assert send(up, "/v1/messages", conversation("messages", *turns)) == wire(conversation("messages", *bare))


def test_a_bare_prompt_stays_as_it_is(tmp_path: Path) -> None:
    body = {"model": "m", "prompt": f"{MINE}\n\n继续："}
    with proxy(tmp_path, REPLIES["completions"](False)) as up:
        assert send(up, "/v1/completions", body) == wire(body)


# With the real SDKs: the second request of a conversation, with labels and without.

CITED: dict[str, Any] = {"type": "url_citation", "start_index": 3, "end_index": 7, "url": "http://a/", "title": "四"}


def cited(streamed: bool) -> Any:
    """A response whose text carries annotations, beside sealed reasoning."""
    part = {"type": "output_text", "text": TEXT, "annotations": [CITED], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    body = {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "completed", "error": None,
        "output": [{**REASONING, "summary": []}, item], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip
    return whole(json.dumps(body, ensure_ascii=False).encode())


def chat_twice(url: str) -> None:
    with openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0) as client:
        messages: list[Any] = [{"role": "user", "content": "四月天气如何？"}]
        answer = client.chat.completions.create(model="m", messages=messages)
        messages += [answer.choices[0].message, {"role": "user", "content": "继续"}]
        client.chat.completions.create(model="m", messages=messages)


def chat_stream_twice(url: str) -> None:
    with openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0) as client:
        messages: list[Any] = [{"role": "user", "content": "四月天气如何？"}]
        with client.chat.completions.stream(model="m", messages=messages) as events:
            answer = events.get_final_completion()
        messages += [answer.choices[0].message.model_dump(exclude_none=True), {"role": "user", "content": "继续"}]
        client.chat.completions.create(model="m", messages=messages)


def responses_twice(url: str) -> None:
    with openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0) as client:
        given: list[Any] = [{"role": "user", "content": "四月天气如何？"}]
        answer = client.responses.create(model="m", input=given)
        client.responses.create(model="m", input=[*given, *answer.output, {"role": "user", "content": "继续"}])


def responses_stream_twice(url: str) -> None:
    with openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0) as client:
        given: list[Any] = [{"role": "user", "content": "四月天气如何？"}]
        with client.responses.stream(model="m", input=given) as events:
            answer = events.get_final_response()
        client.responses.create(model="m", input=[*given, *answer.to_dict()["output"], *given])  # type: ignore[misc]


def messages_twice(url: str) -> None:
    anthropic = pytest.importorskip("anthropic", reason="the anthropic SDK is not installed")
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as client:
        turns: list[Any] = [{"role": "user", "content": "四月天气如何？"}]
        answer = client.messages.create(model="m", max_tokens=9, messages=turns)
        turns += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": "继续"}]
        client.messages.create(model="m", max_tokens=9, messages=turns)


CONVERSATIONS = [
    (chat_twice, REPLIES["chat/completions"](False)),
    (chat_stream_twice, REPLIES["chat/completions"](True)),
    (responses_twice, cited(False)),
    (responses_twice, REPLIES["responses"](False)),
    (responses_stream_twice, REPLIES["responses"](True)),
    (messages_twice, REPLIES["messages"](False)),
]


@pytest.mark.parametrize(("talk", "reply"), CONVERSATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_replayed_answer_is_the_one_that_the_upstream_gave(
    tmp_path: Path, talk: Callable[[str], None], reply: Any
) -> None:
    with proxy(tmp_path, reply, labels=MARKED) as up:
        talk(up.fake_url)
        direct = [asked["body"] for asked in up.fake.asked]
        up.fake.asked.clear()
        if isinstance(reply, Keeper):
            reply.kept.clear()  # the same numbers again
        talk(up.url)
        through = [asked["body"] for asked in up.fake.asked]
        answered = up.entries()
    assert len(through) == 2 and through == direct
    assert [entry.label_applied for entry in answered] == ["start middle end"] * 2
