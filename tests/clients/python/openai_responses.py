"""openai-python over the Responses API; played by `openai_sdk.py`."""

import json
from typing import Any

from openai_client import City, client, content_id, header_id
from play import ASK, MODEL, RESULT, WEATHER, Way, plain, scenario, user

RESPONSES_TOOLS: Any = [{"type": "function", **WEATHER, "strict": True}]


def about(response: Any) -> dict[str, Any]:
    return {
        "id": response.id,
        "status": response.status,
        "model": response.model,
        "usage": plain(response.usage),
        "items": [[item.type, item.id, getattr(item, "status", None)] for item in response.output],
        "rest": [plain(item) for item in response.output if item.type != "message"],
    }


@scenario("responses")
def responses(way: Way) -> dict[str, Any]:
    """Two turns: the items of the first answer go back as they came."""
    first = client(way).responses.create(model=MODEL["chat"], input=ASK["river"])
    back = [item.model_dump(exclude_none=True) for item in first.output]
    turns: Any = [user(ASK["river"]), *back, user(ASK["again"])]
    second = client(way).responses.create(model=MODEL["chat"], input=turns)
    return {"prose": [first.output_text, second.output_text], "exact": [about(first), about(second)]}


@scenario("responses")
def responses_reasoning(way: Way) -> dict[str, Any]:
    answer = client(way).responses.create(model=MODEL["chat"], input=ASK["think"])
    return {"prose": answer.output_text, "exact": about(answer)}


@scenario("responses")
def responses_marks(way: Way) -> dict[str, Any]:
    raw = client(way).responses.with_raw_response.create(model=MODEL["chat"], input=ASK["river"])
    return {"marks": {"header": header_id(raw), "body": content_id(raw.parse())}, "prose": raw.parse().output_text}


def items(response: Any) -> list[Any]:
    """Show what stands around the texts of a response."""
    shown = []
    for item in response.output:
        for part in item.content:
            rest = [plain(a) for a in getattr(part, "annotations", [])]
            shown.append([item.id, getattr(item, "phase", None), part.type, getattr(part, "refusal", None), len(rest)])
    return shown


@scenario("responses")
def responses_phases(way: Way) -> dict[str, Any]:
    """Commentary stays as it is; a citation still points at the cited words."""
    answer = client(way).responses.create(model=MODEL["phases"], input=ASK["river"])
    said, final = (item.content[0] for item in answer.output)
    source = final.annotations[0]
    cited = final.text[source.start_index : source.end_index]
    return {"prose": final.text, "exact": [said.text, cited, items(answer), about(answer)]}


@scenario("responses")
def responses_retrieve(way: Way) -> dict[str, Any]:
    """A stored response is fetched again, whole, as a stream, and as the rest of a stream."""
    openai = client(way).responses
    first = openai.create(model=MODEL["phases"], input=ASK["river"])
    again = openai.retrieve(first.id)
    events: list[Any] = list(openai.retrieve(first.id, stream=True))
    rest: list[Any] = list(openai.retrieve(first.id, stream=True, starting_after=12))
    final = events[-1].response
    deltas = "".join(e.delta for e in events if e.type == "response.output_text.delta" and e.output_index == 1)
    texts = [answer.output[-1].content[0].text for answer in (first, again, final)]
    ids = {"first": content_id(first), "again": content_id(again), "stream": content_id(final)}
    tail = [plain(event) for event in events][13:] == [plain(event) for event in rest]
    order = [[e.sequence_number, e.type] for e in events]
    return {"prose": [*texts, deltas], "exact": [order, tail, about(first), about(again)], "marks": ids}


@scenario("responses")
def responses_background(way: Way) -> dict[str, Any]:
    queued = client(way).responses.create(model=MODEL["phases"], input=ASK["river"], background=True)
    done = client(way).responses.retrieve(queued.id)
    return {"prose": done.output[-1].content[0].text, "exact": [about(queued), about(done)]}


@scenario("responses")
def responses_count(way: Way) -> dict[str, Any]:
    """Tokens are counted without the labels that come back."""
    first = client(way).responses.create(model=MODEL["chat"], input=ASK["river"])
    turns: Any = [
        user(ASK["river"]),
        *(item.model_dump(exclude_none=True) for item in first.output),
        user(ASK["again"]),
    ]
    counted = client(way).responses.input_tokens.count(model=MODEL["phases"], input=turns)
    return {"prose": first.output_text, "exact": counted.input_tokens}


@scenario("responses")
def responses_incomplete(way: Way) -> dict[str, Any]:
    answer = client(way).responses.create(model=MODEL["incomplete"], input=ASK["river"])
    return {"prose": answer.output_text, "exact": [about(answer), plain(answer.incomplete_details)]}


