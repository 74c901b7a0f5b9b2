"""What becomes of an error: one line on standard error and status 2, which no answer has."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from llm_label.errors import LabelError

__all__ = ["ERROR", "PIPE_CLOSED", "errors_apart", "nobody_reads_on", "told"]

ERROR = 2
PIPE_CLOSED = 141  # as a shell tells of a program that SIGPIPE ended


@contextmanager
def errors_apart(command: str) -> Iterator[None]:
    """Turn every error into one line on stderr and status 2; Python itself would end with status 1.

    It is for commands whose status 1 is an answer: an error must never be taken for it.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except Exception as error:
        line = told(error)
        if isinstance(error, OSError):
            nobody_reads_on()
        click.echo(f"llm-label {command}: {line}", err=True)
        sys.exit(ERROR)


def told(error: Exception) -> str:
    """Say in one line what went wrong. Under `python -X dev` a mistake of ours goes on as it is, traceback and all."""
    if isinstance(error, LabelError):
        return str(error)
    if isinstance(error, OSError):  # no filename: a stream, as of a disk that is full
        return f"{error.filename or 'reading or writing failed'}: {error.strerror or error}"
    if sys.flags.dev_mode:
        raise error
    said = " ".join(str(error).split())
    return f"internal error: {type(error).__name__}: {said}; PYTHONDEVMODE=1 shows where"


def nobody_reads_on() -> None:
    """Let what is still to be written go nowhere: standard output failed, and would fail again at the end."""
    with suppress(OSError, ValueError, AttributeError):  # it may be closed, or not there at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
