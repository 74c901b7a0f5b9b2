"""Answers that the upstream keeps and a client asks for again: they get the same label and the same content id.

What was decided first stands in the audit log, under the upstream's own number for the answer. For one that is not
there (another proxy served it, or none) the content id is derived from that number, and the language of its label is
the answer's own.
"""

import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from llm_label.audit.entry import Entry
from llm_label.errors import ClientError
from llm_label.labels.wording import language_of
from llm_label.policy import Caller, RequestView, Skipped
from llm_label.proxy.surfaces import chat, responses
from llm_label.proxy.surfaces.surface import Surface

__all__ = ["KEPT_ROUTES", "Stored", "answer_language", "derived_id", "stored"]

_ID = r"[A-Za-z0-9_-]{1,200}"
_ROUTES: tuple[tuple[re.Pattern[str], Surface], ...] = (
    (re.compile(rf"GET /v1/responses/({_ID})"), responses),
    (re.compile(rf"POST /v1/responses/({_ID})/cancel"), responses),
    (re.compile(rf"GET /v1/chat/completions/({_ID})"), chat),
)
KEPT_ROUTES = re.compile(rf"DELETE /v1/(?:responses|chat/completions)/({_ID})")  # without text in their answers


@dataclass(frozen=True)
class Stored:
    """A request for an answer that was given before."""

    surface: Surface
    id: str  # the upstream's number for the answer
    path: str  # as it goes to the upstream
    stream: bool
    after: int | None  # the client has the events up to this sequence number

    def view(self, entry: Entry | None, caller: Caller, language: str | None) -> RequestView:
        """Return what policy needs to decide as it did the first time; without an entry it decides anew."""
        if entry is None:
            return RequestView(self.surface.NAME, stream=self.stream, start=language, caller=caller)
        languages = entry.language.split()
        json = bool(languages) and not entry.label_planned  # JSON was asked for, and prose would have been labelled
        again = Caller(
            name=entry.client,
            traffic="machine" if entry.traffic == "machine" else "human",
            positions=None if json else tuple(entry.label_planned.split()),
            language=languages[1] if len(languages) > 1 else None,
            withheld=caller.withheld,
        )
        return RequestView(
            self.surface.NAME,
            model=entry.model,
            stream=self.stream,
            structured=json or entry.label_skipped == Skipped.STRUCTURED,
            json=json,
            fill_in=entry.label_skipped == Skipped.FILL_IN,
            start=languages[0] if languages else None,
            caller=again,
        )


def stored(method: str, path: str, query: str) -> Stored | None:
    """Recognise a route. Raises ClientError for a query that no upstream could answer."""
    name = f"{method} {path}"
    for route, surface in _ROUTES:
        if found := route.fullmatch(name):
            return _stored(surface, found[1], path, dict(parse_qsl(query, keep_blank_values=True)))
    return None


def derived_id(secret: bytes, upstream_id: str) -> str:
    """Derive the content id of an answer without an entry: always the same, and nobody else's."""
    return hmac.digest(secret, b"llm-label retrieved answer\0" + upstream_id.encode(), "sha256").hex()[:32]


def answer_language(body: Mapping[str, Any]) -> str | None:
    """Tell the language of a stored answer by its texts."""
    return language_of("\n".join(_texts(body.get("output") or body.get("choices"))))


def _stored(surface: Surface, id: str, path: str, query: dict[str, str]) -> Stored:
    stream = query.get("stream", "").lower() in ("true", "1")
    # The label of a stream that is taken up again depends on what came before: it is read from the start.
    after = query.pop("starting_after", None) if stream else None
    if after is not None and not re.fullmatch(r"[0-9]{1,12}", after):
        raise ClientError(f"starting_after must be a whole number, not {after[:40]!r}")
    rest = urlencode(query)
    return Stored(surface, id, f"{path}?{rest}" if rest else path, stream, None if after is None else int(after))


def _texts(value: Any) -> Iterator[str]:
    """List the texts of an answer: what stands under `text`, or under `content` of a chat message."""
    if isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, dict):
        for key in ("message", "content", "text"):
            if isinstance(value.get(key), str):
                yield value[key]
            elif key in value:
                yield from _texts(value[key])
