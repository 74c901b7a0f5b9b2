"""benchmarks/robustness.py: its edits do what their rate says, and leave alone what they should."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch", reason="the benchmark writes with the embedded model")
pytest.importorskip("transformers", reason="the benchmark writes with the embedded model")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TEXT = "The harbour lay quiet under a thin grey sky.\r\n公园里的ﬁ字和龘字，Ａ与e\u0301。 " * 10


@pytest.fixture(scope="module")
def robustness() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module("robustness")
    sys.path.remove(str(BENCHMARKS))


def test_units_are_the_text_and_never_split_a_character(robustness: ModuleType) -> None:
    pieces = robustness.units(TEXT)
    assert "".join(pieces) == TEXT
    assert all(pieces) and "龘" in pieces


def test_a_rate_of_zero_changes_nothing_and_of_one_everything(robustness: ModuleType) -> None:
    rng, size = np.random.default_rng(0), len(robustness.units(TEXT))
    for edit, _ in robustness.RANDOM.values():
        assert edit(TEXT, 0.0, ["#"], rng) == TEXT
    assert robustness.substitute(TEXT, 1.0, ["#"], rng) == "#" * size
    assert robustness.delete(TEXT, 1.0, ["#"], rng) == ""
    assert robustness.insert(TEXT, 1.0, ["#"], rng).count("#") == size


def test_a_tenth_of_the_units_is_edited_at_a_rate_of_a_tenth(robustness: ModuleType) -> None:
    """Six standard deviations: by chance 1 in 10^8 would fail, and the seed is fixed."""
    rng, size = np.random.default_rng(1), len(robustness.units(TEXT))
    edited = robustness.substitute(TEXT, 0.1, ["#"], rng).count("#")
    assert edited == pytest.approx(0.1 * size, abs=6.0 * (0.09 * size) ** 0.5)
    assert robustness.expected("10% substituted") == "59%"


def test_a_pasted_text_is_the_given_share_of_the_characters(robustness: ModuleType) -> None:
    (document,) = robustness.pasted([TEXT], ["people wrote this. " * 7], 0.25)
    assert TEXT in document
    assert len(TEXT) / len(document) == pytest.approx(0.25, abs=0.01)
