"""Run every target for its share of the time, each in a process of its own, and print what was done and found.

python -m tests.fuzz [--minutes 10] [--seed 1] [--out FOLDER] [--plain]
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import TARGETS

SHARES = {"streams": 0.5, "requests": 0.2, "wholes": 0.2, "growth": 0.1}
TAIL = 600  # seconds that a process may take beyond its share


def main() -> None:
    parser = argparse.ArgumentParser(prog="start.py fuzz", description="Fuzz the proxy's readers of foreign bytes.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=None, help="where failing inputs are kept")
    parser.add_argument("--plain", action="store_true", help="by chance alone, without atheris")
    given = parser.parse_args()
    out = given.out or Path(tempfile.mkdtemp(prefix="llm-label-fuzz-"))
    out.mkdir(parents=True, exist_ok=True)
    rows = [_run(target, given.minutes * 60 * SHARES[target], given.seed, out, given.plain) for target in TARGETS]
    print("\n| target | executions | seconds | code edges | defects |\n| --- | --- | --- | --- | --- |")
    for target, told in zip(TARGETS, rows, strict=True):
        edges = told.get("edges") or "-"
        print(f"| {target} | {told['runs']:,} | {told['seconds']:.0f} | {edges} | {told['finds']} |")
    found = sum(told["finds"] for told in rows)
    sys.exit(f"fuzz: {found} defects; their inputs are in {out}" if found else 0)


def _run(target: str, seconds: float, seed: int, out: Path, by_chance: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.fuzz.run", target, "--seconds", f"{seconds:.0f}", "--seed", f"{seed}"]
    print(f"fuzz: {target} for {seconds:.0f} s", flush=True)
    with (out / f"{target}.log").open("wb") as log:
        done = subprocess.run(
            [*command, "--out", str(out), *(["--plain"] if by_chance else [])],
            stdout=log, stderr=subprocess.STDOUT, timeout=seconds + TAIL,
        )  # fmt: skip
    said = (out / f"{target}.log").read_text(encoding="utf-8", errors="replace")
    told: dict[str, float] = json.loads((out / f"{target}.json").read_text())
    if done.returncode:  # a hang, or no memory left: the fuzzer itself ends
        print(said[-2000:])
        told["finds"] += 1
    for name, pattern in (("edges", r"cov: (\d+)"), ("runs", r"Done (\d+) runs"), ("seconds", r"runs in (\d+) second")):
        if figures := re.findall(pattern, said):
            told[name] = int(figures[-1])
    return told


if __name__ == "__main__":
    main()
