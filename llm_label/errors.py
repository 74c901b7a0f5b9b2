"""Every error llm-label raises, and whose fault it is.

    LabelError
    ├── SettingsError      the operator's: settings, label texts, provider name or code
    │   └── KeyringError   the operator's: keys, key files, tokenizers
    ├── InputError         whoever asked `detect`: the file or text cannot be judged
    ├── ClientError        the API client's: its request
    │   ├── NotAuthorized  no key, or one that is not known
    │   ├── NotAllowed     a choice that its key does not allow
    │   ├── NotFound       a stored answer that was not given to this client
    │   ├── WrongMethod
    │   ├── TooLarge
    │   ├── UnknownEncoding
    │   └── NotOffered     a route or feature that no surface serves yet
    ├── Stopping           ours: the server is being stopped
    ├── UpstreamError      the model server's: down, slow or answering garbage
    │   └── UpstreamTimeout
    └── MarkError          ours: a required mark could not be applied (the fail-closed law)

Every message is one line that says what was given, what is allowed and what to do.
"""

from typing import ClassVar

__all__ = [
    "ClientError",
    "InputError",
    "KeyringError",
    "LabelError",
    "MarkError",
    "NotAllowed",
    "NotAuthorized",
    "NotFound",
    "NotOffered",
    "SettingsError",
    "Stopping",
    "TooLarge",
    "UnknownEncoding",
    "UpstreamError",
    "UpstreamTimeout",
    "WrongMethod",
]


class LabelError(Exception):
    """Base class: carries the HTTP status to answer with and a stable machine-readable code."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "server_error"
    code: str = "llm_label_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class SettingsError(LabelError):
    code = "settings"


class KeyringError(SettingsError):
    code = "keyring"


class InputError(LabelError):
    status = 400
    kind = "invalid_request_error"
    code = "input"


class ClientError(LabelError):
    status = 400
    kind = "invalid_request_error"
    code = "invalid_request"


class NotAuthorized(ClientError):
    status = 401
    code = "invalid_api_key"


class NotAllowed(ClientError):
    status = 403
    kind = "permission_error"
    code = "not_allowed"


class NotFound(ClientError):
    status = 404
    code = "not_found"


class WrongMethod(ClientError):
    status = 405
    code = "wrong_method"


class TooLarge(ClientError):
    status = 413
    code = "request_too_large"


class UnknownEncoding(ClientError):
    status = 415
    code = "unknown_encoding"


class NotOffered(ClientError):
    status = 501
    code = "not_offered"


class Stopping(LabelError):
    status = 503
    code = "server_stopped"


class UpstreamError(LabelError):
    status = 502
    kind = "upstream_error"
    code = "upstream"


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"


class MarkError(LabelError):
    status = 500
    kind = "marking_error"
    code = "mark_not_applied"
