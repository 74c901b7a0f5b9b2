"""How many tokens the embedded model must write until its mark is found, against the entropy of what it writes.

    python benchmarks/power_embedded.py [--answers 40] [--out FOLDER]

The whole way: generate() with the plug-in, repeated contexts left unmarked, decoded text, the key's tokenizer, scan.
For some answers of each scheme, language and temperature, n50 and n95 are the tokens of text, unscored ones included,
from which on at least that share of the answers' beginnings has p below a level. `--out` gets power_embedded.svg and
power_embedded.png.
"""

import argparse
import math
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import plotting
from embedded import LANGUAGES, MOST, TOKENIZER, Author
from llm_label_transformers.watermark import PROCESSORS
from score_law import SCHEMES as IDEAL
from score_law import Floats, fewest, race, zipf
from tokenizers import Tokenizer

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import scan

LEVELS = (1e-5, 1e-6)
SHARES = (0.5, 0.95)
LENGTHS = {0.5: 180, 0.7: 100, 1.0: 50, 1.3: 30}  # tokens that are written at a temperature
LONGER = {"bernoulli": 3}  # times as many for a mark that needs them
STEP = 0.03  # between the lengths that are looked at, relative


def longest_of(scheme: str, temperature: float) -> int:
    return LENGTHS[temperature] * LONGER.get(scheme, 1)


def looked_at(longest: int) -> list[int]:
    """Return lengths up to the longest: each one at first, then ever fewer."""
    lengths = [1]
    while lengths[-1] < longest:
        lengths.append(min(longest, lengths[-1] + max(1, int(STEP * lengths[-1]))))
    return lengths


def needed(log10_p: Floats, lengths: list[int], level: float, share: float) -> int | None:
    """Return the least length from which on the share found never falls below; None if it is not reached."""
    enough = (log10_p <= math.log10(level)).mean(axis=0) >= share
    if not enough[-1]:
        return None
    return lengths[len(enough) - int(np.argmin(enough[::-1]))]  # the first length has no token with a context


def measure(
    author: Author, tokenizer: Tokenizer, scheme: str, language: str, temperature: float, count: int
) -> dict[str, Any]:
    spec = Spec(scheme=scheme)
    key = Key.new("benchmark", bytes(range(32)), spec)
    longest = longest_of(scheme, temperature)
    answers = author.write(language, key, longest, temperature, count)
    texts = [tokenizer.encode(answer.text, add_special_tokens=False).ids for answer in answers]
    lengths, scans = looked_at(longest), [scan(ids, key) for ids in texts]
    log10_p = np.array([[scan(ids[:n], key).log10_p for n in lengths] for ids in texts])
    row: dict[str, Any] = {
        "scheme": scheme,
        "language": language,
        "temperature": temperature,
        "entropy": float(np.mean([a.entropy for a in answers])),
        "scored": sum(s.scored for s in scans) / sum(s.scored + s.skipped for s in scans),
    }
    for level in LEVELS:
        row[f"{level:g}"] = [needed(log10_p, lengths, level, share) for share in SHARES]
    return row


def shown(row: dict[str, Any], level: float) -> str:
    longest = longest_of(row["scheme"], row["temperature"])
    return "/".join(str(n) if n else f">{longest}" for n in row[f"{level:g}"])


def show(row: dict[str, Any]) -> None:
    least = -math.log(LEVELS[0]) / row["entropy"]
    print(
        f"| {row['scheme']} | {row['language']} | {row['temperature']} | {row['entropy']:.2f} | {row['scored']:.0%}"
        f" | {least:.1f} | {shown(row, LEVELS[0])} | {shown(row, LEVELS[1])} |",
        flush=True,
    )


def ideal(entropies: Floats) -> list[int]:
    """Return n50 of gumbel for Zipf shapes with a context of its own for every token."""
    limit = math.log10(LEVELS[0])
    means = [race(zipf(entropy)).mean for entropy in entropies]
    return [fewest(lambda n, m=m: float(IDEAL["gumbel"].log10_tail(n, n * m) <= limit), 1.0) for m in means]


def draw(rows: list[dict[str, Any]], out: Path) -> None:
    figure, axes = plotting.panel()
    entropies = np.geomspace(0.3, 5.0, 30)
    axes.plot(entropies, -math.log(LEVELS[0]) / entropies, color="0.3", linestyle="--", label="ln(1e5)/H")
    axes.plot(entropies, ideal(entropies), color="0.6", label="gumbel, Zipf shapes")
    for number, scheme in enumerate(PROCESSORS):
        for language, marker in zip(LANGUAGES, "o^", strict=True):
            mine = [r for r in rows if (r["scheme"], r["language"]) == (scheme, language) and r["1e-05"][0]]
            points = [r["entropy"] for r in mine], [r["1e-05"][0] for r in mine]
            axes.plot(*points, color=f"C{number}", marker=marker, linewidth=0.8, label=f"{scheme}, {language}")
    axes.set(yscale="log", xlabel="mean entropy of the sampled tokens, nats")
    axes.set(ylabel="tokens until half of the answers have p < 1e-5")
    plotting.nats(axes, (0.3, 0.5, 1, 2, 3, 5))
    plotting.save(figure, axes, out, "power_embedded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=MOST, help=f"at most {MOST}")
    parser.add_argument("--out", type=Path, help="a folder for the plot")
    args = parser.parse_args()
    start = time.process_time()
    author, tokenizer = Author(), Tokenizer.from_file(str(TOKENIZER))
    rows = []
    print("| scheme | language | temperature | nats/token | scored | ln(1e5)/H | n50/n95 at 1e-5 | at 1e-6 |")
    print("|---|---|---|---|---|---|---|---|")
    for scheme, language, temperature in product(PROCESSORS, LANGUAGES, LENGTHS):
        rows.append(measure(author, tokenizer, scheme, language, temperature, args.answers))
        show(rows[-1])
    if args.out:
        draw(rows, args.out)
    print(f"\n{time.process_time() - start:.0f} s of CPU.")


if __name__ == "__main__":
    main()
