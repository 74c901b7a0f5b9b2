"""The cut law on every recorded stream of all four APIs: at every byte up to 4 kB, at 200 random cuts for the rest."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from llm_label.errors import UpstreamError
from llm_label.policy import Policy, RequestView
from llm_label.proxy.surfaces import chat, completions, messages, responses
from llm_label.proxy.surfaces.surface import Surface
from tests.proxy import marking, recorded

FILES: dict[str, Surface] = {
    "openai_chat": chat,
    "openai_completions": completions,
    "openai_responses": responses,
    "anthropic_messages": messages,
}
SHORT = 4096  # bytes
CUTS = 200


def view_of(surface: Surface, exchange: dict[str, Any]) -> RequestView:
    """Read the request where one of this API was recorded; a plain one elsewhere."""
    request = (exchange.get("request") or {}).get("body")
    if isinstance(request, dict) and request.keys() & {"messages", "input", "prompt"}:
        return surface.view(request)
    return RequestView(surface.NAME, stream=True)


def ways(body: bytes, seed: str) -> Iterator[list[bytes]]:
    if len(body) <= SHORT:
        yield from ([body[:at], body[at:]] for at in range(1, len(body)))
        return
    dice = random.Random(seed)
    for _ in range(CUTS):
        yield marking.cuts(body, dice)


def outcome(chunks: list[bytes], policy: Policy, view: RequestView, surface: Surface) -> bytes | str:
    try:
        return marking.stream(chunks, policy, view, surface=surface)
    except UpstreamError as error:
        return str(error)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("file", FILES)
def test_no_cut_changes_an_answer(file: str) -> None:
    surface, tried = FILES[file], 0
    policy = marking.policy(positions=("start", "middle", "end"), middle_after=60)
    for exchange, body in recorded.of(file, stream=True):
        view = view_of(surface, exchange)
        whole = outcome([body], policy, view, surface)
        for chunks in ways(body, exchange["id"]):
            assert outcome(chunks, policy, view, surface) == whole, exchange["id"]
            tried += 1
    print(f"{file}: {tried} cuts")
    assert tried > 300
