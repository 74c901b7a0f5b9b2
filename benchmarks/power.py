"""How many tokens each scheme needs, exactly, beside what no scheme can beat.

    python benchmarks/power.py [--out FOLDER] [--texts 100] [--seed 0]

Seven synthetic texts: independent Zipf-shaped next-token distributions over 400 tokens, the last two with sure tokens
between; every token has a context of its own. n50 and n95 are the scored tokens at which 50 % and 95 % of texts have
p below a level, by each scheme's own exact tail. They are computed, not drawn (score_law.py); then some texts are
written and read at n50 by the package's own code, and the program ends where the share found is another one.

Limits: ln(1/level)/H; the best any distortion-free scheme can do, power E min(1, level·e^S) with S the text's surprisal
(Huang et al. 2312.07930); replay by who knows model and prompt, p = e^−S; the likelihood-ratio test on the race's
pivot u for a reader who knows every distribution (Li et al. 2404.01245). `--out` gets power.svg and power.png.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import plotting
from score_law import CAP, FINE, SCHEMES, Floats, Ids, Law, Rules, fewest, fresh_contexts, fresh_key, score_laws, zipf

from llm_label.watermark import choice, knockout
from llm_label.watermark.prf import PRFS, Stream
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label.watermark.schemes.dual_gumbel import DualGumbel
from llm_label.watermark.schemes.synthid import SynthID

LEVELS = (1e-5, 1e-6)
SHARES = (0.5, 0.95)
UNUSUAL = 4.5  # standard deviations between drawn and computed that end the program: 1 in 3,000 runs by chance
SURE = np.ones(1)


@dataclass(frozen=True, eq=False)
class Source:
    """A kind of text: each token comes from the Zipf shape of an entropy, or is sure with chance `sure`."""

    name: str
    entropy: float  # of a token that is not sure, in nats
    sure: float = 0.0

    @property
    def mean(self) -> float:
        return (1.0 - self.sure) * self.entropy

    @property
    def p(self) -> Floats:
        return zipf(self.entropy)

    def mixed(self, law: Callable[[Floats], Law]) -> Law:
        """Return the law of something about one token."""
        return law(SURE).mixed(law(self.p), self.sure) if self.sure else law(self.p)


SOURCES = (
    *(Source(f"{entropy:g}", entropy) for entropy in (0.25, 0.5, 1.0, 2.0, 3.0)),
    Source("67 % sure, 33 % at 2", 2.0, 0.67),
    Source("50 % sure, 50 % at 2", 2.0, 0.5),
)

# n50/n95 at 1e-5 by Monte Carlo of another program, a column for each of SCHEMES, a row for each of SOURCES
SIMULATED = """
496/1040 576/1216 888/1680 640/1248 1088/- 800/1520
130/268 152/328 200/380 148/292 300/592 232/436
39/83 46/96 55/105 44/82 113/210 92/166
13/27 15/30 17/30 14/26 42/82 45/81
7/14 8/16 9/15 8/14 31/57 36/65
81/178 93/206 168/348 142/284 360/680 468/832
39/86 44/100 68/136 60/122 144/284 190/356
"""


def surprisal(p: Floats) -> Law:
    return Law.of(-np.log(p), p, 0.002)


def likelihood(p: Floats) -> Law:
    """Return the law of ln Σ u^(1/p − 1), the log density of a winner's u against the uniform one."""
    edges = np.linspace(0.0, CAP, round(CAP / FINE) + 1)
    r, middle = -np.expm1(-edges), -np.expm1(-(edges[1:] + edges[:-1]) / 2.0)
    cumulative, density = np.zeros_like(r), np.zeros_like(middle)
    for chance in p:
        cumulative += chance * r ** (1.0 / chance)
        density += middle ** (1.0 / chance - 1.0)
    return Law.of(np.log(density), np.diff(cumulative), 0.005)


def joint_design(law: Law, level: float, n: int) -> float:
    of_text = law.times(n)
    return float(of_text.mass @ np.minimum(1.0, level * np.exp(np.minimum(of_text.values, 700.0))))


def replay(law: Law, level: float, n: int) -> float:
    return law.times(n).at_least(-math.log(level))


