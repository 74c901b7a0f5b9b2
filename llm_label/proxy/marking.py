"""Mark the bytes of one answer, whole or as a stream in pieces of any size; the one place that may give marking up.

Nothing here does I/O. What cannot be marked ends the stream (`broke`), unless the operator wrote `on_failure = "open"`.
"""

import contextlib

from llm_label.errors import LabelError, UpstreamError
from llm_label.proxy import sse
from llm_label.proxy.surfaces.surface import Answering

__all__ = ["Marking"]


class Marking:
    """One answer on its way through."""

    def __init__(self, answer: Answering, *, untouched: bool, fail_open: bool) -> None:
        self.answer = answer
        self.untouched = untouched  # every mark is off, and the bytes pass unparsed (the touch law)
        self.opened: UpstreamError | None = None  # why marking was given up, and the bytes pass since then
        self.broke: Exception | None = None  # why the stream cannot go on; what stood before it was returned
        self._fail_open = fail_open
        self._parser = sse.Parser()
        self._between = False  # what came so far ends where an event ends, and all of it was marked

    def whole(self, body: bytes) -> bytes:
        """Return the marked JSON answer. Raises UpstreamError for one that cannot be marked."""
        if self.untouched:
            return body
        try:
            return self.answer.whole(body)
        except UpstreamError as error:
            if not self._fail_open:
                raise
            self.opened = error
            return body

    def feed(self, chunk: bytes) -> bytes:
        """Return what goes to the client for a chunk of a stream; look at `broke` afterwards."""
        if self._between and (out := self.answer.again(chunk)) is not None:
            return out
        if self.untouched or self.opened:
            return chunk
        try:
            events = self._parser.feed(chunk)
        except UpstreamError as error:
            if not self._fail_open:
                self.broke = error
                return b""
            self.opened, self._between = error, False
            return self.answer.flush() + self._parser.finish() + chunk
        out = self._mark(events)
        self._between = self._parser.between and not self.opened
        return out + self._parser.finish() if self.opened else out

    def end(self, cut: UpstreamError | None = None) -> bytes:
        """Return what follows the upstream's last byte; look at `broke` afterwards.

        `cut` says that the upstream broke off: no harm behind the end of an answer, where nothing may follow either.
        """
        if self.broke:
            return b""
        if self.untouched or self.opened:
            self.broke = cut
            return b""
        out = self._mark(self._parser.end())
        if not (self.broke or self.opened):
            try:
                out += self.answer.finish()
            except UpstreamError as error:
                self.broke = cut or error
        return out

    def broken_off(self, error: LabelError) -> bytes:
        """Return the end of a stream that cannot go on: what is pending, then an error that SDKs raise."""
        if self.untouched or self.opened:  # the bytes so far may end in the middle of an event
            return b"\n\n" + self.answer.error_frame(error)
        pending = b""
        with contextlib.suppress(Exception):  # our own mistake must not hide the error from the client
            pending = self.answer.flush()
        return pending + self.answer.error_frame(error)

    def _mark(self, events: list[sse.Event]) -> bytes:
        out, several = [], len(events) > 1
        for event in events:
            over = self.answer.failed or self.answer.ended
            try:
                known = event.raw if self.opened else self.answer.again(event.raw) if several else None
                out.append(self.answer.feed(event.for_all()) if known is None else known)
            except UpstreamError as error:
                if not self._fail_open:
                    if over:
                        continue  # nothing of ours may follow an error or the end, and no client misses this
                    self.broke = error
                    break
                self.opened = error
                out += [self.answer.flush(), event.raw]
            except Exception as error:
                self.broke = error
                break
        return out[0] if len(out) == 1 else b"".join(out)
