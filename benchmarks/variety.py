"""Count identical answers among 16 samples of one prompt, for every scheme and variety, and without a watermark.

    python benchmarks/variety.py [MODEL] [--prompt TEXT ...] [--samples 16] [--tokens 60] [--keys 1] [--json]

"identical" is the share of answers that equal an earlier one; "pairs" the share of equal pairs; "start" that of pairs
equal in their first four tokens, which variety "default" leaves to the sampler. All are means over the keys.
"""

import argparse
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from llm_label_transformers import EMBEDDED, watermarking_config
from llm_label_transformers.watermark import PROCESSORS
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_label.watermark.keyring import VARIETIES, Key, Spec

PROMPTS = ["Tell me a story about a dog.", "讲一个关于小狗的故事。"]


def configs(number: int) -> Iterator[tuple[str, str, Any]]:
    """Yield scheme, variety and configuration for the key of that number."""
    yield "no watermark", "", None
    for scheme in PROCESSORS:
        key = Key.new("benchmark", number.to_bytes(32, "big"), Spec(scheme=scheme))
        for variety in VARIETIES:
            yield scheme, variety, watermarking_config(key, variety)


def answers(model: Any, tokenizer: Any, prompt: str, config: Any, samples: int, tokens: int) -> list[tuple[int, ...]]:
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    else:
        inputs = tokenizer(prompt, return_tensors="pt")
    ids = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        do_sample=True,
        top_p=0.95,
        top_k=0,
        max_new_tokens=tokens,
        num_return_sequences=samples,
        watermarking_config=config,
    )
    return [tuple(row) for row in ids[:, inputs["input_ids"].shape[1] :].tolist()]


def equal_pairs(rows: list[tuple[int, ...]]) -> float:
    n = len(rows)
    return sum(c * (c - 1) for c in Counter(rows).values()) / (n * (n - 1))


def shares(rows: list[tuple[int, ...]]) -> tuple[float, float, float]:
    """Return the shares that the table shows."""
    return 1.0 - len(set(rows)) / len(rows), equal_pairs(rows), equal_pairs([row[:4] for row in rows])


def measured(model: Any, tokenizer: Any, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for prompt in args.prompt or PROMPTS:
        found: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for number in range(args.keys):
            torch.manual_seed(number)
            for scheme, variety, config in configs(number):
                rows = answers(model, tokenizer, prompt, config, args.samples, args.tokens)
                found.setdefault((scheme, variety), []).append(shares(rows))
        for (scheme, variety), of_keys in found.items():
            identical, pairs, start = np.mean(of_keys, axis=0).tolist()
            yield {
                "prompt": prompt,
                "scheme": scheme,
                "variety": variety,
                "identical": identical,
                "pairs": pairs,
                "start": start,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(EMBEDDED))
    parser.add_argument("--prompt", action="append", help="may be given several times")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--keys", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    found = list(measured(model, AutoTokenizer.from_pretrained(args.model), args))
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print("| prompt | scheme | variety | identical answers | equal pairs | equal starts |\n|---|---|---|---|---|---|")
    for row in found:
        named = f"| {row['prompt']} | {row['scheme']} | {row['variety']}"
        print(f"{named} | {row['identical']:.1%} | {row['pairs']:.1%} | {row['start']:.1%} |")


if __name__ == "__main__":
    main()
