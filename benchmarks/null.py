"""Measure the realised false-positive rate on (text, key) pairs without a mark, a fresh key for every text.

    python benchmarks/null.py [--pairs 100000] [--scheme gumbel ...] [--ring 1] [--seed 0] [--json]
    python benchmarks/null.py --spread 200

Texts have 25 to 400 tokens, every doubling as often, and are of three kinds in turn: independent tokens; a loop of 5
to 20 tokens; a template repeated with one token in twenty changed. With --ring N each text is tried under N fresh keys
and its p-value is corrected for them. --spread N instead asks N fixed keys about the same templated letters: that
spread is what shared templates do, and is no error. Exit status 1: a rate is significantly above its level.
"""

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.watermark.calibrate import CONFIDENCE, LEVELS, Level, throw_away_key
from llm_label.watermark.intervals import clopper_pearson
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import Scan, first_occurrences, scan
from llm_label.watermark.schemes import SCHEMES

Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
# (rng, whose [n], position in its text [n], texts) -> tokens [n]
Kind: TypeAlias = Callable[[np.random.Generator, Ids, Ids, int], Ids]

VOCAB = 4096
SHORTEST, LONGEST = 25, 400
BATCH = 4096  # texts
VECTORISED = ("gumbel", "dual_gumbel", "bernoulli")
CHECKED = 2  # texts of each batch, and as many of those that reach a level, compared with scan


def independent(rng: np.random.Generator, owner: Ids, position: Ids, texts: int) -> Ids:
    return rng.integers(0, VOCAB, len(owner))


def periodic(rng: np.random.Generator, owner: Ids, position: Ids, texts: int) -> Ids:
    period = rng.integers(5, 21, texts)
    return rng.integers(0, VOCAB, (texts, 20))[owner, position % period[owner]]


def templated(rng: np.random.Generator, owner: Ids, position: Ids, texts: int) -> Ids:
    size = rng.integers(20, 101, texts)
    tokens = rng.integers(0, VOCAB, (texts, 100))[owner, position % size[owner]]
    changed = rng.random(len(owner)) < 0.05
    return np.where(changed, rng.integers(0, VOCAB, len(owner)), tokens)


KINDS: dict[str, Kind] = {"independent": independent, "period 5-20": periodic, "templated": templated}


def texts_of(kind: Kind, rng: np.random.Generator, count: int) -> tuple[Ids, Ids, Ids]:
    """Return tokens [n] of some texts, whose each is [n] and where it stands in its text [n]."""
    lengths = np.exp(rng.uniform(math.log(SHORTEST), math.log(LONGEST + 1), count)).astype(np.int64)
    owner = np.repeat(np.arange(count), lengths)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return kind(rng, owner, position, count), owner, position


def p_values(spec: Spec, kind: Kind, rng: np.random.Generator, count: int, ring: int) -> Floats:
    """Return the corrected log10 p [count] of texts of a kind, each under a ring of fresh keys of its own."""
    tokens, owner, position = texts_of(kind, rng, count)
    if spec.scheme in VECTORISED:
        # the same texts once more for every further key
        whose = (owner + count * np.arange(ring)[:, None]).ravel()
        found = by_arrays(spec, np.tile(tokens, ring), whose, np.tile(position, ring), rng).reshape(ring, count)
    else:
        texts = np.split(tokens, np.flatnonzero(np.diff(owner)) + 1)
        found = np.array([[scan(ids, fresh(spec, rng)).log10_p for ids in texts] for _ in range(ring)])
    return np.minimum(0.0, found.min(axis=0) + math.log10(ring))


def by_arrays(spec: Spec, tokens: Ids, owner: Ids, position: Ids, rng: np.random.Generator) -> Floats:
    """Return log10 p of each text under a fresh key; what is above every level of interest comes out as p = 1."""
    rules, width, count = spec.rules, spec.context_width, int(owner[-1]) + 1
    keys = rng.integers(0, 2**64, count, dtype=np.uint64)
    at = np.flatnonzero(position >= width)
    contexts = np.lib.stride_tricks.sliding_window_view(tokens, width)[at - width]
    unit = [owner[at], contexts] if rules.once_per == "context" else [owner[at], contexts, tokens[at]]
    first = first_occurrences(np.column_stack(unit))
    whose = owner[at[first]]
    scores = scores_of(rules, keys, whose, contexts[first], tokens[at[first]])
    scored = np.bincount(whose, minlength=count)
    sums = np.bincount(whose, weights=scores, minlength=count)
    found = np.zeros(count)
    for k in np.flatnonzero(sums >= least_sums(spec)[scored]):
        found[k] = rules.log10_tail(int(scored[k]), float(sums[k]))
    for k in [*np.flatnonzero(found)[:CHECKED], *range(CHECKED)]:
        check(scan(tokens[owner == k], Key.imported("null", int(keys[k]), spec)), float(sums[k]), float(found[k]))
    return found


