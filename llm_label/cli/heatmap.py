"""`llm-label detect --heatmap`: what can be drawn, where it goes, and which key it shows."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import click

from llm_label.cli.output import opened, replaced, shown
from llm_label.errors import InputError

if TYPE_CHECKING:
    from llm_label.verify.heatmap import HeatMap
    from llm_label.verify.verdict import Verdict
    from llm_label.watermark.keyring import Keyring

__all__ = ["Drawing", "asked"]

OPTION = "--heatmap"
MODE = 0o600  # of the page: it holds the whole text, and scores that would help a forger


@dataclass(frozen=True)
class Drawing:
    """What was asked for: a file, or - for the terminal, and the ids of keys, if any were named."""

    out: str
    keys: tuple[str, ...]

    def check(self, ring: "Keyring") -> None:
        """Refuse keys that are not there. Raises InputError, KeyringError."""
        if not ring.keys:
            raise InputError(f"{OPTION} needs a keyring: scores are those of a key; give one with --keyring")
        for key in self.keys:
            ring.get(key)

    def opened(self) -> AbstractContextManager[BinaryIO | None]:
        """Open the page's file, if there is one, before the work."""
        return nullcontext() if self.out == "-" else opened(self.out, OPTION, MODE)

    def draw(self, maps: "Sequence[HeatMap]", verdict: "Verdict", name: str, page: BinaryIO | None) -> None:
        """Show the maps of a text of that name in the terminal, or write them to the page."""
        from llm_label.verify.heatpage import html

        if page is None:
            _show(maps)
        else:
            replaced(page, html(verdict, maps, name).encode("utf-8", "replace"), OPTION)  # half a character of JSON
            click.echo(f"llm-label detect: the heat map is in {shown(self.out)}", err=True)

    def which(self, maps: "Sequence[HeatMap]", ring: "Keyring") -> str | None:
        """Say of a ring of several keys which are drawn, and how others are."""
        drawn = list(dict.fromkeys(one.test.key for one in maps))
        if self.keys or len(ring.keys) == 1 or not drawn:
            return None
        keys = f"key{'s' * (len(drawn) > 1)} {', '.join(drawn)}"
        why = "found a mark" if maps[0].test.decision == "marked" else "is the loudest; none found a mark"
        return f"the heat map shows {keys}, which {why} (of {len(ring.keys)} keys; --heatmap-key ID shows another)"


def asked(out: str | None, keys: tuple[str, ...], names: Sequence[str], as_json: bool) -> Drawing | None:
    """Return what the options ask for; refuse what cannot be shown before anything is read. Raises InputError."""
    if out is None:
        if keys:
            raise InputError("--heatmap-key says which key a heat map shows; give --heatmap OUT too")
        return None
    if len(names) > 1:
        raise InputError(f"{OPTION} shows one FILE, not {len(names)}; call it for each")
    if out == "-" and as_json:
        raise InputError(f"{OPTION} - and --json both write to standard output; give {OPTION} a file")
    if out != "-" and names[0] != "-" and _same(out, names[0]):
        raise InputError(f"{OPTION} would overwrite the input {shown(out)}; name another file")
    return Drawing(out, keys)


def _same(out: str, name: str) -> bool:
    try:
        return os.path.realpath(out) == os.path.realpath(name) or os.path.samefile(out, name)
    except (OSError, ValueError):  # one of the two is not there
        return False


def _show(maps: "Sequence[HeatMap]") -> None:
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
