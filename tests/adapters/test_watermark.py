"""The generate() plug-in on a toy model: real transformers code, random weights, no files."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch", reason="the transformers adapter needs torch")
transformers = pytest.importorskip("transformers", reason="the transformers adapter needs transformers")

from llm_label_transformers import racing  # after the skip
from llm_label_transformers import watermark as plugin
from llm_label_transformers.sampled import SampledScores
from llm_label_transformers.watermark import (
    KeyedWatermarkingConfig,
    use_keyring,
    watermarking_config,
)
from transformers import GenerationConfig

from llm_label.errors import KeyringError, MarkError
from llm_label.watermark.keyring import Key, Keyring, Spec
from llm_label.watermark.prf import DEFAULT, PRFS, Stream
from llm_label.watermark.scan import scan
from tests.adapters.toy import EOS, PAD, write
from tests.watermark.golden_gumbel import fixture_logits, generate

ROOT = bytes(range(50, 82))
KEY = Key.new("toy", ROOT, Spec())
sample = partial(write, max_new_tokens=60)
pytestmark = pytest.mark.usefixtures("no_keys_left_over")


def possible(scores: Any) -> list[int]:
    """Draw a token from scores [b, v], as generate() does, and count the tokens that each row could have drawn."""
    torch.multinomial(torch.softmax(scores, dim=-1), 1)
    return [int(count) for count in torch.isfinite(scores).sum(-1)]


@pytest.mark.parametrize("given", [{}, {"top_k": 50, "top_p": 0.95}, {"num_return_sequences": 4}])
def test_every_row_of_a_padded_batch_is_found_under_its_key_only(model: Any, given: dict[str, Any]) -> None:
    other = Key.new("other", bytes(32), Spec())
    rows = sample(model, watermarking_config(KEY), **given)
    assert len(rows) == 2 * given.get("num_return_sequences", 1)
    for row in rows:
        assert scan(row, KEY).log10_p < -12
        assert scan(row, other).log10_p > -4


def test_unmarked_sampling_is_not_found(model: Any) -> None:
    assert all(scan(row, KEY).log10_p > -4 for row in sample(model, None))


def test_by_default_equal_prompts_get_different_answers_and_with_none_equal_ones(model: Any) -> None:
    different = sample(model, watermarking_config(KEY), num_return_sequences=8)
    assert len({tuple(row) for row in different[:8].tolist()}) == 8
    equal = sample(model, watermarking_config(KEY, "none"), num_return_sequences=8)
    assert len({tuple(row) for row in equal[:8].tolist()}) == 1


def test_the_first_four_tokens_come_from_the_seed_and_later_ones_from_the_key(model: Any) -> None:
    config = watermarking_config(KEY)
    torch.manual_seed(5)
    first = sample(model, config)
    torch.manual_seed(5)
    assert np.array_equal(first, sample(model, config))
    torch.manual_seed(5)
    plain = sample(model, None)
    assert np.array_equal(first[:, :4], plain[:, :4])


def test_a_batch_marks_each_row_as_if_it_were_alone(model: Any) -> None:
    """With variety "none" nothing is random, so rows can be compared across batches."""
    config = watermarking_config(KEY, "none")
    batch = sample(model, config)
    ids = torch.tensor([[7, 8, 9, 10]])
    alone = model.generate(
        ids,
        do_sample=True,
        top_k=0,
        max_new_tokens=60,
        suppress_tokens=[PAD, EOS],
        watermarking_config=config,
    )
    # repeated contexts are drawn by the sampler; random weights repeat none within 60 tokens
    assert alone[0, 4:].tolist() == batch[1].tolist()


def test_variety_none_gives_the_sequence_of_vllm() -> None:
    processor = watermarking_config(Key.imported("vllm", 42, Spec(variety="none"))).construct_processor(128)
    ids = torch.tensor([[100, 101, 102]])
    for position in range(64):
        scores = torch.from_numpy(fixture_logits(position))[None]
        probabilities = torch.softmax(processor(ids, scores), dim=-1)
        ids = torch.cat([ids, torch.multinomial(probabilities, 1)], dim=1)
    assert ids[0, 3:].tolist() == generate(42, 4, skip_repeats=True)


def test_repeated_contexts_are_left_to_the_sampler() -> None:
    processor = watermarking_config(KEY).construct_processor(16)
    ids = torch.tensor([[9]])
    marked = []
    for token in [1, 2, 3, 4, 5, 1, 2, 3, 4, 6, 0]:
        marked.append(possible(processor(ids, torch.zeros(1, 16))) == [1])
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    #                after      -      1      2      3     4     5     1     2     3      4     6
    assert marked == [False, False, False, False, True, True, True, True, True, False, True]


def test_scores_given_in_are_not_changed() -> None:
    processor = watermarking_config(KEY, "none").construct_processor(16)
    scores = torch.zeros(2, 16)
    processor(torch.tensor([[1], [2]]), scores)
    assert torch.equal(scores, torch.zeros(2, 16))


def test_half_precision_scores_work() -> None:
    processor = watermarking_config(KEY, "none").construct_processor(16)
    assert possible(processor(torch.tensor([[1]]), torch.zeros(1, 16, dtype=torch.bfloat16))) == [1]


@pytest.mark.parametrize("vocabulary", [16, 3000])
@pytest.mark.parametrize(("whole", "part"), [(-np.inf, -np.inf), (0.0, np.nan), (0.0, np.inf), (np.nan, 0.0)])
@pytest.mark.parametrize("way", ["winners_on_host", "winners_on_device"])
def test_a_row_that_sampling_refuses_stays_refused(
    monkeypatch: pytest.MonkeyPatch, way: str, whole: float, part: float, vocabulary: int
) -> None:
    """A broken model must not be covered up by a token that the key picked."""
    monkeypatch.setattr(racing, "winners_on_host", getattr(racing, way))
    scores = torch.full((2, vocabulary), whole)
    scores[0, 7] = part
    scores[1] = 0.0
    out = watermarking_config(KEY, "none").construct_processor(vocabulary)(torch.tensor([[1], [2]]), scores)
    with pytest.raises(RuntimeError, match="probability tensor contains"):
        torch.multinomial(torch.softmax(out, dim=-1), 1)
    sound = watermarking_config(KEY, "none").construct_processor(vocabulary)(torch.tensor([[2]]), scores[1:])
    assert possible(sound) == [1]


@pytest.mark.parametrize(
    "given",
    [
        {"do_sample": False},
        {"do_sample": False, "num_beams": 4},
        {"do_sample": True, "num_beams": 4},
        {"do_sample": False, "max_new_tokens": 1},
    ],
)
def test_greedy_decoding_and_beams_are_refused_in_one_line(model: Any, given: dict[str, Any]) -> None:
    with pytest.raises(MarkError, match="use do_sample=True with num_beams=1") as caught:
        sample(model, watermarking_config(KEY), **given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("do_sample", [True, False])
@pytest.mark.parametrize("how", ["assistant_model", "prompt_lookup_num_tokens"])
@pytest.mark.filterwarnings("ignore")  # transformers warns about its own settings here
def test_assisted_decoding_is_refused(model: Any, how: str, do_sample: bool) -> None:
    given = {how: copy.deepcopy(model) if how == "assistant_model" else 3}
    ids = torch.tensor([[5, 6, 5, 6, 5, 6]])
    with pytest.raises(MarkError, match="plain sampling"):
        model.generate(
            ids,
            do_sample=do_sample,
            max_new_tokens=20,
            watermarking_config=watermarking_config(KEY),
            **given,
        )


def test_a_generation_config_object_marks_and_refuses_alike(model: Any) -> None:
    ids = torch.tensor([[5, 6, 7, 8]])
    config = GenerationConfig(
        do_sample=True,
        top_k=0,
        max_new_tokens=60,
        suppress_tokens=[PAD, EOS],
        watermarking_config=watermarking_config(KEY),
        pad_token_id=PAD,
    )
    row = np.asarray(model.generate(ids, generation_config=config)[0, 4:])
    assert scan(row, KEY).log10_p < -12
    config.do_sample, config.top_k = False, None
    with pytest.raises(MarkError):
        model.generate(ids, generation_config=config)


def test_a_default_on_the_model_marks_too(model: Any) -> None:
    own = copy.deepcopy(model)
    own.generation_config.watermarking_config = watermarking_config(KEY)
    row = sample(own, watermarking_config(KEY))[0]
    assert scan(row, KEY).log10_p < -12


def test_each_call_starts_afresh(model: Any) -> None:
    config = watermarking_config(KEY, "none")
    assert np.array_equal(sample(model, config), sample(model, config))


def test_scores_and_logits_that_generate_returns_are_usable(model: Any) -> None:
    out = model.generate(
        torch.tensor([[5, 6]]),
        do_sample=True,
        top_k=0,
        max_new_tokens=8,
        output_scores=True,
        output_logits=True,
        return_dict_in_generate=True,
        renormalize_logits=True,
        watermarking_config=watermarking_config(KEY),
    )
    kept = torch.isfinite(torch.stack(out.scores)).sum(-1)[:, 0].tolist()
    assert kept[4:] == [1] * len(kept[4:])
    assert all(torch.isfinite(step).all() for step in out.logits)


def test_scores_refuse_every_use_but_sampling() -> None:
    def fresh() -> Any:
        return SampledScores.wrap(torch.zeros(2, 4))

    assert fresh().shape == (2, 4)
    assert fresh().device.type == "cpu"
    for use in (
        lambda s: s.argmax(-1),
        lambda s: torch.topk(s, 2),
        lambda s: s + 1,
        lambda s: torch.cat([s, s]),
        lambda s: s.tolist(),
        lambda s: torch.zeros(2, 4).__setitem__(slice(None), s),
    ):
        with pytest.raises(MarkError, match="plain sampling"):
            use(fresh())
    for use in (
        lambda s: torch.softmax(s, -1).argmax(-1),
        lambda s: torch.topk(s.log_softmax(-1).softmax(-1), 2),
    ):
        with pytest.raises(MarkError, match="plain sampling"):
            use(fresh())
    scores = fresh()
    assert torch.multinomial(scores.log_softmax(-1).softmax(-1), 1).shape == (2, 1)
    assert scores.argmax(-1).tolist() == [0, 0]
    for again in (copy.deepcopy(scores), pickle.loads(pickle.dumps(scores))):
        assert type(again) is torch.Tensor and torch.equal(again, torch.zeros(2, 4))


def test_a_decoding_loop_that_ranks_probabilities_is_refused(model: Any) -> None:
    """As contrastive search does: softmax, then the likeliest few."""

    def ranking(model: Any, input_ids: Any, logits_processor: Any, **_: Any) -> Any:
        scores = logits_processor(input_ids, model(input_ids).logits[:, -1])
        return torch.topk(torch.nn.functional.softmax(scores, dim=-1), k=4)

    with pytest.raises(MarkError, match="plain sampling"):
        sample(model, watermarking_config(KEY), custom_generate=ranking)


@pytest.mark.filterwarnings("ignore")  # torch warns about a machine without an accelerator
def test_continuous_batching_is_refused_and_never_drops_the_watermark(model: Any) -> None:
    config = GenerationConfig(do_sample=True, max_new_tokens=4, watermarking_config=watermarking_config(KEY))
    with pytest.raises(MarkError, match="continuous batching"):
        model.generate_batch([[5, 6, 7]], generation_config=config)


def test_rows_without_a_prompt_are_marked_from_the_first_token(model: Any) -> None:
    embedded = model.get_input_embeddings()(torch.tensor([[5, 6, 7]]))
    config = watermarking_config(KEY, "none")
    row = model.generate(inputs_embeds=embedded, do_sample=True, top_k=0, max_new_tokens=40, watermarking_config=config)
    assert scan(np.asarray(row[0]), KEY).log10_p < -8


def test_rows_that_end_early_neither_lose_their_mark_nor_take_it_from_others(model: Any) -> None:
    ids = torch.tensor([[7, 8]] * 16)
    ends = list(range(1, 20))  # about one token in 27
    rows = model.generate(
        ids, do_sample=True, top_k=0, max_new_tokens=60, eos_token_id=ends, watermarking_config=watermarking_config(KEY)
    )[:, 2:].tolist()
    texts = [row[: row.index(PAD)] if PAD in row else row for row in rows]
    assert len({len(text) for text in texts}) > 4
    for text in texts:
        scored = max(0, len(text) - 4)
        assert scan(text, KEY).log10_p <= -scored


def test_one_configuration_serves_many_threads(model: Any) -> None:
    config = watermarking_config(KEY, "none")
    with ThreadPoolExecutor(4) as threads:
        rows = list(threads.map(lambda _: sample(model, config, max_new_tokens=20).tolist(), range(8)))
    assert all(row == rows[0] for row in rows)


SETTINGS: list[dict[str, Any]] = [
    {"temperature": 0.7, "top_p": 0.9},
    {"temperature": 1.5, "top_k": 40},
    {"top_k": 1},
    {"min_p": 0.2},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_over_keys_the_next_token_follows_the_truncated_distribution(
    model: Any, settings: dict[str, Any], dtype: Any
) -> None:
    """Chi-square over 2,000 keys below its 1 - 1e-6 quantile; the keys are fixed by a seed."""
    generator = torch.Generator().manual_seed(4)
    logits = (2.0 * torch.randn(1, 24, generator=generator)).to(dtype)
    logits[0, 3] = logits[0, 4]  # a tie
    warpers = model._get_logits_processor(GenerationConfig(do_sample=True, **settings))
    scores = warpers(torch.tensor([[1]]), logits)
    expected = torch.softmax(scores[0].double(), -1).numpy()
    rng = np.random.default_rng(6)
    drawn = np.zeros(24)
    keys = 2000
    for _ in range(keys):
        key = int(rng.integers(0, 2**63))
        drawn[racing.winners_on_host(Stream(PRFS[DEFAULT], key), np.array([[1, 2, 3, 4]]), scores)[0]] += 1
    alive = expected > 0
    assert drawn[~alive].sum() == 0
    statistic = float(((drawn - keys * expected)[alive] ** 2 / (keys * expected[alive])).sum())
    assert statistic <= (stats.chi2.isf(1e-6, alive.sum() - 1) if alive.sum() > 1 else 0.0)


def test_the_configuration_never_holds_or_shows_the_secret(tmp_path: Path) -> None:
    config = watermarking_config(KEY)
    generation = GenerationConfig(do_sample=True, watermarking_config=config)
    generation.save_pretrained(tmp_path)
    shown = [
        repr(config),
        str(config.to_dict()),
        str(vars(config)),
        config.to_json_string(),
        repr(generation),
        str(generation.to_dict()),
        (tmp_path / "generation_config.json").read_text(encoding="utf-8"),
        pickle.dumps(config).hex(),
        pickle.dumps(generation).hex(),
        repr(config.construct_processor(16)),
        repr(vars(config.construct_processor(16))),
    ]
    secrets = (ROOT.hex(), str(KEY.scheme_key()), f"{KEY.scheme_key():016x}", repr(ROOT)[2:20])
    for text in shown:
        assert not any(secret in text for secret in secrets)
    assert KEY.fingerprint in shown[0]


def test_copies_and_pickles_find_their_key_in_this_process_or_raise() -> None:
    config = watermarking_config(KEY)
    for again in (
        copy.deepcopy(config),
        pickle.loads(pickle.dumps(config)),
        KeyedWatermarkingConfig.from_dict(config.to_dict()),
    ):
        assert again == config
        assert again.construct_processor(16) is not None
    plugin._KEYS.clear()  # as in a process that never saw the key
    with pytest.raises(KeyringError, match="'toy' .* is not loaded in this process; call use_keyring"):
        config.construct_processor(16)
    use_keyring(Keyring((KEY.for_auditor(),)))
    assert config.construct_processor(16) is not None


def test_a_reloaded_dict_never_becomes_another_watermark(tmp_path: Path) -> None:
    config = watermarking_config(KEY)
    GenerationConfig(do_sample=True, watermarking_config=config).save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "generation_config.json").read_text(encoding="utf-8"))
    assert saved["watermarking_config"] == config.to_dict()
    for reload in (
        lambda: GenerationConfig.from_pretrained(tmp_path),
        lambda: GenerationConfig.from_dict(saved),
        lambda: GenerationConfig(**saved),
        lambda: GenerationConfig().update(watermarking_config=config.to_dict()),
        lambda: transformers.WatermarkingConfig.from_dict(config.to_dict()),
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument 'llm_label_"):
            reload()
    assert KeyedWatermarkingConfig.from_dict(saved["watermarking_config"]) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [({"llm_label_scheme": "nice"}, "known: gumbel"), ({"llm_label_variety": "much"}, "use one of: default, none")],
)
def test_a_wrong_configuration_is_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(KeyringError, match=message):
        KeyedWatermarkingConfig("toy", KEY.fingerprint, **change)
    config = watermarking_config(KEY)
    config.update(**change)
    with pytest.raises(KeyringError, match=message):
        GenerationConfig(do_sample=True, watermarking_config=config)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ways_to_the_winners_agree(dtype: Any) -> None:
    scores = (3.0 * torch.randn(5, 3000)).to(dtype)
    contexts = np.random.default_rng(0).integers(0, 3000, (5, 4))
    stream = Stream(PRFS[DEFAULT], 77)
    on_device = racing.winners_on_device(stream, contexts, scores)
    assert torch.equal(on_device, racing.winners_on_host(stream, contexts, scores))


def test_the_device_path_marks_just_as_the_host_path(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = watermarking_config(KEY, "none")
    host = sample(model, config)
    monkeypatch.setattr(racing, "winners_on_host", racing.winners_on_device)
    assert np.array_equal(sample(model, config), host)
