"""openai-python, 2.x and 3.x: every surface it speaks, raw iteration and the `.stream()` helpers."""

import asyncio
from typing import Any

import openai_responses as openai_responses  # registers its scenarios
from openai import APIError, AsyncOpenAI, BadRequestError
from openai_client import City, client, content_id, header_id
from play import ASK, MODEL, RESULT, WEATHER, Way, plain, play, scenario, user

TOOLS: Any = [{"type": "function", "function": {**WEATHER, "strict": True}}]


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
def chat_marks(way: Way) -> dict[str, Any]:
    """The one number: the header and the body name the same content id."""
    raw = client(way).chat.completions.with_raw_response.create(model=MODEL["chat"], messages=[user(ASK["river"])])
    answer = raw.parse()
    return {"marks": {"header": header_id(raw), "body": content_id(answer)}, "prose": answer.choices[0].message.content}


@scenario("chat stream")
def chat_stream_marks(way: Way) -> dict[str, Any]:
    more: Any = {"model": MODEL["chat"], "messages": [user(ASK["river"])], "stream": True}
    raw = client(way).chat.completions.with_raw_response.create(**more)
    chunks = list(raw.parse())
    ids = [content_id(chunk) for chunk in chunks if chunk.model_extra.get("llm_label")]
    ends = {"first": ids[0], "last": ids[-1]} if len(ids) == 2 else {"first": None, "last": None}
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    return {"marks": {"header": header_id(raw), **ends}, "prose": text}


@scenario("chat")
def chat_choices(way: Way) -> dict[str, Any]:
    answer = ask(way, "choices", n=2)
    return {"prose": [c.message.content for c in answer.choices], "exact": facts(answer)}


@scenario("chat")
def chat_silent(way: Way) -> dict[str, Any]:
    """A refusal and a legacy function call hold no prose, whole or streamed."""
    whole = [plain(ask(way, model).choices[0].message) for model in ("refusal", "legacy")]
    chunks = [list(ask(way, model, stream=True)) for model in ("refusal", "legacy")]
    return {"exact": [whole, [[plain(c.choices[0].delta) for c in row] for row in chunks]]}


@scenario("chat")
def chat_retrieve(way: Way) -> dict[str, Any]:
    """A stored answer is fetched again: the same label, the same content id."""
    first = ask(way, "odd", store=True)
    again = client(way).chat.completions.retrieve(first.id)
    texts = [answer.choices[0].message.content for answer in (first, again)]
    return {
        "prose": texts,
        "exact": [facts(first), facts(again)],
        "marks": {"first": content_id(first), "again": content_id(again)},
    }


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
def chat_stream_broken(way: Way) -> dict[str, Any]:
    """The upstream breaks off with an error frame: the user gets the exception, and the text so far."""
    said = []
    try:
        for chunk in ask(way, "broken", stream=True):
            said.append(chunk.choices[0].delta.content or "")
    except APIError as error:
        return {"opening": "".join(said), "exact": [type(error).__name__, error.message, error.code]}
    raise AssertionError("no error was raised")


@scenario("chat stream")
def chat_stream_left(way: Way) -> dict[str, Any]:
    """The user leaves after the first words, and asks again."""
    with ask(way, "odd", stream=True) as stream:
        first = next(c.choices[0].delta.content for c in stream if c.choices and c.choices[0].delta.content)
    again = ask(way)
    return {"opening": first, "prose": again.choices[0].message.content, "exact": facts(again)}


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


if __name__ == "__main__":
    play("openai")
