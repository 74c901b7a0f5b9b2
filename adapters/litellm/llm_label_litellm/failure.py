"""What litellm raises, as the answer of an OpenAI server: a status and one line without secrets. No I/O here."""

import re
from collections.abc import Collection
from typing import Any

import orjson

from llm_label.errors import UpstreamError, UpstreamTimeout

__all__ = ["broken", "refusal", "retry_after"]

LENGTH = 400  # characters of a message
# What keys look like in URLs, headers and messages of providers.
SECRET = re.compile(
    r"(?i)((?:api[-_ ]?)?key|token|secret|signature|credential|authorization|bearer)"
    r"(['\"]?\s*[=: ]\s*['\"]?(?:bearer\s+|basic\s+)?)(?=\S*[\d*])[\w.+/=~*%-]{6,}"
    r"|\b(?:sk-|AIza|AKIA|ASIA|ya29\.|gsk_|xai-|hf_|eyJ)[\w.*-]{6,}"
)
INTERNALS = re.compile(
    r"Traceback \(most recent call last\)|This looks like a bug in LiteLLM|File an issue if|Received chunk:"
)
WRAPPING = re.compile(r"^(litellm\.)?\w*(Error|Exception|Timeout)( \w+Error)?\s*[:-]\s*")

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
# Class name in litellm -> what clients look for in `code`.
CODES = {
    "ContextWindowExceededError": "context_length_exceeded",
    "ContentPolicyViolationError": "content_policy_violation",
    "UnsupportedParamsError": "unsupported_parameter",
    "NotFoundError": "model_not_found",
    "AuthenticationError": "provider_credentials",
    "PermissionDeniedError": "provider_credentials",
    "RateLimitError": "rate_limit_exceeded",
}
UNREACHABLE = ("APIConnectionError", "BadGatewayError")


def refusal(error: Exception, secrets: Collection[str]) -> tuple[int, dict[str, Any]]:
    """Return status and error object for a request that the provider, or litellm itself, refused.

    Raises UpstreamTimeout and UpstreamError where there was no answer.
    """
    broken_off = broken(error, secrets)
    status = getattr(error, "status_code", None)
    name = type(error).__name__
    if isinstance(broken_off, UpstreamTimeout) or not isinstance(status, int) or name in UNREACHABLE:
        raise broken_off from error
    status = status if 400 <= status <= 599 else 502
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "upstream_error")
    message = f"the provider refused the operator's credentials ({status})" if status in (401, 403) else str(broken_off)
    return status, {"message": message, "type": kind, "param": None, "code": CODES.get(name, "upstream")}


def broken(error: BaseException, secrets: Collection[str], code: str | None = None) -> UpstreamError:
    """Return our own error for what litellm raised."""
    provider = getattr(error, "llm_provider", None)
    who = f"the provider {provider}" if isinstance(provider, str) and provider else "the provider"
    if isinstance(error, TimeoutError) or type(error).__name__ in ("Timeout", "APITimeoutError"):
        return UpstreamTimeout(f"{who} did not answer in time")
    return UpstreamError(f"{who}: {_line(error, secrets)}", code=code)


def retry_after(error: Exception) -> str | None:
    """Return how long the provider asks to wait, as it wrote it."""
    headers = getattr(error, "litellm_response_headers", None) or {}
    value = headers.get("retry-after")
    return value if isinstance(value, str) and re.fullmatch(r"[\w ,:.-]{1,40}", value) else None


def _line(error: BaseException, secrets: Collection[str]) -> str:
    """Return the provider's own words in one line: litellm wraps them in class names, and often in JSON."""
    text = str(getattr(error, "message", None) or error or type(error).__name__)
    while (bare := WRAPPING.sub("", text, count=1)) != text:
        text = bare
    text = INTERNALS.split(_said(text) or text)[0].strip(" .,\n") or type(error).__name__
    for secret in secrets:
        text = text.replace(secret, "***")
    text = SECRET.sub(lambda m: f"{m[1]}{m[2]}***" if m[1] else "***", text)
    text = " ".join(text.split())
    return text if len(text) <= LENGTH else text[: LENGTH - 1] + "…"


def _said(text: str) -> str | None:
    """Find the message in a JSON body that stands in a text."""
    start, end = text.find("{"), text.rfind("}")
    try:
        body = orjson.loads(text[start : end + 1])
    except orjson.JSONDecodeError:
        return None
    inner = body.get("error", body) if isinstance(body, dict) else None
    said = inner.get("message", inner.get("Message")) if isinstance(inner, dict) else inner
    return said if isinstance(said, str) else None
