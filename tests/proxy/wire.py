"""Both ends of the wire by hand: a client and an upstream that write bytes, and one answer of each API as a stream."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.proxy import test_completions as completions
from tests.proxy import test_messages as messages
from tests.proxy.running import Running
from tests.proxy.test_app import MESSAGES, STREAM
from tests.proxy.test_responses import Upstream as Responses

SSE = "Content-Type: text/event-stream"


@dataclass
class Api:
    """One API: where it is asked, how, and the events of one answer ("四月很冷。"), the last of them its end."""

    path: str
    ask: bytes
    events: list[bytes]

    @property
    def first_text(self) -> int:
        """How many events there are up to the first one with text."""
        return next(k for k, event in enumerate(self.events, 1) if "四月" in event.decode() or b"\\u56db" in event)


def _ask(**body: Any) -> bytes:
    return json.dumps({"model": "m", "stream": True, **body}).encode()


def _responses() -> list[bytes]:
    upstream = Responses().message("四月", "很冷。")
    upstream.end()
    return upstream.frames


APIS = {
    "chat": Api("/v1/chat/completions", _ask(messages=MESSAGES), STREAM[:-1]),
    "completions": Api(
        "/v1/completions",
        _ask(prompt="四月"),
        [completions.chunk(completions.choice(t)) for t in ("四月", "很冷。")]
        + [completions.chunk(completions.choice("", "stop"))],
    ),
    "responses": Api("/v1/responses", _ask(input="四月"), _responses()),
    "messages": Api(
        "/v1/messages",
        _ask(messages=MESSAGES, max_tokens=9),
        [messages.BEGIN, messages.start(0, messages.TEXT), messages.delta(0, "四月"), messages.delta(0, "很冷。"),
         messages.stop(0), messages.ending()],
    ),
}  # fmt: skip


class Client:
    """A connection to the proxy."""

    def __init__(self, url: str, *, buffer: int | None = None) -> None:
        host, port = url.removeprefix("http://").split(":")
        self.sock = socket.socket()
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(20)
        self.sock.connect((host, int(port)))
        self.got = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def post(self, body: bytes, *headers: str, path: str = "/v1/chat/completions", method: str = "POST") -> "Client":
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
        self.sock.sendall("\r\n".join(lines).encode("latin-1") + body)
        return self

    def until(self, *wanted: bytes) -> bytes:
        """Read until all of `wanted` has come; return everything so far."""
        while not all(part in self.got for part in wanted):
            chunk = self.sock.recv(65536)
            assert chunk, f"the proxy closed before {wanted} came: {self.got[-2000:]!r}"
            self.got += chunk
        return self.got

    def events(self, count: int) -> bytes:
        """Read until so many events have come."""
        while dechunked(self.got).count(b"\n\n") < count:
            chunk = self.sock.recv(65536)
            assert chunk, f"the proxy closed before {count} events came: {self.got[-2000:]!r}"
            self.got += chunk
        return dechunked(self.got)

    def rest(self) -> bytes:
        """Read until the proxy closes."""
        with contextlib.suppress(ConnectionResetError):
            while chunk := self.sock.recv(65536):
                self.got += chunk
        return self.got

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()


Script = Callable[[socket.socket, bytes], None]


@contextlib.contextmanager
def upstream(*scripts: Script) -> Iterator[tuple[str, list[bytes]]]:
    """Serve each connection with the next script (the last again and again); yield the address and what was asked.

    A script gets the socket and the request that it has read; its connection is closed behind it.
    """
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for number in range(10_000):
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(sock, number), daemon=True).start()

        def one(sock: socket.socket, number: int) -> None:
            with sock, contextlib.suppress(OSError):
                sock.settimeout(20)
                request = read_request(sock)
                asked.append(request)
                scripts[min(number, len(scripts) - 1)](sock, request)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)  # or accept() would wait for ever


def read_request(sock: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        got += _some(sock)
    head, _, body = got.partition(b"\r\n\r\n")
    length = next((int(v) for k, v in headers_of(got) if k == "content-length"), 0)
    while len(body) < length:
        body += _some(sock)
    return head + b"\r\n\r\n" + body


def _some(sock: socket.socket) -> bytes:
    chunk = sock.recv(65536)
    if not chunk:
        raise ConnectionResetError
    return chunk


def headers_of(message: bytes) -> list[tuple[str, str]]:
    lines = message.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]


def values(message: bytes, name: str) -> list[str]:
    return [value for key, value in headers_of(message) if key == name]


def head(*lines: str, version: str = "1.1", status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status}", *lines, "", ""]).encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST = b"0\r\n\r\n"


def dechunked(answer: bytes) -> bytes:
    """Return the body of a chunked answer, as far as it has come."""
    rest, out = answer.partition(b"\r\n\r\n")[2], b""
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        out, rest = out + rest[:length], rest[length + 2 :]
    return out


def until(condition: Callable[[], Any], seconds: float = 10) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def open_connections(up: Running) -> int:
    """Count the connections to the upstream that are in use."""
    session = up.parts.upstream._session  # type: ignore[attr-defined]
    return len(session.connector._acquired) if session else 0


def idle_connections(up: Running) -> int:
    """Count the connections to the upstream that wait for the next request."""
    session = up.parts.upstream._session  # type: ignore[attr-defined]
    return sum(len(conns) for conns in session.connector._conns.values()) if session else 0
