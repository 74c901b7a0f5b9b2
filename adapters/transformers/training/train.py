"""Train the embedded model from Debian's documentation, on one core, in a fixed time.

    python train.py --cache CACHE --work WORK --out ../llm_label_transformers/model

The learning rate follows the wall clock: warm-up, then a cosine that reaches its floor when the
minutes are over. A checkpoint in WORK is written every few minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import corpus
import torch
import vocabulary
from dialogues import QUESTIONS, Marks, dialogues, shuffled
from muon import Muon
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

CONTEXT = vocabulary.CONTEXT
CHINESE_SHARE = 0.42  # of the tokens; its text is shorter and is seen more often
MATRIX_RATE, OTHER_RATE = 0.02, 6e-3  # peak learning rates: Muon's and AdamW's
FLOOR, WARM = 0.02, 0.01  # lowest share of the peak; share of the time to warm up
MINUTES = 81.0
COMMON = (0.19, 0.65)  # between these shares of the time only sentences of common words
DROPOUT = 0.1  # after that, when the text has been read several times
SHARPEN = 1.05  # temperature 1 of the finished model is 1 / 1.05 of the trained one
SHORT = 0.75  # share of the time with rows cut in half: attention costs half
AUTOCAST = True  # bfloat16 products: faster on recent processors, same losses
IGNORED = -100


def new_model(size: int) -> LlamaForCausalLM:
    """Return an untrained model of about three million parameters."""
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=192,
        intermediate_size=544,
        num_hidden_layers=4,
        num_attention_heads=3,
        num_key_value_heads=3,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        attention_dropout=0.0,
        initializer_range=0.02,
    )
    model = LlamaForCausalLM(config)
    for layer in model.model.layers:
        layer.self_attn.o_proj.register_forward_hook(Dropped())
        layer.mlp.register_forward_hook(Dropped())
    return model


class Dropped:
    """Drop some of a block's output while training."""

    rate = 0.0

    def __call__(self, module: torch.nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        """Return the output, thinned when the module trains."""
        return torch.nn.functional.dropout(output, self.rate, module.training) if self.rate else output


def marks_of(tokenizer: Tokenizer) -> Marks:
    """Look up the special tokens."""
    ids = {name: tokenizer.token_to_id(name) for name in vocabulary.SPECIAL}
    return Marks(ids["<|begin|>"], ids["<|end|>"], ids["<|user|>"], ids["<|assistant|>"])


class Feed:
    """Endless packed rows of CONTEXT + 1 tokens for one language."""

    def __init__(self, pages: list, language: str, tokenizer: Tokenizer, seed: int) -> None:
        self.pages, self.language, self.marks = pages, language, marks_of(tokenizer)
        self.draw = random.Random(seed)
        self.known: dict[str, list[int]] = {}
        self.tokenizer = tokenizer
        self.epochs = 0
        self.rows = self._rows()

    def encode(self, text: str) -> list[int]:
        """Encode a paragraph once."""
        if text not in self.known:
            self.known[text] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return self.known[text]

    def _rows(self) -> Iterator[list[int]]:
        row: list[int] = []
        while True:
            order = shuffled(self.pages, self.draw)
            for dialogue in dialogues(order, self.language, self.encode, self.marks, self.draw):
                row += dialogue
                while len(row) > CONTEXT:
                    yield row[: CONTEXT + 1]
                    row = row[CONTEXT:] if len(row) > CONTEXT + 64 else []
            self.epochs += 1


def batch(feeds: dict[str, Feed], draw: random.Random, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and targets, int64[rows, CONTEXT]; a new dialogue's first token is no target."""
    chosen = ["zh" if draw.random() < CHINESE_SHARE else "en" for _ in range(rows)]
    block = torch.tensor([next(feeds[language].rows) for language in chosen])
    targets = block[:, 1:].clone()
    targets[targets == feeds["en"].marks.begin] = IGNORED
    targets[targets >= vocabulary.SIZE - 256] = IGNORED  # byte tokens: read, never written
    return block[:, :-1], targets


def loss_of(model: LlamaForCausalLM, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean cross entropy in nats."""
    with torch.autocast("cpu", torch.bfloat16, enabled=AUTOCAST):
        logits = model(input_ids=inputs, use_cache=False).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED)


def held_out_rows(pages: list, language: str, tokenizer: Tokenizer) -> list[list[int]]:
    """Return the held-out dialogues, cut the same way every time."""
    feed = Feed(pages, language, tokenizer, seed=7)
    return list(dialogues(pages, language, feed.encode, feed.marks, random.Random(7)))


@torch.no_grad()
def held_out_loss(model: LlamaForCausalLM, rows: list[list[int]]) -> float:
    """Return nats per token over the held-out dialogues, questions included."""
    model.eval()
    total, count = 0.0, 0
    for row in rows:
        ids = torch.tensor([row])
        loss = loss_of(model, ids[:, :-1], ids[:, 1:])
        total, count = total + loss.item() * (len(row) - 1), count + len(row) - 1
    model.train()
    return total / max(1, count)


def rate(progress: float) -> float:
    """Return the share of the peak learning rate at a share of the time."""
    if progress < WARM:
        return max(progress, 0.02 * WARM) / WARM
    part = min(1.0, (progress - WARM) / (1 - WARM))
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * part))


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Return Muon for the hidden matrices and AdamW for embeddings and norms."""
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if p.dim() > 1 and "embed" not in name]
    others = [p for name, p in named.items() if p.dim() == 1 or "embed" in name]
    made = [
        Muon(matrices, lr=MATRIX_RATE),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.1, fused=True),
    ]
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def sharpen(model: LlamaForCausalLM) -> None:
    """Scale the logits through the last norm: dropout leaves too much weight on tokens that never fit."""
    with torch.no_grad():
        model.model.norm.weight.mul_(SHARPEN)


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a checkpoint in bfloat16 with its tokenizer."""
    vocabulary.save(tokenizer, folder)
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(state)
    copy.generation_config = GenerationConfig(
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        do_sample=True,
        suppress_tokens=list(range(vocabulary.SIZE - 256, vocabulary.SIZE)),  # bytes: never half a character
    )
    copy.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)


def main() -> None:
    """Train for the given minutes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder for the Debian packages")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and the log")
    parser.add_argument("--out", type=Path, help="folder for the finished model")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--start", type=Path, help="checkpoint to go on from")
    parser.add_argument("--progress", type=float, default=0.0, help="share of the training that it has had")
    parser.add_argument("--rows", type=int, default=4, help="rows of a batch")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    run(options)


