"""generate() with payloads and with the secure PRF, on a toy model."""

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the transformers adapter needs torch")
transformers = pytest.importorskip("transformers", reason="the transformers adapter needs transformers")

from llm_label_transformers import biasing, racing  # after the skip
from llm_label_transformers.watermark import KeyedWatermarkingConfig, use_keyring, watermarking_config

from llm_label.errors import KeyringError
from llm_label.watermark.keyring import Key, Keyring, Spec
from llm_label.watermark.payload import identify
from llm_label.watermark.prf import PRFS
from llm_label.watermark.scan import scan
from tests.adapters.toy import write

ROOT = bytes(range(50, 82))
KEYS = [
    Key.new(f"{scheme}-{prf}", ROOT, Spec(scheme=scheme, prf=prf, payload_bits=6))
    for scheme in ("gumbel", "dual_gumbel", "bernoulli")
    for prf in PRFS
]
pytestmark = pytest.mark.usefixtures("no_keys_left_over")


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.id)
@pytest.mark.parametrize("top_k", [0, 50])
def test_the_payload_that_was_asked_for_is_read_from_every_row(model: Any, key: Key, top_k: int) -> None:
    """The weakest row is far beyond the level; seeds and keys are fixed."""
    for row in write(model, watermarking_config(key, payload=37), top_k=top_k):
        found = identify(row, key)
        assert found.payload == 37 and found.log10_p < -5


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.id)
def test_the_device_path_writes_the_same(model: Any, key: Key, monkeypatch: pytest.MonkeyPatch) -> None:
    config = watermarking_config(key.carrying(5))
    torch.manual_seed(3)
    host = write(model, config)
    monkeypatch.setattr(racing, "winners_on_host", racing.winners_on_device)
    monkeypatch.setattr(biasing, "greens_on_host", biasing.greens_on_device)
    torch.manual_seed(3)
    assert (write(model, config) == host).all()


def test_a_saved_configuration_remembers_its_payload(model: Any) -> None:
    key = KEYS[0]
    config = KeyedWatermarkingConfig.from_dict(watermarking_config(key, payload=9).to_dict())
    assert config.llm_label_payload == 9
    use_keyring(Keyring((key,)))
    row = write(model, config)[0]
    assert scan(row, key.carrying(9)).log10_p < -5 < scan(row, key).log10_p


def test_a_payload_that_the_key_cannot_carry_is_refused() -> None:
    with pytest.raises(KeyringError, match="payload 64 is not possible; allowed: a whole number from 0 to 63"):
        watermarking_config(KEYS[0], payload=64)
    config = watermarking_config(KEYS[0])
    config.update(llm_label_payload=-1)
    with pytest.raises(KeyringError, match="payload -1 is not possible"):
        config.construct_processor(64)
