"""Compute what tests/golden/select_v1.json holds; run as a module to write it for a NEW scheme version."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.letters import letters
from llm_label.watermark.scan import scan
from llm_label.watermark.schemes.select import Select
from llm_label.watermark.selection import choose

FILE = Path(__file__).parent.parent / "golden" / "select_v1.json"
KEYS = (0, 42, 2**32, 2**64 - 1)
TEXTS = (
    "The **quick** brown fox\r\njumps over the lazy dog.",
    "敏捷的棕色狐狸跳过了懒狗,然后睡着了。",
    "Ａ ß é ﬁ が ① İ Σς 한국 हिन्दी 😀",
)
ANSWERS = (
    "A label tells readers that a text was generated.",
    "Readers learn from a label that a text is generated.",
    "标识告诉读者这段文字由人工智能生成合成。",
    "The label tells: generated.",
    "A LABEL tells readers that a text was generated!",
)


def compute() -> dict[str, Any]:
    """Return the golden content; keys are decimal texts, for they exceed 2^53."""
    root = Key.new("golden", bytes(range(32)), Spec(scheme="select"))
    rules = Select()
    grams = np.lib.stride_tricks.sliding_window_view(letters(TEXTS[0])[0], 8)[:4]
    return {
        "scheme": "select",
        "version": 1,
        "prf": root.spec.prf,
        "units": rules.units,
        "letters": [{"text": text, "units": letters(text)[0].tolist()} for text in TEXTS],
        "scores": [
            {"key": str(key), "scores": rules.token_scores(key, grams[:, :-1], grams[:, -1]).tolist()} for key in KEYS
        ],
        "choices": [
            {
                "key": str(key),
                "kept": rules.choose(key, ANSWERS).kept,
                "after": rules.choose(key, ANSWERS, ANSWERS[0][:40]).kept,
            }
            for key in KEYS
        ],
        "scan": scan(letters(ANSWERS[choose(ANSWERS, root)])[0], root).__dict__,
        "derivation": {
            "root": bytes(range(32)).hex(),
            "scheme_key": f"{root.scheme_key():016x}",
            "fingerprint": root.fingerprint,
        },
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(compute(), indent=1) + "\n", encoding="utf-8")
