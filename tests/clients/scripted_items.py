"""Scripted answers of the Responses and Messages APIs: several items or blocks, phases, citations, refusals, cut-offs.

Every function returns the whole answer or the frames of its stream.
"""

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["messages", "responses"]

CREATED = 1_760_000_000
CITED = "据桂林市水利局的资料，漓江全长约 437 公里。\n\n它发源于猫儿山。"
SOURCE = {
    "type": "url_citation",
    "start_index": 0,
    "end_index": 11,
    "title": "Li River",
    "url": "https://example.org/li",
}
RESPONSE_USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": 33,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 42,
}
WEB = {
    "type": "web_search_tool_result",
    "tool_use_id": "srvtoolu_house_1",
    "content": [
        {
            "type": "web_search_result",
            "title": "Li River",
            "url": "https://example.org/li",
            "encrypted_content": "EqgfCioIARgBIiQ3",
            "page_age": None,
        }
    ],
}
CITATION = {
    "type": "web_search_result_location",
    "cited_text": "437 km",
    "title": "Li River",
    "url": "https://example.org/li",
    "encrypted_index": "Eo8BCioI",
}
Frames = Iterator[tuple[str, dict[str, Any]]]


def responses(body: dict[str, Any], id: str, after: int = -1) -> tuple[str, bytes]:
    """Answer a Responses request; a stream begins behind the event of that number."""
    model = body["model"]
    queued = bool(body.get("background"))
    output = [] if queued else _output(model)
    status = "queued" if queued else "incomplete" if model == "house-incomplete" else "completed"
    response = {
        "id": id,
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None if queued else RESPONSE_USAGE,
    }
    if not body.get("stream"):
        return "application/json", _json(response)
    events = list(_numbered(_response_events(response)))[after + 1 :]
    return _stream((kind, {"type": kind, **data}) for kind, data in events)


def messages(body: dict[str, Any]) -> tuple[str, bytes]:
    """Answer a Messages request."""
    blocks = [
        {"type": "text", "text": "我先查一查。"},
        {"type": "server_tool_use", "id": "srvtoolu_house_1", "name": "web_search", "input": {"query": "漓江"}},
        WEB,
        {"type": "text", "text": "漓江全长约 437 公里，", "citations": [CITATION]},
        {"type": "text", "text": "发源于猫儿山。\n\n江水由北向"},
    ]
    message = {
        "id": "msg_house_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": blocks,
        "stop_reason": "max_tokens",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 33},
    }
    if not body.get("stream"):
        return "application/json", _json(message)
    return _stream((kind, {"type": kind, **data}) for kind, data in _message_events(message))


def _output(model: str) -> list[dict[str, Any]]:
    if model == "house-refusal":
        return [_item("msg_house_1", {"type": "refusal", "refusal": "我不能帮助做这件事。"})]
    if model == "house-incomplete":
        return [{**_item("msg_house_1", _part("漓江由北向南流，\n\n途经桂")), "status": "incomplete"}]
    return [
        {**_item("msg_house_1", _part("我先找一找资料。")), "phase": "commentary"},
        {**_item("msg_house_2", {**_part(CITED), "annotations": [SOURCE]}), "phase": "final_answer"},
    ]


def _item(id: str, part: dict[str, Any]) -> dict[str, Any]:
    return {"id": id, "type": "message", "status": "completed", "role": "assistant", "content": [part]}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response_events(response: dict[str, Any]) -> Frames:
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for at, item in enumerate(response["output"]):
        yield (
            "response.output_item.added",
            {"output_index": at, "item": {**item, "status": "in_progress", "content": []}},
        )
        yield from _part_events(item["content"][0], {"item_id": item["id"], "output_index": at, "content_index": 0})
        yield "response.output_item.done", {"output_index": at, "item": item}
    yield f"response.{response['status']}", {"response": response}


def _part_events(part: dict[str, Any], place: dict[str, Any]) -> Frames:
    refusal = part["type"] == "refusal"
    kind, field = ("refusal", "refusal") if refusal else ("output_text", "text")
    empty = {**part, field: ""} if refusal else {**part, field: "", "annotations": []}
    more = {} if refusal else {"logprobs": []}
    yield "response.content_part.added", {**place, "part": empty}
    for at in range(0, len(part[field]), 5):
        yield f"response.{kind}.delta", {**place, "delta": part[field][at : at + 5], **more}
    for at, annotation in enumerate(part.get("annotations", [])):
        yield "response.output_text.annotation.added", {**place, "annotation_index": at, "annotation": annotation}
    yield f"response.{kind}.done", {**place, field: part[field], **more}
    yield "response.content_part.done", {**place, "part": part}


def _numbered(frames: Frames) -> Frames:
    for number, (kind, data) in enumerate(frames):
        yield kind, {"sequence_number": number, **data}


def _message_events(message: dict[str, Any]) -> Frames:
    yield (
        "message_start",
        {"message": {**message, "content": [], "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": 1}}},
    )
    yield "ping", {}
    for index, block in enumerate(message["content"]):
        yield from _block_events(index, block)
    yield (
        "message_delta",
        {"delta": {"stop_reason": message["stop_reason"], "stop_sequence": None}, "usage": {"output_tokens": 33}},
    )
    yield "message_stop", {}


def _block_events(index: int, block: dict[str, Any]) -> Frames:
    deltas: list[dict[str, Any]] = []
    empty = block
    if block["type"] == "text":
        empty = {"type": "text", "text": "", **({"citations": []} if "citations" in block else {})}
        deltas = [{"type": "citations_delta", "citation": citation} for citation in block.get("citations", [])]
        deltas += [{"type": "text_delta", "text": block["text"][at : at + 4]} for at in range(0, len(block["text"]), 4)]
    elif block["type"] == "server_tool_use":
        empty = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"], ensure_ascii=False)}]
    yield "content_block_start", {"index": index, "content_block": empty}
    for delta in deltas:
        yield "content_block_delta", {"index": index, "delta": delta}
    yield "content_block_stop", {"index": index}


def _stream(frames: Frames) -> tuple[str, bytes]:
    lines = [f"event: {kind}\ndata: ".encode() + _json(data) + b"\n\n" for kind, data in frames]
    return "text/event-stream; charset=utf-8", b"".join(lines)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
