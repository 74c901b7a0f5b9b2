"""A text too long to hold: judged block by block in flat memory, its evidence put together as one.

Every block is read, encoded and tested by itself, and what it shows is corrected for the tries of all blocks. A mark
across the border of two blocks counts in both, for what it has there.
"""

import codecs
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import BinaryIO, NamedTuple

from llm_label.errors import InputError
from llm_label.metadata.carriers import LIMIT, LONGEST, decode, sniff
from llm_label.verify.evidence import Evidence
from llm_label.verify.findings import Finding, InvisibleMark, RecordMark, Segment, VisibleLabel, WatermarkTest

__all__ = ["BLOCK", "Judged", "blocks", "is_short", "joined"]

BLOCK = 1_000_000  # characters
PROBLEMS = 64  # of one text
_BYTES = 1 << 20  # read at once
_SNIFFED = 4096  # bytes that show what a file is
_ENDS = ("\n\n", "\n", " ")  # where a block may end, the best first


class Judged(NamedTuple):
    """What one block of a text shows."""

    start: int  # characters of the text before it
    evidence: Evidence


def is_short(head: bytes) -> bool:
    """Tell whether the first bytes of a file, `LIMIT` and one more, are to be judged as a whole.

    Raises InputError for what is no text, and for an event stream that is too long.
    """
    if len(head) <= LIMIT:
        return len(head) <= LONGEST or sniff(head) != "markdown" or len(decode(head)) <= LONGEST
    if sniff(head[:_SNIFFED].rpartition(b"\n")[0]) == "sse":
        raise InputError(f"an event stream of more than {LIMIT} bytes; allowed: {LIMIT}; give its streams one by one")
    return False


def blocks(head: bytes, rest: BinaryIO) -> Iterator[str]:
    """Yield the text of a file, whose beginning was read, in blocks that end a paragraph, a line or at least a word.

    Raises InputError for what is not UTF-8 or binary.
    """
    held = ""
    for text in _decoded(head.removeprefix(codecs.BOM_UTF8), rest):
        held += text
        while len(held) > BLOCK:
            end = _end(held)
            yield held[:end]
            held = held[end:]
    if held:
        yield held


def _decoded(head: bytes, rest: BinaryIO) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    pieces = chain((head[n : n + _BYTES] for n in range(0, len(head), _BYTES)), iter(partial(rest.read, _BYTES), b""))
    at = 0  # bytes read
    for data in chain(pieces, (b"",)):
        pending = len(decoder.getstate()[0])
        if b"\0" in data:
            raise InputError(f"the input is binary: a NUL byte at {at + data.index(0)}; allowed: UTF-8 text")
        try:
            yield decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place = at - pending + error.start
            raise InputError(
                f"the input is not UTF-8: byte 0x{error.object[error.start]:02x} at {place}; "
                "convert it, for example with iconv"
            ) from None
        at += len(data)


def _end(held: str) -> int:
    """Return where a block that begins `held` ends."""
    for mark in _ENDS:
        found = held.rfind(mark, BLOCK // 2, BLOCK)
        if found >= 0:
            return found + len(mark)
    return BLOCK


def joined(judged: Sequence[Judged], alpha: float) -> Evidence:
    """Put the evidence of all blocks together; `alpha`: the family-wise level of the whole text."""
    findings: list[Finding] = []
    for number, (start, evidence) in enumerate(judged):
        for finding in evidence.findings:
            if isinstance(finding, RecordMark):  # a file carries its record at its head
                findings.append(finding if number == 0 else replace(finding, placed=False))
            elif isinstance(finding, VisibleLabel):
                findings.append(replace(finding, position=_position(finding.position, number, len(judged))))
            elif isinstance(finding, InvisibleMark):
                findings.append(replace(finding, at=finding.at + start))
    tests = _tests(judged, alpha)
    problems = dict.fromkeys(problem for _, evidence in judged for problem in evidence.problems)
    return Evidence(
        (*_summed(findings), *tests),
        tuple(problems)[:PROBLEMS],
        unread=any(evidence.unread for _, evidence in judged),
        too_little=any(test.decision == "insufficient" for test in tests),
    )


def _position(position: str, number: int, count: int) -> str:
    """Name the place of a label in the whole text, given that in one of its blocks."""
    first, last = number == 0, number == count - 1
    return position if (position == "start" and first) or (position == "end" and last) else "middle"


def _summed(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Count each maker's invisible marks together, from the first on."""
    marks: dict[str, InvisibleMark] = {}
    for finding in findings:
        if not isinstance(finding, InvisibleMark):
            yield finding
        elif finding.maker in marks:
            first = marks[finding.maker]
            marks[finding.maker] = replace(first, count=first.count + finding.count)
        else:
            marks[finding.maker] = finding
    yield from marks.values()


def _tests(judged: Sequence[Judged], alpha: float) -> list[WatermarkTest]:
    """Return one test for each key, in the order of the ring."""
    of_key: dict[str, list[tuple[int, WatermarkTest]]] = {}
    for start, evidence in judged:
        for finding in evidence.findings:
            if isinstance(finding, WatermarkTest):
                of_key.setdefault(finding.key, []).append((start, finding))
    return [_of_key(tests, alpha) for tests in of_key.values()]


def _of_key(of_blocks: Sequence[tuple[int, WatermarkTest]], alpha: float) -> WatermarkTest:
    """Correct the loudest block for the tries in all blocks; each block's own were corrected for already."""
    tests = [test for _, test in of_blocks]
    total = sum(test.tests for test in tests)
    best = min(tests, key=lambda test: test.log10_p - math.log10(test.tests))
    log10_p = _corrected(best.log10_p, best, total)
    marked = log10_p <= math.log10(alpha)
    unsearched = sum(test.unsearched for test in tests)
    enough = any(test.decision != "insufficient" for test in tests)
    return replace(
        best,
        log10_p=log10_p,
        scored=sum(test.scored for test in tests),
        skipped=sum(test.skipped for test in tests),
        tests=total,
        windows=sum(test.windows for test in tests),
        decision="marked" if marked else "not_shown" if enough and not unsearched else "insufficient",
        segments=tuple(_segments(of_blocks, total, alpha)),
        more_tokens=None if marked or enough else best.more_tokens,
        payload=best.payload if marked else None,
        payload_name=best.payload_name if marked else None,
        unsearched=unsearched,
    )


def _segments(of_blocks: Sequence[tuple[int, WatermarkTest]], total: int, alpha: float) -> Iterator[Segment]:
    for start, test in of_blocks:
        for segment in test.segments:
            log10_p = _corrected(segment.log10_p, test, total)
            if log10_p <= math.log10(alpha):
                yield replace(segment, start=segment.start + start, end=segment.end + start, log10_p=log10_p)


def _corrected(log10_p: float, test: WatermarkTest, total: int) -> float:
    """Turn a p-value corrected for one block's tries into one corrected for all; one that was capped stays at 1."""
    return min(0.0, log10_p + math.log10(total / test.tests)) if log10_p < 0 else 0.0
