"""`llm-label demo`: the main job, end to end, over real HTTP."""

import contextlib
import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llm_label.errors import UpstreamError

if TYPE_CHECKING:
    from llm_label.verify.detector import Detector
    from llm_label.verify.verdict import Verdict

__all__ = ["QUESTIONS", "asked", "demo"]

QUESTIONS = (("zh", "如何插入图片？"), ("en", "How do I insert a picture?"))
TOKENS = 256
PROVIDER = "llm-label-demo"  # a plain name: a code belongs to a registered provider and is never invented
SHOWN_HEADERS = ("X-AIGC", "X-LLM-Label")
CHANCE = (
    "log10 p: how likely text without this key would look as marked as this. Label 1: the record says that the text is "
    "generated (GB 45438-2025).\nText and key are drawn anew each time. By chance about 1 run in 200 misses a "
    "watermark (measured: 1 of 800 Chinese answers, 1 of 800 English ones); then run it again."
)


@dataclass
class Answer:
    language: str
    stream: bool
    headers: dict[str, str]
    body: bytes


@click.command(epilog="Example: llm-label demo --keep")
@click.option("--keep", is_flag=True, help="Leave the proxy running until Ctrl-C, to try it with a client.")
@click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
def demo(keep: bool, as_json: bool) -> int:
    """Ask a small language model through the proxy, show the marks, and find them again.

    Exit status 0 only if label, record and watermark were found in every answer.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the proxy and the key end with the demo
    with (
        tempfile.TemporaryDirectory(prefix="llm-label-demo-") as scratch,
        _proxy(Path(scratch)) as (url, ring),
    ):
        tell = _silent if as_json else click.echo
        tell(f"The proxy listens on {url}, in front of the embedded model.")
        tell("It is tiny (3 million parameters) and writes nonsense: look at the marks, not at what it says.\n")
        answers = [_ask(url, *question, stream, tell) for question in QUESTIONS for stream in (True, False)]
        detector = _detector(ring)
        verdicts = [detector.detect(answer.body) for answer in answers]
        found = [_found(verdict) for verdict in verdicts]
        click.echo(_json(answers, verdicts)) if as_json else _show(answers, verdicts, found)
        if keep:
            tell(f"\nStill serving at {url}/v1 (keyring {ring}). Stop with Ctrl-C.")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
    return 0 if all(all(marks.values()) for marks in found) else 1


def _new_keyring(scratch: Path) -> Path:
    """Write a ring with one fresh key for the embedded model."""
    from llm_label.keyfile import tokenizer_spec, write_keyring
    from llm_label.proxy.upstream import connect
    from llm_label.settings import UpstreamSettings
    from llm_label.watermark.keyring import Key, Keyring

    tokenizer = connect(UpstreamSettings(url="local:")).tokenizer
    if tokenizer is None:
        raise UpstreamError("the embedded model has no tokenizer.json; reinstall llm-label-transformers")
    path = scratch / "keyring.json"
    write_keyring(path, Keyring((Key.new("demo", secrets.token_bytes(32), tokenizer_spec(tokenizer)),)))
    return path


@contextlib.contextmanager
def _proxy(scratch: Path) -> Iterator[tuple[str, Path]]:
    """Run `llm-label serve`; give its address and its keyring."""
    ring = _new_keyring(scratch)
    options = {"port": "0", "provider": PROVIDER, "keyring": str(ring), "key": "demo", "upstream": "local:"}
    command = [sys.executable, "-m", "llm_label", "serve", *(f"--{name}={value}" for name, value in options.items())]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("LLM_LABEL_")}
    environ["LLM_LABEL_AUDIT_PATH"] = str(scratch / "audit.sqlite3")
    process = subprocess.Popen(command, env=environ, cwd=scratch, stdout=subprocess.PIPE, text=True)
    try:
        first = process.stdout.readline() if process.stdout else ""
        if not first.startswith("llm-label: http"):
            raise UpstreamError("the proxy did not start; its own message stands above")
        yield first.removeprefix("llm-label: ").strip(), ring
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def asked(question: str) -> dict[str, Any]:
    """Return the request body for a question."""
    messages = [{"role": "user", "content": question}]
    return {"model": "embedded", "messages": messages, "max_tokens": TOKENS, "temperature": 1.0, "top_p": 0.95}


def _ask(url: str, language: str, question: str, stream: bool, tell: Any) -> Answer:
    """Ask over HTTP, show the answer as it comes."""
    request = {**asked(question), "stream": stream}
    tell(click.style(f"[{language}, {'streamed' if stream else 'whole'}] {question}", bold=True))
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    connection.request("POST", "/v1/chat/completions", json.dumps(request), {"Content-Type": "application/json"})
    response = connection.getresponse()
    headers = {name: value for name, value in response.getheaders() if name in SHOWN_HEADERS}
    body = b"".join(_lines(response, tell)) if stream else response.read()
    connection.close()
    if response.status != 200:
        raise UpstreamError(f"the proxy answered {response.status}: {body[:300].decode(errors='replace')}")
    if not stream:
        tell(json.loads(body)["choices"][0]["message"]["content"])
    for name, value in headers.items():
        tell(click.style(f"{name}: {value}", dim=True))
    tell("")
    return Answer(language, stream, headers, body)


def _lines(response: http.client.HTTPResponse, tell: Any) -> Iterator[bytes]:
    for line in response:
        yield line
        if tell is click.echo and line.startswith(b"data: {"):
            for choice in json.loads(line[6:]).get("choices") or []:
                click.echo(choice.get("delta", {}).get("content") or "", nl=False)
    tell("")


def _detector(ring: Path) -> "Detector":
    from llm_label.keyfile import read_keyring
    from llm_label.labels.wording import all_wordings
    from llm_label.verify.detector import Detector

    return Detector(read_keyring(ring), all_wordings())


def _found(verdict: "Verdict") -> dict[str, bool]:
    from llm_label.verify.findings import RecordMark, VisibleLabel, WatermarkTest

    evidence = verdict.evidence
    return {
        "label": any(isinstance(f, VisibleLabel) and f.own for f in evidence),
        "record": any(isinstance(f, RecordMark) and f.record is not None and f.placed for f in evidence),
        "watermark": any(isinstance(f, WatermarkTest) and f.decision == "marked" for f in evidence),
    }


def _show(answers: list[Answer], verdicts: list["Verdict"], found: list[dict[str, bool]]) -> None:
    from rich.console import Console
    from rich.table import Table

    from llm_label.verify.findings import WatermarkTest

    table = Table("answer", "label", "record", "watermark", "log10 p", "tokens", "verdict", box=None)
    for answer, verdict, marks in zip(answers, verdicts, found, strict=True):
        test = next(f for f in verdict.evidence if isinstance(f, WatermarkTest))
        kind = f"{answer.language}, {'streamed' if answer.stream else 'whole'}"
        told = ["found" if marks[name] else "NOT FOUND" for name in ("label", "record", "watermark")]
        table.add_row(
            kind, *told, f"{test.log10_p:.1f}", str(test.scored), f"{verdict.verdict} (Label {verdict.label})"
        )
    console = Console(highlight=False)
    with console.capture() as caught:
        console.print(table)
        console.print(f"\n{verdicts[-1].wording['zh']}\n{verdicts[-1].wording['en']}\n\n{CHANCE}")
    click.echo(caught.get(), nl=False)


def _json(answers: list[Answer], verdicts: list["Verdict"]) -> str:
    from llm_label.verify.report import to_dict

    shown = [
        {"language": a.language, "stream": a.stream, "headers": a.headers, "verdict": to_dict(v)}
        for a, v in zip(answers, verdicts, strict=True)
    ]
    return json.dumps(shown, ensure_ascii=False, indent=2)


def _silent(*_: object) -> None:
    """Say nothing: JSON is all that may stand on standard output."""
