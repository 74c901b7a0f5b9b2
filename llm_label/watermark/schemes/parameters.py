"""Check a scheme's parameters: one line that says what was given and what is allowed."""

import re

from llm_label.errors import KeyringError
from llm_label.watermark.prf import PRFS

__all__ = ["known_prf", "number", "shown"]


def known_prf(scheme: str, name: object) -> None:
    """Raise KeyringError unless that is the name of a mapping that schemes may choose."""
    if not isinstance(name, str) or name not in PRFS:
        raise KeyringError(f"scheme {scheme!r}: prf {shown(name)} is not known; known: {', '.join(PRFS)}")


def number(scheme: str, name: str, value: object, low: float, high: float) -> float:
    """Return a parameter as float, or raise KeyringError unless it is a number from low to high."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise KeyringError(f"scheme {scheme!r}: {name} is a number from {low:g} to {high:g}, not {shown(value)}")
    return float(value)


def shown(value: object) -> str:
    """Quote a value for an error, unless it is long or could be a secret at the wrong place."""
    text = repr(value)
    return "(not shown)" if len(text) > 80 or re.search(r"[0-9a-fA-F]{12}", text) else text
