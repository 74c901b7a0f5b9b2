"""Find the test data that lies outside the project; tests skip with a reason where it is absent."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "LLM_LABEL_TEST_DATA"


def folder(name: str) -> Path:
    """Return a folder below LLM_LABEL_TEST_DATA, or skip the test."""
    base = os.environ.get(VARIABLE)
    if not base:
        pytest.skip(f"{VARIABLE} is not set")
    path = Path(base) / name
    if not path.exists():
        pytest.skip(f"{VARIABLE} has no {name}")
    return path


def documents(name: str) -> list[dict[str, Any]]:
    """Read a gzip'd JSON Lines file."""
    with gzip.open(folder(name), "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
