"""The operator's own files: where they stand when nobody says so, and secrets that only their owner may read."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from llm_label.errors import KeyringError

__all__ = ["default_audit", "default_keyring", "read_private"]


def read_private(path: Path, what: str) -> str:
    """Read a secret file that only its owner may read. Raises KeyringError naming the remedy."""
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):  # whose mode is nobody's to change
            raise KeyringError(f"{what} {path} is {'a directory' if stat.S_ISDIR(mode) else 'no file'}; name a file")
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise KeyringError(
                f"{what} {path} has mode {stat.S_IMODE(mode):04o} and can be read by others; run: chmod 600 {path}"
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise KeyringError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise KeyringError(f"{what} {path} is not UTF-8 text") from error


def default_keyring(environ: Mapping[str, str] = os.environ) -> Path:
    """Name the user's keyring file, whether it exists or not."""
    base = environ.get("XDG_CONFIG_HOME") or _home() / ".config"
    return Path(base) / "llm-label" / "keyring.json"


def default_audit(environ: Mapping[str, str] = os.environ) -> Path:
    """Name the user's audit database, whether it exists or not."""
    base = environ.get("XDG_STATE_HOME") or _home() / ".local" / "state"
    return Path(base) / "llm-label" / "audit.sqlite3"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a container's user that has neither HOME nor an entry in passwd
        return Path("/")
