"""Run one target for a while; what fails is kept, and the run goes on.

    python -m tests.fuzz.run TARGET --seconds 60 --seed 1 --out FOLDER [--plain]

With atheris inputs are chosen by the code they reach; with `--plain` by chance alone, from the same seeds.
"""

import argparse
import hashlib
import json
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

TARGETS = ("streams", "requests", "wholes", "growth")
HANG = 30  # seconds of CPU for one input; a busy machine may stop a process for longer than that


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    by_chance = given.plain or given.target == "growth"  # which code runs says nothing about how long it takes
    (plain if by_chance else guided)(given.target, given.seconds, given.seed, given.out)


class Finds:
    """Keep one input for each way to fail."""

    def __init__(self, target: str, out: Path) -> None:
        self.target, self.out, self.runs, self.began = target, out, 0, time.monotonic()
        self._seen: set[str] = set()
        self._check = checker(target)
        signal.signal(signal.SIGPROF, _hangs)
        self.tell()

    def try_(self, data: bytes) -> None:
        self.runs += 1
        signal.setitimer(signal.ITIMER_PROF, HANG)
        try:
            self._check(data)
        except Exception as error:
            self._keep(data, error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if self.runs % 500 == 0:
            self.tell()

    def tell(self) -> None:
        told = {"runs": self.runs, "seconds": round(time.monotonic() - self.began, 1), "finds": len(self._seen)}
        (self.out / f"{self.target}.json").write_text(json.dumps(told))

    def _keep(self, data: bytes, error: Exception) -> None:
        stack = traceback.extract_tb(error.__traceback__)
        way = " ".join(f"{frame.name}:{frame.lineno}" for frame in stack[-3:])
        if way in self._seen:
            return
        self._seen.add(way)
        name = f"{self.target}-{hashlib.sha256(way.encode()).hexdigest()[:8]}"
        (self.out / name).write_bytes(data)
        text = f"{way}\n{type(error).__name__}: {str(error)[:1500]}\n"
        (self.out / f"{name}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        print(f"{name}: {text}", flush=True)
        self.tell()


def _hangs(*_: object) -> None:
    raise TimeoutError(f"more than {HANG} s of CPU for one input")


def checker(target: str) -> Callable[[bytes], None]:
    from tests.fuzz import growth, requests, streams, wholes

    return {"streams": streams, "requests": requests, "wholes": wholes, "growth": growth}[target].check


def seeds_for(target: str, dice: random.Random) -> list[bytes]:
    from tests.fuzz import seeds

    made = {"streams": [seeds.streams], "requests": [seeds.requests], "wholes": [seeds.wholes],
            "growth": [seeds.streams, seeds.requests, seeds.wholes]}  # fmt: skip
    return [data for make in made[target] for data in make(dice)]


def is_stream(target: str, data: bytes) -> bool:
    return target == "streams" or (target == "growth" and data[8:9] != b"{")


def plain(target: str, seconds: float, seed: int, out: Path) -> None:
    """Run changed seeds, chosen by chance, until the time is over."""
    from tests.fuzz.mutate import mutate

    dice, finds = random.Random(seed), Finds(target, out)
    inputs = seeds_for(target, dice)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = dice.choice(inputs)
        finds.try_(mutate(data, dice, dice.choice(inputs), is_stream(target, data)))
    finds.tell()


def guided(target: str, seconds: float, seed: int, out: Path) -> None:
    """Let atheris choose inputs by the code that they reach."""
    import atheris

    with atheris.instrument_imports(include=["llm_label.proxy", "llm_label.labels"]):
        from tests.fuzz.mutate import mutate

        finds, inputs = Finds(target, out), seeds_for(target, random.Random(seed))

    def change(data: bytes, most: int, chance: int) -> bytes:
        dice = random.Random(chance)
        return mutate(data, dice, dice.choice(inputs), is_stream(target, data))[:most]

    with tempfile.TemporaryDirectory() as scratch:
        for at, data in enumerate(inputs):
            (Path(scratch) / f"seed-{at:04}").write_bytes(data)
        atheris.Setup(
            [sys.argv[0], scratch, f"-max_total_time={int(seconds)}", f"-seed={seed}", "-max_len=40000",
             f"-timeout={20 * HANG}", f"-artifact_prefix={out}/{target}-", "-print_final_stats=1", "-len_control=0",
             "-rss_limit_mb=4096"],
            finds.try_, custom_mutator=change,
        )  # fmt: skip
        atheris.Fuzz()


if __name__ == "__main__":
    main()
