"""`llm-label audit`: read the audit log."""

import json
import time
from pathlib import Path
from typing import get_args

import click

from llm_label.audit.entry import Entry, Result
from llm_label.audit.store import Store
from llm_label.errors import InputError
from llm_label.settings import default_audit, load

__all__ = ["audit"]

_config = click.option("--config", type=click.Path(path_type=Path), help="Settings file that names the log.")
_log = click.option("--log", type=click.Path(path_type=Path), help="The log's file, if not the settings' one.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")


@click.group(epilog="Example: llm-label audit list --limit 5")
def audit() -> None:
    """Read the audit log: one entry per response, without prompts or answers."""


@audit.command("list", epilog="Example: llm-label audit list --result truncated --json")
@_config
@_log
@click.option(
    "--limit", type=click.IntRange(1, 10**9), default=50, show_default=True, help="At most so many, the newest."
)
@click.option("--result", type=click.Choice(get_args(Result)), help="Only entries with this result.")
@_json
def list_entries(config: Path | None, log: Path | None, limit: int, result: str | None, as_json: bool) -> None:
    """List the newest entries, one a line."""
    entries = _store(config, log).list(limit, result)
    if as_json:
        click.echo(json.dumps([e.to_dict() for e in entries], ensure_ascii=False, indent=2))
        return
    for e in entries:
        marks = f"label={e.label_applied.replace(' ', '+') or e.label_skipped or '-'}"
        watermark = f"watermark={e.watermark_applied or e.watermark_skipped or '-'}"
        click.echo(f"{_time(e.opened)}  {e.content_id}  {e.surface}  {e.result:<14}  {marks}  {watermark}")


@audit.command("show", epilog="Example: llm-label audit show 4f0c9b1e5a1f4d5f8f0e6a7c1b2d3e4f")
@click.argument("content_id")
@_config
@_log
@_json
def show(content_id: str, config: Path | None, log: Path | None, as_json: bool) -> None:
    """Show the entry of one content id (the record's ProduceID)."""
    store = _store(config, log)
    entry = store.get(content_id) if content_id.isascii() else None
    if entry is None:
        raise InputError(f"the audit log has no entry {content_id!r}; `llm-label audit list` shows what it has")
    if as_json:
        click.echo(json.dumps(entry.to_dict(), ensure_ascii=False, indent=2))
        return
    for name, value in _shown(entry).items():
        click.echo(f"{name:<18} {'-' if value in (None, '') else value}")


def _store(config: Path | None, log: Path | None) -> Store:
    path = log or load(config).audit.path or default_audit()
    if not path.exists():
        raise InputError(f"there is no audit log at {path}; name it with --log or audit.path")
    return Store(path)


def _shown(entry: Entry) -> dict[str, object]:
    values = entry.to_dict()
    for name in ("opened", "closed"):
        if values[name] is not None:
            values[name] = _time(values[name])
    return values


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
