"""The commands as a user types them: output, exit status, one-line errors."""

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tomllib
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llm_label.audit.entry import Entry
from llm_label.audit.store import Store
from llm_label.cli.keys.tokenizer import tokenizer_file
from llm_label.errors import InputError
from llm_label.proxy import upstream

TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}, "added_tokens": []}


def run(
    *arguments: str,
    cwd: Path,
    stdout: Any = subprocess.PIPE,
    preexec_fn: Callable[[], None] | None = None,
    **environ: str,
) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LLM_LABEL", "XDG"))}
    env = {**clean, "XDG_CONFIG_HOME": str(cwd / "config"), "XDG_STATE_HOME": str(cwd / "state"), **environ}
    command = [sys.executable, "-m", "llm_label", *arguments]
    pipes: dict[str, Any] = {"stdout": stdout, "stderr": subprocess.PIPE, "preexec_fn": preexec_fn}
    return subprocess.run(command, **pipes, text=True, cwd=cwd, env=env, timeout=60)


def assert_one_line_error(done: subprocess.CompletedProcess[str], hint: str) -> None:
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("llm-label") and done.stderr.count("\n") == 1
    assert hint in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["", "demo", "serve", "detect", "check", "keys", "keys new", "keys list", "keys show", "keys client", "calibrate", "audit", "audit list", "audit show", "audit counts"])  # fmt: skip
def test_help_explains_and_shows_an_example(tmp_path: Path, command: str) -> None:
    done = run(*command.split(), "--help", cwd=tmp_path)
    assert done.returncode == 0 and "Usage: llm-label" in done.stdout
    assert command == "" or "Example" in done.stdout


