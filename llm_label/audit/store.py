"""The audit log on disk: SQLite, written in groups, readable by other processes while the proxy runs.

The schema changes by appending to MIGRATIONS only. Writes of one turn of the event loop share one transaction: an entry
is on disk before the first byte of its answer leaves, and the cost is shared under load. With WAL and
`synchronous=NORMAL` a commit survives a crash of the process; a power cut may lose the last moments.
"""

import operator
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from llm_label.audit.entry import COLUMNS, Entry, disposition
from llm_label.errors import SettingsError

__all__ = ["Count", "Store"]

Count = tuple[str, str, str, str, int]  # surface, disposition, reason, result, how many


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


def _clients(db: sqlite3.Connection) -> None:
    for column in ("client TEXT", "traffic TEXT NOT NULL DEFAULT 'human'", "asked TEXT",
                   "guard TEXT NOT NULL DEFAULT ''", "language TEXT NOT NULL DEFAULT ''",
                   "retrieved INTEGER NOT NULL DEFAULT 0"):  # fmt: skip
        db.execute(f"ALTER TABLE entries ADD COLUMN {column}")
    # A stored answer that is asked for again is looked up by its number at the upstream.
    db.execute("CREATE INDEX entries_by_upstream ON entries (upstream_id) WHERE upstream_id IS NOT NULL")
    db.execute("CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")


def _counts(db: sqlite3.Connection) -> None:
    """Count in the transaction that closes an entry: exact over all workers, over crashes, and when old rows go."""
    db.execute("ALTER TABLE entries ADD COLUMN disposition TEXT")  # NULL while it is open
    db.execute("ALTER TABLE entries ADD COLUMN reason TEXT")
    key = "surface, disposition, reason, result"
    db.execute(
        "CREATE TABLE counts (surface TEXT, disposition TEXT, reason TEXT, result TEXT, number INTEGER NOT NULL, "
        f"PRIMARY KEY ({key})) WITHOUT ROWID"
    )
    add = (
        "INSERT INTO counts VALUES (NEW.surface, NEW.disposition, NEW.reason, NEW.result, 1) "
        f"ON CONFLICT ({key}) DO UPDATE SET number = number + 1;"
    )
    take = (
        "UPDATE counts SET number = number - 1 WHERE OLD.disposition IS NOT NULL AND surface = OLD.surface "
        "AND disposition = OLD.disposition AND reason = OLD.reason AND result = OLD.result;"
    )
    for event, change in (("INSERT", add), ("UPDATE", take + add)):
        db.execute(
            f"CREATE TRIGGER counts_{event.lower()} AFTER {event} ON entries "
            f"WHEN NEW.disposition IS NOT NULL BEGIN {change} END"
        )
    db.execute(
        """UPDATE entries SET (disposition, reason) = (
            SELECT 'failed', result WHERE result IN ('failed', 'upstream_malformed')
            UNION ALL SELECT 'labelled', '' WHERE label_applied <> ''
            UNION ALL SELECT 'skipped', 'error' WHERE status >= 400
            UNION ALL SELECT 'skipped', label_skipped WHERE label_skipped IS NOT NULL
            UNION ALL SELECT 'failed', replace(result, 'complete', 'unlabelled') LIMIT 1)
        WHERE result <> 'open'"""
    )


def _adopted(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE entries ADD COLUMN adopted TEXT")
    db.execute("CREATE INDEX entries_by_adopted ON entries (adopted) WHERE adopted IS NOT NULL")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_entries, _issued_labels, _clients, _counts, _adopted)

# Rows are appended in the order of opening; random content ids as the key would touch a page of the file for each.
_STORED = (*COLUMNS, "disposition", "reason")
_WRITE = (
    f"INSERT INTO entries ({', '.join(_STORED)}) VALUES ({', '.join('?' * len(_STORED))}) "
    f"ON CONFLICT (content_id) DO UPDATE SET {', '.join(f'{c} = excluded.{c}' for c in _STORED[1:])}"
)
MAX_TEXT = 500  # characters of a column; a model's name is the client's to choose
FOREIGN = (
    "model",
    "upstream_id",
    "finish_reasons",
    "note",
    "asked",
    "guard",
    "adopted",
)  # what clients and upstreams can write into an entry
_values = operator.attrgetter(*COLUMNS)
_READ = f"SELECT {', '.join(COLUMNS)} FROM entries"


