"""Commands that change one ring at the same time: every key stays, and a lock that is not given up is one line."""

import fcntl
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_label import keyfile
from llm_label.cli.keys import keys
from llm_label.errors import KeyringError
from llm_label.keyfile import alone, read_keyring
from tests.verify.marking import toy_tokenizer

# Waits for the others to be ready, then adds keys and names payloads. Without a lock four of them lose most of them.
COMMANDS = """
import sys, time
from pathlib import Path
from click.testing import CliRunner
from llm_label import keyfile
from llm_label.cli.keys import keys

folder, who, lock = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if lock == "none":
    keyfile.fcntl = None
ring = ["--keyring", str(folder / "ring.json")]
(folder / f"ready{who}").touch()
while len(list(folder.glob("ready*"))) < 4:
    time.sleep(0.001)
for n in range(8):
    new = CliRunner().invoke(keys, ["new", f"k{who}-{n}", "--scheme", "select", *ring])
    name = CliRunner().invoke(keys, ["payload", "all", str(8 * int(who) + n), f"{who}-{n}", *ring])
    assert new.exit_code == name.exit_code == 0, new.output + name.output
once = CliRunner().invoke(keys, ["new", "once", "--scheme", "select", *ring])
print(once.exit_code)
"""

HOLD = """
import sys, time
from pathlib import Path
from llm_label.keyfile import alone

with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def new(ring: Path, id: str) -> str | None:
    """Run `keys new`; return its error, if any."""
    done = CliRunner().invoke(keys, ["new", id, "--scheme", "select", "--keyring", str(ring)])
    return str(done.exception) if done.exception else None


@pytest.mark.parametrize("lock", ["flock", "none"])
def test_of_commands_at_the_same_time_none_loses_a_key(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, lock: str
) -> None:
    ring = tmp_path / "ring.json"
    deployments = ["--payload-bits", "8", "--tokenizer", str(toy_tokenizer(tmp_path_factory.mktemp("tokenizer")))]
    assert CliRunner().invoke(keys, ["new", "all", *deployments, "--keyring", str(ring)]).exit_code == 0
    started = [
        subprocess.Popen([sys.executable, "-c", COMMANDS, tmp_path, str(who), lock], stdout=subprocess.PIPE, text=True)
        for who in range(4)
    ]
    ends = [process.communicate(timeout=120)[0].strip() for process in started]
    assert sorted(ends) == ["0", "1", "1", "1"], "one of them made the key `once`, and the others were told"
    kept = read_keyring(ring)
    assert set(kept.ids) == {"all", "once"} | {f"k{who}-{n}" for who in range(4) for n in range(8)}
    assert kept.get("all").payloads == tuple((8 * who + n, f"{who}-{n}") for who in range(4) for n in range(8))
    assert stat.S_IMODE(ring.stat().st_mode) == 0o600
    assert {file.name for file in tmp_path.iterdir()} == {"ring.json", *(f"ready{who}" for who in range(4))}


def test_a_lock_that_is_not_given_up_is_one_line_and_one_of_the_killed_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyfile, "PATIENCE", 0.1)
    ring = tmp_path / "ring.json"
    (tmp_path / "link.json").symlink_to("ring.json")
    with subprocess.Popen([sys.executable, "-c", HOLD, ring], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        for name in ("ring.json", "link.json"):  # both are the same ring
            told = new(tmp_path / name, "k")
            assert told == f"{ring}.lock is held by another command, for more than 0.1 s; let it end, or stop it"
        assert not ring.exists()
        other.send_signal(signal.SIGKILL)
    assert (tmp_path / "ring.json.lock").exists(), "it had no time to tidy up"
    assert new(ring, "k") is None and read_keyring(ring).ids == ("k",)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.json", "ring.json"]


def test_without_flock_a_lock_that_a_killed_command_left_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyfile, "PATIENCE", 0.1)
    monkeypatch.setattr(keyfile, "fcntl", None)
    ring, lock = tmp_path / "ring.json", tmp_path / "ring.json.lock"
    lock.touch()
    assert str(new(ring, "k")).endswith(f"; if there is none, delete {lock}")
    lock.unlink()
    assert new(ring, "k") is None and not lock.exists()


def test_a_command_that_fails_gives_its_lock_back(tmp_path: Path) -> None:
    ring = tmp_path / "ring.json"
    assert new(ring, "k") is None
    assert "already; choose another id" in str(new(ring, "k"))
    began = time.monotonic()
    assert new(ring, "l") is None and time.monotonic() - began < keyfile.PATIENCE / 2
    assert [file.name for file in tmp_path.iterdir()] == ["ring.json"]


def test_a_ring_that_must_be_there_is_looked_for_before_it_is_locked(tmp_path: Path) -> None:
    told = CliRunner().invoke(keys, ["payload", "k", "1", "name", "--keyring", str(tmp_path / "deep" / "ring.json")])
    assert "there is no keyring at" in str(told.exception) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("followed", [False, True])
def test_a_lock_file_that_its_owner_took_away_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, followed: bool
) -> None:
    """Who waits has opened the old file; who comes next makes another one, and both would hold a lock."""
    lock, real, handles = tmp_path / "ring.json.lock", fcntl.flock, []

    def flock(handle: int, how: int) -> None:
        if not handles:
            lock.unlink()
            if followed:
                lock.touch()
        handles.append(handle)
        real(handle, how)

    monkeypatch.setattr("fcntl.flock", flock)
    with alone(tmp_path / "ring.json"):
        assert len(handles) == 2 and os.path.samestat(os.fstat(handles[-1]), lock.stat())


def test_a_place_that_takes_no_lock_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(37, "No locks available")  # as NFS without its lock service

    monkeypatch.setattr("fcntl.flock", flock)
    told = r"ring\.json cannot be written: .*ring\.json\.lock: No locks available"
    with pytest.raises(KeyringError, match=told), alone(tmp_path / "ring.json"):
        pytest.fail("it is not alone")
