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
from urllib.parse import unquote_plus

from llm_label.audit.entry import Entry
from llm_label.errors import ClientError
from llm_label.labels.wording import language_of
from llm_label.policy import Caller, RequestView, Skipped
from llm_label.proxy.surfaces import chat, responses
from llm_label.proxy.surfaces.surface import Surface

__all__ = ["KEPT_ROUTES", "Stored", "derived_id", "stored"]

# Gateways write more into their numbers than letters and digits. What could be read as another path is no number.
_ID = r"(?!\.\.?(?:/|$))[A-Za-z0-9._~:=+@-]{1,400}"
_ROUTES: tuple[tuple[re.Pattern[str], Surface], ...] = (
    (re.compile(rf"GET /v1/responses/({_ID})"), responses),
    (re.compile(rf"POST /v1/responses/({_ID})/cancel"), responses),
    (re.compile(rf"GET /v1/chat/completions/({_ID})"), chat),
)
KEPT_ROUTES = re.compile(rf"DELETE /v1/(?:responses|chat/completions)/({_ID})")  # without text in their answers
STREAM, AFTER = "stream", "starting_after"
YES, NO = ("true", "1"), ("false", "0", "")


@dataclass(frozen=True)
class Stored:
    """A request for an answer that was given before."""

    surface: Surface
    id: str  # the upstream's number for the answer
    path: str  # as it goes to the upstream
    stream: bool
    after: int | None  # the client has the events up to this sequence number

    @property
    def whole(self) -> str:
        """The path of the answer as one JSON object."""
        return f"{self.surface.PATH}/{self.id}"

    def again(self, entry: Entry, caller: Caller) -> RequestView:
        """Return what policy needs to decide as it did the first time."""
        languages, planned = entry.language.split(), tuple(entry.label_planned.split())
        off, machine = entry.label_skipped == Skipped.OFF, entry.traffic == "machine"
        structured = not (planned or off or machine)  # the one reason left for planning none
        return RequestView(
            self.surface.NAME,
            model=entry.model,
            stream=self.stream,
            structured=structured,
            json=structured and bool(languages),  # else no label could become due, and it has no language
            start=languages[0] if languages else None,
            caller=Caller(
                name=entry.client,
                traffic="machine" if machine else "human",
                positions=planned if planned or off else caller.positions,
                language=languages[1] if len(languages) > 1 else "auto",
                withheld=caller.withheld,
            ),
        )

    def anew(self, body: Mapping[str, Any], caller: Caller) -> RequestView:
        """Return what policy may know of an answer that nothing is known of, by the answer itself."""
        model, language = body.get("model"), language_of("\n".join(_texts(body.get("output") or body.get("choices"))))
        asked = {key: body[key] for key in ("text", "response_format") if isinstance(body.get(key), dict)}
        view = self.surface.view({"messages": [], **asked})
        return RequestView(
            self.surface.NAME,
            model=model if isinstance(model, str) else None,
            stream=self.stream,
            structured=view.structured,
            json=view.json,
            start=language,
            caller=caller,
        )


def stored(method: str, path: str, query: str) -> Stored | None:
    """Recognise a route. Raises ClientError for a query that says two things at once."""
    name = f"{method} {path}"
    for route, surface in _ROUTES:
        if found := route.fullmatch(name):
            return _stored(surface, found[1], path, query)
    return None


def derived_id(secret: bytes, upstream_id: str) -> str:
    """Derive the content id of an answer without an entry: always the same, and nobody else's."""
    return hmac.digest(secret, b"llm-label retrieved answer\0" + upstream_id.encode(), "sha256").hex()[:32]


def _stored(surface: Surface, id: str, path: str, query: str) -> Stored:
    pieces = [(unquote_plus(piece.partition("=")[0]), piece) for piece in query.split("&") if piece]
    given = {name: unquote_plus(piece.partition("=")[2]) for name, piece in pieces}
    for name in (STREAM, AFTER):
        if sum(name == other for other, _ in pieces) > 1:
            raise ClientError(f"{name} is given twice; once is allowed")
    stream, after = given.get(STREAM, "").lower(), given.get(AFTER, "")
    if stream not in (*YES, *NO):
        raise ClientError(f"stream must be true or false, not {stream[:40]!r}")
    if not re.fullmatch(r"[0-9]{0,12}", after):
        raise ClientError(f"starting_after must be a whole number, not {after[:40]!r}")
    # The label of a stream that is taken up again depends on what came before: the upstream is asked from the start.
    rest = "&".join(piece for name, piece in pieces if name != AFTER)
    resumed = int(after) if after and stream in YES else None
    return Stored(surface, id, f"{path}?{rest}" if rest else path, stream in YES, resumed)


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
