"""CPU of the proxy per request and per paced chunk, against a bare passthrough and LiteLLM's proxy.

    python benchmarks/proxy.py [--seconds 4] [--litellm PATH_OF_A_PYTHON_THAT_HAS_LITELLM] [--json]

The proxies stand on one core and are asked in turns; the mock upstream and the load generator share the other. CPU is
user plus system time of the proxy's process tree divided by what it served. Sixteen connections each ask again as soon
as an answer is there; their streams begin at times of their own within a chunk's pace, as those of real clients do.
`llm-label` runs with a start label, the record in headers and body, and the audit log on disk; `bare` is the same
server and the same client with nothing between.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
REPLY = "The quick brown fox jumps over the lazy dog. " * 7  # about 300 characters
CHUNKS, PACE = 200, 0.010  # chunks of a stream, seconds between them


# A bench on loopback needs no key, and no network for prices.
LITELLM = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}


def completion() -> bytes:
    message = {"role": "assistant", "content": REPLY}
    return json.dumps(
        {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 9, "completion_tokens": 60, "total_tokens": 69},
        }
    ).encode()  # fmt: skip


def frames() -> list[bytes]:
    def frame(delta: dict[str, str], finish: str | None = None) -> bytes:
        body = {
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        }  # fmt: skip
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    words = [frame({"content": f"word{i} "}) for i in range(CHUNKS - 2)]
    return [frame({"role": "assistant", "content": ""}), *words, frame({}, "stop") + b"data: [DONE]\n\n"]


class Mock(asyncio.Protocol):
    """An upstream that costs next to nothing: canned bytes, whole or paced."""

    body = completion()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    stream_head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    stream = [b"%x\r\n%b\r\n" % (len(f), f) for f in frames()]

    def connection_made(self, transport: Any) -> None:
        self.transport, self.buffer = transport, b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            (int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length")), 0
        )
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        if b'"stream": true' in rest or b'"stream":true' in rest:
            self.transport.write(self.stream_head)
            self._next(0, asyncio.get_running_loop().time())
        else:
            self.transport.write(self.head + self.body)

    def _next(self, at: int, start: float) -> None:
        if at == len(self.stream):
            self.transport.write(b"0\r\n\r\n")
            return
        self.transport.write(self.stream[at])
        asyncio.get_running_loop().call_at(start + (at + 1) * PACE, self._next, at + 1, start)


async def mock(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Mock, "127.0.0.1", port)
    await server.serve_forever()


async def bare(port: int, upstream: str) -> None:
    """Relay bytes with the proxy's own server and client, and nothing else."""
    import aiohttp
    from aiohttp import web

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None))
    hop = {"host", "content-length", "transfer-encoding", "connection", "accept-encoding"}

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        headers = [(k, v) for k, v in request.headers.items() if k.lower() not in hop]
        async with session.post(upstream + request.raw_path, data=body, headers=headers) as response:
            kept = [(k, v) for k, v in response.headers.items() if k.lower() not in hop]
            if not response.content_type.startswith("text/event-stream"):
                return web.Response(status=response.status, headers=kept, body=await response.read())
            answer = web.StreamResponse(status=response.status, headers=kept)
            await answer.prepare(request)
            async for chunk in response.content.iter_any():
                await answer.write(chunk)
            await answer.write_eof()
            return answer

    runner = web.ServerRunner(web.Server(handle, access_log=None, handler_cancellation=True))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


def request(stream: bool) -> bytes:
    messages = [{"role": "user", "content": "Tell me about the fox."}]
    body = json.dumps({"model": "m", "messages": messages, "stream": stream}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer sk-bench-0123456789\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ask: bytes) -> None:
    writer.write(ask)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"benchmark: {head[:200]!r} {await reader.read(500)!r}")
    lines = {k.strip().lower(): v for k, _, v in (x.partition(b":") for x in head.split(b"\r\n"))}
    if b"content-length" in lines:
        await reader.readexactly(int(lines[b"content-length"]))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)


