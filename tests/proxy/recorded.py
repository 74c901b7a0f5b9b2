"""Real provider answers as the bytes they had on the wire."""

import re
from typing import Any

from tests.testdata import documents

__all__ = ["chat", "of"]

NAMED_EVENTS = ("openai.responses", "anthropic.messages")  # APIs whose events carry their type in `event:` too


def of(file: str, stream: bool) -> list[tuple[dict[str, Any], bytes]]:
    """Return every recorded answer of a file that is generated text: its exchange and its body."""
    found = []
    for exchange in documents(f"data/recordings/{file}.jsonl.gz"):
        if exchange["stream"] is not stream:
            continue
        if exchange["kind"] == "event_payloads":
            found.append((exchange, _stream(exchange)))
        elif (exchange["response"]["status"] or 200) < 400 and "body" in exchange["response"]:
            found.append((exchange, exchange["response"]["body"].encode()))
    return found


def chat(stream: bool) -> list[tuple[dict[str, Any], bytes]]:
    return of("openai_chat", stream)


def _stream(exchange: dict[str, Any]) -> bytes:
    named = exchange["api"] in NAMED_EVENTS
    frames = [
        (f"event: {_type(payload)}\n" if named else "") + f"data: {payload}\n\n" for payload in exchange["events"]
    ]
    return "".join([*frames, "" if named else "data: [DONE]\n\n"]).encode()


def _type(payload: str) -> str:
    """Read the type of an event; a few recorded payloads are not JSON."""
    found = re.search(r'"type":\s*"([^"]+)"', payload)
    return found[1] if found else "unknown"
