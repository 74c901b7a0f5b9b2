"""Documents that share text, joined into families: what one key does to one of them it does to all.

A key scores a (context, token) pair the same wherever it stands, and scores of different pairs are independent.
So two documents depend on each other exactly as far as they share such pairs, here called grams.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["SHARE", "Template", "families", "shared_share", "templates"]

Ids: TypeAlias = npt.NDArray[np.integer]
Labels: TypeAlias = npt.NDArray[np.intp]
Codes: TypeAlias = npt.NDArray[np.uint64]

SHARE = 0.1  # of the shorter document's grams; from there on two documents are of one family
REACH = 8  # documents after it, among those with a gram, that a document is compared with
MOST = 2**23  # grams compared; beyond, one in 2, 4, … of them, the same ones in every document


@dataclass(frozen=True)
class Template:
    """Hold one run of tokens that several documents share: the context it needs, then what is scored in it."""

    ids: Ids
    documents: int
    tokens: int  # without the context


def families(documents: Sequence[Ids], width: int) -> Labels:
    """Return the family [n], numbered from 0, of each document of ids; width is that of a key's context."""
    codes, owners = _grams(documents, width)
    while len(codes) > MOST:
        kept = (codes & np.uint64(1)) == 0
        codes, owners = codes[kept] >> np.uint64(1), owners[kept]
    sizes = np.bincount(owners, minlength=len(documents))
    order = np.argsort(codes, kind="stable")
    codes, owners = codes[order], owners[order]
    pairs = []
    for reach in range(1, REACH + 1):
        same = np.flatnonzero(codes[reach:] == codes[:-reach])
        pairs.append(owners[same] * len(documents) + owners[same + reach])
    linked, shared = np.unique(np.concatenate(pairs), return_counts=True)
    left, right = np.divmod(linked, len(documents))
    close = shared >= SHARE * np.minimum(sizes[left], sizes[right])
    return _joined(len(documents), left[close], right[close])


def shared_share(documents: Sequence[Ids], labels: Labels, width: int) -> float:
    """Return the share of the families' grams that stand in another family as well."""
    codes, owners = _grams(documents, width)
    owner = labels[owners]
    order = np.lexsort((owner, codes))
    codes, owner = codes[order], owner[order]
    fresh = np.ones(len(codes), dtype=bool)
    fresh[1:] = (codes[1:] != codes[:-1]) | (owner[1:] != owner[:-1])
    _, counts = np.unique(codes[fresh], return_counts=True)
    total = int(counts.sum())
    return float(counts[counts > 1].sum()) / total if total else 0.0


def templates(documents: Sequence[Ids], width: int, most: int, least: int = 1) -> list[Template]:
    """Return the longest and commonest runs, of `least` tokens or more, that the same documents share."""
    codes, owners = _grams(documents, width)
    known, place = np.unique(codes, return_inverse=True)
    counts = np.bincount(place)
    which = np.zeros(len(known), dtype=np.uint64)  # a hash of the set of documents that hold the gram
    np.add.at(which, place, _mixed((owners + 1).astype(np.uint64)))
    found: dict[int, Template] = {}
    for ids in documents:
        gram = np.searchsorted(known, _codes(ids, width))
        for start, stop in _runs(which[gram], counts[gram] > 1):
            run = Template(ids[start : stop + width], int(counts[gram[start]]), stop - start)
            found.setdefault(int(gram[start]), run)
    runs = (run for run in found.values() if run.tokens >= least)
    return sorted(runs, key=lambda t: t.documents * t.tokens, reverse=True)[:most]


def _runs(signs: Codes, shared: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return start and stop of each stretch of grams that are shared by the same documents."""
    if not len(signs):
        return []
    edges = np.flatnonzero(signs[1:] != signs[:-1]) + 1
    bounds = [0, *edges.tolist(), len(signs)]
    return [(a, b) for a, b in zip(bounds, bounds[1:], strict=False) if shared[a]]


def _joined(n: int, left: Labels, right: Labels) -> Labels:
    """Number the connected components of n documents with these links."""
    parent = list(range(n))

    def root(x: int) -> int:
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x

    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        parent[root(b)] = root(a)
    _, labels = np.unique([root(x) for x in range(n)], return_inverse=True)
    return np.asarray(labels, dtype=np.intp)


def _grams(documents: Sequence[Ids], width: int) -> tuple[Codes, Labels]:
    """Return the distinct grams of every document, and whose they are."""
    each = [np.unique(_codes(ids, width)) for ids in documents]
    owners = np.repeat(np.arange(len(documents), dtype=np.intp), [len(codes) for codes in each])
    return (np.concatenate(each) if each else np.zeros(0, dtype=np.uint64)), owners


def _codes(ids: Ids, width: int) -> Codes:
    """Return a hash [n − width] of each context with its token; two of 2^64 equal by chance change no result much."""
    n = max(0, len(ids) - width)
    code = np.zeros(n, dtype=np.uint64)
    for offset in range(width + 1):
        code = _mixed(code ^ ids[offset : offset + n].astype(np.uint64))
    return code


def _mixed(code: Codes) -> Codes:
    """Run splitmix64's finaliser (Steele, Lea, Flood 2014), after adding its constant so that 0 moves."""
    code = code + np.uint64(0x9E3779B97F4A7C15)
    code = (code ^ (code >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    code = (code ^ (code >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(code ^ (code >> np.uint64(31)))
