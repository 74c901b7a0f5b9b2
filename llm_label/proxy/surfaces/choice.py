"""One choice of an answer: how far its label is, where its texts lie, and the edits of one delta. No I/O here."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_label.labels.labeler import Labeler
from llm_label.labels.wording import POSITIONS
from llm_label.policy import Plan, Skipped
from llm_label.proxy.jsonspan import Editor, Path
from llm_label.proxy.notice import Outcome
from llm_label.proxy.surfaces.citations import label_spans, moved
from llm_label.proxy.surfaces.reading import malformed

__all__ = ["Choice", "Delta", "Piece", "answered", "calls", "outcome", "reason", "texts"]

Piece = tuple[Path, str]  # where a text stands in its frame, and the text
TEXT_PARTS = (None, "text", "output_text")  # types of content parts that people read; reasoning is another


@dataclass
class Choice:
    """Where one choice stands in its answer."""

    labeler: Labeler | None
    text: bool = False  # it has given more than white space
    closed: bool = False  # its labeler is finished
    finish_reason: str | None = None
    tools: bool = False
    refusal: bool = False
    shown: tuple[str, ...] = ()  # labels of a whole message that came instead of deltas
    _behind: bool = False  # the end label was written, and no text behind it yet
    _goes: list[str] = field(default_factory=list)  # what went out of it, for citations of its characters

    @property
    def applied(self) -> tuple[str, ...]:
        return (self.labeler.applied if self.labeler else ()) or self.shown

    def feed(self, text: str) -> str:
        """Return what goes out for a piece of text. Raises UpstreamError for text that no label can reach any more."""
        if not text:  # of nothing comes nothing
            return text
        self.text = self.text or not text.isspace()
        if self.labeler is None:
            return text
        if not self.closed:
            out = self.labeler.feed(text)
            self._goes.append(out)
            return out
        self.check(text)
        # Text may go on after a tool call, before which the end label stood: it becomes a label between paragraphs.
        lead, self._behind = "\n\n\n" if self._behind else "", False
        return lead + text

    def check(self, text: str) -> None:
        """Raise UpstreamError for text that no label can reach any more."""
        unlabelled = self.closed and self.labeler and not (self.labeler.applied or self.labeler.present)
        if unlabelled and text and not text.isspace():
            raise malformed("text after its finish_reason")

    @property
    def due(self) -> bool:
        """Whether a label may still follow the text."""
        return self.labeler is not None and not self.closed and self.labeler.due

    def settle(self) -> str:
        """Return what is held back: the text may go on, but in another place."""
        return "" if self.closed or self.labeler is None else self.labeler.settle()

    def close(self) -> str:
        """Return what still has to follow the text, once."""
        if self.closed or self.labeler is None:
            return ""
        self.closed = True
        rest = self.labeler.finish()
        self._behind = "end" in self.labeler.applied
        return rest

    def cite(self, editor: Editor, path: Path, annotations: Any) -> None:
        """Move the citations of this text by the labels before the places they name."""
        if self.labeler is None or not self.labeler.applied or not isinstance(annotations, list):
            return
        spans = list(label_spans("".join(self._goes), self.labeler))
        for k, annotation in enumerate(annotations):
            inner = annotation.get("url_citation") if isinstance(annotation, dict) else None
            where = (*path, k, "url_citation") if isinstance(inner, dict) else (*path, k)
            for name, index in moved(inner if isinstance(inner, dict) else annotation, spans):
                editor.set((*where, name), index)

    def note(self, message: Mapping[str, Any]) -> None:
        self.tools = self.tools or calls(message)
        self.refusal = self.refusal or bool(message.get("refusal"))

    def skipped(self) -> Skipped | None:
        """Say why there is no label; None: there is one, or it is still to come."""
        if self.labeler is None or self.applied:
            return None
        if self.labeler.present:
            return Skipped.LABELLED
        if self.text:
            return None
        return Skipped.TOOL_CALL if self.tools else Skipped.REFUSAL if self.refusal else Skipped.EMPTY


@dataclass
class Delta:
    """The edits of one delta: texts replaced in place, or a frame of our own before it."""

    path: Path
    delta: Mapping[str, Any]
    logprobs: bool
    key: str = "content"  # the member that holds the text
    there: bool = True  # False: the choice has no delta yet
    before: str = ""
    texts: dict[Path, tuple[str | None, str]] = field(default_factory=dict)  # path -> (as it came, as it goes)

    def replace(self, where: Path, old: str, new: str) -> None:
        if self.logprobs and new != old and new.endswith(old):
            self.before += new[: len(new) - len(old)]
            new = old
        self.texts[where] = (old, new)

    def append(self, tail: str) -> None:
        """Put the end of the text after this delta's own text, or before the delta when it has none."""
        if not tail:
            return
        has_text = any(old or new for old, new in self.texts.values())
        if not has_text and (self.logprobs or calls(self.delta)):
            self.before += tail
        elif self.texts:
            where = next(reversed(self.texts))
            old, new = self.texts[where]
            self.texts[where] = (old, new + tail)
        elif self.delta.get(self.key) is not None:  # a list without text, which must stay as it is
            self.before += tail
        else:
            self.texts[(*self.path, self.key)] = (None, tail)

    def write(self, editor: Editor) -> None:
        for where, (old, new) in self.texts.items():
            if new != old:
                if self.there:
                    editor.set(where, new, old)
                else:
                    editor.set(self.path, {self.key: new})


