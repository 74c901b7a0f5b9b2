"""Run real clients directly, through the proxy with marks off and with marks on, and print what stayed the same.

Called by `python3 start.py clients [NAME …] [--json FILE]`.
"""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llm_label.labels.wording import all_wordings, wording
from tests.clients.compare import Marks, differences, same
from tests.clients.environments import NODE, ROOT, node, python
from tests.clients.replay import Ask, replayed
from tests.clients.table import SURFACES, Cell, Row, show

HERE = Path(__file__).resolve().parent
MARKS = Marks(wording("zh", ["cn"]), all_wordings())
SETTINGS = """
[provider]
name = "Acme"
[labels]
positions = [{positions}]
language = "zh"
[server]
port = 0
body_field = {body_field}
[audit]
path = "{audit}"
"""
LIMIT = 300  # seconds a client gets
START = 60  # seconds a server gets to start


@dataclass(frozen=True)
class Client:
    """An unmodified client and the script that plays it."""

    name: str
    script: str
    environment: str = "node"

    def command(self) -> list[str]:
        if self.environment == "node":
            return [node(), str(NODE / self.script)]
        return [python(self.environment), str(HERE / "python" / self.script)]


CLIENTS = (
    Client("openai-python 3", "openai_sdk.py", "openai3"),
    Client("openai-python 2", "openai_sdk.py", "openai2"),
    Client("openai-node", "openai_node.mjs"),
    Client("anthropic", "anthropic_sdk.py", "openai3"),
    Client("anthropic-node", "anthropic_node.mjs"),
    Client("ai-sdk", "ai_sdk.mjs"),
    Client("litellm", "litellm_sdk.py", "openai2"),
    Client("langchain", "langchain_sdk.py", "openai3"),
    Client("instructor", "instructor_sdk.py", "openai2"),
    Client("pydantic-ai", "pydantic_ai_sdk.py", "openai3"),
    Client("openai-agents", "agents_sdk.py", "openai3"),
    Client("llm", "llm_cli.py", "openai3"),
    Client("compatcanary", "compatcanary_scan.mjs"),
)


def main() -> int:
    """Run the clients that were named, or all; 0 if everything is as it should be."""
    parser = argparse.ArgumentParser(prog="start.py clients", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(c.name for c in CLIENTS)}")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="clients that run at once; default 2")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results and every difference here")
    given = parser.parse_args()
    for name in given.names:
        if not any(name.casefold() in client.name for client in CLIENTS):
            parser.error(f"no client is called {name!r}; known: {', '.join(c.name for c in CLIENTS)}")
    chosen = [c for c in CLIENTS if not given.names or any(n.casefold() in c.name for n in given.names)]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as ways:
        pool = ThreadPoolExecutor(max(given.jobs, 1))
        rows = list(pool.map(lambda client: run(client, ways, Path(folder)), chosen))
    good = show(rows, time.monotonic() - began)
    if given.json:
        given.json.write_text(json.dumps([row.report() for row in rows], ensure_ascii=False, indent=1) + "\n")
    return 0 if good else 1


def run(client: Client, ways: dict[str, str], folder: Path) -> Row:
    """Play one client all ways and judge what it saw."""
    say(f"{client.name}: starting")
    began = time.monotonic()
    try:
        report = _played(client, ways, folder)
    except (RuntimeError, ValueError) as error:  # it died, or printed something else than JSON
        return Row(client.name, {}, {}, str(error))
    asks = _asks(client, ways["direct"])
    row = Row(client.name, report["versions"], judge(report["ways"], asks, ways))
    say(f"{client.name}: {row.summary()} in {time.monotonic() - began:.1f} s")
    return row


def judge(seen: dict[str, dict[str, Any]], asks: dict[str, list[Ask]], ways: dict[str, str]) -> dict[str, Cell]:
    """Sum up the scenarios of each surface."""
    cells: dict[str, Cell] = {}
    for name, direct in seen["direct"].items():
        surface = direct["surface"]
        cell = cells.setdefault(surface, Cell())
        heard = replayed(asks.get(name) or asks.get("scan", []), ways)  # a scan asks for all its probes at once
        for way, judged in (
            ("off", same(direct, seen["off"][name])),
            ("on", differences(direct, seen["on"][name], MARKS)),
        ):
            cell.add(way, name, judged + heard[way])
    return {surface: cells[surface] for surface in SURFACES if surface in cells}


