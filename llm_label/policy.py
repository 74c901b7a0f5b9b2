"""Decide, before an answer exists, which marks it gets, where, or why not.

The reasons in `Skipped` are the closed list of the fail-closed law: a *skip* is a decision that can be read in the
answer and the audit log; everything else that keeps a required mark from being applied is a failure.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from llm_label.errors import ClientError, MarkError, NotAllowed, SettingsError
from llm_label.labels.deferring import labeler
from llm_label.labels.labeler import Labeler, Labels
from llm_label.labels.unless_json import UnlessJson
from llm_label.labels.wording import LANGUAGES, POSITIONS, all_wordings, check_text, language_of, wording
from llm_label.metadata.provider_code import check_producer
from llm_label.metadata.provider_code import parse as parse_code
from llm_label.settings import LabelSettings, ProviderSettings, Settings, Structured, Traffic

__all__ = ["OUR_HEADERS", "Caller", "Plan", "Policy", "RequestView", "Skipped", "decide"]


# What our headers say of an answer is read again from an upstream that may be an llm-label too. One that only sends
# back what it gets must not be able to say it, so no client's header of that name travels on.
OUR_HEADERS = frozenset(
    ["x-llm-label-request", "x-llm-label", "x-aigc", "llm_provider-x-llm-label", "llm_provider-x-aigc"]
)


TELLING = 20_000  # characters at each end of a prompt


class Skipped(StrEnum):
    """Why a mark is left out although nothing failed."""

    OFF = "off"  # the operator planned none
    MACHINE = "machine"  # traffic that programs read: auxiliary calls, coding agents that parse the text
    STRUCTURED = "structured"  # JSON mode, schema or grammar: the text is parsed by a program
    FILL_IN = "fill_in"  # the text goes into the middle of another: suffix or fill-in-the-middle markers
    TOOL_CALL = "tool_call"  # the turn holds a tool call and no prose
    REFUSAL = "refusal"  # the turn holds a refusal and no prose
    EMPTY = "empty"  # the turn holds no text
    LABELLED = "labelled"  # the text came with one of our labels
    ERROR = "error"  # the upstream answered with an error, not with generated text
    GREEDY = "greedy"  # temperature 0, beams, or candidates too alike to choose among: nothing is drawn
    UPSTREAM = "upstream"  # this upstream gives us no hand in the choice of tokens


@dataclass(frozen=True)
class Caller:
    """Whose request it is and what its answers get, as the operator wrote it down; the default is everybody."""

    name: str | None = None
    traffic: Traffic = "human"
    positions: tuple[str, ...] | None = None  # None: the policy's
    language: str | None = None  # None: the policy's
    structured: Structured = "allow"  # which output that programs parse it may ask for
    asked: str | None = None  # what its request header chose
    withheld: frozenset[str] = OUR_HEADERS  # request headers that stay here, in lower case


class RequestView(NamedTuple):
    """What policy may know of a request; a surface makes it."""

    surface: str
    model: str | None = None
    stream: bool = False
    n: int = 1
    structured: bool = False  # JSON mode, JSON schema, grammar, regex
    json: bool = False  # structured, and JSON in any case
    prefill: bool = False  # the answer continues a text, and cannot open with a label: it goes to the end
    fill_in: bool = False  # the answer goes into the middle of a text
    greedy: bool = False
    prompt: str = ""  # the last user message, for the language of a start label
    start: str | None = None  # that language, where it was decided before
    caller: Caller = Caller()
    continues: str | None = None  # the upstream's number of the answer that this one goes on from
    guard: str = ""  # what the guard took out of the request, separated by spaces


@dataclass(frozen=True)
class Plan:
    """What will be attempted for one answer."""

    labels: Labels | None
    label_skipped: Skipped | None
    watermark: str | None  # key id
    watermark_skipped: Skipped | None
    watermark_required: bool = False
    otherwise: Labels | None = None  # for an answer that is not the JSON it was to be

    def labeler(self) -> Labeler | None:
        """Return what labels one text of the answer, None when there is nothing to add."""
        if self.labels:
            return labeler(self.labels)
        return UnlessJson(self.otherwise) if self.otherwise else None

    def deferred(self) -> "Plan":
        """Return the plan for an answer that should come labelled, from another llm-label."""
        return replace(self, labels=self.labels.deferred) if self.labels else self


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
    marks_greedy: bool  # the key's scheme marks also what is not drawn
    surfaces: frozenset[str] | None  # whose answers can carry the watermark; None: all
    known: frozenset[str] = field(repr=False)  # every label text that history cleaning recognises
    id: str = ""
    _plans: dict[object, Plan] = field(default_factory=dict, repr=False, compare=False)  # made once, used often

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        upstream_watermarks: bool,
        marks_greedy: bool = False,
        surfaces: frozenset[str] | None = None,
        issued: frozenset[str] = frozenset(),
    ) -> "Policy":
        """Check the settings as a whole. Raises SettingsError; MarkError for a watermark nobody can apply."""
        marks, labels = settings.watermark, settings.labels
        if marks.required and marks.key is None:
            raise SettingsError("watermark.required is set but watermark.key names no key")
        if marks.required and not upstream_watermarks:
            raise MarkError(
                f"watermark.required is set but {settings.upstreams[0].url} gives no access to its tokens; "
                "use a local: upstream, a key of scheme select, or leave watermark.required out"
            )
        texts = label_texts(labels)
        return cls(
            producer=producer(settings.provider),
            texts=texts,
            positions=tuple(p for p in POSITIONS if p in labels.positions),
            language=known_language(labels.language, "labels.language"),
            middle_after=labels.middle_after,
            fail_open=labels.on_failure == "open",
            key=marks.key,
            variety=marks.variety,
            watermark_required=marks.required,
            upstream_watermarks=upstream_watermarks,
            marks_greedy=marks_greedy,
            surfaces=surfaces,
            known=issued | all_wordings() | frozenset(texts.values()),
            id=_fingerprint(settings),
        )


def decide(view: RequestView, policy: Policy) -> Plan:
    """Plan the marks of one answer. Raises ClientError when a required one cannot be applied to this request."""
    caller, languages = view.caller, _languages(view, policy)
    asked = (
        view.surface, view.structured, view.json, view.prefill, view.fill_in, view.greedy,
        caller.traffic, caller.positions, caller.structured, languages,
    )  # fmt: skip
    if asked not in policy._plans:
        policy._plans[asked] = _decided(view, policy, languages)
    return policy._plans[asked]


def _decided(view: RequestView, policy: Policy, languages: tuple[str, str | None]) -> Plan:
    _check_structured(view, policy)
    label_skipped = _label_skipped(view, policy)
    labels = None if label_skipped else _labels(view, policy, languages)
    skipped = _watermark_skipped(view, policy)
    if policy.watermark_required and skipped:
        remedy = "sample with a temperature above 0 and without beams"
        if skipped == Skipped.UPSTREAM and policy.surfaces:
            remedy = f"ask another API; those that can be watermarked: {', '.join(sorted(policy.surfaces))}"
        raise ClientError(
            f"this server must watermark every answer, which is not possible here ({skipped}): {remedy}",
            code="mark_not_applied",
        )
    return Plan(
        labels=labels,
        label_skipped=label_skipped,
        watermark=None if skipped else policy.key,
        watermark_skipped=skipped,
        watermark_required=policy.watermark_required,
        otherwise=_labels(view, policy, languages) if label_skipped == Skipped.STRUCTURED and view.json else None,
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
            "provider: the record needs a name or the 27-character code; give --provider NAME, or set provider.name or "
            "provider.code in llm-label.toml"
        )
    return check_producer(provider.name)


def label_texts(labels: LabelSettings) -> dict[str, str]:
    """Return the label text of every language, the operator's own wording first, each checked for its regimes."""
    for language in labels.texts:
        if language not in LANGUAGES:
            raise SettingsError(f"labels.texts: language {language!r} is not known; known: {', '.join(LANGUAGES)}")
    own = {language: check_text(text, labels.regimes) for language, text in labels.texts.items()}
    return {lang: own[lang] if lang in own else wording(lang, labels.regimes) for lang in LANGUAGES}


