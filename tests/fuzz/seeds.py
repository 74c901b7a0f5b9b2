"""Where the fuzzer begins: a few answers and requests of each API, of our own making, and recordings where they are."""

import json
import os
import random
from collections.abc import Iterator
from typing import Any

from tests.fuzz.case import APIS, head
from tests.proxy import recorded
from tests.testdata import VARIABLE, documents

__all__ = ["requests", "streams", "wholes"]

ZH = ["你好，", "春天", "来了。\n\n", "1. 花开\n2. 鸟鸣\n\n", "再见。"]
MD = ["# Foxes\n", "\nThey jump. ", "They run.\n\n```py\n", "x = 1\n", "```\n\n", "The end"]
LABELLED = "人工智能生成"
FILES = {
    "chat": "openai_chat",
    "completions": "openai_completions",
    "responses": "openai_responses",
    "messages": "anthropic_messages",
}


def streams(dice: random.Random, most: int = 60_000) -> list[bytes]:
    """Return inputs for the stream target."""
    bodies = [(api, body) for api, make in STREAMS.items() for body in make()]
    bodies += [(api, body) for api in APIS for _, body in _recorded(api, True) if len(body) <= most]
    return [head(APIS.index(api), dice) + body for api, body in bodies]


def wholes(dice: random.Random, most: int = 60_000) -> list[bytes]:
    """Return inputs for the target of whole answers."""
    bodies = [(api, json.dumps(tree, ensure_ascii=False).encode()) for api, tree in WHOLES]
    bodies += [(api, body) for api in APIS for _, body in _recorded(api, False) if len(body) <= most]
    return [head(APIS.index(api), dice) + body for api, body in bodies]


def requests(dice: random.Random, most: int = 60_000) -> list[bytes]:
    """Return inputs for the request target."""
    bodies = [(api, json.dumps(tree, ensure_ascii=False).encode()) for api, tree in REQUESTS]
    for api in APIS if _there() else ():
        asked = [(exchange.get("request") or {}).get("body") for exchange in documents(_file(api))]
        found = [json.dumps(tree).encode() for tree in asked if isinstance(tree, dict)]
        bodies += [(api, body) for body in found if len(body) <= most]
    return [head(APIS.index(api), dice) + body for api, body in bodies]


def _there() -> bool:
    return bool(os.environ.get(VARIABLE))


def _file(api: str) -> str:
    return f"data/recordings/{FILES[api]}.jsonl.gz"


def _recorded(api: str, stream: bool) -> list[tuple[dict[str, Any], bytes]]:
    return recorded.of(FILES[api], stream) if _there() else []


def _data(*bodies: dict[str, Any], done: bool = True) -> bytes:
    frames = [f"data: {json.dumps(body, ensure_ascii=False)}\n\n" for body in bodies]
    return "".join([*frames, "data: [DONE]\n\n" if done else ""]).encode()


def _named(*bodies: dict[str, Any]) -> bytes:
    return "".join(f"event: {b['type']}\ndata: {json.dumps(b, ensure_ascii=False)}\n\n" for b in bodies).encode()


