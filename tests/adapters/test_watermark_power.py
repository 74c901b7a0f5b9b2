"""What the watermark promises on the embedded model: found in its texts, not in people's.

All prompts, keys and seeds are fixed, so a run repeats itself on one machine and torch version.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from tokenizers import Tokenizer

torch = pytest.importorskip("torch", reason="the transformers adapter needs torch")
transformers = pytest.importorskip("transformers", reason="the transformers adapter needs transformers")

from llm_label_transformers import EMBEDDED, watermarking_config

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import decision, scan
from tests.testdata import documents

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NEW_TOKENS = 200
BATCH = 20
OTHER = Key.new("other", bytes(32), Spec())
ASK = {
    "en": (
        ["Tell me about", "Write a short story about", "Explain in simple words", "Describe", "Write a note on"],
        ["the sea", "a small dog", "how to cook rice", "an old house", "learning to read"]
        + ["the moon", "a train", "winter", "good friends", "a garden", "computers", "music", "a market"]
        + ["rivers", "a teacher", "the weather", "birds", "a long journey", "bread", "a library"],
    ),
    "zh": (
        ["请介绍", "写一个短故事，关于", "用简单的话解释", "请描述", "写一段话，谈谈"],
        ["大海", "一只小狗", "怎样煮饭", "一座老房子", "学习读书", "月亮", "火车", "冬天", "好朋友", "花园"]
        + ["电脑", "音乐", "市场", "河流", "老师", "天气", "小鸟", "长途旅行", "面包", "图书馆"],
    ),
}


def key_number(n: int) -> Key:
    return Key.new(f"power-{n}", bytes([n + 1]) * 32, Spec())


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield transformers.AutoModelForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).eval()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(EMBEDDED / "tokenizer.json"))


def prompts(language: str) -> list[str]:
    openings, subjects = ASK[language]
    return [o + (" " if language == "en" else "") + s for o, s in product(openings, subjects)]


SAMPLED: dict[str, Any] = {"do_sample": True, "temperature": 1.0, "top_p": 0.95, "top_k": 0}


def texts_of(model: Any, asked: list[str], key: Key, seed: int, **decoding: Any) -> list[str]:
    """Write one batch, by default sampled at temperature 1 and top-p 0.95; return what a reader would copy."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(EMBEDDED, padding_side="left")
    chats = [[{"role": "user", "content": text}] for text in asked]
    inputs = tokenizer.apply_chat_template(
        chats, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
    )
    torch.manual_seed(seed)
    ids = model.generate(
        input_ids=inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        **(decoding or SAMPLED),
        min_new_tokens=NEW_TOKENS,
        max_new_tokens=NEW_TOKENS,
        watermarking_config=watermarking_config(key),
    )
    return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in ids[:, inputs["input_ids"].shape[1] :]]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_95_of_100_texts_are_found_from_the_text_alone(model: Any, tokenizer: Tokenizer, language: str) -> None:
    """Family-wise p < 1e-6 over two keys; the second key shows nothing (chance of a false alarm: 1e-4)."""
    asked = prompts(language)
    assert len(asked) == 100
    found = 0
    for batch in range(0, len(asked), BATCH):
        key = key_number(batch // BATCH)
        for text in texts_of(model, asked[batch : batch + BATCH], key, seed=batch):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            found += decision(scan(ids, key), key, 1e-6, tests=2) == "marked"
            assert decision(scan(ids, OTHER), OTHER, 1e-6, tests=2) != "marked"
    assert found >= 95


@pytest.mark.parametrize(
    ("scheme", "decoding", "least"),
    [
        ("dual_gumbel", {}, 19),
        ("bernoulli", {}, 19),
        ("bernoulli", {"do_sample": False}, 12),  # without sampling a small model repeats itself: few distinct pairs
        ("bernoulli", {"do_sample": False, "num_beams": 3}, 12),
    ],
    ids=str,
)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_texts_of_other_schemes_are_found_as_well(
    model: Any, tokenizer: Tokenizer, language: str, scheme: str, decoding: dict[str, Any], least: int
) -> None:
    """Of 20 texts, at a family-wise 1e-6 over two keys; the second key shows nothing."""
    key, other = (Key.new("power", bytes([n]) * 32, Spec(scheme=scheme)) for n in (7, 0))
    found = 0
    for text in texts_of(model, prompts(language)[:20], key, seed=0, **decoding):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        found += decision(scan(ids, key), key, 1e-6, tests=2) == "marked"
        assert decision(scan(ids, other), other, 1e-6, tests=2) != "marked"
    assert found >= least


@pytest.mark.parametrize("language", ["en", "zh"])
def test_200_texts_by_people_show_nothing(tokenizer: Tokenizer, language: str) -> None:
    """At 1e-4 per text over two keys. For keys drawn anew the chance of an alarm would be 2 % a language."""
    people = documents(f"data/text/human_{language}.jsonl.gz")[:200]
    assert len(people) == 200
    for document in people:
        ids = tokenizer.encode(document["text"], add_special_tokens=False).ids
        for key in (key_number(0), OTHER):
            assert decision(scan(ids, key), key, 1e-4, tests=2) != "marked", document["id"]
