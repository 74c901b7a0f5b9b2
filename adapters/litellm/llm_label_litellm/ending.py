"""Whether a provider's stream had its end. No I/O here.

Where a stream just stops, litellm writes `finish_reason: stop` of its own; passed on, a truncated answer would read as
complete. For most providers litellm's stream object knows which it was. For Gemini it takes every part for the last
one, and of Cohere's it does not read the end at all, so there the provider's own events are looked at as they pass.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["Ending"]

Part = dict[str, Any]


def _gemini(part: Part) -> bool:
    candidates = part.get("candidates") or ()
    blocked = bool((part.get("promptFeedback") or {}).get("blockReason"))
    return blocked or any(c.get("finishReason") for c in candidates if isinstance(c, dict))


def _cohere(part: Part) -> bool:
    return "message-end" in (part.get("type"), part.get("event")) or part.get("is_finished") is True


# litellm's name of the provider -> whether an event of it is the end
ENDS: dict[str, Callable[[Part], bool]] = {
    "gemini": _gemini,
    "vertex_ai": _gemini,
    "vertex_ai_beta": _gemini,
    "cohere": _cohere,
    "cohere_chat": _cohere,
}


class Ending:
    """Watch one stream of litellm, from before its first part."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._seen: bool | None = None  # None: there was nothing to look at
        self._is_end = ENDS.get(getattr(stream, "custom_llm_provider", None) or "")
        if self._is_end is None:
            return
        if getattr(stream, "completion_stream", None) is not None:
            self._watch(stream.completion_stream)
        elif (make := getattr(stream, "make_call", None)) is not None:

            async def call(**given: Any) -> Any:
                return self._watch(await make(**given))

            stream.make_call = call

    @property
    def made_up(self) -> bool:
        """Say whether the end that litellm tells of was not the provider's."""
        if self._is_end is not None:
            return self._seen is False
        reasons = ("received_finish_reason", "intermittent_finish_reason")
        return all(getattr(self._stream, name, "") is None for name in reasons)

    def _watch(self, parts: Any) -> Any:
        """Look at each event that litellm's reader of this stream takes apart."""
        parse = getattr(parts, "chunk_parser", None)
        if parse is None or self._is_end is None:
            return parts
        self._seen = False
        is_end = self._is_end

        def parser(chunk: Any) -> Any:
            self._seen = self._seen or (isinstance(chunk, dict) and is_end(chunk))
            return parse(chunk=chunk)

        parts.chunk_parser = parser
        return parts
