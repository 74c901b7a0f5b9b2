"""Payloads: which stream a text was written with, at a p-value that has paid for trying all of them."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from llm_label.errors import KeyringError
from llm_label.watermark import payload
from llm_label.watermark.keyring import Key, Keyring, Spec
from llm_label.watermark.payload import candidate_scores, identify, tokens_for
from llm_label.watermark.prf import PRFS
from llm_label.watermark.scan import scan
from llm_label.watermark.schemes.gumbel import Gumbel
from tests.verify.marking import marked_ids

SCHEMES = ["gumbel", "dual_gumbel", "bernoulli"]
CHOICES = list(range(50, 66))
ROOT = bytes(range(32))


def key_of(bits: int = 8, scheme: str = "gumbel", prf: str | None = None, root: bytes = ROOT) -> Key:
    return Key.new("k", root, Spec(scheme=scheme, prf=prf, payload_bits=bits))  # type: ignore[arg-type]


@pytest.mark.parametrize("prf", list(PRFS))
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("bits", "written"), [(1, 1), (3, 5), (8, 0), (8, 255), (12, 2047)])
def test_the_payload_of_a_marked_text_is_read(bits: int, written: int, scheme: str, prf: str) -> None:
    """A marked text of 250 tokens scores far beyond chance: p corrected stays below 1e-12. Fixed keys."""
    key = key_of(bits, scheme, prf)
    ids = marked_ids(key.carrying(written), CHOICES, 250, seed=2)
    found = identify(ids, key)
    assert (found.payload, found.tests) == (written, 2**bits)
    assert found.found == scan(ids, key.carrying(written))
    assert found.log10_p == pytest.approx(found.found.log10_p + bits * math.log10(2))
    assert found.log10_p < -12


@pytest.mark.parametrize("prf", list(PRFS))
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("bits", [1, 2, 7])
def test_the_scores_of_all_payloads_are_those_of_scanning_each(bits: int, scheme: str, prf: str) -> None:
    ids = np.random.default_rng(bits).integers(0, 2**32 - 1, 90)
    ids[40:60] = ids[10:30]
    key = key_of(bits, scheme, prf)
    expected = [scan(ids, key.carrying(one)).score for one in range(2**bits)]
    assert candidate_scores(ids, key) == pytest.approx(expected, rel=1e-12)


def test_scores_do_not_depend_on_how_they_are_cut_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ids, key = np.random.default_rng(3).integers(0, 5000, 50), key_of(10)
    whole = candidate_scores(ids, key)
    monkeypatch.setattr(payload, "SPAN", 64)
    monkeypatch.setattr(payload, "CHUNK", 48)
    assert candidate_scores(ids, key) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("text", ["independent", "repetitive"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_on_unmarked_text_the_corrected_p_is_no_smaller_than_stated(scheme: str, text: str) -> None:
    """250 texts, a fresh key each: counts at 0.5, 0.1 and 0.02 within the binomial's 1 - 1e-7 quantile.

    Chance of failing for random keys: below 2e-6 over all cases; the keys are fixed by a seed.
    """
    rng, texts = np.random.default_rng(11), 250
    found = np.empty(texts)
    for n in range(texts):
        ids = rng.integers(0, 3000, 40)
        if text == "repetitive":
            ids = np.resize(rng.integers(0, 3000, rng.integers(5, 21)), 40)
        found[n] = identify(ids, key_of(6, scheme, root=rng.bytes(32))).log10_p
    for level in (0.5, 0.1, 0.02):
        assert (found <= math.log10(level)).sum() <= stats.binom.isf(1e-7, texts, level)


def test_independent_candidates_use_up_what_the_correction_pays_for() -> None:
    """Streams are independent on unmarked text, so the smallest of 64 p-values is nearly 1/64 of a uniform one.

    Mean of 64 · smallest p over 500 texts against 64/65, five standard errors: failing by chance 6e-7.
    """
    rng, tests = np.random.default_rng(12), 64
    least = [10 ** identify(rng.integers(0, 3000, 40), key_of(6, root=rng.bytes(32))).found.log10_p for _ in range(500)]
    assert tests * np.mean(least) == pytest.approx(64 / 65, abs=5 / math.sqrt(500))


def test_a_wrong_payload_scores_no_more_on_marked_text_than_on_unmarked() -> None:
    """What a false candidate reads is the word of a token that lost, or of none: mean score at most 1.

    12 texts of 150 tokens, 63 false candidates: standard error 0.003 (scores are Exp(1) at most); five of them.
    """
    key, scores, counted = key_of(6).carrying(9), 0.0, 0
    for seed in range(12):
        ids = marked_ids(key, CHOICES, 150, seed)
        every = candidate_scores(ids, key)
        scores += float(np.delete(every, 9).sum())
        counted += 63 * scan(ids, key).scored
    assert scores / counted < 1.0 + 5 * 0.003


def test_payload_zero_is_the_key_as_it_is_without_payloads() -> None:
    ids = marked_ids(key_of(0), CHOICES, 100, 1)
    assert scan(ids, key_of(8)) == scan(ids, key_of(0)) == identify(ids, key_of(8)).found
    assert key_of(8).fingerprint == key_of(0).fingerprint
    alone = identify(ids, key_of(0))
    assert (alone.payload, alone.tests, alone.log10_p) == (0, 1, scan(ids, key_of(0)).log10_p)


def test_the_race_of_every_payload_draws_from_the_same_distribution() -> None:
    """Over 4,000 contexts a stream's winners follow the logits: chi-square of 7 degrees below 44.3 (chance 2e-7)."""
    stream = key_of(8).carrying(201).streams()[0]
    p = np.array([0.3, 0.2, 0.15, 0.1, 0.1, 0.08, 0.05, 0.02])
    contexts = np.random.default_rng(5).integers(0, 50_000, (4000, 4))
    word = stream.words(np.repeat(contexts, 8, axis=0), np.tile(np.arange(8), 4000)).reshape(4000, 8)
    observed = np.bincount([Gumbel().winner(np.log(p), row) for row in word], minlength=8)
    assert float(((observed - 4000 * p) ** 2 / (4000 * p)).sum()) < 44.3


