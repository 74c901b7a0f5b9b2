"""Every example runs, and the README says what is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=ROOT, timeout=110)


def test_the_list_of_examples_is_complete() -> None:
    assert EXAMPLES == ["ask_through_the_proxy.py", "generate.py", "label_text.py"]


def test_label_text() -> None:
    done = run("examples/label_text.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("AI生成 · AI-generated\n\nSpring comes in March.\n\nAI生成 · AI-generated")


def test_generate() -> None:
    pytest.importorskip("llm_label_transformers.upstream", reason="llm-label-transformers is not installed")
    done = run("examples/generate.py")
    assert done.returncode == 0, done.stderr
    assert "verdict: suspected" in done.stdout and "'decision': 'marked'" in done.stdout


def test_ask_through_the_proxy() -> None:
    pytest.importorskip("llm_label_transformers.upstream", reason="llm-label-transformers is not installed")
    serve = [sys.executable, "-m", "llm_label", "serve", "--provider", "ACME", "--port", "0"]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, text=True, cwd=ROOT) as proxy:
        try:
            address = proxy.stdout.readline().split()[-1] if proxy.stdout else ""
            done = run("examples/ask_through_the_proxy.py", address)
        finally:
            proxy.terminate()
    assert done.returncode == 0, done.stderr
    assert "'ContentProducer': 'ACME'" in done.stdout and "'applied': ['start']" in done.stdout


def test_links_of_the_documentation_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