def known_pivot(law: Law, level: float, n: int) -> float:
    """Return the power of the likelihood-ratio test: unmarked texts have the marked ones' law times e^−L."""
    of_text = law.times(n)
    above = np.cumsum((of_text.mass * np.exp(np.minimum(-of_text.values, 700.0)))[::-1])
    return float(np.cumsum(of_text.mass[::-1])[above <= level].max(initial=0.0))


def scheme_power(rules: Rules, law: Law, level: float, n: int) -> float:
    """Return the share of texts of n tokens whose p-value is at most the level."""
    low, high = -1, n * (law.first + len(law.mass) - 1)
    if rules.log10_tail(n, high * law.step) > math.log10(level):
        return 0.0
    while high - low > 1:
        middle = (low + high) // 2
        reached = rules.log10_tail(n, middle * law.step) <= math.log10(level)
        low, high = (low, middle) if reached else (middle, high)
    return law.times(n).at_least(high * law.step)


LIMITS = {
    "joint design": (surprisal, joint_design),
    "replay": (surprisal, replay),
    "pivot, P known": (likelihood, known_pivot),
}


def write(rules: Rules, key: int, contexts: Ids, p: Floats, rng: np.random.Generator) -> Ids:
    """Draw a token [n] after each context [n, h] as a server would."""
    logits = np.tile(np.log(p).astype(np.float32), (len(contexts), 1))
    if isinstance(rules, SynthID):
        logits = knockout.redistribute(rules, key, contexts, logits)
        return np.asarray((logits - np.log(-np.log(rng.random(logits.shape)))).argmax(axis=1))
    streams = [Stream(PRFS[rules.prf], one) for _, one in rules.streams(key)]
    if isinstance(rules, Bernoulli):
        tokens = np.tile(np.arange(len(p)), len(contexts))
        words = streams[0].candidate_words(np.repeat(streams[0].absorb(contexts), len(p), axis=1), tokens)
        logits += np.float32(rules.delta) * rules.green(words).reshape(logits.shape)
        return np.asarray((logits - np.log(-np.log(rng.random(logits.shape)))).argmax(axis=1))
    winners = [choice.winners(stream, contexts, logits) for stream in streams]
    second = rng.random(len(contexts)) < (rules.alpha if isinstance(rules, DualGumbel) else 0.0)
    return np.where(second, winners[-1], winners[0])


