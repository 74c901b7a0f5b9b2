"""What `/metrics` says, in Prometheus' text format.

Answers are counted in the audit log, in the transaction that closes an entry: the figures are exact for all workers
together and survive a restart. What the log does not know (answers on their way, times, requests refused) stands in
memory that the workers share: each writes its own row, and a scrape adds the rows up, whichever worker it reaches.

No label value comes from a client, an upstream or a model's name. `prometheus-client` would do no more than print.
"""

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from llm_label.audit.store import Count

__all__ = ["BUCKETS", "REFUSALS", "Board", "Row", "render"]

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
REFUSALS = (400, 401, 403, 413, 500, 501, 503)  # statuses of requests that reached no upstream; others count as 400
_IN_FLIGHT, _WAITING, _SUM, _COUNT = range(4)
_BUCKET = 4
_REFUSED = _BUCKET + len(BUCKETS)
_WIDTH = _REFUSED + len(REFUSALS)
SURFACES = ("chat", "completions", "messages", "responses")
UPSTREAM_FAULTS = ("upstream_error", "upstream_malformed", "truncated")
Labels = tuple[tuple[str, str], ...]


class Board:
    """One row of figures for each worker, in memory that survives fork."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self._figures = memoryview(mmap.mmap(-1, workers * _WIDTH * 8)).cast("d")  # zeros

    def row(self, worker: int = 0) -> "Row":
        """Return the row of a worker. One that takes the place of a dead one keeps its counters, not its gauges."""
        figures = self._figures[worker * _WIDTH : (worker + 1) * _WIDTH]
        figures[_IN_FLIGHT] = figures[_WAITING] = 0
        return Row(self, figures)

    def totals(self) -> list[float]:
        return [sum(self._figures[k::_WIDTH]) for k in range(_WIDTH)]


class Row:
    """The figures of one worker."""

    def __init__(self, board: Board, figures: "memoryview[float]") -> None:
        self.board = board
        self._figures = figures

    def in_flight(self, answers: int) -> None:
        self._figures[_IN_FLIGHT] = answers

    def waiting(self, entries: int) -> None:
        self._figures[_WAITING] = entries

    def first_byte(self, seconds: float) -> None:
        """Count the time from a request to the first byte of its answer's body."""
        self._figures[_SUM] += seconds
        self._figures[_COUNT] += 1
        at = next((k for k, bound in enumerate(BUCKETS) if seconds <= bound), None)
        if at is not None:
            self._figures[_BUCKET + at] += 1

    def refused(self, status: int) -> None:
        """Count a request that reached no upstream."""
        at = REFUSALS.index(status) if status in REFUSALS else 0
        self._figures[_REFUSED + at] += 1


def render(counts: Iterable[Count], board: Board, build: Mapping[str, str]) -> str:
    """Write everything; `build` is what `llm_label_build_info` tells."""
    counts, totals = list(counts), board.totals()
    lines = [*_family("build_info", "gauge", "Version and policy.", [(build, 1)])]
    lines += _answers(counts)
    lines += _family("in_flight", "gauge", "Answers on their way.", [({}, totals[_IN_FLIGHT])])
    lines += _family("audit_waiting", "gauge", "Audit entries that are not on disk yet.", [({}, totals[_WAITING])])
    lines += _family(
        "requests_refused_total",
        "counter",
        "Requests that reached no upstream, by the status of their answer.",
        [({"status": str(status)}, totals[_REFUSED + k]) for k, status in enumerate(REFUSALS)],
    )
    lines += _histogram(totals)
    return "\n".join(lines) + "\n"


def _answers(counts: list[Count]) -> Iterator[str]:
    """Sum the log's counts: eligible is labelled + skipped + failed, by its making."""
    surface = _summed(lambda c: (("surface", c[0]),), counts)
    each = _summed(lambda c: (("surface", c[0]), ("disposition", c[1]), ("reason", c[2])), counts)
    results = _summed(lambda c: (("surface", c[0]), ("result", c[3])), counts)
    # These two are there before the first failure: an alarm on their increase must not miss it.
    none: list[Count] = [(name, "", "", "", 0) for name in SURFACES]
    broken = _summed(lambda c: (("surface", c[0]),), none + [c for c in counts if c[1] == "failed"])
    upstream = _summed(lambda c: (("surface", c[0]),), none + [c for c in counts if c[3] in UPSTREAM_FAULTS])
    yield from _family("eligible_total", "counter", "Requests for generated text that were sent on.", surface)
    yield from _family("answers_total", "counter", "What became of them: labelled, skipped or failed.", each)
    yield from _family("results_total", "counter", "How they ended.", results)
    yield from _family("marks_failed_total", "counter", "Answers without a mark that was due.", broken)
    yield from _family("upstream_errors_total", "counter", "Answers that the upstream refused or broke.", upstream)


def _summed(key: Callable[[Count], Labels], counts: list[Count]) -> list[tuple[dict[str, str], float]]:
    sums: dict[Labels, float] = {}
    for count in counts:
        sums[key(count)] = sums.get(key(count), 0) + count[4]
    return [(dict(labels), number) for labels, number in sorted(sums.items())]


def _histogram(totals: list[float]) -> Iterator[str]:
    name = "time_to_first_byte_seconds"
    yield from _family(name, "histogram", "From a request to the first byte of its answer's body.", [])
    below = accumulate(totals[_BUCKET : _BUCKET + len(BUCKETS)])
    for bound, number in zip([*map(str, BUCKETS), "+Inf"], [*below, totals[_COUNT]], strict=True):
        yield _line(f"{name}_bucket", {"le": bound}, number)
    yield _line(f"{name}_sum", {}, totals[_SUM])
    yield _line(f"{name}_count", {}, totals[_COUNT])


def _family(name: str, kind: str, text: str, values: Iterable[tuple[Mapping[str, str], float]]) -> Iterator[str]:
    yield f"# HELP llm_label_{name} {text}"
    yield f"# TYPE llm_label_{name} {kind}"
    for labels, value in values:
        yield _line(name, labels, value)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    number = int(value) if value == int(value) else value
    return f"llm_label_{name}{{{shown}}} {number}" if shown else f"llm_label_{name} {number}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
