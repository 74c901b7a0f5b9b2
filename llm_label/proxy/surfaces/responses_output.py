"""The output of one response: which of its texts people read, their labels, and the edits that write them.

A text is labelled as a function of itself alone, once, however often events repeat it. No I/O here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_label.policy import Plan, Skipped
from llm_label.proxy.jsonspan import Editor, Path
from llm_label.proxy.surfaces.choice import TEXT_PARTS, texts
from llm_label.proxy.surfaces.reading import malformed
from llm_label.proxy.surfaces.responses_text import Text

__all__ = ["Output", "is_labelled", "object_of", "string_of"]

OTHERS = ("user", "system", "developer", "tool")  # roles of messages that the model did not write


@dataclass
class Output:
    """Every text of a response, streamed or whole."""

    plan: Plan
    texts: list[Text] = field(default_factory=list)
    seen: bool = False  # there is an answer, be it without text
    tools: bool = False
    refusal: bool = False
    _finished: dict[str, Text] = field(default_factory=dict)  # by what came

    def begin(self) -> Text:
        """Return a new text."""
        self.seen = True
        self.texts.append(Text(self.plan.labeler()))
        return self.texts[-1]

    def end(self, text: Text) -> None:
        """Keep a text that was streamed to its end for the events that repeat it."""
        self._finished[text.came] = text

    def mark(self, came: str) -> Text:
        """Return a whole text with its labels."""
        if came not in self._finished:
            text = self._finished[came] = self.begin()
            text.feed(came)
            text.close()
        return self._finished[came]

    def note(self, thing: Mapping[str, Any]) -> None:
        """Remember what an item or part says about the kind of this answer."""
        kind = thing.get("type")
        self.tools = self.tools or (isinstance(kind, str) and kind.endswith(("_call", "_request")))
        self.refusal = self.refusal or kind == "refusal"
        self.seen = True

    def skipped(self, failed: bool) -> Skipped | None:
        """Say why there is no label; None: there is one, or it is still to come."""
        if any(text.present for text in self.texts):
            return Skipped.LABELLED
        if any(text.shown for text in self.texts):
            return None
        if failed:
            return Skipped.ERROR
        return Skipped.TOOL_CALL if self.tools else Skipped.REFUSAL if self.refusal else Skipped.EMPTY

    def write_response(self, editor: Editor, path: Path, response: Mapping[str, Any]) -> None:
        """Label every text of a response object. Raises UpstreamError where text may hide in a shape of its own."""
        output = response.get("output")
        if output is not None and not isinstance(output, list):
            raise malformed("a response whose output is not a list")
        for at, item in enumerate(output or ()):
            self.write_item(editor, (*path, "output", at), object_of(item, "an item"))
        if response.get("output_text"):  # a convenience of some servers; SDKs compute it
            self._write_joined(editor, (*path, "output_text"), response["output_text"], output or [])

    def write_item(self, editor: Editor, path: Path, item: Mapping[str, Any]) -> None:
        """Label the texts of an output item, if it is a message that people read."""
        self.note(item)
        if not is_labelled(item):
            return
        content = item.get("content")
        if not isinstance(content, list):
            if content is not None:
                self.write(editor, (*path, "content"), string_of(content, "a message's content"))
            return
        for at, part in enumerate(content):
            if isinstance(part, str):
                self.write(editor, (*path, "content", at), part)
            elif isinstance(part, dict):
                self.note(part)
                self.write_part(editor, (*path, "content", at), part)

    def write_part(self, editor: Editor, path: Path, part: Mapping[str, Any]) -> None:
        """Label the text of a part and move its annotations."""
        if part.get("type") not in TEXT_PARTS or part.get("text") is None:
            return
        text = self.write(editor, (*path, "text"), string_of(part["text"], "a text part"))
        annotations = part.get("annotations")
        for at, annotation in enumerate(annotations if isinstance(annotations, list) else ()):
            for name, index in text.moved(annotation):
                editor.set((*path, "annotations", at, name), index)

    def write(self, editor: Editor, path: Path, came: str) -> Text:
        """Label the text at `path`."""
        text = self.mark(came)
        if text.goes != came:
            editor.set(path, text.goes, came)
        return text

    def _write_joined(self, editor: Editor, path: Path, joined: Any, output: Sequence[Mapping[str, Any]]) -> None:
        """Label the joined text of all messages, by their own labels where it is just that."""
        messages = [item for item in output if item.get("type") == "message"]
        pairs = [(came, is_labelled(item)) for item in messages for _, came in texts(item.get("content"), ())]
        if string_of(joined, "an output_text") == "".join(came for came, _ in pairs):
            goes = "".join(self.mark(came).goes if labelled else came for came, labelled in pairs)
            if goes != joined:
                editor.set(path, goes, joined)
        else:
            self.write(editor, path, joined)


def is_labelled(item: Mapping[str, Any]) -> bool:
    """Say whether an output item is a message that people read as the answer: any that is not known to be another."""
    return item.get("type") == "message" and item.get("role") not in OTHERS and item.get("phase") != "commentary"


def string_of(value: Any, what: str) -> str:
    """Return a string. Raises UpstreamError for anything else."""
    if not isinstance(value, str):
        raise malformed(f"{what} of type {type(value).__name__} where text was expected")
    return value


def object_of(value: Any, what: str) -> Mapping[str, Any]:
    """Return a JSON object. Raises UpstreamError for anything else."""
    if not isinstance(value, dict):
        raise malformed(f"{what} that is not an object")
    return value