def found_really(rules: Rules, source: Source, n: int, level: float, texts: int, rng: np.random.Generator) -> float:
    """Return the share found of texts that the package wrote and read, ten under each key."""
    hits = 0
    for _ in range(texts // 10):
        key, contexts = fresh_key(rng, rules), fresh_contexts(rng, 10 * n, rules.context_width)
        tokens = np.zeros(10 * n, dtype=np.int64)
        free = rng.random(10 * n) >= source.sure
        if free.any():
            tokens[free] = write(rules, key, contexts[free], source.p, rng)
        scores = rules.token_scores(key, contexts, tokens).reshape(10, n).sum(axis=1)
        hits += sum(rules.log10_tail(n, score) <= math.log10(level) for score in scores.tolist())
    return hits / (texts // 10 * 10)


def lengths(power: Callable[[int], float], ragged: bool = False) -> list[int]:
    known = cache(power)
    return [fewest(known, share, ragged) for share in SHARES]


def laws_of_sources(rng: np.random.Generator) -> dict[str, dict[str, Law]]:
    """Return the law of a token's score for each of SOURCES and SCHEMES."""
    free = {entropy: score_laws(zipf(entropy), rng) for entropy in sorted({source.entropy for source in SOURCES})}
    sure = score_laws(SURE, rng)
    laws = {source.name: free[source.entropy] for source in SOURCES}
    for source in SOURCES:
        if source.sure:
            rare = laws[source.name]
            laws[source.name] = {name: sure[name].mixed(law, source.sure) for name, law in rare.items()}
    return laws


def measure(source: Source, laws: dict[str, Law], level: float) -> dict[str, list[int]]:
    """Return n50 and n95 of every limit and scheme."""
    found = {name: lengths(partial(power, source.mixed(law), level)) for name, (law, power) in LIMITS.items()}
    for name, rules in SCHEMES.items():
        found[name] = lengths(partial(scheme_power, rules, laws[name], level), isinstance(rules, Bernoulli))
    return found


def check(source: Source, laws: dict[str, Law], n50: dict[str, int], texts: int, rng: np.random.Generator) -> Floats:
    """Return shares [schemes, 2] of texts found at n50, drawn and computed; end the program where they differ."""
    pairs = []
    for name, rules in SCHEMES.items():
        drawn = found_really(rules, source, n50[name], LEVELS[0], texts, rng)
        computed = scheme_power(rules, laws[name], LEVELS[0], n50[name])
        if abs(drawn - computed) > UNUSUAL * math.sqrt(computed * (1.0 - computed) / texts):
            sys.exit(f"power.py: {name} on {source.name}: {drawn:.3f} of {texts} texts found, {computed:.3f} computed")
        pairs.append((drawn, computed))
    return np.array(pairs)


def show(level: float, rows: dict[str, dict[str, list[int]]]) -> None:
    names = list(next(iter(rows.values())))
    print(f"\np < {level:g}, n50/n95\n")
    print(f"| entropy, nats | ln(1/p)/H | {' | '.join(names)} |\n|{'---|' * (len(names) + 2)}")
    for source in SOURCES:
        cells = " | ".join("/".join(map(str, pair)) for pair in rows[source.name].values())
        print(f"| {source.name} | {-math.log(level) / source.mean:.1f} | {cells} |", flush=True)


def compare(rows: dict[str, dict[str, list[int]]]) -> None:
    """Show n50 beside what was simulated, and by how much it differs."""
    print(f"\nn50 at p < 1e-5: computed, simulated elsewhere\n\n| entropy, nats | {' | '.join(SCHEMES)} |")
    print("|---" * (len(SCHEMES) + 1) + "|")
    for source, line in zip(SOURCES, SIMULATED.split("\n")[1:], strict=False):
        cells = []
        for name, pair in zip(SCHEMES, line.split(), strict=True):
            ours, theirs = rows[source.name][name][0], int(pair.split("/")[0])
            cells.append(f"{ours}, {theirs} ({ours / theirs - 1.0:+.1%})")
        print(f"| {source.name} | {' | '.join(cells)} |")


def draw(level: float, rows: dict[str, dict[str, list[int]]], out: Path) -> None:
    """Draw n50 against entropy."""
    figure, axes = plotting.panel()
    pure, mixed = ([s for s in SOURCES if bool(s.sure) == kind] for kind in (False, True))
    absolute = [-math.log(level) / source.mean for source in pure]
    axes.plot([source.mean for source in pure], absolute, color="0.3", linestyle="--", label="ln(1/p)/H")
    for number, name in enumerate(rows[SOURCES[0].name]):
        style = {"color": f"C{number}", "linestyle": ":" if name in LIMITS else "-"}
        axes.plot([s.mean for s in pure], [rows[s.name][name][0] for s in pure], marker="o", ms=3, label=name, **style)
        axes.plot([s.mean for s in mixed], [rows[s.name][name][0] for s in mixed], "x", color=f"C{number}")
    axes.set(yscale="log", xlabel="nats a token (crosses: with sure tokens between)")
    axes.set(ylabel=f"tokens until half of the texts have p < {level:g}")
    plotting.nats(axes, (0.25, 0.5, 1, 2, 3))
    plotting.save(figure, axes, out, "power")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="a folder for the plot")
    parser.add_argument("--texts", type=int, default=100, help="drawn for each scheme and source")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    start, rng = time.process_time(), np.random.default_rng(args.seed)
    laws = laws_of_sources(rng)
    tables = [{source.name: measure(source, laws[source.name], level) for source in SOURCES} for level in LEVELS]
    for level, rows in zip(LEVELS, tables, strict=True):
        show(level, rows)
    compare(tables[0])
    if args.out:
        draw(LEVELS[0], tables[0], args.out)
    n50 = {source.name: {name: pair[0] for name, pair in tables[0][source.name].items()} for source in SOURCES}
    pairs = np.concatenate([check(s, laws[s.name], n50[s.name], args.texts, rng) for s in SOURCES])
    drawn, computed = pairs.mean(axis=0)
    print(f"\nOf {len(pairs) * args.texts:,} texts at n50, {drawn:.1%} found, {computed:.1%} computed.")
    print(f"{time.process_time() - start:.0f} s of CPU.")


if __name__ == "__main__":
    main()
