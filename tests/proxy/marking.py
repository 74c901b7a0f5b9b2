"""Build the marking side of an answer without a server, for tests."""

import random
from collections.abc import Iterable
from typing import Any

from llm_label.metadata.aigc import Record
from llm_label.policy import Policy, RequestView, decide
from llm_label.proxy.marking import Marking
from llm_label.proxy.notice import Notice
from llm_label.proxy.surfaces import chat
from llm_label.proxy.surfaces.surface import Answering, Surface
from llm_label.settings import parse

CONTENT_ID = "0" * 32


def policy(**labels: Any) -> Policy:
    tree = {"provider": {"name": "Acme"}, "labels": {"language": "zh", **labels}}
    return Policy.of(parse(tree), upstream_watermarks=False)


def answer(
    policy: Policy, view: RequestView | None = None, *, body_field: bool = True, surface: Surface = chat
) -> Answering:
    view = view or RequestView(surface.NAME)
    plan = decide(view, policy)
    notice = Notice(CONTENT_ID, Record.produced(policy.producer, CONTENT_ID), plan, None, policy.id)
    return surface.Answer(plan, notice, view.n, body_field)


def stream(chunks: Iterable[bytes], policy: Policy, view: RequestView | None = None, **more: Any) -> bytes:
    """Pass a stream through, cut as given."""
    marked = Marking(answer(policy, view, **more), untouched=False, fail_open=False)
    out = [marked.feed(chunk) for chunk in chunks if not marked.broke]
    out.append(marked.end())
    if marked.broke:
        raise marked.broke
    return b"".join(out)


def cuts(body: bytes, random_: random.Random) -> list[bytes]:
    """Cut a body at up to 40 random places."""
    points = sorted(random_.randrange(len(body) + 1) for _ in range(random_.randrange(40)))
    return [body[a:b] for a, b in zip([0, *points], [*points, len(body)], strict=True)]
