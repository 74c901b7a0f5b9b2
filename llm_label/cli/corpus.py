"""Read a corpus: folders and files of text, one document at a time, whatever their size.

A plain text file is a document; a JSON Lines file holds one a line, in its field `text`. Long ones are cut at a
line end. Nothing is held but the document at hand, and of all documents only a sample of bounded size.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from llm_label.errors import InputError

__all__ = ["Document", "files", "read", "sample"]

SUFFIXES = (".txt", ".md", ".jsonl", ".jsonl.gz")
LONGEST = 20_000  # characters of a document; the rest is another one
LONGEST_LINE = 2**26  # bytes of a JSON line
HELD = 20_000_000  # characters that a sample holds at most
OVERHEAD = 500  # characters that a document counts on top of its own, so that many tiny ones are bounded too
BLOCK = 2**20


@dataclass(frozen=True)
class Document:
    """Hold one text, the file (and line) where it stands, and the family that was named for it, if any."""

    text: str
    place: str
    family: str | None


def files(given: Iterable[Path]) -> list[Path]:
    """Return the files meant, those of folders in order of name; a file named outright may have any suffix."""
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.name.lower().endswith(SUFFIXES) and p.is_file())
            if not inside:
                raise InputError(f"{path} holds no file named *{', *'.join(SUFFIXES)}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path} does not exist; give files or folders of text")
    return list(dict.fromkeys(found))


def read(path: Path, family: str | None, seen: Callable[[int], None] = lambda n: None) -> Iterator[Document]:
    """Yield a file's documents; `seen` is told how many bytes of it were read since. Raises InputError.

    family is "file", "folder", the name of a field of JSON Lines, or None.
    """
    place = {"file": str(path), "folder": str(path.parent)}.get(family or "")
    try:
        with open(path, "rb") as raw:
            source = _Counted(raw, seen)
            if path.name.lower().endswith((".jsonl", ".jsonl.gz")):
                zipped = path.name.lower().endswith(".gz")
                lines = gzip.GzipFile(fileobj=source) if zipped else io.BufferedReader(source, BLOCK)
                yield from _lines(lines, path, place, None if place else family)
            elif family and not place:
                raise InputError(f"{path} is plain text and has no field {family!r}; use --family file or folder")
            else:
                yield from (Document(text, str(path), place) for text in _pieces(_text(source, path)))
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def sample(documents: Iterable[Document], rng: np.random.Generator, held: int = HELD) -> tuple[list[Document], int]:
    """Return what fits into `held` characters, and of how many documents each stands for one (1, 2, 4, …)."""
    kept: list[Document] = []
    total, one_in = 0, 1
    for document in documents:
        if one_in > 1 and rng.integers(one_in):
            continue
        kept.append(document)
        total += len(document.text) + OVERHEAD
        while total > held:
            one_in *= 2
            kept = [document for document, stays in zip(kept, rng.integers(2, size=len(kept)), strict=True) if stays]
            total = sum(len(document.text) + OVERHEAD for document in kept)
    return kept, one_in


class _Counted(io.RawIOBase):
    """Tell how many bytes are taken from a file, compressed or not."""

    def __init__(self, raw: io.BufferedReader, seen: Callable[[int], None]) -> None:
        self._raw, self._seen = raw, seen

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._raw.readinto(buffer)
        self._seen(count)
        return count


def _lines(lines: io.BufferedIOBase, path: Path, place: str | None, field: str | None) -> Iterator[Document]:
    number = 0
    while line := lines.readline(LONGEST_LINE + 1):
        number += 1
        where = f"{path}, line {number},"
        if len(line) > LONGEST_LINE:
            raise InputError(f"{where} is longer than {LONGEST_LINE >> 20} MiB; one document a line is expected")
        if not line.strip():
            continue
        try:
            data = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise InputError(f'{where} is not JSON; expected lines such as {{"text": "…"}} in UTF-8') from None
        if not isinstance(data, dict) or not isinstance(data.get("text"), str):
            raise InputError(f'{where} has no field "text" that holds a text')
        family = place
        if field is not None:
            if not isinstance(data.get(field), str | int):
                names = ", ".join(sorted(data)[:12])
                raise InputError(f"{where} has no field {field!r} that holds a text or a number; its fields: {names}")
            family = str(data[field])
        yield from (Document(text, f"{path}:{number}", family) for text in _pieces([data["text"]]))


def _text(source: _Counted, path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    at = 0
    while block := source.read(BLOCK):
        if b"\0" in block:
            raise InputError(f"{path} is no text (it has a NUL byte at {at + block.index(0)}); give text in UTF-8")
        yield _decoded(decoder, block, path, at)
        at += len(block)
    yield _decoded(decoder, b"", path, at, final=True)


def _decoded(decoder: codecs.IncrementalDecoder, block: bytes, path: Path, at: int, final: bool = False) -> str:
    before = len(decoder.getstate()[0])
    try:
        return decoder.decode(block, final)
    except UnicodeDecodeError as error:
        place = at - before + error.start
        raise InputError(f"{path} is not UTF-8 at byte {place}; save it as UTF-8 or leave it out") from None


def _pieces(blocks: Iterable[str]) -> Iterator[str]:
    """Join blocks and cut them after the last line end, or else anywhere, before LONGEST."""
    held = ""
    for block in blocks:
        held += block
        start = 0
        while len(held) - start > LONGEST:
            stop = held.rfind("\n", start, start + LONGEST) + 1 or start + LONGEST
            yield held[start:stop]
            start = stop
        held = held[start:]
    if held.strip():
        yield held
