"""What of a client's body may reach litellm, and for which model. No I/O here.

litellm takes endpoints, keys, headers and callbacks as arguments beside the parameters of the API. From a client they
would send the operator's credentials to another host, so there is a list of what passes, and none of what does not.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

from llm_label.errors import ClientError

__all__ = ["Refused", "arguments", "chosen"]

_SAMPLING = ["model", "stream", "temperature", "top_p", "user", "service_tier", "safety_identifier", "prompt_cache_key"]

# route -> parameters of its API that go to litellm as they are; `thinking` and `top_k` are what other makers' models
# have and OpenAI's do not.
PASSED: dict[str, frozenset[str]] = {
    "/v1/chat/completions": frozenset(
        _SAMPLING
        + ["messages", "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs"]
        + ["max_completion_tokens", "max_tokens", "modalities", "n", "parallel_tool_calls", "prediction"]
        + ["presence_penalty", "reasoning_effort", "response_format", "seed", "stop", "store", "stream_options"]
        + ["tool_choice", "tools", "top_logprobs", "verbosity", "web_search_options", "thinking", "top_k"]
    ),
    "/v1/embeddings": frozenset(["model", "input", "dimensions", "encoding_format", "user"]),
}
# What tags a request for its owner and changes no answer. litellm reads its own orders from a `metadata`.
LEFT_OUT = frozenset(["metadata"])
# No URL, no empty segment, no step up: some providers take the model for a part of the address, or for all of it.
MODEL = re.compile(r"[A-Za-z0-9][\w.:@+~-]*(/[A-Za-z0-9][\w.:@+~-]*)*", re.ASCII)
MODEL_LENGTH = 300  # an ARN of a Bedrock inference profile has about 130 characters
IN_PROCESS = frozenset(["vllm", "petals"])  # would load the model that is named here, in the proxy
MCP = "mcp"  # litellm calls these tools itself


class Refused(ClientError):
    """A request that does not go to litellm, and the field that is why."""

    def __init__(self, message: str, param: str, code: str = "invalid_request") -> None:
        super().__init__(message, code=code)
        self.param = param


def arguments(path: str, raw: bytes, address: str) -> dict[str, Any]:
    """Return what to call litellm with. Raises Refused."""
    body = _body(raw)
    passed = PASSED[path]
    unknown = sorted(key for key in body if key not in passed and key not in LEFT_OUT and body[key] is not None)
    if unknown:
        raise Refused(
            f"{unknown[0][:80]!r} cannot be set through this server; {path} takes {', '.join(sorted(passed))}",
            unknown[0][:80],
            "unsupported_parameter",
        )
    given = {key: value for key, value in body.items() if key in passed and value is not None}
    _check(given)
    return {**given, "model": chosen(address, given.get("model"))}


def _check(given: Mapping[str, Any]) -> None:
    """Refuse what litellm takes and does not do as the API does."""
    if given.get("stream") and given.get("n") not in (None, 1):
        raise Refused("n above 1 is not offered in streams: litellm passes on the end of one choice alone", "n")
    tools = given.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and tool.get("type") == MCP:
            raise Refused("tools of type 'mcp' are not offered: this server would call them itself", "tools")


def chosen(address: str, asked: Any) -> str:
    """Name the model as litellm does: the address, `PREFIX/` and the one asked for, or the one asked for as it is."""
    if address and not address.endswith("/"):
        return address
    if not isinstance(asked, str) or not asked:
        raise Refused("model must be the name of a model, a string", "model")
    if len(asked) > MODEL_LENGTH or not MODEL.fullmatch(asked):
        raise Refused(f"model {asked[:80]!r} is not the name of a model, such as {example(address)!r}", "model")
    name = asked if asked.startswith(address) else address + asked
    if name.partition("/")[0] in IN_PROCESS:
        raise Refused(f"model {asked[:80]!r} would be loaded by this server itself, which is not offered", "model")
    return name


def example(address: str) -> str:
    return f"{address}MODEL" if address else "gemini/gemini-2.5-flash"


def _body(raw: bytes) -> Mapping[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refused(f"the body is not JSON: {error}", "body") from None
    if not isinstance(body, dict):
        raise Refused("the body must be a JSON object", "body")
    return body
