"""Compute what tests/golden/siphash_2_4_v1.json holds; run as a module to write it for a NEW mapping."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from llm_label.watermark import siphash
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.prf import PRFS
from llm_label.watermark.scan import scan
from tests.verify.marking import marked_ids
from tests.watermark.golden_gumbel import CONTEXTS, TOKENS

FILE = Path(__file__).parent.parent / "golden" / "siphash_2_4_v1.json"
KEYS = (0, 42, 2**64, 2**128 - 1)


def both_keys(key: int) -> tuple[str, str]:
    """Derive keys A and B of dual_gumbel by hand."""
    first, second = (hashlib.sha256(label + key.to_bytes(16, "big")).hexdigest()[:32] for label in (b"key_a", b"key_b"))
    return first, second


def compute() -> dict[str, Any]:
    """Return the golden content; keys are decimal texts, for they exceed 2^53."""
    words = [
        {
            "key": str(key),
            "context": context,
            "words": PRFS[siphash.NAME].words(key, np.array([context]), np.array(TOKENS)).tolist(),
        }
        for key in KEYS
        for context in CONTEXTS
    ]
    schemes = []
    for scheme in ("gumbel", "dual_gumbel", "bernoulli"):
        key = Key.new("golden", bytes(range(32)), Spec(scheme=scheme, prf=siphash.NAME, payload_bits=8)).carrying(17)
        tokens = marked_ids(key, list(range(100, 116)), 64, seed=1)
        derivation = {"scheme_key": f"{key.scheme_key():032x}", "fingerprint": key.fingerprint}
        schemes.append({"scheme": scheme, **derivation, "payload": 17, "tokens": tokens, **scan(tokens, key).__dict__})
    return {"prf": siphash.NAME, "tokens": TOKENS, "words": words, "schemes": schemes}


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
