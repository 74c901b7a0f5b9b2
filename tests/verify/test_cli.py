"""`llm-label detect`: exit status, one clear line for bad input, many files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from llm_label.cli.detect import detect
from llm_label.metadata.aigc import Record
from llm_label.metadata.carriers import markdown
from llm_label.watermark.keyring import Key, Keyring

from .marking import key_for, marked_text, plain_text, toy_tokenizer

RECORD = Record.produced("ACME", "id-1")
PLAIN = plain_text(150)


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return key_for(toy_tokenizer(tmp_path))


@pytest.fixture
def ring(tmp_path: Path, key: Key) -> Path:
    path = tmp_path / "ring.json"
    path.write_text(Keyring((key,)).dumps())
    path.chmod(0o600)
    return path


pytestmark = pytest.mark.usefixtures("alone")


def run(*arguments: object, given: bytes | str = b"") -> Result:
    result = CliRunner().invoke(detect, [str(argument) for argument in arguments], input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_exit_status_is_greps(ring: Path, key: Key, tmp_path: Path) -> None:
    assert run("--keyring", ring, given=marked_text(key, 120)).exit_code == 0
    assert run("--keyring", ring, given=PLAIN).exit_code == 1
    assert run("--keyring", ring, given=b"\xff").exit_code == 2
    assert run("--keyring", ring, given="one").exit_code == 3
    assert run("--declared", given=PLAIN).exit_code == 0


def test_a_saved_error_is_no_text_without_marks(ring: Path, key: Key) -> None:
    """A long error is not `not_found`; a marked text in its place is still found."""
    told = "built like an API's error answer, which holds no text that a model wrote"
    saved = run("--keyring", ring, given=json.dumps({"error": {"message": PLAIN, "type": "server_error"}}))
    assert saved.exit_code == 3 and "inconclusive" in saved.stdout and told in " ".join(saved.stdout.split())
    marked = run("--json", "--keyring", ring, given=json.dumps({"error": {"message": marked_text(key, 120)}}))
    assert marked.exit_code == 0 and json.loads(marked.stdout)["verdict"] == "suspected"
    bare = json.loads(run("--json", given="{}").stdout)
    assert bare["verdict"] == "inconclusive" and "problems" not in bare


def test_standard_input_is_a_dash_or_nothing(tmp_path: Path) -> None:
    for arguments in ((), ("-",)):
        assert "confirmed" in run(*arguments, given=markdown.write(PLAIN, RECORD)).stdout


def test_json_is_the_verdict(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(markdown.write(PLAIN, RECORD))
    told = json.loads(run("--json", tmp_path / "a.md").stdout)
    assert (told["verdict"], told["label"]) == ("confirmed", "1")


def test_many_files_take_a_line_each_and_tell_false_alarms(ring: Path, key: Key, tmp_path: Path) -> None:
    texts = {"a.txt": marked_text(key, 120), "b.txt": PLAIN, "c.txt": "x"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    result = run("--keyring", ring, "--alpha", "1e-4", *texts)
    assert [row.split()[0] for row in result.stdout.splitlines()] == [
        "suspected",
        "not_found",
        "inconclusive",
    ]
    assert [row.split("\t")[-1] for row in result.stdout.splitlines()] == list(texts)
    assert "expect at most 0.0003 false" in result.stderr
    assert result.exit_code == 0
    assert run("--keyring", ring, "b.txt", "c.txt").exit_code == 3
    assert run("--keyring", ring, "b.txt", "b.txt").exit_code == 1


def test_many_files_go_on_after_one_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0")
    (tmp_path / "b.md").write_text(markdown.write(PLAIN, RECORD))
    result = run("--json", "a.bin", "none.txt", tmp_path, "b.md")
    rows = [json.loads(row) for row in result.stdout.splitlines()]
    assert ["error" in row for row in rows] == [True, True, True, False]
    assert [row["file"] for row in rows] == ["a.bin", "none.txt", str(tmp_path), "b.md"]
    assert result.exit_code == 2


def test_a_file_name_need_not_be_utf_8_or_printable(tmp_path: Path) -> None:
    for name in (b"a\xff.txt", b"a\x1b[2J.txt"):
        (tmp_path / os.fsdecode(name)).write_text("x")
        result = run("--json", os.fsdecode(name), "-", given="x")
        assert result.exit_code == 3 and "\x1b" not in result.output
        assert json.loads(result.stdout.splitlines()[0])["file"].startswith("a\ufffd")


def test_a_keyring_that_others_can_read_is_refused_with_the_remedy(ring: Path) -> None:
    ring.chmod(0o644)
    result = run("--keyring", ring, given=PLAIN)
    assert result.exit_code == 2
    assert "chmod 600" in result.stderr and result.stdout == ""


def test_a_keyring_for_another_tokenizer_is_an_error(ring: Path, tmp_path: Path) -> None:
    toy_tokenizer(tmp_path, ["x"])
    result = run("--keyring", ring, given=PLAIN)
    assert result.exit_code == 2 and result.stderr.count("sha256:") == 2


@pytest.mark.parametrize(
    "arguments",
    [("none.txt",), (".",), ("--keyring", "none.json"), ("--alpha", "0"), ("--alpha", "2"), ("a\0b",)],
)
def test_bad_input_is_one_line_on_standard_error(arguments: tuple[str, ...]) -> None:
    result = run(*arguments, given=PLAIN)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1 and "Traceback" not in result.stderr
    assert result.stdout == ""


def test_the_settings_file_names_the_keyring(ring: Path, key: Key, tmp_path: Path) -> None:
    (tmp_path / "llm-label.toml").write_text('[watermark]\nkeyring = "ring.json"\n')
    assert run(given=marked_text(key, 120)).exit_code == 0


def test_a_mistake_of_ours_is_never_taken_for_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_label.verify.detector.judge", lambda *_, **__: 1 / 0)
    result = run(given=PLAIN)
    assert result.exit_code == 2 and result.stderr.startswith("llm-label detect: internal error: ZeroDiv")


def test_help_shows_an_example() -> None:
    text = run("--help").stdout
    assert "Example" in text and "llm-label detect answer.md" in text and "Exit status" in text


def test_detection_loads_no_torch_and_help_loads_no_numpy(tmp_path: Path) -> None:
    program = (
        "import sys; from click.testing import CliRunner; from llm_label.cli.detect import detect\n"
        "CliRunner().invoke(detect, ['--help']); assert 'numpy' not in sys.modules\n"
        "r = CliRunner().invoke(detect, ['-'], input='word ' * 50); assert 'not_found' in r.output, r.output\n"
        "assert not {'torch', 'transformers', 'aiohttp'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env=environment)
