"""Measure a trained model and write its card.

    python card.py --cache CACHE --model ../llm_label_transformers/model

Nothing on the card is typed in: packages, losses, entropy, dictionary words, speed and samples are measured here.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from dataclasses import dataclass
from pathlib import Path

import corpus
import torch
import train
from dialogues import QUESTIONS
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

NAMES = {"en": "English", "zh": "Chinese"}
TEMPERATURES = (1.0, 0.7)
PROMPTS, NEW = 16, 200
TEMPLATE = Path(__file__).with_name("card.template.md")
SHOWN = (
    "Tell me about page styles.",
    "What should I know about printing?",
    "请介绍一下页面样式。",
    "关于打印，我应该知道什么？",
)


@dataclass
class Sampled:
    """What a batch of answers to held-out questions showed."""

    texts: list[str]
    entropy: float  # nats per token
    tokens: float  # a text
    ended: float  # share of answers that ended by themselves


def questions(pages: list, language: str) -> list[str]:
    """Return questions made from held-out headings."""
    titles = list(dict.fromkeys(passage.title for page in pages for passage in page))
    draw = random.Random(3)
    draw.shuffle(titles)
    return [draw.choice(QUESTIONS[language]).format(title) for title in titles[:PROMPTS]]


def prompt_ids(tokenizer, question: str) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """Return int64[1, length] for one question."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    return torch.tensor([tokenizer(text, add_special_tokens=False).input_ids])


@torch.inference_mode()
def answer(model, tokenizer, question: str, temperature: float) -> tuple[list[int], float, bool]:  # type: ignore[no-untyped-def]
    """Return the ids of one sampled answer, the summed entropy of its tokens, and whether it ended."""
    prompt = prompt_ids(tokenizer, question)
    out = model.generate(
        prompt, do_sample=True, temperature=temperature, top_k=0, top_p=1.0, max_new_tokens=NEW,
        attention_mask=torch.ones_like(prompt),
    )  # fmt: skip
    start = prompt.shape[1]
    logits = model(out).logits[0, start - 1 : -1].float() / temperature  # [new, vocabulary]
    spread = torch.distributions.Categorical(logits=logits).entropy().sum().item()
    ids = out[0, start:].tolist()
    return ids, spread, ids[-1] == tokenizer.eos_token_id


def sample(model, tokenizer, asked: list[str], temperature: float) -> Sampled:  # type: ignore[no-untyped-def]
    """Answer every question once."""
    torch.manual_seed(12)
    answers = [answer(model, tokenizer, question, temperature) for question in asked]
    count = sum(len(ids) for ids, _, _ in answers)
    texts = []
    for ids, _, ended in answers:
        text = tokenizer.decode(ids, skip_special_tokens=True)
        texts.append(text if ended else text.rpartition(" ")[0] or text)
    return Sampled(
        texts,
        sum(spread for _, spread, _ in answers) / count,
        count / len(answers),
        sum(ended for _, _, ended in answers) / len(answers),
    )


def dictionary_share(texts: list[str], words: frozenset[str]) -> float:
    """Return the share of English words that stand in the dictionary."""
    found = [word for text in texts for word in corpus.WORD.findall(text)]
    return sum(corpus.is_known(word, words) for word in found) / len(found)


def speed(model, tokenizer) -> float:  # type: ignore[no-untyped-def]
    """Return new tokens per second of transformers' generate, one answer at a time: the best of five."""
    prompt = prompt_ids(tokenizer, SHOWN[0])
    best = 0.0
    for _ in range(5):
        begun = time.perf_counter()
        model.generate(
            prompt, do_sample=True, top_k=0, min_new_tokens=NEW, max_new_tokens=NEW,
            attention_mask=torch.ones_like(prompt),
        )  # fmt: skip
        best = max(best, NEW / (time.perf_counter() - begun))
    return best


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(options: argparse.Namespace) -> str:
    """Measure everything and return the card."""
    made = corpus.build(options.cache)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    backend: Tokenizer = tokenizer.backend_tokenizer
    losses = {
        language: train.held_out_loss(model, train.held_out_rows(made.held_out[language], language, backend))
        for language in NAMES
    }
    model.eval()
    tried = {
        (language, heat): sample(model, tokenizer, questions(made.held_out[language], language), heat)
        for language in NAMES
        for heat in TEMPERATURES
    }
    return card(made, tokenizer, model, losses, tried, options.model)


