"""Texts without a mark, as token ids: of three kinds that are made here, and real ones from files."""

import math
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.cli.corpus import files, read
from llm_label.verify.encoder import Encoder
from llm_label.watermark.keyring import Key

__all__ = ["KINDS", "SHORTEST", "VOCAB", "real", "synthetic"]

Ids: TypeAlias = npt.NDArray[np.int64]

VOCAB = 4096
SHORTEST = 25  # tokens


def independent(rng: np.random.Generator, n: int) -> Ids:
    return rng.integers(0, VOCAB, n)


def periodic(rng: np.random.Generator, n: int) -> Ids:
    return np.resize(rng.integers(0, VOCAB, rng.integers(5, 21)), n)


def templated(rng: np.random.Generator, n: int) -> Ids:
    tokens = np.resize(rng.integers(0, VOCAB, rng.integers(20, 101)), n)
    return np.where(rng.random(n) < 0.05, rng.integers(0, VOCAB, n), tokens)


KINDS = {"independent": independent, "period 5-20": periodic, "templated": templated}


def synthetic(rng: np.random.Generator, longest: int) -> Iterator[tuple[str, Ids]]:
    """Yield texts without end, one of each kind in turn; every template is its own, a family of one."""
    for kind, make in cycle(KINDS.items()):
        yield kind, make(rng, int(math.exp(rng.uniform(math.log(SHORTEST), math.log(longest + 1)))))


def real(paths: list[Path], key: Key) -> list[tuple[str, Ids]]:
    """Return the ids of every text of some files and folders that has enough tokens, and which of them it is from.

    key: any that has the tokenizer.
    """
    encoder = Encoder()
    texts = ((given.name, text.text) for given in paths for path in files([given]) for text in read(path, None))
    found = [(name, encoder.ids(text, key)) for name, text in texts]
    return [(name, ids) for name, ids in found if len(ids) >= SHORTEST]