@scenario("responses")
def responses_refusal(way: Way) -> dict[str, Any]:
    answer = client(way).responses.create(model=MODEL["refusal"], input=ASK["wrong"])
    return {"exact": [items(answer), about(answer), answer.output_text]}


@scenario("responses stream")
def responses_stream_phases(way: Way) -> dict[str, Any]:
    with client(way).responses.stream(model=MODEL["phases"], input=ASK["river"]) as stream:
        events: list[Any] = list(stream)
        final = stream.get_final_response()
    said, answer = (item.content[0] for item in final.output)
    source = answer.annotations[0]
    deltas = [
        "".join(e.delta for e in events if e.type == "response.output_text.delta" and e.output_index == i)
        for i in (0, 1)
    ]
    done = [e.text for e in events if e.type == "response.output_text.done"]
    cited = answer.text[source.start_index : source.end_index]
    return {
        "prose": {"deltas": deltas[1], "done": done[1], "final": answer.text},
        "exact": [deltas[0], done[0], said.text, cited, items(final), about(final)],
    }


@scenario("responses stream")
def responses_stream_ends(way: Way) -> dict[str, Any]:
    """A cut-off and a refusal."""
    cut, refused = (
        [*client(way).responses.create(model=MODEL[model], input=ASK["river"], stream=True)]
        for model in ("incomplete", "refusal")
    )
    deltas = "".join(e.delta for e in cut if e.type == "response.output_text.delta")
    said = "".join(e.delta for e in refused if e.type == "response.refusal.delta")
    return {
        "prose": {"deltas": deltas, "final": cut[-1].response.output_text},
        "exact": [cut[-1].type, about(cut[-1].response), said, items(refused[-1].response)],
    }


@scenario("responses stream")
def responses_stream(way: Way) -> dict[str, Any]:
    """Every event that repeats the text must agree."""
    events: list[Any] = list(client(way).responses.create(model=MODEL["chat"], input=ASK["think"], stream=True))
    of = {kind: [e for e in events if e.type == f"response.{kind}"] for kind in ("completed", "content_part.done")}
    items = [e.item for e in events if e.type == "response.output_item.done" and e.item.type == "message"]
    return {
        "prose": {
            "deltas": "".join(e.delta for e in events if e.type == "response.output_text.delta"),
            "done": "".join(e.text for e in events if e.type == "response.output_text.done"),
            "part": "".join(e.part.text for e in of["content_part.done"]),
            "item": "".join(part.text for item in items for part in item.content),
            "final": of["completed"][-1].response.output_text,
        },
        "exact": {
            "types": [e.type for e in events],
            "final": about(of["completed"][-1].response),
            "reasoning": "".join(e.delta for e in events if e.type == "response.reasoning_summary_text.delta"),
        },
    }


@scenario("responses stream")
def responses_stream_helper(way: Way) -> dict[str, Any]:
    with client(way).responses.stream(model=MODEL["chat"], input=ASK["river"]) as stream:
        events: list[Any] = list(stream)
        final = stream.get_final_response()
    deltas = [e for e in events if e.type == "response.output_text.delta"]
    return {
        "prose": {
            "deltas": "".join(e.delta for e in deltas),
            "snapshot": deltas[-1].snapshot,
            "done": "".join(e.text for e in events if e.type == "response.output_text.done"),
            "final": final.output_text,
        },
        "exact": [about(final), [e.type for e in events]],
    }


@scenario("tools")
def responses_tools(way: Way) -> dict[str, Any]:
    first = client(way).responses.create(model=MODEL["chat"], input=ASK["weather"], tools=RESPONSES_TOOLS)
    call: Any = first.output[0]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}
    turns: Any = [user(ASK["weather"]), call.model_dump(exclude_none=True), result]
    second = client(way).responses.create(model=MODEL["chat"], input=turns, tools=RESPONSES_TOOLS)
    return {"prose": second.output_text, "exact": [about(first), about(second), json.loads(call.arguments)]}


@scenario("tools")
def responses_tools_stream(way: Way) -> dict[str, Any]:
    with client(way).responses.stream(model=MODEL["chat"], input=ASK["look"], tools=RESPONSES_TOOLS) as stream:
        events: list[Any] = list(stream)
        final = stream.get_final_response()
    done = [e.arguments for e in events if e.type == "response.function_call_arguments.done"]
    return {"opening": final.output_text, "exact": [done, about(final)]}


@scenario("structured")
def responses_structured(way: Way) -> dict[str, Any]:
    answer = client(way).responses.parse(model=MODEL["chat"], input=ASK["extract"], text_format=City)
    return {"exact": [answer.output_text, plain(answer.output_parsed), about(answer)]}
