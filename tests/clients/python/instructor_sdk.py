"""instructor: every mode in which it reads structured output, whole and streamed."""

from typing import Any

import instructor
from openai import OpenAI
from play import ASK, MODEL, Way, plain, play, scenario, user
from pydantic import BaseModel


class City(BaseModel):
    name: str
    population: int


def client(way: Way, mode: instructor.Mode) -> Any:
    return instructor.from_openai(OpenAI(base_url=way.v1, api_key=way.key, max_retries=0), mode=mode)


def extracted(way: Way, mode: instructor.Mode) -> dict[str, Any]:
    ask: Any = {"model": MODEL["chat"], "messages": [user(ASK["extract"])], "max_retries": 1}
    city, completion = client(way, mode).create_with_completion(response_model=City, **ask)
    return {"exact": [plain(city), completion.id, plain(completion.choices[0].message), plain(completion.usage)]}


def streamed(way: Way, mode: instructor.Mode) -> dict[str, Any]:
    ask: Any = {"model": MODEL["chat"], "messages": [user(ASK["extract"])], "max_retries": 1}
    partial = [plain(city) for city in client(way, mode).create_partial(response_model=City, **ask)]
    return {"exact": partial}


@scenario("chat")
def chat(way: Way) -> dict[str, Any]:
    """No model to fill: instructor hands the answer through."""
    ask: Any = {"model": MODEL["chat"], "messages": [user(ASK["river"])]}
    answer = client(way, instructor.Mode.TOOLS).create(response_model=None, **ask)
    return {"prose": answer.choices[0].message.content, "exact": [answer.id, plain(answer.usage)]}


@scenario("tools")
def tools(way: Way) -> dict[str, Any]:
    return extracted(way, instructor.Mode.TOOLS)


@scenario("tools")
def tools_stream(way: Way) -> dict[str, Any]:
    return streamed(way, instructor.Mode.TOOLS)


@scenario("structured")
def json_mode(way: Way) -> dict[str, Any]:
    return extracted(way, instructor.Mode.JSON)


@scenario("structured")
def json_schema(way: Way) -> dict[str, Any]:
    return extracted(way, instructor.Mode.JSON_SCHEMA)


@scenario("structured")
def markdown_json(way: Way) -> dict[str, Any]:
    """No response_format: the JSON stands in a text that people could read, so it is labelled and still parses."""
    ask: Any = {"model": MODEL["chat"], "messages": [user(ASK["extract"])], "max_retries": 1}
    city, completion = client(way, instructor.Mode.MD_JSON).create_with_completion(response_model=City, **ask)
    return {"exact": plain(city), "prose": completion.choices[0].message.content}


@scenario("structured")
def json_stream(way: Way) -> dict[str, Any]:
    return streamed(way, instructor.Mode.JSON)


if __name__ == "__main__":
    play("instructor", "openai")
