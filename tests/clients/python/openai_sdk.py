"""openai-python, 2.x and 3.x: every surface it speaks, raw iteration and the `.stream()` helpers."""

import asyncio
import json
from typing import Any

from openai import AsyncOpenAI, BadRequestError, OpenAI
from play import ASK, MODEL, RESULT, WEATHER, Way, plain, play, scenario, user
from pydantic import BaseModel

TOOLS: Any = [{"type": "function", "function": {**WEATHER, "strict": True}}]
RESPONSES_TOOLS: Any = [{"type": "function", **WEATHER, "strict": True}]


class City(BaseModel):
    name: str
    population: int


def client(way: Way) -> OpenAI:
    return OpenAI(base_url=way.v1, api_key=way.key, max_retries=0)


def ask(way: Way, model: str = "chat", prompt: str = "river", **more: Any) -> Any:
    return client(way).chat.completions.create(model=MODEL[model], messages=[user(ASK[prompt])], **more)


def facts(completion: Any) -> dict[str, Any]:
    """Show what a user reads beside the text."""
    return {
        "id": completion.id,
        "created": completion.created,
        "model": completion.model,
        "usage": plain(completion.usage),
        "finish": [choice.finish_reason for choice in completion.choices],
        "logprobs": [plain(choice.logprobs) for choice in completion.choices],
    }


@scenario("chat")
def chat(way: Way) -> dict[str, Any]:
    """Two turns: the first answer goes back as it was seen."""
    first = ask(way)
    turns = [user(ASK["river"]), first.choices[0].message.model_dump(exclude_none=True), user(ASK["again"])]
    second = client(way).chat.completions.create(model=MODEL["chat"], messages=turns)
    texts = [first.choices[0].message.content, second.choices[0].message.content]
    return {"prose": texts, "exact": [facts(first), facts(second)]}


@scenario("chat")
def chat_choices(way: Way) -> dict[str, Any]:
    answer = ask(way, "choices", n=2)
    return {"prose": [c.message.content for c in answer.choices], "exact": facts(answer)}


@scenario("chat")
def chat_parts(way: Way) -> dict[str, Any]:
    """Content as a list of parts, which some servers send."""
    answer = ask(way, "parts")
    parts = answer.choices[0].message.content
    return {"prose": "".join(p["text"] for p in parts), "exact": [facts(answer), [p["type"] for p in parts]]}


@scenario("chat")
def chat_reasoning(way: Way) -> dict[str, Any]:
    answer = ask(way, prompt="think")
    message = answer.choices[0].message
    return {"prose": message.content, "exact": [facts(answer), message.model_extra]}


@scenario("chat")
def chat_logprobs(way: Way) -> dict[str, Any]:
    answer = ask(way, "logprobs", logprobs=True)
    return {"prose": answer.choices[0].message.content, "exact": facts(answer)}


@scenario("chat")
def chat_odd(way: Way) -> dict[str, Any]:
    answer = ask(way, "odd")
    return {"prose": answer.choices[0].message.content, "exact": facts(answer)}


@scenario("chat")
def chat_error(way: Way) -> dict[str, Any]:
    try:
        ask(way, "error")
    except BadRequestError as error:
        return {"exact": [error.status_code, error.code, error.message, error.body]}
    raise AssertionError("no error was raised")


@scenario("chat stream")
def chat_stream(way: Way) -> dict[str, Any]:
    chunks = list(ask(way, prompt="think", stream=True, stream_options={"include_usage": True}))
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    return {
        "prose": "".join(delta.content or "" for delta in deltas),
        "exact": {
            "reasoning": "".join((delta.model_extra or {}).get("reasoning_content", "") for delta in deltas),
            "roles": [delta.role for delta in deltas if delta.role],
            "finish": [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason],
            "usage": [plain(chunk.usage) for chunk in chunks if chunk.usage],
            "ids": sorted({chunk.id for chunk in chunks}),
        },
        "counted": len(chunks),
    }


def helped(way: Way, model: str = "chat", prompt: str = "river", **more: Any) -> tuple[list[Any], Any]:
    messages: Any = [user(ASK[prompt])]
    with client(way).chat.completions.stream(model=MODEL[model], messages=messages, **more) as stream:
        return list(stream), stream.get_final_completion()


