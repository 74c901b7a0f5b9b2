"""Change inputs so that most of them are still understood: JSON as a tree, streams as frames, bytes now and then."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

from llm_label.labels.wording import all_wordings
from tests.fuzz.case import HEAD

__all__ = ["frames", "mutate"]

LONGEST = 30_000
LABELS = sorted(all_wordings())
TEXTS = (
    *LABELS, *(f"{label}\n\n" for label in LABELS[:4]), *(f"\n\n{label}" for label in LABELS[:4]), LABELS[0][:2],
    f"\n\n{LABELS[0]}\n\n\n", " ", "\n", "\n\n", "\r\n", "\r", "\t", "", "a", "。", "!” ", "\u2028", "\u0085", "\x1c", "\x00",
    "\ud83d", "\ude00", "😀", "e\u0301", "```", "```\n", "~~~", "$$", "<think>", "</think>", "<thi", "---\n", "---\na: b\n---\n",
    "- x\n", "> ", "| a | b |\n|--|--|\n", "# h\n", "Some words. More words, and more.\n\nA paragraph. ", "<!--", "-->", "<div>",
    "{\"a\":1}", "[", "null", "מילה ", "0", "data: x", "[DONE]",
)  # fmt: skip
SCALARS = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    10**25,
    1.5,
    1e308,
    "",
    "null",
    "stop",
    "x",
    [],
    {},
    [[]],
    [{}],
    {"a": {}},
    [None],
    ["t"],
)
WORDS = (
    "choices", "delta", "message", "content", "text", "index", "finish_reason", "role", "assistant", "user", "system",
    "logprobs", "usage", "error", "llm_label", "id", "model", "tool_calls", "function_call", "refusal", "type", "output",
    "output_text", "output_index", "content_index", "item", "part", "response", "phase", "commentary", "final_answer",
    "annotations", "annotation", "start_index", "end_index", "sequence_number", "status", "in_progress", "completed",
    "content_block", "stop_reason", "end_turn", "text_delta", "thinking", "tool_use", "server_tool_use", "refusal",
    "message_start", "message_delta", "message_stop", "content_block_start", "content_block_delta", "content_block_stop",
    "ping", "response.created", "response.completed", "response.failed", "response.incomplete", "response.queued",
    "response.output_text.delta", "response.output_text.done", "response.output_item.added", "response.output_item.done",
    "response.content_part.added", "response.content_part.done", "response.output_text.annotation.added", "reasoning",
    "watermark", "watermarking", "WaterMark", "custom_params", "custom_logit_processor", "vllm_xargs", "generation_config",
    "watermarking_config", "extra_body", "llm_label_key", "messages", "input", "prompt", "stream", "n", "temperature",
    "response_format", "cache_control", "encrypted_content", "suffix", "echo", "length", "chat.completion.chunk",
)  # fmt: skip


def frames(body: bytes) -> list[bytes]:
    """Cut a stream into frames, roughly: nothing is lost."""
    return [match[0] for match in re.finditer(rb".+?(?:\r\n\r\n|\n\n|\r\r|\Z)", body, re.DOTALL)]


def mutate(data: bytes, dice: random.Random, other: bytes = b"", stream: bool = True) -> bytes:
    """Return another input, made of this one and sometimes of another."""
    head, body = bytearray(data[:HEAD].ljust(HEAD, b"\0")), data[HEAD:]
    if dice.random() < 0.3:
        head[dice.randrange(1, HEAD)] = dice.randrange(256)
    for _ in range(dice.choice((0, 1, 1, 1, 2, 3, 6))):
        steps = STREAM if stream and dice.random() < 0.6 else BYTES if dice.random() < 0.15 else TREE
        body = dice.choice(steps)(body, dice, other[HEAD:], stream)
        if len(body) > LONGEST:
            body = _shorter(body, dice, stream)
    return bytes(head) + body


def _shorter(body: bytes, dice: random.Random, stream: bool) -> bytes:
    parts = frames(body) if stream else []
    if len(parts) < 20:
        return body[:LONGEST]
    begin = dice.randrange(3, len(parts) // 2)
    return b"".join(parts[:begin] + parts[-begin:])[:LONGEST]


# Frames.


def _drop(body: bytes, dice: random.Random, other: bytes, stream: bool) -> bytes:
    parts = frames(body)
    at = dice.randrange(len(parts) + 1)
    return b"".join(parts[:at] + parts[at + dice.choice((1, 1, 1, 3, 10)) :])


def _repeat(body: bytes, dice: random.Random, other: bytes, stream: bool) -> bytes:
    parts = frames(body)
    if not parts:
        return body
    at = dice.randrange(len(parts))
    return b"".join([*parts[: at + 1], *[parts[at]] * dice.choice((1, 1, 2)), *parts[at + 1 :]])


def _swap(body: bytes, dice: random.Random, other: bytes, stream: bool) -> bytes:
    parts = frames(body)
    if len(parts) > 1:
        a, b = dice.randrange(len(parts)), dice.randrange(len(parts))
        parts[a], parts[b] = parts[b], parts[a]
    return b"".join(parts)


def _splice(body: bytes, dice: random.Random, other: bytes, stream: bool) -> bytes:
    parts, more = frames(body), frames(other) or [b"data: [DONE]\n\n"]
    at, begin = dice.randrange(len(parts) + 1), dice.randrange(len(more))
    return b"".join([*parts[:at], *more[begin : begin + dice.choice((1, 2, 50))], *parts[at:]])


def _cut_off(body: bytes, dice: random.Random, other: bytes, stream: bool) -> bytes:
    parts = frames(body)
    return b"".join(parts[: dice.randrange(len(parts) + 1)])


def _line(body: bytes, dice: random.Random, other: bytes, stream: bool) -> bytes:
    parts = frames(body)
    lines = (b": ping\n\n", b":\n\n", b"\n", b"\r\n", b"event: x\n\n", b"id: 1\n", b"retry: 5\n\n", b"data\n\n", b"data:\n\n",
             b"data: [DONE]\n\n", b"data: {}\n\n", b"data: []\n\n", b"data: {\n", b"event: error\n", b"\xef\xbb\xbf")  # fmt: skip
    parts.insert(dice.randrange(len(parts) + 1), dice.choice(lines))
    return b"".join(parts)


def _ends(body: bytes, dice: random.Random, other: bytes, stream: bool) -> bytes:
    """Write the line ends in another way, all or a few."""
    end = dice.choice((b"\r\n", b"\r", b"\n", b"\n\r", b"\r\r\n"))
    if dice.random() < 0.5:
        return re.sub(rb"\r\n|\r|\n", lambda _: end, body)
    return re.sub(rb"\r\n|\r|\n", lambda found: end if dice.random() < 0.05 else found[0], body)


# Trees.


def _tree(body: bytes, dice: random.Random, change: Callable[[Any, random.Random], Any], stream: bool) -> bytes:
    """Change one JSON value of the body, and write it in one of the ways in which JSON is written."""
    parts = frames(body) if stream else [body]
    at = dice.randrange(len(parts)) if parts else 0
    found = re.search(rb"(?:\A|data: ?)(\{.*\})", parts[at], re.DOTALL) if parts else None
    if found is None:
        return body
    try:
        written = _write(change(json.loads(found[1]), dice), dice)
    except (ValueError, RecursionError):  # not JSON any more, or nested too deep for this
        return body
    parts[at] = parts[at][: found.start(1)] + written + parts[at][found.end(1) :]
    return b"".join(parts)


def _write(tree: Any, dice: random.Random) -> bytes:
    way = dice.randrange(8)
    text = json.dumps(tree, ensure_ascii=way in (1, 2), separators=(",", ":") if way < 5 else None)
    if way == 3:
        text = re.sub(
            r'"(\w)(\w*)"(\s*:)', lambda m: f'"\\u{ord(m[1]):04x}{m[2]}"{m[3]}' if dice.random() < 0.2 else m[0], text
        )
    if way == 4:
        text = re.sub(
            r'("\w+")(:)("[^"\\]*"|\d+|null)', lambda m: f"{m[0]},{m[1]}:{m[3]}" if dice.random() < 0.05 else m[0], text
        )
    if way == 6:
        text = text.replace(", ", " ,\t").replace("/", "\\/")
    return text.encode("utf-8", "replace" if way == 7 else "surrogatepass")


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found, stack = [], [tree]
    while stack:
        value = stack.pop()
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in pairs:
            found.append((value, key))
            stack.append(inner)
    return found


def _replace(tree: Any, dice: random.Random) -> Any:
    places = _places(tree)
    if places:
        holder, key = dice.choice(places)
        new = dice.choice((dice.choice(SCALARS), dice.choice(WORDS), dice.choice(TEXTS), dice.choice(places)[0]))
        holder[key] = json.loads(json.dumps(new))
    return tree


def _speak(tree: Any, dice: random.Random) -> Any:
    """Change a text: most of what the labelers look at is in texts."""
    places = [(holder, key) for holder, key in _places(tree) if isinstance(holder[key], str)]
    spoken = [place for place in places if place[1] in ("content", "text", "delta")]
    if places:
        holder, key = dice.choice(spoken or places)
        text = holder[key]
        at = dice.randrange(len(text) + 1)
        gone = dice.choice((0, 0, 0, 1, len(text)))
        piece = "".join(dice.choice(TEXTS) for _ in range(dice.choice((1, 1, 2, 4))))
        holder[key] = text[:at] + piece * dice.choice((1, 1, 1, 1, 30)) + text[at + gone :]
    return tree


def _remove(tree: Any, dice: random.Random) -> Any:
    places = _places(tree)
    if places:
        holder, key = dice.choice(places)
        del holder[key]
    return tree


def _add(tree: Any, dice: random.Random) -> Any:
    holders = [tree, *(holder[key] for holder, key in _places(tree))]
    holder = dice.choice([value for value in holders if isinstance(value, dict | list)])
    new = json.loads(json.dumps(dice.choice((dice.choice(SCALARS), dice.choice(WORDS), dice.choice(holders)))))
    if isinstance(holder, dict):
        holder[dice.choice(WORDS)] = new
    else:
        holder.insert(dice.randrange(len(holder) + 1), new)
    return tree


def _rename(tree: Any, dice: random.Random) -> Any:
    places = [(holder, key) for holder, key in _places(tree) if isinstance(holder, dict)]
    if places:
        holder, key = dice.choice(places)
        holder[dice.choice(WORDS)] = holder.pop(key)
    return tree


def _nest(tree: Any, dice: random.Random) -> Any:
    places = _places(tree)
    if places:
        holder, key = dice.choice(places)
        inner = holder[key]
        for _ in range(dice.choice((1, 3, 90, 260))):
            inner = [inner] if dice.random() < 0.5 else {dice.choice(WORDS): inner}
        holder[key] = inner
    return tree


def _by(change: Callable[[Any, random.Random], Any]) -> "Step":
    return lambda body, dice, other, stream: _tree(body, dice, change, stream)


# Bytes.


def _byte(body: bytes, dice: random.Random, other: bytes, stream: bool) -> bytes:
    at = dice.randrange(len(body) + 1)
    piece = dice.choice(
        (b"", bytes([dice.randrange(256)]), b'"', b"\\", b"{", b"}", b"\n", b"\r", b",", b"\\ud800", b"\xff", b"NaN")
    )
    return body[:at] + piece + body[at + dice.choice((0, 1, 1, 2)) :]


def _end(body: bytes, dice: random.Random, other: bytes, stream: bool) -> bytes:
    return body[: dice.randrange(len(body) + 1)]


def _mix(body: bytes, dice: random.Random, other: bytes, stream: bool) -> bytes:
    at, begin = dice.randrange(len(body) + 1), dice.randrange(len(other) + 1)
    return body[:at] + other[begin : begin + dice.randrange(200)] + body[at:]


Step = Callable[[bytes, random.Random, bytes, bool], bytes]
STREAM: tuple[Step, ...] = (_drop, _repeat, _swap, _splice, _cut_off, _line, _ends)
TREE: tuple[Step, ...] = tuple(map(_by, (_replace, _speak, _speak, _speak, _remove, _add, _rename, _nest)))
BYTES: tuple[Step, ...] = (_byte, _byte, _end, _mix)
