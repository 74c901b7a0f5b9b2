"""`llm-label calibrate`: the realised false-positive rate of keys on one's own unmarked text."""

import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from llm_label.cli.outcome import errors_apart
from llm_label.cli.output import opened, replaced
from llm_label.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from llm_label.cli.calibration import Calibration, Reading, Section
    from llm_label.cli.corpus import Document
    from llm_label.verify.encoder import Encoder
    from llm_label.watermark.keyring import Key, Spec

__all__ = ["calibrate"]

FINE, ABOVE = 0, 1
AIM = 100_000  # (family, key) units: enough to count at 1e-5
LEAST_KEYS = 20
MOST_UNITS = 20_000_000
TRIED = 200  # templates scored under every own key
SHOWN, LONG = 5, 8  # templates with most text in common, and how many tokens make one worth showing

HELP = """Measure how often keys find a watermark in CORPUS, text that carries none.

CORPUS is files and folders of your own unmarked text: .txt, .md, .jsonl and .jsonl.gz with a field "text". Every
key of the ring is tried, and throw-away keys that were never used. Documents that share text are one family,
since they share their luck; the unit of every rate is one family under one key.

\b
Exit status: 0 no rate is significantly above its level, 1 one is, 2 an error.

\b
Examples:
  llm-label calibrate letters/ articles.jsonl.gz --keys 100
  llm-label calibrate letters/ --tokenizer /models/qwen3 --keys 1000 --plot rates.png --plot rates.svg
  llm-label calibrate pages.jsonl --family site --json > calibration.json
"""


