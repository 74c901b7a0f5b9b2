"""The tables of the settings file: every key, its type and what it is when nobody gives it."""

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

Regime = Literal["cn", "eu", "kr", "none"]
Position = Literal["start", "middle", "end"]
Traffic = Literal["human", "machine"]
Structured = Literal["allow", "json", "refuse"]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _consistent(regimes: tuple[Regime, ...]) -> tuple[Regime, ...]:
    """Refuse a list that says nothing, and one that says both that a regime holds and that none does."""
    if not regimes:
        raise PydanticCustomError("regimes", "name at least one of cn, eu, kr, or none")
    if "none" in regimes and len(regimes) > 1:
        raise PydanticCustomError("regimes", "'none' stands alone; leave it out, or the others")
    return regimes


class ProviderSettings(_Section):
    """Who the record names. Neither is ever invented; the proxy refuses to start without one."""

    name: str | None = None  # plain name in the character set of Annex E
    code: str | None = None  # the 27-character provider code


class LabelSettings(_Section):
    regimes: Annotated[tuple[Regime, ...], AfterValidator(_consistent)] = ("cn",)
    positions: tuple[Position, ...] = ("start",)
    language: str = "auto"
    texts: dict[str, str] = {}  # language -> the operator's own wording
    middle_after: int = Field(default=400, ge=1, le=1_000_000)  # characters
    on_failure: Literal["closed", "open"] = "closed"
    structured: Structured = "json"  # output that programs parse: it carries no label, and only JSON can be checked


class WatermarkSettings(_Section):
    keyring: Path | None = None  # None: the default place, if there is one
    key: str | None = None  # id of the key to mark with; None: no watermark
    variety: Literal["default", "none"] | None = None  # None: as the key's spec says
    payload: int | None = Field(default=None, ge=0)  # of a key with payload_bits; None: 0
    required: bool = False


def _addressed(url: str) -> str:
    """Refuse a URL that names no server."""
    if not url.strip():
        raise PydanticCustomError("upstream_url", "must not be empty; write http://HOST:PORT, or local:")
    if url.partition(":")[0] in ("http", "https"):
        try:
            parts = urlsplit(url)
            found, _ = parts.hostname, parts.port
        except ValueError:  # a port that is no number, brackets around no address
            found = None
        if not found:
            raise PydanticCustomError("upstream_url", "has no host or a wrong port; write http://HOST:PORT")
    return url


class UpstreamSettings(_Section):
    """A model server: `http://…`, `https://…` or `KIND:ADDRESS` for a kind that an adapter brings."""

    url: Annotated[str, AfterValidator(_addressed)] = "local:"
    api_key_file: Path | None = None
    connect_timeout: float = Field(default=10, gt=0)  # seconds
    read_timeout: float = Field(default=600, gt=0)  # seconds without a byte
    retries: int = Field(default=1, ge=0, le=5)  # when it cannot be reached, before its first byte

    @property
    def kind(self) -> str:
        scheme = self.url.partition(":")[0]
        return "openai" if scheme in ("http", "https") else scheme


def _several(value: Any) -> Any:
    """Take one value where a list is expected."""
    return [value] if isinstance(value, str) else value


class ClientSettings(_Section):
    """One client of the proxy: how it is known, and what its answers get."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    # SHA-256 of each of its keys, so that keys can be changed without a gap
    key_sha256: Annotated[tuple[Digest, ...], BeforeValidator(_several), Field(min_length=1)]
    # what its traffic may be; the first is what it is unless the request says otherwise
    traffic: Annotated[tuple[Traffic, ...], BeforeValidator(_several), Field(min_length=1)] = ("human",)
    positions: tuple[Position, ...] | None = Field(default=None, min_length=1)  # None: labels.positions
    positions_allowed: tuple[Position, ...] = ()  # what a request may choose from instead
    language: str | None = None  # None: labels.language
    structured: Structured | None = None  # None: labels.structured


class AuditSettings(_Section):
    path: Path | None = None  # None: the state folder of the user


class ServerSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    max_body: int = Field(default=32 * 1024 * 1024, ge=1024)  # bytes of a request
    max_depth: int = Field(default=100, ge=8, le=900)  # nested arrays and objects of a request
    body_field: bool = True  # the `llm_label` object in answers
    ai_disclosure: bool = False  # the AI-Disclosure header: a draft, not a standard
    admin_token_file: Path | None = None  # opens exact figures at /llm-label/detect
    drain: float = Field(default=30, ge=0)  # seconds that open streams get at SIGTERM
    keep_alive: float = Field(default=15, ge=0)  # seconds of silence in a stream until a comment is sent; 0: never
    on_disconnect: Literal["cancel", "drain"] = "cancel"  # what becomes of an answer whose client has left


class Settings(_Section):
    provider: ProviderSettings = ProviderSettings()
    labels: LabelSettings = LabelSettings()
    watermark: WatermarkSettings = WatermarkSettings()
    upstreams: tuple[UpstreamSettings, ...] = Field(default=(UpstreamSettings(),), min_length=1, max_length=1)
    clients: tuple[ClientSettings, ...] = ()  # empty: whoever reaches the port is served, as human traffic
    audit: AuditSettings = AuditSettings()
    server: ServerSettings = ServerSettings()
