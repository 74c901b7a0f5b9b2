"""Set up llm-label in `.venv` and run it: `python3 start.py demo` or `python3 start.py test`.

Needs nothing but Python 3.11 or newer. What is set up already is left alone, so a second call starts in seconds.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
REQUIREMENTS = ("pyproject.toml", "constraints.txt", "adapters/transformers/pyproject.toml")
PACKAGES = ["-c", "constraints.txt", "-e", ".", "-e", "adapters/transformers"]
# command -> environment, packages beside our own, tests
ASIDE: dict[str, tuple[str, list[str], list[str]]] = {
    # the 2.x line of the openai client has another HTTP stack
    "test-openai2": (".venv-openai2", ["openai>=2,<3"], ["tests/proxy/test_app.py", "tests/proxy/test_replay.py"]),
    "test-litellm": (
        ".venv-litellm",
        ["-e", "adapters/litellm[bedrock]"],
        [f"tests/adapters/test_litellm_{name}.py" for name in ("request", "upstream", "recordings")],
    ),
}
USAGE = (
    "usage: python3 start.py demo | test [pytest arguments] | test-openai2 | test-litellm | clients [NAME …] "
    "| fuzz [--minutes 10] [--seed 1] | env"
)


def say(text: str) -> None:
    print(f"start.py: {text}", flush=True)


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT)
    if done.returncode:
        sys.exit(f"start.py: this step failed (exit {done.returncode}): {' '.join(command)}")


def fingerprint() -> str:
    """Hash what the environment is made from; another hash means that it must be brought up to date."""
    parts = [sys.version.encode(), str(ROOT).encode(), *((ROOT / name).read_bytes() for name in REQUIREMENTS)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def prepare() -> None:
    stamp = VENV / "llm-label.stamp"
    if stamp.is_file() and stamp.read_text() == fingerprint():
        return
    say(f"creating {VENV.name} with Python {sys.version.split()[0]}")
    run(sys.executable, "-m", "venv", str(VENV))
    python = str(BIN / "python")
    say("installing llm-label, the transformers adapter and test tools (1.5 GB, mostly torch; some minutes)")
    run(python, "-m", "pip", "install", "--quiet", "--upgrade", "pip>=25.1")  # 25.1 reads dependency groups
    run(python, "-m", "pip", "install", "--progress-bar=off", "--quiet", *PACKAGES, "--group", "test")
    stamp.write_text(fingerprint())
    say("the environment is ready")


def aside(name: str, packages: list[str]) -> str:
    """Make an environment of its own, unless it is there; return its Python."""
    venv = ROOT / name
    python = str(venv / BIN.name / "python")
    if not (venv / "llm-label.stamp").is_file():
        say(f"creating {name} with {packages[-1]}")
        run(sys.executable, "-m", "venv", str(venv))
        tools = ["pytest>=8.3", "pytest-timeout>=2.3"]
        run(python, "-m", "pip", "install", "--quiet", "--progress-bar=off", "-e", ".", *packages, *tools)
        (venv / "llm-label.stamp").touch()
    return python


def test_aside(what: str, rest: list[str]) -> int:
    """Run the tests that want other packages than the main environment has, in an environment of their own."""
    name, packages, tests = ASIDE[what]
    python = aside(name, packages)
    say(f"running: pytest in {name}")
    return subprocess.run([python, "-m", "pytest", *tests, *rest], cwd=ROOT).returncode


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036 - this file is what an older Python is told it with
        sys.exit(f"start.py: Python {sys.version.split()[0]} was given, 3.11 or newer is needed")
    what, rest = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    if what in ("-h", "--help"):
        print(USAGE)
        return
    if what not in ("demo", "test", "clients", "fuzz", "env", *ASIDE):
        sys.exit(USAGE)
    if what in ASIDE:
        sys.exit(test_aside(what, rest))
    if what == "clients":  # real clients of many makers, in environments of their own
        sys.exit(subprocess.run([sys.executable, "-m", "tests.clients.environments", *rest], cwd=ROOT).returncode)
    if what == "fuzz":
        python = aside(".venv-fuzz", ["atheris>=3"])  # guides the fuzzer by the code that its inputs reach
        sys.exit(subprocess.run([python, "-m", "tests.fuzz", *rest], cwd=ROOT).returncode)
    prepare()
    if what == "demo":
        say("running: llm-label demo")
        sys.exit(subprocess.run([str(BIN / "llm-label"), "demo", *rest]).returncode)
    if what == "test":
        say("running: pytest")
        sys.exit(subprocess.run([str(BIN / "python"), "-m", "pytest", *rest], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
