"""Mark text without touching the model: keep the candidate that the key of scheme `select` prefers."""

from collections.abc import Sequence

from llm_label.errors import KeyringError
from llm_label.watermark.keyring import Key
from llm_label.watermark.schemes.select import Choice, Select

__all__ = ["Choice", "choice", "choose"]


def choose(candidates: Sequence[str], key: Key, before: str = "") -> int:
    """Return the index of the text to keep among candidates drawn from one model for one prompt.

    Give them in the order in which they were drawn: where they are too short or too much alike to choose by, the first
    is kept. `before`: what of the answer stands already, where candidates continue it; each such choice adds to the
    mark. An answer that is chosen whole is marked no stronger than a chance of 1 in len(candidates) + 1.
    Raises KeyringError for a key of another scheme, ValueError without candidates.
    """
    return choice(candidates, key, before).kept


def choice(candidates: Sequence[str], key: Key, before: str = "") -> Choice:
    """Return what `choose` returns, and whether the key had a choice: else the text kept carries no mark."""
    rules = key.spec.rules
    if not isinstance(rules, Select):
        raise KeyringError(
            f"key {key.id!r} is one of scheme {key.spec.scheme!r}; choosing needs one of scheme 'select'"
        )
    if not candidates:
        raise ValueError("there must be at least one candidate")
    return rules.choose(key.scheme_key(), candidates, before)
