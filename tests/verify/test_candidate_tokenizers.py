"""A ring may hold keys of several tokenizers, and one key under several candidates; all tries are paid for."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from llm_label.verify.detector import Detector
from llm_label.verify.findings import WatermarkTest
from llm_label.watermark.keyring import Key, Keyring, tokenizer_digest
from tests import testdata

from .marking import VOCABULARY, key_for, marked_text, marked_with, real_key, toy_tokenizer


def said(text: str, *keys: Key) -> dict[str, WatermarkTest]:
    evidence = Detector(Keyring(keys), ()).detect(text).evidence
    return {finding.key: finding for finding in evidence if isinstance(finding, WatermarkTest)}


def under(key: Key, id: str, path: Path) -> Key:
    """Return the same secret for a model with another tokenizer."""
    spec = replace(key.spec, tokenizer=tokenizer_digest(path.read_bytes()), tokenizer_path=str(path))
    return replace(key, id=id, spec=spec)


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "other").mkdir()
    return toy_tokenizer(tmp_path), toy_tokenizer(tmp_path / "other", VOCABULARY[::-1])


def test_one_key_under_two_candidates_is_found_under_the_right_one(paths: tuple[Path, Path]) -> None:
    right = key_for(paths[0])
    wrong = under(right, "k1-other", paths[1])
    text = marked_text(right, 150)
    alone = said(text, right)["k1"]
    both = said(text, wrong, right)
    assert right.fingerprint == wrong.fingerprint, "a fingerprint names the secret, not the tokenizer"
    assert (both["k1"].decision, both["k1-other"].decision) == ("marked", "not_shown")
    assert {test.tests for test in both.values()} == {2 * alone.tests}
    assert both["k1"].log10_p == pytest.approx(alone.log10_p + math.log10(2))


def test_keys_of_one_tokenizer_share_its_readings_and_each_counts(paths: tuple[Path, Path]) -> None:
    keys = [key_for(paths[n % 2], f"k{n}", n) for n in range(6)]
    found = said(marked_text(keys[3], 150, 0), *keys)
    assert {test.tests for test in found.values()} == {6}


def test_real_tokenizers_as_candidates() -> None:
    paths = [testdata.folder(f"tokenizers/{name}/tokenizer.json") for name in ("qwen3", "deepseek-v3", "gpt2")]
    first = real_key(paths[0])
    keys = [first, *(under(first, f"k{n}", path) for n, path in enumerate(paths[1:], 2))]
    found = said(marked_with(paths[0], first, 200, han=True), *keys)
    assert [found[key.id].decision for key in keys] == ["marked", "not_shown", "not_shown"]
    assert found["k1"].tests == 3 and found["k1"].scored < found["k3"].scored, "gpt2 spells Chinese in bytes"
