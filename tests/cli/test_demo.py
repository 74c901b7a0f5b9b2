"""`llm-label demo`, as the README's first command runs it.

Chance of failing: an answer whose watermark is missed; about 1 in 200 a run by the measurement in benchmarks/README.md.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the adapter llm-label-transformers is not installed")


def test_the_demo_finds_every_mark_in_both_languages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm_label", "demo", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    answers = json.loads(done.stdout)
    assert [(a["language"], a["stream"]) for a in answers] == [("zh", True), ("zh", False), ("en", True), ("en", False)]
    for answer in answers:
        assert answer["verdict"]["verdict"] == "confirmed"
        assert json.loads(answer["headers"]["X-AIGC"])["Label"] == "1"
