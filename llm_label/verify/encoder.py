"""Text to token ids, by the key's own tokenizer and no other.

The text is taken as plain text from its first character to its last: no special tokens are added, nothing is
cut off, and a string such as `<|im_end|>` is spelled out: no server turns a real special token into text.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from llm_label.errors import InputError, KeyringError
from llm_label.watermark.keyring import Key, tokenizer_digest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Encoder"]


class Encoder:
    """Load each tokenizer once, check that it is the one the key was made for, and encode."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str | None], Tokenizer] = {}

    def ids(self, text: str, key: Key) -> npt.NDArray[np.int64]:
        """Return the token ids [n] of a text. Raises KeyringError for a tokenizer that is not the key's."""
        tokenizer = self._tokenizer(key)
        try:
            return np.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        except Exception as error:  # the library raises bare Exception, for example without an unknown token
            raise InputError(f"the tokenizer of a key cannot encode the text: {error}") from error

    def text(self, ids: npt.NDArray[np.integer], key: Key) -> str:
        """Return the text that ids [n] spell; characters cut at either end become U+FFFD."""
        return str(self._tokenizer(key).decode(ids.tolist(), skip_special_tokens=False))

    def _tokenizer(self, key: Key) -> "Tokenizer":
        place = (key.spec.tokenizer_path or "", key.spec.tokenizer)
        if place not in self._loaded:
            self._loaded[place] = _load(key)
        return self._loaded[place]


def _load(key: Key) -> "Tokenizer":
    from tokenizers import Tokenizer

    path, wanted = key.spec.tokenizer_path, key.spec.tokenizer
    if path is None:
        raise KeyringError(f"key {key.id!r} names no tokenizer_path; detection needs the tokenizer.json of its model")
    try:
        content = Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of an unknown user
        reason = getattr(error, "strerror", None) or error
        raise KeyringError(
            f"key {key.id!r}: tokenizer {path} cannot be read ({reason}); correct its tokenizer_path in the keyring"
        ) from error
    found = tokenizer_digest(content)
    if wanted is not None and found != wanted:
        raise KeyringError(
            f"key {key.id!r} belongs to another tokenizer: it needs {wanted}, {path} is {found}; "
            "put the right tokenizer.json there"
        )
    try:
        tokenizer = Tokenizer.from_str(content.decode("utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise KeyringError(f"key {key.id!r}: tokenizer {path} cannot be loaded: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer
