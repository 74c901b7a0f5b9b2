"""Measure detection in tokens per second beside transformers' WatermarkDetector.

    python benchmarks/detection.py [--vocab 151936] [--length 500] [--texts 200] [--tokenizer FILE] [--json]

"ids in hand" scores random token ids; "with tokenising" starts from text, for which a tokenizer.json is given.
transformers' detector gets a few texts only: at this speed they are enough. Two more tables: a ring of 100 keys beside
one key, and what it takes to read a payload, over all candidates, from one text of 200 tokens.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import WatermarkDetector, WatermarkingConfig

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.payload import identify
from llm_label.watermark.scan import scan, traces
from llm_label.watermark.schemes import SCHEMES

WORDED = ("gumbel", "dual_gumbel", "bernoulli")
ROOT = bytes(range(32))
KEYS = {name: Key.new("benchmark", ROOT, Spec(scheme=name)) for name in SCHEMES}
SECURE = {f"{name}, siphash": Key.new("benchmark", ROOT, Spec(scheme=name, prf="siphash-2-4-v1")) for name in WORDED}
PAYLOAD_BITS = (8, 12, 16)
RING = 100
PEER_TEXTS = 2
SENTENCE = "The harbour lay quiet under a thin grey sky, and nobody spoke. 港口在薄薄的灰色天空下很安静。"


def rate(run: Callable[[], int], repeats: int = 3) -> float:
    """Return the median of tokens per second over some repeats; run returns how many tokens it scored."""
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        tokens = run()
        rates.append(tokens / (time.perf_counter() - start))
    return statistics.median(rates)


def ours(texts: list[np.ndarray], key: Key) -> int:
    for ids in texts:
        scan(ids, key)
    return sum(len(ids) for ids in texts)


def from_text(texts: list[str], tokenizer: Tokenizer) -> int:
    tokens = 0
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        scan(ids, KEYS["gumbel"])
        tokens += len(ids)
    return tokens


def seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the median of the seconds that a run takes."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def ring_costs(text: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the milliseconds of one key, and how many times that a ring of RING keys of one kind takes."""
    costs = {}
    for name in SCHEMES:
        keys = [Key.new(str(n), bytes([n] * 32), Spec(scheme=name)) for n in range(RING)]
        one = seconds(lambda keys=keys: [scan(text, key) for key in keys]) / RING
        ring = seconds(lambda keys=keys: [found.whole() for found in traces(text, keys)])
        costs[name] = {"one key, ms": 1e3 * one, f"{RING} keys, times": ring / one}
    return costs


def payload_costs(text: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the milliseconds that it takes to find the best of all payloads and to verify it."""
    costs = {}
    for name, key in (KEYS | SECURE).items():
        if name.partition(",")[0] in WORDED:
            specs = {bits: dataclasses.replace(key.spec, payload_bits=bits) for bits in PAYLOAD_BITS}
            laden = {bits: dataclasses.replace(key, spec=spec) for bits, spec in specs.items()}
            costs[name] = {
                f"{bits} bits, ms": 1e3 * seconds(partial(identify, text, one), 3) for bits, one in laden.items()
            }
    return costs


def peer(texts: list[np.ndarray], vocab: int, scheme: str, width: int) -> int:
    model = SimpleNamespace(vocab_size=vocab, bos_token_id=vocab, is_encoder_decoder=False)  # no such bos
    config = WatermarkingConfig(seeding_scheme=scheme, context_width=width)
    detector = WatermarkDetector(model, device="cpu", watermarking_config=config)
    for ids in texts:
        detector(torch.from_numpy(ids)[None], return_dict=True)
    return sum(len(ids) for ids in texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=151_936)
    parser.add_argument("--length", type=int, default=500)
    parser.add_argument("--texts", type=int, default=200)
    parser.add_argument("--tokenizer", help="a tokenizer.json, for the figure from text")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, args.vocab, args.length) for _ in range(args.texts)]
    few = texts[:PEER_TEXTS]
    long = [rng.integers(0, args.vocab, 200_000)]
    rates = {}
    for name, key in (KEYS | SECURE).items():
        rates[f"llm-label {name}, {args.length} tokens a text"] = rate(partial(ours, texts, key))
        rates[f"llm-label {name}, one text of 200,000 tokens"] = rate(partial(ours, long, key))
    rates |= {
        "transformers WatermarkDetector, KGW lefthash": rate(lambda: peer(few, args.vocab, "lefthash", 1), 1),
        "transformers WatermarkDetector, KGW selfhash": rate(lambda: peer(few, args.vocab, "selfhash", 4), 1),
    }
    if args.tokenizer:
        tokenizer = Tokenizer.from_file(args.tokenizer)
        varied = [SENTENCE * (args.length // 30) + str(n) for n in range(args.texts)]
        rates["llm-label gumbel, with tokenising"] = rate(lambda: from_text(varied, tokenizer))
    more = {"ring": ring_costs(texts[0]), "payload": payload_costs(texts[0][:200])}
    if args.json:
        print(json.dumps({"rates": rates, **more}, indent=2))
        return
    base = rates["transformers WatermarkDetector, KGW lefthash"]
    print("| detector | tokens/s | against KGW lefthash |\n|---|---|---|")
    for name, value in rates.items():
        print(f"| {name} | {value:,.0f} | {value / base:,.1f}x |")
    for title, table in more.items():
        columns = list(next(iter(table.values())))
        print(f"\n| {title} | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
        for name, row in table.items():
            print(f"| {name} | {' | '.join(f'{row[column]:,.3g}' for column in columns)} |")


if __name__ == "__main__":
    main()
