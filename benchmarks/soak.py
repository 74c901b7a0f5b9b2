"""Memory of one worker over many streams, a tenth of which their clients abort; and what is left behind.

    python benchmarks/soak.py [--streams 20000] [--concurrency 32] [--json]

The four APIs take turns. An aborted stream is left after a few chunks, half of the time by closing the connection and
half by a reset. Afterwards there must be one closed audit entry per stream, and no connection to the upstream.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import sqlite3
import struct
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from canned import PATHS, ask
from proxy import free_port, running

HERE = Path(__file__).resolve().parent
PACE = 0.005  # seconds between the chunks of a stream
EVERY = 20  # samples of the memory over the run
WARM = 0.3  # of the run, before its slope is taken: pools fill, caches fill
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by a reset


def rss(pid: int) -> int:
    """Return the kilobytes a process holds."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


async def one(port: int, surface: str, leave_after: int | None, reset: bool) -> None:
    """Read one stream to its end, or leave after some chunks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(ask(surface))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"soak: {head[:200]!r}")
        chunks = 0
        while leave_after is None or chunks < leave_after:
            size = int(await reader.readuntil(b"\r\n"), 16)
            await reader.readexactly(size + 2)
            chunks += 1
            if not size:
                return
        if reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def load(port: int, pid: int, streams: int, concurrency: int) -> tuple[list[int], int]:
    """Run the streams; return the memory along the way and how many were left."""
    dice, left, started, samples = random.Random(1), 0, 0, [rss(pid)]
    names = list(PATHS)

    async def worker() -> None:
        nonlocal left, started
        while started < streams:
            started += 1
            at = started
            leave = dice.randrange(1, 20) if at % 10 == 0 else None
            left += leave is not None
            await one(port, names[at // 10 % 4], leave, reset=dice.random() < 0.5)
            if at % (streams // EVERY) == 0:
                samples.append(rss(pid))

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return samples, left


def slope(samples: list[int], streams: int) -> float:
    """Return the kilobytes that a thousand streams add, by least squares over the warm part of the run."""
    warm = samples[int(len(samples) * WARM) :]
    middle, mean = (len(warm) - 1) / 2, sum(warm) / len(warm)
    steps = range(len(warm))
    per_sample = sum((x - middle) * (y - mean) for x, y in zip(steps, warm, strict=True)) / sum(
        (x - middle) ** 2 for x in steps
    )
    return per_sample * EVERY / streams * 1000


def left_behind(audit: Path, upstream: int) -> dict[str, Any]:
    """Wait until everything should be closed, and tell what is not."""
    end = time.monotonic() + 20
    while True:
        with contextlib.closing(sqlite3.connect(audit)) as db:
            results = Counter(dict(db.execute("SELECT result, COUNT(*) FROM entries GROUP BY result")))
        with urllib.request.urlopen(f"http://127.0.0.1:{upstream}/open", timeout=5) as answer:
            there = json.load(answer)
        if (not results["open"] and not there["connections"]) or time.monotonic() > end:
            return {"entries": sum(results.values()), "results": dict(results), "left": there}
        time.sleep(0.5)


def measure(streams: int, concurrency: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        audit, upstream, port = Path(scratch) / "audit.sqlite3", free_port(), free_port()
        serve = [str(Path(sys.executable).parent / "llm-label"), "serve", "--port", str(port),
                 "--upstream", f"http://127.0.0.1:{upstream}", "--label", "start,end"]  # fmt: skip
        environ = {"LLM_LABEL_PROVIDER_NAME": "Bench", "LLM_LABEL_AUDIT_PATH": str(audit)}
        os.sched_setaffinity(0, {1 % (os.cpu_count() or 1)})
        with (
            running(
                1 % (os.cpu_count() or 1), upstream, sys.executable, str(HERE / "canned.py"), str(upstream), str(PACE)
            ),
            running(0, port, *serve, **environ) as pid,
        ):
            began = time.monotonic()
            samples, aborted = asyncio.run(load(port, pid, streams, concurrency))
            seconds = time.monotonic() - began
            told = left_behind(audit, upstream)
            return {"streams": streams, "aborted": aborted, "seconds": seconds, "rss_kb": samples,
                    "slope_kb_per_1000": slope(samples, streams), "rss_kb_idle": rss(pid), **told}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--streams", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    row = measure(given.streams, given.concurrency)
    if given.json:
        print(json.dumps(row, indent=2))
    else:
        show(row)
    clean = row["entries"] == row["streams"] and not row["results"].get("open") and not row["left"]["connections"]
    sys.exit(0 if clean else "soak: something was left behind")


def show(row: dict[str, Any]) -> None:
    print("| streams | aborted | seconds | RSS MB: first, half, last | kB per 1,000 streams | entries | left open |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    samples = row["rss_kb"]
    memory = ", ".join(f"{kb / 1024:.1f}" for kb in (samples[0], samples[len(samples) // 2], samples[-1]))
    results = ", ".join(f"{count:,} {result}" for result, count in sorted(row["results"].items()))
    left = f"{row['results'].get('open', 0)} entries, {row['left']['connections']} upstream connections"
    print(
        f"| {row['streams']:,} | {row['aborted']:,} | {row['seconds']:.0f} | {memory} "
        f"| {row['slope_kb_per_1000']:+.1f} | {row['entries']:,} ({results}) | {left} |"
    )


if __name__ == "__main__":
    main()
