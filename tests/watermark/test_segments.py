"""Windows: found where the mark is, paid for in full, and never a reason for more false alarms."""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from llm_label.watermark import segments
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import scan, trace
from llm_label.watermark.segments import LEAST, WHOLE, Search, search
from tests.verify.marking import marked_ids
from tests.watermark.test_null_law import periodic, plain, templated, two_letters

SCHEMES = ("gumbel", "dual_gumbel", "bernoulli", "synthid")
CANDIDATES = list(range(1000, 1400))
TEXTS = 800


def key_of(scheme: str = "gumbel", id: str = "k") -> Key:
    return Key.new(id, bytes(range(32)), Spec(scheme=scheme))


def human(length: int, seed: int = 0) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(0, 150_000, length)]


def all_windows(scored: int) -> list[tuple[int, int, float]]:
    """Spell out what the docstring says: every test with its share."""
    lengths = [
        length for k in range(30) for length in (LEAST * 2**k, LEAST * 3 * 2**k // 2) if 4 * length <= 3 * scored
    ]
    found = [(0, scored, WHOLE if lengths and scored >= 2 * LEAST else 1.0)]
    if scored < 2 * LEAST:
        return found
    for length in lengths:
        starts = sorted({*range(0, scored - length + 1, length // 4), scored - length})
        found += [(start, start + length, (1 - WHOLE) / len(lengths) / len(starts)) for start in starts]
    return found


# the correction


@pytest.mark.parametrize("scored", [0, 1, 31, 32, 33, 64, 100, 500, 5000])
def test_the_shares_of_all_tests_add_up_to_one(scored: int) -> None:
    spelled = all_windows(scored)
    assert sum(share for *_, share in spelled) == pytest.approx(1.0)
    made = [(int(s), int(s) + w.length, 10**w.log10_share) for w in segments._lengths(scored) for s in w.starts]
    assert np.allclose(np.array(made).reshape(-1, 3), np.array(spelled[1:]).reshape(-1, 3))
    if scored:
        assert len(made) < scored


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("marked", [False, True])
def test_p_is_the_least_of_all_tests_each_divided_by_its_share(scheme: str, marked: bool) -> None:
    """Spelled out: every window under its exact law. What the screen leaves out is above 0.01."""
    key = key_of(scheme)
    writer = key if scheme != "synthid" else key_of("gumbel")
    doc = human(150)[:100] + (marked_ids(writer, CANDIDATES, 60, 1) if marked else human(60, 3)) + human(150)[100:]
    found = trace(doc, key)
    least = min(
        found.log10_p(start, stop, float(found.scores[start:stop].sum())) - math.log10(share)
        for start, stop, share in all_windows(len(found.scores))
    )
    got = search(doc, key)
    assert got.tests == len(all_windows(len(found.scores)))
    if least <= -2.0:
        assert got.log10_p == pytest.approx(least, abs=1e-9)
    else:
        assert got.log10_p >= min(0.0, least) - 1e-9


def test_a_text_marked_throughout_loses_a_tenth() -> None:
    key = key_of()
    for length in (60, 200, 800):
        ids = marked_ids(key, CANDIDATES, length, 2)
        assert search(ids, key).log10_p == pytest.approx(scan(ids, key).log10_p - math.log10(WHOLE))


def test_a_short_text_pays_nothing() -> None:
    for length in (0, 5, 35):
        ids = human(length)
        assert (search(ids, key_of()).log10_p, search(ids, key_of()).tests) == (scan(ids, key_of()).log10_p, 1)


@pytest.mark.parametrize("text", [plain, periodic, templated, two_letters])
@pytest.mark.parametrize("scheme", ["gumbel", "bernoulli"])
def test_p_of_unmarked_ids_stays_a_p(text: Callable[[np.random.Generator], np.ndarray], scheme: str) -> None:
    """A fresh key a text; for a random seed the chance of failing is below 1e-6 a level, 3e-5 in all."""
    rng = np.random.default_rng(20261122)
    spec = Spec(scheme=scheme)
    found = np.array([search(text(rng), Key.new("n", rng.bytes(32), spec)).log10_p for _ in range(TEXTS)])
    for level in (0.1, 0.01, 0.001):
        assert (found <= np.log10(level)).sum() <= stats.binom.isf(1e-6, TEXTS, level)


@pytest.mark.parametrize("text", [plain, templated])
@pytest.mark.parametrize("scheme", ["dual_gumbel", "synthid"])
def test_p_stays_a_p_under_the_slower_schemes(text: Callable[[np.random.Generator], np.ndarray], scheme: str) -> None:
    rng = np.random.default_rng(20261123)
    spec = Spec(scheme=scheme)
    found = np.array([search(text(rng), Key.new("n", rng.bytes(32), spec)).log10_p for _ in range(TEXTS // 4)])
    for level in (0.1, 0.01, 0.001):
        assert (found <= np.log10(level)).sum() <= stats.binom.isf(1e-6, TEXTS // 4, level)


def test_the_least_p_of_windows_that_are_not_paid_for_would_be_no_p() -> None:
    """The wrong way, shown to be wrong (what WinMax does): nominal 1 %, and a third of all texts."""
    rng = np.random.default_rng(4)
    low = 0
    for _ in range(200):
        found = trace(plain(rng), Key.new("n", rng.bytes(32), Spec()))
        low += any(
            found.log10_p(start, stop, float(found.scores[start:stop].sum())) <= -2.0
            for start, stop, _ in all_windows(len(found.scores))
        )
    assert low > 20  # expected of a p-value: 2


@pytest.mark.parametrize("scheme", ["gumbel", "dual_gumbel", "bernoulli"])
def test_what_the_screen_leaves_out_is_unremarkable(scheme: str) -> None:
    """The highest score that is screened out has an exact p, its share paid, above 0.01."""
    key = key_of(scheme)
    for scored in (40, 500, 20_000):
        for length, _, share in segments._lengths(scored):
            if length <= segments._LONG:
                critical = segments.critical_score(key.spec.rules, length, float(segments._decade(share)))
                assert key.spec.rules.log10_tail(length, critical) - share > -2.0


# spans


def inside(found: Search, level: float = -6.0) -> list[tuple[int, int]]:
    return [(span.first, span.last) for span in found.spans(level)]


@pytest.mark.parametrize("scheme", ["gumbel", "dual_gumbel"])
def test_two_pasted_passages_are_found_to_within_a_few_tokens(scheme: str) -> None:
    key = key_of(scheme)
    mark = marked_ids(key, CANDIDATES, 500, 1)
    doc = human(1500)[:700] + mark[:300] + human(1500)[700:1200] + mark[300:] + human(1500)[1200:]
    found = inside(search(doc, key))
    assert np.abs(np.array(found) - [(700, 1000), (1500, 1700)]).max() <= 8
    assert all(span.log10_p <= -6 for span in search(doc, key).spans(-6.0))


def test_a_coin_s_passage_is_found_if_less_sharply() -> None:
    key = key_of("bernoulli")
    doc = human(2000)[:700] + marked_ids(key, CANDIDATES, 300, 1) + human(2000)[700:]
    found = np.array(inside(search(doc, key)))
    assert abs(found.min() - 700) < 40 and abs(found.max() - 1000) < 40


def test_a_passage_that_the_whole_text_hides_is_found() -> None:
    """Thirty marked tokens in ten thousand."""
    key = key_of()
    doc = human(10_000)[:2500] + marked_ids(key, CANDIDATES, 30, 5) + human(10_000)[2500:]
    found = search(doc, key)
    assert found.whole.log10_p > -6.0 and found.log10_p < -6.0
    ((start, end),) = inside(found)
    assert abs(start - 2500) <= 8 and abs(end - 2530) <= 8


def test_a_text_marked_throughout_is_one_span() -> None:
    key = key_of()
    for length in (30, 100, 1000):
        assert inside(search(marked_ids(key, CANDIDATES, length, 3), key), -4.0) == [(0, length)]


@pytest.mark.parametrize("seed", range(5))
def test_people_s_words_between_two_passages_are_not_claimed(seed: int) -> None:
    """Half as many as either passage has: no window over both wins."""
    key = key_of()
    first, second = (marked_ids(key, CANDIDATES, 200, 2 * seed + n) for n in (1, 2))
    found = inside(search(human(100 + 7 * seed, seed) + first + human(100, 50) + second, key))
    start = 100 + 7 * seed
    assert np.abs(np.array(found) - [(start, start + 200), (start + 300, start + 500)]).max() <= 8


@pytest.mark.parametrize("length", [40, 100, 6000])
def test_people_s_words_that_are_said_again_between_two_passages_are_not_claimed(length: int) -> None:
    """Nothing counts in them, so the two are one stretch of what counts."""
    key, said = key_of(), human(length)
    first, second = (marked_ids(key, CANDIDATES, 200, n) for n in (1, 2))
    doc = [*said, *first, *said, *second]
    found = search(doc, key)
    truth = [(length, length + 200), (2 * length + 200, 2 * length + 400)]
    assert np.abs(np.array(inside(found)) - truth).max() <= 8
    # each part's p is that of one of the windows that were paid for
    scores = found.trace.scores
    paid = [
        found.trace.log10_p(start, stop, float(scores[start:stop].sum())) - math.log10(share)
        for start, stop, share in all_windows(len(scores))
    ]
    assert all(np.isclose(span.log10_p, paid).any() for span in found.spans(-6.0))


def test_a_part_that_is_nothing_by_itself_is_not_claimed() -> None:
    """Eight tokens behind words of others; with the passage before them they would pass."""
    key, said, mark = key_of(), human(300), marked_ids(key_of(), CANDIDATES, 208, 1)
    assert inside(search([*said, *mark[:200], *said, *mark[200:]], key)) == [pytest.approx((300, 500), abs=6)]


def test_a_mark_s_own_words_go_with_it_and_few_words_with_what_surrounds_them() -> None:
    key, said = key_of(), human(100)
    first, second = (marked_ids(key, CANDIDATES, 200, n) for n in (1, 2))
    assert inside(search([*said, *first, *first[:60], *second], key)) == [pytest.approx((100, 560), abs=6)]
    assert inside(search([*said, *first, *said[:LEAST], *second], key)) == [pytest.approx((100, 516), abs=6)]


@pytest.mark.parametrize("place", ["head", "tail"])
def test_a_line_of_one_word_at_an_end_is_not_claimed(place: str) -> None:
    """It has one score or five, fewer than could tell it from the passage."""
    mark, line = marked_ids(key_of(), CANDIDATES, 200, 1), [7] * 1000
    ((start, end),) = inside(search(line + mark if place == "head" else mark + line, key_of()))
    assert (start, end) == pytest.approx((1000, 1200) if place == "head" else (0, 200), abs=8)


def test_people_s_words_that_are_said_again_at_the_end_are_not_claimed() -> None:
    """Nothing counts in them, so there is no score that would end the passage before them; its own words go on."""
    marked, boilerplate = marked_ids(key_of(), CANDIDATES, 120, 1), human(300)
    assert inside(search([*boilerplate, *marked, *boilerplate], key_of())) == [pytest.approx((300, 420), abs=6)]
    assert inside(search([*boilerplate, *marked, *marked], key_of())) == [pytest.approx((300, 540), abs=6)]


@pytest.mark.parametrize("place", ["head", "tail"])
def test_a_passage_at_an_end_reaches_to_the_end(place: str) -> None:
    key = key_of()
    mark, rest = marked_ids(key, CANDIDATES, 100, 6), human(900)
    ((start, end),) = inside(search(mark + rest if place == "head" else rest + mark, key))
    assert (start == 0 and abs(end - 100) <= 8) if place == "head" else (abs(start - 900) <= 8 and end == 1000)


def test_two_keys_find_their_own_passages() -> None:
    first, second = key_of(id="a"), Key.new("b", bytes(range(1, 33)), Spec())
    doc = human(300) + marked_ids(first, CANDIDATES, 150, 1) + human(300, 1) + marked_ids(second, CANDIDATES, 150, 2)
    for key, truth in ((first, (300, 450)), (second, (750, 900))):
        assert np.abs(np.array(inside(search(doc, key))) - [truth]).max() <= 8


def test_unmarked_text_has_no_spans() -> None:
    assert search(human(3000), key_of()).spans(-6.0) == ()
    assert search([], key_of()).spans(-6.0) == ()


@pytest.mark.parametrize("seed", range(8))
def test_spans_are_in_order_disjoint_and_inside_the_text(seed: int) -> None:
    """Whatever is marked: passages of all lengths and strengths at random."""
    rng, key = np.random.default_rng(seed), key_of()
    found = trace(human(3000, seed), key)
    scores = found.scores.copy()
    for _ in range(rng.integers(1, 8)):
        start, length = rng.integers(0, 2900), rng.integers(16, 600)
        scores[start : start + length] *= rng.uniform(1.3, 4.0)
    changed = dataclasses.replace(found, scores=scores)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "traces", lambda *_: iter([changed]))
        got = search([], key)
    spans = got.spans(-6.0)
    assert bool(spans) == (got.log10_p <= -6.0)
    ends = [place for span in spans for place in (span.first, span.last)]
    assert ends == sorted(ends) and all(0 <= place <= 3000 for place in ends)
    assert all(span.log10_p <= -6.0 and span.last - span.first >= span.scored > 0 for span in spans)


def test_synthid_passages_are_judged_by_the_law_of_their_own_tokens() -> None:
    key = key_of("synthid")
    rules = key.spec.rules
    rng = np.random.default_rng(8)
    ids: list[int] = human(400)
    for _ in range(120):  # the best of four candidates, as a tournament would have it
        near = rng.integers(0, 50_000, 4)
        contexts = np.array([ids[-4:]] * 4)
        ids.append(int(near[np.argmax(rules.token_scores(key.scheme_key(), contexts, near))]))
    ids += human(400, 1)
    found = search(ids, key)
    ((start, end),) = inside(found)
    assert abs(start - 400) < 30 and abs(end - 520) < 30
    assert found.log10_p < found.whole.log10_p


# speed


def test_windows_cost_less_than_the_scores() -> None:
    """A loose bound (measured: a tenth more); it catches a tail for every window."""
    key, ids = key_of(), human(200_000)
    start = time.perf_counter()
    search(ids, key)
    assert time.perf_counter() - start < 3.0


def test_some_window_fits_every_passage_well() -> None:
    """o²/(L·s), the share of a faint passage's evidence that a window has, of the best one: three quarters or more."""
    rng, lengths = np.random.default_rng(9), segments._lengths(20_000)
    shares = []
    for _ in range(400):
        size = int(np.exp(rng.uniform(np.log(LEAST), np.log(5000))))
        start = int(rng.integers(0, 20_000 - size))
        best = 0.0
        for length, starts, _ in lengths:
            common = np.minimum(starts + length, start + size) - np.maximum(starts, start)
            best = max(best, max(0, int(common.max())) ** 2 / (length * size))
        shares.append(best)
    assert min(shares) > 0.75 and np.mean(shares) > 0.85
