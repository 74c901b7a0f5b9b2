"""Compute what tests/golden/dual_gumbel_v1.json holds; run as a module to write it for a NEW scheme version.

Logits and routing are those of vLLM's watermarking goldens (Apache-2.0): a token goes to key B where the
fractional part of (i + 1)·(√5 − 1)/2, rounded to four digits, is at least the chance of key A.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.prf import DEFAULT, PRFS
from llm_label.watermark.scan import scan
from llm_label.watermark.schemes.dual_gumbel import DualGumbel
from llm_label.watermark.schemes.gumbel import Gumbel
from tests.watermark.golden_gumbel import KEYS, VOCABULARY, fixture_logits

FILE = Path(__file__).parent.parent / "golden" / "dual_gumbel_v1.json"
GENERATED = ((0, 0.1), (42, 0.1), (2**64 - 1, 0.4))


def generate(key: int, alpha: float, width: int = 4, length: int = 64, vocabulary: int = VOCABULARY) -> list[int]:
    """Generate with vLLM's rules: contexts padded with −1; a repeated context takes the largest logit."""
    keys = DualGumbel(alpha).keys(key)
    ids: list[int] = []
    seen: set[tuple[int, ...]] = set()
    for position in range(length):
        logits = fixture_logits(position)[:vocabulary]
        context = tuple([*[-1] * width, *ids][-width:])
        if context in seen:
            ids.append(int(np.argmax(logits)))
            continue
        seen.add(context)
        routed = round((position + 1) * (5**0.5 - 1) / 2 % 1.0, 4) >= 1.0 - alpha
        word = PRFS[DEFAULT].words(keys[routed], np.array([context]), np.arange(vocabulary))
        ids.append(Gumbel().winner(logits, word))
    return ids


def compute() -> dict[str, Any]:
    """Return the golden content; keys are decimal texts, for they exceed 2^53."""
    root = Key.new("golden", bytes(range(32)), Spec(scheme="dual_gumbel"))
    generations = []
    for key, alpha in GENERATED:
        tokens = generate(key, alpha)
        spec = Spec(scheme="dual_gumbel", parameters={"alpha": alpha}, variety="none")
        found = scan(tokens, Key.imported("golden", key, spec))
        generations.append({"key": str(key), "alpha": alpha, "tokens": tokens, **found.__dict__})
    return {
        "scheme": "dual_gumbel",
        "version": 1,
        "prf": DEFAULT,
        "derived": {str(key): [str(one) for one in DualGumbel().keys(key)] for key in KEYS},
        "generations": generations,
        "derivation": {
            "root": bytes(range(32)).hex(),
            "scheme_key": f"{root.scheme_key():016x}",
            "fingerprint": root.fingerprint,
        },
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
