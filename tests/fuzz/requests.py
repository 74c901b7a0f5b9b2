"""Requests: any bytes give a ClientError, or the client's JSON without what it may not set and without our labels."""

import copy
import json
from typing import Any

from llm_label.errors import ClientError
from llm_label.policy import decide
from llm_label.proxy.guard import read_body, strip
from tests.fuzz.case import Case
from tests.fuzz.spots import Number
from tests.fuzz.streams import loosely_same

__all__ = ["check"]

MAX_DEPTH = 100
FORBIDDEN = ("watermarking", "watermark", "custom_logit_processor", "custom_params", "llm_label")


def check(data: bytes) -> None:
    """Raise AssertionError unless the laws hold for the request in `data`."""
    case = Case.of(data)
    known = case.policy.known
    try:
        body = read_body(case.body, MAX_DEPTH)
        raw, gone = strip(case.body, body)
        view = case.surface.view(body)
        decide(view, case.policy)
        out = case.surface.clean(raw, body, known)
    except ClientError as error:
        assert str(error) and "\n" not in str(error)
        return
    asked, sent = _read(case.body), _read(out)
    assert _depth(asked) <= MAX_DEPTH
    assert body == json.loads(raw.decode()) or _odd_numbers(raw), "what was looked at is not what goes out"
    expected = copy.deepcopy(asked)
    taken = _guarded(expected)
    assert bool(taken) == bool(gone), f"{gone} is gone, {taken} should be"
    if not gone and not any(label.encode() in case.body for label in known) and b"\\" not in case.body:
        assert out == case.body, "changed without a reason"
    _same(expected, sent, ())


def _read(raw: bytes) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key that stands twice got through"
        return dict(pairs)

    return json.loads(raw.decode(), parse_float=Number, parse_int=Number, object_pairs_hook=once)


def _odd_numbers(raw: bytes) -> bool:
    """Say whether there is a number that two parsers may read differently: very long, or with an exponent."""
    return any(len(digits) > 14 for digits in "".join(c if c in "0123456789.eE" else " " for c in raw.decode()).split())


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [inner for inner in level if isinstance(inner, dict | list)]:
        depth += 1
        level = [x for inner in level for x in (inner.values() if isinstance(inner, dict) else inner)]
    return depth


def _guarded(body: dict[str, Any], nested: bool = False) -> list[str]:
    """Take out what the guard must take out; return the names."""
    gone = [name for name in body if name.lower() in FORBIDDEN]
    for name in gone:
        del body[name]
    for name, inner in body.items():
        if name.lower() == "vllm_xargs" and isinstance(inner, dict):
            ours = [key for key in inner if key.lower().startswith("llm_label_")]
        elif name.lower() == "generation_config" and isinstance(inner, dict):
            ours = [key for key in inner if key == "watermarking_config"]
        elif name.lower() == "generation_config" and isinstance(inner, str) and not isinstance(inner, Number):
            config = json.loads(inner, parse_float=Number, parse_int=Number)
            if "watermarking_config" in config:
                del config["watermarking_config"]
                gone.append("watermarking_config")
            body[name] = ("JSON", config)
            continue
        else:
            if name.lower() == "extra_body" and isinstance(inner, dict) and not nested:
                gone += _guarded(inner, True)
            continue
        for key in ours:
            del inner[key]
        gone += ours
    return gone


def _same(asked: Any, sent: Any, path: tuple[Any, ...], assistant: bool = False) -> None:
    """Raise AssertionError unless both are equal but for an assistant's texts, from which labels may be gone."""
    if isinstance(asked, tuple):
        inner = json.loads(sent, parse_float=Number, parse_int=Number)
        return _same(asked[1], inner, path)
    assert type(asked) is type(sent), path
    if isinstance(asked, dict):
        if "annotations" in asked and assistant:
            asked, sent = {**asked, "annotations": None}, {**sent, "annotations": None}
        assert list(asked) == list(sent), path
        for key in asked:
            _same(asked[key], sent[key], (*path, key), assistant or asked.get("role") == "assistant")
    elif isinstance(asked, list):
        if len(asked) != len(sent):  # blocks that held nothing but a label
            assert assistant and len(sent) < len(asked), path
            return
        for at, inner in enumerate(asked):
            _same(inner, sent[at], (*path, at), assistant)
    elif asked != sent:
        assert assistant and isinstance(asked, str) and not isinstance(asked, Number), f"{path} changed"
        assert path[-1] in ("content", "text") or isinstance(path[-1], int), f"{path} changed"
        loosely_same("".join(sent.split()), "".join(asked.split()), most=len(asked))
