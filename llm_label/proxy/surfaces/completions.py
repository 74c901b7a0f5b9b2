"""Text completions, the older API: the text sits in `choices[].text`, whole and in streams.

Beside the rules of `choices.py`: an answer that goes into the middle of a text (a `suffix`, or fill-in-the-middle
markers in every prompt) gets no label; with `echo` the prompt stands before the answer, and with `logprobs` a label
before it would shift every `text_offset`, so both are labelled at the end only. Nothing here does I/O.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from llm_label.errors import ClientError
from llm_label.policy import RequestView
from llm_label.proxy.jsonspan import Editor
from llm_label.proxy.surfaces import asked
from llm_label.proxy.surfaces.choice import Choice, Delta, Piece
from llm_label.proxy.surfaces.choices import Choices
from llm_label.proxy.surfaces.reading import error_body, malformed

__all__ = ["NAME", "PATH", "Answer", "clean", "error_body", "view"]

NAME = "completions"

PATH = "/v1/completions"

# What stands before the text and before its continuation in a prompt to be filled in. One of them alone may be
# anything: `<PRE>` is HTML too.
FILL_IN = (
    ("<|fim_prefix|>", "<|fim_suffix|>"),  # Qwen Coder, CodeGemma
    ("<fim_prefix>", "<fim_suffix>"),  # StarCoder, Granite, Refact
    ("<fim-prefix>", "<fim-suffix>"),  # SantaCoder
    ("<[fim-prefix]>", "<[fim-suffix]>"),  # Seed-Coder
    ("<PRE>", "<SUF>"),  # Code Llama
    ("[PREFIX]", "[SUFFIX]"),  # Codestral
    ("<|fim_begin|>", "<|fim_hole|>"),  # DeepSeek Coder, in ASCII and as its tokenizer spells it
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>"),
    ("<|code_prefix|>", "<|code_suffix|>"),  # CodeGeeX, Yi Coder
)


def view(body: Mapping[str, Any]) -> RequestView:
    """Return what policy may know of a request. Raises ClientError for a prompt of another shape."""
    prompts = _prompts(body.get("prompt"))
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    return RequestView(
        surface=NAME,
        model=asked.model(body),
        stream=body.get("stream") is True,
        n=asked.count(body) * len(prompts),
        structured=asked.structured(body),
        json=asked.json_only(body),
        prefill=bool(body.get("echo")) or _counts(body.get("logprobs")),
        fill_in=bool(body.get("suffix")) or all(_to_fill_in(prompt) for prompt in prompts),
        greedy=asked.greedy(body),
        prompt=texts[0] if texts else "",
    )


def clean(raw: bytes, body: Mapping[str, Any], known: Collection[str]) -> bytes:
    """Return the request as it is: a bare prompt does not say which part of it an assistant wrote."""
    return raw


@dataclass
class Answer(Choices):
    """Mark one completion, whole or as a stream."""

    TEXT = ("text",)
    SIMPLE = frozenset(["index", "text", "finish_reason", "logprobs"])

    def _label_whole(self, editor: Editor, at: int, choice: Mapping[str, Any], state: Choice) -> None:
        text = _text(choice)
        new = state.feed(text) + state.close()
        if new != text:
            editor.set(("choices", at, "text"), new, text)

    def _texts(self, at: int, choice: Mapping[str, Any]) -> list[Piece]:
        text = _text(choice)
        return [] if choice.get("text") is None else [(("choices", at, "text"), text)]

    def _label_chunk(
        self, editor: Editor, at: int, choice: Mapping[str, Any], pieces: list[Piece], state: Choice
    ) -> Delta:
        edit = Delta(("choices", at), choice, choice.get("logprobs") is not None, key="text")
        for where, text in pieces:
            edit.replace(where, text, state.feed(text) if text else "")
        return edit

    def _alone(self, choice: Mapping[str, Any]) -> Any:
        return choice.get("text")

    def _piece(self, text: str) -> dict[str, Any]:
        return {"text": text}


def _prompts(prompt: Any) -> list[Any]:
    """List the prompts of a request: a text, token ids, or a list of one kind of them."""
    if prompt is None or isinstance(prompt, str):  # none: the server's own beginning of a text
        return [prompt]
    if not isinstance(prompt, list):
        raise ClientError(f"prompt must be a string or a list of strings or token ids, not {type(prompt).__name__}")
    many = [part for part in prompt if isinstance(part, str | list)]
    return many or [prompt]


def _counts(logprobs: Any) -> bool:
    """Say whether log-probabilities are asked for: 0 asks for those of the chosen tokens."""
    return logprobs is not None and logprobs is not False


def _to_fill_in(prompt: Any) -> bool:
    return isinstance(prompt, str) and any(before in prompt and after in prompt for before, after in FILL_IN)


def _text(choice: Mapping[str, Any]) -> str:
    """Return the text of a choice. Raises UpstreamError where text may stand in a place we do not know."""
    text = choice.get("text")
    if text is not None and not isinstance(text, str):
        raise malformed(f"a text of type {type(text).__name__}")
    if text is None and (choice.get("delta") or choice.get("message")):
        raise malformed("a chat answer where a text completion was expected")
    return text or ""
