"""`llm-label keys`: make and list watermark keys. Secrets are shown only on request."""

import datetime
import json
import secrets
from collections.abc import Mapping
from pathlib import Path

import click

from llm_label.cli.client import client
from llm_label.errors import InputError, KeyringError, SettingsError
from llm_label.keyfile import keyring_path, read_keyring, tokenizer_spec, write_keyring
from llm_label.settings import load, read_private
from llm_label.verify.detector import ALPHA
from llm_label.watermark import siphash
from llm_label.watermark.generation_config import read_synthid
from llm_label.watermark.keyring import VARIETIES, Key, Keyring, Spec
from llm_label.watermark.payload import tokens_for
from llm_label.watermark.prf import DEFAULT, PRFS
from llm_label.watermark.schemes import SCHEMES, Parameter
from llm_label.watermark.schemes import parameters as parameters_of
from llm_label.watermark.schemes.select import Select
from llm_label.watermark.spec import MOST_PAYLOAD_BITS

__all__ = ["keys", "tokenizer_file"]

_keyring = click.option("--keyring", type=click.Path(path_type=Path), help="Keyring file; default: the user's own.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.group(epilog="Example: llm-label keys new 2026-11 --tokenizer /models/qwen3/tokenizer.json")
def keys() -> None:
    """Make and list watermark keys, and make API keys for clients of the proxy.

    The ring of watermark keys is all that detection needs years later.
    """


_EXAMPLES = """\b
Examples:
  llm-label keys new 2026-11 --tokenizer /models/qwen3/tokenizer.json
  llm-label keys new greedy --tokenizer /models/qwen3 --scheme bernoulli --set gamma=0.25
  llm-label keys new api --scheme select --set candidates=4
"""
_SETTABLE = "; ".join(f"{name}: {', '.join(parameters_of(name))}" for name in SCHEMES if parameters_of(name))


@keys.command("new", epilog=_EXAMPLES)
@click.argument("id")
@click.option(
    "--tokenizer",
    metavar="PATH",
    help="tokenizer.json of the model, or its folder; local: for the embedded model. Scheme select needs none.",
)
@click.option("--scheme", type=click.Choice(list(SCHEMES)), default="gumbel", show_default=True)
@click.option(
    "--set", "given", multiple=True, metavar="NAME=VALUE", help=f"A parameter of the scheme ({_SETTABLE}); repeatable."
)
@click.option("--variety", type=click.Choice(VARIETIES), default="default", show_default=True)
@click.option(
    "--prf",
    type=click.Choice(list(PRFS)),
    help=f"How the key is hashed; default: the scheme's. {siphash.NAME} is a cryptographic PRF with a 128-bit key; "
    f"vLLM reads {DEFAULT} only.",
)
@click.option(
    "--payload-bits",
    type=click.IntRange(0, MOST_PAYLOAD_BITS),
    default=0,
    show_default=True,
    help="Let every text carry a number of so many bits, such as that of a deployment; see: keys payload.",
)
@click.option("--import-vllm", type=click.Path(path_type=Path), help="File with an existing 64-bit vLLM key, decimal.")
@click.option(
    "--import-synthid",
    type=click.Path(path_type=Path),
    help="File with transformers' SynthID watermarking_config, JSON; needs --set sampling_table=cpu or cuda.",
)
@_keyring
def new(
    id: str,
    tokenizer: str | None,
    scheme: str,
    given: tuple[str, ...],
    variety: str,
    prf: str | None,
    payload_bits: int,
    import_vllm: Path | None,
    import_synthid: Path | None,
    keyring: Path | None,
) -> None:
    """Add a key to the ring (made if there is none) and print its fingerprint."""
    path = keyring_path(load(None), keyring)
    ring = read_keyring(path) if path.exists() else Keyring()
    if id in ring.ids:
        raise KeyringError(f"key {id!r} is in {path} already; choose another id")
    file = _tokenizer_for("synthid" if import_synthid else scheme, tokenizer)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    if import_synthid and import_vllm:
        raise InputError("--import-synthid and --import-vllm were both given; a key comes from one of them")
    if import_synthid and (prf or payload_bits):
        raise InputError(f"{'--prf' if prf else '--payload-bits'} does not go with --import-synthid; leave one out")
    if import_synthid:
        key = _synthid(id, import_synthid, _parameters(given), file, today)
    else:
        more = {"parameters": _parameters(given), "payload_bits": payload_bits}
        spec = tokenizer_spec(file, scheme=scheme, variety=variety, prf=prf, **more)
        key = _vllm(id, import_vllm, spec, today) if import_vllm else Key.new(id, secrets.token_bytes(32), spec, today)
    _write(path, ring.with_key(key))
    click.echo(f"{key.id}  {key.fingerprint}  added to {path}")
    _note(key)


def _note(key: Key) -> None:
    """Say what the scheme costs."""
    rules = key.spec.rules
    if rules.distorts:
        click.echo(
            f"note: scheme {rules.name} changes the distribution that tokens are drawn from; gumbel does not, but "
            "cannot mark greedy decoding or beams",
            err=True,
        )
    if key.spec.payload_bits:
        click.echo(_cost(key), err=True)
    if isinstance(rules, Select):
        click.echo(
            f"note: every answer costs {rules.candidates} at the upstream, and one alone shows a p-value of about "
            f"1/{rules.candidates + 1}, however long it is: proof takes many answers of one author",
            err=True,
        )


def _tokenizer_for(scheme: str, given: str | None) -> Path | None:
    """Return the tokenizer.json that a key of the scheme is for; None where the scheme has its own units."""
    units = getattr(SCHEMES[scheme], "units", None)
    if units and given:
        raise InputError(f"scheme {scheme!r} counts {units} and no tokens; leave out --tokenizer")
    if not (units or given):
        raise InputError(f"scheme {scheme!r} needs --tokenizer: the tokenizer.json of the model, its folder, or local:")
    return tokenizer_file(given) if given else None


@keys.command("payload", epilog='Example: llm-label keys payload 2026-12 17 "support chat, Frankfurt"')
@click.argument("id")
@click.argument("payload", type=int)
@click.argument("name")
@_keyring
def name_payload(id: str, payload: int, name: str, keyring: Path | None) -> None:
    """Name the provider or deployment that writes a payload; detection then names it too."""
    path = keyring_path(load(None), keyring)
    ring = _read(keyring)
    _write(path, ring.replacing(ring.get(id).naming(payload, name)))
    click.echo(f"{id}  payload {payload} is {name}")


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
        scheme = " ".join([f"{spec.scheme} {spec.version}", *(f"{name}={value}" for name, value in spec.parameters)])
        prf = "" if spec.prf == SCHEMES[spec.scheme].prf else f"  {spec.prf}"
        click.echo(f"{key.id}  {key.fingerprint}  {scheme}{prf}  {spec.tokenizer_path or '-'}")
        if spec.payload_bits:
            click.echo(f"  payloads 0 to {2**spec.payload_bits - 1}")
        for payload, name in key.payloads:
            click.echo(f"  payload {payload}: {name}")


@keys.command("show", epilog="Example: llm-label keys show 2026-11")
@click.argument("id")
@click.option("--reveal", is_flag=True, help="Print the secret too.")
@click.option("--for-auditor", is_flag=True, help="Print a ring with the scheme key alone, without the root.")
@click.option("--with-names", is_flag=True, help="Tell the auditor the names of payloads too.")
@_keyring
def show(id: str, reveal: bool, for_auditor: bool, with_names: bool, keyring: Path | None) -> None:
    """Show one key as JSON, without its secret unless asked."""
    key = _read(keyring).get(id)
    if for_auditor:
        click.echo(Keyring((key.for_auditor(names=with_names),)).dumps())
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
        "spec": key.spec.to_dict() | {"distorts": key.spec.rules.distorts},
        **({"payloads": {str(payload): name for payload, name in key.payloads}} if key.payloads else {}),
    }