def check(alone: Scan, score: float, log10_p: float) -> None:
    """End the program where arrays and scan disagree about a text."""
    above = log10_p == 0.0 and alone.log10_p > math.log10(LEVELS[0])
    if not math.isclose(alone.score, score, rel_tol=1e-9) or not (
        above or math.isclose(alone.log10_p, log10_p, rel_tol=1e-9)
    ):
        sys.exit(f"null.py: {alone} by scan, but score {score} and log10 p {log10_p} by arrays")


def scores_of(rules: Any, keys: npt.NDArray[np.uint64], whose: Ids, contexts: Ids, tokens: Ids) -> Floats:
    """Score tokens [n] of texts [n], each under its own of keys; the PRF takes one key for each token."""
    if rules.name != "dual_gumbel":
        return np.asarray(rules.token_scores(keys[whose], contexts, tokens))
    halves = np.array([rules.keys(int(key)) for key in keys], dtype=np.uint64)
    a, b = (SCHEMES["gumbel"]().token_scores(halves[whose, part], contexts, tokens) for part in (0, 1))
    return np.asarray((1.0 - rules.alpha) * a + rules.alpha * b)


@cache
def least_sums(spec: Spec) -> Floats:
    """Return for each number of scored tokens a sum just below which p is above the first level."""
    limit, found = math.log10(LEVELS[0]), [0.0]
    for n in range(1, LONGEST + 1):
        low, high = 0.0, float(n) if spec.scheme == "bernoulli" else 2.0 * n + 20.0
        for _ in range(40):
            middle = (low + high) / 2.0
            low, high = (middle, high) if spec.rules.log10_tail(n, middle) > limit else (low, middle)
        found.append(low - 1e-6)
    return np.array(found)


def fresh(spec: Spec, rng: np.random.Generator) -> Key:
    return Key.imported("null", int.from_bytes(rng.bytes(spec.rules.key_bytes), "big"), spec)


def measure(spec: Spec, pairs: int, ring: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each kind and level, and for all kinds together."""
    rng = np.random.default_rng(seed)
    hits: Counter[tuple[str, float]] = Counter()
    units: Counter[str] = Counter()
    done, start, kinds = 0, time.perf_counter(), cycle(KINDS)
    while done < pairs // ring:
        kind = next(kinds)
        count = min(max(1, BATCH // ring), pairs // ring - done)
        found = p_values(spec, KINDS[kind], rng, count, ring)
        units[kind] += count
        for level in LEVELS:
            hits[kind, level] += int((found <= math.log10(level)).sum())
        done += count
        if sys.stderr.isatty():
            print(f"\r{spec.scheme} {done:,}", end="", file=sys.stderr)
    seconds = time.perf_counter() - start
    for kind in [*units, "all"]:
        for level in LEVELS:
            n = units[kind] if kind in units else units.total()
            h = hits[kind, level] if kind in units else sum(hits[k, level] for k in units)
            found_level = Level(level, n, h, *clopper_pearson(h, n, CONFIDENCE))
            yield row(spec, ring, kind, found_level, seconds)


def row(spec: Spec, ring: int, kind: str, level: Level, seconds: float) -> dict[str, Any]:
    return {
        "scheme": spec.scheme,
        "keys": ring,
        "texts": kind,
        "units": level.units,
        "level": level.level,
        "hits": level.hits,
        "rate": level.rate,
        "low": level.low,
        "high": level.high,
        "status": level.status,
        "seconds": round(seconds, 1),
    }


def spread(spec: Spec, keys: int, seed: int) -> dict[str, Any]:
    """Return how the rate at the first level goes from key to key over 400 letters of 20 templates."""
    rng = np.random.default_rng(seed)
    letters = []
    for _ in range(20):
        template = rng.integers(0, VOCAB, 200)
        for _ in range(20):
            letter = template.copy()
            letter[rng.integers(0, 200, 10)] = rng.integers(0, VOCAB, 10)
            letters.append(letter)
    limit = math.log10(LEVELS[0])
    made = [throw_away_key(spec, b"spread", number) for number in range(keys)]
    rates = np.array([np.mean([scan(ids, key).log10_p <= limit for ids in letters]) for key in made])
    quantiles = dict(zip(("least", "median", "95 %", "largest"), np.quantile(rates, [0, 0.5, 0.95, 1]), strict=True))
    return {"scheme": spec.scheme, "keys": keys, "level": LEVELS[0], "mean": rates.mean(), **quantiles}


def show(rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for line in rows:
        print("| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else f"{v}" for v in line.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000, help="of a text and a key, for each scheme")
    parser.add_argument("--scheme", action="append", choices=list(SCHEMES), help="may be given several times; all")
    parser.add_argument("--ring", type=int, default=1, help="keys tried on each text")
    parser.add_argument("--spread", type=int, metavar="KEYS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in args.scheme or SCHEMES:
        spec = Spec(scheme=name)
        rows += (
            [spread(spec, args.spread, args.seed)] if args.spread else measure(spec, args.pairs, args.ring, args.seed)
        )
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)
    sys.exit(any(line.get("status") == "above" for line in rows))


if __name__ == "__main__":
    main()