def card(made, tokenizer, model, losses, tried, folder: Path) -> str:  # type: ignore[no-untyped-def]
    """Fill in the card's text."""
    config = model.config
    files = [path for path in folder.iterdir() if path.name != "MODEL_CARD.md"]
    everything = [text for found in tried.values() for text in found.texts]
    common = {language: corpus.common(pages, language) for language, pages in made.train.items()}
    return TEMPLATE.read_text("utf-8").format(
        parameters=sum(p.numel() for p in model.parameters()) / 1e6,
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        context=config.max_position_embeddings,
        vocabulary=config.vocab_size,
        size=sum(path.stat().st_size for path in files),
        files=len(files),
        weights=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        figures=figures(losses, tried, made.words),
        held_out=corpus.HELD_OUT,
        prompts=PROMPTS,
        new=NEW,
        answers=len(everything),
        broken=sum(text.count("\ufffd") for text in everything),
        speed=speed(model, tokenizer),
        english=characters(made.train["en"]),
        chinese=characters(made.train["zh"]),
        common_english=characters(common["en"]),
        common_chinese=characters(common["zh"]),
        common_word=corpus.COMMON_WORD,
        common_han=corpus.COMMON_HAN,
        first=train.COMMON[0],
        last=train.COMMON[1],
        minutes=train.MINUTES,
        sharpen=train.SHARPEN,
        packages=packages(made),
        samples=samples(model, tokenizer),
    )


def characters(pages: list) -> int:
    """Count the characters of the paragraphs."""
    return sum(len(text) for page in pages for passage in page for text in passage.paragraphs)


def figures(losses, tried, words: frozenset[str]) -> str:  # type: ignore[no-untyped-def]
    """Return the table of what was measured."""
    rows = [["held-out loss, nats per token", *(f"{losses[language]:.3f}" for language in NAMES)]]
    for heat in TEMPERATURES:
        spread = (f"{tried[language, heat].entropy:.2f}" for language in NAMES)
        rows.append([f"entropy per token at temperature {heat}, nats", *spread])
    for heat in TEMPERATURES:
        rows.append(
            [f"dictionary words at temperature {heat}", f"{dictionary_share(tried['en', heat].texts, words):.1%}", ""]
        )
    for heat in TEMPERATURES:
        length = (f"{tried[language, heat].tokens:.0f}" for language in NAMES)
        rows.append([f"tokens per answer of at most {NEW}, temperature {heat}", *length])
    return table(["", *NAMES.values()], rows)


def packages(made: corpus.Corpus) -> str:
    """Return the table of the text's sources."""
    rows = [
        [package.name, package.version, licence, f"{used:,}" if used else "word list", package.sha256]
        for package, licence, used in made.packages
    ]
    return table(["package", "version", "licence", "characters used", "SHA-256 of the .deb"], rows)


def samples(model, tokenizer) -> str:  # type: ignore[no-untyped-def]
    """Return answers to fixed questions, not chosen among several."""
    torch.manual_seed(5)
    parts = []
    for question in SHOWN:
        for heat in TEMPERATURES:
            ids, _, _ = answer(model, tokenizer, question, heat)
            text = tokenizer.decode(ids, skip_special_tokens=True)
            quoted = "\n".join(f"> {line}".rstrip() for line in text.split("\n"))
            parts.append(f"**{question}** (temperature {heat})\n\n{quoted}")
    return "\n\n".join(parts)


def main() -> None:
    """Write MODEL_CARD.md beside the model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder with the Debian packages")
    parser.add_argument("--model", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    (options.model / "MODEL_CARD.md").write_text(write(options), encoding="utf-8")


if __name__ == "__main__":
    main()
