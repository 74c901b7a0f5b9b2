"""Real SynthID marks of others: MarkLLM's made on a GPU, transformers' made on a CPU, and human text beside them."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import family_wise, scan, token_scores
from tests.testdata import documents, folder
from tests.watermark.golden_synthid import imported

MARKLLM = [654, 400, 836, 123, 340, 443, 597, 160, 57, 29, 590, 639, 13, 715, 468]
MARKLLM += [990, 966, 226, 324, 585, 118, 504, 421, 521, 129, 669, 732, 225, 90, 960]
TESTS = 50  # a ring of ten keys, five readings of a text


def ring() -> list[Key]:
    """Return the key sought and nine that are not it: the other table, other keys, other n-grams."""
    spec = Spec(scheme="synthid", parameters={"sampling_table": "cuda"})  # type: ignore[arg-type]
    own = [Key.new(f"own-{n}", bytes([n]) * 32, spec) for n in range(6)]
    near = [
        imported(MARKLLM),
        imported([key + 1 for key in MARKLLM], sampling_table="cuda"),
        imported(MARKLLM, ngram_len=4),
    ]
    return [imported(MARKLLM, sampling_table="cuda"), *near, *own]


def opt() -> Tokenizer:
    return Tokenizer.from_file(str(folder("tokenizers") / "opt" / "tokenizer.json"))


def encode(tokenizer: Tokenizer, text: str) -> np.ndarray:
    return np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)


def test_all_653_texts_of_markllm_are_found_corrected_for_a_ring_of_ten() -> None:
    key, tokenizer = imported(MARKLLM, sampling_table="cuda"), opt()
    texts = documents("data/watermarked/markllm_synthid_opt.jsonl.gz")
    found = [family_wise(scan(encode(tokenizer, text["text"]), key).log10_p, TESTS) for text in texts]
    assert len(found) == 653
    assert max(found) < -6.0


def test_the_other_keys_of_the_ring_find_nothing() -> None:
    """The table of a CPU reads nothing that a GPU marked, and so on, for each of the nine."""
    tokenizer = opt()
    texts = documents("data/watermarked/markllm_synthid_opt.jsonl.gz")[::25]
    for text in texts:
        ids = encode(tokenizer, text["text"])
        assert min(family_wise(scan(ids, key).log10_p, TESTS) for key in ring()[1:]) > -6.0


def test_no_human_text_is_found() -> None:
    tokenizer, keys = opt(), ring()
    texts = documents("data/text/human_en.jsonl.gz")[::30]
    assert len(texts) >= 20
    for text in texts:
        ids = encode(tokenizer, text["text"])[:2000]
        assert min(family_wise(scan(ids, key).log10_p, TESTS) for key in keys) > -6.0


def test_means_equal_the_reference_of_transformers() -> None:
    tokenizer = opt()
    mean = imported(MARKLLM, variety="default", sampling_table="cuda", statistic="mean")
    for text in documents("data/watermarked/markllm_synthid_opt.jsonl.gz")[::20]:
        ids, reference = encode(tokenizer, text["text"]), text["reference"]
        found = scan(ids, mean)
        assert (len(ids), found.scored) == (reference["n_tokens"], reference["n_scored"])
        assert found.score / found.scored / 30 == pytest.approx(reference["mean_g"], abs=1e-6)


def generations() -> list[dict[str, Any]]:
    made = documents("data/watermarked/reference_generations.jsonl.gz")
    return [text for text in made if text["system"] == "transformers" and text["scheme"] == "synthid"]


def test_generations_of_transformers_are_read_bit_by_bit() -> None:
    made = generations()
    assert len(made) == 56
    found = defaultdict(list)
    for text in made:
        given = text["params"]
        names = ("ngram_len", "sampling_table_size", "sampling_table_seed")
        parameters = {name: given[name] for name in names}
        key = imported(given["keys"], variety="default", statistic="mean", **parameters)
        positions, scores = token_scores(text["output_ids"], key)
        reference = text["reference"]
        assert len(positions) == reference["n_scored"]
        assert scores.mean() / len(given["keys"]) == pytest.approx(reference["mean_g"], abs=1e-6)
        marked = scan(text["output_ids"], imported(given["keys"], **parameters))
        found[len(given["keys"])].append(marked.log10_p)
    assert {depth: len(p) for depth, p in found.items()} == {30: 28, 9: 28}
    assert max(found[30]) < -6.0
    assert max(found[9]) < -6.0


def test_plain_generations_are_not_found() -> None:
    plain = [text for text in documents("data/watermarked/reference_generations.jsonl.gz") if text["system"] == "none"]
    keys = ring()
    assert len(plain) == 28
    for text in plain:
        assert min(family_wise(scan(text["output_ids"], key).log10_p, len(keys)) for key in keys) > -6.0
