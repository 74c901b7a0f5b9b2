"""Mark what `generate()` writes: `model.generate(..., do_sample=True, watermarking_config=config)`.

transformers appends the processor of a watermarking configuration after temperature, top-k and top-p, so only
tokens that survived are hashed. The configuration names a key by id and fingerprint; the secret stays in this
process's keys, which `watermarking_config` and `use_keyring` fill. A scheme is marked by the processor that
PROCESSORS names for it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from transformers import LogitsProcessor
from transformers.generation.configuration_utils import BaseWatermarkingConfig

from llm_label.errors import KeyringError
from llm_label.watermark.keyring import VARIETIES, Key, Keyring
from llm_label_transformers.biasing import BiasLogitsProcessor
from llm_label_transformers.knockout import KnockoutLogitsProcessor
from llm_label_transformers.racing import RaceLogitsProcessor

__all__ = ["PROCESSORS", "KeyedWatermarkingConfig", "use_keyring", "watermarking_config"]

# scheme -> what marks with it, made from a key and a variety
PROCESSORS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "gumbel": RaceLogitsProcessor,
        "dual_gumbel": RaceLogitsProcessor,
        "bernoulli": BiasLogitsProcessor,
        "synthid": KnockoutLogitsProcessor,
    }
)
_KEYS: dict[str, Key] = {}  # fingerprint -> key, for this process only


def use_keyring(ring: Keyring) -> None:
    """Make every key of a ring known to this process, so that reloaded configurations find theirs."""
    for key in ring.keys:
        _KEYS[key.fingerprint] = key


def watermarking_config(key: Key, variety: str | None = None, payload: int | None = None) -> "KeyedWatermarkingConfig":
    """Return the configuration that marks with this key; variety and payload default to the key's own."""
    key = key if payload is None else key.carrying(payload)
    _KEYS[key.fingerprint] = key
    return KeyedWatermarkingConfig(
        llm_label_key=key.id,
        llm_label_fingerprint=key.fingerprint,
        llm_label_scheme=key.spec.scheme,
        llm_label_variety=key.spec.variety if variety is None else variety,
        llm_label_payload=key.payload,
    )


class KeyedWatermarkingConfig(BaseWatermarkingConfig):
    """Name a key and how to mark with it; holds no secret.

    transformers turns any *dict* into its own KGW configuration, whatever the dict says. KGW's constructor knows
    no `llm_label_…` field, so a saved generation_config.json fails to load instead of marking with another
    scheme; rebuild with `KeyedWatermarkingConfig.from_dict(...)` and pass the object.
    """

    def __init__(
        self,
        llm_label_key: str,
        llm_label_fingerprint: str,
        llm_label_scheme: str = "gumbel",
        llm_label_variety: str = "default",
        llm_label_payload: int = 0,
    ) -> None:
        self.llm_label_key = llm_label_key
        self.llm_label_fingerprint = llm_label_fingerprint
        self.llm_label_scheme = llm_label_scheme
        self.llm_label_variety = llm_label_variety
        self.llm_label_payload = llm_label_payload
        self.validate()

    def validate(self) -> None:
        scheme, variety = self.llm_label_scheme, self.llm_label_variety
        if scheme not in PROCESSORS:
            raise KeyringError(f"generate() cannot mark with scheme {scheme!r}; known: {', '.join(PROCESSORS)}")
        if variety not in VARIETIES:
            raise KeyringError(f"variety {variety!r} is not known; use one of: {', '.join(VARIETIES)}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyedWatermarkingConfig) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]  # mutable through `update`, like its transformers siblings

    def construct_processor(self, vocab_size: int, device: Any = None) -> LogitsProcessor:
        """Return a fresh processor, or raise KeyringError when the key is not known to this process."""
        key = _KEYS.get(self.llm_label_fingerprint)
        if key is None:
            raise KeyringError(
                f"watermark key {self.llm_label_key!r} (fingerprint {self.llm_label_fingerprint}) is not "
                "loaded in this process; call use_keyring(ring) with the ring that holds it"
            )
        if key.spec.scheme != self.llm_label_scheme:
            raise KeyringError(
                f"watermark key {self.llm_label_key!r} is one of scheme {key.spec.scheme!r}, and the configuration "
                f"says {self.llm_label_scheme!r}; make it anew with watermarking_config(key)"
            )
        carrying = key.carrying(self.llm_label_payload)
        made: LogitsProcessor = PROCESSORS[key.spec.scheme](carrying, self.llm_label_variety)
        return made
