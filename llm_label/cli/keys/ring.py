"""The ring that a command of `llm-label keys` is about: which file, read, and written again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from llm_label.errors import InputError, KeyringError
from llm_label.keyfile import alone, keyring_path, read_keyring, write_keyring
from llm_label.settings import load
from llm_label.watermark.keyring import Keyring

__all__ = ["changing", "named", "option", "read", "write"]

option = click.option("--keyring", type=click.Path(path_type=Path), help="Keyring file; default: the user's own.")


def named(given: Path | None) -> Path:
    """Return the file that is meant."""
    return keyring_path(load(None), given)


def read(path: Path) -> Keyring:
    """Read a ring that must be there. Raises InputError, KeyringError."""
    if not path.exists():
        raise InputError(f"there is no keyring at {path}; make one with: llm-label keys new ID --tokenizer PATH")
    return read_keyring(path)


@contextmanager
def changing(path: Path, *, new: bool = False) -> Iterator[Keyring]:
    """Read a ring that no other command changes until we are done; `new`: it need not be there.

    Raises InputError, KeyringError.
    """
    if not (new or path.exists()):
        read(path)  # says so, before a lock is made beside it
    with alone(path):
        yield Keyring() if new and not path.exists() else read(path)


def write(path: Path, ring: Keyring) -> None:
    """Write a ring that we are `changing`. Raises KeyringError."""
    try:
        write_keyring(path, ring)
    except OSError as error:
        raise KeyringError(f"keyring {path} cannot be written: {error.strerror or error}") from error
