"""generate() with two keys and with the coin, on a toy model: real transformers code, random weights."""

import copy
from typing import Any

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch", reason="the transformers adapter needs torch")
transformers = pytest.importorskip("transformers", reason="the transformers adapter needs transformers")

from llm_label_transformers import biasing, racing  # after the skip
from llm_label_transformers.watermark import KeyedWatermarkingConfig, watermarking_config
from transformers import GenerationConfig

from llm_label.errors import KeyringError, MarkError
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.prf import PRFS, Stream
from llm_label.watermark.scan import scan
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label.watermark.schemes.dual_gumbel import DualGumbel
from tests.adapters.toy import EOS, PAD, toy, write

ROOT = bytes(range(50, 82))
DUAL = Key.new("two", ROOT, Spec(scheme="dual_gumbel", parameters=(("alpha", 0.3),)))
COIN = Key.new("coin", ROOT, Spec(scheme="bernoulli"))
OTHERS = [Key.new("other", bytes(32), key.spec) for key in (DUAL, COIN)]
pytestmark = pytest.mark.usefixtures("no_keys_left_over")


SAMPLING: list[dict[str, Any]] = [
    {},
    {"top_k": 50, "top_p": 0.95, "temperature": 1.3},
    {"num_return_sequences": 3, "renormalize_logits": True},
]
RANKING: list[dict[str, Any]] = [
    {"do_sample": False},
    {"do_sample": False, "num_beams": 4},
    {"do_sample": False, "num_beams": 4, "num_return_sequences": 3},
    {"do_sample": True, "num_beams": 3},
]


@pytest.mark.parametrize("given", SAMPLING, ids=str)
@pytest.mark.parametrize("key", [DUAL, COIN], ids=lambda key: key.id)
def test_sampled_rows_are_found_under_their_key_only(model: Any, key: Key, given: dict[str, Any]) -> None:
    rows = write(model, watermarking_config(key), **given)
    assert len(rows) == 2 * given.get("num_return_sequences", 1)
    for row in rows:
        assert scan(row, key).log10_p < -6
        assert all(scan(row, other).log10_p > -4 for other in (*OTHERS, DUAL, COIN) if other is not key)


@pytest.mark.parametrize("given", RANKING, ids=str)
def test_the_coin_marks_greedy_decoding_and_beams(model: Any, given: dict[str, Any]) -> None:
    rows = write(model, watermarking_config(COIN), **given)
    assert len(rows) == 2 * given.get("num_return_sequences", 1)
    for row in rows:
        found = scan(row, COIN)
        assert found.log10_p < -4 and found.score > 0.75 * found.scored
        assert scan(row, OTHERS[1]).log10_p > -4
    assert all(scan(row, COIN).log10_p > -4 for row in write(model, None, **given))


@pytest.mark.parametrize("given", RANKING, ids=str)
def test_two_keys_refuse_what_one_key_refuses(model: Any, given: dict[str, Any]) -> None:
    with pytest.raises(MarkError, match="use do_sample=True with num_beams=1"):
        write(model, watermarking_config(DUAL), **given)


def test_two_keys_give_different_answers_even_where_one_would_not(model: Any) -> None:
    rows = write(model, watermarking_config(DUAL, "none"), num_return_sequences=8)
    assert len({tuple(row) for row in rows[:8].tolist()}) == 8


def test_the_second_key_gets_its_share_of_tokens(model: Any) -> None:
    """A key's own score is higher where it chose; the share is estimated from both sums, the draws are seeded."""
    rows = write(model, watermarking_config(DUAL), num_return_sequences=12)
    rules = DUAL.spec.rules
    assert isinstance(rules, DualGumbel)
    sums = [
        sum(scan(row, Key.imported("one", one, Spec())).score for row in rows) for one in rules.keys(DUAL.scheme_key())
    ]
    scored = sum(scan(row, DUAL).scored for row in rows)
    extra = [total - scored for total in sums]  # a token that a key did not choose scores 1 on average
    assert extra[1] / sum(extra) == pytest.approx(0.3, abs=0.03)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_share_of_nothing_or_all_is_a_single_key(model: Any, alpha: float) -> None:
    key = Key.new("two", ROOT, Spec(scheme="dual_gumbel", parameters=(("alpha", alpha),)))
    rules = key.spec.rules
    assert isinstance(rules, DualGumbel)
    alone = Key.imported("one", rules.keys(key.scheme_key())[int(alpha)], Spec())
    torch.manual_seed(5)
    dual = write(model, watermarking_config(key))
    torch.manual_seed(5)
    assert np.array_equal(dual, write(model, watermarking_config(alone)))