def run(options: argparse.Namespace) -> None:
    """Prepare text, tokenizer and model, then train."""
    options.work.mkdir(parents=True, exist_ok=True)
    made = corpus.build(options.cache)
    flow = [passage for pages in made.train.values() for page in pages for passage in page]
    texts = [text for passage in flow for text in (passage.title, *passage.paragraphs)]
    texts += [form for forms in QUESTIONS.values() for form in forms] * 40
    chinese = [text for text in texts if corpus.HAN.search(text)]
    tokenizer = vocabulary.train(texts + chinese + chinese)
    vocabulary.save(tokenizer, options.work / "tokenizer")
    stages = [
        {language: Feed(pages[language], language, tokenizer, options.seed) for language in ("en", "zh")}
        for pages in (
            made.train,
            {language: corpus.common(made.train[language], language) for language in ("en", "zh")},
        )
    ]
    held = {language: held_out_rows(made.held_out[language], language, tokenizer) for language in ("en", "zh")}
    model = new_model(tokenizer.get_vocab_size())
    if options.start:
        model.load_state_dict(LlamaForCausalLM.from_pretrained(options.start, dtype=torch.float32).state_dict())
    log = (options.work / "log.jsonl").open("a", encoding="utf-8")
    train(model, tokenizer, stages, held, options, log)
    if options.out:
        sharpen(model)
        save(model, tokenizer, options.out)


def train(model, tokenizer, stages, held, options, log) -> None:  # type: ignore[no-untyped-def]
    """Run the clock: step, log every minute, checkpoint every five."""
    made = optimizers(model)
    draw = random.Random(options.seed)
    begun = told = saved = time.monotonic()
    step, losses = 0, []
    while (passed := (time.monotonic() - begun) / (60 * options.minutes)) < 1:
        progress = options.progress + (1 - options.progress) * passed
        feeds = stages[COMMON[0] <= progress < COMMON[1]]
        Dropped.rate = DROPOUT if progress >= COMMON[1] else 0.0
        for group in [group for optimizer in made for group in optimizer.param_groups]:
            group["lr"] = group["peak"] * rate(progress) * min(1.0, (step + 1) / 20)
        inputs, targets = batch(feeds, draw, options.rows)
        if progress < SHORT:
            inputs, targets = inputs.reshape(-1, CONTEXT // 2), targets.reshape(-1, CONTEXT // 2)
        loss = loss_of(model, inputs, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        losses.append(loss.item())
        now = time.monotonic()
        if now - told > 60:
            line = {
                "minute": round((now - begun) / 60, 1),
                "step": step,
                "tokens": step * options.rows * CONTEXT,
                "loss": round(sum(losses) / len(losses), 4),
                "epochs": {language: feed.epochs for language, feed in feeds.items()},
            }
            told, losses = now, []
            if now - saved > 300:
                saved = now
                line |= {
                    f"held_out_{language}": round(held_out_loss(model, rows), 4) for language, rows in held.items()
                }
                save(model, tokenizer, options.work / "checkpoint")
            print(json.dumps(line), file=log, flush=True)


if __name__ == "__main__":
    main()
