"""Compute what tests/golden/gumbel_v1.json holds; run as a module to write it for a NEW scheme version.

The generations use the logits fixture of vLLM's watermarking goldens (Apache-2.0):
((37·token + 17·position) mod 131 − 56) / 16 over 128 tokens.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.prf import DEFAULT, PRFS
from llm_label.watermark.schemes.gumbel import Gumbel

FILE = Path(__file__).parent.parent / "golden" / "gumbel_v1.json"
VOCABULARY = 128
KEYS = (0, 42, 2**32, 2**64 - 1)
CONTEXTS = ([1], [-1, -1, -1, -1], [1, 2, 3, 4], [151_935, 0, 7, 99], [5, 6, 7, 8, 9], list(range(16)))
TOKENS = [0, 1, 2, 3, 7, 8, 127, 50_256, 151_935]


def fixture_logits(position: int) -> np.ndarray:
    return (((np.arange(VOCABULARY) * 37 + position * 17) % 131 - 56) / 16).astype(np.float32)


def generate(key: int, width: int, skip_repeats: bool, length: int = 64) -> list[int]:
    """Generate with vLLM's rule: contexts padded with −1; a repeated context takes the largest logit."""
    ids: list[int] = []
    seen: set[tuple[int, ...]] = set()
    for position in range(length):
        logits = fixture_logits(position)
        context = tuple([*[-1] * width, *ids][-width:])
        if skip_repeats and context in seen:
            ids.append(int(np.argmax(logits)))
            continue
        seen.add(context)
        word = PRFS[DEFAULT].words(key, np.array([context]), np.arange(VOCABULARY))
        ids.append(Gumbel().winner(logits, word))
    return ids


def compute() -> dict[str, Any]:
    """Return the golden content; keys are decimal texts, for they exceed 2^53."""
    words = [
        {
            "key": str(key),
            "context": context,
            "words": PRFS[DEFAULT].words(key, np.array([context]), np.array(TOKENS)).tolist(),
        }
        for key in KEYS
        for context in CONTEXTS
    ]
    root = Key.new("golden", bytes(range(32)), Spec())
    return {
        "scheme": "gumbel",
        "version": 1,
        "prf": DEFAULT,
        "tokens": TOKENS,
        "words": words,
        "generation": {"key": "42", "width": 4, "tokens": generate(42, 4, skip_repeats=True)},
        "derivation": {
            "root": bytes(range(32)).hex(),
            "scheme_key": f"{root.scheme_key():016x}",
            "fingerprint": root.fingerprint,
        },
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
