"""What a watermark does to what a model writes, over keys: nothing, for gumbel, dual_gumbel and synthid; bernoulli distorts.

Three questions, none of which answers the next. Over 1,000 keys, is one token drawn from the model's distribution?
Over 10,000 keys, is a whole answer, in which contexts come again? And how alike are many answers under one key?
Seeds are fixed; with others, a test of one distribution fails by chance once in a million times, as its bound says.
"""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from llm_label.watermark import choice, knockout
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label.watermark.schemes.synthid import SynthID, join_keys
from tests.watermark.writer import Writer, draw, fresh_keys

CHANCE = 1e-6
FREE = ("gumbel", "dual_gumbel", "synthid")
KEYS, CONTEXTS = 1000, 12
SYNTHID = SynthID(sampling_table_size=4096)  # small tables for a thousand keys; the arithmetic is the same

DISTRIBUTIONS = {
    "prose": 1.0 / np.arange(1, 41) ** 1.1,
    "sure": np.array([0.97, 0.01, 0.008, 0.006, 0.004, 0.002]),
    "cut": np.array([0.0, 5.0, 0.0, 2.0, 2.0, 1.0, 0.0]),
}
DISTRIBUTIONS = {name: weight / weight.sum() for name, weight in DISTRIBUTIONS.items()}


def logits_of(p: np.ndarray, rows: int) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.tile(np.log(p).astype(np.float32), (rows, 1))


# one token


