"""`llm-label keys list` and `keys show`: what is in the ring."""

import json
from pathlib import Path

import click

from llm_label.cli.keys.ring import named, option, read
from llm_label.errors import InputError
from llm_label.keyfile import new_private
from llm_label.watermark.keyring import Key, Keyring
from llm_label.watermark.schemes import SCHEMES

__all__ = ["list_keys", "show"]


@click.command("list", epilog="Example: llm-label keys list")
@option
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def list_keys(keyring: Path | None, as_json: bool) -> None:
    """List the ring's keys: ids, fingerprints and specs."""
    ring = read(named(keyring))
    if as_json:
        click.echo(_json([_public(key) for key in ring.keys]))
        return
    for key in ring.keys:
        spec = key.spec
        scheme = " ".join([f"{spec.scheme} {spec.version}", *(f"{name}={value}" for name, value in spec.parameters)])
        prf = "" if spec.prf == SCHEMES[spec.scheme].prf else f"  {spec.prf}"
        click.echo(f"{key.id}  {key.fingerprint}  {scheme}{prf}  {spec.tokenizer_path or '-'}")
        if spec.payload_bits:
            click.echo(f"  payloads 0 to {2**spec.payload_bits - 1}")
        for payload, name in key.payloads:
            click.echo(f"  payload {payload}: {name}")


@click.command("show", epilog="Example: llm-label keys show 2026-11 --for-auditor --out auditor.json")
@click.argument("id")
@click.option("--reveal", is_flag=True, help="Show the secret too.")
@click.option("--for-auditor", is_flag=True, help="Give a ring with the scheme key alone, without the root.")
@click.option("--with-names", is_flag=True, help="Tell the auditor the names of payloads too.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write to a new FILE of mode 0600 instead."
)
@option
def show(id: str, reveal: bool, for_auditor: bool, with_names: bool, out: Path | None, keyring: Path | None) -> None:
    """Show one key as JSON, without its secret unless asked."""
    if reveal and for_auditor:
        raise InputError(
            "--reveal and --for-auditor exclude each other: the one shows the root, the other is without it"
        )
    if with_names and not for_auditor:
        raise InputError("--with-names goes with --for-auditor; alone the names are shown anyway")
    if out == Path():  # what an empty shell variable leaves
        raise InputError("--out names no file; name a new one")
    key = read(named(keyring)).get(id)
    if for_auditor:
        told = Keyring((key.for_auditor(names=with_names),)).dumps().rstrip()
    else:
        told = _json(_public(key) | ({"secret": key.reveal()} if reveal else {}))
    if out is None:
        click.echo(told)
        return
    new_private(out, told + "\n")
    click.echo(f"{key.id}  {key.fingerprint}  {'a ring for an auditor' if for_auditor else 'the key'} is in {out}")


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def _public(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "fingerprint": key.fingerprint,
        "origin": key.origin,
        "created": key.created,
        "spec": key.spec.to_dict() | {"distorts": key.spec.rules.distorts},
        **({"payloads": {str(payload): name for payload, name in key.payloads}} if key.payloads else {}),
    }
