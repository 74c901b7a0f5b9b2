"""The keyring on disk: read with its mode checked, written so that only its owner can read it."""

import os
import tempfile
from pathlib import Path

from llm_label.errors import KeyringError
from llm_label.settings import read_private
from llm_label.watermark.keyring import Keyring

__all__ = ["read_keyring", "write_keyring"]


def read_keyring(path: Path) -> Keyring:
    """Read a ring. Raises KeyringError: no file, readable by others, or not a ring."""
    try:
        return Keyring.parse(read_private(path, "keyring"))
    except KeyringError as error:
        named = str(error) if str(path) in str(error) else f"keyring {path}: {error}"
        raise KeyringError(named) from error


def write_keyring(path: Path, ring: Keyring) -> None:
    """Replace the file in one step, mode 0600; a crash leaves the old ring or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=path.name, text=False)  # mkstemp gives 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(ring.dumps().encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise
