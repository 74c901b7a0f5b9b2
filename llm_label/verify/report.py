"""A verdict as JSON, as the coarse JSON for strangers, as one line, and as a table for the terminal."""

import math
import re
from typing import TYPE_CHECKING, Any

from llm_label.verify.findings import Finding, InvisibleMark, RecordMark, Segment, VisibleLabel, WatermarkTest
from llm_label.verify.verdict import Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["coarse", "line", "power", "terminal", "to_dict"]

# What of a signature may be public: neither keys nor what they are for.
_PUBLIC = re.compile(r"(?:alpha|correction|windows|variants|version):[^|]*")
_SEGMENTS = 12  # of one key, in the terminal; JSON has all
_STYLES = {
    "confirmed": "bold green",
    "possible": "bold cyan",
    "suspected": "bold yellow",
    "not_found": "bold",
    "inconclusive": "bold magenta",
}
_ABOUT_P = (
    "p is the chance that a text without this key's watermark would look as marked as this one, "
    "corrected for every test and window tried."
)


def to_dict(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict JSON with every figure; `problems` only where there are some."""
    full = {
        "verdict": verdict.verdict,
        "label": verdict.label,
        "wording": verdict.wording,
        "evidence": [finding.to_dict() for finding in verdict.evidence],
        "signature": verdict.signature,
    }
    return {**full, "problems": list(verdict.problems)} if verdict.problems else full


def coarse(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict JSON for strangers: no p-value, score, count or key, which would help a forger."""
    full = to_dict(verdict)
    decisions = [f.decision for f in verdict.evidence if isinstance(f, WatermarkTest)]
    full["evidence"] = [f.to_dict() for f in verdict.evidence if not isinstance(f, WatermarkTest)]
    for decision in ("marked", "insufficient", "not_shown"):
        if decision in decisions:
            full["evidence"].append({"kind": "watermark", "decision": decision})
            break
    full["signature"] = "|".join(_PUBLIC.findall(verdict.signature))
    return full


def line(verdict: Verdict) -> str:
    """Return one line: the state, then what it rests on."""
    told = [_brief(finding) for finding in verdict.evidence]
    return "  ".join([f"{verdict.verdict:<12}", *dict.fromkeys(part for part in told if part)]).rstrip()


def terminal(verdict: Verdict, *, keys: bool = True) -> "RenderableType":
    """Return the table of evidence, the verdict and what it means; `keys`: a keyring was given."""
    from rich.console import Group
    from rich.table import Column, Table
    from rich.text import Text

    # fold: Chinese has no blanks to break at, and would be cut off
    columns = (Column(name, overflow="fold") for name in ("kind", "found", "detail"))
    table = Table(*columns, box=None, pad_edge=False, header_style="dim")
    for row in _rows(verdict, keys):
        table.add_row(*(Text(cell) for cell in row))
    state = verdict.verdict if verdict.label is None else f"{verdict.verdict} (Label {verdict.label})"
    notes = [Text(f"! {_shown(problem, 300)}", "yellow") for problem in verdict.problems]
    if any(isinstance(finding, WatermarkTest) for finding in verdict.evidence):
        notes.append(Text(_ABOUT_P, "dim"))
    return Group(
        table,
        Text(),
        Text(state, _STYLES[verdict.verdict]),
        *(Text(words) for words in (verdict.wording["zh"], verdict.wording["en"])),
        *notes,
        Text(f"how: {verdict.signature.replace('|', '; ')}", "dim"),
    )


def _rows(verdict: Verdict, keys: bool) -> list[tuple[str, str, str]]:
    """Return a row for every finding, and one for each technique that found nothing."""
    rows = [_row(finding) for finding in verdict.evidence]
    kinds = {row[0] for row in rows}
    rows += [(kind, "none", "") for kind in ("record", "label") if kind not in kinds]
    if not keys:
        rows.append(("watermark", "not asked", "no keyring was given"))
    order = ("record", "label", "invisible", "watermark")
    return sorted(rows, key=lambda row: order.index(row[0]))


def _row(finding: Finding) -> tuple[str, str, str]:
    if isinstance(finding, RecordMark):
        return "record", f"in {finding.carrier} {'metadata' if finding.placed else 'text'}", _record(finding)
    if isinstance(finding, VisibleLabel):
        owner = "our wording" if finding.own else "another's wording"
        return "label", finding.position + _choice(finding.choice), f"“{_shown(finding.text)}” ({owner})"
    if isinstance(finding, InvisibleMark):
        return "invisible", f"{finding.maker}{_choice(finding.choice)}", f"{finding.count} x {finding.mark}"
    return "watermark", finding.decision.replace("_", " ") + _choice(finding.choice), _watermark(finding)


def _watermark(test: WatermarkTest) -> str:
    told = (
        f"key {test.key}, {test.scheme}, p {power(test.log10_p)}; {test.scored} tokens scored, "
        f"{test.skipped} skipped, {_counted(test.tests, 'test')}"
    )
    if test.windows:
        told += f", {_counted(test.windows, 'window')}"
    if test.payload is not None:
        told += f"; {_payload(test)}"
    if test.more_tokens is not None:
        told += f"; about {_counted(test.more_tokens, 'more token')} needed"
    elif test.decision == "insufficient" and not test.unsearched:
        told += "; no single answer would be enough, however long"
    if test.unsearched:
        told += f"; {_counted(test.unsearched, 'token')} not searched, for the key has too many payloads"
    lines = [_segment(segment) for segment in test.segments[:_SEGMENTS]]
    rest = len(test.segments) - len(lines)
    return "\n".join([told, *lines, *([f"  and {rest} more"] if rest else [])])


def _segment(segment: Segment) -> str:
    payload = "" if segment.payload is None else f", {_payload(segment)}"
    return (
        f"  characters {segment.start} to {segment.end}{_choice(segment.choice)}: p {power(segment.log10_p)}{payload}, "
        f"{_counted(segment.scored, 'token')}: “{_shown(' '.join(segment.excerpt.split()), 100)}”"
    )


def _payload(found: WatermarkTest | Segment) -> str:
    name = f" ({_shown(found.payload_name)})" if found.payload_name else ""
    return f"payload {found.payload}{name}"


def _record(finding: RecordMark) -> str:
    if finding.record is None:
        return "; ".join(_shown(problem, 200) for problem in finding.problems)
    record = finding.record
    says = f"Label {_shown(record.label)}, {_shown(record.content_producer)}, id {_shown(record.produce_id)}"
    if not finding.problems:
        return says
    return "\n".join([says, *(f"! {_shown(problem, 200)}" for problem in finding.problems)])


def _brief(finding: Finding) -> str:
    if isinstance(finding, RecordMark):
        return f"record:{_shown(finding.record.label)}" if finding.record else ""
    if isinstance(finding, VisibleLabel):
        return f"label:{finding.position}"
    if isinstance(finding, InvisibleMark):
        return "invisible"
    if finding.decision != "marked":
        return ""
    payload = "" if finding.payload is None else f":{_payload(finding)}"
    return f"watermark:{finding.key}:{power(finding.log10_p)}{payload}"


def power(log10_p: float) -> str:
    """Write a p-value as a power of ten: never 0, and never rounded down."""
    power = math.ceil(log10_p * 10) / 10
    return f"10^{power:.1f}" if power < 0 else "1"


def _counted(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"


def _choice(choice: int | None) -> str:
    return "" if choice is None else f" (choice {choice})"


def _shown(text: str, limit: int = 80) -> str:
    """Make foreign text safe for a terminal: no escapes, no bidi controls, no novel."""
    clean = "".join(c if c.isprintable() else "\ufffd" for c in text[: limit + 1])
    return clean if len(clean) <= limit else clean[:limit] + "…"
