"""Start-up times: a bare interpreter, `import llm_label`, `llm-label --help`, `llm-label detect --help`.

    python benchmarks/startup.py [--runs 15]

Medians of fresh processes, warm file cache.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = {
    "bare interpreter": [sys.executable, "-c", "pass"],
    "import llm_label": [sys.executable, "-c", "import llm_label"],
    "llm-label --help": [str(Path(sys.executable).parent / "llm-label"), "--help"],
    "llm-label detect --help": [str(Path(sys.executable).parent / "llm-label"), "detect", "--help"],
}


def median_ms(command: list[str], runs: int) -> float:
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure start-up times.")
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    bare = median_ms(COMMANDS["bare interpreter"], runs)
    print("| command | ms | over a bare interpreter, ms |\n| --- | --- | --- |")
    for name, command in COMMANDS.items():
        took = median_ms(command, runs)
        print(f"| {name} | {took:.0f} | {took - bare:.0f} |")


if __name__ == "__main__":
    main()
