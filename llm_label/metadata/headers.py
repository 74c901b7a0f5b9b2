"""Response headers: the record, what is planned, and the draft AI-Disclosure field.

All of them are final before the first byte of a stream, so they say what will be attempted; what really
happened stands in the last frame and in the audit log. Structured fields follow RFC 9651.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from llm_label.errors import SettingsError
from llm_label.metadata.aigc import Record, read

__all__ = ["LIMIT", "AiDisclosure", "Told", "read_response_headers", "response_headers"]

LIMIT = 4096  # bytes of all our header lines together; common servers and proxies take 8 kB for all headers
_MODEL_LIMIT = 128  # characters; the model name may come from the client
_STRING = re.compile(r"[\x20-\x7E]*")
_LABEL = re.compile(r"label=\(([a-z ]+)\)(?:,|$)")  # as `_planned` writes it, and it stands first
_WATERMARK = re.compile(r'(?:^|, )watermark="([\x20-\x7E]*?)"(?:, key="([\x20-\x7E]*?)")?(?:, policy=|$)')
_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9!#$%&'*+\-.^_`|~:/]*")


@dataclass(frozen=True)
class AiDisclosure:
    """Ask for the AI-Disclosure header (draft-abaris-aicdh-01, expired) with what it may name."""

    model: str | None = None
    provider: str | None = None


@dataclass(frozen=True)
class Told:
    """What the headers of an answer say that was marked before: by another llm-label, in a chain."""

    record: Record
    line: str  # `X-LLM-Label` as it came
    label: tuple[str, ...] = ()  # positions that were planned
    watermark: str | None = None  # scheme that was planned
    key: str | None = None


def read_response_headers(aigc: str, llm_label: str) -> Told | None:
    """Read `X-AIGC` and `X-LLM-Label`; None unless both are there and the record has no defect."""
    if not (aigc and llm_label and _STRING.fullmatch(llm_label)):
        return None
    reading = read(aigc)
    if reading.record is None or reading.problems:
        return None
    planned, watermark = _LABEL.match(llm_label), _WATERMARK.search(llm_label)
    return Told(
        reading.record,
        llm_label,
        label=tuple(planned[1].split()) if planned else (),
        watermark=watermark[1] if watermark else None,
        key=watermark[2] if watermark else None,
    )


def response_headers(
    record: Record | None,
    *,
    label: Sequence[str] = (),
    skipped: str | None = None,
    watermark: str | None = None,
    key: str | None = None,
    policy: str | None = None,
    ai_disclosure: AiDisclosure | None = None,
) -> list[tuple[str, str]]:
    """Return the header lines of one answer, positions as tokens. Raises SettingsError above `LIMIT`."""
    headers = [] if record is None else [("X-AIGC", record.to_json())]
    headers.append(("X-LLM-Label", _planned(tuple(label), skipped, watermark, key, policy)))
    if ai_disclosure is not None:
        headers.append(("AI-Disclosure", _disclosure(ai_disclosure)))
    size = sum(len(name) + len(value) + len(": \r\n") for name, value in headers)
    if size > LIMIT:
        raise SettingsError(f"our response headers take {size} bytes; allowed: {LIMIT}; shorten provider or key")
    return [(name, value) for name, value in headers if value]


@lru_cache(maxsize=256)  # a server has few plans
def _planned(
    label: tuple[str, ...], skipped: str | None, watermark: str | None, key: str | None, policy: str | None
) -> str:
    members = [f"label=({' '.join(_token(position) for position in label)})"] if label else []
    for name, value in (("skipped", skipped), ("watermark", watermark), ("key", key), ("policy", policy)):
        if value is not None:
            members.append(f"{name}={_string(value, name)}")
    return ", ".join(members)


def _disclosure(asked: AiDisclosure) -> str:
    # Commas between members: the draft's example has semicolons, which would make them parameters of `mode`.
    members = ["mode=machine-generated"]
    for name, value in (("model", asked.model), ("provider", asked.provider)):
        # A string is ASCII only; a name that does not fit is left out, since half a name is a wrong one.
        if value and len(value) <= _MODEL_LIMIT and _STRING.fullmatch(value):
            members.append(f"{name}={_string(value, name)}")
    return ", ".join(members)


def _string(value: str, name: str) -> str:
    if not _STRING.fullmatch(value):
        raise SettingsError(f"{name} {value!r} cannot stand in a header; allowed: ASCII without control characters")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _token(value: str) -> str:
    if not _TOKEN.fullmatch(value):
        raise SettingsError(f"label position {value!r} cannot stand in a header")
    return value