def _played(client: Client, ways: dict[str, str], folder: Path) -> dict[str, Any]:
    command = [*client.command(), client.name.replace(" ", "-"), *(f"{way}={url}" for way, url in ways.items())]
    environment = {**os.environ, **QUIET, "LLM_USER_PATH": str(folder / "llm"), "HOME": str(folder)}
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    assert process.stdout is not None and process.stderr is not None
    lines: list[str] = []
    follower = threading.Thread(target=_follow, args=(client.name, process.stderr, lines))
    follower.start()
    timer = threading.Timer(LIMIT, process.kill)
    timer.start()
    out = process.stdout.read()
    status = process.wait()
    timer.cancel()
    follower.join()
    if status or not out.strip():
        raise RuntimeError(f"the script ended with status {status}: {' | '.join(lines[-8:])}")
    return dict(json.loads(out.strip().split("\n")[-1]))  # U+2028 ends no line here


QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no network
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "LANGCHAIN_TRACING_V2": "false",
    "AI_SDK_LOG_WARNINGS": "false",
    "NO_COLOR": "1",
    "PYTHONIOENCODING": "utf-8",
    "PYTHONUTF8": "1",
}


def _follow(name: str, stream: Any, lines: list[str]) -> None:
    """Show which scenario is being played, and keep the rest for a fault report."""
    for line in stream:
        lines.append(line.rstrip())
        if sys.stderr.isatty() and line.split(" ")[0] in ("direct", "off", "on"):
            print(f"\r\033[Kclients: {name}: {line.rstrip()}", end="", file=sys.stderr, flush=True)


def _asks(client: Client, tape: str) -> dict[str, list[Ask]]:
    """Return what a client's scenarios asked, from the upstream's journal."""
    found: dict[str, list[Ask]] = {}
    for line in Ask.journal(tape):
        owner, _, scenario = line.who.rpartition(":")
        if owner == client.name.replace(" ", "-"):
            found.setdefault(scenario, []).append(line)
    return found


def say(text: str) -> None:
    lead = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{lead}clients: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """Start aimock, the tape before it and two proxies; give the address of every way."""
    with contextlib.ExitStack() as stack:
        fixtures = str(HERE / "fixtures" / "aimock.json")
        mock = [
            node(),
            str(NODE / "node_modules/@copilotkit/aimock/dist/cli.js"),
            "--port",
            "0",
            "--fixtures",
            fixtures,
        ]
        aimock = stack.enter_context(_serving(folder, [*mock, "--chunk-size", "7"]))
        tape = stack.enter_context(_serving(folder, [sys.executable, "-m", "tests.clients.tape", aimock]))
        ways = {"direct": tape}
        for way, positions, body_field in (("off", "", "false"), ("on", '"start", "end"', "true")):
            config = folder / f"{way}.toml"
            audit = folder / f"{way}.sqlite3"
            config.write_text(SETTINGS.format(positions=positions, body_field=body_field, audit=audit.as_posix()))
            command = [sys.executable, "-m", "llm_label", "serve", "--config", str(config), "--upstream", tape]
            ways[way] = stack.enter_context(_serving(folder, command))
        say(f"the servers are up: {', '.join(f'{way} {url}' for way, url in ways.items())}")
        yield ways


@contextlib.contextmanager
def _serving(folder: Path, command: list[str]) -> Iterator[str]:
    """Run a server as a process of its own; its address stands somewhere in its first lines."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LLM_LABEL_")}
    with tempfile.NamedTemporaryFile("w+", dir=folder) as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True)
        try:
            yield _address(process, Path(log.name))
        finally:
            process.terminate()
            process.wait(40)


def _address(process: "subprocess.Popen[str]", log: Path) -> str:
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(r"(?:^llm-label:|^tape:|listening on) (http://\S+)$", log.read_text(), re.M):
            return found[1].rstrip("/")
        time.sleep(0.05)
    raise SystemExit(f"clients: this server did not start: {process.args}\n{log.read_text()}")


if __name__ == "__main__":
    sys.exit(main())
