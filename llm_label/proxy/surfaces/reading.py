"""Read what an upstream sent, and write an error as clients of the OpenAI APIs raise it. No I/O here."""

from typing import Any

from llm_label.errors import LabelError, UpstreamError
from llm_label.proxy.jsonspan import loads

__all__ = ["FIELD", "error_body", "malformed", "read"]

FIELD = "llm_label"  # our object in answers


def read(raw: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises UpstreamError for anything else."""
    try:
        body = loads(raw)
    except (ValueError, RecursionError) as error:
        raise malformed("something that is not JSON") from error
    if not isinstance(body, dict):
        raise malformed("JSON that is not an object")
    return body


def malformed(what: str) -> UpstreamError:
    return UpstreamError(f"the upstream sent {what}", code="upstream_malformed")


def error_body(error: LabelError) -> dict[str, Any]:
    """Return the OpenAI-style error object, which every SDK can raise on."""
    return {"error": {"message": str(error), "type": error.kind, "param": None, "code": error.code}}
