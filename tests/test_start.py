"""`start.py`, as far as it needs no environment of its own."""

import subprocess
import sys
from pathlib import Path

START = Path(__file__).parents[1] / "start.py"


def test_help_is_no_mistake_and_an_unknown_command_is_one() -> None:
    asked, wrong = (
        subprocess.run([sys.executable, START, what], capture_output=True, text=True) for what in ("--help", "tset")
    )
    assert (asked.returncode, wrong.returncode) == (0, 1)
    assert asked.stdout == wrong.stderr and asked.stdout.startswith("usage: python3 start.py demo | test")
