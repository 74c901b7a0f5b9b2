"""An error as clients of the Messages API raise it. No I/O here."""

from typing import Any

from llm_label.errors import LabelError

__all__ = ["error_body"]

# https://docs.anthropic.com/en/api/errors
ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body(error: LabelError) -> dict[str, Any]:
    """Return the error object that clients of this API raise on."""
    kind = ERROR_TYPES.get(error.status, "invalid_request_error" if error.status == 501 else "api_error")
    return {"type": "error", "error": {"type": kind, "message": str(error), "code": error.code}}
