"""SynthID through generate() on a toy model: ours equals transformers' own, and each reads the other."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the transformers adapter needs torch")
transformers = pytest.importorskip("transformers", reason="the transformers adapter needs transformers")

from llm_label_transformers import knockout as adapter  # after the skip
from llm_label_transformers.watermark import watermarking_config
from transformers import SynthIDTextWatermarkingConfig
from transformers.generation.logits_process import SynthIDTextWatermarkLogitsProcessor

from llm_label.errors import MarkError
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import scan
from llm_label.watermark.schemes.synthid import SynthID, join_keys
from tests.adapters.toy import write
from tests.watermark.golden_synthid import imported

KEY = Key.new("synthid", bytes(range(50, 82)), Spec(scheme="synthid"))
OTHER = Key.new("other", bytes(32), Spec(scheme="synthid"))
NUMBERS = [*range(7, 187, 6)]
pytestmark = pytest.mark.usefixtures("no_keys_left_over")


@pytest.mark.parametrize(
    "given",
    [{}, {"top_k": 50, "top_p": 0.95, "temperature": 1.3}, {"num_return_sequences": 3, "renormalize_logits": True}],
    ids=str,
)
@pytest.mark.parametrize("variety", ["default", "none"])
def test_sampled_rows_are_found_under_their_key_only(model: Any, variety: str, given: dict[str, Any]) -> None:
    rows = write(model, watermarking_config(KEY, variety), **given)
    assert len(rows) == 2 * given.get("num_return_sequences", 1)
    for row in rows:
        assert scan(row, KEY).log10_p < -6
        assert scan(row, OTHER).log10_p > -4


@pytest.mark.parametrize("given", [{"do_sample": False}, {"do_sample": False, "num_beams": 4}], ids=str)
def test_what_is_no_sampling_is_refused(model: Any, given: dict[str, Any]) -> None:
    with pytest.raises(MarkError, match="use do_sample=True with num_beams=1"):
        write(model, watermarking_config(KEY), **given)


def test_what_transformers_marks_is_read(model: Any) -> None:
    config = SynthIDTextWatermarkingConfig(keys=NUMBERS, ngram_len=5)
    for row in write(model, config):
        assert scan(row, imported(NUMBERS)).log10_p < -6
        assert scan(row, imported([number + 1 for number in NUMBERS])).log10_p > -4


def test_what_is_marked_here_transformers_scores_high(model: Any) -> None:
    rules = KEY.spec.rules
    assert isinstance(rules, SynthID)
    theirs = SynthIDTextWatermarkLogitsProcessor(
        ngram_len=5,
        keys=list(rules.layer_keys(KEY.scheme_key())),
        sampling_table_size=65536,
        sampling_table_seed=0,
        context_history_size=1024,
        device=torch.device("cpu"),
    )
    rows = torch.tensor(write(model, watermarking_config(KEY)))
    assert float(theirs.compute_g_values(rows).double().mean()) > 0.56


def test_with_the_same_seed_the_tokens_are_those_of_transformers(model: Any) -> None:
    """Equal probabilities to rounding, and the sampler's own coins: the same text, as long as no context repeats."""
    own = imported(NUMBERS, variety="none")
    config = SynthIDTextWatermarkingConfig(keys=NUMBERS, ngram_len=5)
    for given in ({}, {"top_k": 50}):
        torch.manual_seed(11)
        theirs = write(model, config, **given)
        torch.manual_seed(11)
        ours = write(model, watermarking_config(own), **given)
        assert np.array_equal(ours, theirs)


def test_padding_hashes_as_token_0_so_a_token_0_brings_the_first_context_again() -> None:
    """Marked a second time it would win a second time, and a third."""
    processor = watermarking_config(KEY, "none").construct_processor(16)
    ids, scores, marked = torch.tensor([[9]]), torch.zeros(1, 16), []
    for token in (0, 0, 5, 0):
        marked.append(not torch.equal(processor(ids, scores).as_subclass(torch.Tensor), scores))
        ids = torch.cat([ids, torch.tensor([[token]])], dim=1)
    #                     0      0 0    0 0 5
    assert marked == [True, False, False, True]


@pytest.mark.parametrize("vocabulary", [60, 20_000])
@pytest.mark.parametrize("kept", [1, 50, 0])
def test_a_device_gives_what_the_host_gives(vocabulary: int, kept: int) -> None:
    torch.manual_seed(2)
    scores = torch.randn(3, vocabulary) * 3.0
    if kept:
        least = scores.topk(kept).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    contexts = np.array([[3, 1, 4, 1], [-1, -1, 5, 9], [2, 6, 5, 3]])
    rules, key = SynthID(), join_keys(NUMBERS)
    host = adapter.on_host(rules, key, contexts, scores)
    device = adapter.on_device(rules, key, contexts, scores)
    assert torch.equal(torch.isinf(host), torch.isinf(device))
    assert float((host.exp() - device.exp()).abs().max()) < 3e-6
