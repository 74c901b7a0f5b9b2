"""Bytes that no repr, error or pickle shows."""

import hmac
from typing import Any, NoReturn

from llm_label.errors import KeyringError

__all__ = ["Secret"]


class Secret:
    """Hold bytes that print as "(secret)" and refuse to be pickled."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = bytes(value)

    def reveal(self) -> bytes:
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __repr__(self) -> str:
        return "(secret)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "Secret":
        return self

    def __reduce__(self) -> NoReturn:
        raise KeyringError("a watermark secret cannot be pickled; pass the keyring file to the other process")
