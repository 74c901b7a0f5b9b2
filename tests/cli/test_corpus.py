"""A corpus is read document by document, in bounded memory, and what cannot be read is one clear line."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from llm_label.cli import corpus
from llm_label.cli.corpus import Document, files, read, sample
from llm_label.errors import InputError


def texts(path: Path, family: str | None = None) -> list[tuple[str, str | None]]:
    return [(document.text, document.family) for document in read(path, family)]


def test_folders_give_their_text_files_in_order_and_named_files_are_taken_as_they_are(tmp_path: Path) -> None:
    for name in ("b/z.txt", "a.md", "b/y.JSONL", "c.jsonl.gz", "b/picture.png", "notes.rst"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = files([tmp_path, tmp_path / "notes.rst", tmp_path / "a.md"])
    assert [str(p.relative_to(tmp_path)) for p in found] == ["a.md", "b/y.JSONL", "b/z.txt", "c.jsonl.gz", "notes.rst"]


def test_each_line_of_json_lines_is_a_document_with_its_family(tmp_path: Path) -> None:
    lines = [{"text": "one", "site": "s"}, {"text": "二", "site": 7}]
    (tmp_path / "d.jsonl").write_bytes(b"\n".join(json.dumps(x).encode() for x in lines) + b"\n\n")
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress((tmp_path / "d.jsonl").read_bytes()))
    for name in ("d.jsonl", "d.jsonl.gz"):
        path = tmp_path / name
        assert texts(path) == [("one", None), ("二", None)]
        assert texts(path, "site") == [("one", "s"), ("二", "7")]
        assert texts(path, "file") == [("one", str(path)), ("二", str(path))]
        assert texts(path, "folder")[0] == ("one", str(tmp_path))
        assert [document.place for document in read(path, None)] == [f"{path}:1", f"{path}:2"]


@pytest.mark.parametrize("unit", ["a line of text, and no more\n", "没有换行的文字", "x"])
def test_a_long_text_is_cut_and_nothing_is_lost(tmp_path: Path, unit: str) -> None:
    whole = unit * (2**21 // len(unit.encode()) + 1)  # characters lie across the borders of blocks
    (tmp_path / "long.txt").write_text(whole, encoding="utf-8")
    pieces = [text for text, _ in texts(tmp_path / "long.txt")]
    assert "".join(pieces) == whole and max(map(len, pieces)) <= corpus.LONGEST
    assert "\n" not in unit or all(piece.endswith("\n") for piece in pieces)


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    assert texts(tmp_path / "a.txt") == [("hello", None)]


BAD = {
    "a.txt": (b"abc\xff", "not UTF-8 at byte 3"),
    "b.txt": ("é".encode() * 2**20 + b"\xc3", f"not UTF-8 at byte {2**21}"),
    "c.txt": (b"GIF\0", "NUL byte at 3"),
    "d.jsonl": (b'{"text": "a"}\n{"text": ', "line 2, is not JSON"),
    "e.jsonl": (b'{"text": 7}\n', 'line 1, has no field "text" that holds a text'),
    "f.jsonl": (b'{"text": "\xff"}\n', "line 1, is not JSON"),
    "g.jsonl.gz": (b"no gzip", "cannot be read: Not a gzipped file"),
    "h.jsonl.gz": (gzip.compress(b'{"text": "a"}\n' * 999)[:-12], "cannot be read: Compressed file ended"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_text_is_one_line(tmp_path: Path, name: str) -> None:
    content, told = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        texts(tmp_path / name)
    assert told in str(error.value) and "\n" not in str(error.value) and name in str(error.value)


def test_what_names_no_text_or_family_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "a.jsonl").write_text('{"text": "x", "site": null}\n')
    (tmp_path / "empty").mkdir()
    for path, told in ((tmp_path / "empty", "holds no file named *.txt"), (tmp_path / "none", "does not exist")):
        with pytest.raises(InputError, match=told.replace("*", r"\*")):
            files([path])
    with pytest.raises(InputError, match="no field 'site'; use --family file or folder"):
        texts(tmp_path / "a.txt", "site")
    with pytest.raises(InputError, match="no field 'site' that holds a text or a number; its fields: site, text"):
        texts(tmp_path / "a.jsonl", "site")


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "LONGEST_LINE", 2**20)
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "' + b"x" * 2**21)
    with pytest.raises(InputError, match="line 1, is longer than 1 MiB"):
        texts(tmp_path / "a.jsonl")


def test_all_of_a_small_corpus_is_kept_and_a_fair_share_of_a_large_one() -> None:
    many = [Document(str(n), "", None) for n in range(4000)]
    rng = np.random.default_rng(1)
    assert sample(many, rng) == (many, 1)
    kept, one_in = sample(many, rng, held=400 * 500)
    assert one_in in (16, 32) and len(kept) * (500 + 3) <= 400 * 500
    numbers = np.concatenate([[int(d.text) for d in sample(many, rng, held=400 * 500)[0]] for _ in range(60)])
    # early and late documents alike; six standard deviations
    assert abs((numbers < 2000).mean() - 0.5) < 6 * 0.5 / np.sqrt(len(numbers))


def test_memory_stays_flat(tmp_path: Path) -> None:
    def documents() -> Iterator[Document]:
        for _ in range(20):
            yield from read(tmp_path / "a.txt", None)

    (tmp_path / "a.txt").write_text("All work and no play makes this a long text.\n" * 100_000)
    tracemalloc.start()
    kept, one_in = sample(documents(), np.random.default_rng(2), held=2_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert one_in >= 32 and kept
    assert peak < 16e6  # of 90 MB read