@pytest.mark.parametrize("length", [0, 1, 4])
def test_too_short_a_text_carries_nothing(length: int) -> None:
    found = identify(list(range(length)), key_of(8))
    assert (found.found.scored, found.log10_p) == (0, 0.0)


def test_names_and_payloads_survive_the_file_and_the_auditors_copy() -> None:
    key = key_of(8).naming(17, "support chat").naming(3, "小助手").naming(17, "support chat, Frankfurt")
    ring = Keyring.parse(Keyring((key,)).dumps())
    assert ring.keys == (key,)
    assert key.payloads == ((3, "小助手"), (17, "support chat, Frankfurt"))
    assert key.name_of(17) == "support chat, Frankfurt" and key.name_of(4) is None
    auditor = Keyring.parse(Keyring((key.for_auditor(names=True),)).dumps()).keys[0]
    ids = marked_ids(key.carrying(17), CHOICES, 100, 1)
    assert auditor.name_of(identify(ids, auditor).payload) == "support chat, Frankfurt"
    assert key.spec.to_dict()["payload_bits"] == 8 and "payload_bits" not in key_of(0).spec.to_dict()
    assert ring.replacing(key_of(8)).keys == (key_of(8),)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: key_of(8).carrying(256), "payload 256 is not possible; allowed: a whole number from 0 to 255"),
        (lambda: key_of(8).carrying(-1), "payload -1 is not possible"),
        (lambda: key_of(8).carrying(True), "payload True is not possible"),
        (lambda: key_of(0).carrying(1), "allowed: only 0, for its spec has no payload_bits"),
        (lambda: key_of(8).naming(256, "x"), "payload 256 is not possible"),
        (lambda: key_of(8).naming(1, ""), "name '' of payload 1 is not a text of 1 to 200"),
        (lambda: key_of(8).naming(1, "a\nb"), "of payload 1 is not a text"),
        (lambda: key_of(17), "payload_bits is a whole number from 0 to 16, not 17"),
        (lambda: key_of(True), "payload_bits is a whole number from 0 to 16, not True"),
        (lambda: key_of(8, "synthid"), "scheme 'synthid' carries no payload; schemes that do: gumbel, dual_gumbel"),
    ],
)
def test_an_impossible_payload_is_refused(wrong: object, message: str) -> None:
    with pytest.raises(KeyringError, match=message):
        wrong()  # type: ignore[operator]


@pytest.mark.parametrize("payloads", ["none", {"x": "y"}, {"01": "y"}, {"1": 5}, {"99999": "y"}, {"-1": "y"}])
def test_a_ring_with_wrong_payloads_is_refused_in_one_line(payloads: object) -> None:
    data = json.loads(Keyring((key_of(8),)).dumps())
    data["keys"][0]["payloads"] = payloads
    with pytest.raises(KeyringError) as caught:
        Keyring.parse(json.dumps(data))
    assert "payload" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_bit_costs_some_tokens(scheme: str) -> None:
    costs = [tokens_for(key_of(bits, scheme), 1e-6) for bits in (0, 4, 8, 16)]
    assert len({bare for bare, _ in costs}) == 1
    laden = [with_payload for _, with_payload in costs if with_payload]
    assert laden[0] == costs[0][0] and laden == sorted(set(laden))
    rules = key_of(0, scheme).spec.rules
    assert rules.log10_tail(laden[2], rules.plausible(laden[2])) + 8 * math.log10(2) <= -6


def test_sixteen_bits_are_read_from_200_tokens() -> None:
    ids = marked_ids(key_of(16).carrying(40_123), CHOICES, 200, 1)
    assert identify(ids, key_of(16)).payload == 40_123
