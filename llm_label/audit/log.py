"""The audit log of a running proxy: entries are written in groups, each before the first byte of its answer."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace

from llm_label.audit.entry import Entry
from llm_label.audit.store import Count, Store
from llm_label.errors import MarkError

__all__ = ["DELAY", "PATIENCE", "Log"]

DELAY = 0.05  # seconds that an entry may wait for company
PATIENCE = 5.0  # seconds that an answer waits for a file that another process holds
RETRY = 1.0  # seconds after which entries that could not be written are tried again
BLOCKING = 0.02  # seconds that one attempt may block the event loop
logger = logging.getLogger(__name__)


class Log:
    """Take entries as they open and close; nothing is dropped, what could not be written is tried again."""

    def __init__(
        self, store: Store, patience: float = PATIENCE, noted: Callable[[int], None] = lambda waiting: None
    ) -> None:
        self._store = store
        self._noted = noted  # hears how many entries wait, whenever that changes
        self._patience = patience
        self._waiting: dict[str, Entry] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._group: list[asyncio.Future[Exception | None]] = []  # who waits for the next transaction
        self._failing = False
        store.wait_for_others(BLOCKING)

    @property
    def waiting(self) -> int:
        """Count the entries that are not on disk yet."""
        return len(self._waiting)

    def counts(self) -> list[Count]:
        """Count what is closed, by any worker on this log, with what waits here if it can be written now."""
        with contextlib.suppress(sqlite3.Error):  # another process holds the file; the timer tries again
            self._write()
        return self._store.counts()

    def get(self, content_id: str) -> Entry | None:
        """Return an entry as it is now."""
        waiting = self._waiting.get(content_id)
        return replace(waiting) if waiting else self._store.get(content_id)

    async def find(self, upstream_id: str) -> Entry | None:
        """Return the newest entry of an answer that the upstream calls so, by any worker on this log."""
        found = self._find(upstream_id)
        if found is None:
            await asyncio.sleep(1.5 * DELAY)  # another worker may have it, and write it in a moment
            found = self._find(upstream_id)
        return found

    def _find(self, upstream_id: str) -> Entry | None:
        found = self._store.by_upstream_id(upstream_id)
        for entry in self._waiting.values():
            if entry.upstream_id == upstream_id and (found is None or found.client == entry.client):
                found = entry
        return replace(found) if found else None

    def secret(self) -> bytes:
        """Return the 32 random bytes of this installation."""
        return self._store.secret()

    def put(self, entry: Entry, *, soon: bool = False) -> None:
        """Write the entry within DELAY, together with others; `soon`: in the next turn of the loop."""
        self._waiting[entry.content_id] = entry
        self._noted(len(self._waiting))
        self._write_after(DELAY)
        if soon:
            asyncio.get_running_loop().call_soon(self._write_group)

    async def ensure(self, entry: Entry) -> None:
        """Have the entry on disk before going on. Raises MarkError when it cannot be written: fail closed."""
        loop, deadline = asyncio.get_running_loop(), time.monotonic() + self._patience
        while entry.content_id in self._waiting:
            written: asyncio.Future[Exception | None] = loop.create_future()
            if not self._group:  # whoever comes in the same turn of the event loop shares the transaction
                loop.call_soon(self._write_group)
            self._group.append(written)
            if error := await written:
                if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise MarkError(f"the audit log cannot be written: {error}") from error
                await asyncio.sleep(DELAY)

    def close(self) -> None:
        """Write what waits, then close the file."""
        if self._timer is not None:
            self._timer.cancel()
        self._store.wait_for_others(self._patience)
        try:
            self._write()
        except sqlite3.Error as error:
            logger.error("the audit log cannot be written: %s; %d entries are lost", error, self.waiting)
        self._store.close()

    def _write_after(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._write_later)

    def _write_later(self) -> None:
        self._timer = None
        try:
            self._write()
        except sqlite3.Error as error:
            if not self._failing:
                logger.error("the audit log cannot be written: %s; %d entries wait", error, self.waiting)
            self._failing = True
            self._write_after(RETRY)

    def _write_group(self) -> None:
        group, self._group = self._group, []
        failed: Exception | None = None
        try:
            self._write()
        except Exception as error:  # whatever it is: nobody may wait for ever
            failed = error
        for written in group:
            if not written.done():  # its client may have left
                written.set_result(failed)

    def _write(self) -> None:
        if self._waiting:
            self._store.write(self._waiting.values())
            self._waiting.clear()
            self._noted(0)
            self._failing = False