def known_language(language: str, where: str) -> str:
    """Return the language. Raises SettingsError naming the known ones."""
    if language == "auto" or language in LANGUAGES:
        return language
    raise SettingsError(f"{where}: {language!r} is not known; known: auto, {', '.join(LANGUAGES)}")


def _check_structured(view: RequestView, policy: Policy) -> None:
    """Raise NotAllowed where a request takes the label away by a field that its upstream may well ignore."""
    allowed = view.caller.structured
    if not (view.structured or view.fill_in) or allowed == "allow":
        return
    # With "json", what matters is the label: an answer that is not the JSON it was to be gets it.
    due = bool(_positions(view, policy)) and view.caller.traffic == "human"
    if allowed == "json" and (not due or (view.json and not view.fill_in)):
        return
    who = f" to client {view.caller.name!r}" if view.caller.name else ""
    served = "text, JSON mode and JSON schemas are" if allowed == "json" else "text is"
    raise NotAllowed(
        f"{'fill-in-the-middle' if view.fill_in else 'structured output of this kind'} is not served{who}: it carries "
        f"no label; {served} served; the operator may set labels.structured or make this client machine traffic",
        code="structured_refused",
    )


def _label_skipped(view: RequestView, policy: Policy) -> Skipped | None:
    if not _positions(view, policy):
        return Skipped.OFF
    if view.caller.traffic == "machine":
        return Skipped.MACHINE
    if view.structured:
        return Skipped.STRUCTURED
    return Skipped.FILL_IN if view.fill_in else None


def _positions(view: RequestView, policy: Policy) -> tuple[str, ...]:
    return policy.positions if view.caller.positions is None else view.caller.positions


def _labels(view: RequestView, policy: Policy, languages: tuple[str, str | None]) -> Labels:
    # A reply that continues the assistant's own sentence cannot open with a label: it goes to the end.
    positions = ("end",) if view.prefill else _positions(view, policy)
    return Labels(positions, policy.texts, *languages, policy.middle_after, policy.known)


def _languages(view: RequestView, policy: Policy) -> tuple[str, str | None]:
    language = view.caller.language or policy.language
    if language != "auto":
        return language, language
    return view.start or language_of(_ends(view.prompt)) or "zh", None


def _ends(prompt: str) -> str:
    """Keep of a long prompt what tells its language: looking at megabytes would hold up every other answer."""
    return prompt if len(prompt) <= 2 * TELLING else f"{prompt[:TELLING]}\n{prompt[-TELLING:]}"


def _watermark_skipped(view: RequestView, policy: Policy) -> Skipped | None:
    if policy.key is None:
        return Skipped.OFF
    if not policy.upstream_watermarks or (policy.surfaces is not None and view.surface not in policy.surfaces):
        return Skipped.UPSTREAM
    return Skipped.GREEDY if view.greedy and not policy.marks_greedy else None


def _fingerprint(settings: Settings) -> str:
    shown = settings.model_dump(mode="json", include={"provider", "labels", "watermark"})
    if settings.clients:  # a new key changes no policy
        shown["clients"] = [client.model_dump(mode="json", exclude={"key_sha256"}) for client in settings.clients]
    shown["watermark"].pop("keyring")  # where the file lies is no part of the policy
    digest = hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()
    return f"{'+'.join(settings.labels.regimes)}-{digest[:8]}"
