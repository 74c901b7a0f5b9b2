"""Twenty ways in which published watermark tools go wrong, one test each: the wrong way is shown to be wrong, ours right.

The list was made by reading the sources and the bug reports of the toolkits that people use (transformers, MarkLLM,
lm-watermarking, synthid-text, three_bricks, textseal, vLLM and its plug-ins, TGI) and by computing, with exact
distributions, how large each error is. The wrong way stands in each test in a line or two, so that its size can be
seen. A mistake of plug-ins is shown on real transformers code with a toy model, and skipped without torch; a mistake of
services on the real endpoint.

Keys, texts and draws are fixed by seeds. Where a count is compared with chance, the bound is the 1 − 1e-6 quantile.
"""

import json
import math
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from llm_label.errors import MarkError
from llm_label.keyfile import write_keyring
from llm_label.verify.detector import Detector
from llm_label.watermark import choice, prf, tournament
from llm_label.watermark.calibrate import p_values
from llm_label.watermark.families import families
from llm_label.watermark.intervals import clopper_pearson
from llm_label.watermark.keyring import Key, Keyring, Spec
from llm_label.watermark.scan import decision, family_wise, scan
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label.watermark.schemes.dual_gumbel import DualGumbel
from llm_label.watermark.schemes.gumbel import Gumbel
from llm_label.watermark.schemes.synthid import SynthID
from llm_label.watermark.tails import binomial_log10_sf, dual_gamma_log10_sf, gamma_log10_sf
from tests.proxy.running import proxy, whole
from tests.verify.marking import VOCABULARY, key_for, plain_text, toy_tokenizer
from tests.watermark.golden_synthid import imported
from tests.watermark.writer import Writer, fresh_keys

LEVELS = (0.05, 0.01, 1e-3, 1e-4, 1e-6)
CHANCE = 1e-6


def key_of(number: int, **spec: Any) -> Key:
    return Key.new("pitfall", number.to_bytes(32, "big"), Spec(**spec))


