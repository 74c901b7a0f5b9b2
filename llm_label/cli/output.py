"""A file that a command writes at its end: opened before the work, so that no work is in vain."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from llm_label.errors import InputError

__all__ = ["opened", "replaced", "shown"]


@contextmanager
def opened(out: str | Path, option: str, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Open a file to write to, and leave it as it was if the work fails.

    A new one gets the mode (less the umask), one that was there keeps its own. Raises InputError that names the option.
    """
    new = not os.path.exists(out)
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT, mode)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{option} {shown(os.fspath(out))} cannot be written: {why}") from error
    with os.fdopen(handle, "wb") as file:
        try:
            yield file
        except BaseException:
            if new:
                os.unlink(os.path.realpath(out))
            raise


def replaced(file: BinaryIO, content: bytes, option: str) -> None:
    """Write the content in place of what an opened file held. Raises InputError."""
    try:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe has no length
            file.truncate()
        file.write(content)
        file.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{option}: writing failed: {error.strerror or error}") from error


def shown(name: str) -> str:
    """Return a file name that any terminal and JSON can hold, though it need not be UTF-8."""
    return "".join(c if c.isprintable() else "\ufffd" for c in click.format_filename(name))
