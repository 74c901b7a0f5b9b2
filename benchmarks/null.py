"""Measure the realised false-positive rate on (text, key) pairs without a mark, for one key and for a ring of keys.

    python benchmarks/null.py [--pairs 1e5] [--scheme gumbel ...] [--ring 10] [--seed 0] [--json]
    python benchmarks/null.py --text human_zh.jsonl.gz --tokenizer qwen3/tokenizer.json --pairs 1e6
    python benchmarks/null.py --search [--payload-bits 8] --pairs 1e5
    python benchmarks/null.py --spread 200

What is random under the null hypothesis is the key, so the unit is one fresh key on one text: p-values of the same
text under keys drawn independently are independent, and each text meets many. (Their rates may differ from text to
text; while none exceeds its level, the number of hits is no larger than a binomial one: Hoeffding 1956.) A ring is
ten keys in a row on one text, the least p-value corrected for all ten; both readings are of the same pairs.

Texts have 25 to 400 tokens (--longest), every doubling as often, and are of three kinds in turn: independent tokens; a
loop of 5 to 20 tokens; a template repeated with one token in twenty changed. --text takes real ones instead. Scores are
those of `scan`, whose own arithmetic runs here on many keys at once; p falls as the score rises, so the exact tail is
asked from the highest score down until it leaves the loosest level. One pair in some thousand is put to `scan` itself,
and must agree to the last bit.

--search asks the package for what `detect` takes from a key: the loudest of the whole text and its windows, under the
payloads that deserve a look, corrected for all windows and all payloads; and, where there are payloads, the whole text
under the loudest of them. A text meets ten keys.

--spread asks N fixed keys about the same templated letters: how their rates differ is what shared templates do to a
fixed key, and is no error. Exit status 1: a rate is significantly above its level, which one row in two thousand is by
chance.
"""

import argparse
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from progress import Progress
from unmarked import VOCAB, real, synthetic

from llm_label.keyfile import tokenizer_spec
from llm_label.watermark import lattice, tournament
from llm_label.watermark.calibrate import CONFIDENCE, LEVELS, Level
from llm_label.watermark.intervals import clopper_pearson
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import family_wise, scan, token_scores
from llm_label.watermark.schemes import SCHEMES, Scheme, Worded
from llm_label.watermark.segments import searches
from llm_label.watermark.shortlist import shortlist

Ids: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Keys: TypeAlias = npt.NDArray[np.uint64]  # [k, words of a key]
Tail: TypeAlias = Callable[[float], float]

MEASURED: dict[str, dict[str, Any]] = {
    **{name: {"scheme": name} for name in SCHEMES if name != "synthid"},
    **{f"synthid-{s}": {"scheme": "synthid", "parameters": {"statistic": s}} for s in ("weighted", "mean")},
    "gumbel-siphash": {"scheme": "gumbel", "prf": "siphash-2-4-v1"},
}
KEYS, KEYS_OF_LAWS = 100, 1000  # a text; more where the law of a text takes longer than a score
KEYS_SEARCHED = 10  # which take long enough to make texts often
LOOSEST = math.log10(LEVELS[0])
CHECK_EVERY = 4000  # pairs, of which scan repeats two


