"""pydantic-ai: chat, responses and messages models; tools, and output by tool and by schema."""

import asyncio
from typing import Any

from play import ASK, MODEL, RESULT, Way, plain, play, scenario
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider


class City(BaseModel):
    name: str
    population: int


def chat_model(way: Way) -> Any:
    return OpenAIChatModel(MODEL["chat"], provider=OpenAIProvider(base_url=way.v1, api_key=way.key))


def responses_model(way: Way) -> Any:
    return OpenAIResponsesModel(MODEL["chat"], provider=OpenAIProvider(base_url=way.v1, api_key=way.key))


def messages_model(way: Way) -> Any:
    return AnthropicModel(MODEL["messages"], provider=AnthropicProvider(base_url=way.base, api_key=way.key))


def agent(model: Any, **more: Any) -> Any:
    made: Any = Agent(model, **more)

    @made.tool_plain
    def get_weather(city: str) -> str:
        """Look up the weather in a city."""
        return RESULT

    return made


def parts(result: Any) -> list[Any]:
    """List what the run was made of, text aside."""
    shown = []
    for message in result.all_messages():
        for part in message.parts:
            if part.part_kind in ("tool-call", "tool-return", "thinking"):
                shown.append(
                    [
                        part.part_kind,
                        getattr(part, "tool_name", None),
                        getattr(part, "args", None),
                        part.content if part.part_kind != "tool-call" else None,
                    ]
                )
    return shown


def usage(result: Any) -> list[int]:
    used = result.usage() if callable(result.usage) else result.usage
    return [used.input_tokens, used.output_tokens, used.requests]


def turns(model: Any) -> dict[str, Any]:
    made = Agent(model)
    first = made.run_sync(ASK["river"])
    second = made.run_sync(ASK["again"], message_history=first.all_messages())
    return {"prose": [first.output, second.output], "exact": [usage(first), usage(second), parts(second)]}


def streamed(model: Any, prompt: str) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        async with Agent(model).run_stream(ASK[prompt]) as result:
            deltas = [delta async for delta in result.stream_text(delta=True, debounce_by=None)]
            return {"prose": {"deltas": "".join(deltas), "output": await result.get_output()}, "exact": parts(result)}

    return asyncio.run(run())


def called(model: Any) -> dict[str, Any]:
    result = agent(model).run_sync(ASK["weather"])
    return {"prose": result.output, "exact": [parts(result), usage(result)]}


def structured(model: Any, kind: Any) -> dict[str, Any]:
    result = Agent(model, output_type=kind).run_sync(ASK["extract"])
    return {"exact": [plain(result.output), usage(result)]}


@scenario("chat")
def chat(way: Way) -> dict[str, Any]:
    return turns(chat_model(way))


@scenario("chat stream")
def chat_stream(way: Way) -> dict[str, Any]:
    return streamed(chat_model(way), "think")


@scenario("responses")
def responses(way: Way) -> dict[str, Any]:
    return turns(responses_model(way))


@scenario("responses stream")
def responses_stream(way: Way) -> dict[str, Any]:
    return streamed(responses_model(way), "think")


@scenario("messages")
def messages(way: Way) -> dict[str, Any]:
    return turns(messages_model(way))


@scenario("messages stream")
def messages_stream(way: Way) -> dict[str, Any]:
    return streamed(messages_model(way), "think")


@scenario("tools")
def chat_tools(way: Way) -> dict[str, Any]:
    return called(chat_model(way))


@scenario("tools")
def responses_tools(way: Way) -> dict[str, Any]:
    return called(responses_model(way))


@scenario("tools")
def messages_tools(way: Way) -> dict[str, Any]:
    return called(messages_model(way))


@scenario("structured")
def structured_tool(way: Way) -> dict[str, Any]:
    return structured(chat_model(way), City)


@scenario("structured")
def structured_schema(way: Way) -> dict[str, Any]:
    return structured(chat_model(way), NativeOutput(City))


@scenario("structured")
def structured_responses(way: Way) -> dict[str, Any]:
    return structured(responses_model(way), NativeOutput(City))


@scenario("structured")
def structured_messages(way: Way) -> dict[str, Any]:
    return structured(messages_model(way), City)


if __name__ == "__main__":
    play("pydantic-ai-slim", "openai", "anthropic")