@click.command(help=HELP)
@click.argument("corpus", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--keyring", type=click.Path(path_type=Path), metavar="FILE", help="Keys to measure; default: one's own.")
@click.option("--tokenizer", metavar="PATH", help="No ring: throw-away keys for this tokenizer.json, folder or local:.")
@click.option("--scheme", default="gumbel", show_default=True, help="The scheme of these, with --tokenizer.")
@click.option("--keys", type=click.IntRange(1), metavar="N", help="Throw-away keys.  [default: for 100,000 units]")
@click.option("--family", metavar="NAME", help="file, folder or a field of JSON Lines.  [default: by shared text]")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Repeats a run.  [default: a random one, shown]")
@click.option(
    "--plot", "plots", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="A .png or .svg to draw."
)
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def calibrate(
    corpus: tuple[Path, ...],
    keyring: Path | None,
    tokenizer: str | None,
    scheme: str,
    keys: int | None,
    family: str | None,
    seed: int | None,
    plots: tuple[Path, ...],
    as_json: bool,
) -> None:
    with errors_apart("calibrate"):
        from llm_label.cli.plot import check, draw

        check(plots)
        seed = secrets.randbits(63) if seed is None else seed
        by_spec = _asked(keyring, tokenizer, scheme)
        with ExitStack() as stack:
            files = [(path, stack.enter_context(opened(path, "--plot"))) for path in plots]
            found = _calibrate(corpus, family, by_spec, keys, seed)
            for path, file in files:
                replaced(file, draw(found, path.suffix.lower()[1:]), f"--plot {path}")
        _show(found, as_json)
        sys.exit(ABOVE if found.above else FINE)


def _asked(keyring: Path | None, tokenizer: str | None, scheme: str) -> "dict[Spec, list[Key]]":
    """Return the specs to measure, each with the ring's keys of that spec."""
    from llm_label.cli.keys.tokenizer import tokenizer_file
    from llm_label.keyfile import keyring_path, load_keyring, tokenizer_spec
    from llm_label.settings import load

    if tokenizer is not None:
        if keyring is not None:
            raise InputError("--keyring and --tokenizer exclude each other: a ring names its own tokenizers")
        return {tokenizer_spec(tokenizer_file(tokenizer), scheme=scheme): []}
    settings = load(None)
    ring = load_keyring(settings, keyring)
    if not ring.keys:
        raise InputError(
            f"the keyring {keyring_path(settings, keyring)} holds no key; make one with `llm-label keys new`, "
            "or give --tokenizer PATH to measure throw-away keys alone"
        )
    by_spec: dict[Spec, list[Key]] = {}
    for key in ring.keys:
        by_spec.setdefault(key.spec, []).append(key)
    return by_spec


def _calibrate(
    corpus: tuple[Path, ...], family: str | None, by_spec: "dict[Spec, list[Key]]", keys: int | None, seed: int
) -> "Calibration":
    from llm_label.cli.calibration import Calibration
    from llm_label.verify.encoder import Encoder

    encoder = Encoder()
    for spec, own in by_spec.items():  # a missing tokenizer shows before an hour of work, not after
        encoder.ids("", _any_key(spec, own))
    texts, one_in = _texts(corpus, family, seed)
    readings: dict[tuple[object, ...], Reading] = {}
    sections = []
    for spec, own in by_spec.items():
        place = (spec.tokenizer, spec.tokenizer_path, spec.context_width)
        if place not in readings:
            readings[place] = _reading(texts, _any_key(spec, own), encoder)
        sections.append(_section(readings[place], spec, own, encoder, keys, seed))
    return Calibration(tuple(map(str, corpus)), len(texts), one_in, family, seed, tuple(sections))


def _texts(corpus: tuple[Path, ...], family: str | None, seed: int) -> "tuple[list[Document], int]":
    import numpy as np

    from llm_label.cli.corpus import files, read, sample

    paths = files(corpus)
    with _progress("reading", sum(path.stat().st_size for path in paths)) as advance:
        documents = (document for path in paths for document in read(path, family, advance))
        return sample(documents, np.random.default_rng(seed))


def _section(
    reading: "Reading", spec: "Spec", own: "list[Key]", encoder: "Encoder", keys: int | None, seed: int
) -> "Section":
    from llm_label.cli.calibration import Section
    from llm_label.watermark.calibrate import own_keys, throw_away, throw_away_key

    ids, labels = reading.ids, reading.labels
    count = int(labels.max()) + 1
    wanted = keys or max(LEAST_KEYS, -(-AIM // count))
    if wanted * count > MOST_UNITS:
        raise InputError(f"--keys {wanted} for {count} families is too many; at most {MOST_UNITS // count} keys")
    # The bar needs a terminal; this line tells everybody what there is to wait for.
    laden = f", own keys with {2**spec.payload_bits:,} payloads each" if own and spec.payload_bits else ""
    click.echo(
        f"llm-label calibrate: {spec.scheme}, {wanted:,} throw-away keys × {len(ids):,} documents{laden}", err=True
    )
    made = [throw_away_key(spec, seed.to_bytes(8, "big"), number) for number in range(wanted)]
    with _progress(f"{spec.scheme}, {wanted} throw-away keys", wanted) as advance:
        thrown = throw_away(ids, labels, made, seed, lambda: advance(1))
    with _progress(f"{spec.scheme}, {len(own)} own keys", len(own) * len(ids)) as advance:
        owned = own_keys(ids, labels, own, reading.common, seed, lambda: advance(1))
    return Section(spec, reading, thrown, tuple(owned), lambda run: encoder.text(run, _any_key(spec, own)))


def _reading(texts: "list[Document]", key: "Key", encoder: "Encoder") -> "Reading":
    """Encode every text once, leave out those with too few tokens to score, and find out what they share."""
    import numpy as np

    from llm_label.cli.calibration import LEAST, Reading
    from llm_label.watermark.families import shared_share, templates

    kept, ids = [], []
    with _progress("tokenising", len(texts)) as advance:
        for document in texts:
            tokens = encoder.ids(document.text, key)
            if len(tokens) >= LEAST:
                kept.append(document)
                ids.append(tokens.astype(np.int32))
            advance(1)
    if not kept:
        raise InputError(f"the corpus holds no document of at least {LEAST} tokens; give more text")
    width = key.spec.context_width
    labels = _labels(kept, ids, width)
    return Reading(
        tuple(document.place for document in kept),
        ids,
        len(texts) - len(kept),
        labels,
        shared_share(ids, labels, width),
        tuple(templates(ids, width, TRIED)),
        tuple(templates(ids, width, SHOWN, LONG)),
    )


def _labels(kept: "list[Document]", ids: "list[npt.NDArray[np.int32]]", width: int) -> "npt.NDArray[np.intp]":
    import numpy as np

    from llm_label.watermark.families import families

    if kept[0].family is None:
        return families(ids, width)
    return np.unique([str(document.family) for document in kept], return_inverse=True)[1]


def _any_key(spec: "Spec", own: "list[Key]") -> "Key":
    from llm_label.watermark.calibrate import throw_away_key

    return own[0] if own else throw_away_key(spec, b"", 0)


def _show(found: "Calibration", as_json: bool) -> None:
    if as_json:
        import orjson

        click.echo(orjson.dumps(found.to_dict(), option=orjson.OPT_INDENT_2).decode())
        return
    from rich.console import Console

    console = Console(highlight=False)
    with console.capture() as caught:  # rich's own print would end a closed pipe with status 1
        console.print(found.terminal())
    click.echo(caught.get(), nl=False)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, if that is a terminal, and yield what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal or not total) as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)
