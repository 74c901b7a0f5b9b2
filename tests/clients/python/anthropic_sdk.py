"""anthropic-python: messages, raw events and the `.stream()` helper."""

import json
from typing import Any

from anthropic import Anthropic, BadRequestError
from play import ASK, MODEL, RESULT, WEATHER, Way, plain, play, scenario, user
from pydantic import BaseModel

TOOLS: Any = [{"name": WEATHER["name"], "description": WEATHER["description"], "input_schema": WEATHER["parameters"]}]
COMMON: Any = {"model": MODEL["messages"], "max_tokens": 400}


class City(BaseModel):
    name: str
    population: int


def client(way: Way) -> Anthropic:
    return Anthropic(base_url=way.base, api_key=way.key, max_retries=0)


def ask(way: Way, turns: list[Any], **more: Any) -> Any:
    return client(way).messages.create(messages=turns, **{**COMMON, **more})


def text(message: Any) -> str:
    return "".join(block.text for block in message.content if block.type == "text")


def facts(message: Any) -> dict[str, Any]:
    return {
        "id": message.id,
        "model": message.model,
        "stop": [message.stop_reason, message.stop_sequence],
        "usage": plain(message.usage),
        "blocks": [block.type for block in message.content],
        "rest": [plain(block) for block in message.content if block.type != "text"],
    }


def back(message: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in message.content]}


@scenario("messages")
def messages(way: Way) -> dict[str, Any]:
    """Two turns: the blocks of the first answer go back as they came."""
    first = ask(way, [user(ASK["river"])])
    second = ask(way, [user(ASK["river"]), back(first), user(ASK["again"])])
    return {"prose": [text(first), text(second)], "exact": [facts(first), facts(second)]}


