"""Read the body of a chat completion request, or say in one line what is wrong with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from llm_label.errors import ClientError

__all__ = ["ChatRequest", "RequestRefused"]

ROLES = ("system", "developer", "user", "assistant")
MAX_CHOICES = 16
MAX_STOPS = 4
# Fields that change what an answer must be and that this server cannot honour, with the values that ask for nothing.
UNSUPPORTED: Mapping[str, tuple[Any, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "min_p": (0,),
    "audio": (),
    "modalities": (["text"],),
    "structured_outputs": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_choice": (),
    "guided_grammar": (),
}


class RequestRefused(ClientError):
    """The request is wrong or asks for what this server has not; `param` names the field."""

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(message, code=code)
        self.param = param


@dataclass(frozen=True)
class ChatRequest:
    """A chat completion request with every default filled in."""

    messages: tuple[dict[str, str], ...]
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # 0: all tokens
    max_tokens: int | None = None  # None: as many as the context holds
    stop: tuple[str, ...] = ()
    seed: int | None = None

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def prefilled(self) -> bool:
        return self.messages[-1]["role"] == "assistant"

    @classmethod
    def parse(cls, raw: bytes) -> "ChatRequest":
        """Read a body. Raises RequestRefused."""
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise RequestRefused(f"the body is not JSON: {error}", code="invalid_json") from None
        if not isinstance(body, dict):
            raise RequestRefused("the body must be a JSON object with messages", code="invalid_json")
        body = {name: value for name, value in body.items() if value is not None}
        _refuse_unsupported(body)
        return cls(
            messages=_messages(body.get("messages")),
            stream=_flag(body, "stream"),
            include_usage=_include_usage(body),
            n=_whole(body, "n", 1, MAX_CHOICES, 1),
            temperature=_number(body, "temperature", 1.0, lambda t: 0 <= t <= 2, "from 0 to 2"),
            top_p=_number(body, "top_p", 1.0, lambda p: 0 < p <= 1, "above 0 and at most 1"),
            top_k=max(0, _whole(body, "top_k", -1, None, 0)),
            max_tokens=_max_tokens(body),
            stop=_stops(body),
            seed=_whole(body, "seed", -(2**63), 2**63 - 1, None),
        )


def _refuse_unsupported(body: Mapping[str, Any]) -> None:
    for name, neutral in UNSUPPORTED.items():
        if name in body and body[name] not in neutral:
            raise RequestRefused(
                f"{name} is not supported by the local upstream; leave it out", name, "unsupported_parameter"
            )


def _messages(given: Any) -> tuple[dict[str, str], ...]:
    if not isinstance(given, list) or not given:
        raise RequestRefused("messages must be a list of at least one object with role and content", "messages")
    return tuple(_message(index, message) for index, message in enumerate(given))


def _message(index: int, message: Any) -> dict[str, str]:
    where = f"messages[{index}]"
    if not isinstance(message, dict):
        raise RequestRefused(f"{where} must be an object with role and content", where)
    role = message.get("role")
    if role not in ROLES:
        raise RequestRefused(f"{where}.role is {role!r}; this server knows {', '.join(ROLES)}", f"{where}.role")
    return {"role": role, "content": _content(where + ".content", message.get("content"))}


def _content(where: str, content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise RequestRefused(f"{where} must be a string or a list of text parts", where)
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise RequestRefused(f"{where} may hold parts of type text only", where)
        texts.append(text)
    return "\n".join(texts)


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise RequestRefused(f"{name} must be true or false", name)
    return value


def _include_usage(body: Mapping[str, Any]) -> bool:
    options = body.get("stream_options", {})
    if not isinstance(options, dict):
        raise RequestRefused("stream_options must be an object", "stream_options")
    if options and not body.get("stream"):
        raise RequestRefused("stream_options is only allowed with stream: true", "stream_options")
    return _flag({k: v for k, v in options.items() if v is not None}, "include_usage")


def _whole(body: Mapping[str, Any], name: str, low: int, high: int | None, default: Any) -> Any:
    value = body.get(name, default)
    if name not in body:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        allowed = f"at least {low}" if high is None else f"from {low} to {high}"
        raise RequestRefused(f"{name} must be a whole number {allowed}, not {_shown(value)}", name)
    return value


def _number(body: Mapping[str, Any], name: str, default: float, allowed: Callable[[float], bool], words: str) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not allowed(value):
        raise RequestRefused(f"{name} must be a number {words}, not {_shown(value)}", name)
    return float(value)


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    name = "max_completion_tokens" if "max_completion_tokens" in body else "max_tokens"
    limit: int | None = _whole(body, name, 1, None, None)
    return limit


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    given = body.get("stop", [])
    stops = [given] if isinstance(given, str) else given
    if not isinstance(stops, list) or len(stops) > MAX_STOPS or not all(isinstance(s, str) for s in stops):
        raise RequestRefused(f"stop must be a string or a list of at most {MAX_STOPS} strings", "stop")
    if "" in stops:
        raise RequestRefused("stop must not hold an empty string", "stop")
    return tuple(stops)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"
