"""`llm-label calibrate` as a user types it: figures, JSON, plots, exit status, one-line errors."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from llm_label.cli.calibrate import calibrate
from llm_label.keyfile import tokenizer_spec, write_keyring
from llm_label.watermark.keyring import Key, Keyring
from llm_label.watermark.schemes import SCHEMES
from tests.cli.test_commands import assert_one_line_error, run

WORDS = [f"w{n}" for n in range(3000)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def asked(*arguments: str) -> Result:
    return CliRunner().invoke(calibrate, arguments)


def tokenizer(folder: Path) -> Path:
    """Write a tokenizer of whole words."""
    model = {"type": "WordLevel", "vocab": {word: n for n, word in enumerate(["?", *WORDS])}, "unk_token": "?"}
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "model": model, "pre_tokenizer": {"type": "Whitespace"}, "added_tokens": []}))  # fmt: skip
    return path


def texts(rng: np.random.Generator, letters: int = 30) -> list[str]:
    """Return 30 plain texts and as many letters of one template as asked for."""
    template = rng.choice(WORDS, 60)
    plain = [" ".join(rng.choice(WORDS, 60)) for _ in range(30)]
    return plain + [" ".join([*template, *rng.choice(WORDS, 5)]) for _ in range(letters)]


def corpus(folder: Path) -> Path:
    path = folder / "corpus.jsonl"
    made = texts(np.random.default_rng(1))
    path.write_text("".join(json.dumps({"text": text, "kind": "p" if n < 30 else "t"}) + "\n" for n, text in enumerate(made)))  # fmt: skip
    return path


def ring(folder: Path, *schemes: str) -> Path:
    keys = [Key.new(f"{scheme}-{n}", bytes([n]) * 32, tokenizer_spec(tokenizer(folder), scheme=scheme)) for n, scheme in enumerate(schemes)]  # fmt: skip
    write_keyring(folder / "ring.json", Keyring(tuple(keys)))
    return folder / "ring.json"


def test_own_and_throw_away_keys_are_measured_by_family(tmp_path: Path) -> None:
    corpus(tmp_path), ring(tmp_path, "gumbel", "gumbel")
    arguments = ("corpus.jsonl", "--keyring", "ring.json", "--keys", "40", "--seed", "3")
    done = asked(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    (section,) = found["sections"]
    assert (section["documents"], section["families"], section["largest_family"]) == (60, 31, 30)
    assert section["throw_away"]["levels"][0]["units"] == 40 * 31
    assert [key["key"] for key in section["keys"]] == ["gumbel-0", "gumbel-1"]
    assert section["keys"][0]["levels"][0]["units"] == 31 and section["templates"][0]["documents"] == 30
    assert done.stderr == "llm-label calibrate: gumbel, 40 throw-away keys × 60 documents\n"  # no bar: no terminal
    assert found["status"] == "fine" and "seed:3" in found["signature"] and "tokenizer_path" not in done.stdout
    assert asked(*arguments, "--json").stdout == done.stdout
    shown = asked(*arguments)
    assert shown.exit_code == 0 and "31 families, the largest of 30" in " ".join(shown.stdout.split())
    assert "No rate is significantly above its level." in shown.stdout


def test_a_rate_above_its_level_is_exit_status_1(tmp_path: Path) -> None:
    """Letters of one template, each called a family of its own, under a key that dislikes the template."""
    path = tokenizer(tmp_path)
    rng = np.random.default_rng(2)
    from llm_label.verify.encoder import Encoder
    from llm_label.watermark.scan import scan

    key, encoder = Key.new("unlucky", bytes(32), tokenizer_spec(path)), Encoder()
    templates = [" ".join(rng.choice(WORDS, 60)) for _ in range(600)]
    template = min(templates, key=lambda text: scan(encoder.ids(text, key), key).log10_p)
    write_keyring(tmp_path / "ring.json", Keyring((key,)))
    (tmp_path / "letters").mkdir()
    for n in range(40):
        (tmp_path / "letters" / f"{n}.txt").write_text(template + " " + WORDS[n])
    arguments = ("letters", "--keyring", "ring.json", "--keys", "5", "--seed", "1")
    done = run("calibrate", *arguments, "--family", "file", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert "A rate is significantly above its level." in done.stdout and "they are not independent" in done.stdout
    by_text = asked(*arguments)
    told = " ".join(by_text.stdout.split())
    assert by_text.exit_code == 0 and "1 family of" in told and "40 of the 40 documents" in told
    assert "unlucky: templates that look marked on their own" in told


def test_throw_away_keys_need_no_ring_and_every_scheme_of_a_ring_is_measured(tmp_path: Path) -> None:
    corpus(tmp_path), ring(tmp_path, *SCHEMES)
    done = asked("corpus.jsonl", "--keyring", "ring.json", "--keys", "3", "--json")
    assert done.exit_code in (0, 1), done.stderr
    assert [s["spec"]["scheme"] for s in json.loads(done.stdout)["sections"]] == list(SCHEMES)
    alone = asked("corpus.jsonl", "--tokenizer", ".", "--keys", "3", "--family", "kind", "--json")
    (section,) = json.loads(alone.stdout)["sections"]
    assert section["keys"] == [] and section["families"] == 2


def test_plots_are_drawn_as_png_and_svg(tmp_path: Path) -> None:
    corpus(tmp_path), ring(tmp_path, "gumbel")
    arguments = ("corpus.jsonl", "--keyring", "ring.json", "--keys", "3", "--seed", "1")
    done = asked(*arguments, "--plot", "a.png", "--plot", "a.svg")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    assert root.tag.endswith("svg") and len(list(root.iter())) > 50
    before = (tmp_path / "a.svg").read_bytes()
    asked(*arguments, "--plot", "a.svg")
    assert (tmp_path / "a.svg").read_bytes() == before


def test_bad_input_is_one_line(tmp_path: Path) -> None:
    corpus(tmp_path), ring(tmp_path, "gumbel")
    (tmp_path / "short.txt").write_text("w1 w2 w3")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    (tmp_path / "folder.png").mkdir()
    with_ring = ("--keyring", "ring.json")
    for arguments, told in (
        (("corpus.jsonl",), "make one with `llm-label keys new`, or give --tokenizer PATH"),
        (("none", *with_ring), "none does not exist"),
        (("none", *with_ring, "--plot", "a.png"), "none does not exist"),
        (("bad.txt", *with_ring), "bad.txt is not UTF-8 at byte 0"),
        (("short.txt", *with_ring), "holds no document of at least 25 tokens"),
        (("corpus.jsonl", *with_ring, "--family", "site"), "no field 'site'"),
        (("corpus.jsonl", *with_ring, "--plot", "a.pdf"), "must end in .png or .svg"),
        (
            ("corpus.jsonl", *with_ring, "--plot", "no/a.png"),
            "--plot no/a.png cannot be written: No such file or directory",
        ),
        (("corpus.jsonl", *with_ring, "--plot", "folder.png"), "--plot folder.png cannot be written: Is a directory"),
        (("corpus.jsonl", *with_ring, "--keys", "10000000"), "at most 645161 keys"),
        (("corpus.jsonl", *with_ring, "--tokenizer", "."), "exclude each other"),
        (("corpus.jsonl", "--tokenizer", "no.json"), "no.json cannot be read"),
        (("corpus.jsonl", "--tokenizer", ".", "--scheme", "gumble"), "scheme 'gumble' is not known"),
    ):
        done = asked(*arguments)
        assert (done.exit_code, done.stdout) == (2, "") and told in done.stderr
        assert done.stderr.startswith("llm-label calibrate: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "a.png").exists()
    assert_one_line_error(run("calibrate", cwd=tmp_path), "CORPUS")
    (tmp_path / "tokenizer.json").unlink()
    assert_one_line_error(run("calibrate", "corpus.jsonl", *with_ring, cwd=tmp_path), "cannot be read")


def test_a_missing_plot_library_is_one_line_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_label.cli import plot
    from llm_label.errors import InputError

    monkeypatch.setattr(plot.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'llm-label\[plots\]'"):
        plot.check([tmp_path / "a.svg"])
    plot.check([])
