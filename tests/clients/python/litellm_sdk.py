"""The litellm SDK: its OpenAI and Anthropic providers, completions and responses."""

from typing import Any

import litellm
from play import ASK, MODEL, RESULT, WEATHER, Way, plain, play, scenario, user
from pydantic import BaseModel

TOOLS: Any = [{"type": "function", "function": WEATHER}]
litellm.telemetry = False
litellm.suppress_debug_info = True


class City(BaseModel):
    name: str
    population: int


def ask(way: Way, turns: list[Any], model: str = "chat", **more: Any) -> Any:
    name = f"openai/{MODEL[model]}"
    return litellm.completion(model=name, messages=turns, api_base=way.v1, api_key=way.key, max_retries=0, **more)


def ask_anthropic(way: Way, turns: list[Any], **more: Any) -> Any:
    name = f"anthropic/{MODEL['messages']}"
    return litellm.completion(model=name, messages=turns, api_base=way.base, api_key=way.key, **more)


def facts(answer: Any) -> dict[str, Any]:
    message = answer.choices[0].message
    return {
        "usage": [answer.usage.prompt_tokens, answer.usage.completion_tokens],
        "finish": [choice.finish_reason for choice in answer.choices],
        "reasoning": getattr(message, "reasoning_content", None),
        "calls": [plain(call) for call in message.tool_calls or []],
    }


def back(answer: Any) -> dict[str, Any]:
    return dict(answer.choices[0].message.model_dump(exclude_none=True))


def results(answer: Any) -> list[dict[str, Any]]:
    calls = answer.choices[0].message.tool_calls
    return [{"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in calls]


def whole(chunks: list[Any]) -> dict[str, Any]:
    """Show a stream as its user sees it: joined, and rebuilt by litellm's own helper."""
    built = litellm.stream_chunk_builder(chunks)
    deltas = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    finish = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    calls = [plain(call) for call in built.choices[0].message.tool_calls or []]
    reasoning = getattr(built.choices[0].message, "reasoning_content", None)
    return {"texts": {"deltas": deltas, "built": built.choices[0].message.content}, "rest": [finish, calls, reasoning]}


@scenario("chat")
def chat(way: Way) -> dict[str, Any]:
    first = ask(way, [user(ASK["river"])])
    second = ask(way, [user(ASK["river"]), back(first), user(ASK["again"])])
    return {
        "prose": [first.choices[0].message.content, second.choices[0].message.content],
        "exact": [facts(first), facts(second)],
    }


@scenario("chat")
def chat_reasoning(way: Way) -> dict[str, Any]:
    answer = ask(way, [user(ASK["think"])])
    return {"prose": answer.choices[0].message.content, "exact": facts(answer)}


@scenario("chat stream")
def chat_stream(way: Way) -> dict[str, Any]:
    seen = whole(list(ask(way, [user(ASK["river"])], stream=True)))
    return {"prose": seen["texts"], "exact": seen["rest"]}


@scenario("completions")
def completions(way: Way) -> dict[str, Any]:
    name = f"text-completion-openai/{MODEL['completions']}"
    answer = litellm.text_completion(model=name, prompt=ASK["river"], api_base=way.v1, api_key=way.key)
    return {"prose": answer.choices[0].text, "exact": answer.choices[0].finish_reason}


@scenario("responses")
def responses(way: Way) -> dict[str, Any]:
    name = f"openai/{MODEL['chat']}"
    answer = litellm.responses(model=name, input=ASK["river"], api_base=way.v1, api_key=way.key)
    return {"prose": answer.output[-1].content[0].text, "exact": [answer.status, plain(answer.usage)]}


@scenario("responses stream")
def responses_stream(way: Way) -> dict[str, Any]:
    name = f"openai/{MODEL['chat']}"
    stream = litellm.responses(model=name, input=ASK["river"], stream=True, api_base=way.v1, api_key=way.key)
    events: list[Any] = list(stream)
    final = [e for e in events if e.type == "response.completed"][-1].response
    deltas = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    return {"prose": {"deltas": deltas, "final": final.output[-1].content[0].text}, "exact": [e.type for e in events]}


@scenario("messages")
def messages(way: Way) -> dict[str, Any]:
    first = ask_anthropic(way, [user(ASK["river"])])
    second = ask_anthropic(way, [user(ASK["river"]), back(first), user(ASK["again"])])
    return {
        "prose": [first.choices[0].message.content, second.choices[0].message.content],
        "exact": [facts(first), facts(second)],
    }


@scenario("messages stream")
def messages_stream(way: Way) -> dict[str, Any]:
    seen = whole(list(ask_anthropic(way, [user(ASK["think"])], stream=True)))
    return {"prose": seen["texts"], "exact": seen["rest"]}


@scenario("tools")
def tools(way: Way) -> dict[str, Any]:
    first = ask(way, [user(ASK["weather"])], tools=TOOLS)
    second = ask(way, [user(ASK["weather"]), back(first), *results(first)], tools=TOOLS)
    return {"prose": second.choices[0].message.content, "exact": [facts(first), facts(second)]}


@scenario("tools")
def tools_stream(way: Way) -> dict[str, Any]:
    seen = whole(list(ask(way, [user(ASK["look"])], tools=TOOLS, stream=True)))
    return {"opening": seen["texts"], "exact": seen["rest"]}


@scenario("tools")
def messages_tools(way: Way) -> dict[str, Any]:
    first = ask_anthropic(way, [user(ASK["weather"])], tools=TOOLS)
    second = ask_anthropic(way, [user(ASK["weather"]), back(first), *results(first)], tools=TOOLS)
    return {"prose": second.choices[0].message.content, "exact": [facts(first), facts(second)]}


@scenario("structured")
def structured(way: Way) -> dict[str, Any]:
    answer = ask(way, [user(ASK["extract"])], response_format=City)
    return {"exact": [answer.choices[0].message.content, facts(answer)]}


if __name__ == "__main__":
    play("litellm", "openai")
