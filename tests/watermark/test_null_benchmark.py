"""benchmarks/null.py runs, agrees with scan on the texts it checks, and finds no rate above its level."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.verify.marking import plain_text, toy_tokenizer

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "null.py"


@pytest.mark.parametrize(
    ("scheme", "ring"), [("gumbel", 1), ("dual_gumbel", 4), ("bernoulli", 1), ("select", 10), ("synthid-weighted", 10)]
)
def test_a_short_run_finds_no_rate_above_its_level(scheme: str, ring: int) -> None:
    """The seed is fixed; by chance 1 in 100 would fail. The program itself compares pairs with scan, to the bit."""
    command = [sys.executable, str(PROGRAM), "--pairs", "5200", "--scheme", scheme, "--ring", str(ring), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr or done.stdout
    assert ", 2 of them by scan" in done.stderr
    rows = [row for row in json.loads(done.stdout) if row["texts"] == "all"]
    assert [row["units"] for row in rows] == [5200 // keys for keys in sorted({1, ring}) for _ in range(5)]
    assert {row["status"] for row in rows} <= {"fine", "unresolved"}
    assert 0.3 < rows[0]["rate"] / rows[0]["level"] < 2.0  # not wastefully below either


@pytest.mark.parametrize(("bits", "tests"), [(0, ["windows"]), (4, ["4-bit payload", "4-bit payload, windows"])])
def test_what_detection_searches_is_measured(bits: int, tests: list[str]) -> None:
    """The seed is fixed; by chance 1 in 500 would fail."""
    command = [sys.executable, str(PROGRAM), "--search", "--payload-bits", str(bits), "--pairs", "1000", "--json"]
    done = subprocess.run([*command, "--scheme", "bernoulli"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr or done.stdout
    rows = [row for row in json.loads(done.stdout) if row["texts"] == "all"]
    assert [row["scheme"] for row in rows[::5]] == [f"bernoulli, {test}" for test in tests]
    assert {row["units"] for row in rows} == {1000} and len(rows) == 5 * len(tests)


def test_every_real_text_is_asked(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(plain_text(60, seed=number))
    (tmp_path / "short.txt").write_text(plain_text(20))
    command = [sys.executable, str(PROGRAM), "--pairs", "60", "--scheme", "gumbel", "--text", str(tmp_path), "--json"]
    command += ["--tokenizer", str(toy_tokenizer(tmp_path))]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout)
    units = {row["texts"]: row["units"] for row in rows if row["keys"] == 1}
    assert units == {tmp_path.name: 60, "all": 60}


def test_the_spread_over_fixed_keys_is_reported() -> None:
    command = [sys.executable, str(PROGRAM), "--spread", "8", "--scheme", "gumbel", "--json"]
    (row,) = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout)
    assert 0.0 <= row["least"] <= row["median"] <= row["largest"] <= 1.0
