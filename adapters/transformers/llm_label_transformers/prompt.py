"""Turn chat messages into token ids.

Special-token strings inside a message stay text: each is broken up by a sign that occurs nowhere else before the
template is rendered, so that only the template's own special tokens are recognised, and mended before encoding.
A checkpoint without a chat template gets the messages' texts joined by blank lines, and continues them.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer

from .request import RequestRefused

__all__ = ["Prompter"]

PRIVATE_USE = range(0xE000, 0xF8FF)


class Prompter:
    """Encode prompts for one tokenizer; holds no state between calls."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        backend: Tokenizer = tokenizer.backend_tokenizer
        template = tokenizer.chat_template
        self._template = template if isinstance(template, str) else (template or {}).get("default", "")
        state = json.loads(backend.to_str())
        state["truncation"] = state["padding"] = None
        self._whole = Tokenizer.from_str(json.dumps(state))
        added = {t["content"]: t["id"] for t in state["added_tokens"] if self._means(t)}
        state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in added]
        self._ids: dict[str, int] = added
        self._plain = Tokenizer.from_str(json.dumps(state))
        names = sorted(map(re.escape, added), key=len, reverse=True)
        self._pattern = re.compile("|".join(names)) if names else None

    def _means(self, token: dict[str, Any]) -> bool:
        """Say whether a string means something to the model: special, or used by the chat template."""
        return bool(token["special"]) or token["content"] in self._template

    def encode(self, messages: Sequence[dict[str, str]]) -> list[int]:
        """Return the prompt's ids. Raises RequestRefused when the template refuses the messages."""
        if not self._pattern or not any(self._pattern.search(m["content"]) for m in messages):
            return self._whole.encode(self._render(messages), add_special_tokens=False).ids
        wedge = _unused(messages)
        pattern = self._pattern

        def broken(text: str) -> str:
            return pattern.sub(lambda found: wedge.join(found[0]), text)

        guarded = [{**message, "content": broken(message["content"])} for message in messages]
        return self._encode_guarded(self._render(guarded), wedge)

    def _render(self, messages: Sequence[dict[str, str]]) -> str:
        if not self._template:
            return (self._tokenizer.bos_token or "") + "\n\n".join(m["content"] for m in messages)
        prefilled = messages[-1]["role"] == "assistant"
        try:
            text: str = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=not prefilled,
                continue_final_message=prefilled,
            )
        except (TemplateError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise RequestRefused(f"the chat template refuses these messages: {reason}", "messages") from None
        return text

    def _encode_guarded(self, text: str, wedge: str) -> list[int]:
        assert self._pattern
        ids: list[int] = []
        at = 0
        for found in self._pattern.finditer(text):
            ids += self._text_ids(text[at : found.start()], wedge)
            ids.append(self._ids[found[0]])
            at = found.end()
        return ids + self._text_ids(text[at:], wedge)

    def _text_ids(self, text: str, wedge: str) -> list[int]:
        ids: list[int] = self._plain.encode(text.replace(wedge, ""), add_special_tokens=False).ids
        return ids


def _unused(messages: Sequence[dict[str, str]]) -> str:
    used = set().union(*(message["content"] for message in messages))
    free = next((chr(code) for code in PRIVATE_USE if chr(code) not in used), None)
    if free is None:
        raise RequestRefused("messages use every private-use character; leave one free", "messages")
    return free
