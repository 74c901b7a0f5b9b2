"""Marked text from toy models: uniform choice among words, by the real scheme and real tokenizers."""

import hashlib
import json
import random
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from llm_label.watermark.keyring import Key, Spec, tokenizer_digest
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label.watermark.schemes.dual_gumbel import DualGumbel
from llm_label.watermark.schemes.gumbel import Gumbel

VOCABULARY = ["the", "a", *(f"w{n:03d}" for n in range(400))]


def toy_tokenizer(folder: Path, words: list[str] = VOCABULARY) -> Path:
    """Write the tokenizer.json of a model whose tokens are whole words."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(["[UNK]", *words])}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def key_for(path: Path, id: str = "k1", seed: int = 0, **spec: object) -> Key:
    digest = tokenizer_digest(path.read_bytes())
    secret = hashlib.sha256(f"{id} {seed}".encode()).digest()
    given = {"tokenizer": digest, "tokenizer_path": str(path), **spec}
    return Key.new(id, secret, Spec(**given))  # type: ignore[arg-type]


@cache
def real_key(path: Path) -> Key:
    """Make the key of a real tokenizer, whose digest takes a moment."""
    return key_for(path)


@cache
def _candidates(path: Path, han: bool) -> tuple[Tokenizer, list[int]]:
    tokenizer = Tokenizer.from_file(str(path))
    fits = _is_han if han else _is_word
    # A token is decoded twice in a row, because some tokenizers drop the first space of a text.
    numbers = (n for n in range(1000, tokenizer.get_vocab_size()) if fits(tokenizer.decode([n, n])))
    return tokenizer, list(islice(numbers, 400))


def biased_ids(key: Key, candidates: list[int], length: int, seed: int) -> list[int]:
    """Draw tokens [length] from the candidates, green ones e^delta times as often."""
    rules, rng = key.spec.rules, random.Random(seed)
    assert isinstance(rules, Bernoulli)
    tokens = np.array(candidates, dtype=np.int64)
    ids = rng.choices(candidates, k=rules.context_width)
    while len(ids) < length:
        word = key.streams()[0].words(np.array([ids[-rules.context_width :]]), tokens)
        ids.append(rng.choices(candidates, weights=np.exp(rules.delta * rules.green(word)).tolist())[0])
    return ids


def marked_ids(key: Key, candidates: list[int], length: int, seed: int) -> list[int]:
    """Draw tokens [length] uniformly from the candidates, each by the keyed race, as a server would."""
    rules = key.spec.rules
    if isinstance(rules, Bernoulli):
        return biased_ids(key, candidates, length, seed)
    rng = random.Random(seed)
    tokens = np.array(candidates, dtype=np.int64)
    width = key.spec.context_width
    ids: list[int] = []
    seen: set[tuple[int, ...]] = set()
    while len(ids) < length:
        context = tuple(ids[-width:])
        if len(context) < width or context in seen:
            ids.append(rng.choice(candidates))
            continue
        seen.add(context)
        routed = isinstance(rules, DualGumbel) and rng.random() < rules.alpha
        word = key.streams()[routed].words(np.array([context], dtype=np.int64), tokens)
        ids.append(int(tokens[np.argmin(Gumbel().races(word))]))
    return ids


def marked_text(key: Key, length: int, seed: int = 0) -> str:
    """Write marked words of the toy tokenizer."""
    candidates = list(range(1, len(VOCABULARY) + 1))  # 0 is [UNK]
    return " ".join(VOCABULARY[number - 1] for number in marked_ids(key, candidates, length, seed))


def plain_text(length: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(VOCABULARY, k=length))


def marked_with(tokenizer_json: Path, key: Key, length: int, *, han: bool, seed: int = 0) -> str:
    """Write marked text of a real tokenizer: English words, each with its space, or Chinese words."""
    tokenizer, candidates = _candidates(tokenizer_json, han)
    return str(tokenizer.decode(marked_ids(key, candidates, length, seed)))


def _is_word(twice: str) -> bool:
    words = twice.split()
    return len(words) == 2 and words[0] == words[1] and twice.isascii() and words[0].isalpha()


def _is_han(twice: str) -> bool:
    return len(twice) >= 4 and all("\u4e00" <= c <= "\u9fff" for c in twice)


def saved_answer(*contents: str, **top: object) -> str:
    choices = [{"index": n, "message": {"role": "assistant", "content": c}} for n, c in enumerate(contents)]
    return json.dumps({"object": "chat.completion", "choices": choices, **top}, ensure_ascii=False)
