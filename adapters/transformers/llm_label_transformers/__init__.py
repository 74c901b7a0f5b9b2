"""llm-label inside transformers: the `generate()` watermark and the local upstream. Names load on first use."""

import importlib
from pathlib import Path
from typing import Any

from llm_label.errors import SettingsError

__all__ = ["EMBEDDED", "KeyedWatermarkingConfig", "LocalUpstream", "checkpoint", "use_keyring", "watermarking_config"]

EMBEDDED = Path(__file__).parent / "model"


def checkpoint(path: str | None) -> Path:
    """Return the folder of a checkpoint, or of the embedded model. Raises SettingsError when it is none."""
    folder = Path(path) if path else EMBEDDED
    for file in ("config.json", "tokenizer.json"):
        if not (folder / file).is_file():
            raise SettingsError(
                f"local:{path or ''} is no checkpoint: {folder} has no {file}; give a folder that "
                "transformers' save_pretrained wrote, with its tokenizer.json"
            )
    return folder


_HOMES = {"LocalUpstream": "upstream"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES.get(name, 'watermark')}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
