"""Try every key on every reading of every text, and correct each result for all of these tries.

A reading is a text after its labels were cut, in one of the variants that it may have been written in. What is tried
depends on texts and tokenizers, on no key. Within one try the whole text and its windows share the level.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llm_label.verify.chunks import SHARED, Common
from llm_label.verify.encoder import Encoder
from llm_label.verify.encoding import Encoding
from llm_label.verify.findings import Segment, WatermarkTest
from llm_label.verify.reading import Reading
from llm_label.verify.source import Written
from llm_label.verify.variants import readings
from llm_label.watermark.keyring import Key, Keyring
from llm_label.watermark.power import tokens_needed
from llm_label.watermark.scan import Scan, family_wise
from llm_label.watermark.segments import WHOLE, Span, searches
from llm_label.watermark.shortlist import planned, shortlist

__all__ = ["Encoded", "encoded", "watermarks"]

EXCERPT = 40  # characters that a report shows of either end of a segment


@dataclass(frozen=True, eq=False)
class Encoded:
    """One reading of one text, and its tokens."""

    choice: int
    variant: str
    reading: Reading
    encoding: Encoding

    def origin(self, ranges: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return for ranges [n, 2] of tokens the ranges [n, 2] of characters of the original."""
        first, last = self.encoding.characters(ranges[:, 0]), self.encoding.characters(ranges[:, 1] - 1)
        return self.reading.origin(np.column_stack([first[:, 0], last[:, 1]]))


@dataclass(frozen=True, eq=False)
class _Try:
    """What one key, with one payload, says of one reading; its spans only where it passes."""

    encoded: Encoded
    payload: int
    whole: Scan
    log10_p: float
    windows: int
    spans: tuple[Span, ...]


def watermarks(texts: Sequence[Written], ring: Keyring, alpha: float, encoder: Encoder) -> list[WatermarkTest]:
    """Return what each key says, segments included."""
    readings = encoded(texts, ring, encoder)
    tests = max(1, sum(map(len, readings)))
    # of what one key pays for, its payloads have equal parts: a key with many costs the others nothing
    tests_of = [tests << key.spec.payload_bits for key in ring.keys]
    levels = [math.log10(alpha) - math.log10(count) for count in tests_of]
    plans = [
        planned([len(one.encoding) for one in of_key], key) for key, of_key in zip(ring.keys, readings, strict=True)
    ]
    tries: list[list[_Try]] = [[] for _ in ring.keys]
    for members in _shared(readings):
        for place, one in enumerate(readings[members[0]]):
            keys = [(ring.keys[n], levels[n], plans[n].starts[place]) for n in members]
            for n, t in _tried(one, keys):
                tries[members[n]].append(t)
    return [
        _of_key(key, of_key, count, alpha, texts, plan.left_out)
        for key, of_key, count, plan in zip(ring.keys, tries, tests_of, plans, strict=True)
    ]


def _shared(readings: list[list[Encoded]]) -> list[list[int]]:
    """Return the places of keys in groups that share their readings."""
    groups: dict[int, list[int]] = {}
    for n, of_key in enumerate(readings):
        groups.setdefault(id(of_key), []).append(n)
    return list(groups.values())


def _tried(one: Encoded, keys: list[tuple[Key, float, list[int]]]) -> Iterator[tuple[int, _Try]]:
    """Yield what each key, at its level, says of one reading, with the place of the key; nothing long is kept."""
    ids = one.encoding.ids
    copies = [
        (n, key.carrying(payload)) for n, (key, _, starts) in enumerate(keys) for payload in shortlist(ids, key, starts)
    ]
    for (n, copy), found in zip(copies, searches(ids, (copy for _, copy in copies)), strict=True):
        spans = found.spans(keys[n][1])
        yield n, _Try(one, copy.payload, found.whole, found.log10_p, found.tests - 1, spans)


def encoded(texts: Sequence[Written], ring: Keyring, encoder: Encoder) -> list[list[Encoded]]:
    """Return for each key the readings that it is tried on; keys of one tokenizer share them."""
    variants = _variants(texts)
    known: dict[tuple[str | None, str | None], list[Encoded]] = {}
    for key in ring.keys:
        if _place(key) not in known:
            known[_place(key)] = _encoded(variants, key, encoder)
    return [known[_place(key)] for key in ring.keys]


def _place(key: Key) -> tuple[str | None, str | None]:
    return key.spec.tokenizer, key.spec.tokenizer_path


def _variants(texts: Sequence[Written]) -> list[tuple[int, str, Reading]]:
    """Return each distinct reading with the choice and the variant that gave it first."""
    found: dict[str, tuple[int, str, Reading]] = {}
    for choice, written in enumerate(texts):
        if written.reading.text.strip():  # a choice that is a tool call has none
            for variant, reading in readings(written.reading).items():
                found.setdefault(reading.text, (choice, variant, reading))
    return list(found.values())


