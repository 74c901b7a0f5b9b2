"""What the proxy adds to a stream: time to its first byte, and CPU per paced chunk, for all four APIs.

    python benchmarks/latency.py [--streams 100] [--rounds 3] [--json]

A bare passthrough and llm-label with all marks (start and end label, record in headers and body, audit log on disk)
stand on one core and are asked in turns; the mock upstream and the clients share the second core. First bytes: one
stream after the other, from an upstream that thinks for 5 ms (a model's prompt takes longer) and from one that answers
at once; then sixteen connections that begin their streams at times of their own, 200 chunks, 10 ms a chunk.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from canned import PATHS, ask, events
from proxy import cpu, free_port, running

HERE = Path(__file__).resolve().parent
PACE = 0.010  # seconds between the chunks of a stream
THINK = 0.005  # seconds before the first byte of one
AT_ONCE = 16
EACH = 2  # streams of each connection in a round
LONG = 200  # events of such a stream, about
WARM = 5  # streams that are not counted

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def first_byte(connection: Connection, surface: str) -> float:
    """Read a stream to its end; return the seconds from the request to the first chunk of its body."""
    reader, writer = connection
    began = time.perf_counter()
    writer.write(ask(surface))
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"latency: {head[:200]!r}")
    size = int(await reader.readuntil(b"\r\n"), 16)
    took = time.perf_counter() - began
    while size:
        await reader.readexactly(size + 2)
        size = int(await reader.readuntil(b"\r\n"), 16)
    await reader.readexactly(2)
    return took


async def alone(ports: dict[str, int], surface: str, streams: int) -> dict[str, float]:
    """Return the median milliseconds to the first byte, one stream after the other, through each proxy in turn."""
    found: dict[str, list[float]] = {name: [] for name in ports}
    there = {name: await asyncio.open_connection("127.0.0.1", port, limit=1 << 20) for name, port in ports.items()}
    for turn in range(streams + WARM):
        for name in sorted(ports, reverse=turn % 2 == 0):
            took = await first_byte(there[name], surface)
            if turn >= WARM:
                found[name].append(took)
    for _, writer in there.values():
        writer.close()
    return {name: statistics.median(took) * 1e3 for name, took in found.items()}


async def together(port: int, surface: str, each: int) -> list[float]:
    """Return the seconds to the first byte of streams on sixteen connections, which begin at times of their own."""
    dice, length = random.Random(each), PACE * len(events(surface, LONG))

    async def client() -> list[float]:
        there = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        await asyncio.sleep(dice.random() * length)
        took = [await first_byte(there, surface) for _ in range(each)]
        there[1].close()
        return took

    return sum(await asyncio.gather(*(client() for _ in range(AT_ONCE))), [])


def measure(streams: int, rounds: int) -> list[dict[str, Any]]:
    python, ports = sys.executable, {"bare": free_port(), "llm-label": free_port()}
    here = str(HERE / "canned.py")
    other = 1 % (os.cpu_count() or 1)
    os.sched_setaffinity(0, {other})
    rows: list[dict[str, Any]] = [{"surface": surface} for surface in PATHS]
    with tempfile.TemporaryDirectory() as scratch:
        for name, think in (("alone_ms", THINK), ("at_once_ms", 0.0)):
            upstream = free_port()
            with (
                running(other, upstream, python, here, str(upstream), "0.0005", str(think)),
                _proxies(ports, upstream, Path(scratch, f"{name}.sqlite3")),
            ):
                for row in rows:
                    row[name] = asyncio.run(alone(ports, row["surface"], streams))
        upstream = free_port()
        with (
            running(other, upstream, python, here, str(upstream), str(PACE), str(THINK), str(LONG)),
            _proxies(ports, upstream, Path(scratch, "paced.sqlite3")) as pids,
        ):
            for row in rows:
                row |= _in_turns(ports, pids, row["surface"], rounds)
    return rows


def _in_turns(ports: dict[str, int], pids: dict[str, int], surface: str, rounds: int) -> dict[str, Any]:
    """Measure sixteen connections through each proxy in turn: medians of first bytes and of CPU per chunk."""
    took: dict[str, list[float]] = {name: [] for name in ports}
    spent: dict[str, list[float]] = {name: [] for name in ports}
    for turn in range(rounds + 1):
        for name in sorted(ports, reverse=turn % 2 == 0):
            before = cpu(pids[name])
            seconds = asyncio.run(together(ports[name], surface, EACH))
            if turn:  # the first round warms up
                took[name] += seconds
                spent[name].append((cpu(pids[name]) - before) / (len(seconds) * len(events(surface, LONG))) * 1e6)
    return {
        "together_ms": {name: statistics.median(all_) * 1e3 for name, all_ in took.items()},
        "us_per_chunk": {name: statistics.median(all_) for name, all_ in spent.items()},
    }


class _proxies:
    """Both proxies on the first core, idle in turns."""

    def __init__(self, ports: dict[str, int], upstream: int, audit: Path) -> None:
        url, port = f"http://127.0.0.1:{upstream}", str(ports["llm-label"])
        serve = [str(Path(sys.executable).parent / "llm-label"), "serve", "--upstream", url, "--port", port]
        environ = {"LLM_LABEL_PROVIDER_NAME": "Bench", "LLM_LABEL_AUDIT_PATH": str(audit)}
        bare = [sys.executable, str(HERE / "proxy.py"), "--bare", f"{ports['bare']},{url}"]
        self._bare = running(0, ports["bare"], *bare)
        self._ours = running(0, ports["llm-label"], *serve, "--label", "start,end", **environ)

    def __enter__(self) -> dict[str, int]:
        return {"bare": self._bare.__enter__(), "llm-label": self._ours.__enter__()}

    def __exit__(self, *error: Any) -> None:
        self._ours.__exit__(*error)
        self._bare.__exit__(*error)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--streams", type=int, default=100, help="streams per API and proxy, one after the other")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = measure(given.streams, given.rounds)
    if given.json:
        print(json.dumps(rows, indent=2))
        return
    print("| API | first byte, ms: bare, ours (+) | upstream at once | 16 streams | CPU µs/chunk: bare, ours (×) |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        shown = [_pair(row[key]) for key in ("alone_ms", "at_once_ms", "together_ms")]
        bare, ours = row["us_per_chunk"]["bare"], row["us_per_chunk"]["llm-label"]
        print(f"| {row['surface']} | {' | '.join(shown)} | {bare:.1f}, {ours:.1f} ({ours / bare:.2f}) |")


def _pair(ms: dict[str, float]) -> str:
    return f"{ms['bare']:.2f}, {ms['llm-label']:.2f} (+{ms['llm-label'] - ms['bare']:.2f})"


if __name__ == "__main__":
    main()
