"""Marked text of the embedded model, and the entropy that it was drawn from."""

from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from llm_label_transformers import EMBEDDED, watermarking_config
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from llm_label.watermark.keyring import Key

__all__ = ["LANGUAGES", "MOST", "TOKENIZER", "Author", "Written"]

TOKENIZER = EMBEDDED / "tokenizer.json"
LANGUAGES = ("zh", "en")
TOP_P = 0.95
MOST = 40  # questions of a language
ASK = {
    "zh": (
        ["请介绍", "写一个短故事，关于", "请描述", "写一段话，谈谈"],
        ["大海", "一只小狗", "一座老房子", "学习读书", "月亮", "冬天", "好朋友", "市场", "老师", "长途旅行"],
    ),
    "en": (
        ["Tell me about ", "Write a short story about ", "Describe ", "Write a note on "],
        ["the sea", "a small dog", "an old house", "learning to read", "the moon"]
        + ["winter", "good friends", "a market", "a teacher", "a long journey"],
    ),
}


@dataclass(frozen=True)
class Written:
    """One answer as a reader would copy it, and the mean entropy of its tokens in nats, before the mark."""

    text: str
    entropy: float


class Meter(LogitsProcessor):
    """Add up the entropy of what the sampler will draw from, row by row."""

    def __init__(self, temperature: float) -> None:
        self._warpers = [TemperatureLogitsWarper(temperature), TopPLogitsWarper(TOP_P)]
        self.total: Any = 0.0

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        kept = scores
        for warper in self._warpers:
            kept = warper(input_ids, kept)
        self.total = self.total + torch.distributions.Categorical(logits=kept).entropy()
        return scores


class Author:
    """The embedded model on one core, answering fixed questions, all at a time."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._model: Any = AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).eval()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(EMBEDDED, padding_side="left")

    def write(
        self, language: str, key: Key, tokens: int, temperature: float, answers: int = MOST, seed: int = 0
    ) -> list[Written]:
        """Return up to MOST answers of exactly so many tokens, sampled at top-p 0.95."""
        asked = ["".join(parts) for parts in product(*ASK[language])][:: MOST // answers][:answers]
        chats = [[{"role": "user", "content": question}] for question in asked]
        inputs = self._tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
        )
        torch.manual_seed(seed)
        meter = Meter(temperature)
        ids = self._model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=True,
            temperature=temperature,
            top_p=TOP_P,
            top_k=0,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            logits_processor=LogitsProcessorList([meter]),
            watermarking_config=watermarking_config(key),
        )
        written = ids[:, inputs["input_ids"].shape[1] :]
        texts = (str(self._tokenizer.decode(row, skip_special_tokens=True)) for row in written)
        return [Written(text, entropy / tokens) for text, entropy in zip(texts, meter.total.tolist(), strict=True)]