@scenario("chat stream")
def chat_stream_helper(way: Way) -> dict[str, Any]:
    events, final = helped(way, stream_options={"include_usage": True})
    return {
        "prose": {
            "deltas": "".join(e.delta for e in events if e.type == "content.delta"),
            "snapshot": [e.snapshot for e in events if e.type == "content.delta"][-1],
            "done": "".join(e.content for e in events if e.type == "content.done"),
            "final": final.choices[0].message.content,
        },
        "exact": facts(final),
    }


@scenario("chat stream")
def chat_stream_choices(way: Way) -> dict[str, Any]:
    events, final = helped(way, "choices", n=2)
    done = [e.content for e in events if e.type == "content.done"]
    return {"prose": {"done": done, "final": [c.message.content for c in final.choices]}, "exact": facts(final)}


@scenario("chat stream")
def chat_stream_logprobs(way: Way) -> dict[str, Any]:
    events, final = helped(way, "logprobs", logprobs=True)
    done = [[plain(t) for t in e.content] for e in events if e.type == "logprobs.content.done"]
    return {"prose": final.choices[0].message.content, "exact": [facts(final), done]}


@scenario("chat stream")
def chat_stream_odd(way: Way) -> dict[str, Any]:
    chunks = list(ask(way, "odd", stream=True))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    return {"prose": text, "exact": chunks[-1].choices[0].finish_reason}


@scenario("chat stream")
def chat_stream_async(way: Way) -> dict[str, Any]:
    async def run() -> str:
        async with AsyncOpenAI(base_url=way.v1, api_key=way.key, max_retries=0) as openai:
            turns: Any = [user(ASK["river"])]
            stream = await openai.chat.completions.create(model=MODEL["chat"], messages=turns, stream=True)
            return "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])

    return {"prose": asyncio.run(run())}


@scenario("tools")
def tools(way: Way) -> dict[str, Any]:
    """A call, its result, and the answer to it."""
    first = ask(way, prompt="weather", tools=TOOLS)
    message = first.choices[0].message
    calls = [{"role": "tool", "tool_call_id": c.id, "content": RESULT} for c in message.tool_calls]
    turns = [user(ASK["weather"]), message.model_dump(exclude_none=True), *calls]
    second = client(way).chat.completions.create(model=MODEL["chat"], messages=turns, tools=TOOLS)
    return {"prose": second.choices[0].message.content, "exact": [plain(message), facts(first), facts(second)]}


@scenario("tools")
def tools_stream(way: Way) -> dict[str, Any]:
    """Words, then a call, through the helper; the whole turn goes back."""
    events, final = helped(way, prompt="look", tools=TOOLS)
    message = final.choices[0].message
    done = [[e.name, e.index, e.arguments] for e in events if e.type == "tool_calls.function.arguments.done"]
    said = [e.content for e in events if e.type == "content.done"]
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": RESULT}
    back = {"role": "assistant", "content": message.content, "tool_calls": [plain(c) for c in message.tool_calls]}
    for call in back["tool_calls"]:
        call["function"].pop("parsed_arguments", None)
        call.pop("index", None)
    turns: Any = [user(ASK["look"]), back, result]
    second = client(way).chat.completions.create(model=MODEL["chat"], messages=turns, tools=TOOLS)
    return {
        "opening": {"done": said, "final": message.content},
        "prose": second.choices[0].message.content,
        "exact": [done, [plain(call) for call in message.tool_calls], facts(final)],
    }


@scenario("structured")
def structured(way: Way) -> dict[str, Any]:
    turns: Any = [user(ASK["extract"])]
    answer = client(way).chat.completions.parse(model=MODEL["chat"], messages=turns, response_format=City)
    message = answer.choices[0].message
    return {"exact": [message.content, plain(message.parsed), facts(answer)]}


@scenario("structured")
def structured_stream(way: Way) -> dict[str, Any]:
    events, final = helped(way, prompt="extract", response_format=City)
    done = [[e.content, plain(e.parsed)] for e in events if e.type == "content.done"]
    return {"exact": [done, plain(final.choices[0].message.parsed), facts(final)]}


@scenario("completions")
def completions(way: Way) -> dict[str, Any]:
    answer = client(way).completions.create(model=MODEL["completions"], prompt=ASK["river"], n=2)
    return {"prose": [choice.text for choice in answer.choices], "exact": facts(answer)}


