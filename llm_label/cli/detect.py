"""`llm-label detect`: evidence and verdict for files; exit status as grep's."""

import os
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from llm_label.cli.heatmap import Drawing, asked
from llm_label.cli.outcome import ERROR, errors_apart
from llm_label.cli.output import shown
from llm_label.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llm_label.verify.detector import Detector
    from llm_label.verify.verdict import Verdict

__all__ = ["detect"]

FOUND, NONE_SHOWN, INCONCLUSIVE = 0, 1, 3
STATUS = {
    "confirmed": FOUND,
    "possible": FOUND,
    "suspected": FOUND,
    "not_found": NONE_SHOWN,
    "inconclusive": INCONCLUSIVE,
}

HELP = """Look for AI marks in FILEs (or in standard input) and say what follows from them.

Asked are: the AIGC record, visible labels, the watermark of every key in the keyring, and other makers'
invisible marks. A FILE is plain text, Markdown, a saved API answer (JSON) or a saved event stream.

\b
Exit status: 0 marks were found, 1 none shown, 2 an error, 3 inconclusive.
With many FILEs the first of 2, 0, 3, 1 that any of them gives.

\b
Examples:
  llm-label detect answer.md
  curl -s localhost:8080/v1/chat/completions … | llm-label detect --keyring ring.json
  llm-label detect --json essays/*.txt > verdicts.jsonl
  llm-label detect report.md --heatmap report.html
"""


@click.command(help=HELP)
@click.argument("files", nargs=-1, metavar="[FILE…|-]")
@click.option("--keyring", type=click.Path(path_type=Path), metavar="FILE", help="Keys whose watermarks are sought.")
@click.option("--alpha", type=float, help="False alarms to accept per input.  [default: 1e-6]")
@click.option("--declared", is_flag=True, help="The user declares the text to be generated (Measures Art. 6 (2)).")
@click.option("--json", "as_json", is_flag=True, help="JSON; with many FILEs one object a line.")
@click.option("--heatmap", metavar="OUT", help="Write an HTML page with every token's score; - shows it here.")
@click.option(
    "--heatmap-key",
    "heatmap_keys",
    multiple=True,
    metavar="ID",
    help="Draw it for this key; repeatable.  [default: the keys that find a mark, else the loudest]",
)
def detect(
    files: tuple[str, ...],
    keyring: Path | None,
    alpha: float | None,
    declared: bool,
    as_json: bool,
    heatmap: str | None,
    heatmap_keys: tuple[str, ...],
) -> None:
    names = files or ("-",)
    with errors_apart("detect"):
        drawing = asked(heatmap, heatmap_keys, names, as_json)
        detector = _detector(keyring, alpha)
        if len(names) == 1:
            sys.exit(_one(detector, names[0], declared, as_json, drawing))
        sys.exit(_many(detector, names, declared, as_json))


def _detector(keyring: Path | None, alpha: float | None) -> "Detector":
    # numpy and the readers load here, so that --help and the other commands start without them
    from llm_label.keyfile import load_keyring
    from llm_label.labels.wording import all_wordings
    from llm_label.settings import load
    from llm_label.verify.detector import ALPHA, Detector

    settings = load(None)
    ring = load_keyring(settings, keyring)
    known = all_wordings() | frozenset(settings.labels.texts.values())
    return Detector(ring, known, ALPHA if alpha is None else alpha)


def _one(detector: "Detector", name: str, declared: bool, as_json: bool, drawing: Drawing | None) -> int:
    from llm_label.verify.report import terminal, to_dict

    if drawing:
        drawing.check(detector.ring)
    with drawing.opened() if drawing else nullcontext() as page:
        source, verdict = _judge(detector, name, declared, whole=drawing is not None)
        if as_json:
            click.echo(_json(to_dict(verdict), indent=True))
        else:
            _print(terminal(verdict, keys=bool(detector.ring.keys)))
        if drawing:
            maps = detector.heatmaps(source, drawing.keys)
            drawing.draw(maps, verdict, _called(os.path.basename(name)), page)
            if which := drawing.which(maps, detector.ring):
                click.echo(f"llm-label detect: {which}", err=True)
    return STATUS[verdict.verdict]


def _print(*parts: "RenderableType") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    with console.capture() as caught:  # rich's own print would end a closed pipe with status 1
        for one in parts:
            console.print(one)
    click.echo(caught.get(), nl=False)


def _many(detector: "Detector", names: tuple[str, ...], declared: bool, as_json: bool) -> int:
    from llm_label.verify.report import line, to_dict

    statuses: list[int] = []
    for name in _counted(names):
        try:
            _, verdict = _judge(detector, name, declared)
        except InputError as error:
            statuses.append(ERROR)
            if as_json:
                click.echo(_json({"file": shown(name), "error": str(error)}))
            click.echo(f"llm-label detect: {error}", err=True)
            continue
        statuses.append(STATUS[verdict.verdict])
        click.echo(_json({"file": shown(name), **to_dict(verdict)}) if as_json else f"{line(verdict)}\t{shown(name)}")
    judged = len([status for status in statuses if status != ERROR])
    if detector.ring.keys:
        click.echo(
            f"{judged} inputs judged: expect at most {judged * detector.alpha:.2g} false watermark alarms "
            f"among them (alpha {detector.alpha:g} each); other marks have no such rate",
            err=True,
        )
    return next(status for status in (ERROR, FOUND, INCONCLUSIVE, NONE_SHOWN) if status in statuses)


def _judge(detector: "Detector", name: str, declared: bool, *, whole: bool = False) -> tuple[bytes, "Verdict"]:
    """Return the first bytes of an input, all where they are few, and the verdict; `whole`: refuse one too long."""
    from llm_label.metadata.carriers import LIMIT, LONGEST
    from llm_label.verify.long import is_short
    from llm_label.verify.source import is_blank

    try:
        with _opened(name) as file:
            head = file.read(LIMIT + 1)
            if is_blank(head):
                raise InputError("there is no text; give the text itself, a saved answer or a saved event stream")
            if whole and not is_short(head):
                raise InputError(f"--heatmap draws texts of up to {LONGEST} characters; give its parts one by one")
            return head, detector.detect_file(head, file, declared=declared)
    except OSError as error:
        raise InputError(f"{_called(name)} cannot be read: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"{_called(name)}: {error}") from error


def _called(name: str) -> str:
    return "standard input" if name == "-" else shown(name)


def _opened(name: str) -> AbstractContextManager[BinaryIO]:
    if name == "-":
        if sys.stdin is None:
            raise InputError("it is closed; name a FILE")
        if sys.stdin.isatty():
            click.echo("llm-label detect: reading standard input; end it with Ctrl-D", err=True)
        return nullcontext(sys.stdin.buffer)
    try:
        return open(name, "rb")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _counted(names: tuple[str, ...]) -> Iterable[str]:
    """Yield the names; show how far it is where only standard error is a terminal."""
    show = sys.stderr.isatty() and not sys.stdout.isatty()
    for number, name in enumerate(names, 1):
        if show:
            click.echo(f"\r{number}/{len(names)}", nl=number == len(names), err=True)
        yield name


def _json(value: object, indent: bool = False) -> str:
    import orjson

    return orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0).decode()
