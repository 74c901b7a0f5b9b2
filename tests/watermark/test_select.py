"""Scheme select: golden file, an undistorted choice, an exact null, and what a choice among k can and cannot show."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from llm_label import Detector, Keyring
from llm_label.errors import KeyringError
from llm_label.keyfile import tokenizer_spec
from llm_label.verify.findings import WatermarkTest
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.letters import LETTERS, letters
from llm_label.watermark.scan import Scan, decision, scan
from llm_label.watermark.schemes.select import Select
from llm_label.watermark.selection import choice, choose
from tests.watermark import golden_select

SPEC = Spec(scheme="select")
KEY = Key.new("s", bytes(range(32)), SPEC)
OTHER = Key.new("o", bytes(range(1, 33)), SPEC)
ALPHABET = np.array(list("abcdefghijklmnopqrstuvwxyz天地玄黄宇宙洪荒 ,."))


def written(rng: np.random.Generator, characters: int) -> str:
    return "".join(rng.choice(ALPHABET, characters))


def log10_p(text: str, key: Key = KEY) -> float:
    return scan(letters(text)[0], key).log10_p


def test_the_golden_file_is_what_the_scheme_computes() -> None:
    held = json.loads(golden_select.FILE.read_text(encoding="utf-8"))
    computed = json.loads(json.dumps(golden_select.compute()))
    for figure in ("score", "log10_p"):
        assert held["scan"].pop(figure) == pytest.approx(computed["scan"].pop(figure), rel=1e-12)
    for mine, theirs in zip(held["scores"], computed["scores"], strict=True):
        assert mine.pop("scores") == pytest.approx(theirs.pop("scores"), rel=1e-12)
    assert held == computed


def test_over_keys_every_candidate_is_kept_as_often_as_it_was_drawn() -> None:
    """900 keys: long and short, equal, nested and empty candidates. For random keys it fails once in 10^4."""
    rng = np.random.default_rng(5)
    long, short = written(rng, 200), written(rng, 40)
    candidates = [long, short, long.upper(), long[:120], long[:90] + written(rng, 150), "Ja.", "", short + "!", "Ja"]
    same = [{0, 2}, {1, 7}, {3}, {4}, {5, 8}, {6}]
    kept, marked = np.zeros(len(candidates)), 0
    for key in range(900):
        drawn = rng.permutation(len(candidates))
        found = Select().choose(key * 7919, [candidates[index] for index in drawn])
        kept[drawn[found.kept]] += 1
        marked += found.marks
    counts = [kept[list(group)].sum() for group in same]
    expected = [900 * len(group) / len(candidates) for group in same]
    assert stats.chisquare(counts, expected).pvalue > 1e-4
    assert 440 < marked < 560, "5 of 9 have enough n-grams of their own; within 4 standard errors"


@pytest.mark.parametrize(
    "texts",
    [["Yes.", "No."], ["1", "2", "3", "4", "5", "6"], ["Positive", "Negative"], ["Yes.", "It depends on the die."]],
)
def test_one_key_prefers_no_short_answer_for_ever(texts: list[str]) -> None:
    """What has too few n-grams of its own is kept as it was drawn, first come first kept, and says so."""
    rng = np.random.default_rng(8)
    assert {choice([*rng.choice(texts, 8)], KEY) for _ in range(200)} == {(0, False)}


def test_a_short_answer_among_long_ones_is_kept_where_it_came_first() -> None:
    rng = np.random.default_rng(9)
    long = [written(rng, 60) for _ in range(3)]
    assert choice(["Yes.", *long], KEY) == (0, False)
    behind = choice([*long, "Yes."], KEY)
    assert behind == (choose(long, KEY), True)
    assert choice([long[0], "Yes.", "No."], KEY) == (0, False), "the only one that the key could prefer"


def test_counting_shared_n_grams_would_prefer_the_longer_of_two() -> None:
    """The wrong way: with the sum of all scores, what both hold cancels and length alone decides."""
    rng = np.random.default_rng(6)
    common = written(rng, 300)
    short, long = common + written(rng, 30), common + written(rng, 300)
    keys = [Key.new("k", rng.bytes(32), SPEC) for _ in range(100)]
    assert sum(scan(letters(long)[0], key).score > scan(letters(short)[0], key).score for key in keys) == 100
    right = sum(choose([short, long], key) for key in keys)
    assert 20 <= right <= 80, "a fair coin leaves these bounds once in 10^9"


@pytest.mark.parametrize("kind", ["plain", "templated", "two letters"])
def test_p_values_of_unmarked_text_are_uniform(kind: str) -> None:
    """1,000 fresh keys; for random seeds it fails with a chance below 1e-5."""
    rng = np.random.default_rng(7)
    template = written(rng, 80)
    text = {
        "plain": lambda: written(rng, 300),
        "templated": lambda: " ".join([template, written(rng, 10)] * 6),
        "two letters": lambda: "".join(rng.choice(["a", "b"], 900)),  # at most 256 distinct n-grams
    }[kind]
    found = [log10_p(text(), Key.new("null", rng.bytes(32), SPEC)) for _ in range(1000)]
    assert stats.kstest(10.0 ** np.array(found), "uniform").pvalue > 1e-5


@pytest.mark.parametrize("characters", [60, 300])
@pytest.mark.parametrize("k", [2, 16])
def test_a_whole_answer_shows_the_best_of_k_however_long_it_is(k: int, characters: int) -> None:
    """The mean of log10 p is −H_k / ln 10, within 5 standard errors of 200 answers."""
    rng = np.random.default_rng(k + characters)
    found = []
    for _ in range(200):
        candidates = [written(rng, characters) for _ in range(k)]
        found.append(log10_p(candidates[choose(candidates, KEY)]))
    expected = -sum(1 / n for n in range(1, k + 1)) / math.log(10)
    assert np.mean(found) == pytest.approx(expected, abs=5 * np.std(found) / math.sqrt(200))


def by_blocks(key: Key, rng: np.random.Generator, blocks: int, k: int = 8) -> str:
    text = ""
    for _ in range(blocks):
        candidates = [written(rng, 60) for _ in range(k)]
        text += candidates[choose(candidates, key, before=text)]
    return text


def test_an_answer_chosen_block_by_block_comes_to_proof() -> None:
    """16 choices among 8 shift the sum by 16 · 1.42 of its 16 shares: z is 5.7 and p about 1e-8."""
    rng = np.random.default_rng(11)
    texts = [by_blocks(KEY, rng, 16) for _ in range(20)]
    found = [log10_p(text) for text in texts]
    assert np.median(found) < -6.5 and np.median([log10_p(text, OTHER) for text in texts]) > -1
    verdicts = [watermark(text).decision for text in texts]
    assert verdicts.count("marked") >= 13


def test_what_stands_already_decides_nothing() -> None:
    rng = np.random.default_rng(12)
    before = written(rng, 200)
    echo, fresh = before[:150] + written(rng, 20), written(rng, 170)
    kept = [Select().choose(key, [echo, fresh], before).kept for key in range(200)]
    assert 60 < sum(kept) < 140, "a fair coin leaves these bounds once in 10^8"
    assert choice([before[:90], before[:80], before[:70]], KEY, before) == (0, False), "nothing that is new"


def watermark(text: str, *keys: Key) -> WatermarkTest:
    found = Detector(Keyring(keys or (KEY,)), ()).detect(text).evidence
    return next(f for f in found if isinstance(f, WatermarkTest))


def test_detection_needs_no_tokenizer_and_survives_reformatting() -> None:
    text = by_blocks(KEY, np.random.default_rng(13), 24)
    plain = watermark(text)
    assert plain.decision == "marked" and plain.tests == 1, "all variants of a text are one reading"
    for changed in (text.upper(), text.replace(" ", "\r\n\r\n"), f"**{text}**", text.replace(",", "，")):
        assert watermark(changed).log10_p == plain.log10_p
    whole = watermark(written(np.random.default_rng(14), 3000))
    assert whole.decision == "insufficient", "a choice among 8 could not have shown more"


def test_one_answer_is_never_said_to_be_unmarked() -> None:
    for n in (1, 100, 10**6):
        assert decision(Scan(float(n), n, 7, -0.3), KEY, 1e-3) == "insufficient"
        assert Select().log10_tail(n, Select().plausible(n)) == pytest.approx(-math.log10(9), abs=0.15 if n > 1 else 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"candidates": 1}, "candidates is a number from 2 to 128, not 1"),
        ({"candidates": 2.5}, "candidates is a whole number from 2 to 128, not 2.5"),
        ({"candidates": "8"}, "not '8'"),
        ({"k": 8}, "scheme 'select' has no parameter 'k'; known: candidates"),
    ],
)
def test_wrong_parameters_are_refused_in_one_line(given: Any, message: str) -> None:
    with pytest.raises(KeyringError) as caught:
        Spec(scheme="select", parameters=given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_wrong_use_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyringError, match="key 'g' is one of scheme 'gumbel'"):
        choose(["a"], Key.new("g", bytes(32), Spec()))
    with pytest.raises(ValueError, match="at least one candidate"):
        choose([], KEY)
    with pytest.raises(KeyringError, match="counts letters-v1 and no tokens"):
        Spec(scheme="select", tokenizer_path="tokenizer.json")
    assert tokenizer_spec(tmp_path / "none.json", scheme="select").tokenizer_path == LETTERS
    assert choose(["only"], KEY) == 0


def test_the_key_travels_through_a_ring(tmp_path: Path) -> None:
    held = Keyring.parse(Keyring((KEY,)).dumps()).get("s")
    assert held == KEY and held.spec.rules == Select(8)
    text = by_blocks(KEY, np.random.default_rng(15), 8)
    assert log10_p(text, KEY.for_auditor()) == log10_p(text)
    siphash = Key.new("s", bytes(range(32)), Spec(scheme="select", prf="siphash-2-4-v1"))
    assert log10_p(by_blocks(siphash, np.random.default_rng(15), 16), siphash) < -4
