"""`llm-label keys payload`: say which deployment writes a payload."""

from pathlib import Path

import click

from llm_label.cli.keys.ring import changing, named, option, write
from llm_label.errors import InputError

__all__ = ["payload"]


class _Command(click.Command):
    """Remember what came after `--`, where anything may begin with a dash."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[__name__] = args[args.index("--") + 1 :] if "--" in args else []
        return super().parse_args(ctx, args)


def _no_option(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """Refuse an option that does not exist: to let -1 through as a number, the parser passes all of them on."""
    if value.startswith("-") and value not in ctx.meta[__name__]:
        raise click.NoSuchOption(value, ctx=ctx)
    return value


@click.command(
    "payload",
    cls=_Command,
    short_help="Name the deployment that writes a payload.",
    epilog='Example: llm-label keys payload 2026-12 17 "support chat, Frankfurt"',
    context_settings={"ignore_unknown_options": True},
)
@click.argument("id", callback=_no_option)
@click.argument("number", metavar="PAYLOAD", type=int)
@click.argument("name", callback=_no_option)
@click.option("--replace", is_flag=True, help="Also where the payload has another name already.")
@option
def payload(id: str, number: int, name: str, replace: bool, keyring: Path | None) -> None:
    """Name the provider or deployment that writes a payload; detection then names it too."""
    path = named(keyring)
    with changing(path) as ring:
        key = ring.get(id)
        named_so = key.naming(number, name)
        old = key.name_of(number)
        if old not in (None, name) and not replace:
            raise InputError(
                f"payload {number} of key {id!r} is {old!r} already; --replace gives it the new name, also in what "
                "detection says of texts that carry it already"
            )
        write(path, ring.replacing(named_so))
    click.echo(f"{id}  payload {number} is {name}" + (f", no longer {old}" if old not in (None, name) else ""))
