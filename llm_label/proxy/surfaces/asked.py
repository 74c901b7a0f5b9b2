"""What requests of several APIs have in common: what makes an answer something that programs parse. No I/O here."""

from collections.abc import Mapping
from typing import Any

from llm_label.errors import ClientError

__all__ = ["STRUCTURED", "count", "greedy", "json_only", "messages", "model", "plain", "structured"]

# Request fields of OpenAI, vLLM, SGLang, llama.cpp and Ollama that make the answer something a program parses.
STRUCTURED = frozenset((
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
    "regex", "ebnf", "json_schema", "grammar", "format",
))  # fmt: skip


# Of these, the ones whose answer is JSON, whatever they hold.
JSON = frozenset(("guided_json", "json_schema", "format"))


def structured(body: Mapping[str, Any]) -> bool:
    """Say whether a request of the chat or completions API asks for JSON, a schema, a grammar or a regex."""
    asked = body.get("response_format")
    kind = asked.get("type") if isinstance(asked, dict) else None
    if kind in ("json_object", "json_schema", "grammar", "regex"):
        return True
    return not STRUCTURED.isdisjoint(body) and any(body.get(key) for key in STRUCTURED)


def json_only(body: Mapping[str, Any]) -> bool:
    """Say whether a structured answer has to be JSON, so that one that is none shows that nobody enforced it."""
    asked, given = body.get("response_format"), body.get("structured_outputs")
    if asked is None and STRUCTURED.isdisjoint(body):
        return False
    kinds = [asked.get("type") in ("json_object", "json_schema")] if isinstance(asked, dict) else []
    kinds += [not given.keys().isdisjoint(("json", "json_object"))] if isinstance(given, dict) and given else []
    kinds += [key in JSON for key in STRUCTURED - {"structured_outputs"} if body.get(key)]
    return bool(kinds) and all(kinds)


def greedy(body: Mapping[str, Any]) -> bool:
    """Say whether nothing is left to chance: temperature 0, or beams."""
    temperature = body.get("temperature")
    return bool(isinstance(temperature, int | float) and temperature == 0) or bool(body.get("use_beam_search"))


def count(body: Mapping[str, Any]) -> int:
    """Return how many answers are asked for."""
    n = body.get("n")
    return n if isinstance(n, int) and n > 0 else 1


def messages(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the turns of a conversation. Raises ClientError for what is no list of objects."""
    given = body.get("messages")
    if not isinstance(given, list) or not all(isinstance(turn, dict) for turn in given):
        raise ClientError("messages must be a list of objects with role and content")
    return given


def model(body: Mapping[str, Any]) -> str | None:
    given = body.get("model")
    return given if isinstance(given, str) else None


def plain(content: Any) -> str:
    """Return the text of a message's content: a string, or a list with text parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str))
