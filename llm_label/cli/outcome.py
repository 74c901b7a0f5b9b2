"""Commands whose exit status 1 is an answer: an error must never be taken for it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from llm_label.errors import LabelError

__all__ = ["ERROR", "errors_apart"]

ERROR = 2


@contextmanager
def errors_apart(command: str) -> Iterator[None]:
    """Turn every error into one line on stderr and status 2; Python itself would end with status 1."""
    try:
        yield
    except BrokenPipeError:
        raise
    except LabelError as error:
        click.echo(f"llm-label {command}: {error}", err=True)
        sys.exit(ERROR)
    except Exception as error:
        click.echo(f"llm-label {command}: internal error: {type(error).__name__}: {error}", err=True)
        sys.exit(ERROR)
