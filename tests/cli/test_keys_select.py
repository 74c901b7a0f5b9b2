"""A key of scheme select from the command line: made without a tokenizer, found in a file, its price said."""

import json
from pathlib import Path

import numpy as np

from llm_label.keyfile import read_keyring
from tests.cli.test_commands import assert_one_line_error, run
from tests.watermark.test_select import by_blocks


def test_a_key_is_made_without_a_tokenizer_and_found_in_a_text(tmp_path: Path) -> None:
    """16 choices among 16 come to p about 1e-12; 1e-6 is missed once in 10^3."""
    made = run("keys", "new", "api", "--scheme", "select", "--set", "candidates=16", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "every answer costs 16 at the upstream" in made.stderr and "1/17" in made.stderr
    ring = tmp_path / "config" / "llm-label" / "keyring.json"
    key = read_keyring(ring).get("api")
    (tmp_path / "marked.md").write_text(by_blocks(key, np.random.default_rng(1), 16, k=16), encoding="utf-8")
    found = run("detect", "marked.md", "--json", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    verdict = json.loads(found.stdout)
    watermark = next(e for e in verdict["evidence"] if e["kind"] == "watermark")
    assert (watermark["scheme"], watermark["decision"]) == ("select", "marked")
    assert "tokenizers:letters-v1|" in verdict["signature"]


def test_check_says_how_such_a_key_marks(tmp_path: Path) -> None:
    run("keys", "new", "api", "--scheme", "select", cwd=tmp_path)
    (tmp_path / "llm-label.toml").write_text('[provider]\nname = "Acme"\n[[upstreams]]\nurl = "http://gpu:8000"\n')
    strict = {"LLM_LABEL_WATERMARK_KEY": "api", "LLM_LABEL_WATERMARK_REQUIRED": "true"}
    duties = json.loads(run("check", "--json", cwd=tmp_path, **strict).stdout)
    assert duties["watermark"].endswith(", by choosing among several answers; only chat, required")


def test_a_tokenizer_is_asked_for_where_one_is_needed_and_refused_where_not(tmp_path: Path) -> None:
    assert_one_line_error(run("keys", "new", "k", cwd=tmp_path), "scheme 'gumbel' needs --tokenizer")
    select = ("keys", "new", "k", "--scheme", "select")
    assert_one_line_error(run(*select, "--tokenizer", ".", cwd=tmp_path), "leave out --tokenizer")
    assert_one_line_error(run(*select, "--set", "candidates=1", cwd=tmp_path), "from 2 to 128, not 1")
    assert_one_line_error(run(*select, "--import-vllm", "key", cwd=tmp_path), "vLLM has no watermark")