def _encoded(variants: list[tuple[int, str, Reading]], key: Key, encoder: Encoder) -> list[Encoded]:
    """Encode each variant; equal ids are one try."""
    found: dict[bytes, Encoded] = {}
    encodings = encoder.encode_all([reading.text for *_, reading in variants], key, list(_common(variants)))
    for variant, encoding in zip(variants, encodings, strict=True):
        if len(encoding):
            found.setdefault(encoding.ids.tobytes(), Encoded(*variant, encoding))
    return list(found.values())


def _common(variants: list[tuple[int, str, Reading]]) -> Iterator[Common]:
    """Yield the long stretches that readings have from the ones that they are one round of edits away from."""
    for one, (choice, _, reading) in enumerate(variants):
        for other, (of_choice, _, before) in enumerate(variants):
            if choice == of_choice and reading.rounds and before.rounds == reading.rounds[:-1]:
                stretches = (Common(one, other, *stretch) for stretch in reading.stretches())
                yield from (stretch for stretch in stretches if stretch.length >= SHARED)


def _of_key(
    key: Key, tries: list[_Try], tests: int, alpha: float, texts: Sequence[Written], unsearched: int
) -> WatermarkTest:
    best = min(tries, key=_loudness, default=None)
    most = max((t.whole.scored for t in tries), default=0)
    needed = tokens_needed(key.spec.rules, math.log10(alpha) - math.log10(tests) + math.log10(WHOLE))
    log10_p = family_wise(best.log10_p, tests) if best else 0.0
    marked, enough = log10_p <= math.log10(alpha), needed is not None and most >= needed
    payload = best.payload if best and marked and key.spec.payload_bits else None
    return WatermarkTest(
        key=key.id,
        fingerprint=key.fingerprint,
        scheme=key.spec.scheme,
        log10_p=log10_p,
        scored=best.whole.scored if best else 0,
        skipped=best.whole.skipped if best else 0,
        tests=tests,
        windows=best.windows if best else 0,
        decision="marked" if marked else "not_shown" if enough and not unsearched else "insufficient",
        variant=best.encoded.variant if best else "as_is",
        choice=best.encoded.choice if best and len(texts) > 1 else None,
        segments=_segments(key, tries, tests, texts),
        more_tokens=None if marked or enough or needed is None else needed - most,
        payload=payload,
        payload_name=None if payload is None else key.name_of(payload),
        unsearched=unsearched,
    )


def _loudness(t: _Try) -> float:
    return t.log10_p


def _segments(key: Key, tries: list[_Try], tests: int, texts: Sequence[Written]) -> tuple[Segment, ...]:
    """Return the marked stretches of each text, as the loudest reading that passes shows them.

    One with parts cut out comes last: its stretches would run across what was cut.
    """
    loudest: dict[int, Encoded] = {}
    for t in sorted(tries, key=lambda t: (not t.spans, t.encoded.variant == "prose", t.log10_p)):
        loudest.setdefault(t.encoded.choice, t.encoded)
    found: list[Segment] = []
    for choice, one in loudest.items():
        number = choice if len(texts) > 1 else None
        for t in tries:
            if t.encoded is one and t.spans:
                places = one.origin(np.array([(span.first, span.last) for span in t.spans], dtype=np.int64))
                payload = (t.payload, key.name_of(t.payload)) if key.spec.payload_bits else (None, None)
                for span, (start, end) in zip(t.spans, places.tolist(), strict=True):
                    p = family_wise(span.log10_p, tests)
                    found.append(Segment(start, end, p, span.scored, "", number, *payload))
    return tuple(
        replace(one, excerpt=_excerpt(texts[one.choice or 0].original[one.start : one.end])) for one in _apart(found)
    )


def _apart(segments: list[Segment]) -> list[Segment]:
    """Give what several segments claim to the loudest; return them in order.

    Ends are estimates, so neighbours of two payloads may overlap. One that loses more than half to a louder one rests
    on words of another payload, and is none.
    """
    kept: list[Segment] = []
    for one in sorted(segments, key=lambda segment: segment.log10_p):
        rest = [(one.start, one.end)]
        for k in (k for k in kept if k.choice == one.choice):
            rest = [
                piece for a, b in rest for piece in ((a, min(b, k.start)), (max(a, k.end), b)) if piece[0] < piece[1]
            ]
        start, end = max(rest, key=lambda piece: piece[1] - piece[0], default=(0, 0))
        if 2 * (end - start) >= one.end - one.start > 0:
            kept.append(replace(one, start=start, end=end))
    return sorted(kept, key=lambda segment: (segment.choice or 0, segment.start))


def _excerpt(text: str) -> str:
    """Return how a segment begins and ends."""
    if len(text) <= 2 * EXCERPT:
        return text
    return f"{text[:EXCERPT].rstrip()} … {text[-EXCERPT:].lstrip()}"
