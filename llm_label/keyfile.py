"""Keyrings and tokenizers on disk: which ring is meant, read with its mode checked, written for its owner alone."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from llm_label.errors import KeyringError
from llm_label.settings import Settings, default_keyring, read_private
from llm_label.watermark.keyring import Keyring, Spec, tokenizer_digest
from llm_label.watermark.schemes import SCHEMES

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = [
    "alone",
    "digest_of",
    "keyring_path",
    "load_keyring",
    "new_private",
    "read_keyring",
    "tokenizer_spec",
    "write_keyring",
]

PATIENCE = 10.0  # seconds to wait for another command; one holds a ring for milliseconds


def keyring_path(settings: Settings, given: Path | None = None) -> Path:
    """Name the ring that is meant: the one given, the one of the settings, or the user's own."""
    return given or settings.watermark.keyring or default_keyring()


def load_keyring(settings: Settings, given: Path | None = None) -> Keyring:
    """Read the ring that is meant; the user's own need not be there. Raises KeyringError."""
    path = keyring_path(settings, given)
    named = given is not None or settings.watermark.keyring is not None
    return read_keyring(path) if named or path.exists() else Keyring()


def digest_of(tokenizer: Path) -> str:
    """Digest a tokenizer.json. Raises KeyringError."""
    try:
        return tokenizer_digest(tokenizer.read_bytes())
    except OSError as error:
        raise KeyringError(f"tokenizer {tokenizer} cannot be read: {error.strerror or error}") from error
    except KeyringError as error:
        raise KeyringError(f"{tokenizer}: {error}") from error


def tokenizer_spec(tokenizer: Path | None, **more: Any) -> Spec:
    """Return the spec of a key for the model with this tokenizer.json, if its scheme needs one. Raises KeyringError."""
    if tokenizer is None or hasattr(SCHEMES.get(more.get("scheme", "gumbel")), "units"):
        return Spec(**more)
    return Spec(tokenizer=digest_of(tokenizer), tokenizer_path=str(tokenizer.resolve()), **more)


def read_keyring(path: Path) -> Keyring:
    """Read a ring. Raises KeyringError: no file, readable by others, or not a ring."""
    try:
        return Keyring.parse(read_private(path, "keyring"))
    except KeyringError as error:
        named = str(error) if str(path) in str(error) else f"keyring {path}: {error}"
        raise KeyringError(named) from error


def write_keyring(path: Path, ring: Keyring) -> None:
    """Replace the file in one step, mode 0600; a crash leaves the old ring or the new one. A link stays a link."""
    path = Path(os.path.realpath(path))
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


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Keep other commands from changing a ring between its reading and its writing. Raises KeyringError.

    The lock is a file of its own, beside the ring, whose file every write replaces by another.
    """
    path = Path(os.path.realpath(path))
    lock = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _locked(lock)
    except OSError as error:
        raise KeyringError(f"keyring {path} cannot be written: {lock}: {error.strerror or error}") from error
    try:
        yield
    finally:
        if fcntl is None:
            os.close(handle)  # Windows removes no open file
            lock.unlink(missing_ok=True)
        else:
            lock.unlink(missing_ok=True)  # while it is ours: once it is free it may be another's
            os.close(handle)


def _locked(lock: Path) -> int:
    """Return the lock file's handle once it is ours. Raises KeyringError after PATIENCE, OSError."""
    deadline = time.monotonic() + PATIENCE
    while (handle := _taken(lock)) is None:
        if time.monotonic() > deadline:
            remedy = f"if there is none, delete {lock}" if fcntl is None else "let it end, or stop it"
            raise KeyringError(f"{lock} is held by another command, for more than {PATIENCE:g} s; {remedy}")
        time.sleep(0.01)
    return handle


def _taken(lock: Path) -> int | None:
    """Try to take a lock file; None while another command has it. A killed one leaves it free, if there is flock."""
    if fcntl is None:
        try:
            return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return None
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    ours = False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours = os.path.samestat(os.fstat(handle), os.stat(lock))  # or else who had it took it away meanwhile
    except (BlockingIOError, FileNotFoundError):
        return None  # another command has it, or took it away just now
    finally:
        if not ours:
            os.close(handle)
    return handle if ours else None


def new_private(path: Path, text: str) -> None:
    """Write a file that was not there before and that only its owner may read. Raises KeyringError."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise KeyringError(f"{path} exists already and is not overwritten; name a new file") from error
    except OSError as error:
        raise KeyringError(f"{path} cannot be made: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise KeyringError(f"{path} cannot be written: {error.strerror or error}") from error
