"""Turn the growing token ids of one choice into text that is never taken back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

__all__ = ["ChoiceText", "Piece", "RunningDecoder", "StopMatcher", "context_of"]

Decode = Callable[[Sequence[int]], str]
UNFINISHED = "\ufffd"  # what a decoder shows for bytes that are no character yet


def context_of(prompt: Sequence[int], decode: Decode, most: int = 8) -> list[int]:
    """Return the fewest last ids of a prompt that are whole characters."""
    tails = (list(prompt[-size:]) for size in range(1, most + 1))
    return next((tail for tail in tails if UNFINISHED not in decode(tail)), [])


@dataclass
class RunningDecoder:
    """Decode ids one by one, each piece after the one before: decoders treat a text's first token differently."""

    decode: Decode
    before: list[int] = field(default_factory=list)  # ids of the last piece that was given out, or of the prompt
    _held: list[int] = field(default_factory=list)

    def feed(self, token: int) -> str:
        """Return the new text, nothing while a character is incomplete."""
        self._held.append(token)
        text = self._text()
        if not text or text.endswith(UNFINISHED):
            return ""
        self.before, self._held = self._held, []
        return text

    def finish(self) -> str:
        """Return what is still held back, with replacement characters for bytes that never became one."""
        text = self._text() if self._held else ""
        self._held = []
        return text

    def _text(self) -> str:
        return self.decode(self.before + self._held)[len(self.decode(self.before)) :]


@dataclass
class StopMatcher:
    """Let text through up to the first stop string; hold back only what may be the beginning of one."""

    stops: Sequence[str] = ()
    stopped: bool = False
    _held: str = ""

    def feed(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        at = min((i for i in map(self._held.find, self.stops) if i >= 0), default=-1)
        if at >= 0:
            self.stopped = True
            out, self._held = self._held[:at], ""
            return out
        keep = self._possible()
        out, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return out

    def finish(self) -> str:
        out, self._held = self._held, ""
        return out

    def _possible(self) -> int:
        """Return how many last characters may begin a stop string."""
        longest = min(max(map(len, self.stops), default=1) - 1, len(self._held))
        for size in range(longest, 0, -1):
            tail = self._held[-size:]
            if any(len(stop) > size and stop.startswith(tail) for stop in self.stops):
                return size
        return 0


@dataclass(frozen=True)
class Piece:
    """News of one choice: some text, or its end."""

    index: int
    text: str
    finish_reason: str | None = None


@dataclass
class ChoiceText:
    """The text of one choice: decoded, and cut at a stop string."""

    decoder: RunningDecoder
    stops: StopMatcher

    @property
    def stopped(self) -> bool:
        return self.stops.stopped

    def feed(self, token: int) -> str:
        return self.stops.feed(self.decoder.feed(token))

    def finish(self) -> str:
        return self.stops.feed(self.decoder.finish()) + self.stops.finish()
