"""What a calibration found, as JSON and for the terminal."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from llm_label import __version__
from llm_label.watermark.calibrate import CONFIDENCE, LEAST, LEVELS, OwnKey, Rates, ThrowAway
from llm_label.watermark.families import SHARE, Template
from llm_label.watermark.keyring import Spec
from llm_label.watermark.signature import named

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["LEAST", "Calibration", "Reading", "Section"]

MUCH_SHARED = 0.25  # of the grams; from there on families are far from independent
EXCERPT = 60  # characters of a template
_STYLES = {"fine": "green", "above": "bold red", "unresolved": "dim"}


@dataclass(frozen=True)
class Reading:
    """Hold the corpus as one tokenizer reads it.

    places: of the documents that are scored. short: how many were left out. shared: the share of grams that
    stand in several families. common: the templates tried under own keys; longest: those worth showing.
    """

    places: tuple[str, ...]
    ids: list[npt.NDArray[np.int32]]
    short: int
    labels: npt.NDArray[np.intp]
    shared: float
    common: tuple[Template, ...]
    longest: tuple[Template, ...]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.ids))

    @property
    def families(self) -> int:
        return int(self.labels.max()) + 1

    @property
    def largest(self) -> int:
        return int(np.bincount(self.labels).max())

    def example(self, family: int) -> str:
        """Return the place of a family's first document."""
        return self.places[int(np.argmax(self.labels == family))]


@dataclass(frozen=True)
class Section:
    """Hold the figures of one spec: one scheme with one tokenizer. spelled turns a template's ids into text."""

    spec: Spec
    reading: Reading
    thrown: ThrowAway
    own: tuple[OwnKey, ...]
    spelled: Callable[[npt.NDArray[np.integer[Any]]], str]

    def rows(self) -> Iterator[tuple[str, Rates]]:
        """Yield the name and the rates of each row: throw-away keys, then the ring's."""
        yield f"{self.thrown.keys} throw-away keys", self.thrown.rates
        yield from ((own.key.id, own.rates) for own in self.own)

    def to_dict(self) -> dict[str, Any]:
        least, median, largest = self.thrown.spread
        return {
            "spec": {name: value for name, value in self.spec.to_dict().items() if name != "tokenizer_path"},
            "documents": len(self.reading.places),
            "too_short": self.reading.short,
            "tokens": self.reading.tokens,
            "families": self.reading.families,
            "largest_family": self.reading.largest,
            "shared_between_families": self.reading.shared,
            "throw_away": {
                "keys": self.thrown.keys,
                "spread": {"level": LEVELS[0], "least": least, "median": median, "largest": largest},
                **_rates(self.thrown.rates),
            },
            "keys": [self._own(own) for own in self.own],
            "templates": [self._template(template) for template in self.reading.longest],
        }

    def _own(self, own: OwnKey) -> dict[str, Any]:
        found: dict[str, Any] = {"key": own.key.id, "fingerprint": own.key.fingerprint, **_rates(own.rates)}
        found["document_hits"] = dict(zip(map(_level, LEVELS), own.hits, strict=True))
        found["worst_family"] = None
        if own.worst:
            family, hits, size = own.worst
            place = self.reading.example(family)
            found["worst_family"] = {"example": place, "documents": size, "level": LEVELS[0], "hits": hits}
        found["drivers"] = [{**self._template(d.template), "log10_p": d.log10_p} for d in own.drivers]
        return found

    def _template(self, template: Template) -> dict[str, Any]:
        # its context is left out, and read with it, so that a character of several tokens is whole
        text = self.spelled(template.ids)
        return {"text": text, "documents": template.documents, "tokens": template.tokens}


