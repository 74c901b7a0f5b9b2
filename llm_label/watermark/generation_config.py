"""A SynthID watermark as transformers' JSON describes it: its watermarking configuration, or what holds one.

The layer keys are the secret. No error here quotes a value of the file.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_label.errors import KeyringError
from llm_label.watermark.schemes.synthid import MOST_LAYERS, join_keys

__all__ = ["SynthIDConfig", "read_synthid"]

NEEDED = ("keys", "ngram_len")


@dataclass(frozen=True)
class SynthIDConfig:
    """Hold the scheme key with the parameters and the variety of its spec."""

    key: int = field(repr=False)
    parameters: Mapping[str, int]
    variety: str


def read_synthid(text: str) -> SynthIDConfig:
    """Read a SynthIDTextWatermarkingConfig, or the generation_config.json around one. Raises KeyringError."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise KeyringError(
            "the SynthID configuration is not JSON; expected transformers' watermarking_config"
        ) from None
    if isinstance(data, dict) and isinstance(data.get("watermarking_config"), dict):
        data = data["watermarking_config"]
    if not isinstance(data, dict) or any(name not in data for name in NEEDED):
        raise KeyringError(
            'the SynthID configuration lacks "keys" or "ngram_len"; expected transformers\' watermarking_config'
        )
    keys = data["keys"]
    if not _are_keys(keys):
        raise KeyringError(
            f'the SynthID configuration\'s "keys" are 1 to {MOST_LAYERS} whole numbers from -2^63 to 2^64 - 1'
        )
    numbers = ("ngram_len", "sampling_table_size", "sampling_table_seed")
    parameters = {"depth": len(keys), **{name: data[name] for name in numbers if name in data}}
    # "none": the first tokens carry a mark too, their contexts padded
    variety = "default" if data.get("skip_first_ngram_calls") is True else "none"
    return SynthIDConfig(join_keys(keys), parameters, variety)


def _are_keys(keys: Any) -> bool:
    return (
        isinstance(keys, list)
        and 1 <= len(keys) <= MOST_LAYERS
        and all(type(key) is int and -(2**63) <= key < 2**64 for key in keys)
    )
