"""Calibration finds nominal rates where they hold, and says so where they do not."""

import math

import numpy as np
import pytest
from scipy import stats

from llm_label.watermark.calibrate import (  # fmt: skip
    CONFIDENCE,
    LEVELS,
    curve,
    draws,
    excess,
    levels,
    own_keys,
    throw_away,
    throw_away_key,
)
from llm_label.watermark.families import families, templates
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import scan
from llm_label.watermark.schemes import SCHEMES
from tests.verify.marking import marked_ids

WIDTH = 4


def corpus(rng: np.random.Generator, letters: int = 60) -> list[np.ndarray]:
    """Return 40 plain texts and as many letters of one template as asked for."""
    template = rng.integers(0, 5000, 90)
    made = [np.concatenate([template[:50], rng.integers(0, 5000, 5), template[50:]]) for _ in range(letters)]
    return [rng.integers(0, 5000, 120) for _ in range(40)] + made


@pytest.mark.parametrize("scheme", SCHEMES)
def test_throw_away_keys_keep_every_level_on_templated_text(scheme: str) -> None:
    """By chance this fails for one seed in a thousand per level; the seed is fixed."""
    documents = corpus(np.random.default_rng(1))
    labels = families(documents, WIDTH)
    assert len(set(labels)) == 41
    keys = [throw_away_key(Spec(scheme=scheme), b"seed", n) for n in range(25)]
    ticks: list[None] = []
    found = throw_away(documents, labels, keys, 1, lambda: ticks.append(None))
    assert len(ticks) == found.keys == 25
    assert [level.units for level in found.rates.levels] == [41 * 25] * len(LEVELS)
    statuses = [level.status for level in found.rates.levels]
    assert statuses == ["fine", "fine", "unresolved", "unresolved", "unresolved"]
    assert found.rates.excess.log10_p > -3
    assert found.spread[0] <= found.spread[1] <= found.spread[2]


def test_counting_each_letter_would_call_lucky_keys_wrong() -> None:
    """What families are for: the same keys, each letter counted, vary far more than a binomial."""
    documents = corpus(np.random.default_rng(2), letters=200)[40:]
    keys = [throw_away_key(Spec(), b"spread", n) for n in range(120)]
    hits = [sum(scan(ids, key).log10_p <= -1 for ids in documents[:10]) for key in keys]
    assert np.var(hits) > 4 * 10 * 0.1 * 0.9
    labels = families(documents, WIDTH)
    assert set(labels) == {0}


def test_a_key_whose_mark_is_in_the_text_is_above_and_its_templates_are_named() -> None:
    rng = np.random.default_rng(3)
    key, other = Key.new("used", bytes(32), Spec()), Key.new("fresh", bytes([1] * 32), Spec())
    tries = rng.integers(0, 5000, (400, 60))
    template = tries[np.argmin([scan(ids, key).log10_p for ids in tries])]
    documents = [np.concatenate([template, rng.integers(0, 5000, 3)]) for _ in range(30)]
    documents += [np.concatenate([rng.integers(0, 5000, 60), template[:5]]) for _ in range(50)]
    labels = np.array([0] * 30 + list(range(1, 51)))
    used, fresh = own_keys(documents, labels, [key, other], templates(documents, WIDTH, 50), 5)
    assert used.hits[0] >= 30 and used.worst == (0, 30, 30) and fresh.worst is None
    assert used.drivers[0].template.documents == 30 and used.drivers[0].log10_p < -1.5
    assert used.rates.levels[0].units == 51 and used.rates.levels[0].hits <= 3
    # without families the same key is called wrong
    assert levels(np.array([scan(ids, key).log10_p for ids in documents]), CONFIDENCE)[0].status == "above"


def test_a_key_of_the_ring_is_measured_with_every_payload_that_detection_tries() -> None:
    """Text that was written with payload 77 is no null text of the key, whatever payload 0 says of it."""
    key = Key.new("used", bytes(32), Spec(payload_bits=8))
    written = [np.array(marked_ids(key.carrying(77), list(range(1, 401)), 60, seed)) for seed in range(20)]
    (used,) = own_keys(written, np.arange(20), [key], templates([written[0], written[0]], WIDTH, 1), 1)
    assert used.hits == (20,) * len(LEVELS) and used.rates.levels[0].status == "above"
    assert len(used.drivers) == 1 and used.drivers[0].log10_p < -6
    rng = np.random.default_rng(6)
    plain = [rng.integers(0, 5000, 60) for _ in range(400)]
    (paid,) = own_keys(plain, np.arange(400), [key], [], 1)
    # at 0.01 four hits are expected; more than 14 come in one of 30,000 runs
    assert paid.hits[0] <= 14 and paid.rates.levels[0].status == "fine", "all payloads are paid for"


def test_a_level_is_above_only_where_chance_does_not_explain_it() -> None:
    uniform = np.log10((np.arange(10_000) + 0.5) / 10_000)
    assert [level.status for level in levels(uniform, CONFIDENCE)] == ["fine"] * 3 + ["unresolved"] * 2
    assert [level.hits for level in levels(uniform, CONFIDENCE)] == [100, 10, 1, 0, 0]
    twice = np.log10((np.arange(10_000) + 0.5) / 20_000)
    assert levels(twice, CONFIDENCE)[0].status == "above"
    assert levels(np.full(500, -6.0), CONFIDENCE)[-1].status == "above"  # unresolved, and yet clear
    assert all(level.hits == 0 and level.low == 0.0 for level in levels(np.zeros(500), CONFIDENCE))


def test_the_ks_distance_is_one_sided_and_scipys() -> None:
    sample = np.random.default_rng(4).random(2000) ** 1.1
    expected = stats.kstest(sample, "uniform", alternative="greater")
    found = excess(np.log10(sample))
    assert found.distance == pytest.approx(expected.statistic)
    assert expected.pvalue <= 10**found.log10_p  # a bound
    assert found.log10_p == pytest.approx(math.log10(expected.pvalue), rel=0.05)
    assert excess(np.zeros(100)).distance == 0.0  # all p-values 1: as super-uniform as can be
    assert excess(np.full(100, -400.0)).distance == 1.0


def test_one_document_of_each_family_is_drawn_anew_for_each_key() -> None:
    labels = np.array([0, 1, 1, 2, 1, 2])
    drawn = np.array([row for row, _ in zip(draws(labels, 7), range(3000), strict=False)])
    assert (labels[drawn] == np.arange(3)).all()
    assert [np.unique(column).tolist() for column in drawn.T] == [[0], [1, 2, 4], [3, 5]]
    assert np.abs(np.bincount(drawn[:, 1])[[1, 2, 4]] - 1000).max() < 6 * math.sqrt(3000 * 2 / 9)
    assert next(draws(labels, 7)).tolist() == drawn[0].tolist()


def test_a_curve_rises_through_its_intervals() -> None:
    points = curve(np.log10(np.random.default_rng(5).random(500)), CONFIDENCE)
    assert points[0][1] == 1 / 500 and points[-1][1] == 1.0
    assert all(low < share <= high for _, share, low, high in points)
    assert [p for p, *_ in points] == sorted(p for p, *_ in points)


def test_throw_away_keys_differ_by_seed_and_number_and_come_again() -> None:
    prints = {throw_away_key(Spec(), seed, n).fingerprint for seed in (b"a", b"b") for n in range(50)}
    assert len(prints) == 100
    assert throw_away_key(Spec(), b"a", 3).fingerprint == throw_away_key(Spec(), b"a", 3).fingerprint
