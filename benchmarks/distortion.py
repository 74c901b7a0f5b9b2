"""Compare what the embedded model writes with and without a watermark: a key of its own for every answer.

    python benchmarks/distortion.py [MODEL] [--keys 1000] [--tokens 80] [--temperature 0.5] [--json]

Over keys, answers of a scheme that does not distort are a sample of the model's own: as long, as varied, as likely. The
table gives the mean length, the shares of distinct 2- and 4-grams, the share of contexts (four tokens) that came
before in the same answer, and the surprisal under the model in nats a token; in brackets, how many standard errors a
mean lies from that without a watermark. "again" is gumbel without its rule that an answer uses each context once.
Everything runs through generate(), top-p 0.95; a low temperature makes contexts come again.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from llm_label_transformers import EMBEDDED
from llm_label_transformers.racing import RaceLogitsProcessor
from llm_label_transformers.watermark import PROCESSORS
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor
from transformers.generation.configuration_utils import BaseWatermarkingConfig

from llm_label.watermark.keyring import Key, Spec

Figures: TypeAlias = npt.NDArray[np.float64]
Make: TypeAlias = Callable[[Key, str], LogitsProcessor]

PROMPTS = ["Tell me a story about a dog.", "讲一个关于小狗的故事。"]
NAMES = ("length", "distinct-2", "distinct-4", "contexts again", "nats a token")
BATCH = 50
# tables so small that a thousand of them cost little; the arithmetic is that of large ones
SMALL = {"synthid": {"sampling_table_size": 2048}}


class Again(RaceLogitsProcessor):
    """Mark a context as often as it comes: the mistake."""

    def _fresh_contexts(self, input_ids: torch.Tensor) -> tuple[list[int], list[tuple[int, ...]]]:
        contexts = self._contexts(input_ids)
        return list(range(len(contexts))), contexts


# scheme and variety -> the scheme of the key and what marks with it
WAYS: dict[tuple[str, str], tuple[str, Make] | None] = {
    ("no watermark", ""): None,
    **{(scheme, "default"): (scheme, make) for scheme, make in PROCESSORS.items()},
    **{(scheme, "none"): (scheme, PROCESSORS[scheme]) for scheme in ("gumbel", "synthid")},
    ("gumbel, again", "default"): ("gumbel", Again),
}


class EachItsKey(LogitsProcessor):
    """Give every row of a batch the processor of its own key."""

    def __init__(self, processors: list[LogitsProcessor]) -> None:
        self.processors = processors

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        rows = (one(input_ids[[row]], scores[[row]]) for row, one in enumerate(self.processors))
        return torch.cat([row.as_subclass(torch.Tensor) for row in rows])


class Config(BaseWatermarkingConfig):
    """Bring that processor to the place where a watermark's belongs: after all truncation."""

    def __init__(self, processors: list[LogitsProcessor]) -> None:
        self.processors = processors

    def validate(self) -> None:
        pass

    def construct_processor(self, vocab_size: int, device: Any = None) -> LogitsProcessor:
        return EachItsKey(self.processors)


def written(model: Any, prompt: torch.Tensor, config: Config | None, count: int, args: Any) -> torch.Tensor:
    """Return the ids [count, prompt + new] of answers, ended ones filled up."""
    return model.generate(
        prompt.expand(count, -1),
        attention_mask=torch.ones(count, prompt.shape[1], dtype=torch.long),
        do_sample=True,
        temperature=args.temperature,
        top_p=0.95,
        top_k=0,
        max_new_tokens=args.tokens,
        watermarking_config=config,
    )


def figures(model: Any, ids: torch.Tensor, start: int) -> Figures:
    """Return NAMES [n, 5] of the answers that follow a prompt of `start` tokens in ids [n, length]."""
    with torch.no_grad():
        told = torch.log_softmax(model(ids).logits[:, start - 1 : -1], dim=-1)
    surprisal = -told.gather(2, ids[:, start:, None])[..., 0].double().numpy()
    end, found = model.generation_config.eos_token_id, []
    for row, nats in zip(ids[:, start:].tolist(), surprisal, strict=True):
        text = row[: row.index(end)] if end in row else row
        grams = {n: [tuple(text[i : i + n]) for i in range(len(text) - n + 1)] for n in (2, 4)}
        two, four = (len(set(some)) / max(1, len(some)) for some in grams.values())
        contexts = grams[4][:-1]
        again = 1.0 - len(set(contexts)) / max(1, len(contexts))
        found.append((len(text), two, four, again, nats[: len(text) + 1].mean()))
    return np.array(found)


def sample(model: Any, prompt: torch.Tensor, way: tuple[str, str], args: Any) -> Figures:
    """Return the figures [keys, 5] of one answer a key."""
    torch.manual_seed(sum(map(ord, "".join(way))))
    made, found = WAYS[way], []
    for first in range(0, args.keys, BATCH):
        count, config = min(BATCH, args.keys - first), None
        if made is not None:
            scheme, make = made
            numbers = range(first, first + count)
            spec: Any = Spec(scheme=scheme, parameters=SMALL.get(scheme, ()))  # type: ignore[arg-type]
            of_rows = [Key.new("k", (n + 1).to_bytes(32, "big"), spec) for n in numbers]
            config = Config([make(key, way[1]) for key in of_rows])
        found.append(figures(model, written(model, prompt, config, count, args), prompt.shape[1]))
    return np.concatenate(found)


def measured(model: Any, tokenizer: Any, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for text in args.prompt or PROMPTS:
        chat = [{"role": "user", "content": text}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
        plain: Figures | None = None
        for way in WAYS:
            start = time.perf_counter()
            found = sample(model, prompt["input_ids"], way, args)
            plain = found if plain is None else plain
            error = np.sqrt(found.var(axis=0) / len(found) + plain.var(axis=0) / len(plain))
            apart = (found.mean(axis=0) - plain.mean(axis=0)) / np.maximum(error, 1e-12)
            print(f"{text} {' '.join(way)}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
            values = {
                name: {"mean": mean, "standard errors apart": z}
                for name, mean, z in zip(NAMES, found.mean(axis=0).tolist(), apart.tolist(), strict=True)
            }
            yield {"prompt": text, "scheme": way[0], "variety": way[1], "keys": args.keys, **values}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(EMBEDDED))
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--tokens", type=int, default=80)
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--prompt", action="append", help="may be given several times")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    rows = list(measured(model, AutoTokenizer.from_pretrained(args.model), args))
    if args.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    print(f"| prompt | scheme | variety | {' | '.join(NAMES)} |\n|{'---|' * (3 + len(NAMES))}")
    for row in rows:
        cells = [f"{row[name]['mean']:.3g} ({row[name]['standard errors apart']:+.1f})" for name in NAMES]
        print(f"| {row['prompt']} | {row['scheme']} | {row['variety']} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