def test_keys_are_made_listed_and_shown_without_their_secret(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    made = run("keys", "new", "k1", "--tokenizer", ".", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    ring = tmp_path / "config" / "llm-label" / "keyring.json"
    assert stat.S_IMODE(ring.stat().st_mode) == 0o600
    secret = json.loads(ring.read_text())["keys"][0]["secret"]
    listed, shown = run("keys", "list", cwd=tmp_path), run("keys", "show", "k1", cwd=tmp_path)
    fingerprint = made.stdout.split()[1]
    assert fingerprint in listed.stdout and json.loads(shown.stdout)["fingerprint"] == fingerprint
    assert secret not in made.stdout + listed.stdout + shown.stdout
    assert secret in run("keys", "show", "k1", "--reveal", cwd=tmp_path).stdout
    auditor = run("keys", "show", "k1", "--for-auditor", cwd=tmp_path).stdout
    assert secret not in auditor and '"derived"' in auditor


def test_an_existing_vllm_key_is_imported(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (tmp_path / "key").write_text("42\n")
    (tmp_path / "key").chmod(0o600)
    done = run(
        "keys", "new", "v", "--tokenizer", "tokenizer.json", "--import-vllm", "key", "--variety", "none", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(run("keys", "show", "v", "--reveal", cwd=tmp_path).stdout)["secret"] == f"{42:016x}"


def test_keys_of_other_schemes_hold_their_parameters(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (tmp_path / "key").write_text("42\n")
    (tmp_path / "key").chmod(0o600)
    new = ("keys", "new", "--tokenizer", ".", "--scheme")
    two = run(*new, "dual_gumbel", "two", "--set", "alpha=0.2", "--import-vllm", "key", cwd=tmp_path)
    coin = run(*new, "bernoulli", "coin", "--set", "gamma=0.25", cwd=tmp_path)
    assert (two.returncode, two.stderr) == (0, "")
    assert coin.returncode == 0 and "changes the distribution" in coin.stderr
    ring = json.loads((tmp_path / "config" / "llm-label" / "keyring.json").read_text())
    assert [key["spec"]["parameters"] for key in ring["keys"]] == [{"alpha": 0.2}, {"gamma": 0.25, "delta": 2.0}]
    listed = run("keys", "list", cwd=tmp_path).stdout
    assert "dual_gumbel 1 alpha=0.2" in listed and "bernoulli 1 gamma=0.25 delta=2.0" in listed
    shown = json.loads(run("keys", "show", "coin", cwd=tmp_path).stdout)["spec"]
    assert shown["parameters"] == {"gamma": 0.25, "delta": 2.0} and shown["distorts"] is True
    auditor = json.loads(run("keys", "show", "coin", "--for-auditor", cwd=tmp_path).stdout)["keys"][0]
    assert auditor["spec"]["parameters"] == shown["parameters"] and len(auditor["secret"]) == 16
    for settings, hint in (
        (("gumbel", "--set", "alpha=1"), "scheme 'gumbel' has no parameter 'alpha'; known: none"),
        (("dual_gumbel", "--set", "alpha=much"), "alpha is a number from 0 to 1, not 'much'"),
        (("dual_gumbel", "--set", "alpha"), "expected NAME=VALUE"),
        (("dual_gumbel", "--set", "alpha=0", "--set", "alpha=1"), "given twice"),
        (("bernoulli", "--import-vllm", "key"), "vLLM has no watermark that scheme 'bernoulli' could read"),
    ):
        assert_one_line_error(run(*new, *settings, "bad", cwd=tmp_path), hint)


def test_keys_that_cannot_be_made_or_found_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    assert_one_line_error(run("keys", "list", cwd=tmp_path), "make one with: llm-label keys new")
    assert_one_line_error(run("keys", "new", "k", "--tokenizer", "none.json", cwd=tmp_path), "cannot be read")
    assert_one_line_error(run("keys", "new", "a b", "--tokenizer", ".", cwd=tmp_path), "key id 'a b' is not allowed")
    run("keys", "new", "k", "--tokenizer", ".", cwd=tmp_path)
    assert_one_line_error(run("keys", "new", "k", "--tokenizer", ".", cwd=tmp_path), "already; choose another id")
    assert_one_line_error(run("keys", "show", "z", cwd=tmp_path), "known: k")
    into_a_file = ("--keyring", "tokenizer.json/ring.json")
    assert_one_line_error(run("keys", "new", "k", "--tokenizer", ".", *into_a_file, cwd=tmp_path), "cannot be written")
    (tmp_path / "config" / "llm-label" / "keyring.json").chmod(0o644)
    assert_one_line_error(run("keys", "list", cwd=tmp_path), "chmod 600")


def test_check_explains_the_policy_and_refuses_what_cannot_comply(tmp_path: Path) -> None:
    (tmp_path / "llm-label.toml").write_text('[provider]\nname = "Acme"\n[[upstreams]]\nurl = "http://gpu:8000"\n')
    done = run("check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "ContentProducer Acme" in done.stdout and "at start, in the question's language, such as" in done.stdout
    assert not (tmp_path / "state").exists()
    no_folder = run("check", cwd=tmp_path, LLM_LABEL_AUDIT_PATH="llm-label.toml/log/audit.sqlite3")
    assert_one_line_error(no_folder, "cannot be written: Not a directory; name a file in audit.path")
    (tmp_path / "notdb").write_text("this is no database\n" * 100)
    for path in ("notdb", "."):
        assert_one_line_error(run("check", cwd=tmp_path, LLM_LABEL_AUDIT_PATH=path), "cannot be opened: ")
    assert (tmp_path / "notdb").read_text() == "this is no database\n" * 100
    Store(tmp_path / "log").close()
    (tmp_path / "empty").touch()
    for path in ("log", "empty"):
        assert run("check", cwd=tmp_path, LLM_LABEL_AUDIT_PATH=path).returncode == 0
    assert (tmp_path / "empty").stat().st_size == 0
    assert json.loads(run("check", "--json", cwd=tmp_path).stdout)["upstream"] == "http://gpu:8000"
    assert_one_line_error(run("check", cwd=tmp_path, LLM_LABEL_LABELS_POSITION="end"), "did you mean 'positions'?")
    assert_one_line_error(run("check", cwd=tmp_path, LLM_LABEL_PROVIDER_NAME="某公司"), "code")
    assert_one_line_error(
        run("check", cwd=tmp_path, LLM_LABEL_UPSTREAM="grpc://x"), "kind 'grpc', which is not installed"
    )
    assert_one_line_error(run("check", cwd=tmp_path, LLM_LABEL_WATERMARK_KEY="k"), "make one with")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_check_refuses_a_log_in_a_folder_that_takes_no_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    Store(folder / "log").close()
    folder.chmod(0o500)
    flags = ("--provider", "Acme", "--upstream", "http://gpu:8000")
    for name in ("log", "new"):
        done = run("check", *flags, cwd=tmp_path, LLM_LABEL_AUDIT_PATH=f"folder/{name}")
        assert_one_line_error(done, "cannot be written: Permission denied")
    folder.chmod(0o700)


def test_check_takes_what_serve_would_be_given(tmp_path: Path) -> None:
    flags = ("--provider", "Acme", "--upstream", "http://gpu:8000", "--label", "end", "--language", "en", "--port", "1")
    told = json.loads(run("check", *flags, "--json", cwd=tmp_path).stdout)
    assert (told["upstream"], told["listens on"]) == ("http://gpu:8000", "127.0.0.1:1, 1 worker(s)")
    assert told["visible label"].endswith("at end")
    assert_one_line_error(run("check", *flags, "--label", "top", cwd=tmp_path), "--label: labels.positions: 'top'")
    assert_one_line_error(
        run("check", *flags, "--payload", "-1", cwd=tmp_path), "--payload: watermark.payload: must be at least 0"
    )
    unused = run("check", *flags, "--payload", "1", cwd=tmp_path)
    assert_one_line_error(unused, "watermark.payload is set but watermark.key names no key")


def test_a_missing_provider_or_command_is_one_line(tmp_path: Path) -> None:
    serve = ("serve", "--port", "0", "--upstream")
    assert_one_line_error(run(*serve, "http://x", cwd=tmp_path), "give --provider NAME, or set provider.name or")
    told = "did you mean http://localhost:18000?"
    assert_one_line_error(run(*serve, "localhost:18000", "--provider", "A", cwd=tmp_path), told)
    assert_one_line_error(run(*serve, "http://", cwd=tmp_path), "--upstream: upstreams.0.url: has no host")
    assert_one_line_error(run("sevre", cwd=tmp_path), "there is no command 'sevre'; did you mean serve?")
    assert_one_line_error(run("xyz", cwd=tmp_path), "there is no command 'xyz'; known: demo, serve, detect")
    assert_one_line_error(run("serve", "--port", "x", cwd=tmp_path), "--port")
    assert_one_line_error(run("keys", "show", cwd=tmp_path), "Missing argument 'ID'; see llm-label keys show --help")


COMMANDS = [
    ("--help",),
    ("keys", "show", "--help"),
    ("keys", "list"),
    ("detect", "a.md", "--heatmap", "-"),
    ("detect", "--json", "a.md"),
    ("audit", "counts"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a key, a text and an audit log."""
    folder = tmp_path_factory.mktemp("place")
    assert run("keys", "new", "api", "--scheme", "select", cwd=folder).returncode == 0
    (folder / "a.md").write_text("The weather is cold in April and warm in May, as it was all these years. " * 3)
    (folder / "state" / "llm-label").mkdir(parents=True)
    Store(folder / "state" / "llm-label" / "audit.sqlite3").close()
    return folder


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_full_disk_is_one_line(place: Path, command: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:
        done = run(*command, cwd=place, stdout=full)
    lines = [line for line in done.stderr.splitlines() if "shown only now" not in line and "heat map" not in line]
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    assert lines[0].startswith("llm-label") and lines[0].endswith("No space left on device")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_reader_that_stops_reading_ends_a_command_without_a_word(place: Path, command: tuple[str, ...]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    with open(writes, "wb") as pipe:
        done = run(*command, cwd=place, stdout=pipe)
    assert done.returncode == 141 and "rror" not in done.stderr and "Traceback" not in done.stderr


def test_standard_input_that_is_closed_is_one_line(place: Path) -> None:
    done = run("detect", cwd=place, preexec_fn=lambda: os.close(0))
    assert_one_line_error(done, "standard input: it is closed; name a FILE")


@pytest.mark.parametrize("dev", [False, True])
def test_a_mistake_of_ours_is_one_line_and_developers_see_where(tmp_path: Path, dev: bool) -> None:
    program = (
        "import sys; from llm_label import cli; from llm_label.cli.keys import shown; shown.named = lambda _: 1 / 0;"
        "sys.argv[1:] = ['keys', 'list']; cli.main()"
    )
    done = subprocess.run(
        [sys.executable, *(["-X", "dev"] if dev else []), "-c", program], capture_output=True, text=True, cwd=tmp_path
    )
    if dev:
        assert "Traceback" in done.stderr and done.stderr.endswith("ZeroDivisionError: division by zero\n")
    else:
        told = "internal error: ZeroDivisionError: division by zero; PYTHONDEVMODE=1 shows where"
        assert_one_line_error(done, told)


def test_a_user_without_a_home_needs_none(tmp_path: Path) -> None:
    """As in a container whose user number has no name."""
    from llm_label.settings import default_audit, default_keyring

    nobody = {"HOME": "", "XDG_CONFIG_HOME": "", "XDG_STATE_HOME": ""}
    program = (
        "import os, pwd, sys; del os.environ['HOME']; pwd.getpwuid = lambda _: {}['no such user'];"
        "from llm_label.settings import default_audit as a, default_keyring as k; print(k({}), a({}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **nobody})
    assert done.stdout.split() == ["/.config/llm-label/keyring.json", "/.local/state/llm-label/audit.sqlite3"]
    assert default_keyring({"XDG_CONFIG_HOME": "/c"}) == Path("/c/llm-label/keyring.json")
    assert default_audit({"XDG_STATE_HOME": "/s"}) == Path("/s/llm-label/audit.sqlite3")


def test_the_audit_log_is_listed_and_shown(tmp_path: Path) -> None:
    store = Store(tmp_path / "state" / "llm-label" / "audit.sqlite3")
    entry = Entry("a" * 32, 1.0, "chat", "http://up", "m", True, "Acme", "cn-1", "start", None)
    other = replace(entry, content_id="b" * 32, opened=2.0, result="complete", upstream_id="chatcmpl-7")
    store.write([entry, replace(other, language="zh en")])
    store.close()
    lines = run("audit", "list", cwd=tmp_path).stdout.splitlines()
    assert lines[0].split("  ")[0] == "opened (UTC)" and lines[1].startswith("1970-01-01 00:00:02")
    assert "b" * 32 in lines[1] and "a" * 32 in lines[2]
    assert "b" * 32 not in run("audit", "list", "--since", "1h", cwd=tmp_path).stdout
    assert "a" * 32 not in run("audit", "list", "--since", "1970-01-01T00:00:02", cwd=tmp_path).stdout
    assert_one_line_error(run("audit", "list", "--since", "soon", cwd=tmp_path), "'soon' is no time; write")
    assert [
        e["content_id"] for e in json.loads(run("audit", "list", "--result", "open", "--json", cwd=tmp_path).stdout)
    ] == ["a" * 32]
    assert json.loads(run("audit", "show", "a" * 32, "--json", cwd=tmp_path).stdout) == entry.to_dict()
    assert re.search(r"producer +Acme", run("audit", "show", "aaaaAA", cwd=tmp_path).stdout)
    shown = run("audit", "show", "chatcmpl-7", cwd=tmp_path).stdout
    assert "b" * 32 in shown and re.search(r"stream +yes\n", shown) and re.search(r"language +zh, then en\n", shown)
    assert_one_line_error(run("audit", "show", "c", cwd=tmp_path), "no entry 'c'")
    assert_one_line_error(run("audit", "show", "\udcff", cwd=tmp_path), "no entry '\\udcff'")
    assert_one_line_error(run("audit", "list", "--limit", "9" * 30, cwd=tmp_path), "--limit")
    assert_one_line_error(run("audit", "list", "--result", "lost", cwd=tmp_path), "truncated")
    assert_one_line_error(run("audit", "list", "--log", "none", cwd=tmp_path), "no audit log at none")


def test_reading_the_audit_log_changes_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    Store(tmp_path / "log").close()
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for command in (("list",), ("counts",), ("show", "a" * 32)):
        done = run("audit", *command, "--log", "empty", cwd=tmp_path)
        assert_one_line_error(done, "is empty: no proxy has written to it yet")
        assert run("audit", *command, "--log", "log", cwd=tmp_path).returncode == (2 if "show" in command else 0)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    (tmp_path / "log").write_bytes(before["log"][:8192] + b"\xff" * (len(before["log"]) - 8192))
    assert_one_line_error(run("audit", "counts", "--log", "log", cwd=tmp_path), "malformed; if a proxy has just")


def test_of_two_proxies_on_one_log_the_one_that_made_the_number_is_shown(tmp_path: Path) -> None:
    store = Store(tmp_path / "state" / "llm-label" / "audit.sqlite3")
    made = Entry("c" * 32, 1.0, "chat", "http://up", "m", True, "Acme", "cn-1", "start", None)
    store.write([replace(made, content_id="a" * 32, adopted="c" * 32), made])
    store.close()
    assert json.loads(run("audit", "show", "C" * 32, "--json", cwd=tmp_path).stdout) == made.to_dict()
    assert_one_line_error(run("audit", "show", "cccc", cwd=tmp_path), "give more of it")


def test_answers_are_counted_by_what_became_of_them(tmp_path: Path) -> None:
    store = Store(tmp_path / "state" / "llm-label" / "audit.sqlite3")
    done = Entry("", 1e9, "chat", "http://up", "m", True, "Acme", "cn-1", "start", None, "complete", status=200)
    changes = [{"label_applied": "start"}, {"label_skipped": "tool_call"}, {"surface": "messages"}, {"result": "open"}]
    store.write([replace(done, content_id=f"{k:032x}", **change) for k, change in enumerate(changes)])
    store.close()
    lines = run("audit", "counts", cwd=tmp_path).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["surface", "eligible", "labelled", "skipped", "failed", "why"],
        ["chat", "2", "1", "1", "0", "tool_call", "1"],
        ["messages", "1", "0", "0", "1", "unlabelled", "1"],
        ["open:", "1"],
    ]
    counted = json.loads(run("audit", "counts", "--json", cwd=tmp_path).stdout)
    assert counted["surfaces"]["chat"] == {"eligible": 2, "labelled": 1, "skipped": {"tool_call": 1}, "failed": {}}
    assert json.loads(run("audit", "counts", "--json", "--since", "7d", cwd=tmp_path).stdout)["surfaces"] == {}
    assert_one_line_error(run("audit", "show", "0000", cwd=tmp_path), "begins more than one content id")


def test_a_client_key_is_made_once_and_only_its_hash_is_written(tmp_path: Path) -> None:
    made = run("keys", "client", "web-app", cwd=tmp_path)
    table = tomllib.loads(made.stdout)["clients"][0]
    key = made.stderr.split()[-1]
    assert table["key_sha256"] == hashlib.sha256(key.encode()).hexdigest() and key not in made.stdout
    (tmp_path / "key").write_text(key + "\n")
    (tmp_path / "key").chmod(0o600)
    again = run("keys", "client", "web-app", "--key-file", "key", cwd=tmp_path)
    assert (again.stdout, again.stderr) == (made.stdout, "")
    settings = '[provider]\nname = "A"'  # a last line that nothing ended
    (tmp_path / "llm-label.toml").write_text(settings + made.stdout)
    checked = run("check", "--json", cwd=tmp_path, LLM_LABEL_UPSTREAM="http://x")
    assert json.loads(checked.stdout)["clients"] == "web-app (human); nobody else"
    (tmp_path / "key").write_text("changeme")
    assert_one_line_error(run("keys", "client", "x", "--key-file", "key", cwd=tmp_path), "128 are needed")
    assert_one_line_error(run("keys", "client", "a b", cwd=tmp_path), "a client's name: must be")


def test_a_key_for_auditors_does_not_mark(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    run("keys", "new", "k1", "--tokenizer", ".", cwd=tmp_path)
    (tmp_path / "ring.json").write_text(run("keys", "show", "k1", "--for-auditor", cwd=tmp_path).stdout)
    (tmp_path / "ring.json").chmod(0o600)
    given = {
        "LLM_LABEL_WATERMARK_KEYRING": "ring.json",
        "LLM_LABEL_WATERMARK_KEY": "k1",
        "LLM_LABEL_PROVIDER_NAME": "A",
    }
    for command in (["check"], ["serve", "--port", "0"]):
        done = run(*command, cwd=tmp_path, LLM_LABEL_UPSTREAM="http://x", **given)
        assert_one_line_error(done, "an auditor's copy")


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_prints_its_address_first_and_stops_at_sigterm(tmp_path: Path, workers: int) -> None:
    command = [
        sys.executable,
        "-m",
        "llm_label",
        "serve",
        "--upstream",
        "http://127.0.0.1:9",
        "--port",
        "0",
        "--provider",
        "Acme",
    ]
    env = {
        **os.environ,
        "LLM_LABEL_AUDIT_PATH": str(tmp_path / "audit.sqlite3"),
        "LLM_LABEL_SERVER_WORKERS": str(workers),
    }
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=tmp_path, env=env) as server:
        assert server.stdout is not None and server.stderr is not None
        first = server.stdout.readline()
        match = re.fullmatch(r"llm-label: (http://127\.0\.0\.1:\d+)\n", first)
        assert match, first
        with urllib.request.urlopen(match[1] + "/healthz", timeout=20) as response:
            assert response.status == 200
        said = server.stderr.readline()
        assert re.fullmatch(
            r"llm-label: policy cn-[0-9a-f]{8}; regimes cn; label at start \(auto\); .*provider Acme; .*\n", said
        )
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0


def test_an_address_in_use_is_one_line(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        unnamed = run("serve", "--upstream", "http://x", "--port", port, cwd=tmp_path)
        done = run("serve", "--upstream", "http://x", "--provider", "A", "--port", port, cwd=tmp_path)
    assert_one_line_error(unnamed, "--provider")  # what must be set comes before what is taken
    assert_one_line_error(done, f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another")
    assert "while attempting" not in done.stderr


def test_a_tokenizer_of_a_kind_that_is_not_installed_is_called_a_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream.importlib.metadata, "entry_points", lambda group: ())
    with pytest.raises(InputError) as caught:
        tokenizer_file("local:")
    assert str(caught.value).startswith("--tokenizer 'local:' is of kind 'local', which is not installed; install it")
    assert "http" not in str(caught.value)
