"""`llm-label keys new`: draw a watermark key, or take one over from another maker."""

import datetime
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import click
from click.core import ParameterSource

from llm_label.cli.keys.ring import changing, named, option, write
from llm_label.cli.keys.tokenizer import tokenizer_for
from llm_label.errors import InputError, KeyringError
from llm_label.keyfile import tokenizer_spec
from llm_label.settings import read_private
from llm_label.verify.detector import ALPHA
from llm_label.watermark import siphash
from llm_label.watermark.generation_config import read_synthid
from llm_label.watermark.keyring import VARIETIES, Key, Spec
from llm_label.watermark.payload import tokens_for
from llm_label.watermark.prf import DEFAULT, PRFS
from llm_label.watermark.schemes import SCHEMES, Parameter
from llm_label.watermark.schemes import parameters as parameters_of
from llm_label.watermark.schemes.select import Select
from llm_label.watermark.spec import MOST_PAYLOAD_BITS

__all__ = ["new"]

_EXAMPLES = """\b
Examples:
  llm-label keys new 2026-11 --tokenizer /models/qwen3/tokenizer.json
  llm-label keys new greedy --tokenizer /models/qwen3 --scheme bernoulli --set gamma=0.25
  llm-label keys new api --scheme select --set candidates=4
"""
_SETTABLE = "; ".join(f"{name}: {', '.join(parameters_of(name))}" for name in SCHEMES if parameters_of(name))


@click.command("new", short_help="Add a key to the ring.", epilog=_EXAMPLES)
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
@option
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
    path = named(keyring)
    file = tokenizer_for("synthid" if import_synthid else scheme, tokenizer)
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
    with changing(path, new=True) as ring:
        if id in ring.ids:
            raise KeyringError(f"key {id!r} is in {path} already; choose another id")
        write(path, ring.with_key(key))
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


def _synthid(id: str, config: Path, given: Mapping[str, Parameter], tokenizer: Path | None, today: str) -> Key:
    if "sampling_table" not in given:
        raise KeyringError(
            "--import-synthid needs --set sampling_table=cpu or --set sampling_table=cuda: the device that generate() "
            "runs on; where both are in use, add a key for each"
        )
    read = read_synthid(read_private(config, "SynthID configuration"))
    _check_agreement(config, {"scheme": "synthid", "variety": read.variety}, _typed("scheme", "variety"), "--{} {}")
    _check_agreement(config, read.parameters, given, "--set {}={}")
    parameters = {**read.parameters, **given}
    spec = tokenizer_spec(tokenizer, scheme="synthid", parameters=parameters, variety=read.variety)
    return Key.imported(id, read.key, spec, today)


def _typed(*names: str) -> dict[str, Parameter]:
    """Return those options of the command line that were not left to their defaults."""
    context = click.get_current_context()
    return {n: context.params[n] for n in names if context.get_parameter_source(n) is ParameterSource.COMMANDLINE}


def _check_agreement(
    config: Path, read: Mapping[str, Parameter], given: Mapping[str, Parameter], spelling: str
) -> None:
    for name, value in given.items():
        if read.get(name, value) != value:
            raise InputError(f"{spelling.format(name, value)} contradicts what {config} says; leave it out")


def _vllm(id: str, file: Path, spec: Spec, today: str) -> Key:
    if spec.rules.vllm is None:
        which = repr(spec.scheme) + (f" with --prf {spec.prf}" if spec.prf != DEFAULT else "")
        raise KeyringError(f"vLLM has no watermark that scheme {which} could read; leave out --import-vllm")
    return Key.imported(id, _number(file), spec, today)


def _number(path: Path) -> int:
    text = read_private(path, "key file").strip()
    if not re.fullmatch(r"[0-9]{1,20}", text):
        raise KeyringError(f"key file {path} does not hold one whole number in decimal digits")
    return int(text)
