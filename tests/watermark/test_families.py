"""Families: what shares text is joined, what does not stays apart, whatever the order of documents."""

import numpy as np
import pytest

from llm_label.watermark import families as room
from llm_label.watermark.families import families, shared_share, templates

WIDTH = 4


def plain(rng: np.random.Generator, n: int = 200) -> np.ndarray:
    return rng.integers(0, 50_000, n)


def letter(rng: np.random.Generator, template: np.ndarray, fill: int = 10) -> np.ndarray:
    """Put a few words of its own into a template's middle."""
    return np.concatenate([template[:60], rng.integers(0, 50_000, fill), template[60:]])


def brute(documents: list[np.ndarray]) -> list[set[tuple[int, ...]]]:
    return [{tuple(ids[k : k + WIDTH + 1].tolist()) for k in range(len(ids) - WIDTH)} for ids in documents]


def test_letters_of_one_template_are_a_family_and_plain_texts_are_not() -> None:
    rng = np.random.default_rng(1)
    one, other = plain(rng, 100), plain(rng, 100)
    documents = [
        plain(rng),
        *(letter(rng, one) for _ in range(50)),
        plain(rng),
        *(letter(rng, other) for _ in range(9)),
    ]
    order = rng.permutation(len(documents))
    labels = np.empty(len(documents), dtype=int)
    labels[order] = families([documents[k] for k in order], WIDTH)
    assert len(set(labels)) == 4
    assert len(set(labels[1:51])) == 1 and len(set(labels[52:])) == 1


def test_joined_are_exactly_the_pairs_that_share_a_tenth_of_the_shorter() -> None:
    """Beside a comparison of every pair, on texts that share random parts."""
    rng = np.random.default_rng(2)
    pool = [plain(rng, 40) for _ in range(12)]
    documents = [np.concatenate([pool[rng.integers(12)], plain(rng, int(rng.integers(20, 600)))]) for _ in range(60)]
    grams = brute(documents)
    parent = list(range(60))
    for a in range(60):
        for b in range(a):
            if len(grams[a] & grams[b]) >= room.SHARE * min(len(grams[a]), len(grams[b])):
                old, new = parent[a], parent[b]
                parent = [new if p == old else p for p in parent]
    labels = families(documents, WIDTH)
    assert len(set(labels)) == len(set(parent)) == len(set(zip(labels.tolist(), parent, strict=True)))
    assert 12 < len(set(parent)) < 60


def test_a_large_corpus_is_compared_by_a_sample_of_grams(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    template = plain(rng, 300)
    documents = [letter(rng, template) for _ in range(20)] + [plain(rng, 300) for _ in range(20)]
    whole = families(documents, WIDTH)
    monkeypatch.setattr(room, "MOST", 3000)
    assert families(documents, WIDTH).tolist() == whole.tolist()


def test_what_families_share_is_counted() -> None:
    rng = np.random.default_rng(4)
    part = plain(rng, 24)
    documents = [np.concatenate([part, plain(rng, 976)]), np.concatenate([part, plain(rng, 976)]), plain(rng, 1000)]
    labels = families(documents, WIDTH)
    assert len(set(labels)) == 3
    grams = brute(documents)
    shared = sum(sum(g in other for other in grams if other is not mine) > 0 for mine in grams for g in mine)
    assert shared_share(documents, labels, WIDTH) == pytest.approx(shared / sum(map(len, grams)))
    assert shared_share(documents, np.zeros(3, dtype=int), WIDTH) == 0.0


def test_templates_are_found_with_their_documents() -> None:
    rng = np.random.default_rng(5)
    template = plain(rng, 120)
    documents = [letter(rng, template) for _ in range(7)] + [plain(rng) for _ in range(3)]
    first, second = templates(documents, WIDTH, 2)
    assert (first.documents, second.documents) == (7, 7)
    assert sorted([first.ids.tolist(), second.ids.tolist()]) == sorted([template[:60].tolist(), template[60:].tolist()])
    assert first.tokens == 56
    assert templates(documents, WIDTH, 9, least=57) == []


def test_documents_without_a_whole_context_are_families_of_their_own() -> None:
    documents = [np.array([1, 2]), np.array([1, 2]), np.array([], dtype=int)]
    assert len(set(families(documents, WIDTH).tolist())) == 3
    assert shared_share(documents, np.arange(3), WIDTH) == 0.0 and templates(documents, WIDTH, 5) == []
