"""Start, run and stop the proxy: build it from settings, bind, serve, drain at SIGTERM."""

import asyncio
import contextlib
import gc
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from errno import EACCES, EADDRINUSE
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError

from llm_label.audit.log import Log
from llm_label.audit.store import Store
from llm_label.errors import KeyringError, SettingsError
from llm_label.keyfile import digest_of, load_keyring
from llm_label.policy import Policy
from llm_label.proxy.app import Proxy
from llm_label.proxy.candidates import Choosing, choosing
from llm_label.proxy.metrics import Board, Row
from llm_label.proxy.upstream import Upstream, connect
from llm_label.settings import Settings, default_audit, read_private
from llm_label.verify.detector import Detector
from llm_label.watermark.keyring import Key, Keyring

__all__ = ["Parts", "build", "http", "serve"]

GRACE = 2.0  # seconds for broken-off streams to take their error frame
logger = logging.getLogger(__name__)


@dataclass
class Parts:
    """Everything a worker needs."""

    proxy: Proxy
    policy: Policy
    upstream: Upstream
    log: Log


def build(settings: Settings, row: Row | None = None) -> Parts:
    """Check the settings as a whole and build a worker. Raises LabelError with one line."""
    row = row or Board().row()
    ring = load_keyring(settings)
    key = marking_key(settings, ring)
    upstream = choosing(connect(settings.upstreams[0]), key)
    check_tokenizer(key, upstream.tokenizer)
    store = Store(settings.audit.path or default_audit())
    policy = Policy.of(
        settings,
        upstream_watermarks=upstream.watermarks,
        marks_greedy=key is not None and key.spec.rules.marks_greedy,
        surfaces=upstream.surfaces if isinstance(upstream, Choosing) else None,
        issued=store.issued(),
    )
    store.issue(policy.texts.values())
    token = admin_token(settings)
    log = Log(store, noted=row.waiting)
    detector = Detector(ring, policy.known)
    return Parts(Proxy(settings, policy, upstream, log, key, detector, token, row), policy, upstream, log)


def marking_key(settings: Settings, ring: Keyring) -> Key | None:
    """Return the key to mark with, and the payload it is to carry. Raises KeyringError, SettingsError."""
    name, payload = settings.watermark.key, settings.watermark.payload
    if name is None:
        if payload is not None:
            raise SettingsError("watermark.payload is set but watermark.key names no key")
        return None
    key = ring.get(name)
    if key.origin == "derived":
        raise KeyringError(
            f"watermark.key {name!r} is an auditor's copy, which detects and does not mark; use the ring that holds "
            "its root, or make a key with: llm-label keys new ID --tokenizer PATH"
        )
    try:
        return key if payload is None else key.carrying(payload)
    except KeyringError as error:
        raise SettingsError(f"watermark.payload: {error}") from error


def admin_token(settings: Settings) -> str | None:
    """Read the token that opens exact figures, if there is one. Raises KeyringError."""
    file = settings.server.admin_token_file
    token = read_private(file, "admin token file").strip() if file else None
    if token == "":  # whoever sends no token would have the right one
        raise KeyringError(f"admin token file {file} is empty")
    return token


def check_tokenizer(key: Key | None, tokenizer: Path | None) -> None:
    """Refuse a key made for another tokenizer than the upstream's: its mark could never be read again."""
    if key is None or tokenizer is None or key.spec.tokenizer is None:
        return
    digest = digest_of(tokenizer)
    if digest != key.spec.tokenizer:
        raise KeyringError(
            f"key {key.id!r} is for tokenizer {key.spec.tokenizer[:19]}…, but the upstream's {tokenizer} is "
            f"{digest[:19]}…; make a key with: llm-label keys new ID --tokenizer {tokenizer}"
        )


def serve(settings: Settings, announce: Callable[[str, Policy], None]) -> int:
    """Run until SIGTERM or SIGINT; `announce` gets the address and the policy once it is bound. Return the status."""
    server = settings.server
    if server.workers == 1:
        return asyncio.run(_work(settings, partial(_bind, settings), announce, Board().row()))
    if not hasattr(os, "fork"):
        raise SettingsError("server.workers above 1 needs an operating system with fork")
    parts = build(settings)  # a mistake shows here once, not in every worker
    parts.log.close()
    sock = _bind(settings)
    announce(_address(server.host, sock), parts.policy)
    return _supervise(settings, sock)


