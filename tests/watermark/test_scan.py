import math
import time

import numpy as np
import pytest

from llm_label.watermark import scan as scan_module
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.prf import DEFAULT, PRFS
from llm_label.watermark.scan import Scan, decision, family_wise, first_occurrences, scan, traces
from llm_label.watermark.schemes.gumbel import Gumbel
from tests.watermark.golden_gumbel import generate

KEY = Key.new("k", bytes(range(32)), Spec())


def vllm_key(key: int) -> Key:
    return Key.imported("vllm", key, Spec(variety="none"))


def test_a_text_of_vllm_scores_as_in_vllm() -> None:
    """vLLM tests/watermarking/watermarking_goldens.json (Apache-2.0), compared there at relative 1e-9."""
    ids = generate(42, 4, skip_repeats=True)
    found = scan(ids, vllm_key(42))
    assert (found.scored, found.skipped) == (64, 0)
    assert found.score == pytest.approx(296.2729578786, rel=1e-12)
    assert 10**found.log10_p == pytest.approx(7.128196280874e-61, rel=1e-9)
    other = scan(ids, vllm_key(43))
    assert other.score == pytest.approx(63.2509671659, rel=1e-12)
    assert 10**other.log10_p == pytest.approx(0.5208447936891, rel=1e-9)


@pytest.mark.parametrize(
    ("key", "width", "skip_repeats", "first", "score"),
    [
        (0, 1, True, [24, 42, 66, 26, 51, 107, 36, 25], 236.2768211235414),
        (2**32, 5, False, [21, 10, 73, 94, 19, 61, 85, 42], 263.04926919645095),
    ],
)
def test_other_keys_and_widths_generate_and_score_as_in_vllm(
    key: int, width: int, skip_repeats: bool, first: list[int], score: float
) -> None:
    ids = generate(key, width, skip_repeats)
    assert ids[:8] == first
    padded = np.lib.stride_tricks.sliding_window_view(np.array([-1] * width + ids), width)[:-1]
    chosen = first_occurrences(padded)
    word = PRFS[DEFAULT].words(key, padded[chosen], np.array(ids)[chosen])
    assert Gumbel().scores(word).sum() == pytest.approx(score, rel=1e-12)


def test_contexts_that_still_hold_padding_are_not_scored_by_default() -> None:
    ids = generate(42, 4, skip_repeats=True)
    found = scan(ids, Key.imported("vllm", 42, Spec(variety="default")))
    assert (found.scored, found.skipped) == (60, 4)


@pytest.mark.parametrize("length", range(5))
def test_texts_shorter_than_five_tokens_are_not_scored(length: int) -> None:
    assert scan(list(range(length)), KEY) == Scan(0.0, 0, length, 0.0)


def test_a_repeated_context_counts_once_at_its_first_occurrence() -> None:
    ids = [1, 2, 3, 4, 5, 1, 2, 3, 4, 6, 1, 2, 3, 4, 7]
    found = scan(ids, KEY)
    assert found.scored + found.skipped == len(ids)
    once = scan(ids[:9], KEY)
    assert once.scored == 5
    # (1,2,3,4) comes three times; 5 is scored, 6 and 7 are not
    assert found.scored == len({tuple(ids[i - 4 : i]) for i in range(4, len(ids))})


@pytest.mark.parametrize(("high", "width"), [(3, 4), (60_000, 4), (152_000, 4), (2**32 - 1, 4), (2**32 - 1, 16)])
@pytest.mark.parametrize("multiplier", [scan_module.MULTIPLIER, np.uint64(0)], ids=["hash", "collisions"])
def test_first_occurrences_equal_those_of_a_python_set(
    high: int, width: int, multiplier: np.uint64, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the hash is the last column alone and tells few contexts apart."""
    monkeypatch.setattr(scan_module, "MULTIPLIER", multiplier)
    rng = np.random.default_rng(high % 1000 + width)
    values = rng.integers(-1, high, 12)
    contexts = rng.choice(values, (2000, width))
    contexts[500:900] = contexts[:400]
    seen: set[tuple[int, ...]] = set()
    expected = []
    for n, row in enumerate(contexts.tolist()):
        if tuple(row) not in seen:
            seen.add(tuple(row))
            expected.append(n)
    assert first_occurrences(contexts).tolist() == expected


def test_keys_in_a_row_say_what_each_says_alone() -> None:
    ids = np.random.default_rng(5).integers(0, 12, 400)
    specs = [Spec(), Spec(variety="none"), Spec(scheme="bernoulli"), Spec(scheme="dual_gumbel"), Spec(scheme="synthid")]
    keys = [Key.new(str(n), bytes([n]) * 32, spec) for n, spec in enumerate([*specs, *specs])]
    assert [found.whole() for found in traces(ids, iter(keys))] == [scan(ids, key) for key in keys]


def test_an_auditor_without_the_root_finds_the_same() -> None:
    ids = np.random.default_rng(1).integers(0, 5000, 300)
    assert scan(ids, KEY.for_auditor()) == scan(ids, KEY)


@pytest.mark.parametrize("ids", [[1.5, 2.0], [[1, 2], [3, 4]], [-1, 2, 3], [2**32, 1]])
def test_what_is_no_list_of_token_ids_is_refused(ids: list[object]) -> None:
    with pytest.raises(ValueError, match="token ids"):
        scan(ids, KEY)  # type: ignore[arg-type]


def test_decisions() -> None:
    marked = Scan(200.0, 60, 4, -20.0)
    short = Scan(8.0, 8, 4, -0.5)
    plain = Scan(100.0, 100, 4, -0.3)
    assert decision(marked, KEY, 1e-6) == "marked"
    assert decision(marked, KEY, 1e-6, tests=10**15) == "insufficient"
    assert decision(short, KEY, 1e-6) == "insufficient"
    assert decision(plain, KEY, 1e-6) == "not_shown"
    assert decision(Scan(0.0, 0, 3, 0.0), KEY, 1e-6) == "insufficient"
    for alpha, tests in ((0.0, 1), (1.0, 1), (1e-6, 0)):
        with pytest.raises(ValueError, match="alpha"):
            decision(marked, KEY, alpha, tests)


@pytest.mark.parametrize("alpha", [1e-300, 1e-6, 0.05, 0.999])
@pytest.mark.parametrize("tests", [1, 3, 7, 1000, 10**9])
def test_marked_means_a_reported_p_of_at_most_alpha(alpha: float, tests: int) -> None:
    """To the last bit: around the limit the decision follows the figure that is printed."""
    middle = math.log10(alpha) - math.log10(tests)
    for steps in range(-4, 5):
        log10_p = middle + steps * math.ulp(middle)
        marked = decision(Scan(1.0, 1000, 4, log10_p), KEY, alpha, tests) == "marked"
        assert marked == (family_wise(log10_p, tests) <= math.log10(alpha))


def test_scanning_is_fast_enough_for_long_texts() -> None:
    """A loose bound (measured: over 1 M tokens/s on one core); it catches a fall back to Python loops."""
    ids = np.random.default_rng(2).integers(0, 151_936, 200_000)
    start = time.perf_counter()
    scan(ids, KEY)
    assert time.perf_counter() - start < 3.0