def _chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish, **more}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def _chat() -> Iterator[bytes]:
    role, usage = {"role": "assistant", "content": ""}, {"id": "c1", "choices": [], "usage": {"total_tokens": 7}}
    call = {"tool_calls": [{"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    said = {"content": [{"token": "a", "logprob": -0.1}]}
    yield _data(_chunk(role), *(_chunk({"content": text}) for text in ZH), _chunk({}, "stop"), usage)
    yield _data(_chunk(role), *(_chunk({"content": text}) for text in MD), _chunk({}, "length"), done=False)
    yield _data(_chunk(role), _chunk({"content": "I look."}), _chunk(call), _chunk({}, "tool_calls"))
    yield _data(*(_chunk({"content": text}, index=k % 3) for k, text in enumerate(ZH * 2)),
                *(_chunk({}, "stop", index=k) for k in range(3)))  # fmt: skip
    yield _data(_chunk(role), *(_chunk({"content": text}, logprobs=said) for text in MD), _chunk({}, "stop"))
    yield _data(_chunk({"reasoning_content": "hm"}), _chunk({"content": f"{LABELLED}\n\nHallo."}), _chunk({}, "stop"))
    yield _data(_chunk({"content": [{"type": "text", "text": "Bonjour. "}]}), _chunk({"refusal": "no"}, "stop"))
    yield _data(_chunk({"content": '{"a": '}), _chunk({"content": "1}"}), _chunk({}, "stop"))
    yield _data(_chunk({"content": "half"}), {"error": {"message": "gone", "code": 500}}, done=False)
    yield _data(_chunk({}, message={"role": "assistant", "content": "so far"}), _chunk({}, "stop"))


def _completions() -> Iterator[bytes]:
    def piece(text: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
        choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
        return {"id": "t1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}

    yield _data(*map(piece, ZH), piece("", "stop"))
    yield _data(*map(piece, MD), piece(" of it", "length"), {"id": "t1", "choices": [], "usage": {"total_tokens": 7}})
    yield _data(*(piece(text, index=k % 2) for k, text in enumerate(MD)), piece("", "stop", 0), piece("", "stop", 1))


def _responses() -> Iterator[bytes]:
    yield _response(_message(ZH))
    yield _response(_message(["I look"], phase="commentary"), _message(MD, cites=True, phase="final_answer"))
    yield _response({"type": "reasoning", "id": "r", "summary": []}, _message(["Hello. ", "World"]))
    yield _response({"type": "function_call", "id": "f", "name": "f", "arguments": "{}"}, _message(MD))


def _message(pieces: list[str], cites: bool = False, **more: Any) -> dict[str, Any]:
    text = "".join(pieces)
    cited = [{"type": "url_citation", "url": "u", "title": "t", "start_index": 2, "end_index": len(text) - 1}]
    part = {"type": "output_text", "text": text, "annotations": cited if cites else [], "logprobs": []}
    return {"type": "message", "id": "m", "role": "assistant", "content": [part], "pieces": pieces, **more}


def _response(*items: dict[str, Any]) -> bytes:
    def response(status: str, output: list[Any]) -> dict[str, Any]:
        return {"id": "r1", "object": "response", "status": status, "output": output, "model": "m"}

    events: list[dict[str, Any]] = [{"type": "response.created", "response": response("in_progress", [])}]
    whole = [{key: value for key, value in item.items() if key != "pieces"} for item in items]
    for at, (item, done) in enumerate(zip(items, whole, strict=True)):
        started = {**done, "content": []} if "content" in done else done
        events.append({"type": "response.output_item.added", "output_index": at, "item": started})
        for part in done.get("content", ()):
            place = {"output_index": at, "content_index": 0, "item_id": "m"}
            empty = {**part, "text": "", "annotations": []}
            events.append({"type": "response.content_part.added", **place, "part": empty})
            for piece in item["pieces"]:
                events.append({"type": "response.output_text.delta", **place, "delta": piece})
            for cited in part["annotations"]:
                events.append({"type": "response.output_text.annotation.added", **place, "annotation": cited})
            events.append({"type": "response.output_text.done", **place, "text": part["text"]})
            events.append({"type": "response.content_part.done", **place, "part": part})
        events.append({"type": "response.output_item.done", "output_index": at, "item": done})
    events.append({"type": "response.completed", "response": response("completed", whole)})
    return _named(*({**event, "sequence_number": at} for at, event in enumerate(events)))


def _messages() -> Iterator[bytes]:
    tool = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "s", "content": []}
    thinking = {"type": "thinking", "thinking": "", "signature": ""}
    yield _turn((None, ZH))
    yield _turn((thinking, []), (None, MD), (tool, []), reason="tool_use")
    yield _turn((None, ["I look. "]), (search, []), (found, []), (None, ["It is ", "so."]), (None, ["\n"]))
    yield _turn((None, ["I look."]), (search, []), (found, []), reason="pause_turn")
    yield _turn((None, ["half"]))[:-150] + _named({"type": "error", "error": {"type": "overloaded_error"}})


def _turn(*blocks: tuple[dict[str, Any] | None, list[str]], reason: str = "end_turn") -> bytes:
    begun = {"id": "m1", "type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 3}}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}, {"type": "ping"}]
    for at, (block, pieces) in enumerate(blocks):
        begin = block or {"type": "text", "text": ""}
        events.append({"type": "content_block_start", "index": at, "content_block": begin})
        for piece in pieces:
            delta = {"type": "text_delta", "text": piece}
            events.append({"type": "content_block_delta", "index": at, "delta": delta})
        events.append({"type": "content_block_stop", "index": at})
    ending = {"stop_reason": reason, "stop_sequence": None}
    events += [{"type": "message_delta", "delta": ending, "usage": {"output_tokens": 9}}, {"type": "message_stop"}]
    return _named(*events)


STREAMS = {"chat": _chat, "completions": _completions, "responses": _responses, "messages": _messages}
TURN = {"role": "assistant", "content": f"{LABELLED}\n\nHallo."}
ASKED = {"role": "user", "content": f"What is {LABELLED}?"}
PARTS = {"role": "assistant", "content": [{"type": "text", "text": f"Hallo.\n\n{LABELLED}"}]}
BLOCKS = [{"type": "thinking", "thinking": "x", "signature": "y"}, {"type": "text", "text": f"{LABELLED}\n\nHi."},
          {"type": "tool_use", "id": "t", "name": "f", "input": {}}, {"type": "text", "text": LABELLED}]  # fmt: skip
SMUGGLED = {"watermark": {"key": 1}, "vllm_xargs": {"llm_label_key": 1, "a": 2}, "temperature": 0.70,
            "generation_config": '{"watermarking_config": {}, "top_k": 5}', "extra_body": {"Watermarking": False}}  # fmt: skip
REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"model": "m", "messages": [ASKED, TURN, ASKED, PARTS, ASKED], "stream": True, "n": 2}),
    ("chat", {"model": "m", "messages": [ASKED], **SMUGGLED}),
    ("chat", {"messages": [ASKED, TURN], "response_format": {"type": "json_schema", "json_schema": {}}}),
    ("completions", {"model": "m", "prompt": ["a", "b"], "echo": True, "logprobs": 0, "suffix": "x"}),
    ("completions", {"prompt": "<|fim_prefix|>a<|fim_suffix|>b", **SMUGGLED}),
    ("responses", {"model": "m", "input": [ASKED, {"type": "message", **TURN}, {**PARTS, "id": "m"}], "store": False}),
    ("responses", {"input": "Hi", "text": {"format": {"type": "json_schema"}}, **SMUGGLED}),
    ("messages", {"model": "m", "max_tokens": 9, "messages": [ASKED, {"role": "assistant", "content": BLOCKS}, ASKED]}),
    ("messages", {"messages": [ASKED, TURN], "system": LABELLED, **SMUGGLED}),
]
WHOLES: list[tuple[str, dict[str, Any]]] = [
    ("chat", {"id": "c", "choices": [{"index": k, "message": {"role": "assistant", "content": "".join(text)}, "finish_reason": "stop"}
                                     for k, text in enumerate((ZH, MD))], "usage": {"total_tokens": 1e2}}),
    ("chat", {"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "tool_calls": [{}]}}]}),
    ("completions", {"id": "t", "choices": [{"index": 0, "text": "".join(MD), "logprobs": None, "finish_reason": "length"}]}),
    ("responses", {"id": "r", "status": "completed", "output_text": "".join(MD), "output": [
        {"type": "reasoning"}, {"type": "message", "role": "assistant", "content": [
            {"type": "output_text", "text": "".join(MD), "annotations": [{"type": "url_citation", "start_index": 1, "end_index": 9}]}]}]}),
    ("messages", {"id": "m", "type": "message", "content": [{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "".join(ZH)},
                                                            {"type": "tool_use", "id": "t", "input": {}}], "stop_reason": "tool_use"}),
]  # fmt: skip
