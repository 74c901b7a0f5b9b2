"""Real provider answers as the bytes they had on the wire."""

from typing import Any

from tests.testdata import documents

__all__ = ["chat"]


def chat(stream: bool) -> list[tuple[dict[str, Any], bytes]]:
    """Return every recorded chat answer that is generated text: its exchange and its body."""
    found = []
    for exchange in documents("data/recordings/openai_chat.jsonl.gz"):
        if exchange["stream"] is not stream:
            continue
        if exchange["kind"] == "event_payloads":
            frames = [f"data: {payload}\n\n" for payload in exchange["events"]]
            found.append((exchange, "".join([*frames, "data: [DONE]\n\n"]).encode()))
        elif (exchange["response"]["status"] or 200) < 400:
            found.append((exchange, exchange["response"]["body"].encode()))
    return found
