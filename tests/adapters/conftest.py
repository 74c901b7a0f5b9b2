"""What the plug-in's tests share; torch is imported only where a test asks for it."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def no_keys_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the keys of other tests, and begin with the same coins."""
    import torch
    from llm_label_transformers import watermark

    monkeypatch.setattr(watermark, "_KEYS", {})
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    from tests.adapters.toy import one_thread

    with one_thread() as toy_model:
        yield toy_model
