"""Answers that aimock does not give: legacy completions, several choices, content parts, log-probabilities, errors.

Asked by model name (`house-…`); ids and times are fixed. Every function returns the whole answer or its frames.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from tests.clients.scripted_items import messages, responses

__all__ = ["answer"]

CREATED = 1_760_000_000
TEXTS = (
    "漓江的水很清，江边有许多石山。\n\n坐竹筏可以慢慢看。",
    "The river is clear, and the hills are steep.\n\nTake a raft.",
)
USAGE = {"prompt_tokens": 7, "completion_tokens": 21, "total_tokens": 28}
# U+2028 is legal inside JSON, the fence stays open, and an emoji of several code points is cut by chunks.
ODD = "第一行\u2028第二行 👩\u200d👩\u200d👧\n\n```python\nfor boat in river:\n    print(boat)"
# Turns without prose, which get no label.
SILENT: dict[str, dict[str, Any]] = {
    "house-refusal": {"refusal": "我不能帮助做这件事。"},
    "house-legacy": {"function_call": {"name": "get_weather", "arguments": '{"city":"桂林"}'}},
}
ERROR = {
    "error": {
        "message": "house-error takes no requests",
        "type": "invalid_request_error",
        "param": "model",
        "code": "no",
    }
}

Reply = tuple[int, str, bytes]  # status, content type, body


def answer(method: str, path: str, query: Mapping[str, str], body: dict[str, Any], who: str) -> Reply | None:
    """Return the scripted answer to a request, or None if aimock is to be asked."""
    if method != "POST":
        return _kept(path, query)
    model = str(body.get("model", ""))
    if not model.startswith("house-"):
        return None
    number = f"{model.removeprefix('house-')}-{hashlib.sha256(who.encode()).hexdigest()[:12]}"
    if model == "house-error":
        return 400, "application/json", _json(ERROR)
    if path.endswith(("/count_tokens", "/input_tokens")):  # any number will do that tells one request from another
        counted = {"object": "response.input_tokens", "input_tokens": len(json.dumps(body, ensure_ascii=False))}
        return 200, "application/json", _json(counted)
    if path == "/v1/responses":
        return 200, *responses(body, f"resp_{number}")
    if path == "/v1/messages":
        return 200, *messages(body)
    return _completion(model, body) if path == "/v1/completions" else _chat(body, f"chatcmpl-{number}")


def _kept(path: str, query: Mapping[str, str]) -> Reply | None:
    """Return an answer that was given before: its number says which."""
    *_, route, number = path.split("/")
    kind, model, _ = (re.split("[-_]", number, maxsplit=2) + ["", ""])[:3]
    body = {"model": f"house-{model}"}
    if route == "responses" and kind == "resp":
        stream = query.get("stream") == "true"
        return 200, *responses({**body, "stream": stream}, number, int(query.get("starting_after", -1)))
    return _chat(body, number) if route == "completions" and kind == "chatcmpl" else None


def _completion(model: str, body: dict[str, Any]) -> Reply:
    head = {"id": "cmpl-house-1", "object": "text_completion", "created": CREATED, "model": model}
    texts = TEXTS[: body.get("n") or 1]
    if not body.get("stream"):
        choices = [{"text": t, "index": i, "logprobs": None, "finish_reason": "stop"} for i, t in enumerate(texts)]
        return 200, "application/json", _json({**head, "choices": choices, "usage": USAGE})
    frames = [
        {**head, "choices": [{"text": p, "index": i, "logprobs": None, "finish_reason": None}]}
        for i, p in _turns(texts)
    ]
    frames += [
        {**head, "choices": [{"text": "", "index": i, "logprobs": None, "finish_reason": "stop"}]}
        for i in range(len(texts))
    ]
    return _stream(frames, head, body)


def _chat(body: dict[str, Any], id: str) -> Reply:
    model = body["model"]
    head = {"id": id, "object": "chat.completion", "created": CREATED, "model": model}
    texts = [ODD] if model == "house-odd" else list(TEXTS[: body.get("n") or 1])
    if model in SILENT and not body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": None, **SILENT[model]}, "logprobs": None}
        return (
            200,
            "application/json",
            _json({**head, "choices": [{**choice, "finish_reason": "stop"}], "usage": USAGE}),
        )
    finish = "length" if model == "house-odd" else "stop"
    logprobs = model == "house-logprobs"
    if not body.get("stream"):
        choices = [_choice(i, t, finish, model == "house-parts", logprobs) for i, t in enumerate(texts)]
        return 200, "application/json", _json({**head, "choices": choices, "usage": USAGE})
    head["object"] += ".chunk"
    indices = range(len(texts))
    if model in SILENT:
        deltas = [{"role": "assistant", "content": None}, SILENT[model]]
        last = {**_delta(0, {}), "finish_reason": "stop"}
        return _stream(
            [{**head, "choices": [choice]} for choice in [*(_delta(0, d) for d in deltas), last]], head, body
        )
    frames = [{**head, "choices": [_delta(i, {"role": "assistant", "content": ""})]} for i in indices]
    frames += [{**head, "choices": [_delta(i, {"content": p}, p if logprobs else None)]} for i, p in _turns(texts)]
    if model == "house-broken":
        return _stream(
            [*frames[:4], {"error": {"message": "the engine stopped", "type": "server_error", "code": 500}}], head, {}
        )
    frames += [{**head, "choices": [{**_delta(i, {}), "finish_reason": finish}]} for i in indices]
    return _stream(frames, head, body)


def _choice(index: int, text: str, finish: str, parts: bool, logprobs: bool) -> dict[str, Any]:
    content: Any = [{"type": "text", "text": text}] if parts else text
    return {
        "index": index,
        "message": {"role": "assistant", "content": content, "refusal": None},
        "logprobs": _logprobs(_pieces(text)) if logprobs else None,
        "finish_reason": finish,
    }


def _delta(index: int, delta: dict[str, Any], token: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": _logprobs([token]) if token else None, "finish_reason": None}


def _logprobs(tokens: Iterable[str]) -> dict[str, Any]:
    rows = [{"token": t, "logprob": -0.25, "bytes": list(t.encode()), "top_logprobs": []} for t in tokens]
    return {"content": rows, "refusal": None}


def _stream(frames: list[dict[str, Any]], head: dict[str, Any], body: dict[str, Any]) -> Reply:
    if (body.get("stream_options") or {}).get("include_usage"):
        frames.append({**head, "choices": [], "usage": USAGE})
    lines = [b"data: " + _json(frame) + b"\n\n" for frame in frames]
    return 200, "text/event-stream; charset=utf-8", b"".join([b": ready\n\n", *lines, b"data: [DONE]\n\n"])


def _turns(texts: Iterable[str]) -> list[tuple[int, str]]:
    """Deal the pieces of several texts in turn, as a server that samples them together does."""
    pieces = [_pieces(text) for text in texts]
    longest = max(map(len, pieces))
    return [(i, row[at]) for at in range(longest) for i, row in enumerate(pieces) if at < len(row)]


def _pieces(text: str) -> list[str]:
    return [text[at : at + 5] for at in range(0, len(text), 5)]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
