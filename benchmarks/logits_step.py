"""Time one step of every watermark beside an unmarked step and transformers' own processors, in one run.

    python benchmarks/logits_step.py [--json] [--vocab 151936] [--batches 1,8,32] [--steps 9] [--threads 1]

The unmarked step is what sampling does anyway: softmax, then one draw. The rest are logits processors, which come on
top; they take turns on the same scores. Times are of the processor, not of the clock, so that a busy machine does not
count. "top-k 50" scores have been through transformers' top-k warper before; "none" are flat random normals, the
hardest case, in which nothing can be pruned; "none, peaked" are normals of standard deviation 3, nearer to a language
model's. Our `synthid` has the layer keys of transformers' SynthID, and its probabilities are compared with that one's
before anything is timed.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from llm_label_transformers.watermark import PROCESSORS, watermarking_config
from transformers import SynthIDTextWatermarkingConfig, TopKLogitsWarper, WatermarkingConfig

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.schemes.synthid import join_keys

PROMPT = 16
WARM_UP = 5
MOST_SECONDS = 4.0  # slow cells stop early, after two steps at least
SYNTHID_KEYS = [(37 * n) % 1009 + 1 for n in range(30)]
SYNTHID = Key.imported("synthid", join_keys(SYNTHID_KEYS), Spec(scheme="synthid", variety="none"))
UNMARKED, LEFTHASH, THEIRS = "unmarked step", "KGW lefthash, width 1", "SynthID, 30 keys, n-gram 5"

OURS = {
    name: SYNTHID if name == "synthid" else Key.new("benchmark", bytes(range(32)), Spec(scheme=name))
    for name in PROCESSORS
}
PEERS = {
    LEFTHASH: WatermarkingConfig(seeding_scheme="lefthash", context_width=1),
    "KGW selfhash, width 4": WatermarkingConfig(seeding_scheme="selfhash", context_width=4),
    THEIRS: SynthIDTextWatermarkingConfig(keys=SYNTHID_KEYS, ngram_len=5),
}
SCORES: dict[str, Callable[[int, int], torch.Tensor]] = {
    "top-k 50": lambda batch, vocab: TopKLogitsWarper(50)(None, torch.randn(batch, vocab)),
    "none": lambda batch, vocab: torch.randn(batch, vocab),
    "none, peaked": lambda batch, vocab: 3.0 * torch.randn(batch, vocab),
}


def unmarked(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    return torch.multinomial(torch.softmax(scores, dim=-1), num_samples=1)


def processors(vocab: int) -> dict[str, Any]:
    ours = {f"`{name}`": watermarking_config(key).construct_processor(vocab, "cpu") for name, key in OURS.items()}
    return {UNMARKED: unmarked, **ours, **{n: config.construct_processor(vocab, "cpu") for n, config in PEERS.items()}}


def medians_ms(batch: int, vocab: int, truncation: str, steps: int) -> dict[str, float]:
    """Return each processor's median CPU time of a step in ms; they take turns on the same scores."""
    made = processors(vocab)
    ids = torch.randint(0, vocab, (batch, PROMPT + WARM_UP + steps))
    times: dict[str, list[float]] = {name: [] for name in made}
    for step in range(WARM_UP + steps):
        scores = SCORES[truncation](batch, vocab)
        for name, processor in made.items():
            if 0 < step < WARM_UP and name in PEERS:
                continue  # our first contexts hold padding and are left alone; theirs need no more than one warm-up
            if len(times[name]) >= 2 and sum(times[name]) > MOST_SECONDS * 1e3:
                continue
            start = time.process_time()
            processor(ids[:, : PROMPT + step], scores)
            if step >= WARM_UP:
                times[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def check_synthid(vocab: int) -> None:
    """See that both SynthIDs give the same probabilities: only then is their time worth comparing."""
    ours = watermarking_config(SYNTHID).construct_processor(vocab, "cpu")
    theirs = PEERS[THEIRS].construct_processor(vocab, "cpu")
    ids = torch.randint(0, vocab, (2, PROMPT + 4))
    for step in range(4):
        scores = SCORES["top-k 50"](2, vocab)
        mine, other = (torch.softmax(p(ids[:, : PROMPT + step], scores), dim=-1) for p in (ours, theirs))
        torch.testing.assert_close(mine.as_subclass(torch.Tensor), other, rtol=1e-4, atol=1e-6)


def measure(vocab: int, batches: list[int], steps: int) -> list[dict[str, Any]]:
    rows = []
    for truncation in SCORES:
        for batch in batches:
            torch.manual_seed(batch)
            rows.append({"truncation": truncation, "batch": batch, "ms": medians_ms(batch, vocab, truncation, steps)})
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    names = list(rows[0]["ms"])
    lines = [f"| truncation, batch | {' | '.join(names)} |", "| --- " * (len(names) + 1) + "|"]
    for row in rows:
        cells = " | ".join(f"{row['ms'][name]:.3g}" for name in names)
        lines.append(f"| {row['truncation']}, {row['batch']} | {cells} |")
    return "\n".join([*lines, "", *against_peers(rows)])


def against_peers(rows: list[dict[str, Any]]) -> list[str]:
    """Return a table of what part of a peer's time each scheme takes."""
    mine = [f"`{name}`" for name in OURS]
    lines = [
        f"| of KGW lefthash's time | {' | '.join(mine)} | `synthid` of SynthID's |",
        "| --- " * (len(mine) + 2) + "|",
    ]
    for row in rows:
        ms = row["ms"]
        cells = " | ".join(f"{ms[name] / ms[LEFTHASH]:.2f}" for name in mine)
        lines.append(f"| {row['truncation']}, {row['batch']} | {cells} | 1/{ms[THEIRS] / ms['`synthid`']:.0f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown tables")
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--steps", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    check_synthid(args.vocab)
    rows = measure(args.vocab, [int(batch) for batch in args.batches.split(",")], args.steps)
    print(json.dumps(rows, indent=2) if args.json else markdown(rows))


if __name__ == "__main__":
    main()
