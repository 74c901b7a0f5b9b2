"""openai-agents: agents over responses and over chat completions, whole and streamed, with tools and output types."""

import asyncio
from typing import Any

from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from openai import AsyncOpenAI
from play import ASK, MODEL, RESULT, Way, plain, play, scenario, user
from pydantic import BaseModel

set_tracing_disabled(True)


class City(BaseModel):
    name: str
    population: int


@function_tool
def get_weather(city: str) -> str:
    """Look up the weather in a city."""
    return RESULT


def model(way: Way, kind: Any) -> Any:
    return kind(model=MODEL["chat"], openai_client=AsyncOpenAI(base_url=way.v1, api_key=way.key, max_retries=0))


def agent(way: Way, kind: Any, **more: Any) -> Any:
    return Agent(name="guide", model=model(way, kind), **more)


def facts(result: Any) -> list[Any]:
    used = result.context_wrapper.usage
    calls = [plain(item.raw_item) for item in result.new_items if item.type == "tool_call_item"]
    return [[item.type for item in result.new_items], calls, [used.requests, used.input_tokens, used.output_tokens]]


def turns(way: Way, kind: Any) -> dict[str, Any]:
    guide = agent(way, kind)
    first = Runner.run_sync(guide, ASK["river"])
    second = Runner.run_sync(guide, [*first.to_input_list(), user(ASK["again"])])
    return {"prose": [first.final_output, second.final_output], "exact": [facts(first), facts(second)]}


def streamed(way: Way, kind: Any, prompt: str, **more: Any) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        result = Runner.run_streamed(agent(way, kind, **more), ASK[prompt])
        events = [e.data async for e in result.stream_events() if e.type == "raw_response_event"]
        deltas = "".join(e.delta for e in events if e.type == "response.output_text.delta")
        return {"prose": {"deltas": deltas, "final": result.final_output}, "exact": facts(result)}

    return asyncio.run(run())


def called(way: Way, kind: Any) -> dict[str, Any]:
    result = Runner.run_sync(agent(way, kind, tools=[get_weather]), ASK["weather"])
    return {"prose": result.final_output, "exact": facts(result)}


def structured(way: Way, kind: Any) -> dict[str, Any]:
    result = Runner.run_sync(agent(way, kind, output_type=City), ASK["extract"])
    return {"exact": [plain(result.final_output), facts(result)]}


@scenario("chat")
def chat(way: Way) -> dict[str, Any]:
    return turns(way, OpenAIChatCompletionsModel)


@scenario("chat stream")
def chat_stream(way: Way) -> dict[str, Any]:
    return streamed(way, OpenAIChatCompletionsModel, "think")


@scenario("responses")
def responses(way: Way) -> dict[str, Any]:
    return turns(way, OpenAIResponsesModel)


@scenario("responses stream")
def responses_stream(way: Way) -> dict[str, Any]:
    return streamed(way, OpenAIResponsesModel, "think")


@scenario("tools")
def chat_tools(way: Way) -> dict[str, Any]:
    return called(way, OpenAIChatCompletionsModel)


@scenario("tools")
def responses_tools(way: Way) -> dict[str, Any]:
    return called(way, OpenAIResponsesModel)


@scenario("tools")
def responses_tools_stream(way: Way) -> dict[str, Any]:
    return streamed(way, OpenAIResponsesModel, "weather", tools=[get_weather])


@scenario("structured")
def chat_structured(way: Way) -> dict[str, Any]:
    return structured(way, OpenAIChatCompletionsModel)


@scenario("structured")
def responses_structured(way: Way) -> dict[str, Any]:
    return structured(way, OpenAIResponsesModel)


if __name__ == "__main__":
    play("openai-agents", "openai")
