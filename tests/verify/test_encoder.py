"""The encoder gives the ids of the whole text at once, however long it is, and where each stands."""

import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from llm_label.errors import InputError
from llm_label.verify import chunks
from llm_label.verify.chunks import SHARED, Chunked, Common
from llm_label.verify.encoder import Encoder
from llm_label.verify.encoding import Encoding
from llm_label.verify.reading import Edit, Reading
from tests import testdata

from .marking import key_for, real_key, toy_tokenizer

EMBEDDED = Path(__file__).parents[2] / "adapters/transformers/llm_label_transformers/model/tokenizer.json"
REAL = ("qwen3", "deepseek-v3", "gpt2", "opt", "llama2-spm", "embedded")


def place(name: str) -> Path:
    return EMBEDDED if name == "embedded" else testdata.folder(f"tokenizers/{name}/tokenizer.json")


@cache
def chunked(name: str) -> Chunked:
    return Chunked(place(name).read_text(encoding="utf-8"))


@cache
def plain(name: str) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(place(name)))
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    return tokenizer


def whole(name: str, text: str) -> list[int]:
    return list(plain(name).encode(text, add_special_tokens=False).ids)


PIECES = (
    *(
        "word",
        "Word",
        "naïve",
        "don't",
        "we'LL",
        "x_1",
        "1234567",
        "3.14",
        "a\u0301",
        "Å\u030a",
        "서울",
        "ไทย",
        "春天",
        "龍",
        "的",
    ),
    *(
        "，",
        "。",
        "……",
        "“",
        "”",
        "！",
        "（",
        ")",
        ".",
        ",",
        "!?",
        "'",
        "'s",
        '"',
        "#",
        "//",
        "->",
        "👩‍👩‍👧",
        "🙂",
        "\ufeff",
        "\u200b",
    ),
    *(" ", "  ", "    ", "\t", "\n", "\n\n", "\r\n", " \n", "\n ", "\u3000", "\u00a0", "\u0085", "\u2028"),
    *("<think>", "</think>", "<|im_end|>", "<s>", "▁", "<0x0A>", "Ġ"),
)


def mixture(seed: int, length: int) -> str:
    """Draw a text that mixes all pieces, some stretches with few blanks and some with few letters."""
    rng = random.Random(seed)
    pieces: list[str] = []
    while len(pieces) < length:
        few = rng.choices(PIECES, k=rng.randint(2, 12))
        pieces += rng.choices(few, k=rng.randint(5, 60))
    return "".join(pieces)