async def load(port: int, stream: bool, concurrency: int, seconds: float) -> tuple[int, float]:
    """Return how many answers came, and the median seconds of one."""
    ask, times, end = request(stream), [], time.monotonic() + seconds
    dice = random.Random(concurrency)

    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        while time.monotonic() < end:
            if stream:  # streams in step would share their wake-ups
                await asyncio.sleep(dice.random() * PACE)
            start = time.monotonic()
            await _one(reader, writer, ask)
            times.append(time.monotonic() - start)
        writer.close()

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return len(times), sorted(times)[len(times) // 2]


def cpu(pid: int) -> float:
    """Return user and system seconds of a process and its children."""
    total = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            fields = path.read_text().rpartition(")")[2].split()
            number = int(path.parent.name)
            if number == pid or int(fields[1]) == pid:
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"benchmark: {process.args} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit("benchmark: a server did not start")


@contextlib.contextmanager
def running(core: int, port: int, *command: str, **environ: str) -> Iterator[int]:
    process = subprocess.Popen(
        ["taskset", "-c", str(core), *command], env={**os.environ, **environ}, stdout=subprocess.DEVNULL
    )
    try:
        wait_for(port, process)
        time.sleep(1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


def proxies(upstream: str, folder: Path, litellm: str | None) -> dict[str, tuple[list[str], dict[str, str], int]]:
    """Name the proxies: command, environment, port."""
    python, found = sys.executable, {}
    port = free_port()
    found["bare passthrough"] = ([python, str(HERE), "--bare", f"{port},{upstream}"], {}, port)
    port = free_port()
    serve = [str(Path(python).parent / "llm-label"), "serve", "--upstream", upstream, "--port", str(port)]
    environ = {"LLM_LABEL_PROVIDER_NAME": "Bench", "LLM_LABEL_AUDIT_PATH": str(folder / "audit.sqlite3")}
    found["llm-label, all marks"] = (serve, environ, port)
    if litellm:
        port = free_port()
        config = folder / "litellm.yaml"
        entry = {
            "model_name": "m",
            "litellm_params": {"model": "openai/m", "api_base": upstream + "/v1", "api_key": "x"},
        }
        config.write_text(json.dumps({"model_list": [entry]}))
        command = [str(Path(litellm).parent / "litellm"), "--config", str(config), "--port", str(port)]
        found["LiteLLM"] = (command, LITELLM, port)
    return found


def measure(seconds: float, litellm: str | None, rounds: int) -> list[dict[str, Any]]:
    port = free_port()
    os.sched_setaffinity(0, {1 % (os.cpu_count() or 1)})
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        stack.enter_context(running(1, port, sys.executable, str(HERE), "--mock", str(port)))
        found = proxies(f"http://127.0.0.1:{port}", Path(scratch), litellm)
        ports, pids, rows = {}, {}, {name: dict[str, list[float]]() for name in found}
        for name, (command, environ, ports[name]) in found.items():
            pids[name] = stack.enter_context(running(0, ports[name], *command, **environ))
            asyncio.run(load(ports[name], False, 16, 1.0))  # warm
        for _ in range(rounds):
            for name, row in rows.items():
                for figure, took in _measure_one(pids[name], ports[name], seconds).items():
                    row.setdefault(figure, []).append(took)
    medians = [{"proxy": name, **{f: statistics.median(took) for f, took in row.items()}} for name, row in rows.items()]
    for row in medians:
        for figure in ("us_per_request", "us_per_chunk"):
            row[f"{figure}_ratio"] = row[figure] / medians[0][figure]
    return medians


def _measure_one(pid: int, port: int, seconds: float) -> dict[str, float]:
    before = cpu(pid)
    count, median = asyncio.run(load(port, False, 16, seconds))
    between = cpu(pid)
    streams, _ = asyncio.run(load(port, True, 16, seconds))
    return {
        "requests_per_s": count / seconds,
        "p50_ms": median * 1e3,
        "us_per_request": (between - before) / count * 1e6,
        "us_per_chunk": (cpu(pid) - between) / (streams * CHUNKS) * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--litellm", help="python of an environment with litellm[proxy]")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--mock", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.mock:
        asyncio.run(mock(given.mock))
    elif given.bare:
        at, upstream = given.bare.split(",")
        asyncio.run(bare(int(at), upstream))
    else:
        show(measure(given.seconds, given.litellm, given.rounds), given.json)


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print("| proxy | requests/s (c=16) | p50 ms | CPU µs/request (×bare) | CPU µs/paced chunk (×bare) |")
    print("| --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['proxy']} | {row['requests_per_s']:,.0f} | {row['p50_ms']:.2f} "
            f"| {row['us_per_request']:,.0f} ({row['us_per_request_ratio']:.2f}) "
            f"| {row['us_per_chunk']:,.1f} ({row['us_per_chunk_ratio']:.2f}) |"
        )


if __name__ == "__main__":
    main()
