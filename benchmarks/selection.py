"""Measure what a choice among k answers shows: scheme select on answers of the embedded model.

    python benchmarks/selection.py [--tokens 200] [--most 64] [--keys 25] [--blocks 10]

Answers are drawn once, at temperature 1 and top-p 0.95; every key then chooses among the same ones. A short answer is
the first quarter of a long one. "Together" is what a detector sees that gets several answers of one author in one
text. Block by block, each choice among 8 goes on from the text that the choices before it left, as a program in front
of a completions API can do.
"""

import argparse
import math
import statistics
from typing import Any

import torch
from llm_label_transformers import EMBEDDED
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.letters import letters
from llm_label.watermark.scan import scan
from llm_label.watermark.selection import choose

ASKED = {
    "en": ["How do I insert a picture?", "Write a story about the sea.", "Why is the sky blue?", "What shall I cook?"],
    "zh": ["怎么学习英语？", "写一篇关于春天的短文。", "为什么天空是蓝色的？", "今晚做什么菜？"],
}
CHOICES = (2, 4, 8, 16, 32, 64)
BLOCK = 20  # tokens
OF_BLOCKS = 8  # candidates for each


class Author:
    """The embedded model on one core; text goes in and out, as through an API."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        torch.manual_seed(1)
        self._model: Any = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(EMBEDDED)

    def draw(self, question: str, count: int, tokens: int, before: str = "") -> list[str]:
        """Return so many answers, or continuations of an answer that stands already."""
        chat = [{"role": "user", "content": question}]
        prompt = self._tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False) + before
        ids = torch.tensor([self._tokenizer.encode(prompt, add_special_tokens=False)] * count)
        with torch.inference_mode():
            out = self._model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_p=0.95, top_k=0, max_new_tokens=tokens
            )
        return [str(self._tokenizer.decode(row, skip_special_tokens=True)) for row in out[:, ids.shape[1] :]]

    def by_blocks(self, question: str, blocks: int, key: Key) -> str:
        text = ""
        for _ in range(blocks):
            candidates = self.draw(question, OF_BLOCKS, BLOCK, text)
            text += candidates[choose(candidates, key, before=text)]
        return text


def log10_p(text: str, key: Key) -> float:
    return scan(letters(text)[0], key).log10_p


def kept(answers: list[str], k: int, key: Key) -> list[str]:
    """Return what the key keeps of each k answers to one question."""
    groups = [answers[at : at + k] for at in range(0, len(answers) - k + 1, k)]
    return [group[choose(group, key)] for group in groups]


def whole(drawn: dict[str, list[list[str]]], keys: list[Key], most: int) -> list[str]:
    """Return the table of single answers: mean log10 p."""
    lines = ["| k | best of k | en, short | en, long | zh, short | zh, long |", "| --- " * 6 + "|"]
    for k in (k for k in CHOICES if k <= most):
        cells = [f"{-sum(1 / n for n in range(1, k + 1)) / math.log(10):.2f}"]
        for questions in drawn.values():
            for part in (4, 1):
                cut = [[answer[: len(answer) // part] for answer in answers] for answers in questions]
                found = [log10_p(text, key) for key in keys for answers in cut for text in kept(answers, k, key)]
                cells.append(f"{statistics.mean(found):.2f}")
        lines.append(f"| {k} | {' | '.join(cells)} |")
    return lines


def together(drawn: dict[str, list[list[str]]], keys: list[Key], sizes: tuple[int, ...] = (1, 4, 8, 16)) -> list[str]:
    """Return the table of several answers in one text: median log10 p."""
    lines = [f"| language, k | {' | '.join(f'{size} answers' for size in sizes)} |", "| --- " * (len(sizes) + 1) + "|"]
    for language, questions in drawn.items():
        for k in (4, 8, 16):
            cells = []
            for size in sizes:
                found = []
                for key in keys:
                    texts = [text for of in zip(*(kept(a, k, key) for a in questions), strict=True) for text in of]
                    found += [
                        log10_p("\n\n".join(texts[at : at + size]), key) for at in range(0, len(texts) - size + 1, size)
                    ]
                cells.append(f"{statistics.median(found):.1f}" if found else "")
            lines.append(f"| {language}, {k} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--most", type=int, default=64)
    parser.add_argument("--keys", type=int, default=25)
    parser.add_argument("--blocks", type=int, default=10)
    args = parser.parse_args()
    author = Author()
    keys = [Key.new("k", bytes([n]) * 32, Spec(scheme="select")) for n in range(args.keys)]
    drawn = {lang: [author.draw(q, args.most, args.tokens) for q in asked] for lang, asked in ASKED.items()}
    print("\n".join(whole(drawn, keys, args.most)), "", *together(drawn, keys), sep="\n")
    for language, asked in ASKED.items():
        found = [log10_p(author.by_blocks(question, args.blocks, key), key) for question in asked for key in keys[:2]]
        how = f"{args.blocks} blocks of {BLOCK} tokens among {OF_BLOCKS}"
        print(f"\n{language}, {how}: median log10 p {statistics.median(found):.1f}")


if __name__ == "__main__":
    main()
