"""What every surface offers: the types that the rest of the proxy knows."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from llm_label.errors import LabelError
from llm_label.policy import Plan, RequestView
from llm_label.proxy.notice import Notice, Outcome
from llm_label.proxy.sse import Event

__all__ = ["Answering", "Surface"]


class Answering(Protocol):
    """Mark one answer, whole or as a stream. One object per response; raises UpstreamError for what it cannot read."""

    body_field: bool
    failed: bool  # the upstream sent an error object
    ended: bool  # the upstream has said its last word

    def whole(self, raw: bytes) -> bytes:
        """Return the JSON answer with its marks."""

    def feed(self, event: Event) -> bytes:
        """Return the bytes that go to the client for one event of the stream."""

    def again(self, raw: bytes) -> bytes | None:
        """Return the bytes that go to the client for an event like the one before; None: it has to be parsed."""

    def finish(self) -> bytes:
        """Return what must follow when the upstream's bytes end; raises UpstreamError when they end too early."""

    def flush(self) -> bytes:
        """Return pending text and labels of a stream that breaks off; the error frame comes after it."""

    def error_frame(self, error: LabelError) -> bytes:
        """Return an error as an event of the stream: SDKs raise it."""

    def outcome(self) -> Outcome:
        """Say what really happened so far."""


class Surface(Protocol):
    """A module per API shape: where the text sits in it."""

    NAME: str
    PATH: str

    def Answer(self, plan: Plan, notice: Notice, n: int = 1, body_field: bool = True) -> Answering: ...

    def view(self, body: Mapping[str, Any]) -> RequestView:
        """Return what policy may know of a request. Raises ClientError for a shape that hides its text."""

    def clean(self, raw: bytes, body: Mapping[str, Any], known: Collection[str]) -> bytes:
        """Take our own labels out of assistant turns, and touch nothing else of the request."""

    def error_body(self, error: LabelError) -> dict[str, Any]:
        """Return an error in the shape that clients of this API raise on."""