def outcome(plan: Plan, choices: Collection[Choice], *, failed: bool, upstream_id: Any) -> Outcome:
    """Say what happened to the choices of an answer so far."""
    applied = [positions for c in choices if (positions := c.applied)]
    skipped = None if applied else _skipped(plan, choices, failed)
    everywhere = applied[0] if len(applied) == 1 else tuple(p for p in POSITIONS if p in set().union(*applied))
    return Outcome(
        label_applied=everywhere,
        label_skipped=str(skipped) if skipped else None,
        upstream_id=str(upstream_id) if upstream_id else None,
        finish_reasons=tuple(c.finish_reason for c in choices if c.finish_reason),
        choices=len(choices),
        labelled=len(applied),
    )


def _skipped(plan: Plan, choices: Collection[Choice], failed: bool) -> Skipped | None:
    if plan.label_skipped:
        return plan.label_skipped
    reasons = [c.skipped() for c in choices]
    if None in reasons:
        return None  # there is text, and its label is still to come
    if failed:
        return Skipped.ERROR
    return reasons[0] if reasons else Skipped.EMPTY


def answered(content: Any, path: Path) -> list[Piece]:
    """List the texts of an answer. Raises UpstreamError where text may hide in a shape we cannot label."""
    if content is not None and not isinstance(content, str | list):
        raise malformed(f"content of type {type(content).__name__} where text was expected")
    for part in content if isinstance(content, list) else ():
        text = part.get("text") if isinstance(part, dict) and part.get("type") in TEXT_PARTS else None
        if text is not None and not isinstance(text, str):
            raise malformed(f"a text part that holds {type(text).__name__} where text was expected")
    return texts(content, path)


def texts(content: Any, path: Path) -> list[Piece]:
    """List the texts of a content value: a string, null, or a list of parts."""
    if isinstance(content, str):
        return [(path, content)]
    found: list[Piece] = []
    for k, part in enumerate(content if isinstance(content, list) else ()):
        if isinstance(part, str):
            found.append(((*path, k), part))
        elif isinstance(part, dict) and part.get("type") in TEXT_PARTS and isinstance(part.get("text"), str):
            found.append(((*path, k, "text"), part["text"]))
    return found


def calls(message: Mapping[str, Any]) -> bool:
    """Say whether a message or delta holds a tool call."""
    return bool(message.get("tool_calls") or message.get("function_call"))


def reason(choice: Mapping[str, Any]) -> str | None:
    """Return the finish_reason; some servers write `""` or `"null"` while there is none."""
    given = choice.get("finish_reason")
    return given if isinstance(given, str) and given not in ("", "null") else None