@dataclass(frozen=True)
class Calibration:
    """Hold everything one run found; one_in: of so many documents each one kept stands for one."""

    corpus: tuple[str, ...]
    documents: int
    one_in: int
    family: str | None
    seed: int
    sections: tuple[Section, ...]

    @property
    def above(self) -> bool:
        """Say whether any rate is significantly above its level."""
        return any(level.status == "above" for s in self.sections for _, r in s.rows() for level in r.levels)

    @property
    def signature(self) -> str:
        """Name everything that changes a result, the package version last."""
        parts = {
            "confidence": f"{CONFIDENCE:g}",
            "correction": "own keys",
            "family": self.family or f"shared text {SHARE:g}",
            "least": str(LEAST),
            "sampled": f"1/{self.one_in}",
            "seed": str(self.seed),
            "throw_away": ",".join(str(s.thrown.keys) for s in self.sections),
            **named([own.key for s in self.sections for own in s.own], [s.spec for s in self.sections]),
            "version": __version__,
        }
        return "|".join(f"{name}:{value}" for name, value in parts.items())

    def to_dict(self) -> dict[str, Any]:
        return {
            "status": "above" if self.above else "fine",
            "corpus": list(self.corpus),
            "documents": self.documents,
            "one_in": self.one_in,
            "sections": [section.to_dict() for section in self.sections],
            "signature": self.signature,
        }

    def terminal(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        told = [part for section in self.sections for part in _section(section)]
        if self.one_in > 1:
            told.insert(
                0, Text(f"The corpus is large: one document in {self.one_in} was drawn and measured.", "yellow")
            )
        last = "A rate is significantly above its level." if self.above else "No rate is significantly above its level."
        return Group(*told, Text(last, "bold red" if self.above else "bold green"), Text(self.signature, "dim"))


def _rates(rates: Rates) -> dict[str, Any]:
    return {
        "levels": [
            {
                "level": level.level,
                "units": level.units,
                "hits": level.hits,
                "rate": level.rate,
                "interval": [level.low, level.high],
                "status": level.status,
            }
            for level in rates.levels
        ],
        "ks": {"distance": rates.excess.distance, "log10_p": rates.excess.log10_p},
        "curve": rates.curve,
    }


def _section(section: Section) -> "Iterator[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    spec, reading = section.spec, section.reading
    yield Text(f"{spec.scheme} {spec.version}, variety {spec.variety}, tokenizer {spec.tokenizer_path}", "bold")
    yield Text(
        f"{len(reading.places):,} documents, {reading.tokens:,} tokens ({reading.short:,} documents with fewer than "
        f"{LEAST} left out); "
        + (f"{reading.families:,} families, the largest" if reading.families > 1 else "1 family")
        + f" of {reading.largest:,}"
    )
    if reading.shared > MUCH_SHARED:
        yield Text(f"{reading.shared:.0%} of the text stands in several families; they are not independent", "yellow")
    yield Text(f"{section.thrown.keys:,} throw-away keys", "bold")
    table = Table("level", "units", "at or below", "rate", "99.9 % interval", "", box=None, pad_edge=False)
    for level in section.thrown.rates.levels:
        interval = f"{level.low:.2g} to {level.high:.2g}"
        cells = (_level(level.level), f"{level.units:,}", f"{level.hits:,}", f"{level.rate:.3g}", interval)
        table.add_row(*map(Text, cells), Text(level.status, _STYLES[level.status]))
    yield table
    least, _, largest = section.thrown.spread
    yield Text(f"from key to key the rate at {LEVELS[0]:g} goes from {least:.3g} to {largest:.3g}")
    if section.own:
        yield Text("keys of the ring: units at or below each level", "bold")
        yield _own_table(section)
    for name, rates in section.rows():
        common = rates.excess.log10_p < math.log10(1.0 - CONFIDENCE)
        yield Text(
            f"{name}: KS distance {rates.excess.distance:.3g}"
            + (", small p-values are too common" if common else ", which chance explains"),
            "yellow" if common else "",
        )
    yield from (line for own in section.own for line in _own(section, own))
    if section.reading.longest:
        yield Text("most text in common:")
        yield from (Text(_line(section, template)) for template in section.reading.longest)
    yield Text()


def _own_table(section: Section) -> "RenderableType":
    from rich.table import Table
    from rich.text import Text

    names = (_level(level) for level in LEVELS)
    table = Table("key", "units", *names, f"documents at {LEVELS[0]:g}", box=None, pad_edge=False)
    for own in section.own:
        counts = (Text(str(level.hits), _STYLES[level.status]) for level in own.rates.levels)
        documents = Text(f"{own.hits[0]} of {len(section.reading.places):,}")
        table.add_row(Text(own.key.id), Text(f"{section.reading.families:,}"), *counts, documents)
    return table


def _own(section: Section, own: OwnKey) -> "Iterator[RenderableType]":
    from rich.text import Text

    if own.worst:
        family, hits, size = own.worst
        place = section.reading.example(family)
        yield Text(
            f"{own.key.id}: {hits} of the {size} documents of the family of {place} are at or below {LEVELS[0]:g}"
        )
    if own.drivers:
        yield Text(f"{own.key.id}: templates that look marked on their own:")
        yield from (Text(f"{_line(section, d.template)}  p {10**d.log10_p:.2g}") for d in own.drivers)


def _line(section: Section, template: Template) -> str:
    text = " ".join(section.spelled(template.ids).split())
    shown = "".join(c if c.isprintable() else "\ufffd" for c in text)
    excerpt = shown if len(shown) <= EXCERPT else shown[: EXCERPT - 1] + "…"
    return f"  {template.documents:,} documents, {template.tokens} tokens: {excerpt}"


def _level(level: float) -> str:
    return f"{level:g}".replace("e-0", "e-")
