"""Text to token ids, by the key's own tokenizer and no other.

The text is taken as plain text from its first character to its last: no special tokens are added, nothing is
cut off, and a string such as `<|im_end|>` is spelled out: no server turns a real special token into text.

A long text is encoded in chunks, for the tokenizers library takes a kilobyte per token while it works and slows
down on long texts. The ids are those of the whole text at once: see `chunks.py`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from llm_label.errors import InputError, KeyringError
from llm_label.verify.chunks import Chunked, Common
from llm_label.verify.encoding import Encoding
from llm_label.watermark.keyring import Key, tokenizer_digest
from llm_label.watermark.letters import LETTERS, Letters

__all__ = ["Encoder"]

Ids: TypeAlias = npt.NDArray[np.int64]


class Encoder:
    """Load each tokenizer once, check that it is the one the key was made for, and encode."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str | None], Chunked | Letters] = {}

    def encode(self, text: str, key: Key) -> Encoding:
        """Return ids and offsets of a text. Raises KeyringError for a tokenizer that is not the key's."""
        return self.encode_all((text,), key)[0]

    def encode_all(self, texts: Sequence[str], key: Key, common: Sequence[Common] = ()) -> list[Encoding]:
        """Encode several readings of one text: what they have in common is encoded once."""
        tokenizer = self._tokenizer(key)
        if isinstance(tokenizer, Letters):
            return [Encoding.measured(*arrays) for arrays in tokenizer.encode_all(texts)]
        try:
            return tokenizer.encode_all(texts, common)
        except Exception as error:  # the library raises bare Exception, for example without an unknown token
            raise InputError(f"the tokenizer of a key cannot encode the text: {error}") from error

    def ids(self, text: str, key: Key) -> Ids:
        """Return the token ids [n] of a text."""
        return self.encode(text, key).ids

    def text(self, ids: npt.NDArray[np.integer], key: Key) -> str:
        """Return the text that ids [n] spell; characters cut at either end become U+FFFD."""
        return self._tokenizer(key).decode(ids.tolist())

    def _tokenizer(self, key: Key) -> Chunked | Letters:
        place = (key.spec.tokenizer_path or "", key.spec.tokenizer)
        if place not in self._loaded:
            self._loaded[place] = _load(key)
        return self._loaded[place]


def _load(key: Key) -> Chunked | Letters:
    path, wanted = key.spec.tokenizer_path, key.spec.tokenizer
    if path == LETTERS:
        return Letters()
    if path is None:
        raise KeyringError(f"key {key.id!r} names no tokenizer_path; detection needs the tokenizer.json of its model")
    try:
        content = Path(path).expanduser().read_bytes()
    except (OSError, RuntimeError) as error:  # RuntimeError: ~ of an unknown user
        reason = getattr(error, "strerror", None) or error
        raise KeyringError(
            f"key {key.id!r}: tokenizer {path} cannot be read ({reason}); correct its tokenizer_path in the keyring"
        ) from error
    try:
        found = tokenizer_digest(content)
    except KeyringError as error:
        raise KeyringError(f"key {key.id!r}: {path}: {error}; correct its tokenizer_path in the keyring") from error
    if wanted is not None and found != wanted:
        raise KeyringError(
            f"key {key.id!r} belongs to another tokenizer: it needs {wanted}, {path} is {found}; "
            "put the right tokenizer.json there"
        )
    try:
        return Chunked(content.decode("utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise KeyringError(f"key {key.id!r}: tokenizer {path} cannot be loaded: {error}") from error
