"""Count identical answers among 16 samples of one prompt, with variety "default", "none" and no watermark.

    python benchmarks/variety.py [MODEL] [--prompt TEXT ...] [--samples 16] [--tokens 60] [--json]

"identical" is the share of answers that equal an earlier one; "pairs" the share of equal pairs.
"""

import argparse
import json
from collections import Counter
from typing import Any

import torch
from llm_label_transformers import EMBEDDED, watermarking_config
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_label.watermark.keyring import Key, Spec

KEY = Key.new("benchmark", bytes(range(32)), Spec())
CONFIGS: dict[str, Any] = {
    "no watermark": None,
    "default": watermarking_config(KEY),
    "none": watermarking_config(KEY, "none"),
}
PROMPTS = ["Tell me a story about a dog.", "讲一个关于小狗的故事。"]


def answers(model: Any, tokenizer: Any, prompt: str, config: Any, samples: int, tokens: int) -> list[tuple[int, ...]]:
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    else:
        inputs = tokenizer(prompt, return_tensors="pt")
    torch.manual_seed(0)
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


def shares(rows: list[tuple[int, ...]]) -> dict[str, float]:
    counts = Counter(rows).values()
    n = len(rows)
    return {
        "identical": (n - len(counts)) / n,
        "pairs": sum(c * (c - 1) for c in counts) / (n * (n - 1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(EMBEDDED))
    parser.add_argument("--prompt", action="append", help="may be given several times")
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    found = [
        {"prompt": prompt, "variety": name}
        | shares(answers(model, tokenizer, prompt, config, args.samples, args.tokens))
        for prompt in args.prompt or PROMPTS
        for name, config in CONFIGS.items()
    ]
    if args.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return
    print("| prompt | variety | identical answers | equal pairs |\n|---|---|---|---|")
    for row in found:
        print(f"| {row['prompt']} | {row['variety']} | {row['identical']:.0%} | {row['pairs']:.0%} |")


if __name__ == "__main__":
    main()