class Store:
    """The log in one file; `reading` leaves it as it is. Raises SettingsError when the file cannot be used."""

    def __init__(self, path: Path, *, reading: bool = False) -> None:
        self._path = Path(os.path.realpath(path))  # SQLite keeps its journal beside what a link leads to
        try:
            self._db = self._connected(reading)
        except OSError as error:
            raise SettingsError(f"audit log {path} cannot be opened: {error.strerror}") from error
        except sqlite3.Error as error:
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

    def by_prefix(self, prefix: str) -> list[Entry]:
        """Return up to two entries whose content id begins so: ours, or the one that the answer came with."""
        rows = self._db.execute(
            f"{_READ} WHERE content_id >= ?1 AND content_id < ?2 OR adopted >= ?1 AND adopted < ?2 LIMIT 2",
            (prefix, prefix + "\U0010ffff"),
        )
        return [_entry(row) for row in rows]

    def by_upstream_id(self, upstream_id: str) -> Entry | None:
        """Return the newest entry of an answer that the upstream calls so.

        It belongs to the first client that got it: some servers let a request choose the number of its answer.
        """
        first = "SELECT client FROM entries WHERE upstream_id = ?1 ORDER BY number LIMIT 1"
        row = self._db.execute(
            f"{_READ} WHERE upstream_id = ?1 AND client IS ({first}) ORDER BY number DESC LIMIT 1",
            (_bounded(upstream_id),),
        ).fetchone()
        return _entry(row) if row else None

    def counts(self, since: float | None = None) -> list[Count]:
        """Count closed entries: all there ever were, or those opened since, as far as they are still kept."""
        if since is None:
            rows = self._db.execute("SELECT * FROM counts WHERE number > 0 ORDER BY 1, 2, 3, 4")
        else:
            rows = self._db.execute(
                "SELECT surface, disposition, reason, result, COUNT(*) FROM entries "
                "WHERE disposition IS NOT NULL AND opened >= ? GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4",
                (since,),
            )
        return rows.fetchall()

    def list(self, limit: int = 50, result: str | None = None, since: float | None = None) -> list[Entry]:
        """Return the newest entries first; `since` in seconds since 1970."""
        where = "WHERE (?1 IS NULL OR result = ?1) AND (?2 IS NULL OR opened >= ?2)"
        rows = self._db.execute(f"{_READ} {where} ORDER BY number DESC LIMIT ?3", (result, since, limit))
        return [_entry(row) for row in rows]

    def secret(self) -> bytes:
        """Return the 32 random bytes of this installation, made once and kept with the log."""
        ask = "SELECT value FROM secrets WHERE name = 'installation'"
        while (found := self._db.execute(ask).fetchone()) is None:
            # One statement at a time is enough: whoever comes second keeps the first one's.
            self._db.execute("INSERT OR IGNORE INTO secrets VALUES ('installation', ?)", (secrets.token_bytes(32),))
        return bytes(found[0])

    def issue(self, texts: Collection[str]) -> None:
        """Remember label texts that answers may carry from now on, so that history cleaning knows them for ever."""
        now = time.time()
        self._db.executemany("INSERT OR IGNORE INTO issued_labels VALUES (?, ?)", [(t, now) for t in texts])

    def issued(self) -> frozenset[str]:
        return frozenset(text for (text,) in self._db.execute("SELECT text FROM issued_labels"))

    def close(self) -> None:
        self._db.close()

    def _connected(self, reading: bool) -> sqlite3.Connection:
        if reading:
            return self._readable()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._path.exists():  # who asked for what is the operator's to know; SQLite's other files follow
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self._path, timeout=10, isolation_level=None)
        self._is_new(db)  # raises for what it must not write to
        self._bring_up_to_date(db)
        return db

    def _readable(self) -> sqlite3.Connection:
        """Open a log that is there; no file is changed, and none stays that was not there."""
        if not self._path.stat().st_size:
            raise SettingsError(f"audit log {self._path} is empty: no proxy has written to it yet")
        db = sqlite3.connect(f"{self._path.as_uri()}?{self._way_to_read()}", uri=True, isolation_level=None)
        try:
            db.execute("PRAGMA query_only = ON")
            if self._is_new(db):
                db.close()
                raise SettingsError(
                    f"audit log {self._path} holds nothing; a copy of a running server's log lacks what stands in its "
                    '-wal file: make it with sqlite3 LOG ".backup COPY"'
                )
            done = self._schema(db)
        except sqlite3.OperationalError as error:
            db.close()
            raise SettingsError(
                f"audit log {self._path} cannot be read here: {error}; copy it, with the -wal file beside it if "
                "there is one, into a folder that you may write, and read the copy"
            ) from error
        return db if done == len(MIGRATIONS) else self._copied(db)

    def _is_new(self, db: sqlite3.Connection) -> bool:
        """Say whether a database holds nothing. Raises SettingsError for one that holds something else than a log."""
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "migrations" not in tables:
            db.close()
            raise SettingsError(f"audit log {self._path} is a database of something else; name the log")
        return not tables

    def _way_to_read(self) -> str:
        """Choose how SQLite opens a log that it shall leave as it is."""
        if Path(f"{self._path}-wal").exists():
            return "mode=ro"  # a proxy writes, or broke off: SQLite reads both files, and `ro` does not merge them
        if os.access(self._path, os.W_OK) and os.access(self._path.parent, os.W_OK):
            # SQLite makes an empty journal and takes it away again when it closes; after `ro` that would stay.
            return "mode=rw"
        # Where no journal can be made nothing else works. `immutable` takes no locks: should a proxy start just now and
        # merge its journal while we read, what we read may be torn, or of different moments. Reading again mends it.
        return "mode=ro&immutable=1"

    def _copied(self, old: sqlite3.Connection) -> sqlite3.Connection:
        """Bring a copy up to date, not the log of an older version: its proxy may be writing to it."""
        db = sqlite3.connect("", isolation_level=None)  # a temporary file of SQLite's own, gone when closed
        old.backup(db)
        old.close()
        self._bring_up_to_date(db)
        db.execute("PRAGMA query_only = ON")
        return db

    def _bring_up_to_date(self, db: sqlite3.Connection) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("BEGIN IMMEDIATE")  # several workers may start at once
        db.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, applied REAL NOT NULL)")
        done = self._schema(db)
        for number, migrate in enumerate(MIGRATIONS[done:], done + 1):
            migrate(db)
            db.execute("INSERT INTO migrations VALUES (?, ?)", (number, time.time()))
        db.execute("COMMIT")

    def _schema(self, db: sqlite3.Connection) -> int:
        (done,) = db.execute("SELECT COUNT(*) FROM migrations").fetchone()
        if done > len(MIGRATIONS):
            db.close()
            raise SettingsError(f"audit log {self._path} was written by a newer llm-label (schema {done})")
        return int(done)


def _row(entry: Entry) -> tuple[object, ...]:
    """Return the columns of an entry. Strangers' texts are bounded, and without halves of surrogate pairs."""
    for name in FOREIGN:
        text = getattr(entry, name)
        if text is not None and (len(text) > MAX_TEXT or not text.isascii()):
            setattr(entry, name, _bounded(text))
    values: tuple[object, ...] = _values(entry)
    return *values, *(disposition(entry) or (None, None))


def _bounded(text: str) -> str:
    return text[:MAX_TEXT].encode("utf-8", "replace").decode()


def _entry(row: tuple[object, ...]) -> Entry:
    values = dict(zip(COLUMNS, row, strict=True))
    values["stream"] = bool(values["stream"])
    return Entry(**values)  # type: ignore[arg-type]  # the columns are the fields
