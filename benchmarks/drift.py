"""Measure what retokenisation does to a mark: marked ids -> text -> ids, by tokenizer and kind of text.

    python benchmarks/drift.py --data FOLDER [--tokenizers qwen3 deepseek-v3 …] [--texts 60] [--length 400] [--json]

FOLDER holds tokenizers/NAME/tokenizer.json and data/text/*.jsonl.gz, as LLM_LABEL_TEST_DATA does for the tests. The
model is a stand-in: it draws the next token from those that follow the last one (two within a character) in human
text, marked by the gumbel race. So it joins pieces of words that belong to no word, which a language model seldom
does; but that strays from the tokenizer's own spelling in ways that this one cannot. Texts that are not valid UTF-8 at
an end lose the tokens there; others with invalid bytes inside are left out and counted. The loss is the share of
log10 p that retokenisation takes, all texts together.
"""

import argparse
import gzip
import json
import os
import random
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

import numpy as np

from llm_label.verify.encoder import Encoder
from llm_label.watermark.keyring import Key, Spec, tokenizer_digest
from llm_label.watermark.scan import scan
from llm_label.watermark.schemes.gumbel import Gumbel

Followers = dict[tuple[int, ...], tuple[np.ndarray, np.ndarray]]

EMBEDDED = Path(__file__).parents[1] / "adapters/transformers/llm_label_transformers/model/tokenizer.json"
CORPUS = 1_500_000  # characters from which a model is counted
KINDS: dict[str, tuple[str, Callable[[dict[str, Any]], bool]]] = {
    "zh, simplified": ("human_zh", lambda row: row["genre"] in ("wikipedia", "technical")),
    "zh, traditional": ("human_zh", lambda row: "traditional" in row["genre"]),
    "en": ("human_en", lambda row: True),
    "code": ("code", lambda row: row["kind"] == "human"),
}


@dataclass(frozen=True)
class Drift:
    """What one tokenizer does to one kind of text."""

    tokens_changed: float  # share of the marked tokens that do not come back
    texts_changed: float  # share of texts with at least one
    log10_p: float  # median, of the ids that were drawn
    loss: float  # share of it that is lost, over all texts
    left_out: int  # texts with invalid bytes inside


def corpus(data: Path, kind: str) -> str:
    name, wanted = KINDS[kind]
    with gzip.open(data / f"data/text/{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if wanted(row)]
    return "\n\n".join(row["text"] for row in rows)[:CORPUS]


def followers(ids: list[int], partial: frozenset[int]) -> Followers:
    """Count what follows each token, or each two that end within a character: candidates and their shares."""
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    for one, two, three in zip(ids, ids[1:], ids[2:], strict=False):
        counts[(one, two) if two in partial else (two,)][three] += 1
    found: Followers = {}
    for context, after in counts.items():
        candidates = np.array(sorted(after), dtype=np.int64)
        shares = np.array([after[candidate] for candidate in candidates.tolist()], dtype=np.float64)
        found[context] = candidates, shares / shares.sum()
    return found


def marked(key: Key, model: Followers, length: int, rng: random.Random, starts: list[int]) -> list[int]:
    """Draw ids [length] by the race, each distinct context once, as a server would."""
    rules, stream = Gumbel(), key.streams()[0]
    width, ids = rules.context_width, [rng.choice(starts)]
    seen: set[tuple[int, ...]] = set()
    while len(ids) < length:
        candidates, shares = model.get((ids[-1],)) or model.get(tuple(ids[-2:])) or model[(rng.choice(starts),)]
        context = tuple(ids[-width:])
        if len(context) < width or context in seen:
            ids.append(rng.choices(candidates.tolist(), weights=shares.tolist())[0])
            continue
        seen.add(context)
        word = stream.words(np.array([context], dtype=np.int64), candidates)
        ids.append(int(candidates[np.argmin(rules.races(word) / shares)]))
    return ids


def whole_characters(ids: list[int], encoder: Encoder, key: Key) -> tuple[list[int], str]:
    """Drop tokens at either end until the text begins and ends with a whole character."""
    text = encoder.text(np.array(ids), key)
    while ids and text.endswith("\ufffd"):
        ids = ids[:-1]
        text = encoder.text(np.array(ids), key)
    while ids and text.startswith("\ufffd"):
        ids = ids[1:]
        text = encoder.text(np.array(ids), key)
    return ids, text


def drifts(key: Key, text: str, args: argparse.Namespace) -> Iterator[tuple[int, int, float, float] | None]:
    """Yield tokens, changed tokens, and log10 p before and after, for each text; None for one that is no text."""
    encoder, rng = Encoder(), random.Random(0)
    ids = encoder.encode(text, key).ids.tolist()
    partial = frozenset(token for token in set(ids) if "\ufffd" in encoder.text(np.array([token]), key))
    model = followers(ids, partial)
    starts = sorted(context[0] for context in model if len(context) == 1)
    for _ in range(args.texts):
        drawn, spelled = whole_characters(marked(key, model, args.length, rng, starts), encoder, key)
        if "\ufffd" in spelled:
            yield None
            continue
        again = encoder.encode(spelled, key).ids
        same = sum(block.size for block in SequenceMatcher(None, drawn, again.tolist(), False).get_matching_blocks())
        yield len(drawn), len(drawn) - same, scan(drawn, key).log10_p, scan(again, key).log10_p


def measured(path: Path, text: str, args: argparse.Namespace) -> Drift:
    spec = Spec(tokenizer=tokenizer_digest(path.read_bytes()), tokenizer_path=str(path))
    rows = list(drifts(Key.new("drift", bytes(range(32)), spec), text, args))
    kept = [row for row in rows if row]
    if not kept:
        raise SystemExit(f"every text of {path} has invalid bytes inside; take a tokenizer that knows the language")
    return Drift(
        sum(row[1] for row in kept) / sum(row[0] for row in kept),
        sum(row[1] > 0 for row in kept) / len(kept),
        statistics.median(row[2] for row in kept),
        1 - sum(row[3] for row in kept) / sum(row[2] for row in kept),
        len(rows) - len(kept),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("LLM_LABEL_TEST_DATA"), metavar="FOLDER")
    parser.add_argument("--tokenizers", nargs="+", default=["qwen3", "deepseek-v3", "llama2-spm", "embedded"])
    parser.add_argument("--texts", type=int, default=60)
    parser.add_argument("--length", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.data is None:
        parser.error("--data is not given and LLM_LABEL_TEST_DATA is not set")
    texts = {kind: corpus(args.data, kind) for kind in KINDS}
    places = {n: EMBEDDED if n == "embedded" else args.data / f"tokenizers/{n}/tokenizer.json" for n in args.tokenizers}
    found = {name: {kind: measured(path, text, args) for kind, text in texts.items()} for name, path in places.items()}
    if args.json:
        print(json.dumps({n: {k: asdict(d) for k, d in of_kind.items()} for n, of_kind in found.items()}, indent=2))
        return
    print(f"| tokenizer | text | tokens changed | texts of {args.length} changed | log10 p | lost of it | left out |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, of_kind in found.items():
        for kind, d in of_kind.items():
            print(
                f"| {name} | {kind} | {d.tokens_changed:.2%} | {d.texts_changed:.0%} | {d.log10_p:.1f} "
                f"| {d.loss:.1%} | {d.left_out} |"
            )


if __name__ == "__main__":
    main()
