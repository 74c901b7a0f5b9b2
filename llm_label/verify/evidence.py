"""Ask every technique what it finds in one input: records, visible labels, watermarks, invisible marks."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

from llm_label.metadata.carriers import Carried
from llm_label.verify.encoder import Encoder
from llm_label.verify.findings import Finding, InvisibleMark, RecordMark, VisibleLabel
from llm_label.verify.source import INVISIBLE, open_source
from llm_label.verify.watermarks import watermarks
from llm_label.watermark.keyring import Keyring

__all__ = ["INVISIBLE", "LEAST_WORDS", "Evidence", "gather"]

LEAST_WORDS = 20  # words or Han, Kana, Hangul characters; below, the absence of any mark says nothing
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


@dataclass(frozen=True)
class Evidence:
    """Everything that was found in one input, and what could not be looked at."""

    findings: tuple[Finding, ...]
    problems: tuple[str, ...]
    unread: bool  # a place for a record could not be read, or the input holds nothing that a model wrote
    too_little: bool  # no technique could be expected to show anything


def gather(source: bytes | str, ring: Keyring, known: Collection[str], alpha: float, encoder: Encoder) -> Evidence:
    """Ask every technique. Raises InputError for what is no text, KeyringError for a wrong tokenizer."""
    opened = open_source(source, known)
    carried, many = opened.carried, len(opened.texts) > 1
    findings: list[Finding] = [*_records(carried)]
    for number, written in enumerate(opened.texts):
        choice = number if many else None
        findings += (VisibleLabel(f.position, f.text, f.own, choice) for f in written.labels)
        findings += _invisible(written.text, choice)
    tests = watermarks(opened.texts, ring, alpha, encoder)
    short = all(_is_short(written.reading.text) for written in opened.texts)
    too_little = short or any(test.decision == "insufficient" for test in tests)
    return Evidence((*findings, *tests), carried.problems, carried.unread, too_little)


def _is_short(text: str) -> bool:
    return sum(1 for _ in islice(_WORD.finditer(text), LEAST_WORDS)) < LEAST_WORDS


def _records(carried: Carried) -> list[RecordMark]:
    placed = [RecordMark(carried.kind, r.record, True, r.problems) for r in carried.readings]
    return placed + [RecordMark(carried.kind, r.record, False, r.problems) for r in carried.strays]


def _invisible(text: str, choice: int | None) -> list[InvisibleMark]:
    return [
        InvisibleMark(maker, " ".join(f"U+{ord(c):04X}" for c in mark), text.count(mark), text.index(mark), choice)
        for maker, mark in INVISIBLE.items()
        if mark in text
    ]