def fresh(spec: Spec, rng: np.random.Generator, count: int) -> Keys:
    return rng.integers(0, 2**64, (count, spec.rules.key_bytes // 8), dtype=np.uint64)


def as_key(words: npt.NDArray[np.uint64], spec: Spec) -> Key:
    return Key.imported("null", int.from_bytes(words.astype(">u8").tobytes(), "big"), spec)


def fresh_key(spec: Spec, rng: np.random.Generator) -> Key:
    return as_key(fresh(spec, rng, 1)[0], spec)


def p_values(spec: Spec, ids: Ids, keys: Keys) -> tuple[Floats, Floats]:
    """Return score [k] and log10 p [k] of one text under each key; 0.0 for every p above the loosest level."""
    positions, _ = token_scores(ids, as_key(keys[0], spec))  # which positions count depends on no key
    if not len(positions):
        return np.zeros(len(keys)), np.zeros(len(keys))
    before = positions[:, None] + np.arange(-spec.context_width, 0)
    by_law = spec.scheme == "synthid"
    scores, tail = (laws if by_law else words)(spec.rules, keys, ids[before], ids[positions])
    distinct, place = np.unique(-scores, return_inverse=True)
    found = np.zeros(len(distinct))
    for k, score in enumerate((-distinct).tolist()):
        log10_p = tail(score)
        if log10_p > LOOSEST:
            break
        found[k] = log10_p
    return scores, found[place]


def words(rules: Scheme, keys: Keys, contexts: Ids, tokens: Ids) -> tuple[Floats, Tail]:
    """Score tokens [n] under all keys, each token under a key of its own, and return the tail over n tokens."""
    k, n = len(keys), len(tokens)
    contexts, tokens = np.tile(contexts, (k, 1)), np.tile(tokens, k)
    if rules.name == "dual_gumbel":
        pairs = np.array([rules.keys(int(key)) for key in keys[:, 0]], dtype=np.uint64)  # type: ignore[attr-defined]
        one: Any = SCHEMES["gumbel"]()
        a, b = (one.token_scores(np.repeat(pairs[:, half], n), contexts, tokens) for half in (0, 1))
        scores = (1.0 - rules.alpha) * a + rules.alpha * b  # type: ignore[attr-defined]
    else:
        each: Any = np.repeat(keys.T, n, axis=1)  # the words of a key, or its only one
        scores = rules.token_scores(each if len(each) > 1 else each[0], contexts, tokens)
    return scores.reshape(k, n).sum(axis=1), lambda score: rules.log10_tail(n, score)


def laws(rules: Any, keys: Keys, contexts: Ids, tokens: Ids) -> tuple[Floats, Tail]:
    """Look every layer key up among the numbers of ones that all keys give the text, and return its exact tail."""
    size = rules.sampling_table_size
    states = rules.states(contexts, tokens)
    counts = tournament.counts_by_key(states, rules.sampling_table, rules.sampling_table_seed, size)
    law = lattice.law_of(counts)
    scores = counts[keys & np.uint64(size - 1)] @ rules.weights
    return scores.astype(np.float64), lambda score: lattice.log10_sf(law, rules.weights, round(score))


def check(spec: Spec, ids: Ids, key: Key, score: float, log10_p: float) -> None:
    """End the program where scan does not give the very same score, and the same p or one above all levels."""
    alone = scan(ids, key)
    if alone.score != score or (alone.log10_p != log10_p and not (log10_p == 0.0 and alone.log10_p > LOOSEST)):
        sys.exit(f"null.py: {alone} by scan, but score {score!r} and log10 p {log10_p!r} by arrays, {spec}")


def search(spec: Spec, ids: Ids, keys: Keys) -> tuple[Floats, Floats]:
    """Return log10 p [k] of the whole text, and of the loudest of it and its windows, all payloads paid for."""
    tests = 2**spec.payload_bits
    copies = [
        (k, key.carrying(one)) for k, key in enumerate(as_key(w, spec) for w in keys) for one in shortlist(ids, key)
    ]
    whole, windows = np.zeros(len(keys)), np.zeros(len(keys))
    for (k, _), found in zip(copies, searches(ids, (copy for _, copy in copies)), strict=True):
        whole[k] = min(whole[k], family_wise(found.whole.log10_p, tests))
        windows[k] = min(windows[k], family_wise(found.log10_p, tests))
    return whole, windows


class Tally:
    """Count units and hits at every level, by kind of text and number of keys."""

    def __init__(self, rings: tuple[int, ...]) -> None:
        self.rings = rings
        self.units: Counter[tuple[str, int]] = Counter()
        self.hits: Counter[tuple[str, int, float]] = Counter()

    def add(self, kind: str, log10_p: Floats) -> None:
        for ring in self.rings:
            least = [family_wise(p, ring) for p in log10_p.reshape(-1, ring).min(axis=1).tolist() if p < 0.0]
            for name in (kind, "all"):
                self.units[name, ring] += len(log10_p) // ring
                for level in LEVELS:
                    self.hits[name, ring, level] += sum(p <= math.log10(level) for p in least)

    def rows(self, name: str, seconds: float) -> Iterator[dict[str, Any]]:
        for (kind, ring), units in sorted(self.units.items(), key=lambda item: (item[0][1], item[0][0] == "all")):
            for level in LEVELS:
                hits = self.hits[kind, ring, level]
                found = Level(level, units, hits, *clopper_pearson(hits, units, CONFIDENCE))
                what = {"scheme": name, "keys": ring, "texts": kind, "units": units, "level": level, "hits": hits}
                rates = {"rate": found.rate, "low": found.low, "high": found.high, "status": found.status}
                yield what | rates | {"seconds": round(seconds, 1)}


def measure(
    name: str, spec: Spec, texts: Iterator[tuple[str, Ids]], most: int, pairs: int, ring: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Yield a row for one key and for a ring of them, each kind of text and all together, and each level.

    most: keys that one text meets before the next comes.
    """
    progress, done, checked = Progress(), 0, 0
    tally = Tally((1, ring) if ring > 1 else (1,))
    while done < pairs:
        kind, ids = next(texts)
        count = min(most // ring * ring, -(-(pairs - done) // ring) * ring)
        keys = fresh(spec, rng, count)
        scores, found = p_values(spec, ids, keys)
        tally.add(kind, found)
        if done // CHECK_EVERY != (done + count) // CHECK_EVERY:
            for k in (int(scores.argmax()), int(rng.integers(count))):
                check(spec, ids, as_key(keys[k], spec), float(scores[k]), float(found[k]))
                checked += 1
        done += count
        progress.say(f"{name}: {done:,} of {pairs:,} pairs, {checked:,} of them by scan", last=done >= pairs)
    yield from tally.rows(name, progress.seconds)


def measure_searched(
    name: str, spec: Spec, texts: Iterator[tuple[str, Ids]], pairs: int, rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `measure` for what is searched."""
    progress, done = Progress(), 0
    bits = f", {spec.payload_bits}-bit payload" if spec.payload_bits else ""
    whole, windows = Tally((1,)), Tally((1,))
    while done < pairs:
        kind, ids = next(texts)
        keys = fresh(spec, rng, min(KEYS_SEARCHED, pairs - done))
        for tally, found in zip((whole, windows), search(spec, ids, keys), strict=True):
            tally.add(kind, found)
        done += len(keys)
        progress.say(f"{name}{bits}: {done:,} of {pairs:,} pairs", last=done >= pairs)
    if bits:
        yield from whole.rows(name + bits, progress.seconds)
    yield from windows.rows(f"{name}{bits}, windows", progress.seconds)


def spread(name: str, spec: Spec, keys: int, rng: np.random.Generator) -> dict[str, Any]:
    """Return how the rate at the first level goes from key to key over 400 letters of 20 templates."""
    fixed, hits, progress = fresh(spec, rng, keys), np.zeros(keys), Progress()
    for template in rng.integers(0, VOCAB, (20, 200)):
        for _ in range(20):
            letter = template.copy()
            letter[rng.integers(0, 200, 10)] = rng.integers(0, VOCAB, 10)
            hits += p_values(spec, letter, fixed)[1] < 0.0
        progress.say(f"{name}: {keys} keys")
    rates = hits / 400
    quantiles = dict(zip(("least", "median", "95 %", "largest"), np.quantile(rates, [0, 0.5, 0.95, 1]), strict=True))
    return {"scheme": name, "keys": keys, "level": LEVELS[0], "mean": rates.mean(), **quantiles}


def carriers(payload_bits: int) -> list[str]:
    """Return the names of what can be measured, with payloads or without."""
    return [
        name for name, given in MEASURED.items() if not payload_bits or issubclass(SCHEMES[given["scheme"]], Worded)
    ]


def measured(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    read_as: dict[str | None, list[tuple[str, Ids]]] = {}
    for name in args.scheme or carriers(args.payload_bits):
        spec, rng, corpus = Spec(**MEASURED[name], payload_bits=args.payload_bits), np.random.default_rng(args.seed), []
        if args.spread:
            yield spread(name, spec, args.spread, rng)
            continue
        if args.text:
            if getattr(spec.rules, "units", None) is None:  # else it needs no tokenizer
                spec = tokenizer_spec(args.tokenizer, **MEASURED[name], payload_bits=args.payload_bits)
            if spec.tokenizer not in read_as:
                read_as[spec.tokenizer] = real(args.text, fresh_key(spec, rng))
            corpus = read_as[spec.tokenizer]
        texts = cycle(corpus) if corpus else synthetic(np.random.default_rng([args.seed, 1]), args.longest)
        if args.search:
            yield from measure_searched(name, spec, texts, args.pairs, rng)
            continue
        most = KEYS_OF_LAWS if spec.scheme == "synthid" else KEYS
        if corpus:  # no text is left out
            most = min(most, max(args.ring, args.pairs // len(corpus)))
        yield from measure(name, spec, texts, most, args.pairs, args.ring, rng)


def show(rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")
    for line in rows:
        print("| " + " | ".join(f"{v:.3g}" if isinstance(v, float) else f"{v}" for v in line.values()) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=lambda n: int(float(n)), default=100_000, help="of text and key, a scheme")
    parser.add_argument("--scheme", action="append", choices=list(MEASURED), help="may be given several times; all")
    parser.add_argument("--ring", type=int, default=10, help="keys of a ring; 1: single keys only")
    parser.add_argument("--text", action="append", type=Path, metavar="PATH", help=".txt, .md, .jsonl, .jsonl.gz")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="the tokenizer.json for --text")
    parser.add_argument("--longest", type=int, default=400, metavar="TOKENS")
    parser.add_argument("--search", action="store_true", help="windows, and payloads where there are some")
    parser.add_argument("--payload-bits", type=int, default=0, metavar="B", help="of --search")
    parser.add_argument("--spread", type=int, metavar="KEYS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if bool(args.text) != bool(args.tokenizer):
        parser.error("--text and --tokenizer go together")
    if not 1 <= args.ring <= KEYS or args.pairs < args.ring:
        parser.error(f"--ring is a number from 1 to {KEYS}, and --pairs at least that")
    if args.payload_bits and not args.search:
        parser.error("--payload-bits goes with --search")
    rows = list(measured(args))
    if args.json:
        print(json.dumps(rows, indent=2))
    else:
        show(rows)
    sys.exit(any(line.get("status") == "above" for line in rows))


if __name__ == "__main__":
    main()
