"""Decide, before an answer exists, which marks it gets, where, or why not.

The reasons in `Skipped` are the closed list of the fail-closed law: a *skip* is a decision that can be read in the
answer and the audit log; everything else that keeps a required mark from being applied is a failure.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from llm_label.errors import ClientError, MarkError, SettingsError
from llm_label.labels.labeler import Labels
from llm_label.labels.wording import LANGUAGES, POSITIONS, all_wordings, check_text, language_of, wording
from llm_label.metadata.provider_code import check_producer
from llm_label.metadata.provider_code import parse as parse_code
from llm_label.settings import LabelSettings, ProviderSettings, Settings

__all__ = ["Plan", "Policy", "RequestView", "Skipped", "decide"]


class Skipped(StrEnum):
    """Why a mark is left out although nothing failed."""

    OFF = "off"  # the operator planned none
    STRUCTURED = "structured"  # JSON mode, schema or grammar: the text is parsed by a program
    TOOL_CALL = "tool_call"  # the turn holds a tool call and no prose
    REFUSAL = "refusal"  # the turn holds a refusal and no prose
    EMPTY = "empty"  # the turn holds no text
    LABELLED = "labelled"  # the text came with one of our labels
    ERROR = "error"  # the upstream answered with an error, not with generated text
    GREEDY = "greedy"  # temperature 0 or beams: a distortion-free watermark has nothing to choose
    UPSTREAM = "upstream"  # this upstream gives us no hand in the choice of tokens


@dataclass(frozen=True)
class RequestView:
    """What policy may know of a request; a surface makes it."""

    surface: str
    model: str | None = None
    stream: bool = False
    n: int = 1
    structured: bool = False  # JSON mode, JSON schema, grammar, regex
    prefill: bool = False  # the last turn is the assistant's own beginning
    greedy: bool = False
    prompt: str = ""  # the last user message, for the language of a start label


@dataclass(frozen=True)
class Plan:
    """What will be attempted for one answer."""

    labels: Labels | None
    label_skipped: Skipped | None
    watermark: str | None  # key id
    watermark_skipped: Skipped | None
    watermark_required: bool = False


@dataclass(frozen=True)
class Policy:
    """The settings, checked once and turned into what `decide` needs."""

    producer: str
    texts: Mapping[str, str]
    positions: tuple[str, ...]
    language: str
    middle_after: int
    fail_open: bool
    key: str | None
    variety: str | None
    watermark_required: bool
    upstream_watermarks: bool
    known: frozenset[str] = field(repr=False)  # every label text that history cleaning recognises
    id: str = ""
    _plans: dict[object, Labels] = field(default_factory=dict, repr=False, compare=False)  # made once, used often

    @classmethod
    def of(cls, settings: Settings, *, upstream_watermarks: bool, issued: frozenset[str] = frozenset()) -> "Policy":
        """Check the settings as a whole. Raises SettingsError; MarkError for a watermark nobody can apply."""
        marks, labels = settings.watermark, settings.labels
        if marks.required and marks.key is None:
            raise SettingsError("watermark.required is set but watermark.key names no key")
        if marks.required and not upstream_watermarks:
            raise MarkError(
                f"watermark.required is set but {settings.upstreams[0].url} gives no access to its tokens; "
                "use a local: upstream or leave watermark.required out"
            )
        texts = label_texts(labels)
        return cls(
            producer=producer(settings.provider),
            texts=texts,
            positions=tuple(p for p in POSITIONS if p in labels.positions),
            language=_known_language(labels.language),
            middle_after=labels.middle_after,
            fail_open=labels.on_failure == "open",
            key=marks.key,
            variety=marks.variety,
            watermark_required=marks.required,
            upstream_watermarks=upstream_watermarks,
            known=issued | all_wordings() | frozenset(texts.values()),
            id=_fingerprint(settings),
        )


def decide(view: RequestView, policy: Policy) -> Plan:
    """Plan the marks of one answer. Raises ClientError when a required one cannot be applied to this request."""
    labels, label_skipped = _label(view, policy)
    skipped = _watermark_skipped(view, policy)
    if policy.watermark_required and skipped:
        raise ClientError(
            f"this server must watermark every answer, which is not possible here ({skipped}): "
            "sample with a temperature above 0 and without beams",
            code="mark_not_applied",
        )
    return Plan(
        labels=labels,
        label_skipped=label_skipped,
        watermark=None if skipped else policy.key,
        watermark_skipped=skipped,
        watermark_required=policy.watermark_required,
    )


def producer(provider: ProviderSettings) -> str:
    """Return the checked name or code of the record. Raises SettingsError when there is none."""
    if provider.name and provider.code:
        raise SettingsError("provider: give a name or a code, not both")
    if provider.code is not None:
        parse_code(provider.code)  # a code is a code: what has not its shape is no name either
        return check_producer(provider.code)
    if not provider.name:
        raise SettingsError(
            "provider: the record needs a name or the 27-character code; set provider.name or provider.code"
        )
    return check_producer(provider.name)


def label_texts(labels: LabelSettings) -> dict[str, str]:
    """Return the label text of every language, the operator's own wording first, each checked for its regimes."""
    for language in labels.texts:
        if language not in LANGUAGES:
            raise SettingsError(f"labels.texts: language {language!r} is not known; known: {', '.join(LANGUAGES)}")
    own = {language: check_text(text, labels.regimes) for language, text in labels.texts.items()}
    return {lang: own[lang] if lang in own else wording(lang, labels.regimes) for lang in LANGUAGES}


def _known_language(language: str) -> str:
    if language == "auto" or language in LANGUAGES:
        return language
    raise SettingsError(f"labels.language: {language!r} is not known; known: auto, {', '.join(LANGUAGES)}")


def _label(view: RequestView, policy: Policy) -> tuple[Labels | None, Skipped | None]:
    if not policy.positions:
        return None, Skipped.OFF
    if view.structured:
        return None, Skipped.STRUCTURED
    # A reply that continues the assistant's own sentence cannot open with a label: it goes to the end.
    positions = ("end",) if view.prefill else policy.positions
    wanted = (positions, *_languages(view, policy))
    if wanted not in policy._plans:
        positions, start, rest = wanted
        policy._plans[wanted] = Labels(positions, policy.texts, start, rest, policy.middle_after, policy.known)
    return policy._plans[wanted], None


def _languages(view: RequestView, policy: Policy) -> tuple[str, str | None]:
    if policy.language != "auto":
        return policy.language, policy.language
    return language_of(view.prompt) or "zh", None


def _watermark_skipped(view: RequestView, policy: Policy) -> Skipped | None:
    if policy.key is None:
        return Skipped.OFF
    if not policy.upstream_watermarks:
        return Skipped.UPSTREAM
    return Skipped.GREEDY if view.greedy else None


def _fingerprint(settings: Settings) -> str:
    shown = settings.model_dump(mode="json", include={"provider", "labels", "watermark"})
    shown["watermark"].pop("keyring")  # where the file lies is no part of the policy
    digest = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
    return f"{'+'.join(settings.labels.regimes)}-{digest[:8]}"
