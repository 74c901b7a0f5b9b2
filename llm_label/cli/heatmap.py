"""`llm-label detect --heatmap`: what can be drawn, where it goes, and which key it shows."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from llm_label.errors import InputError

if TYPE_CHECKING:
    from llm_label.verify.heatmap import HeatMap
    from llm_label.watermark.keyring import Keyring

__all__ = ["MODE", "check", "terminal", "told"]

MODE = 0o600  # of the page: it holds the whole text, and scores that would help a forger


def check(out: str | None, names: Sequence[str], keys: Sequence[str], as_json: bool) -> None:
    """Refuse what cannot be shown before anything is read or written. Raises InputError."""
    if out is None:
        if keys:
            raise InputError("--heatmap-key says which key a heat map shows; give --heatmap OUT too")
        return
    if len(names) > 1:
        raise InputError(f"--heatmap shows one FILE, not {len(names)}; call it for each")
    if out == "-" and as_json:
        raise InputError("--heatmap - and --json both write to standard output; give --heatmap a file")
    if out != "-" and names[0] != "-" and _same(out, names[0]):
        raise InputError(f"--heatmap would overwrite the input {click.format_filename(out)}; name another file")


def _same(out: str, name: str) -> bool:
    try:
        return os.path.samefile(out, name)
    except (OSError, ValueError):  # one of the two is not there
        return False


def terminal(maps: "Sequence[HeatMap]") -> None:
    """Show the maps here: in colours where there are some, else with figures under each line."""
    from rich.console import Console

    from llm_label.verify.heattext import coloured, plain

    console = Console(highlight=False)
    if console.color_system is None or console.no_color:
        click.echo("".join(f"\n{plain(one, console.width)}\n" for one in maps), nl=False)
        return
    with console.capture() as caught:  # rich's own print would end a closed pipe with status 1
        for one in maps:
            console.print("", coloured(one), sep="\n")
    click.echo(caught.get(), nl=False, color=True)


def told(maps: "Sequence[HeatMap]", ring: "Keyring", keys: Sequence[str]) -> str | None:
    """Say of a ring of several keys which are drawn, and how others are."""
    drawn = list(dict.fromkeys(one.test.key for one in maps))
    if keys or len(ring.keys) == 1 or not drawn:
        return None
    why = "found a mark" if maps[0].test.decision == "marked" else "is the loudest; none found a mark"
    which = f"key {drawn[0]}, which" if len(drawn) == 1 else f"keys {', '.join(drawn)}, which"
    return f"the heat map shows {which} {why} (of {len(ring.keys)} keys; --heatmap-key ID shows another)"