def _write(path: Path, ring: Keyring) -> None:
    try:
        write_keyring(path, ring)
    except OSError as error:
        raise KeyringError(f"keyring {path} cannot be written: {error.strerror or error}") from error


def _cost(key: Key) -> str:
    """Say what the payload costs at detection."""
    bits, (bare, laden) = key.spec.payload_bits, tokens_for(key, ALPHA)
    if bare is None or laden is None:
        return f"note: with {bits} payload bits ordinary prose does not reach the level of {ALPHA:g}"
    return (
        f"note: with {bits} payload bits half of the texts are found at {ALPHA:g} from about {laden} scored tokens of "
        f"ordinary prose on, {laden - bare} more than without"
    )


def _parameters(given: tuple[str, ...]) -> dict[str, Parameter]:
    """Read NAME=VALUE pairs; a value that is a number is one."""
    read: dict[str, Parameter] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or name in read:
            raise InputError(f"--set {pair!r}: {'given twice' if equals else 'expected NAME=VALUE, as in alpha=0.2'}")
        read[name] = _value(value)
    return read


def _value(text: str) -> Parameter:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def tokenizer_file(given: str) -> Path:
    """Return the tokenizer.json that a path, a folder or `local:` means."""
    if given.startswith("local:"):
        from llm_label.proxy.upstream import connect
        from llm_label.settings import UpstreamSettings

        try:
            found = connect(UpstreamSettings(url=given)).tokenizer
        except SettingsError as error:  # it speaks of an upstream, where the user named a tokenizer
            said = str(error).removeprefix("upstream ").partition("; known:")[0]
            raise InputError(f"--tokenizer {said}") from error
        if found is None:
            raise InputError(f"{given} has no tokenizer.json")
        return found
    path = Path(given)
    return path / "tokenizer.json" if path.is_dir() else path


def _synthid(id: str, config: Path, given: Mapping[str, Parameter], tokenizer: Path | None, today: str) -> Key:
    if "sampling_table" not in given:
        raise KeyringError(
            "--import-synthid needs --set sampling_table=cpu or --set sampling_table=cuda: the device that generate() "
            "runs on; where both are in use, add a key for each"
        )
    read = read_synthid(read_private(config, "SynthID configuration"))
    parameters = {**read.parameters, **given}
    spec = tokenizer_spec(tokenizer, scheme="synthid", parameters=parameters, variety=read.variety)
    return Key.imported(id, read.key, spec, today)


def _vllm(id: str, file: Path, spec: Spec, today: str) -> Key:
    if spec.rules.vllm is None:
        which = repr(spec.scheme) + (f" with --prf {spec.prf}" if spec.prf != DEFAULT else "")
        raise KeyringError(f"vLLM has no watermark that scheme {which} could read; leave out --import-vllm")
    return Key.imported(id, _number(file), spec, today)


def _number(path: Path) -> int:
    try:
        return int(read_private(path, "key file"), 0)
    except ValueError:
        raise KeyringError(f"key file {path} does not hold one whole number") from None
