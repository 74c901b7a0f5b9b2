"""benchmarks/null.py runs, agrees with scan on the texts it checks, and finds no rate above its level."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "null.py"


@pytest.mark.parametrize(("scheme", "ring"), [("gumbel", 1), ("gumbel", 4), ("bernoulli", 1)])
def test_a_short_run_finds_no_rate_above_its_level(scheme: str, ring: int) -> None:
    """The seed is fixed; by chance 1 in 100 would fail."""
    command = [sys.executable, str(PROGRAM), "--pairs", "5200", "--scheme", scheme, "--ring", str(ring), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr or done.stdout
    rows = [row for row in json.loads(done.stdout) if row["texts"] == "all"]
    assert [row["units"] for row in rows] == [5200 // ring] * 5
    assert {row["status"] for row in rows} <= {"fine", "unresolved"}
    assert 0.3 < rows[0]["rate"] / rows[0]["level"] < 2.0  # not wastefully below either


def test_the_spread_over_fixed_keys_is_reported() -> None:
    command = [sys.executable, str(PROGRAM), "--spread", "8", "--scheme", "gumbel", "--json"]
    (row,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout)
    assert 0.0 <= row["least"] <= row["median"] <= row["largest"] <= 1.0
