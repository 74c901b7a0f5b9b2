"""`llm-label audit`: read the audit log."""

import datetime
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, get_args

import click

from llm_label.audit.entry import Entry, Result
from llm_label.audit.store import Count, Store
from llm_label.errors import InputError, SettingsError
from llm_label.settings import default_audit, load

__all__ = ["audit"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _moment(value: str) -> float:
    """Read a moment in UTC, or so long ago, as seconds since 1970."""
    if match := re.fullmatch(r"([0-9]{1,9})([smhd])", value):
        return time.time() - int(match[1]) * UNITS[match[2]]
    try:
        moment = datetime.datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is no time; write 2026-11-22, 2026-11-22T10:00 (UTC), or 30m, 12h, 7d for ago"
        ) from None


_config = click.option("--config", type=click.Path(path_type=Path), help="Settings file that names the log.")
_log = click.option("--log", type=click.Path(path_type=Path), help="The log's file, if not the settings' one.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
_since = click.option(
    "--since", type=_moment, metavar="WHEN", help="Only answers since a time in UTC, or 30m, 12h, 7d ago."
)


@click.group(epilog="Example: llm-label audit list --limit 5")
def audit() -> None:
    """Read the audit log: one entry per response, without prompts or answers."""


@audit.command("list", epilog="Example: llm-label audit list --since 24h --result truncated --json")
@_config
@_log
@click.option(
    "--limit", type=click.IntRange(1, 10**9), default=50, show_default=True, help="At most so many, the newest."
)
@click.option("--result", type=click.Choice(get_args(Result)), help="Only entries with this result.")
@_since
@_json
def list_entries(
    config: Path | None, log: Path | None, limit: int, result: str | None, since: float | None, as_json: bool
) -> None:
    """List the newest entries, one a line; times are UTC."""
    with _store(config, log) as store:
        entries = store.list(limit, result, since)
    if as_json:
        click.echo(json.dumps([e.to_dict() for e in entries], ensure_ascii=False, indent=2))
        return
    rows: list[tuple[str, ...]] = [("opened (UTC)", "content id", "surface", "client", "result", "label", "watermark")]
    rows += [
        (
            _time(e.opened),
            e.content_id,
            e.surface,
            e.client or "-",
            e.result,
            e.label_applied.replace(" ", "+") or e.label_skipped or "-",
            e.watermark_applied or e.watermark_skipped or "-",
        )
        for e in entries
    ]
    _table(rows)


@audit.command("counts", epilog="Example: llm-label audit counts --since 7d")
@_config
@_log
@_since
@_json
def counts(config: Path | None, log: Path | None, since: float | None, as_json: bool) -> None:
    """Count answers by surface.

    Eligible is labelled + skipped + failed; open ones are on their way, or cut off.
    """
    with _store(config, log) as store:
        surfaces = _summed(store.counts(since))
        still_open = len(store.list(-1, "open", since))
    if as_json:
        click.echo(json.dumps({"surfaces": surfaces, "open": still_open}, indent=2))
        return
    rows: list[tuple[str, ...]] = [("surface", "eligible", "labelled", "skipped", "failed", "why")]
    for surface, sums in surfaces.items():
        why = ", ".join(f"{reason} {n}" for part in ("skipped", "failed") for reason, n in sums[part].items())
        numbers = (sums["eligible"], sums["labelled"], sum(sums["skipped"].values()), sum(sums["failed"].values()))
        rows.append((surface, *map(str, numbers), why or "-"))
    _table(rows)
    click.echo(f"open: {still_open}")


@audit.command("show", epilog="Example: llm-label audit show 4f0c9b1e")
@click.argument("content_id")
@_config
@_log
@_json
def show(content_id: str, config: Path | None, log: Path | None, as_json: bool) -> None:
    """Show the entry of one content id; times are UTC.

    CONTENT_ID is the record's ProduceID, or its beginning; or the id that the answer itself bears, as chatcmpl-….
    """
    with _store(config, log) as store:
        entry = _found(store, content_id)
    if as_json:
        click.echo(json.dumps(entry.to_dict(), ensure_ascii=False, indent=2))
        return
    for name, value in _shown(entry).items():
        click.echo(f"{name:<18} {'-' if value in (None, '') else value}")


def _found(store: Store, content_id: str) -> Entry:
    """Return the one entry that is meant. Raises InputError."""
    found = store.by_prefix(content_id.lower()) if re.fullmatch(r"[0-9A-Fa-f]{4,32}", content_id) else []
    if len(found) > 1 and (whole := store.get(content_id.lower())):  # of two proxies on one log, the one that made it
        return whole
    if len(found) > 1:
        raise InputError(f"{content_id!r} begins more than one content id; give more of it")
    if not found and content_id.isprintable() and (entry := store.by_upstream_id(content_id)):
        return entry
    if not found:
        raise InputError(
            f"the audit log has no entry {content_id!r}; give a content id or its first 4 digits or more, as in "
            "`llm-label audit list`, or the id of the answer"
        )
    return found[0]


def _summed(found: list[Count]) -> dict[str, dict[str, Any]]:
    """Sum counts by surface; skipped and failed by reason."""
    surfaces: dict[str, dict[str, Any]] = {}
    for surface, disposition, reason, _, number in found:
        sums = surfaces.setdefault(surface, {"eligible": 0, "labelled": 0, "skipped": {}, "failed": {}})
        sums["eligible"] += number
        if disposition == "labelled":
            sums["labelled"] += number
        else:
            sums[disposition][reason] = sums[disposition].get(reason, 0) + number
    return surfaces


def _table(rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns; the last column needs no width."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


@contextmanager
def _store(config: Path | None, log: Path | None) -> Iterator[Store]:
    """Open the log that is meant, to read it only. Raises InputError, SettingsError."""
    path = log or load(config).audit.path or default_audit()
    if not path.exists():
        raise InputError(f"there is no audit log at {path}; name it with --log or audit.path")
    with closing(Store(path, reading=True)) as store:
        try:
            yield store
        except sqlite3.DatabaseError as error:
            raise SettingsError(
                f"audit log {path} cannot be read: {error}; if a proxy has just started on it, read it again"
            ) from error


def _shown(entry: Entry) -> dict[str, object]:
    values = entry.to_dict()
    for name in ("opened", "closed"):
        if values[name] is not None:
            values[name] = _time(values[name]) + " UTC"
    values["stream"] = "yes" if entry.stream else "no"
    values["language"] = ", then ".join(entry.language.split())
    return values


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
