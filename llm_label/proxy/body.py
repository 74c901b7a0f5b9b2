"""The body of a request, within its limit."""

from aiohttp import web

from llm_label.errors import ClientError, TooLarge

__all__ = ["body_of"]


async def body_of(request: web.BaseRequest, limit: int) -> bytes:
    """Read the whole body, decompressed. Raises TooLarge; ClientError when it cannot be read."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(f"the body is larger than {limit} bytes (server.max_body)") from None
    except (web.RequestPayloadError, ValueError) as error:
        raise ClientError(f"the body cannot be read: {error}") from None