def _bind(settings: Settings) -> socket.socket:
    host, port = settings.server.host, settings.server.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while")[0]  # behind it the address, once more
        other = "; choose another with --port (0: a free one)" if error.errno in (EADDRINUSE, EACCES) else ""
        raise SettingsError(f"cannot listen on {host}:{port}: {reason}{other}") from error


def _address(host: str, sock: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"


async def _work(
    settings: Settings, listen: Callable[[], socket.socket], ready: Callable[[str, Policy], None], row: Row
) -> int:
    parts = build(settings, row)  # before the port is taken: who has both wrong learns what he must set first
    try:
        sock = listen()
    except SettingsError:
        parts.log.close()
        raise
    parts.upstream.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    logging.getLogger("aiohttp.server").addFilter(_one_line)
    runner = web.ServerRunner(http(parts.proxy, settings.server.max_body), shutdown_timeout=GRACE)
    await runner.setup()
    site = web.SockSite(runner, sock)
    await site.start()
    gc.collect()
    gc.freeze()  # what is loaded now stays; looking through it again and again costs a fifth of a request
    ready(_address(settings.server.host, sock), parts.policy)
    await stop.wait()
    await _drain(parts, site, settings.server.drain)
    await runner.cleanup()
    await parts.upstream.close()
    parts.log.close()
    return 0


def _one_line(record: logging.LogRecord) -> bool:
    """Keep a stranger's bad HTTP to one line; aiohttp would log a traceback for each."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        # Behind its own words it quotes the stranger's line, or is nothing but that: a key may stand there.
        words = "" if isinstance(error, InvalidURLError) else re.split(r"\bb['\"]", str(error))[0]
        said = f"{type(error).__name__} {words}"
        record.msg, record.args = "bad HTTP: %s", (" ".join(said.split())[:200],)
        record.exc_info = record.exc_text = None
    return True


def http(proxy: Proxy, max_body: int) -> web.Server:
    """Return what speaks HTTP for the proxy."""
    return web.Server(
        proxy.handle,
        request_factory=request_factory(max_body),
        handler_cancellation=True,  # a client that leaves cancels its handler, so that the upstream stops generating
        auto_decompress=False,  # `body.py` does it, up to the limit
        access_log=None,
    )


def request_factory(max_body: int) -> Callable[..., web.BaseRequest]:
    """Make requests that read at most `max_body` bytes; aiohttp's own limit is 1 MiB."""

    def make(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=max_body)

    return make


async def _drain(parts: Parts, site: web.SockSite, seconds: float) -> None:
    """Stop accepting, let open answers finish for a while, then break them off."""
    parts.proxy.drain()
    await site.stop()
    for patience, act in ((seconds, parts.proxy.stop), (GRACE, lambda: None)):
        end = time.monotonic() + patience
        while parts.proxy.open and time.monotonic() < end:
            await asyncio.sleep(0.05)
        act()


def _supervise(settings: Settings, sock: socket.socket) -> int:
    """Keep the workers running; forward SIGTERM; stop when they have stopped."""
    board = Board(settings.server.workers)
    workers: dict[int, tuple[int, float]] = {}  # pid -> (its row of the board, when it began)
    status, stopping = 0, False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                os.kill(pid, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for number in range(board.workers):
        workers[_fork(settings, sock, board.row(number))] = number, time.monotonic()
    if stopping:
        stop()  # the signal came between two forks
    while workers:
        pid, wait_status = os.wait()
        number, born = workers.pop(pid)
        if stopping:
            continue
        logger.error("worker %d ended with status %d", pid, os.waitstatus_to_exitcode(wait_status))
        if time.monotonic() - born < 5:  # it cannot even start: say so instead of forking for ever
            status = 1
            stop()
        else:
            workers[_fork(settings, sock, board.row(number))] = number, time.monotonic()
    return status


def _fork(settings: Settings, sock: socket.socket, row: Row) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        status = asyncio.run(_work(settings, lambda: sock, lambda address, policy: None, row))
    except (SettingsError, KeyringError) as error:
        print(f"llm-label: {error}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