@scenario("completions")
def completions_stream(way: Way) -> dict[str, Any]:
    more: Any = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client(way).completions.create(model=MODEL["completions"], prompt=ASK["river"], **more))
    texts = [choice.text for chunk in chunks for choice in chunk.choices]
    finish = [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason]
    return {"prose": "".join(texts), "exact": [finish, plain(chunks[-1].usage)], "counted": len(chunks)}


def about(response: Any) -> dict[str, Any]:
    return {
        "id": response.id,
        "status": response.status,
        "model": response.model,
        "usage": plain(response.usage),
        "items": [[item.type, item.id, getattr(item, "status", None)] for item in response.output],
        "rest": [plain(item) for item in response.output if item.type != "message"],
    }


@scenario("responses")
def responses(way: Way) -> dict[str, Any]:
    """Two turns: the items of the first answer go back as they came."""
    first = client(way).responses.create(model=MODEL["chat"], input=ASK["river"])
    back = [item.model_dump(exclude_none=True) for item in first.output]
    turns: Any = [user(ASK["river"]), *back, user(ASK["again"])]
    second = client(way).responses.create(model=MODEL["chat"], input=turns)
    return {"prose": [first.output_text, second.output_text], "exact": [about(first), about(second)]}


@scenario("responses")
def responses_reasoning(way: Way) -> dict[str, Any]:
    answer = client(way).responses.create(model=MODEL["chat"], input=ASK["think"])
    return {"prose": answer.output_text, "exact": about(answer)}


@scenario("responses stream")
def responses_stream(way: Way) -> dict[str, Any]:
    """Every event that repeats the text must agree."""
    events: list[Any] = list(client(way).responses.create(model=MODEL["chat"], input=ASK["think"], stream=True))
    of = {kind: [e for e in events if e.type == f"response.{kind}"] for kind in ("completed", "content_part.done")}
    items = [e.item for e in events if e.type == "response.output_item.done" and e.item.type == "message"]
    return {
        "prose": {
            "deltas": "".join(e.delta for e in events if e.type == "response.output_text.delta"),
            "done": "".join(e.text for e in events if e.type == "response.output_text.done"),
            "part": "".join(e.part.text for e in of["content_part.done"]),
            "item": "".join(part.text for item in items for part in item.content),
            "final": of["completed"][-1].response.output_text,
        },
        "exact": {
            "types": [e.type for e in events],
            "final": about(of["completed"][-1].response),
            "reasoning": "".join(e.delta for e in events if e.type == "response.reasoning_summary_text.delta"),
        },
    }


@scenario("responses stream")
def responses_stream_helper(way: Way) -> dict[str, Any]:
    with client(way).responses.stream(model=MODEL["chat"], input=ASK["river"]) as stream:
        events: list[Any] = list(stream)
        final = stream.get_final_response()
    deltas = [e for e in events if e.type == "response.output_text.delta"]
    return {
        "prose": {
            "deltas": "".join(e.delta for e in deltas),
            "snapshot": deltas[-1].snapshot,
            "done": "".join(e.text for e in events if e.type == "response.output_text.done"),
            "final": final.output_text,
        },
        "exact": [about(final), [e.type for e in events]],
    }


@scenario("tools")
def responses_tools(way: Way) -> dict[str, Any]:
    first = client(way).responses.create(model=MODEL["chat"], input=ASK["weather"], tools=RESPONSES_TOOLS)
    call: Any = first.output[0]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}
    turns: Any = [user(ASK["weather"]), call.model_dump(exclude_none=True), result]
    second = client(way).responses.create(model=MODEL["chat"], input=turns, tools=RESPONSES_TOOLS)
    return {"prose": second.output_text, "exact": [about(first), about(second), json.loads(call.arguments)]}


@scenario("tools")
def responses_tools_stream(way: Way) -> dict[str, Any]:
    with client(way).responses.stream(model=MODEL["chat"], input=ASK["look"], tools=RESPONSES_TOOLS) as stream:
        events: list[Any] = list(stream)
        final = stream.get_final_response()
    done = [e.arguments for e in events if e.type == "response.function_call_arguments.done"]
    return {"opening": final.output_text, "exact": [done, about(final)]}


@scenario("structured")
def responses_structured(way: Way) -> dict[str, Any]:
    answer = client(way).responses.parse(model=MODEL["chat"], input=ASK["extract"], text_format=City)
    return {"exact": [answer.output_text, plain(answer.output_parsed), about(answer)]}


if __name__ == "__main__":
    play("openai")
