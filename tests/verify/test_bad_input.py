"""Bad input is one clear line: what was given, and what is allowed or to do. Through the command as users call it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from llm_label.cli import group
from llm_label.watermark.keyring import Keyring
from llm_label.watermark.scan import scan

from .marking import key_for, plain_text, toy_tokenizer

TEXT = plain_text(150)


pytestmark = pytest.mark.usefixtures("alone")


def run(*arguments: str, given: bytes | str = b"") -> Result:
    result = CliRunner().invoke(group, list(arguments), input=given, prog_name="llm-label")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def assert_one_line(result: Result, *hints: str) -> None:
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.startswith("llm-label detect: ") and result.stderr.count("\n") == 1
    assert len(result.stderr) < 600 and "Traceback" not in result.stderr and "internal" not in result.stderr
    for hint in hints:
        assert hint in result.stderr


def ring_with(folder: Path, change: Callable[[dict[str, Any]], object] = lambda data: None) -> Path:
    """Write a keyring of one good key, changed as JSON."""
    data = json.loads(Keyring((key_for(toy_tokenizer(folder)),)).dumps())
    change(data)
    path = folder / "ring.json"
    path.write_text(json.dumps(data))
    path.chmod(0o600)
    return path


def spec(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["keys"][0]["spec"].update(changes)


def entry(**changes: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["keys"][0].update(changes)


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["keys"][0].pop(name)


# what is wrong with the keyring, and what the one line must say
RINGS: dict[str, tuple[Callable[[dict[str, Any]], object], tuple[str, ...]]] = {
    "unknown scheme": (spec(scheme="gumble"), ("'gumble'", "gumbel", "bernoulli", "synthid")),
    "unknown version": (spec(version=99), ("version is 1", "99", "release")),
    "version of a wrong kind": (spec(version="1"), ("version is 1",)),
    "unknown prf": (spec(prf="md5"), ("prf",)),
    "another context width": (spec(context_width=7), ("context_width", "7")),
    "unknown field": (spec(colour="red"), ("'colour'", "known:")),
    "missing tokenizer": (spec(tokenizer_path="/nowhere/tokenizer.json"), ("'k1'", "/nowhere/", "tokenizer_path")),
    "tokenizer of another digest": (
        spec(tokenizer="sha256:" + "0" * 64),
        ("'k1'", "another tokenizer", "000000", "put"),
    ),
    "digest that is none": (spec(tokenizer="abc"), ("digest", "sha256:")),
    "no tokenizer_path": (spec(tokenizer_path=None), ("'k1'", "tokenizer_path", "tokenizer.json")),
    "tokenizer_path is a folder": (spec(tokenizer_path="/"), ("'k1'", "cannot be read", "directory")),
    "tokenizer_path is something else": (spec(tokenizer_path=__file__), ("'k1'", "test_bad_input.py", "not JSON")),
    "duplicate ids": (lambda data: data["keys"].append(data["keys"][0]), ("'k1'", "twice", "its own")),
    "secret missing": (without("secret"), ("'k1'", 'lacks "secret"')),
    "secret not hexadecimal": (entry(secret="passwort"), ("'k1'", "hexadecimal", "64 hex digits")),
    "secret too short": (entry(secret="ab"), ("'k1'", "32 bytes")),
    "no id": (without("id"), ("lacks 'id'",)),
    "spec missing": (without("spec"), ("'k1'", 'lacks "spec"')),
    "no list of keys": (lambda data: data.update(keys={}), ('lacks "keys"',)),
    "another format": (lambda data: data.update(llm_label_keyring=2), ('"llm_label_keyring": 1',)),
}


@pytest.mark.parametrize("case", RINGS)
def test_a_keyring_that_cannot_be_used(case: str, tmp_path: Path) -> None:
    change, hints = RINGS[case]
    ring = ring_with(tmp_path, change)
    assert_one_line(run("detect", "--keyring", str(ring), given=TEXT), *hints)
    secret = json.loads(Keyring((key_for(tmp_path / "tokenizer.json"),)).dumps())["keys"][0]["secret"]
    assert secret not in run("detect", "--keyring", str(ring), given=TEXT).stderr


def made(name: str, content: bytes) -> Callable[[Path], str]:
    def write(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return name

    return write


def sparse(name: str, size: int, head: bytes = b"") -> Callable[[Path], str]:
    """Make a file of that size that takes no room on the disk."""

    def write(folder: Path) -> str:
        with open(folder / name, "wb") as file:
            file.write(head)
            file.truncate(size)
        return name

    return write


def loop(folder: Path) -> str:
    """Make a file that nobody can read, not even root."""
    (folder / "loop").symlink_to("loop")
    return "loop"


def closed(folder: Path) -> str:
    if os.geteuid() == 0:
        pytest.skip("root can read every file")
    (folder / "closed.txt").write_text(TEXT)
    (folder / "closed.txt").chmod(0)
    return "closed.txt"


# the file that is given, and what the one line must say
FILES: dict[str, tuple[Callable[[Path], str], tuple[str, ...]]] = {
    "no such file": (lambda folder: "none.txt", ("none.txt", "No such file")),
    "a directory": (lambda folder: ".", ("directory",)),
    "no permission": (closed, ("closed.txt", "Permission denied")),
    "a link to itself": (loop, ("loop", "cannot be read")),
    "a name with NUL": (lambda folder: "a\0b", ("cannot be read",)),
    "invalid UTF-8": (
        made("latin1.txt", "Ein schöner Text".encode("latin-1")),
        ("latin1.txt", "not UTF-8", "0xf6 at 7", "iconv"),
    ),
    "UTF-8 that is cut off": (made("cut.txt", "春天".encode()[:-1]), ("cut.txt", "not UTF-8", "at 3")),
    "UTF-16": (made("wide.txt", TEXT.encode("utf-16")), ("UTF-16", "save it as UTF-8")),
    "a PDF": (made("a.pdf", b"%PDF-1.7\n..."), ("a.pdf", "PDF", "allowed")),
    "a ZIP": (made("a.docx", b"PK\x03\x04..."), ("ZIP or Office",)),
    "gzip": (made("a.gz", b"\x1f\x8b\x08..."), ("gzip", "unpack")),
    "a binary": (made("a.out", b"\x7fELF\x02\0\0"), ("binary", "NUL byte at 5")),
    "nothing": (made("empty.txt", b""), ("empty.txt: there is no text; give the text itself",)),
    "white space": (made("blank.txt", " \r\n\t\u3000\n".encode()), ("blank.txt: there is no text",)),
    "a byte order mark": (made("mark.txt", b"\xef\xbb\xbf\n"), ("mark.txt: there is no text",)),
    "a GB of nothing": (sparse("disk.img", 2**30), ("disk.img", "binary: a NUL byte at 0")),
    "a GB after a page of text": (sparse("log.txt", 2**30, TEXT.encode()), ("log.txt", f"NUL byte at {len(TEXT)}")),
}


@pytest.mark.parametrize("case", FILES)
@pytest.mark.parametrize("keys", [False, True], ids=["no key", "a key"])
def test_a_file_that_is_no_text(case: str, keys: bool, tmp_path: Path) -> None:
    make, hints = FILES[case]
    options = ["--keyring", str(ring_with(tmp_path))] if keys else []
    assert_one_line(run("detect", *options, make(tmp_path)), *hints)


@pytest.mark.parametrize("text", ["word", "春", "the a", "\u200b", '{"choices": [{"message": {"content": ""}}]}'])
def test_too_little_text_is_inconclusive_and_no_error(text: str, tmp_path: Path) -> None:
    ring = ring_with(tmp_path)
    for arguments in (["detect"], ["detect", "--keyring", str(ring)]):
        result = run(*arguments, "--json", given=text.encode())
        assert result.exit_code == 3 and result.stderr == ""
        told = json.loads(result.stdout)
        assert told["verdict"] == "inconclusive"
        for test in told["evidence"]:
            assert (test["log10_p"], test["decision"]) == (0.0, "insufficient")


@pytest.mark.parametrize(
    ("ids", "hint"),
    [
        ([-1, 2], "from 0 to"),
        ([2**32 - 1], "from 0 to"),
        ([2**40], "from 0 to"),
        ([0.5], "whole numbers"),
        ([float("nan")], "whole numbers"),
        ([[1, 2], [3, 4]], "one list"),
        (7, "one list"),
        (["a"], "whole numbers"),
        (np.array([True, False]), "whole numbers"),
        ([None], "whole numbers"),
    ],
    ids=str,
)
def test_ids_that_no_vocabulary_has(ids: object, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=hint) as caught:
        scan(ids, key_for(toy_tokenizer(tmp_path)))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_many_files_name_the_bad_one_and_judge_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_bytes(b"\xff")
    result = run("detect", "--keyring", str(ring_with(tmp_path)), "a.txt", "b.txt", "none.txt")
    assert result.exit_code == 2
    assert [row.split("\t")[-1] for row in result.stdout.splitlines()] == ["a.txt"]
    errors = [row for row in result.stderr.splitlines() if "false watermark alarms" not in row]
    assert len(errors) == 2 and "b.txt: the input is not UTF-8" in errors[0] and "none.txt" in errors[1]
