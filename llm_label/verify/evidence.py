"""Ask every technique what it finds in one input: records, visible labels, watermarks, invisible marks."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from llm_label.labels.finder import Found, find
from llm_label.metadata.carriers import Carried, open_carrier
from llm_label.verify.encoder import Encoder
from llm_label.verify.findings import Finding, InvisibleMark, RecordMark, VisibleLabel, WatermarkTest
from llm_label.verify.variants import VARIANTS
from llm_label.watermark.keyring import Key, Keyring
from llm_label.watermark.scan import Scan, decision, family_wise, scan

__all__ = ["INVISIBLE", "LEAST_WORDS", "Evidence", "gather"]

# Other makers' fixed marks: facts, not secrets.
INVISIBLE = {"Windows AI text APIs": "\u200b\u034f\u2060\u200b"}

LEAST_WORDS = 20  # words or Han, Kana, Hangul characters; below, the absence of any mark says nothing
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


@dataclass(frozen=True)
class Evidence:
    """Everything that was found in one input, and what could not be looked at."""

    findings: tuple[Finding, ...]
    problems: tuple[str, ...]
    unread: bool  # a place for a record could not be read
    too_little: bool  # no technique could be expected to show anything


@dataclass(frozen=True)
class _Reading:
    choice: int
    variant: str
    ids: npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Try:
    choice: int
    variant: str
    found: Scan


def gather(source: bytes | str, ring: Keyring, known: Collection[str], alpha: float, encoder: Encoder) -> Evidence:
    """Ask every technique. Raises InputError for what is no text, KeyringError for a wrong tokenizer."""
    carried = open_carrier(source)
    many = len(carried.texts) > 1
    findings: list[Finding] = [*_records(carried)]
    marked: list[str] = []
    for number, text in enumerate(carried.texts):
        choice = number if many else None
        labels = find(text, known)
        findings += (VisibleLabel(label.position, label.text, label.own, choice) for label in labels)
        findings += _invisible(text, choice)
        marked.append(_written(text, labels))
    tests = _watermarks(marked, ring, alpha, encoder)
    too_little = all(_is_short(text) for text in marked) or any(test.decision == "insufficient" for test in tests)
    return Evidence((*findings, *tests), carried.problems, carried.unread, too_little)


def _is_short(text: str) -> bool:
    return sum(1 for _ in islice(_WORD.finditer(text), LEAST_WORDS)) < LEAST_WORDS


def _written(text: str, labels: Sequence[Found]) -> str:
    """Cut labels and others' invisible marks, so that what the model wrote joins up again."""
    pieces, at = [], 0
    for label in labels:
        if label.start >= at:
            pieces.append(text[at : label.start])
            at = label.end
    written = "".join([*pieces, text[at:]])
    for mark in INVISIBLE.values():
        written = written.replace(mark, "")
    return written


def _records(carried: Carried) -> list[RecordMark]:
    placed = [RecordMark(carried.kind, r.record, True, r.problems) for r in carried.readings]
    return placed + [RecordMark(carried.kind, r.record, False, r.problems) for r in carried.strays]


def _invisible(text: str, choice: int | None) -> list[InvisibleMark]:
    return [
        InvisibleMark(maker, " ".join(f"U+{ord(c):04X}" for c in mark), text.count(mark), text.index(mark), choice)
        for maker, mark in INVISIBLE.items()
        if mark in text
    ]


def _watermarks(texts: Sequence[str], ring: Keyring, alpha: float, encoder: Encoder) -> list[WatermarkTest]:
    """Try every key on every variant of every text; correct each result for all of these tries."""
    variants = _variants(texts)
    readings: dict[tuple[str | None, str | None], list[_Reading]] = {}
    tries: list[tuple[Key, list[_Try]]] = []
    for key in ring.keys:
        place = (key.spec.tokenizer, key.spec.tokenizer_path)
        if place not in readings:
            readings[place] = _encode(variants, key, encoder)
        tries.append((key, [_Try(r.choice, r.variant, scan(r.ids, key)) for r in readings[place]]))
    tests = max(1, sum(len(of_key) for _, of_key in tries))
    return [_of_key(key, of_key, tests, alpha, len(texts) > 1) for key, of_key in tries]


def _variants(texts: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return each distinct variant text with the choice and the variant that gave it first."""
    found: dict[str, tuple[int, str]] = {}
    for choice, text in enumerate(texts):
        if text.strip():  # a choice that is a tool call has none
            for variant, change in VARIANTS.items():
                found.setdefault(change(text), (choice, variant))
    return found


def _encode(variants: Mapping[str, tuple[int, str]], key: Key, encoder: Encoder) -> list[_Reading]:
    """Encode each variant; equal ids are one try. What is tried depends on text and tokenizer, on no key."""
    found: dict[bytes, _Reading] = {}
    for text, (choice, variant) in variants.items():
        ids = encoder.ids(text, key)
        if len(ids):
            found.setdefault(ids.tobytes(), _Reading(choice, variant, ids))
    return list(found.values())


def _of_key(key: Key, tries: list[_Try], tests: int, alpha: float, many: bool) -> WatermarkTest:
    best = min(tries, key=lambda t: t.found.log10_p, default=_Try(0, "as_is", Scan(0.0, 0, 0, 0.0)))
    decisions = {decision(t.found, key, alpha, tests) for t in tries}
    return WatermarkTest(
        key=key.id,
        fingerprint=key.fingerprint,
        scheme=key.spec.scheme,
        log10_p=family_wise(best.found.log10_p, tests),
        scored=best.found.scored,
        skipped=best.found.skipped,
        tests=tests,
        decision=next((d for d in ("marked", "not_shown") if d in decisions), "insufficient"),
        variant=best.variant,
        choice=best.choice if many else None,
    )
