"""What is left of a watermark after a text was edited, by the detector, from text.

    LLM_LABEL_TEST_DATA=FOLDER python benchmarks/robustness.py [--answers 40] [--tokens 200] [--out FOLDER]

Answers of the embedded model at top-p 0.95 for each scheme and language. The unit of an edit is the text of
one token (tokens that share a character count as one): with chance ε each is replaced by, is taken out, or gets before
it a piece drawn from all answers of the run. A token's score survives when it and the h tokens before it do: expected
(1 − ε)^(h+1) of it, for insertions (1 − ε)^h; cutting the edited text into tokens again can cost more. A cell is: share
found at a family-wise 1e-6 / median log10 p / share of the score above chance that is left in the text as it stands
(the detector also undoes CRLF and NFD, at the price of a try each). Copy-paste puts an answer into the middle of text
by people (from the test data, else left out) so that it is a given share of the characters.

Not covered, and known to remove the mark: translation, and rewriting that leaves few runs of five tokens as they were.
"""

import argparse
import gzip
import json
import os
import re
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, cycle
from pathlib import Path
from statistics import fmean, median
from typing import TypeAlias

import numpy as np
import plotting
from embedded import LANGUAGES, MOST, TOKENIZER, Author
from llm_label_transformers.watermark import PROCESSORS
from tokenizers import Tokenizer

from llm_label import Detector, Key, Keyring
from llm_label.keyfile import tokenizer_spec
from llm_label.verify.findings import WatermarkTest
from llm_label.watermark.power import ordinary_score
from llm_label.watermark.scan import scan

RATES = (0.05, 0.1, 0.2, 0.3, 0.5)
PARTS = (0.5, 0.25, 0.1)  # of a document's characters that are marked
ALPHA = 1e-6
WIDTH = 4  # tokens of context, of every scheme
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {0x20: 0x3000}
TOKENS = Tokenizer.from_file(str(TOKENIZER))
Edit: TypeAlias = Callable[[str], str]


def units(text: str) -> list[str]:
    """Cut a text into the pieces that its tokens stand for."""
    encoding = TOKENS.encode(text, add_special_tokens=False)
    starts = sorted({start for start, _ in encoding.offsets} | {0, len(text)})
    return [text[a:b] for a, b in zip(starts, starts[1:], strict=False)]


def substitute(text: str, rate: float, pool: Sequence[str], rng: np.random.Generator) -> str:
    return "".join(str(rng.choice(pool)) if rng.random() < rate else unit for unit in units(text))


def delete(text: str, rate: float, pool: Sequence[str], rng: np.random.Generator) -> str:
    return "".join(unit for unit in units(text) if rng.random() >= rate)


def insert(text: str, rate: float, pool: Sequence[str], rng: np.random.Generator) -> str:
    return "".join(str(rng.choice(pool)) + unit if rng.random() < rate else unit for unit in units(text))


# edit -> how many tokens in a row must be left alone for a score to survive
RANDOM = {"substituted": (substitute, WIDTH + 1), "deleted": (delete, WIDTH + 1), "inserted": (insert, WIDTH)}

CLEANED: dict[str, Edit] = {
    "lower case": str.lower,
    "white space collapsed": lambda text: re.sub(r"\s+", " ", text).strip(),
    "every line trimmed, blank lines out": lambda text: "\n".join(
        line.strip() for line in text.splitlines() if line.strip()
    ),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "NFC": lambda text: unicodedata.normalize("NFC", text),
    "NFD": lambda text: unicodedata.normalize("NFD", text),
    "NFKC": lambda text: unicodedata.normalize("NFKC", text),
    "ASCII to full width": lambda text: text.translate(FULL_WIDTH),
}


@dataclass(frozen=True)
class Outcome:
    """What the detector found in all answers after one edit."""

    found: float
    log10_p: float  # median, family-wise
    left: float | None  # of the score above chance

    def __str__(self) -> str:
        left = "–" if self.left is None else f"{self.left:.0%}"
        return f"{self.found:.0%} / {self.log10_p:.1f} / {left}"


def excess(texts: Sequence[str], key: Key) -> float:
    """Return by how much the scores of all texts exceed what unmarked text gives."""
    each = ordinary_score(key.spec.rules)
    scans = [scan(TOKENS.encode(text, add_special_tokens=False).ids, key) for text in texts]
    return sum(found.score - each * found.scored for found in scans)


