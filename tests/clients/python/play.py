"""Play scenarios with an unmodified client, the same three ways, and print what its user sees as one JSON document.

Called as: python SCRIPT CLIENT WAY=BASE_URL …
"""

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

SCRIPT = json.loads((Path(__file__).parent.parent / "script.json").read_text(encoding="utf-8"))
ASK, MODEL, WEATHER, RESULT = SCRIPT["prompts"], SCRIPT["models"], SCRIPT["weather"], SCRIPT["weather_result"]
SCENARIOS: dict[str, tuple[str, Callable[["Way"], dict[str, Any]]]] = {}


@dataclass(frozen=True)
class Way:
    """Where one scenario goes, and as whom."""

    base: str
    key: str

    @property
    def v1(self) -> str:
        return f"{self.base}/v1"


def scenario(surface: str) -> Callable[[Callable[[Way], dict[str, Any]]], Callable[[Way], dict[str, Any]]]:
    """Register a function as a scenario of a surface."""

    def register(function: Callable[[Way], dict[str, Any]]) -> Callable[[Way], dict[str, Any]]:
        SCENARIOS[function.__name__] = (surface, function)
        return function

    return register


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def plain(value: Any) -> Any:
    """Turn a model of the client into JSON values."""
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def play(*packages: str) -> None:
    """Play every scenario every way."""
    client, *ways = sys.argv[1:]
    seen: dict[str, dict[str, Any]] = {}
    for way, base in (argument.split("=", 1) for argument in ways):
        for name, (surface, function) in SCENARIOS.items():
            print(f"{way} {name}", file=sys.stderr, flush=True)
            key = f"{client}:{name}:{way}"
            seen.setdefault(way, {})[name] = {"surface": surface, **_try(function, Way(base, key))}
    versions = {name: version(name) for name in packages}
    print(json.dumps({"versions": versions, "ways": seen}, default=str))


def _try(function: Callable[[Way], dict[str, Any]], way: Way) -> dict[str, Any]:
    try:
        return json.loads(json.dumps(function(way)))
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
