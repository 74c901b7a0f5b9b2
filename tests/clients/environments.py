"""Make the environments of the client suite, then run it: `python3 start.py clients [NAME …] [--json FILE]`.

One environment is the proxy's, as an operator installs it; the clients share as few as their versions allow; one is
Node's. Needs the standard library alone, since `start.py` calls it before anything is installed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

__all__ = ["NODE", "ROOT", "main", "node", "prepare", "python"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOLDER = ROOT / ".venv-clients"
NODE = HERE / "node"
BIN = "Scripts" if os.name == "nt" else "bin"

# environment -> what pip installs, and the file that says so
PYTHONS: dict[str, tuple[Sequence[str], Path]] = {
    "proxy": (["-e", "."], ROOT / "pyproject.toml"),
    "openai3": (["-r", "tests/clients/python/openai3.txt"], HERE / "python" / "openai3.txt"),
    "openai2": (["-r", "tests/clients/python/openai2.txt"], HERE / "python" / "openai2.txt"),
}


def python(name: str) -> str:
    """Name the interpreter of an environment."""
    return str(FOLDER / name / BIN / "python")


def node() -> str:
    """Name the program of Node, or end with one line that says what is missing."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        sys.exit("start.py: the client suite needs Node 20.15 or newer with npm; node or npm is not on PATH")
    version = subprocess.run([found, "--version"], capture_output=True, text=True).stdout.strip()
    if [int(part) for part in version.removeprefix("v").split(".")[:2]] < [20, 15]:
        sys.exit(f"start.py: the client suite needs Node 20.15 or newer; {found} is {version}")
    return found


def prepare(say: Callable[[str], None]) -> None:
    """Bring every environment up to date; what is so already is left alone."""
    node()
    for name, (_, source) in PYTHONS.items():
        _make(FOLDER / name, [sys.version.encode(), source.read_bytes()], partial(_venv, name), say)
    _make(NODE / "node_modules", [(NODE / "package-lock.json").read_bytes()], _npm, say)


def _make(folder: Path, parts: Sequence[bytes], build: Callable[[], None], say: Callable[[str], None]) -> None:
    stamp = folder / "llm-label.stamp"
    wanted = hashlib.sha256(b"\0".join([str(ROOT).encode(), *parts])).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    say(f"creating {folder.relative_to(ROOT)}")
    build()
    stamp.write_text(wanted)


def _venv(name: str) -> None:
    _run(sys.executable, "-m", "venv", str(FOLDER / name))
    pip = [python(name), "-m", "pip", "install", "--quiet", "--progress-bar=off"]
    _run(*pip, "--upgrade", "pip>=25.1")
    _run(*pip, *PYTHONS[name][0])


def _npm() -> None:
    npm = shutil.which("npm") or "npm"
    _run(npm, "ci", "--no-audit", "--no-fund", "--loglevel=error", folder=NODE)


def _run(*command: str, folder: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=folder)
    if done.returncode:
        sys.exit(f"start.py: this step failed (exit {done.returncode}): {' '.join(command)}")


def main() -> int:
    prepare(lambda text: print(f"start.py: {text}", flush=True))
    return subprocess.run([python("proxy"), "-m", "tests.clients.run", *sys.argv[1:]], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
