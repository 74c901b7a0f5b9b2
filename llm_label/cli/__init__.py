"""The command line. Each command lives in a file of its own and is imported only when it is called."""

import difflib
import importlib
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from llm_label.cli.outcome import ERROR, PIPE_CLOSED, nobody_reads_on, told

__all__ = ["main"]

# command -> (its one-line help, where it lives); `--help` need not import them
COMMANDS = {
    "demo": ("Show the main job: ask, mark, and find the marks again.", "demo"),
    "serve": ("Run the proxy.", "serve"),
    "detect": ("Look for marks in files and say what follows from them.", "detect"),
    "check": ("Validate the settings and print the effective policy.", "check"),
    "keys": ("Make and list watermark keys; make API keys for clients.", "keys"),
    "calibrate": ("Measure how often keys find a mark in unmarked text.", "calibrate"),
    "audit": ("Read the audit log.", "audit"),
}


class _Commands(click.Group):
    def make_context(self, *given: Any, **more: Any) -> click.Context:
        with _pipe():  # --help is printed here
            return super().make_context(*given, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with _pipe():
            return super().invoke(ctx)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(COMMANDS)}"
            raise click.UsageError(f"there is no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f".{COMMANDS[cmd_name][1]}", __name__)
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (text, _) in COMMANDS.items()])


@contextmanager
def _pipe() -> Iterator[None]:
    """End at `| head` as other programs do. Not with click's status 1, which `detect` means something by."""
    try:
        yield
    except BrokenPipeError:
        nobody_reads_on()
        raise click.exceptions.Exit(PIPE_CLOSED) from None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog="Example: llm-label demo")
@click.version_option(package_name="llm-label", message="%(prog)s %(version)s")
def group() -> None:
    """Label, record and watermark what a language model writes, and find the marks again."""


def main() -> None:
    """Run a command; every error is one line on stderr and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without Chinese shows escapes, not a traceback
    try:
        sys.exit(group(prog_name="llm-label", standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.ctx.get_help() if error.ctx else error, file=sys.stderr)
        sys.exit(ERROR)
    except click.ClickException as error:
        _end(_usage(error), error)
    except Exception as error:
        _end(f"llm-label: {told(error)}", error)


def _usage(error: click.ClickException) -> str:
    """Say what was wrong in a command line, and where the right ones stand."""
    said = " ".join(error.format_message().split())
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return f"llm-label: {said}"
    name = error.ctx.command_path
    return f"{name}: {said.removesuffix('.')}; see {name} --help"


def _end(line: str, error: Exception) -> None:
    if isinstance(error, OSError):
        nobody_reads_on()
    with suppress(OSError):  # nor need there be anybody to tell
        print(line, file=sys.stderr)
    sys.exit(ERROR)
