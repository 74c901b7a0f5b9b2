"""Compute what tests/golden/bernoulli_v1.json holds; run as a module to write it for a NEW scheme version."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.prf import DEFAULT, PRFS
from llm_label.watermark.scan import scan
from llm_label.watermark.schemes.bernoulli import Bernoulli
from tests.watermark.golden_gumbel import KEYS, VOCABULARY, fixture_logits

FILE = Path(__file__).parent.parent / "golden" / "bernoulli_v1.json"
CONTEXTS = ([-1, -1, -1, -1], [1, 2, 3, 4], [151_935, 0, 7, 99])


def generate(key: int, rules: Bernoulli, length: int = 64) -> list[int]:
    """Decode greedily: the largest logit after green tokens got their bias."""
    ids: list[int] = []
    for position in range(length):
        context = np.array([[*[-1] * 4, *ids][-4:]])
        green = rules.green(PRFS[rules.prf].words(key, context, np.arange(VOCABULARY)))
        ids.append(int(np.argmax(fixture_logits(position) + rules.delta * green)))
    return ids


def compute() -> dict[str, Any]:
    """Return the golden content; keys are decimal texts, for they exceed 2^53."""
    root = Key.new("golden", bytes(range(32)), Spec(scheme="bernoulli"))
    greens, generations = [], []
    for gamma in (0.25, 0.5):
        rules = Bernoulli(gamma)
        for key in KEYS:
            for context in CONTEXTS:
                green = rules.green(PRFS[rules.prf].words(key, np.array([context]), np.arange(VOCABULARY)))
                greens.append(
                    {"gamma": gamma, "key": str(key), "context": context, "green": np.flatnonzero(green).tolist()}
                )
        tokens = generate(42, rules)
        spec = Spec(scheme="bernoulli", parameters={"gamma": gamma, "delta": rules.delta}, variety="none")
        found = scan(tokens, Key.imported("golden", 42, spec))
        generations.append({"key": "42", "gamma": gamma, "delta": rules.delta, "tokens": tokens, **found.__dict__})
    return {
        "scheme": "bernoulli",
        "version": 1,
        "prf": DEFAULT,
        "greens": greens,
        "generations": generations,
        "derivation": {
            "root": bytes(range(32)).hex(),
            "scheme_key": f"{root.scheme_key():016x}",
            "fingerprint": root.fingerprint,
        },
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