def judged(texts: Sequence[str], key: Key, whole: float | None) -> Outcome:
    detector = Detector(Keyring((key,)), (), ALPHA)
    tests = [next(f for f in detector.detect(t).evidence if isinstance(f, WatermarkTest)) for t in texts]
    left = None if whole is None else excess(texts, key) / whole
    marked = sum(test.decision == "marked" for test in tests) / len(tests)
    return Outcome(marked, median(test.log10_p for test in tests), left)


def people(language: str) -> list[str] | None:
    """Return documents by people; None where there is no test data."""
    path = Path(os.environ.get("LLM_LABEL_TEST_DATA", "")) / "data" / "text" / f"human_{language}.jsonl.gz"
    if not path.is_file():
        return None
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def pasted(texts: Sequence[str], documents: list[str], part: float) -> list[str]:
    """Put each text into the middle of so many documents that it is a part of the characters."""
    supply, out = cycle(documents), []
    for text in texts:
        size, around = round(len(text) * (1.0 / part - 1.0)), ""
        while len(around) < size:
            around += next(supply) + "\n\n"
        out.append(around[: size // 2] + "\n\n" + text + "\n\n" + around[size // 2 : size])
    return out


def outcomes(texts: Sequence[str], key: Key, documents: list[str] | None, seed: int) -> dict[str, Outcome]:
    """Return what is left after every edit."""
    rng, pool = np.random.default_rng(seed), list(chain.from_iterable(map(units, texts)))
    whole = excess(texts, key)
    found = {"as written": judged(texts, key, whole)}
    for name, (edit, _) in RANDOM.items():
        for rate in RATES:
            found[f"{rate:.0%} {name}"] = judged([edit(text, rate, pool, rng) for text in texts], key, whole)
    for part in PARTS if documents else ():
        found[f"pasted: {part:.0%} of a text by people"] = judged(pasted(texts, documents or [], part), key, None)
    for name, clean in CLEANED.items():
        found[name] = judged([clean(text) for text in texts], key, whole)
    return found


def expected(name: str) -> str:
    for edit, (_, run) in RANDOM.items():
        for rate in RATES:
            if name == f"{rate:.0%} {edit}":
                return f"{(1.0 - rate) ** run:.0%}"
    return ""


def show(by_scheme: dict[str, dict[str, Outcome]]) -> None:
    print(f"| edit | expected left | {' | '.join(by_scheme)} |\n|{'---|' * (len(by_scheme) + 2)}")
    for name in next(iter(by_scheme.values())):
        cells = " | ".join(str(found[name]) for found in by_scheme.values())
        print(f"| {name} | {expected(name)} | {cells} |", flush=True)


def draw(found: dict[str, dict[str, dict[str, Outcome]]], out: Path) -> None:
    """Draw the score left after substitutions beside what is expected."""
    figure, axes = plotting.panel()
    rates = np.linspace(0.0, RATES[-1], 50)
    axes.plot(rates, (1.0 - rates) ** (WIDTH + 1), color="0.3", linestyle="--", label="(1 − ε)^5")
    for language, style in zip(LANGUAGES, ("-", ":"), strict=True):
        for number, (scheme, by_edit) in enumerate(found[language].items()):
            left = [by_edit[f"{rate:.0%} substituted"].left for rate in RATES]
            axes.plot(RATES, left, style, color=f"C{number}", marker="o", ms=3, label=f"{scheme}, {language}")
    axes.set(xlabel="share ε of tokens substituted", ylabel="score above chance that is left", ylim=(0.0, 1.0))
    plotting.save(figure, axes, out, "robustness")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=MOST, help=f"per scheme and language, at most {MOST}")
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a folder for the plot")
    args = parser.parse_args()
    start, author = time.process_time(), Author()
    found: dict[str, dict[str, dict[str, Outcome]]] = {}
    for language in LANGUAGES:
        documents = people(language)
        found[language], nats = {}, []
        for scheme in PROCESSORS:
            spec = tokenizer_spec(TOKENIZER, scheme=scheme)
            key = Key.new("benchmark", bytes(range(32)), spec)
            answers = author.write(language, key, args.tokens, args.temperature, args.answers, args.seed)
            nats.append(fmean(answer.entropy for answer in answers))
            found[language][scheme] = outcomes([a.text for a in answers], key, documents, args.seed)
        print(f"\n{language}, {fmean(nats):.2f} nats a token: found at 1e-6 / median log10 p / score left\n")
        show(found[language])
        if documents is None:
            print("\nNothing was pasted into text by people: LLM_LABEL_TEST_DATA has no data/text.")
    if args.out:
        draw(found, args.out)
    print(f"\n{time.process_time() - start:.0f} s of CPU.")


if __name__ == "__main__":
    main()