@pytest.mark.parametrize("name", REAL)
def test_chunks_side_by_side_are_the_whole_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut as often as can be: 100 characters and again."""
    monkeypatch.setattr(chunks, "CHUNK", 100)
    tokenizer = chunked(name)
    for seed in range(12):
        text = mixture(seed, 600)
        encoding = tokenizer.encode_all([text])[0]
        ids, offsets = encoding.ids, encoding.offsets
        assert ids.tolist() == whole(name, text)
        assert len(list(tokenizer.chunks(text))) > 3, "a text that is not cut shows nothing"
        assert offsets.shape == (len(ids), 2) and (np.diff(offsets[:, 0]) >= 0).all()


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("kind", ["human_zh", "human_en", "code", "machine_en"])
def test_real_texts_are_cut_without_a_trace(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 200)
    text = "\n\n".join(row["text"] for row in testdata.documents(f"data/text/{kind}.jsonl.gz")[:40])[:25_000]
    assert chunked(name).encode_all([text])[0].ids.tolist() == whole(name, text)


@pytest.mark.parametrize("name", REAL)
def test_a_text_without_a_place_to_cut_stays_whole(name: str) -> None:
    for text in ("a" * 9000, "\n" * 9000, "，" * 9000, "ab1" * 3000):
        assert chunked(name).encode_all([text])[0].ids.tolist() == whole(name, text)


@pytest.mark.parametrize("name", REAL)
def test_offsets_spell_the_text(name: str) -> None:
    tokenizer, text = chunked(name), "The harbour 港口\n\nlay “quiet”. 🙂 " * 300
    encoding = tokenizer.encode_all([text])[0]
    ids, offsets = encoding.ids, encoding.offsets
    assert offsets[0, 0] == 0 and offsets[-1, 1] == len(text)
    ends = np.maximum.accumulate(offsets[:, 1])
    assert (offsets[1:, 0] <= ends[:-1]).all(), "no character is left out"
    for at in range(0, len(ids) - 12, 97):
        start, end = offsets[at, 0], offsets[at + 11, 1]
        spelled = tokenizer.decode(ids[at : at + 12].tolist()).strip("\ufffd ")
        assert spelled in text[start:end]


def test_readings_share_what_they_have_in_common() -> None:
    tokenizer, text = chunked("embedded"), mixture(1, 20_000)
    encoded: list[int] = []
    counting = tokenizer._first.encode

    class Counting:
        normalizer = None

        def encode(self, given: str, **options: bool) -> object:
            encoded.append(len(given))
            return counting(given, **options)

    twin = Chunked(EMBEDDED.read_text(encoding="utf-8"))
    twin._first = twin._inner = Counting()
    one, two = twin.encode_all([text, "x" + text])
    assert sum(encoded) < 1.3 * len(text)
    assert [two.ids.tolist(), one.ids.tolist()] == [whole("embedded", "x" + text), whole("embedded", text)]


def taken_apart(seed: int, count: int) -> tuple[str, Reading]:
    """Draw a text of long stretches, and the reading that has lost what stands between them."""
    rng = random.Random(seed)
    text, cuts = "", []
    for number in range(count):
        text += mixture(seed + number, rng.randint(100, 900)) + "\n"
        cuts.append(Edit(len(text), len(text) + rng.randint(20, 900)))
        text += "x = [1, 2]\n" * 100
    return text, Reading(text).edited(cuts)


def common_of(reading: Reading) -> list[Common]:
    return [Common(1, 0, *stretch) for stretch in reading.stretches() if stretch[2] >= SHARED]


@pytest.mark.parametrize("name", REAL)
def test_stretches_that_readings_share_are_cut_without_a_trace(name: str) -> None:
    for seed in range(3):
        text, reading = taken_apart(100 * seed, 8)
        common = common_of(reading)
        assert common
        one, two = chunked(name).encode_all([text, reading.text], common)
        assert [one.ids.tolist(), two.ids.tolist()] == [whole(name, text), whole(name, reading.text)]


def test_stretches_that_readings_share_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = chunked("embedded")
    text, reading = taken_apart(7, 20)
    given: list[tuple[bool, str]] = []
    encode = tokenizer._of
    monkeypatch.setattr(tokenizer, "_of", lambda *part: given.append(part) or encode(*part))

    def encoded_twice(common: list[Common]) -> float:
        given.clear()
        tokenizer.encode_all([text, reading.text], common)
        return (sum(len(part) for _, part in given) - len(text)) / len(reading.text)

    assert encoded_twice([]) > 0.5
    assert encoded_twice(common_of(reading)) < 0.35  # the ends of stretches, and what is tried of places


def test_stretches_that_are_not_there_do_no_harm() -> None:
    text, reading = taken_apart(3, 6)
    wrong = [Common(1, 0, c.here + 7, c.there, c.length - 7) for c in common_of(reading)]
    one, two = chunked("embedded").encode_all([text, reading.text], wrong)
    assert [one.ids.tolist(), two.ids.tolist()] == [whole("embedded", text), whole("embedded", reading.text)]


def test_the_characters_of_some_tokens_are_those_of_all() -> None:
    encoding = chunked("embedded").encode_all([mixture(5, 8000)])[0]
    tokens = np.random.default_rng(0).integers(0, len(encoding), 50)
    assert len(encoding.firsts) > 3
    assert encoding.characters(tokens).tolist() == encoding.offsets[tokens].tolist()


def test_a_part_without_tokens_has_no_characters() -> None:
    places = [np.array([[0, 1]]), np.empty((0, 2), dtype=np.int64), np.array([[4, 5], [5, 6]])]
    encoding = Encoding(np.array([7, 8, 9]), np.array([0, 1, 1]), places.__getitem__)
    assert encoding.characters(np.array([2, 0, 1])).tolist() == [[5, 6], [0, 1], [4, 5]]


@pytest.mark.parametrize(
    "front",
    [
        lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Metaspace(prepend_scheme="first")),
        lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.Metaspace(prepend_scheme="always")),
        lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda t: setattr(t, "normalizer", normalizers.Prepend("▁")),
        lambda t: setattr(t, "normalizer", normalizers.Strip()),
    ],
    ids=["metaspace first", "metaspace always", "prefix space", "prepend", "strip"],
)
def test_what_is_put_before_a_text_is_not_put_before_a_chunk(front: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK", 50)
    symbols = [*map(chr, range(33, 127)), "▁", "Ġ", "Ċ", "▁t", "▁th", "Ġt", "Ġth"]
    tokenizer = Tokenizer(
        models.BPE({s: n for n, s in enumerate(symbols)}, [("▁", "t"), ("▁t", "h"), ("Ġ", "t"), ("Ġt", "h")])
    )
    front(tokenizer)  # type: ignore[operator]
    text = " the cat \n that sat  on the mat\n" * 60
    ids = Chunked(tokenizer.to_str()).encode_all([text])[0].ids
    assert ids.tolist() == tokenizer.encode(text).ids


def test_a_tokenizer_with_no_word_for_it_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, "[UNK]"))
    tokenizer.save(str(path))
    with pytest.raises(InputError, match="tokenizer of a key cannot encode the text"):
        Encoder().encode("b", key_for(path))


def test_an_empty_text_has_no_tokens(tmp_path: Path) -> None:
    encoding = Encoder().encode("", key_for(toy_tokenizer(tmp_path)))
    assert len(encoding) == 0 and encoding.offsets.shape == (0, 2)


def test_special_tokens_are_spelled_out() -> None:
    key = real_key(testdata.folder("tokenizers/qwen3/tokenizer.json"))
    assert len(Encoder().encode("<|im_end|>", key)) > 1


def test_merges_that_cross_words_are_never_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in vocabularies without a pre-tokenizer that hold whole phrases: far context decides what merges."""
    monkeypatch.setattr(chunks, "CHUNK", 50)
    pieces = ["a", "b", " ", "\n", "b ", "b a", "ab", "ab a"]
    merges = [("b", " "), ("b ", "a"), ("a", "b")]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, merges))
    text = "ab ab ab\nab " * 100
    cut = Chunked(tokenizer.to_str())
    assert cut.encode_all([text])[0].ids.tolist() == tokenizer.encode(text).ids
    assert all(text[start] == "\n" for start, _ in list(cut.chunks(text))[1:])
