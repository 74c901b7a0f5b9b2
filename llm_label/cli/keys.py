"""`llm-label keys`: make and list watermark keys. Secrets are shown only on request."""

import datetime
import json
import secrets
from pathlib import Path

import click

from llm_label.cli.client import client
from llm_label.errors import InputError, KeyringError
from llm_label.keyfile import keyring_path, read_keyring, tokenizer_spec, write_keyring
from llm_label.settings import load, read_private
from llm_label.watermark.keyring import VARIETIES, Key, Keyring, Spec
from llm_label.watermark.schemes import SCHEMES

__all__ = ["keys"]

_keyring = click.option("--keyring", type=click.Path(path_type=Path), help="Keyring file; default: the user's own.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.group(epilog="Example: llm-label keys new 2026-11 --tokenizer /models/qwen3/tokenizer.json")
def keys() -> None:
    """Make and list watermark keys; the ring is all that detection needs years later."""


@keys.command("new", epilog="Example: llm-label keys new 2026-11 --tokenizer /models/qwen3/tokenizer.json")
@click.argument("id")
@click.option(
    "--tokenizer",
    required=True,
    metavar="PATH",
    help="tokenizer.json of the model, or its folder; local: for the embedded model.",
)
@click.option("--scheme", type=click.Choice(list(SCHEMES)), default="gumbel", show_default=True)
@click.option("--variety", type=click.Choice(VARIETIES), default="default", show_default=True)
@click.option("--import-vllm", type=click.Path(path_type=Path), help="File with an existing 64-bit vLLM key, decimal.")
@_keyring
def new(id: str, tokenizer: str, scheme: str, variety: str, import_vllm: Path | None, keyring: Path | None) -> None:
    """Add a key to the ring (made if there is none) and print its fingerprint."""
    path = keyring_path(load(None), keyring)
    ring = read_keyring(path) if path.exists() else Keyring()
    file = _tokenizer_file(tokenizer)
    spec = tokenizer_spec(file, scheme=scheme, variety=variety)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if import_vllm:
        key = Key.imported(id, _number(import_vllm), spec, today)
    else:
        key = Key.new(id, secrets.token_bytes(32), spec, today)
    try:
        write_keyring(path, ring.with_key(key))
    except OSError as error:
        raise KeyringError(f"keyring {path} cannot be written: {error.strerror or error}") from error
    click.echo(f"{key.id}  {key.fingerprint}  added to {path}")


@keys.command("list", epilog="Example: llm-label keys list")
@_keyring
@_json
def list_keys(keyring: Path | None, as_json: bool) -> None:
    """List the ring's keys: ids, fingerprints and specs."""
    ring = _read(keyring)
    if as_json:
        click.echo(json.dumps([_public(key) for key in ring.keys], indent=2))
        return
    for key in ring.keys:
        spec = key.spec
        click.echo(f"{key.id}  {key.fingerprint}  {spec.scheme} {spec.version}  {spec.tokenizer_path or '-'}")


@keys.command("show", epilog="Example: llm-label keys show 2026-11")
@click.argument("id")
@click.option("--reveal", is_flag=True, help="Print the secret too.")
@click.option("--for-auditor", is_flag=True, help="Print a ring with the scheme key alone, without the root.")
@_keyring
def show(id: str, reveal: bool, for_auditor: bool, keyring: Path | None) -> None:
    """Show one key as JSON, without its secret unless asked."""
    key = _read(keyring).get(id)
    if for_auditor:
        click.echo(Keyring((key.for_auditor(),)).dumps())
        return
    click.echo(json.dumps(_public(key) | ({"secret": key.reveal()} if reveal else {}), indent=2))


keys.add_command(client)


def _read(keyring: Path | None) -> Keyring:
    path = keyring_path(load(None), keyring)
    if not path.exists():
        raise InputError(f"there is no keyring at {path}; make one with: llm-label keys new ID --tokenizer PATH")
    return read_keyring(path)


def _public(key: Key) -> dict[str, object]:
    return {
        "id": key.id,
        "fingerprint": key.fingerprint,
        "origin": key.origin,
        "created": key.created,
        "spec": {name: getattr(key.spec, name) for name in Spec.__dataclass_fields__},
    }


def _tokenizer_file(given: str) -> Path:
    if given.startswith("local:"):
        from llm_label.proxy.upstream import connect
        from llm_label.settings import UpstreamSettings

        found = connect(UpstreamSettings(url=given)).tokenizer
        if found is None:
            raise InputError(f"{given} has no tokenizer.json")
        return found
    path = Path(given)
    return path / "tokenizer.json" if path.is_dir() else path


def _number(path: Path) -> int:
    try:
        return int(read_private(path, "key file"), 0)
    except ValueError:
        raise KeyringError(f"key file {path} does not hold one whole number") from None
