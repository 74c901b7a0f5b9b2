"""The command line. Each command lives in a file of its own and is imported only when it is called."""

import importlib
import io
import os
import sys
from typing import Any

import click

from llm_label.errors import LabelError

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
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `| head`: nobody reads on. Not 1, which `detect` means something by
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise click.exceptions.Exit(141) from None

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


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
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
        sys.exit(2)
    except click.ClickException as error:
        print(f"llm-label: {' '.join(error.format_message().split())}", file=sys.stderr)
        sys.exit(2)
    except LabelError as error:
        print(f"llm-label: {error}", file=sys.stderr)
        sys.exit(2)
