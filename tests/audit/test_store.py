"""The audit log keeps what happened, in one file that other processes can read meanwhile."""

import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from llm_label.audit.entry import COLUMNS, Entry
from llm_label.audit.log import DELAY, Log
from llm_label.audit.store import MIGRATIONS, Store
from llm_label.errors import MarkError, SettingsError

ENTRY = Entry("a" * 32, 1.0, "chat", "http://up", "m", True, "Acme", "cn-1", "start end", None)


def test_an_entry_is_opened_closed_and_found(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "audit.sqlite3")
    store.write([ENTRY, replace(ENTRY, content_id="b" * 32, opened=2.0)])
    closed = replace(ENTRY, result="complete", closed=3.0, status=200, label_applied="start")
    store.write([closed])
    assert store.get(ENTRY.content_id) == closed
    assert [e.content_id[0] for e in store.list()] == ["b", "a"]
    assert [e.content_id[0] for e in store.list(result="open")] == ["b"]
    assert store.get("nope") is None


def test_another_process_reads_while_the_proxy_writes(tmp_path: Path) -> None:
    writer = Store(tmp_path / "a.sqlite3")
    reader = Store(tmp_path / "a.sqlite3")
    writer.write([ENTRY])
    assert reader.get(ENTRY.content_id) == ENTRY


def test_label_texts_once_issued_are_remembered(tmp_path: Path) -> None:
    Store(tmp_path / "a.sqlite3").issue(["AI生成", "旧 AI生成"])
    store = Store(tmp_path / "a.sqlite3")
    store.issue(["AI生成"])
    assert store.issued() == {"AI生成", "旧 AI生成"}


def test_a_log_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    Store(tmp_path / "a.sqlite3").close()
    db = sqlite3.connect(tmp_path / "a.sqlite3")
    db.execute("INSERT INTO migrations VALUES (?, 0)", (len(MIGRATIONS) + 1,))
    db.commit()
    db.close()
    with pytest.raises(SettingsError, match="newer llm-label"):
        Store(tmp_path / "a.sqlite3")


def test_a_file_that_is_no_database_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite3").write_text("not a database, " * 100)
    with pytest.raises(SettingsError, match="cannot be opened"):
        Store(tmp_path / "a.sqlite3")


def test_entries_are_on_disk_once_ensured_and_soon_in_any_case(tmp_path: Path) -> None:
    store, reader = Store(tmp_path / "a.sqlite3"), Store(tmp_path / "a.sqlite3")
    log = Log(store, patience=0.2)
    entries = [replace(ENTRY, content_id=f"{i:032}") for i in range(50)]

    async def main() -> None:
        for entry in entries[:-1]:
            log.put(entry)
        assert reader.list() == []
        await log.ensure(entries[0])
        assert len(reader.list()) == 49, "those that waited go along"
        log.put(entries[-1])
        await asyncio.sleep(4 * DELAY)
        assert len(reader.list()) == 50

    asyncio.run(main())


def test_a_log_that_cannot_be_written_fails_closed_and_loses_nothing(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "a.sqlite3"), sqlite3.connect(tmp_path / "a.sqlite3", isolation_level=None)
    store._db.execute("PRAGMA busy_timeout = 10")
    log = Log(store, patience=0.2)

    async def main() -> None:
        other.execute("BEGIN IMMEDIATE")  # another process holds the file
        log.put(ENTRY)
        with pytest.raises(MarkError, match="audit log cannot be written"):
            await log.ensure(ENTRY)
        other.execute("ROLLBACK")
        log.close()

    asyncio.run(main())
    other.close()
    assert Store(tmp_path / "a.sqlite3").get(ENTRY.content_id) == ENTRY


def test_a_write_that_fails_at_its_end_leaves_the_log_usable(tmp_path: Path) -> None:
    """A full disk may show only at COMMIT; an open transaction would then refuse every later write."""
    store, db = Store(tmp_path / "a.sqlite3"), _FullDisk()
    db.inner, store._db = store._db, db  # type: ignore[assignment]
    with pytest.raises(sqlite3.OperationalError, match="full"):
        store.write([ENTRY])
    db.full = False
    store.write([ENTRY])
    assert store.get(ENTRY.content_id) == ENTRY