def raced(key: Key, contexts: np.ndarray, logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    streams = key.streams()
    drawn = np.stack([choice.winners(stream, contexts, logits) for stream in streams])
    second = rng.random(len(contexts)) < getattr(key.spec.rules, "alpha", 0.0)  # the sampler's own coin
    return drawn[second.astype(int) * (len(streams) - 1), np.arange(len(contexts))]


def knocked_out(key: Key, contexts: np.ndarray, logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    after = knockout.redistribute(SYNTHID, key.scheme_key(), contexts, logits)
    return draw(np.exp(after.astype(np.float64)), rng)


def biased(key: Key, contexts: np.ndarray, logits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    rules, size = key.spec.rules, logits.shape[1]
    assert isinstance(rules, Bernoulli)
    every = np.tile(np.arange(size), len(contexts))
    green = rules.token_scores(key.scheme_key(), np.repeat(contexts, size, axis=0), every).reshape(logits.shape)
    return draw(np.exp(logits.astype(np.float64) + rules.delta * green), rng)


DRAWS: dict[str, Callable[..., np.ndarray]] = {
    "gumbel": raced,
    "dual_gumbel": raced,
    "synthid": knocked_out,
    "bernoulli": biased,
}


def over_keys(scheme: str, p: np.ndarray) -> np.ndarray:
    """Return how often each token [v] came in 12 contexts under each of 1,000 keys."""
    rng, spec = np.random.default_rng(4), Spec(scheme=scheme)
    counts, logits = np.zeros(len(p)), logits_of(p, CONTEXTS)
    for _ in range(KEYS):
        key = Key.new("k", rng.bytes(32), spec)
        drawn = DRAWS[scheme](key, rng.integers(0, 50_000, (CONTEXTS, 4)), logits, rng)
        counts += np.bincount(drawn, minlength=len(p))
    return counts


def distance(counts: np.ndarray, p: np.ndarray) -> float:
    return float(0.5 * np.abs(counts / counts.sum() - p).sum())


def sampling_error(p: np.ndarray, n: float) -> float:
    """Bound the total variation of n independent draws from p, but for one time in a million.

    Its mean is at most the sum of half the standard errors (Jensen); one draw moves it by at most 1/n, so that it
    exceeds its mean by t with a chance of at most exp(−2nt²) (McDiarmid 1989).
    """
    return float(0.5 * np.sqrt(p * (1.0 - p) / n).sum() + np.sqrt(np.log(1.0 / CHANCE) / (2.0 * n)))


def chi_square(counts: np.ndarray, p: np.ndarray) -> float:
    """Return the p-value of Pearson's statistic, cells expected fewer than five times taken together."""
    expected = counts.sum() * p
    assert (counts[p == 0] == 0).all()
    rare = expected < 5
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    keep = expected > 0
    statistic = ((observed[keep] - expected[keep]) ** 2 / expected[keep]).sum()
    return float(stats.chi2.sf(statistic, keep.sum() - 1))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("scheme", FREE)
def test_over_keys_the_next_token_is_the_models(scheme: str, name: str) -> None:
    p = DISTRIBUTIONS[name]
    counts = over_keys(scheme, p)
    assert distance(counts, p) < sampling_error(p, KEYS * CONTEXTS) < 0.06
    assert chi_square(counts, p) > CHANCE


@pytest.mark.parametrize("name", ["sure", "cut"])
def test_a_bias_distorts_the_next_token_and_as_much_as_it_must(name: str) -> None:
    """Its mean over keys is that over all colourings of the tokens, written out."""
    p = DISTRIBUTIONS[name]
    colours = (np.arange(2 ** len(p))[:, None] >> np.arange(len(p))) & 1
    biased = p * np.exp(Bernoulli().delta * colours)
    mean = (biased / biased.sum(axis=1, keepdims=True)).mean(axis=0)
    counts = over_keys("bernoulli", p)
    assert distance(counts, mean) < sampling_error(mean, KEYS * CONTEXTS)
    assert distance(counts, p) > sampling_error(p, KEYS * CONTEXTS) and chi_square(counts, p) < 1e-12


# whole answers


TWO = np.array([[0.7, 0.3], [0.45, 0.55]])
EVERY = (np.arange(2**9)[:, None] >> np.arange(9)) & 1  # all answers [512, 9] of two tokens


def law(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how often each answer of nine tokens came, and how likely the chain makes it."""
    before = np.column_stack([np.zeros(512, dtype=int), EVERY[:, :-1]])
    return np.bincount(ids @ (1 << np.arange(9)), minlength=512).astype(float), TWO[before, EVERY].prod(axis=1)


@pytest.mark.parametrize("variety", ["default", "none"])
@pytest.mark.parametrize("scheme", FREE)
def test_over_keys_whole_answers_follow_the_models_law(scheme: str, variety: str) -> None:
    """All 512 answers of nine tokens, of two kinds, so that most answers meet a context again."""
    ids = Writer(scheme, fresh_keys(10_000), variety).write(TWO, 9, np.random.default_rng(1))
    counts, p = law(ids)
    assert chi_square(counts, p) > CHANCE
    assert distance(counts, p) < sampling_error(p, len(ids)) < 0.13


@pytest.mark.parametrize("scheme", FREE)
def test_marking_a_context_each_time_it_comes_distorts_whole_answers(scheme: str) -> None:
    """The same without the rule that each context is used once: a token that won there wins there again."""
    ids = Writer(scheme, fresh_keys(10_000), "none", once=False).write(TWO, 9, np.random.default_rng(1))
    assert chi_square(*law(ids)) < 1e-12


def test_a_bias_distorts_whole_answers() -> None:
    ids = Writer("bernoulli", fresh_keys(10_000)).write(TWO, 9, np.random.default_rng(1))
    assert chi_square(*law(ids)) < 1e-12


END, LONGEST = 5, 80


def chain_with_end() -> np.ndarray:
    """Return a chain of five tokens of little entropy, about 0.9 nats, and an end that comes after 30 or so."""
    chain = np.zeros((6, 6))
    chain[:, :5] = np.random.default_rng(12).dirichlet(np.full(5, 0.5), 6)
    return 0.97 * chain + 0.03 * np.eye(6)[END]


def shape(ids: np.ndarray) -> np.ndarray:
    """Return for each answer its length, its distinct-2 and distinct-4, and the share of contexts that came before."""
    found = []
    for row in ids:
        text = row[: int((row == END).argmax())] if (row == END).any() else row
        grams = {n: [tuple(text[i : i + n]) for i in range(len(text) - n + 1)] for n in (2, 4)}
        distinct = {n: len(set(some)) / max(1, len(some)) for n, some in grams.items()}
        contexts = grams[4][:-1]
        found.append((len(text), distinct[2], distinct[4], 1.0 - len(set(contexts)) / max(1, len(contexts))))
    return np.array(found)


def gap(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return how many standard errors the means of two samples [n, 4] lie apart."""
    error = np.sqrt(left.var(axis=0) / len(left) + right.var(axis=0) / len(right))
    return np.asarray(np.abs(left.mean(axis=0) - right.mean(axis=0)) / error)


@pytest.fixture(scope="module")
def unmarked() -> np.ndarray:
    return shape(Writer(None, fresh_keys(2000)).write(chain_with_end(), LONGEST, np.random.default_rng(2)))


@pytest.mark.parametrize("variety", ["default", "none"])
@pytest.mark.parametrize("scheme", FREE)
def test_length_and_variety_of_answers_stay_those_of_plain_sampling(
    unmarked: np.ndarray, scheme: str, variety: str
) -> None:
    """Within five standard errors: four figures, by chance 2e-6."""
    ids = Writer(scheme, fresh_keys(1000), variety).write(chain_with_end(), LONGEST, np.random.default_rng(3))
    assert unmarked[:, 3].mean() > 0.25, "contexts do come again"
    assert (gap(shape(ids), unmarked) < 5.0).all()


@pytest.mark.parametrize("scheme", FREE)
def test_answers_grow_longer_and_poorer_where_contexts_are_marked_again(unmarked: np.ndarray, scheme: str) -> None:
    writer = Writer(scheme, fresh_keys(500), once=False)
    found = shape(writer.write(chain_with_end(), LONGEST, np.random.default_rng(3)))
    assert (gap(found, unmarked) > 5.0).all()
    length, distinct2, distinct4, again = found.mean(axis=0) - unmarked.mean(axis=0)
    assert length > 5 and distinct2 < 0 and distinct4 < 0 and again > 0.1


def test_rows_are_what_the_package_draws() -> None:
    """The writer of these tests, against the functions that the plug-in calls."""
    rng, keys = np.random.default_rng(8), fresh_keys(6)
    contexts, p = rng.integers(0, 5, (6, 4)), rng.dirichlet(np.ones(30), 6)
    drawn = Writer("gumbel", keys).gumbel(np.arange(6), contexts, p, rng)
    writer = Writer("synthid", keys)
    for row in range(6):
        given = contexts[row : row + 1], np.log(p[row : row + 1]).astype(np.float32)
        key = Key.imported("k", int(keys[row]), Spec())
        assert drawn[row] == choice.winners(key.streams()[0], *given)[0]
        after = np.exp(knockout.redistribute(SynthID(), join_keys(writer.layer_keys()[row].tolist()), *given)[0])
        often = [writer.synthid(np.full(4000, row), np.repeat(given[0], 4000, 0), np.repeat(p[[row]], 4000, 0), rng)]
        assert distance(np.bincount(often[0], minlength=30), after / after.sum()) < sampling_error(after, 4000)


# many answers under one key

WIDE = np.random.default_rng(13).dirichlet(np.full(24, 0.7), 24)


def answers(scheme: str | None, variety: str) -> tuple[float, float]:
    """Return the share of equal pairs, and of pairs equal in their first four tokens, of 16 answers under 40 keys."""
    ids = Writer(scheme, np.repeat(fresh_keys(40), 16), variety).write(WIDE, 24, np.random.default_rng(5))
    same = [
        (part[:, None] == part[None, :]).all(axis=-1)[np.triu_indices(16, 1)].mean()
        for rows in ids.reshape(40, 16, 24)
        for part in (rows, rows[:, :4])
    ]
    whole, start = np.array(same).reshape(40, 2).mean(axis=0)
    return float(whole), float(start)


@pytest.mark.parametrize("scheme", [*FREE, "bernoulli"])
def test_answers_to_one_prompt_differ_where_their_first_four_tokens_do(scheme: str) -> None:
    """Variety "default": the first four tokens are the sampler's, and from there on a key decides alike."""
    whole, start = answers(scheme, "default")
    assert start == pytest.approx(answers(None, "default")[1], abs=0.004) and start < 0.01
    assert whole <= start


def test_without_variety_a_race_has_one_answer_to_a_prompt() -> None:
    """vLLM's sequence: nothing is random until a context comes again."""
    whole, start = answers("gumbel", "none")
    assert start == 1.0 and whole > 0.9
    assert answers("dual_gumbel", "none")[0] < 0.2 and answers("bernoulli", "none")[0] < 0.01
    assert 0.01 < answers("synthid", "none")[1] < 1.0
