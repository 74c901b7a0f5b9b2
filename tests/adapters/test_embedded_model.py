"""The embedded model is small, round-trips every text, and writes in both languages with real entropy."""

import hashlib
import re
from collections.abc import Iterator
from functools import cache

import pytest

torch = pytest.importorskip("torch", reason="the adapter llm-label-transformers is not installed")
pytest.importorskip("transformers", reason="the adapter llm-label-transformers is not installed")

from hypothesis import given
from hypothesis import strategies as st
from llm_label_transformers.engine import EMBEDDED, Engine
from tokenizers import Tokenizer

LIMIT = 8_000_000  # bytes of the folder
FIRST_BYTE, LAST_BYTE = "<0x00>", "<0xFF>"
HAN = re.compile(r"[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second core only slows a model this small
    yield Engine.load(None)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def answers(engine: Engine) -> dict[str, list[list[int]]]:
    """Return the ids of six sampled answers per language."""
    made = {}
    for language, question in (("en", "Tell me about styles."), ("zh", "请介绍一下页面样式。")):
        prompt = engine._prompter.encode([{"role": "user", "content": question}])
        ids = torch.tensor([prompt] * 6)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            out = engine.model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, max_new_tokens=50
            )
        made[language] = out[:, len(prompt) :].tolist()
    return made


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) <= LIMIT


def test_its_vocabulary_is_large_enough(engine: Engine) -> None:
    assert engine.model.config.vocab_size == len(engine.tokenizer) >= 4096


def test_its_card_belongs_to_its_weights() -> None:
    card = (EMBEDDED / "MODEL_CARD.md").read_text("utf-8")
    assert hashlib.sha256((EMBEDDED / "model.safetensors").read_bytes()).hexdigest() in card
    for promise in ("held-out loss", "entropy per token at temperature 1.0", "temperature 0.7", "dictionary words"):
        assert promise in card


def encode(text: str) -> list[int]:
    ids: list[int] = backend().encode(text, add_special_tokens=False).ids
    return ids


def decode(ids: list[int]) -> str:
    text: str = backend().decode(ids, skip_special_tokens=False)
    return text


@cache
def backend() -> Tokenizer:
    return Tokenizer.from_file(str(EMBEDDED / "tokenizer.json"))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_every_text_round_trips(text: str) -> None:
    assert decode(encode(text)) == text


@pytest.mark.parametrize(
    "text", ["", " ", "  a", "a\r\n\tb", "<0x41>", "你好，世界！", "👩‍👩‍👧", "AI生成 · AI-generated", "\x00"]
)
def test_awkward_texts_round_trip(text: str) -> None:
    assert decode(encode(text)) == text


def test_it_writes_the_language_it_is_asked_in(engine: Engine, answers: dict[str, list[list[int]]]) -> None:
    share = {}
    for language, rows in answers.items():
        text = "".join(engine.decode(row) for row in rows)
        share[language] = len(HAN.findall(text)) / len(text)
    assert share["en"] < 0.1
    assert share["zh"] > 0.4


def test_it_never_writes_half_a_character(engine: Engine, answers: dict[str, list[list[int]]]) -> None:
    first, last = (engine.tokenizer.convert_tokens_to_ids(name) for name in (FIRST_BYTE, LAST_BYTE))
    assert last - first == 255
    written = {token for rows in answers.values() for row in rows for token in row}
    assert not written & set(range(first, last + 1))
    assert all("\ufffd" not in engine.decode(row) for rows in answers.values() for row in rows)


def test_its_choices_are_real_ones(engine: Engine, answers: dict[str, list[list[int]]]) -> None:
    """A watermark needs entropy: between one and five nats per token at temperature 1."""
    for rows in answers.values():
        ids = torch.tensor(rows[:4])
        with torch.inference_mode():
            logits = engine.model(ids).logits[:, 8:]
        entropy = torch.distributions.Categorical(logits=logits).entropy().mean().item()
        assert 1 < entropy < 5