def winners(key: Key, contexts: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Race logits [r, v] after contexts [r, 4]."""
    return choice.winners(key.streams()[0], contexts, logits.astype(np.float32))


def distance(drawn: np.ndarray, expected: np.ndarray) -> float:
    """Return the total variation between the frequencies of drawn tokens and a distribution [v]."""
    return float(0.5 * np.abs(np.bincount(drawn, minlength=len(expected)) / len(drawn) - expected).sum())


def by_chance(expected: np.ndarray, draws: int) -> float:
    """Bound the distance of an honest sample: its mean is at most the sum; McDiarmid (1989) gives the rest, 1e-6."""
    mean = 0.5 * np.sqrt(expected * (1.0 - expected) / draws).sum()
    return float(mean + math.sqrt(math.log(1.0 / CHANCE) / (2.0 * draws)))


def softmax(logits: np.ndarray) -> np.ndarray:
    weight = np.exp(logits - logits.max())
    return weight / weight.sum()


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    """Give a toy model of real transformers code."""
    for needed in ("torch", "transformers"):
        pytest.importorskip(needed, reason=f"the plug-in of transformers needs {needed}")
    from tests.adapters.toy import one_thread

    with one_thread() as toy_model:
        yield toy_model


@pytest.mark.parametrize(("times", "size"), [(2, 0.049), (3, 0.086), (5, 0.143)])
def test_01_repeats_are_counted_once(times: int, size: float) -> None:
    """A passage of 100 tokens that stands several times: counted each time, a level of 1 % is 5 to 14 %."""
    wrong = stats.gamma.sf(stats.gamma.isf(0.01, 100 * times) / times, 100)
    assert wrong == pytest.approx(size, abs=1e-3)
    passage = np.random.default_rng(1).integers(0, 50_000, 100)
    once, again = scan(np.resize(passage, 104), key_of(1)), scan(np.tile(passage, times), key_of(1))
    assert (again.scored, again.skipped) == (once.scored, 100 * times - 100) == (100, 100 * times - 100)
    assert again.log10_p == pytest.approx(once.log10_p, rel=1e-9)


@pytest.mark.parametrize(("n", "size"), [(25, 2.15e-4), (50, 1.23e-4), (100, 6.4e-5), (400, 5.6e-5)])
def test_02_counts_have_a_binomial_tail_not_a_normal_one(n: int, size: float) -> None:
    """z >= 4 over green tokens of chance 1/4 promises 3.2e-5."""
    level, z_of_4 = float(stats.norm.sf(4)), math.ceil(n / 4 + 4 * math.sqrt(n * 3 / 16))
    assert stats.binom.sf(z_of_4 - 1, n, 0.25) == pytest.approx(size, rel=0.02)
    rules = Bernoulli(gamma=0.25)
    least = next(count for count in range(n + 1) if rules.log10_tail(n, count) <= math.log10(level))
    assert least > z_of_4 and stats.binom.sf(least - 1, n, 0.25) <= level


def test_03_a_fixed_score_means_another_rate_at_every_length() -> None:
    """A mean g above 0.52 over 30 layers, whatever the length; and one above 0.5184 over few layers, or many."""
    wrong = [stats.binom.sf(math.floor(0.52 * 30 * n), 30 * n, 0.5) for n in (20, 50, 100, 200)]
    assert wrong == pytest.approx([0.15, 0.058, 0.014, 9.3e-4], rel=0.06)
    of_layers = [stats.binom.sf(math.floor(0.5184 * 200 * m), 200 * m, 0.5) for m in (8, 30)]
    assert of_layers == pytest.approx([0.07, 0.002], rel=0.15)
    rules = SynthID(statistic="mean")
    share = float(tournament.folded_table("cpu", 0, 65536).mean())
    means = []
    for n in (20, 50, 100, 200):
        score = next(s for s in range(15 * n, 30 * n) if rules.log10_tail(n, s) <= -3)
        assert 0.7e-3 < stats.binom.sf(score - 1, 30 * n, share) <= 1e-3
        means.append(score / (30 * n))
    assert means == sorted(means, reverse=True) and means[0] > 0.55 > 0.52 > means[-1]


@pytest.mark.parametrize(("z", "times"), [(4, 1.6), (5, 4.7), (6, 17)])
def test_04_a_tail_without_its_square_root_is_too_small(z: int, times: float) -> None:
    """Polya's approximation has a root over 1 − exp(−2z²/π); left out, p at z = 6 is a seventeenth of what it is."""
    wrong = 0.5 * math.exp(-2 * z**2 / math.pi)
    assert stats.norm.sf(z) / wrong == pytest.approx(times, rel=0.06)
    n = 100_000  # so many that the normal tail is nearly right
    count = math.ceil(n / 2 + z * math.sqrt(n / 4))
    ours = 10 ** binomial_log10_sf(n, 0.5, count)
    assert ours == pytest.approx(stats.binom.sf(count - 1, n, 0.5), rel=1e-9)
    assert ours > 0.8 * times * wrong


def test_05_the_variance_is_that_of_the_score() -> None:
    """Scores are exponential, of variance 1; with π²/6, Gumbel's own, a level of 1e-6 becomes 3e-8: power thrown away."""
    n, sigma = 200, math.pi / math.sqrt(6)
    thresholds = [n + stats.norm.isf(level) * sigma * math.sqrt(n) for level in (0.05, 0.01, 1e-4, 1e-6)]
    assert [stats.gamma.sf(t, n) for t in thresholds] == pytest.approx([0.021, 0.0024, 7e-6, 3e-8], rel=0.06)
    for level in LEVELS:
        assert Gumbel().log10_tail(n, stats.gamma.isf(level, n)) == pytest.approx(math.log10(level), rel=1e-9)
    drawn = Gumbel().scores(np.random.default_rng(5).integers(0, 2**32, 100_000, dtype=np.uint32))
    assert drawn.var() == pytest.approx(1.0, abs=6 * math.sqrt(8 / 100_000))  # of an exponential's variance


def test_06_the_same_seed_on_another_device_is_another_mark() -> None:
    """A device's own generator decides half of the bits anew: a text marked on one is invisible on the other."""
    seeded = [tournament.sampling_table(device, 0, 65536) for device in ("cpu", "cuda")]
    assert 0.48 < (seeded[0] == seeded[1]).mean() < 0.52
    keys, rng, ids = [*range(5, 305, 10)], np.random.default_rng(6), [1, 2, 3, 4]
    on_cpu, on_cuda = (imported(keys, sampling_table=device) for device in ("cpu", "cuda"))
    for _ in range(60):  # of eight tokens the one with most ones
        context, candidates = np.repeat([ids[-4:]], 8, axis=0), rng.integers(0, 50_000, 8)
        scores = on_cpu.spec.rules.token_scores(on_cpu.scheme_key(), context, candidates)
        ids.append(int(candidates[np.argmax(scores)]))
    assert scan(ids, on_cpu).log10_p < -20 and scan(ids, on_cuda).log10_p > -3
    # ours: whole numbers, alike everywhere; these are vLLM's published values, and a spec names the table it needs
    context, tokens = np.array([[1, 2, 3, 4], [4, 5, 6, 7]]), np.array([7, 7])
    words = Key.imported("k", 42, Spec()).streams()[0].words(context, tokens)
    assert words.tolist() == [425429266, 2494036831]


def test_06_torch_has_the_same_words_or_refuses(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark is made on any device that computes the integers right, and on no other."""
    import torch
    from llm_label_transformers import race, racing

    logits = torch.randn(6, 700, generator=torch.Generator().manual_seed(6))
    contexts = np.random.default_rng(6).integers(0, 700, (6, 4))
    stream = key_of(6).streams()[0]
    assert torch.equal(
        racing.winners_on_device(stream, contexts, logits), racing.winners_on_host(stream, contexts, logits)
    )
    right = race.candidate_words
    race.check_device.cache_clear()
    monkeypatch.setattr(race, "candidate_words", lambda *given: right(*given) ^ 1)
    with pytest.raises(MarkError, match="does not compute the watermark's integers right"):
        racing.winners_on_device(stream, contexts, logits)
    race.check_device.cache_clear()


def permuted(size: int, count: int) -> list[int]:
    """Return the first of a permutation as torch.randperm makes it on a CPU."""
    order = list(range(size))
    for i, word in enumerate(np.random.RandomState(7).randint(0, 2**32, count, dtype=np.uint32).tolist()):
        j = i + word % (size - i)
        order[i], order[j] = order[j], order[i]
    return order[:count]


def test_07_the_size_of_the_vocabulary_does_not_matter() -> None:
    """A head padded from 151,643 to 151,936 rows makes another list of a quarter of all tokens; words stay."""
    lists = [permuted(size, size // 4) for size in (151_643, 151_936)]
    assert np.isin(lists[0], lists[1]).mean() == pytest.approx(0.25, abs=0.01)  # what chance gives
    rng = np.random.default_rng(8)
    contexts, logits = rng.integers(0, 3000, (20, 4)), rng.normal(size=(20, 3001))
    padded = np.concatenate([logits, np.full((20, 95), -np.inf)], axis=1)
    assert np.array_equal(winners(key_of(7), contexts, logits), winners(key_of(7), contexts, padded))


@pytest.mark.parametrize("scheme", ["gumbel", "bernoulli", "synthid"])
def test_07_a_padded_head_changes_nothing_in_the_plug_in(model: Any, scheme: str) -> None:
    import torch
    from llm_label_transformers import watermarking_config

    scores = torch.randn(2, 500, generator=torch.Generator().manual_seed(7))
    padded = torch.cat([scores, torch.full((2, 12), -torch.inf)], dim=1)
    ids, out = torch.tensor([[1], [2]]), []
    for size, given in ((500, scores), (512, padded)):
        processor = watermarking_config(key_of(7, scheme=scheme), "none").construct_processor(size)
        marked = processor(ids, given).as_subclass(torch.Tensor)  # type: ignore[arg-type]
        assert (marked[:, 500:] == -torch.inf).all()
        out.append(torch.softmax(marked[:, :500], dim=-1))
    assert torch.equal(*out)


def test_08_the_prompt_is_in_no_context() -> None:
    """Seeded by the prompt's last tokens, the first tokens of an answer cannot be read without the prompt."""
    rng, spec = np.random.default_rng(8), Spec(variety="none")
    sums = {"prompt": 0.0, "none": 0.0}
    for number in range(50):
        key = Key.new("k", number.to_bytes(32, "big"), spec)
        for way, before in (("prompt", rng.integers(0, 64, 4).tolist()), ("none", [-1] * 4)):
            ids = list(before)
            for _ in range(4):
                ids.append(int(winners(key, np.array([ids[-4:]]), np.zeros((1, 64)))[0]))
            found = scan(ids[4:], key)
            assert found.scored == 4
            sums[way] += found.score
    assert gamma_log10_sf(200, sums["prompt"]) > -3, "unmarked to every reader who has the answer alone"
    assert sums["none"] / 200 == pytest.approx(sum(1 / k for k in range(1, 65)), abs=0.5)  # the full score, 4.74


def test_09_the_watermark_comes_after_temperature_and_truncation(model: Any) -> None:
    """Raced before them, a token is drawn from another distribution: here every fourth, some that top-p cuts off."""
    import torch
    from llm_label_transformers.racing import RaceLogitsProcessor
    from transformers import GenerationConfig

    logits = torch.tensor([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -1.5])
    warpers = model._get_logits_processor(GenerationConfig(do_sample=True, temperature=0.6, top_k=0, top_p=0.9))
    rows = 4000
    wanted = softmax(warpers(torch.zeros(1, 1, dtype=torch.long), logits[None])[0].double().numpy())

    def draw(warped_first: bool) -> np.ndarray:
        processor, scores = RaceLogitsProcessor(key_of(9), "default"), logits.expand(rows, 8)
        ids = torch.randint(0, 50_000, (rows, 6), generator=torch.Generator().manual_seed(9))
        for length in (2, 3, 4, 5):  # a prompt of two, then four tokens of the sampler's
            processor(ids[:, :length], scores)  # type: ignore[arg-type]
        if warped_first:
            scores = processor(ids, warpers(ids, scores))  # type: ignore[arg-type]
        else:
            scores = warpers(ids, processor(ids, scores).as_subclass(torch.Tensor))  # type: ignore[arg-type]
        return np.asarray(torch.multinomial(torch.softmax(scores, dim=-1), 1)[:, 0])

    wrong, ours = draw(False), draw(True)
    assert distance(wrong, wanted) > 0.2 and (wanted[wrong] == 0).any()
    assert distance(ours, wanted) < by_chance(wanted, rows) and (wanted[ours] > 0).all()


def test_10_a_watermark_that_is_named_twice_is_not_applied_twice(model: Any) -> None:
    """Named by an entry point and by a flag, a bias of 2 becomes 4; ours has one door, and nothing opens it unasked."""
    import torch
    from llm_label_transformers import watermarking_config
    from llm_label_transformers.completion import CompletionProcessor
    from transformers import GenerationConfig

    ids, scores = torch.tensor([[5, 6]]), torch.zeros(1, 64)
    key = key_of(10, scheme="bernoulli")
    once, again = (watermarking_config(key, "none").construct_processor(64) for _ in range(2))
    assert float(again(ids, once(ids, scores)).max()) == 4.0 and float(once(ids, scores).max()) == 2.0  # type: ignore[arg-type]
    config = watermarking_config(key)
    made = model._get_logits_processor(GenerationConfig(do_sample=True, watermarking_config=config))
    assert [isinstance(one, CompletionProcessor) for one in made].count(True) == 1
    for project in (Path(__file__).parents[2] / "pyproject.toml", *Path(__file__).parents[2].glob("adapters/*/*.toml")):
        doors = tomllib.loads(project.read_text(encoding="utf-8"))["project"].get("entry-points", {})
        assert set(doors) <= {"llm_label.upstreams"}, "an engine loads every other entry point that it knows"
    config = watermarking_config(key_of(10))
    with pytest.raises(MarkError, match="plain sampling"):  # a race that is run twice says so
        model.generate(
            ids,
            do_sample=True,
            max_new_tokens=8,
            logits_processor=[config.construct_processor(512)],
            watermarking_config=config,
        )


def test_11_a_context_that_comes_again_is_left_to_the_sampler() -> None:
    """Marked each time, a Markov chain of eight tokens runs into a loop; each context once, it is as varied as ever."""
    rows, steps = 150, 160
    chain = np.random.default_rng(11).dirichlet(np.full(8, 0.6), 8)

    def write(scheme: str | None, once: bool) -> np.ndarray:
        return Writer(scheme, fresh_keys(rows), once=once).write(chain, steps, np.random.default_rng(12))

    def variety(ids: np.ndarray) -> np.ndarray:
        """Return the share of distinct 4-grams in the last 100 tokens of each row."""
        grams = np.lib.stride_tricks.sliding_window_view(ids[:, -100:], 4, axis=1)
        return np.array([len(np.unique(row, axis=0)) / len(row) for row in grams])

    plain, wrong, ours = (variety(write(*how)) for how in ((None, True), ("gumbel", False), ("gumbel", True)))
    assert wrong.mean() < 0.6 * plain.mean()
    assert abs(ours.mean() - plain.mean()) < 6 * math.hypot(ours.std(), plain.std()) / math.sqrt(rows)


def win_chance(values: int, p: float) -> float:
    """Return how often a token of probability p wins the race against all the rest, with u = k / (values + 1)."""
    rest = np.linspace(1, values, min(values, 65_536)).round() / (values + 1)  # u of the rest
    beats = values - np.floor((values + 1) * rest ** (p / (1.0 - p)))  # how many u of the token do
    return float(beats.mean() / values)


@pytest.mark.parametrize(("p", "most"), [(1e-5, 0.0), (1e-4, 0.85)])
def test_12_few_values_of_the_prf_starve_rare_tokens(p: float, most: float) -> None:
    """With 8,191 values a token of probability 1e-5 is never drawn; with 2^24 it is, as often as it should be."""
    assert win_chance(8190, p) / p <= most
    assert win_chance(2**24, p) / p == pytest.approx(1.0, abs=0.01)
    every = prf.uniforms(np.arange(0, 2**32, 2**12, dtype=np.uint64).astype(np.uint32))
    assert len(np.unique(every)) == 2**20, "words that differ in their first 24 bits are different numbers"


def test_13_logarithms_are_of_float64_and_p_is_a_logarithm() -> None:
    """In float32 the last 128 words are 1.0, whose score is infinite; and p of a long marked text is 0.0."""
    last = np.array([2**32 - 1, 2**32 - 100], dtype=np.uint32)
    with np.errstate(divide="ignore"):
        assert np.isinf(-np.log(np.float32(1.0) - (last / 2**32).astype(np.float32))).all()
    assert Gumbel().scores(last) == pytest.approx([math.log(2**24 + 1)] * 2, rel=1e-6)  # 16.64, and no more
    n, score = 2000, 6000.0
    assert stats.gamma.sf(score, n) == 0.0
    found = gamma_log10_sf(n, score)
    mass = ((n - 1) * math.log(score) - score - math.lgamma(n)) / math.log(10)  # the largest term of the sum
    chernoff = (n * (1 - score / n + math.log(score / n))) / math.log(10)
    assert mass < found < chernoff < -700


def test_14_a_maximum_pays_for_all_it_looked_at() -> None:
    """The best of ten keys reaches 1 % in a tenth of all texts; corrected, in no more than 1 %."""
    rng, texts, keys, n = np.random.default_rng(14), 400, 10, 60
    contexts, tokens = rng.integers(0, 50_000, (n, 4)), rng.integers(0, 50_000, n)  # keys are what is random
    each = np.repeat(rng.integers(0, 2**64, texts * keys, dtype=np.uint64), n)
    scores = Gumbel().token_scores(each, np.tile(contexts, (texts * keys, 1)), np.tile(tokens, texts * keys))
    p = [gamma_log10_sf(n, score) for score in scores.reshape(-1, n).sum(axis=1).tolist()]
    best = np.array(p).reshape(texts, keys).min(axis=1)
    assert (best <= -2).sum() > stats.binom.isf(CHANCE, texts, 0.01)  # 0.0956 is expected
    assert (best <= -2).mean() == pytest.approx(1 - 0.99**10, abs=0.04)
    ours = np.array([family_wise(p, 10) for p in best])
    assert (ours <= -2).sum() <= stats.binom.isf(CHANCE, texts, 0.01)


def test_15_a_mid_p_value_is_no_p_value() -> None:
    """Half of the observed count's own chance left out: the true rate is up to 1.3 times the level, and more at 1e-6."""
    worst = {"mid": 0.0, "ours": 0.0}
    for n in (20, 50, 100, 200, 400):
        counts = np.arange(n + 1)
        tail = stats.binom.sf(counts - 1, n, 0.5)  # P(X >= count)
        mid = tail - 0.5 * stats.binom.pmf(counts, n, 0.5)
        ours = np.array([10 ** binomial_log10_sf(n, 0.5, count) for count in counts.tolist()])
        for level in LEVELS:
            for way, p in (("mid", mid), ("ours", ours)):
                rate = tail[p <= level * (1 + 1e-12)].max(initial=0.0)
                worst[way] = max(worst[way], rate / level)
    assert worst["mid"] > 1.25
    assert 0.5 < worst["ours"] <= 1.0 + 1e-9


def test_16_letters_of_one_template_share_their_luck() -> None:
    """Every letter counted for itself, one unlucky key looks like forty false alarms; the unit is a family."""
    rng, keys = np.random.default_rng(16), 300
    template = rng.integers(0, 50_000, 120)
    letters = np.tile(template, (40, 1))
    for letter in letters:
        letter[rng.integers(0, 120, 2)] = rng.integers(0, 50_000, 2)
    found = np.array([scan(template, key_of(1600 + number)).log10_p for number in range(keys)])
    unlucky = key_of(1600 + int(found.argmin()))
    flagged = int((p_values(letters, unlucky) <= -2).sum())
    assert flagged > 30
    assert clopper_pearson(flagged, 40, 0.999)[0] > 0.5, "the wrong way: the rate would be over a half"
    assert set(families(list(letters), 4)) == {0}, "calibrate takes them for one family"
    low, high = clopper_pearson(int((found <= -2).sum()), keys, 0.999)  # one letter of a family a key
    assert low < 0.01 < high


def test_17_no_mark_found_is_never_called_human(tmp_path: Path) -> None:
    """Where the model is sure of each token, a marked text shows nothing; and a short one shows nothing either."""
    rng, key = np.random.default_rng(17), key_of(17)
    ids = rng.integers(0, 500, 204)
    for at in range(4, 204):  # the model gives 0.999 to the token that stands there, the rest to one other
        logits = np.full((1, 1000), -np.inf)
        logits[0, [ids[at], ids[at] + 500]] = np.log([0.999, 0.001])
        ids[at] = winners(key, ids[None, at - 4 : at], logits)[0]
    found = scan(ids, key)
    assert found.scored == 200 and found.log10_p > -2, "marked, and yet nothing to see"
    assert decision(scan(ids[:16], key), key, 1e-6) == "insufficient"
    toy = toy_tokenizer(tmp_path)
    detector = Detector(Keyring((key_for(toy),)), frozenset())
    long, short = (detector.detect(plain_text(words)) for words in (200, 12))
    assert (long.verdict, short.verdict) == ("not_found", "inconclusive")
    assert long.wording["en"] == "No mark was found. That says nothing about who or what wrote the text."
    assert not any("human" in verdict.wording["en"] or "人工撰写" in verdict.wording["zh"] for verdict in (long, short))


@pytest.mark.parametrize(
    ("alpha", "n", "level", "times"),
    [(0.1, 100, 1e-2, 1.03), (0.1, 100, 1e-4, 1.12), (0.1, 100, 1e-6, 1.25), (0.1, 20, 1e-6, 1.49)]
    + [(0.2, 100, 1e-6, 1.37), (0.2, 20, 1e-6, 1.79)],
)  # fmt: skip
def test_18_a_gamma_of_matched_moments_is_not_the_tail_of_two_keys(
    alpha: float, n: int, level: float, times: float
) -> None:
    variance = (1 - alpha) ** 2 + alpha**2
    score = float(stats.gamma.isf(level, n / variance, scale=variance))  # where the matched law says `level`
    first = stats.gamma(n, scale=1 - alpha)
    both, _ = integrate.quad(
        lambda a: first.pdf(a) * stats.gamma.sf((score - a) / alpha, n), 0, score, epsabs=0, limit=500, points=[n]
    )
    exact = both + first.sf(score)
    assert exact / level == pytest.approx(times, abs=0.02)
    assert 10 ** dual_gamma_log10_sf(n, alpha, score) == pytest.approx(exact, rel=1e-6)
    assert DualGumbel(alpha=alpha).log10_tail(n, score) == dual_gamma_log10_sf(n, alpha, score)


def test_19_the_argument_logits_processor_comes_too_early(model: Any) -> None:
    """generate() puts what it is given before temperature and top-k: most tokens then are not of the top five."""
    import torch
    from llm_label_transformers import watermarking_config
    from transformers import LogitsProcessor

    class Guest(LogitsProcessor):
        def __init__(self) -> None:
            self.mark = watermarking_config(key_of(19)).construct_processor(512)

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            return self.mark(input_ids, scores).as_subclass(torch.Tensor)

    def beyond(**given: Any) -> float:
        """Return the share of tokens that are not among the model's five likeliest."""
        torch.manual_seed(19)
        ids = torch.tensor([[5, 6, 7, 8]] * 4)
        out = model.generate(
            ids, do_sample=True, temperature=0.7, top_k=5, max_new_tokens=40, output_logits=True,
            return_dict_in_generate=True, suppress_tokens=[0, 1], **given,
        )  # fmt: skip
        raw = torch.stack(out.logits, dim=1)  # [4, 40, v]
        raw[..., :2] = -torch.inf
        drawn = out.sequences[:, 4:, None]
        return float(((raw > raw.gather(2, drawn)).sum(-1) >= 5).float().mean())

    assert beyond(logits_processor=[Guest()]) > 0.5
    assert beyond(watermarking_config=watermarking_config(key_of(19))) == 0.0
    with pytest.raises(MarkError, match="plain sampling"):
        beyond(logits_processor=[watermarking_config(key_of(19)).construct_processor(512)])


def forge(detector: Detector, exact: bool) -> tuple[str, float]:
    """Append, of three words, always the one that the detector's answer likes best; return text and true log10 p."""
    rng, words = np.random.default_rng(20), plain_text(4).split()

    def asked(words: list[str]) -> float:
        (told,) = (e for e in detector(" ".join(words), exact)["evidence"] if e["kind"] == "watermark")
        return float(told.get("log10_p", -math.inf if told["decision"] == "marked" else 0.0))

    for tries in rng.integers(0, 400, (90, 3)):
        words = min(([*words, VOCABULARY[word]] for word in tries), key=asked)
    (told,) = detector(" ".join(words), True)["evidence"]
    return " ".join(words), float(told["log10_p"])


def test_20_p_values_are_not_for_strangers(tmp_path: Path) -> None:
    """With p as a guide a forger has a marked text after 270 questions; the answer for strangers guides nowhere."""
    toy = toy_tokenizer(tmp_path)
    ring = Keyring((key_for(toy),))
    forged, log10_p = forge(Detector(ring, frozenset()), exact=True)
    assert log10_p < -6, "the wrong way: the mark is forged"
    assert forge(Detector(ring, frozenset()), exact=False)[1] > -3
    write_keyring(tmp_path / "ring.json", ring)
    (tmp_path / "token").write_text("let-me-in\n")
    (tmp_path / "token").chmod(0o600)
    server = {"admin_token_file": tmp_path / "token"}
    with proxy(tmp_path, whole(b"{}"), server=server, watermark={"keyring": tmp_path / "ring.json"}) as up:
        bodies = []
        for headers in ({}, {"Authorization": "Bearer let-me-in"}):
            request = urllib.request.Request(up.url + "/llm-label/detect", forged.encode(), headers)
            with urllib.request.urlopen(request, timeout=20) as response:
                bodies.append(response.read())
    assert b"log10_p" in bodies[1] and json.loads(bodies[1])["verdict"] == "suspected"
    assert json.loads(bodies[0])["verdict"] == "suspected"
    assert not any(word in bodies[0] for word in (b"log10_p", b"scored", b"fingerprint", b"k1"))
