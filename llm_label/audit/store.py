"""The audit log on disk: SQLite, written in groups, readable by other processes while the proxy runs.

The schema changes by appending to MIGRATIONS only. Writes of one turn of the event loop share one transaction: an entry
is on disk before the first byte of its answer leaves, and the cost is shared under load. With WAL and
`synchronous=NORMAL` a commit survives a crash of the process; a power cut may lose the last moments.
"""

import operator
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from llm_label.audit.entry import COLUMNS, Entry
from llm_label.errors import SettingsError

__all__ = ["Store"]


def _entries(db: sqlite3.Connection) -> None:
    db.execute(
        """CREATE TABLE entries (
            number INTEGER PRIMARY KEY, content_id TEXT NOT NULL UNIQUE, opened REAL NOT NULL,
            surface TEXT NOT NULL, upstream TEXT NOT NULL, model TEXT,
            stream INTEGER NOT NULL, producer TEXT NOT NULL, policy TEXT NOT NULL,
            label_planned TEXT NOT NULL, watermark_planned TEXT, result TEXT NOT NULL, closed REAL, status INTEGER,
            upstream_id TEXT, label_applied TEXT NOT NULL, label_skipped TEXT, watermark_applied TEXT,
            watermark_skipped TEXT, choices INTEGER NOT NULL, labelled INTEGER NOT NULL,
            finish_reasons TEXT NOT NULL, note TEXT)"""
    )


def _issued_labels(db: sqlite3.Connection) -> None:
    db.execute("CREATE TABLE issued_labels (text TEXT PRIMARY KEY, first_issued REAL NOT NULL) WITHOUT ROWID")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_entries, _issued_labels)

# Rows are appended in the order of opening; random content ids as the key would touch a page of the file for each.
_WRITE = (
    f"INSERT INTO entries ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) "
    f"ON CONFLICT (content_id) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in COLUMNS[1:])}"
)
MAX_TEXT = 500  # characters of a column; a model's name is the client's to choose
FOREIGN = ("model", "upstream_id", "finish_reasons", "note")  # what clients and upstreams can write into an entry
_values = operator.attrgetter(*COLUMNS)
_READ = f"SELECT {', '.join(COLUMNS)} FROM entries"


class Store:
    """The log in one file. Raises SettingsError when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise SettingsError(f"audit log {path} cannot be opened: {error}") from error

    def write(self, entries: Iterable[Entry]) -> None:
        """Insert or replace entries in one transaction. Raises sqlite3.Error."""
        rows = [_row(entry) for entry in entries]
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.executemany(_WRITE, rows)
            self._db.execute("COMMIT")  # a full disk may show only here
        except BaseException:
            if self._db.in_transaction:  # else SQLite has rolled it back itself
                self._db.execute("ROLLBACK")
            raise

    def wait_for_others(self, seconds: float) -> None:
        """Set how long a write blocks while another process holds the file."""
        self._db.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")

    def get(self, content_id: str) -> Entry | None:
        row = self._db.execute(f"{_READ} WHERE content_id = ?", (content_id,)).fetchone()
        return _entry(row) if row else None

    def list(self, limit: int = 50, result: str | None = None) -> list[Entry]:
        """Return the newest entries first."""
        where, values = ("WHERE result = ?", (result, limit)) if result else ("", (limit,))
        rows = self._db.execute(f"{_READ} {where} ORDER BY number DESC LIMIT ?", values)
        return [_entry(row) for row in rows]

    def issue(self, texts: Collection[str]) -> None:
        """Remember label texts that answers may carry from now on, so that history cleaning knows them for ever."""
        now = time.time()
        self._db.executemany("INSERT OR IGNORE INTO issued_labels VALUES (?, ?)", [(t, now) for t in texts])

    def issued(self) -> frozenset[str]:
        return frozenset(text for (text,) in self._db.execute("SELECT text FROM issued_labels"))

    def close(self) -> None:
        self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("BEGIN IMMEDIATE")  # several workers may start at once
        self._db.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, applied REAL NOT NULL)")
        (done,) = self._db.execute("SELECT COUNT(*) FROM migrations").fetchone()
        if done > len(MIGRATIONS):
            self._db.execute("ROLLBACK")
            raise SettingsError(f"audit log {self._path} was written by a newer llm-label (schema {done})")
        for number, migrate in enumerate(MIGRATIONS[done:], done + 1):
            migrate(self._db)
            self._db.execute("INSERT INTO migrations VALUES (?, ?)", (number, time.time()))
        self._db.execute("COMMIT")


def _row(entry: Entry) -> tuple[object, ...]:
    """Return the columns of an entry. Strangers' texts are bounded, and without halves of surrogate pairs."""
    for name in FOREIGN:
        text = getattr(entry, name)
        if text is not None and (len(text) > MAX_TEXT or not text.isascii()):
            setattr(entry, name, text[:MAX_TEXT].encode("utf-8", "replace").decode())
    values: tuple[object, ...] = _values(entry)
    return values


def _entry(row: tuple[object, ...]) -> Entry:
    values = dict(zip(COLUMNS, row, strict=True))
    values["stream"] = bool(values["stream"])
    return Entry(**values)  # type: ignore[arg-type]  # the columns are the fields
