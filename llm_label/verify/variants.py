"""The ways a text may have been changed on its way here without a word of it changing.

This list is part of every result's signature. Each variant that gives other token ids is one more try, and is
paid for in the correction; nothing else is ever normalised.
"""

import unicodedata
from collections.abc import Callable

__all__ = ["VARIANTS"]


def _lf(text: str) -> str:
    return text.replace("\r\n", "\n")


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", _lf(text))


def _bare(text: str) -> str:
    return _lf(text).lstrip()


def _spaced(text: str) -> str:
    # Many models begin an answer with a space that clients trim; it is part of the first token.
    return " " + _lf(text).lstrip()


VARIANTS: dict[str, Callable[[str], str]] = {
    "as_is": lambda text: text,
    "lf": _lf,  # saved by an editor that writes CRLF
    "nfc": _nfc,  # passed through a file system or form that decomposes
    "no_space": _bare,
    "space": _spaced,
}
