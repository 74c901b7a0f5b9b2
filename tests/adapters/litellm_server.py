"""Providers that litellm calls, on a socket of this machine, and litellm's way to them."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web

from tests.testdata import documents

# litellm turns these off for itself, for whole processes; pytest turns them on again.
WARNINGS = pytest.mark.filterwarnings(
    "ignore:.*`ReadOnly` qualifier:UserWarning",
    "ignore:Accessing the .* attribute on the instance is deprecated",
)
# Credentials of nobody: litellm wants some before it calls a provider.
CREDENTIALS = {
    "GEMINI_API_KEY": "gemini-key-of-nobody",
    "COHERE_API_KEY": "cohere-key-of-nobody",
    "OPENAI_API_KEY": "openai-key-of-nobody",
    "AWS_ACCESS_KEY_ID": "AKIANOBODYNOBODY",
    "AWS_SECRET_ACCESS_KEY": "aws-secret-of-nobody",
    "AWS_REGION_NAME": "us-east-1",
}
MODELS = {
    "google_generate_content": "gemini/gemini-2.5-flash",
    "bedrock_converse": "bedrock/converse/us.amazon.nova-2-lite-v1:0",
    "bedrock_invoke": "bedrock/invoke/us.anthropic.claude-haiku-4-5-20251001-v1:0",
    "cohere_chat": "cohere_chat/command-a-03-2025",
}


def point(environ: pytest.MonkeyPatch, url: str) -> None:
    """Send litellm's calls to a server, by the variables that it reads for that."""
    for name, value in CREDENTIALS.items():
        environ.setenv(name, value)
    environ.setenv("GEMINI_API_BASE", url)
    environ.setenv("COHERE_API_BASE", url + "/v2/chat")
    environ.setenv("OPENAI_BASE_URL", url)
    environ.setenv("AWS_BEDROCK_RUNTIME_ENDPOINT", url)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        environ.delenv(name, raising=False)
        environ.delenv(name.lower(), raising=False)


class Provider:
    """Answer each request with the recording that is on."""

    def __init__(self) -> None:
        self.exchange: dict[str, Any] = {}
        self.share = 1.0  # of the body that is sent

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        body, kind = wire(self.exchange, request.headers.get("Accept", ""))
        body = body[: int(len(body) * self.share)]
        return web.Response(body=body, content_type=kind, status=_status(self.exchange))


def recorded(file: str, stream: bool) -> Iterator[dict[str, Any]]:
    """Yield the recorded answers of a file that have wire bytes, or whose wire bytes can be had back."""
    for exchange in documents(f"data/recordings/{file}.jsonl.gz"):
        framed = exchange["kind"] == "event_payloads" and file == "bedrock_converse"  # the binary frames are lost
        if exchange["stream"] is stream and not framed:
            yield exchange


def wire(exchange: dict[str, Any], accept: str) -> tuple[bytes, str]:
    """Return the body of an answer and its content type.

    Cohere sends a JSON document a line to those who accept `application/json` alone, as litellm does.
    """
    response = exchange.get("response") or {}
    if "body_base64" in response:
        return base64.b64decode(response["body_base64"]), "application/vnd.amazon.eventstream"
    if not exchange["stream"]:
        return response["body"].encode(), "application/json"
    payloads = exchange.get("events") or _payloads(response["body"])
    if exchange["api"].startswith("cohere") and accept == "application/json":
        return "".join(f"{p}\n" for p in payloads if p != "[DONE]").encode(), "application/stream+json"
    text = response.get("body") or "".join(f"data: {payload}\n\n" for payload in payloads)
    return text.encode(), "text/event-stream"


def _payloads(body: str) -> list[str]:
    return [line[5:].strip() for line in body.split("\n") if line.startswith("data:")]


def _status(exchange: dict[str, Any]) -> int:
    """Return the status; answers that were recorded without one carry it where they are errors."""
    response = exchange.get("response") or {}
    if response.get("status") or "body" not in response or exchange["stream"]:
        return int(response.get("status") or 200)
    error = json.loads(response["body"]).get("error") or {}
    return int(error.get("code", 200))