class _FullDisk:
    inner: sqlite3.Connection
    full = True

    def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.full:
            raise sqlite3.OperationalError("database or disk is full")
        return self.inner.execute(sql, *values)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_texts_of_strangers_are_stored_whatever_they_hold(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite3")
    store.write([replace(ENTRY, model="\ud83d" + "x" * 10_000, note="\0\n")])
    kept = store.get(ENTRY.content_id)
    assert kept is not None and kept.model is not None and kept.model[:2] == "?x" and len(kept.model) == 500


def test_what_could_not_be_written_is_tried_again_without_new_traffic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_label.audit.log.RETRY", 0.05)
    store, other = Store(tmp_path / "a.sqlite3"), sqlite3.connect(tmp_path / "a.sqlite3", isolation_level=None)
    log = Log(store)

    async def main() -> None:
        other.execute("BEGIN IMMEDIATE")
        log.put(ENTRY)
        await asyncio.sleep(4 * DELAY)
        assert log.waiting == 1
        other.execute("ROLLBACK")
        await asyncio.sleep(0.3)
        assert log.waiting == 0

    asyncio.run(main())
    other.close()
    log.close()


def test_an_old_log_keeps_its_entries_and_gets_their_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite3"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("CREATE TABLE migrations (number INTEGER PRIMARY KEY, applied REAL NOT NULL)")
    for number, migrate in enumerate(MIGRATIONS[:2], 1):
        migrate(db)
        db.execute("INSERT INTO migrations VALUES (?, 0)", (number,))
    old = "content_id, opened, surface, upstream, stream, producer, policy, label_planned, result, label_applied, label_skipped, status, choices, labelled, finish_reasons"  # fmt: skip
    for k, what in enumerate(
        [("complete", "start", None, 200), ("complete", "", "tool_call", 200), ("upstream_error", "", "empty", 404),
         ("upstream_malformed", "start", None, 200), ("complete", "", None, 200), ("open", "", None, None)]
    ):  # fmt: skip
        values = (f"{k:032}", 1.0, "chat", "http://up", 1, "Acme", "cn-1", "start", *what, 1, 1, "stop")
        db.execute(f"INSERT INTO entries ({old}) VALUES ({', '.join('?' * len(values))})", values)
    db.close()
    store = Store(path)
    assert store.counts() == [
        ("chat", "failed", "unlabelled", "complete", 1),
        ("chat", "failed", "upstream_malformed", "upstream_malformed", 1),
        ("chat", "labelled", "", "complete", 1),
        ("chat", "skipped", "error", "upstream_error", 1),
        ("chat", "skipped", "tool_call", "complete", 1),
    ]
    assert store.counts() == store.counts(0.0), "and they are what today's rule says"
    for entry in store.list():
        store.write([entry])
    assert store.counts() == store.counts(0.0)
    kept = store.get(f"{0:032}")
    assert kept is not None and (kept.client, kept.traffic, kept.guard) == (None, "human", "")


def test_counts_are_of_closed_entries_and_of_each_once(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "a.sqlite3"), Store(tmp_path / "a.sqlite3")
    one.write([ENTRY, replace(ENTRY, content_id="b" * 32)])
    assert one.counts() == []
    done = replace(ENTRY, result="complete", status=200, label_applied="start")
    one.write([done])
    one.write([done])
    two.write([replace(ENTRY, content_id="c" * 32, result="complete", status=200, label_skipped="empty")])
    assert (
        one.counts()
        == two.counts()
        == [
            ("chat", "labelled", "", "complete", 1),
            ("chat", "skipped", "empty", "complete", 1),
        ]
    )
    one.write([replace(done, result="upstream_malformed")])
    assert [count[1:] for count in two.counts()] == [
        ("failed", "upstream_malformed", "upstream_malformed", 1),
        ("skipped", "empty", "complete", 1),
    ]
    assert two.counts(2.0) == []


def test_a_write_that_fails_counts_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite3")
    good = replace(ENTRY, result="complete", status=200, label_applied="start")
    with pytest.raises(sqlite3.Error):
        store.write([good, replace(good, content_id="b" * 32, surface=None)])  # type: ignore[arg-type]
    assert store.counts() == [] and store.list() == []


def test_an_answer_is_found_by_the_upstreams_number_and_by_its_beginning(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite3")
    store.write([replace(ENTRY, upstream_id="resp_1"), replace(ENTRY, content_id="ab" * 16, upstream_id="resp_1")])
    found = store.by_upstream_id("resp_1")
    assert found is not None and found.content_id == "ab" * 16, "the newest"
    assert store.by_upstream_id("resp_2") is None
    plan = store._db.execute("EXPLAIN QUERY PLAN SELECT * FROM entries WHERE upstream_id = 'x'").fetchone()
    assert "entries_by_upstream" in str(plan)
    assert [e.content_id for e in store.by_prefix("aba")] == ["ab" * 16]
    assert len(store.by_prefix("a")) == 2 and store.by_prefix("c") == []


def test_an_adopted_content_id_finds_the_entry_too(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite3")
    entry = replace(ENTRY, adopted="c" * 32)
    store.write([entry])
    assert store.by_prefix("cccc") == store.by_prefix("aaaa") == [entry]


def test_the_installation_has_one_secret(tmp_path: Path) -> None:
    one, two = Store(tmp_path / "a.sqlite3"), Store(tmp_path / "a.sqlite3")
    assert one.secret() == two.secret() == one.secret() and len(one.secret()) == 32
    assert Store(tmp_path / "b.sqlite3").secret() != one.secret()


def test_the_log_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite3")
    store.write([ENTRY])
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("running", [True, False])
def test_who_may_only_read_reads_and_changes_nothing(tmp_path: Path, running: bool) -> None:
    writer = Store(tmp_path / "a b?.sqlite3")
    writer.write([ENTRY])
    if not running:
        writer.close()
    before = files(tmp_path)
    reader = Store(tmp_path / "a b?.sqlite3", reading=True)
    assert reader.get(ENTRY.content_id) == ENTRY and reader.list() == [ENTRY]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.write([ENTRY])
    reader.close()
    after = files(tmp_path)
    if running:
        assert after.pop("a b?.sqlite3-shm") and before.pop("a b?.sqlite3-shm")  # it holds readers' marks
    assert after == before


@pytest.mark.parametrize("shut", [False, True], ids=["writable", "in a folder without a journal"])
def test_a_log_of_an_older_version_is_read_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shut: bool
) -> None:
    path = tmp_path / "a.sqlite3"
    with monkeypatch.context() as patched:
        patched.setattr("llm_label.audit.store.MIGRATIONS", MIGRATIONS[:4])
        old = Store(path)
        columns = ", ".join(name for name in COLUMNS if name != "adopted")
        values = [value for name, value in ENTRY.to_dict().items() if name != "adopted"]
        old._db.execute(f"INSERT INTO entries ({columns}) VALUES ({', '.join('?' * len(values))})", values)
        old.close()
    if shut:
        monkeypatch.setattr("llm_label.audit.store.os.access", lambda path, mode: False)
    before = files(tmp_path)
    reader = Store(path, reading=True)
    assert reader.list() == [ENTRY] and reader.counts() == [] and reader.by_prefix("aaaa") == [ENTRY]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.write([ENTRY])
    reader.close()
    assert files(tmp_path) == before


def test_what_is_no_log_is_one_clear_line_for_who_reads_and_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not a database, " * 100)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE logs (line TEXT)")
    other.close()
    before = files(tmp_path)
    for name, told in (
        ("empty", "empty is empty: no proxy has written to it yet"),
        ("text", "cannot be opened: file is not a database"),
        ("other", "a database of something else"),
        ("none", "cannot be opened: No such file"),
    ):
        with pytest.raises(SettingsError, match=told):
            Store(tmp_path / name, reading=True)
    assert files(tmp_path) == before


def test_a_proxy_writes_into_no_database_of_something_else(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE customers (name TEXT)")
    other.close()
    before = files(tmp_path)
    with pytest.raises(SettingsError, match="a database of something else; name the log"):
        Store(tmp_path / "other")
    assert files(tmp_path) == before


def test_a_copy_of_a_log_without_what_stands_in_its_journal_is_named(tmp_path: Path) -> None:
    log = Store(tmp_path / "a.sqlite3")
    log.write([ENTRY])
    (tmp_path / "copy").write_bytes((tmp_path / "a.sqlite3").read_bytes())
    log.close()
    with pytest.raises(SettingsError, match=r"lacks what stands in its -wal file"):
        Store(tmp_path / "copy", reading=True)


def test_what_a_proxy_left_when_it_was_killed_is_read_and_stays_as_it_is(tmp_path: Path) -> None:
    """A reader that may write would merge the journal into the log when it closes."""
    writer = Store(tmp_path / "there.sqlite3")
    writer.write([ENTRY])
    (tmp_path / "killed").mkdir()
    for end in ("", "-wal", "-shm"):
        (tmp_path / "killed" / f"a.sqlite3{end}").write_bytes((tmp_path / f"there.sqlite3{end}").read_bytes())
    before = files(tmp_path / "killed")
    reader = Store(tmp_path / "killed" / "a.sqlite3", reading=True)
    assert reader.list() == [ENTRY]
    reader.close()
    after = files(tmp_path / "killed")
    assert after.keys() == before.keys()
    assert all(after[name] == before[name] for name in ("a.sqlite3", "a.sqlite3-wal"))  # -shm holds readers' marks


def test_who_reads_while_a_proxy_starts_and_stops_sees_whole_states(tmp_path: Path) -> None:
    """What is read as `immutable` would be torn here, or stale."""
    path = tmp_path / "a.sqlite3"
    Store(path).close()
    reader = Store(path, reading=True)
    writer = Store(path)
    writer.write([replace(ENTRY, content_id=f"{n:032}") for n in range(2000)])
    writer._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert len(reader.list(-1)) == 2000
    writer.close()
    reader.close()
    assert [file.name for file in tmp_path.iterdir()] == ["a.sqlite3"]


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return what a folder holds: names, contents, moments of change."""
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


def test_a_link_leads_to_what_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    writer = Store(tmp_path / "there" / "a.sqlite3")
    writer.write([ENTRY])
    (tmp_path / "link.sqlite3").symlink_to(tmp_path / "there" / "a.sqlite3")
    assert Store(tmp_path / "link.sqlite3", reading=True).list() == [ENTRY]
