"""The `llm` command line, as its user types it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from play import ASK, MODEL, RESULT, SCRIPT, Way, play, scenario

MODELS = """
- model_id: river
  model_name: {chat}
  api_base: {v1}
  api_key_name: house
  supports_tools: true
  supports_schema: true
- model_id: legacy
  model_name: {completions}
  api_base: {v1}
  api_key_name: house
  completion: true
"""
TOOL = f"""
def get_weather(city: str) -> str:
    "Look up the weather in a city."
    return {RESULT!r}
"""
PROGRAM = str(Path(sys.executable).with_name("llm"))


class Home:
    """A user's folder of its own, with both models in it."""

    def __init__(self, way: Way) -> None:
        self.folder = tempfile.mkdtemp()
        models = MODELS.format(v1=way.v1, chat=MODEL["chat"], completions=MODEL["completions"])
        Path(self.folder, "extra-openai-models.yaml").write_text(models)
        Path(self.folder, "keys.json").write_text(json.dumps({"house": way.key}))

    def __enter__(self) -> "Home":
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, *arguments: str) -> str:
        environment = {**os.environ, "LLM_USER_PATH": self.folder}
        done = subprocess.run([PROGRAM, *arguments], env=environment, capture_output=True, encoding="utf-8", timeout=60)
        if done.returncode:
            raise RuntimeError(f"llm {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-400:]}")
        return done.stdout.removesuffix("\n")


@scenario("chat")
def chat(way: Way) -> dict[str, Any]:
    """Two turns: `-c` sends back what the log holds."""
    with Home(way) as home:
        first = home.run("-m", "river", "--no-stream", ASK["river"])
        second = home.run("-c", "--no-stream", ASK["again"])
        logged = json.loads(home.run("logs", "--json", "-n", "0"))
    used = [[row["input_tokens"], row["output_tokens"]] for row in logged]
    return {"prose": [first, second, [row["response"] for row in logged]], "exact": used}


@scenario("chat stream")
def chat_stream(way: Way) -> dict[str, Any]:
    with Home(way) as home:
        return {"prose": home.run("-m", "river", ASK["river"])}


@scenario("completions")
def completions(way: Way) -> dict[str, Any]:
    with Home(way) as home:
        streamed = home.run("-m", "legacy", ASK["river"])
        return {"prose": [streamed, home.run("-m", "legacy", "--no-stream", ASK["river"])]}


@scenario("tools")
def tools(way: Way) -> dict[str, Any]:
    with Home(way) as home:
        said = home.run("-m", "river", "--functions", TOOL, "--no-stream", ASK["weather"])
        logged = json.loads(home.run("logs", "--json", "-n", "0"))
    return {"prose": said, "exact": [[c["name"], c["arguments"]] for row in logged for c in row["tool_calls"]]}


@scenario("structured")
def structured(way: Way) -> dict[str, Any]:
    with Home(way) as home:
        return {"exact": home.run("-m", "river", "--schema", json.dumps(SCRIPT["city"]), ASK["extract"])}


if __name__ == "__main__":
    play("llm", "openai")
