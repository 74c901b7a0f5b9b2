"""Measure how well a marked passage is found in a long unmarked text, and where.

    python benchmarks/segments.py [--trials 400] [--entropy 1.0] [--seed 0] [--json]

A text has n tokens that count, each with a context of its own under an ideal PRF, of which s in a row are marked: drawn
from the Zipf-shaped distribution of benchmarks/power.py with the given entropy, their scores those of the winner of
the race. The others score as unmarked tokens do. Compared, at a family-wise 1e-6: the test of the whole text; the
package's windows; and a test that is told the passage, the best that any search could do. `iou` is the tokens that
found spans and passage have in common over those of either, median over the texts found. What looking everywhere does
on unmarked texts is `benchmarks/null.py --search`.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.score_law import zipf
from llm_label.watermark.scan import Trace
from llm_label.watermark.schemes.gumbel import Gumbel
from llm_label.watermark.segments import Search, searched

LEVEL = -6.0
LENGTHS = (500, 2000, 10_000, 100_000)
PASSAGES = (50, 75, 100, 150, 300)
RULES = Gumbel()
WIDTH = RULES.context_width


def text(rng: np.random.Generator, p: npt.NDArray[np.float64], n: int, start: int, length: int) -> Search:
    """Look at n scores, of which those from `start` on are marked."""
    scores = rng.exponential(size=n)
    chance = p[rng.choice(len(p), length, p=p)]
    scores[start : start + length] = -np.log1p(-np.minimum(rng.random(length) ** chance, 1.0 - 2.0**-24))
    return searched(Trace(np.zeros(n + WIDTH, dtype=np.int64), np.arange(WIDTH, n + WIDTH), scores, RULES))


def passages(rng: np.random.Generator, entropy: float, trials: int) -> Iterator[dict[str, Any]]:
    p = zipf(entropy)
    for n in LENGTHS:
        for length in PASSAGES:
            count = {"whole": 0, "windows": 0, "told": 0}
            iou = []
            for _ in range(max(20, trials * 2000 // max(n, 2000))):
                start = int(rng.integers(0, n - length))
                found = text(rng, p, n, start, length)
                score = float(found.trace.scores[start : start + length].sum())
                count["whole"] += found.whole.log10_p <= LEVEL
                count["told"] += RULES.log10_tail(length, score) <= LEVEL
                if found.log10_p <= LEVEL:
                    count["windows"] += 1
                    iou.append(overlap(found, start + WIDTH, start + WIDTH + length))
            trials_made = max(20, trials * 2000 // max(n, 2000))
            shares = {name: round(hits / trials_made, 3) for name, hits in count.items()}
            yield {"n": n, "passage": length} | shares | {"iou": round(float(np.median(iou)), 2) if iou else None}


def overlap(found: Search, start: int, end: int) -> float:
    marked, truth = np.zeros(end + 10**6, dtype=bool), np.zeros(end + 10**6, dtype=bool)
    truth[start:end] = True
    for span in found.spans(LEVEL):
        marked[span.first : span.last] = True
    return float((marked & truth).sum() / (marked | truth).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--entropy", type=float, default=1.0, help="nats a token")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    rows = passages(np.random.default_rng(given.seed), given.entropy, given.trials)
    for number, row in enumerate(rows):
        if given.json:
            print(json.dumps(row))
        else:
            print(*([*map("{:>9}".format, row), "\n"] if not number else []), sep="", end="")
            print("".join(f"{value:>9.4g}" if value is not None else f"{'-':>9}" for value in row.values()))


if __name__ == "__main__":
    main()