@scenario("messages")
def messages_thinking(way: Way) -> dict[str, Any]:
    """Thinking leads, is signed and goes back verbatim."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    first = ask(way, [user(ASK["think"])], thinking=thinking, max_tokens=4000)
    turns = [user(ASK["think"]), back(first), user(ASK["again"])]
    second = ask(way, turns, thinking=thinking, max_tokens=4000)
    return {"prose": [text(first), text(second)], "exact": [facts(first), facts(second)]}


@scenario("messages")
def messages_blocks(way: Way) -> dict[str, Any]:
    """Two text blocks around a server tool, one with citations, cut off; all go back as they came."""
    first = ask(way, [user(ASK["river"])], model=MODEL["blocks"])
    second = ask(way, [user(ASK["river"]), back(first), user(ASK["again"])])
    citations = [[plain(c) for c in block.citations or []] for block in first.content if block.type == "text"]
    return {"prose": [text(first), text(second)], "exact": [facts(first), facts(second), citations]}


@scenario("messages")
def messages_count(way: Way) -> dict[str, Any]:
    """Tokens are counted without the labels that come back."""
    first = ask(way, [user(ASK["river"])])
    turns: list[Any] = [user(ASK["river"]), back(first), user(ASK["again"])]
    counted = client(way).messages.count_tokens(model=MODEL["blocks"], messages=turns)
    return {"prose": text(first), "exact": counted.input_tokens}


@scenario("messages")
def messages_marks(way: Way) -> dict[str, Any]:
    raw = client(way).messages.with_raw_response.create(messages=[user(ASK["river"])], **COMMON)
    message = raw.parse()
    header = raw.headers.get("x-aigc")
    body = (message.model_extra.get("llm_label") or {}).get("content_id")
    return {
        "marks": {"header": json.loads(header)["ProduceID"] if header else None, "body": body},
        "prose": text(message),
    }


@scenario("messages")
def messages_error(way: Way) -> dict[str, Any]:
    try:
        ask(way, [user(ASK["river"])], model=MODEL["error"])
    except BadRequestError as error:
        return {"exact": [error.status_code, error.message, error.body]}
    raise AssertionError("no error was raised")


@scenario("messages stream")
def messages_stream(way: Way) -> dict[str, Any]:
    events: list[Any] = list(ask(way, [user(ASK["think"])], stream=True))
    deltas = [e.delta for e in events if e.type == "content_block_delta"]
    return {
        "prose": "".join(d.text for d in deltas if d.type == "text_delta"),
        "exact": {
            "thinking": "".join(d.thinking for d in deltas if d.type == "thinking_delta"),
            "signature": "".join(d.signature for d in deltas if d.type == "signature_delta"),
            "starts": [plain(e.content_block) for e in events if e.type == "content_block_start"],
            "stop": [plain(e.delta) for e in events if e.type == "message_delta"],
            "usage": [plain(e.usage) for e in events if e.type == "message_delta"],
        },
        "counted": len(events),
    }


@scenario("messages stream")
def messages_stream_helper(way: Way) -> dict[str, Any]:
    with client(way).messages.stream(messages=[user(ASK["river"])], **COMMON) as stream:
        events: list[Any] = list(stream)
        final = stream.get_final_message()
    return {
        "prose": {
            "deltas": "".join(e.text for e in events if e.type == "text"),
            "snapshot": [e.snapshot for e in events if e.type == "text"][-1],
            "block": "".join(e.content_block.text for e in events if e.type == "content_block_stop"),
            "final": text(final),
        },
        "exact": facts(final),
    }


@scenario("messages stream")
def messages_stream_blocks(way: Way) -> dict[str, Any]:
    common = {**COMMON, "model": MODEL["blocks"]}
    with client(way).messages.stream(messages=[user(ASK["river"])], **common) as stream:
        events: list[Any] = list(stream)
        final = stream.get_final_message()
    citations = [[plain(c) for c in block.citations or []] for block in final.content if block.type == "text"]
    indices = [e.index for e in events if e.type == "content_block_stop"]
    said = "".join(e.text for e in events if e.type == "text")
    return {"prose": {"deltas": said, "final": text(final)}, "exact": [facts(final), citations, indices]}


@scenario("messages stream")
def messages_stream_text(way: Way) -> dict[str, Any]:
    with client(way).messages.stream(messages=[user(ASK["think"])], **COMMON) as stream:
        said = "".join(stream.text_stream)
        final = stream.get_final_message()
    return {"prose": {"said": said, "final": text(final)}, "exact": facts(final)}


@scenario("tools")
def tools(way: Way) -> dict[str, Any]:
    first = ask(way, [user(ASK["weather"])], tools=TOOLS)
    result = [
        {"type": "tool_result", "tool_use_id": b.id, "content": RESULT} for b in first.content if b.type == "tool_use"
    ]
    turns = [user(ASK["weather"]), back(first), {"role": "user", "content": result}]
    second = ask(way, turns, tools=TOOLS)
    return {"prose": text(second), "exact": [facts(first), facts(second)]}


@scenario("tools")
def tools_stream(way: Way) -> dict[str, Any]:
    """Words, then a call; the whole turn goes back."""
    with client(way).messages.stream(messages=[user(ASK["look"])], tools=TOOLS, **COMMON) as stream:
        inputs = [e.snapshot for e in stream if e.type == "input_json"]
        final = stream.get_final_message()
    calls = [block.id for block in final.content if block.type == "tool_use"]
    result = [{"type": "tool_result", "tool_use_id": call, "content": RESULT} for call in calls]
    turns: list[Any] = [user(ASK["look"]), back(final), {"role": "user", "content": result}]
    second = ask(way, turns, tools=TOOLS)
    return {"opening": text(final), "prose": text(second), "exact": [inputs, facts(final), facts(second)]}


@scenario("structured")
def structured(way: Way) -> dict[str, Any]:
    turns: list[Any] = [user(ASK["extract"])]
    message = client(way).messages.parse(messages=turns, output_format=City, **COMMON)
    return {"exact": [text(message), plain(message.parsed_output), facts(message)]}


if __name__ == "__main__":
    play("anthropic")
