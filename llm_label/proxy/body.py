"""Bodies of requests and of answers, each within its limit.

The server leaves requests packed, and they are unpacked here: a few bytes can stand for gigabytes, and nothing behind
the limit may cost anybody anything.
"""

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import brotli  # type: ignore[import-untyped]
from aiohttp import web

from llm_label.errors import ClientError, TooLarge, UnknownEncoding, UpstreamError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["CODINGS", "body_of", "whole_of"]

MEMBERS = 100  # of one body; each costs a copy of what follows it
MAX_WHOLE = 64 * 1024 * 1024  # bytes of an answer that is held to be marked


async def body_of(request: web.BaseRequest, limit: int) -> bytes:
    """Read the whole body, unpacked. Raises UnknownEncoding, TooLarge; ClientError when it cannot be read."""
    coding = ", ".join(request.headers.getall("Content-Encoding", ())).strip().lower()
    if coding not in (*CODINGS, "identity", ""):
        known = ", ".join(CODINGS)
        raise UnknownEncoding(f"the body is in the encoding {coding[:40]!r}; known, one at a time: {known}")
    too_large = TooLarge(f"the body is larger than {limit} bytes (server.max_body)")
    if (request.content_length or 0) > limit:
        raise too_large
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        raw = await request.read()
        body = await asyncio.to_thread(_unpacked, raw, coding, limit) if raw and coding in CODINGS else raw
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    except (web.RequestPayloadError, ValueError) as error:
        raise ClientError(f"the body cannot be read: {' '.join(str(error).split())}") from None
    if len(body) > limit:
        raise too_large
    return body


async def whole_of(chunks: AsyncIterator[bytes]) -> bytes:
    """Collect the body of an answer. Raises UpstreamError when it has no end in sight."""
    parts, size = [], 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > MAX_WHOLE:
            raise UpstreamError(
                f"the upstream sent an answer of more than {MAX_WHOLE} bytes", code="upstream_malformed"
            )
    return b"".join(parts)


def _unpacked(raw: bytes, coding: str, limit: int) -> bytes:
    """Return a body unpacked, a little more than `limit` bytes at most. Raises ValueError."""
    try:
        body, complete = CODINGS[coding](raw, limit + 1)
    except (zlib.error, brotli.error, zstd.ZstdError, EOFError) as error:
        raise ValueError(f"it is not in the encoding {coding}: {error}") from None
    if not complete and len(body) <= limit:
        raise ValueError(f"it ends in the middle of its encoding {coding}")
    return body


def _members(make: Callable[[], Any]) -> "Unpack":
    """Unpack members one behind the other, which stand for their bytes in a row (RFC 1952 2.2, RFC 8878 3.1)."""

    def unpack(raw: bytes, most: int) -> tuple[bytes, bool]:
        body, complete = b"", True
        for _ in range(MEMBERS):
            member = make()
            body += member.decompress(raw, most - len(body))
            raw, complete = member.unused_data, member.eof
            if not raw or not complete or len(body) >= most:
                return body, complete
        raise ValueError(f"it has more than {MEMBERS} members")

    return unpack


def _inflate(raw: bytes, most: int) -> tuple[bytes, bool]:
    """`deflate` is the zlib format (RFC 9110 8.4.1.2); some clients leave out its two bytes of header."""
    stream = zlib.decompressobj(wbits=15 if raw[0] & 0xF == 8 else -15)
    return stream.decompress(raw, most), stream.eof


def _unbrotli(raw: bytes, most: int) -> tuple[bytes, bool]:
    stream = brotli.Decompressor()
    body = stream.process(raw, output_buffer_limit=most)
    return body, stream.is_finished()


Unpack = Callable[[bytes, int], tuple[bytes, bool]]  # bytes, so many at most -> bytes, whether that was all
CODINGS: dict[str, Unpack] = {
    "gzip": _members(lambda: zlib.decompressobj(wbits=31)),
    "deflate": _inflate,
    "br": _unbrotli,
    "zstd": _members(zstd.ZstdDecompressor),
}