@pytest.mark.parametrize("variety", ["default", "none"])
def test_green_scores_rise_by_delta_and_nothing_else_changes(variety: str) -> None:
    rules = COIN.spec.rules
    assert isinstance(rules, Bernoulli)
    processor = watermarking_config(COIN, variety).construct_processor(64)
    ids, prompt = torch.tensor([[9, 9], [8, 8]]), 2
    for step in range(6):
        scores = torch.randn(2, 64)
        scores[:, ::7] = -torch.inf
        before = scores.clone()
        out = processor(ids, scores)
        assert torch.equal(scores, before), "what was given in is not changed"
        context = np.array([[*[-1] * 4, *row][-4:] for row in ids[:, prompt:].tolist()])
        for row in range(2):
            green = rules.green(COIN.streams()[0].words(context[row : row + 1], np.arange(64)))
            bias = torch.from_numpy(2.0 * green) if step >= 4 or variety == "none" else torch.zeros(64)
            assert torch.equal(out[row], before[row] + bias.float())
        ids = torch.cat([ids, torch.randint(0, 64, (2, 1))], dim=1)


@pytest.mark.parametrize("kept", [3, 900, 3000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("prf", list(PRFS))
def test_all_ways_to_the_green_tokens_agree(kept: int, dtype: Any, prf: str) -> None:
    scores = torch.randn(3, 3001).to(dtype)
    scores[:, torch.randperm(3001)[kept:]] = -torch.inf
    contexts = np.random.default_rng(0).integers(0, 3000, (3, 4))
    rules = Bernoulli(0.25)
    host, device = (
        torch.stack(way(rules, Stream(PRFS[prf], 2**64 - 5, 6), contexts, scores)).tolist()
        for way in (biasing.greens_on_host, biasing.greens_on_device)
    )
    assert host == device
    assert len(host[0]) == pytest.approx(3 * kept * 0.25, abs=5 * (3 * kept * 0.1875) ** 0.5)


@pytest.mark.parametrize("key", [DUAL, COIN], ids=lambda key: key.id)
def test_the_device_path_writes_the_same(model: Any, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    host = write(model, watermarking_config(key))
    monkeypatch.setattr(racing, "winners_on_host", racing.winners_on_device)
    monkeypatch.setattr(biasing, "greens_on_host", biasing.greens_on_device)
    torch.manual_seed(3)
    assert np.array_equal(write(model, watermarking_config(key)), host)


@pytest.mark.parametrize("part", [np.nan, np.inf])
@pytest.mark.parametrize("key", [DUAL, COIN], ids=lambda key: key.id)
def test_a_row_that_sampling_refuses_stays_refused(key: Key, part: float) -> None:
    scores = torch.zeros(2, 16)
    scores[0, 7] = part
    out = watermarking_config(key, "none").construct_processor(16)(torch.tensor([[1], [2]]), scores)
    with pytest.raises(RuntimeError, match="probability tensor contains"):
        torch.multinomial(torch.softmax(out, dim=-1), 1)


@pytest.mark.filterwarnings("ignore")  # transformers warns about its own settings here
@pytest.mark.parametrize("how", ["assistant_model", "prompt_lookup_num_tokens"])
def test_drafts_change_nothing_of_what_the_coin_marks(model: Any, how: str) -> None:
    """Greedy decoding with drafts gives the very text that it gives without."""
    torch.manual_seed(2)
    given = {how: toy() if how == "assistant_model" else 3}
    ids = torch.tensor([[5, 6, 5, 6, 5, 6]])
    settings: dict[str, Any] = {"max_new_tokens": 60, "do_sample": False, "suppress_tokens": [PAD, EOS]}
    config = watermarking_config(COIN)
    plain = model.generate(ids, watermarking_config=config, **settings)[0, 6:]
    drafted = model.generate(ids, watermarking_config=config, **settings, **given)[0, 6:]
    assert drafted.tolist() == plain.tolist()
    assert scan(np.asarray(plain), COIN).log10_p < -4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["assistant_model", "prompt_lookup_num_tokens"])
def test_sampled_drafts_are_marked_by_the_coin_and_refused_with_two_keys(model: Any, how: str) -> None:
    given = {how: copy.deepcopy(model) if how == "assistant_model" else 3}
    ids = torch.tensor([[5, 6, 5, 6, 5, 6]])
    settings: dict[str, Any] = {"max_new_tokens": 80, "do_sample": True, "suppress_tokens": [PAD, EOS], **given}
    row = model.generate(ids, watermarking_config=watermarking_config(COIN), **settings)[0, 6:]
    assert scan(np.asarray(row), COIN).log10_p < -5
    with pytest.raises(MarkError, match="plain sampling"):
        model.generate(ids, watermarking_config=watermarking_config(DUAL), **settings)


def test_drafts_from_other_tokens_are_refused() -> None:
    processor = watermarking_config(COIN).construct_processor(16)
    processor(torch.tensor([[3, 4, 5]]), torch.zeros(1, 16))
    processor(torch.tensor([[3, 4, 5, 1, 1]]), torch.zeros(1, 16))
    for other in ([[3, 4, 6, 1]], [[3, 4]]):
        with pytest.raises(MarkError, match="starts from other tokens"):
            processor(torch.tensor(other), torch.zeros(1, 16))


def test_a_processor_that_served_another_prompt_is_refused(model: Any) -> None:
    """With a shorter prompt it would take the answer for the rest of the old one and leave it unmarked."""
    settings: dict[str, Any] = {"max_new_tokens": 8, "do_sample": True, "suppress_tokens": [PAD, EOS]}
    processor = watermarking_config(COIN).construct_processor(0)
    model.generate(torch.full((2, 30), 5), logits_processor=[processor], **settings)
    for other in (torch.full((2, 3), 5), torch.full((2, 30), 6), torch.full((3, 30), 5)):
        with pytest.raises(MarkError, match="for each generate"):
            model.generate(other, logits_processor=[processor], **settings)


@pytest.mark.filterwarnings("ignore")  # torch warns about a machine without an accelerator
@pytest.mark.parametrize("key", [DUAL, COIN], ids=lambda key: key.id)
def test_continuous_batching_is_refused(model: Any, key: Key) -> None:
    config = GenerationConfig(do_sample=True, max_new_tokens=4, watermarking_config=watermarking_config(key))
    with pytest.raises(MarkError, match="continuous batching"):
        model.generate_batch([[5, 6, 7]], generation_config=config)


def test_over_keys_two_keys_draw_from_the_distribution() -> None:
    """Chi-square of 23 degrees over 3,000 keys below its 1 - 1e-6 quantile; the keys are fixed by a seed."""
    logits = 2.0 * torch.randn(1, 24, generator=torch.Generator().manual_seed(4))
    expected = torch.softmax(logits[0].double(), -1).numpy()
    rng = np.random.default_rng(6)
    drawn = np.zeros(24)
    for _ in range(3000):
        key = Key.imported("k", int(rng.integers(0, 2**63)), Spec(scheme="dual_gumbel"))
        scores = watermarking_config(key, "none").construct_processor(24)(torch.tensor([[1]]), logits)
        drawn[int(torch.multinomial(torch.softmax(scores, -1), 1))] += 1
    statistic = float(((drawn - 3000 * expected) ** 2 / (3000 * expected)).sum())
    assert statistic <= stats.chi2.isf(1e-6, 23)


@pytest.mark.parametrize("key", [DUAL, COIN], ids=lambda key: key.id)
def test_nothing_shows_a_secret_or_takes_one_scheme_for_another(key: Key) -> None:
    config = watermarking_config(key)
    processor = config.construct_processor(16)
    rules = key.spec.rules
    derived = rules.keys(key.scheme_key()) if isinstance(rules, DualGumbel) else ()
    for text in (repr(config), config.to_json_string(), repr(processor), repr(vars(processor))):
        assert not any(str(secret) in text for secret in (ROOT.hex(), key.scheme_key(), *derived))
    assert KeyedWatermarkingConfig.from_dict(config.to_dict()) == config
    config.update(llm_label_scheme="gumbel")
    with pytest.raises(
        KeyringError, match=f"is one of scheme '{key.spec.scheme}', and the configuration says 'gumbel'"
    ):
        config.construct_processor(16)
    with pytest.raises(KeyringError, match=r"cannot mark with scheme 'select'; known: gumbel, dual_gumbel, bernoulli"):
        KeyedWatermarkingConfig("k", key.fingerprint, "select")
