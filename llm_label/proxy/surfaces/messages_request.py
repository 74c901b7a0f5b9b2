"""What a Messages request tells, and what of ours comes back in it. No I/O here.

Our own labels are taken out of assistant turns. A turn's text is spread over blocks, and was labelled as one text; so
it is cleaned as one text, then block by block for clients that kept only some of its blocks. Every other block and
every other member keeps its bytes: thinking is signed. A block that held nothing but a label is dropped, since the API
refuses text blocks without text.
"""

from collections.abc import Collection, Mapping
from typing import Any

from llm_label.labels.history import clean_text
from llm_label.labels.imprint import imprints
from llm_label.policy import RequestView
from llm_label.proxy.jsonspan import Editor, Path
from llm_label.proxy.surfaces import asked
from llm_label.proxy.surfaces.messages_blocks import kind_of

__all__ = ["NAME", "clean", "view"]

NAME = "messages"

Body = Mapping[str, Any]


def view(body: Body) -> RequestView:
    """Return what policy may know of a request. Raises ClientError when `messages` is not a list of objects."""
    messages = asked.messages(body)
    said = (asked.plain(m.get("content")) for m in reversed(messages) if m.get("role") == "user")
    return RequestView(
        surface=NAME,
        model=asked.model(body),
        stream=body.get("stream") is True,
        structured=_structured(body),
        json=_structured(body),  # a schema is all that this API offers
        prefill=bool(messages) and _prefilled(messages[-1]),
        greedy=asked.greedy(body),
        prompt=next((text for text in said if text), ""),  # the last user turn may hold results of tools alone
    )


def clean(raw: bytes, body: Mapping[str, Any], known: Collection[str]) -> bytes:
    """Take our own labels out of assistant turns, and touch nothing else of the request."""
    editor: Editor | None = None
    messages = body.get("messages")
    for i, message in enumerate(messages if isinstance(messages, list) else ()):
        if isinstance(message, dict) and message.get("role") == "assistant" and _mentions(message, known):
            editor = editor or Editor(raw)
            _clean_turn(editor, ("messages", i, "content"), message.get("content"), known)
    return editor.apply() if editor else raw


def _mentions(message: Mapping[str, Any], known: Collection[str]) -> bool:
    """Say whether any text of a turn holds a label: nearly no turn does without one of ours."""
    content = message.get("content")
    texts = [content] if isinstance(content, str) else [text for _, text in _texts(content)]
    return any(label in text for text in texts for label in known)


def _clean_turn(editor: Editor, path: Path, content: Any, known: Collection[str]) -> None:
    if isinstance(content, str):
        cleaned = clean_text(content, known)
        if cleaned != content and cleaned.strip():  # a turn without text would be refused
            editor.set(path, cleaned, content)
        return
    blocks = _texts(content)
    cleaned_blocks = _cleaned([text for _, text in blocks], known)
    pairs = list(zip(blocks, cleaned_blocks, strict=True))
    emptied = {k for (k, text), cleaned in pairs if text.strip() and not cleaned.strip()}
    dropped = {k for k in emptied if "cache_control" not in content[k]}  # a breakpoint that the client set stays
    if len(dropped) == len(content):
        dropped = set()
    for (k, text), cleaned in pairs:
        if cleaned != text and k not in emptied:
            editor.set((*path, k, "text"), cleaned, text)
    if dropped:
        editor.drop(path, dropped)


def _texts(content: Any) -> list[tuple[int, str]]:
    """List the text blocks of a turn: (index, text)."""
    return [
        (k, block["text"])
        for k, block in enumerate(content if isinstance(content, list) else ())
        if isinstance(block, dict) and block.get("type") == "text" and isinstance(block.get("text"), str)
    ]


def _cleaned(texts: list[str], known: Collection[str]) -> list[str]:
    """Clean texts that were labelled as one text, then each of them."""
    found = imprints("".join(texts).rstrip(), known)  # blank blocks may follow the one with the end label
    out, begin = [], 0
    for text in texts:
        kept, at, end = "", begin, begin + len(text)
        for imprint in sorted(found, key=lambda imprint: imprint.start):
            kept += text[at - begin : max(imprint.start, at) - begin]
            at = min(max(at, imprint.end), end)
        out.append(clean_text(kept + text[at - begin :], known))
        begin = end
    return out


def _structured(body: Body) -> bool:
    config = body.get("output_config")
    asked_for = (body.get("output_format"), config.get("format") if isinstance(config, dict) else None)
    return any(kind_of(given) not in (None, "text") for given in asked_for)


def _prefilled(message: Body) -> bool:
    """Say whether the answer continues a text. A paused turn, which ends in a tool's block, is not one."""
    content = message.get("content")
    last = content[-1] if isinstance(content, list) and content else content
    return message.get("role") == "assistant" and (isinstance(last, str) or kind_of(last) == "text")
