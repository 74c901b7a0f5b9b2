"""LangChain: ChatOpenAI over chat completions and over responses, OpenAI over completions, ChatAnthropic."""

from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from play import ASK, MODEL, RESULT, Way, plain, play, scenario
from pydantic import BaseModel


class City(BaseModel):
    name: str
    population: int


@tool
def get_weather(city: str) -> str:
    """Look up the weather in a city."""
    return RESULT


def openai(way: Way, **more: Any) -> Any:
    return ChatOpenAI(model=MODEL["chat"], base_url=way.v1, api_key=way.key, max_retries=0, **more)


def anthropic(way: Way) -> Any:
    return ChatAnthropic(model=MODEL["messages"], base_url=way.base, api_key=way.key, max_retries=0, max_tokens=4000)


def facts(message: Any) -> dict[str, Any]:
    blocks = message.content if isinstance(message.content, list) else []
    meta = {k: v for k, v in message.response_metadata.items() if k != "headers"}
    return {
        "calls": message.tool_calls,
        "usage": message.usage_metadata,
        "finish": [meta.get("finish_reason"), meta.get("stop_reason"), meta.get("status")],
        "rest": [b for b in blocks if b.get("type") != "text"],
    }


def turns(model: Any) -> dict[str, Any]:
    """Two turns: the first answer goes back as it came."""
    first = model.invoke([HumanMessage(ASK["river"])])
    second = model.invoke([HumanMessage(ASK["river"]), first, HumanMessage(ASK["again"])])
    return {"prose": [first.text, second.text], "exact": [facts(first), facts(second)]}


def streamed(model: Any, prompt: str) -> dict[str, Any]:
    chunks = list(model.stream(ASK[prompt]))
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    texts = {"deltas": "".join(c.text for c in chunks), "total": total.text}
    return {"prose": texts, "exact": [total.usage_metadata, total.tool_calls], "counted": len(chunks)}


def called(model: Any, prompt: str, field: str) -> dict[str, Any]:
    bound = model.bind_tools([get_weather])
    ask = HumanMessage(ASK[prompt])
    first = bound.invoke([ask])
    results = [ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]) for call in first.tool_calls]
    second = bound.invoke([ask, first, *results])
    seen = {"prose": second.text, "exact": [facts(first), facts(second)]}
    return {**seen, "opening": first.text} if field == "opening" else seen


@scenario("chat")
def chat(way: Way) -> dict[str, Any]:
    return turns(openai(way))


@scenario("chat stream")
def chat_stream(way: Way) -> dict[str, Any]:
    return streamed(openai(way, stream_usage=True), "river")


@scenario("completions")
def completions(way: Way) -> dict[str, Any]:
    model: Any = OpenAI(model=MODEL["completions"], base_url=way.v1, api_key=way.key, max_retries=0)
    return {"prose": {"whole": model.invoke(ASK["river"]), "stream": "".join(model.stream(ASK["river"]))}}


@scenario("responses")
def responses(way: Way) -> dict[str, Any]:
    return turns(openai(way, use_responses_api=True))


@scenario("responses stream")
def responses_stream(way: Way) -> dict[str, Any]:
    return streamed(openai(way, use_responses_api=True), "think")


@scenario("messages")
def messages(way: Way) -> dict[str, Any]:
    return turns(anthropic(way))


@scenario("messages stream")
def messages_stream(way: Way) -> dict[str, Any]:
    return streamed(anthropic(way), "think")


@scenario("tools")
def tools(way: Way) -> dict[str, Any]:
    return called(openai(way), "weather", "prose")


@scenario("tools")
def tools_and_text(way: Way) -> dict[str, Any]:
    return called(openai(way), "look", "opening")


@scenario("tools")
def responses_tools(way: Way) -> dict[str, Any]:
    return called(openai(way, use_responses_api=True), "weather", "prose")


@scenario("tools")
def messages_tools(way: Way) -> dict[str, Any]:
    return called(anthropic(way), "look", "opening")


@scenario("structured")
def structured_schema(way: Way) -> dict[str, Any]:
    return {"exact": plain(openai(way).with_structured_output(City, method="json_schema").invoke(ASK["extract"]))}


@scenario("structured")
def structured_function(way: Way) -> dict[str, Any]:
    return {"exact": plain(openai(way).with_structured_output(City, method="function_calling").invoke(ASK["extract"]))}


@scenario("structured")
def structured_json(way: Way) -> dict[str, Any]:
    return {
        "exact": plain(openai(way).with_structured_output(City, method="json_mode").invoke(ASK["extract"] + " JSON"))
    }


@scenario("structured")
def structured_messages(way: Way) -> dict[str, Any]:
    return {"exact": plain(anthropic(way).with_structured_output(City).invoke(ASK["extract"]))}


if __name__ == "__main__":
    play("langchain-openai", "langchain-anthropic", "langchain-core")
