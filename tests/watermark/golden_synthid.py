"""Compute what tests/golden/synthid_v1.json holds; run as a module to write it for a NEW scheme version."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from llm_label.watermark import tournament
from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.scan import scan
from llm_label.watermark.schemes.synthid import SynthID, join_keys

FILE = Path(__file__).parent.parent / "golden" / "synthid_v1.json"
KEYS = [654, 400, 836, 123, 340, 443, 597, 160, 57]
TOKENS = [0, 1, 7, 255, 50_256, 151_935]
CONTEXTS = [[0, 0, 0, 0], [0, 0, 0, 17], [1, 2, 3, 4], [151_935, 0, 7, 99]]
TABLES = [("cpu", 0, 65536), ("cpu", 5, 1024), ("cuda", 0, 65536), ("cuda", 0, 1024)]


def fixture_ids(length: int = 60) -> list[int]:
    """Return ids with a repeated stretch: no mark, every value from a formula."""
    return [(37 * n * n + 11 * n) % 4096 for n in range(length)] + [(37 * n * n + 11 * n) % 4096 for n in range(10)]


def imported(keys: list[int] = KEYS, variety: str = "none", **parameters: Any) -> Key:
    """Return a key with these layer keys."""
    spec = Spec(scheme="synthid", parameters={"depth": len(keys), **parameters}, variety=variety)  # type: ignore[arg-type]
    return Key.imported("synthid", join_keys(keys), spec)


def compute() -> dict[str, Any]:
    """Return the golden content."""
    root = Key.new("golden", bytes(range(32)), Spec(scheme="synthid"))
    scans = {
        f"{table} {statistic}": scan(fixture_ids(), imported(sampling_table=table, statistic=statistic))
        for table in ("cpu", "cuda")
        for statistic in ("weighted", "mean")
    }
    return {
        "scheme": "synthid",
        "version": 1,
        "prf": SynthID.prf,
        "tables": {
            f"{device} {seed} {size}": hashlib.sha256(tournament.sampling_table(device, seed, size)).hexdigest()
            for device, seed, size in TABLES
        },
        "keys": KEYS,
        "tokens": TOKENS,
        "bits": [{"context": context, "g": _bits(context)} for context in CONTEXTS],
        "scans": {name: [found.score, found.scored, found.log10_p] for name, found in scans.items()},
        "derivation": {"root": bytes(range(32)).hex(), "scheme_key": f"{root.scheme_key():0480x}"},
    }


def _bits(context: list[int]) -> list[str]:
    contexts = np.array([context] * len(TOKENS))
    g = SynthID(depth=len(KEYS)).bits(join_keys(KEYS), contexts, np.array(TOKENS))
    return ["".join(map(str, row)) for row in g.tolist()]


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
