"""Which language a text is in, as far as its script tells.

Counting letters needs no model, decides at once and gives the same answer for every way of cutting the text,
which a label in a stream must. It cannot tell German from English: Latin script reads as `en`.
"""

import re

__all__ = ["SCRIPT_OF", "Tally", "language_of"]

# Script -> what one of its letters weighs. A Han character says about as much as three Latin letters, so that
# a Chinese answer full of English product names still counts as Chinese.
_WEIGHTS = {"han": 3, "kana": 3, "hangul": 3, "cyrillic": 1, "arabic": 1, "latin": 1}
_LETTERS = {
    "han": re.compile("[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"),
    "kana": re.compile("[\u3041-\u3096\u30a1-\u30fa\u31f0-\u31ff\uff66-\uff9d]+"),
    "hangul": re.compile("[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]+"),
    "cyrillic": re.compile("[\u0400-\u052f]+"),
    "arabic": re.compile("[\u0620-\u064a\u066e-\u06d3\u0750-\u077f\ufb50-\ufdfb\ufe70-\ufefc]+"),
    "latin": re.compile("[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]+"),
}
_NO_LETTERS = bytes(byte for byte in range(128) if not chr(byte).isalpha())
_ANY_LETTER = re.compile(r"[^\W\d_]+")
_LANGUAGES = {"hangul": "ko", "cyrillic": "ru", "arabic": "ar", "latin": "en"}

SCRIPT_OF = {"zh": "han", "ja": "kana", "ko": "hangul", "ru": "cyrillic", "ar": "arabic"}
"""The script a language is told by; every language that is not named here is written in Latin letters."""

# Prose in Japanese is about half Kana; a Chinese text that quotes a Japanese title has a few of them.
_KANA_SHARE = 1 / 6


class Tally:
    """Letters counted so far, by script."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(_LETTERS, 0)
        self._other = 0

    def add(self, text: str) -> None:
        if text.isascii():  # most chunks of most answers
            self._counts["latin"] += len(text.encode().translate(None, _NO_LETTERS))
            return
        counts = {script: _count(letters, text) for script, letters in _LETTERS.items()}
        for script, count in counts.items():
            self._counts[script] += count
        self._other += _count(_ANY_LETTER, text) - sum(counts.values())

    def language(self, text: str = "") -> str | None:
        """Name the language of all that was added, and of `text` after it; None when the script cannot tell."""
        if text:
            whole = Tally()
            whole._counts, whole._other = dict(self._counts), self._other
            whole.add(text)
            return whole.language()
        shares = {script: self._counts[script] * weight for script, weight in _WEIGHTS.items()}
        shares["han"] += shares["kana"]  # Japanese is written in both
        top = max(shares, key=lambda script: shares[script])
        if shares[top] == 0 or shares[top] < self._other:
            return None
        if top in ("han", "kana"):
            return "ja" if shares["kana"] >= _KANA_SHARE * shares["han"] else "zh"
        return _LANGUAGES[top]


def language_of(text: str) -> str | None:
    """Name the language of `text` by its script alone; None when there is nothing to tell it by."""
    if text.isascii():  # most prompts, and nothing to weigh
        return "en" if _LETTERS["latin"].search(text) else None
    tally = Tally()
    tally.add(text)
    return tally.language()


def _count(letters: re.Pattern[str], text: str) -> int:
    return sum(map(len, letters.findall(text)))
