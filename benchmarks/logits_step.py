"""Time one step of the watermark's logits processor beside transformers' own.

    python benchmarks/logits_step.py [--json] [--vocab 151936] [--steps 15] [--threads 1]

Every processor gets the same scores in the same run. "top-k 50" scores have been through transformers' top-k
warper before the clock starts; "none" are flat random normals, the hardest case, in which nothing can be
pruned; "none, peaked" are normals of standard deviation 3, nearer to a language model's.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from llm_label_transformers.watermark import PROCESSORS, watermarking_config
from transformers import SynthIDTextWatermarkingConfig, TopKLogitsWarper, WatermarkingConfig

from llm_label.watermark.keyring import Key, Spec

OURS = "llm-label gumbel"
PROMPT = 16
WARM_UP = 5
MOST_SECONDS = 6.0  # slow cells stop early, after three steps at least
SYNTHID_KEYS = [(37 * n) % 1009 + 1 for n in range(30)]

PEERS = {
    **{
        f"llm-label {name}": watermarking_config(Key.new("benchmark", bytes(range(32)), Spec(scheme=name)))
        for name in PROCESSORS
    },
    "KGW lefthash, width 1": WatermarkingConfig(seeding_scheme="lefthash", context_width=1),
    "KGW selfhash, width 4": WatermarkingConfig(seeding_scheme="selfhash", context_width=4),
    "SynthID, 30 keys, n-gram 5": SynthIDTextWatermarkingConfig(keys=SYNTHID_KEYS, ngram_len=5),
}
SCORES: dict[str, Callable[[int, int], torch.Tensor]] = {
    "top-k 50": lambda batch, vocab: TopKLogitsWarper(50)(None, torch.randn(batch, vocab)),
    "none": lambda batch, vocab: torch.randn(batch, vocab),
    "none, peaked": lambda batch, vocab: 3.0 * torch.randn(batch, vocab),
}


def medians_ms(batch: int, vocab: int, truncation: str, steps: int) -> dict[str, float]:
    """Return each processor's median time of a step in ms; they take turns on the same scores."""
    processors = {name: config.construct_processor(vocab, "cpu") for name, config in PEERS.items()}
    ids = torch.randint(0, vocab, (batch, PROMPT + WARM_UP + steps))
    times: dict[str, list[float]] = {name: [] for name in PEERS}
    for step in range(WARM_UP + steps):
        scores = SCORES[truncation](batch, vocab)
        for name, processor in processors.items():
            if step and step < WARM_UP and not name.startswith("llm-label"):
                continue  # our first contexts hold padding and are left alone
            if len(times[name]) >= 3 and sum(times[name]) > MOST_SECONDS * 1e3:
                continue
            start = time.perf_counter()
            processor(ids[:, : PROMPT + step], scores)
            if step >= WARM_UP:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(vocab: int, steps: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for truncation in SCORES:
        for batch in (1, 8):
            torch.manual_seed(batch)
            cells = medians_ms(batch, vocab, truncation, steps)
            rows.append({"truncation": truncation, "batch": batch, "ms": cells})
    return rows


def markdown(rows: list[dict[str, object]]) -> str:
    lines = [
        "| truncation | batch | " + " | ".join(PEERS) + " |",
        "|---|---|" + "---|" * len(PEERS),
    ]
    for row in rows:
        cells: dict[str, float] = row["ms"]  # type: ignore[assignment]
        ours = cells[OURS]
        shown = [f"{ms:.2f}" if name == OURS else f"{ms:.2f} ({ms / ours:.1f}x)" for name, ms in cells.items()]
        lines.append(f"| {row['truncation']} | {row['batch']} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a Markdown table")
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = measure(args.vocab, args.steps)
    print(json.dumps(rows, indent=2) if args.json else markdown(rows))


if __name__ == "__main__":
    main()
