"""One TOML file, the environment and the flags, read once into frozen settings.

This file and `cli` are the only places that read files and the environment. Every key of the file can be given as
`LLM_LABEL_<SECTION>_<KEY>` (lists separated by commas), the one upstream as `LLM_LABEL_UPSTREAM`. Later sources win:
file, environment, flags. Secrets come from files, never from the settings file itself.
"""

import difflib
import os
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from llm_label.errors import KeyringError, SettingsError

__all__ = [
    "AuditSettings",
    "ClientSettings",
    "LabelSettings",
    "ProviderSettings",
    "ServerSettings",
    "Settings",
    "Structured",
    "Traffic",
    "UpstreamSettings",
    "WatermarkSettings",
    "load",
    "parse",
    "read_private",
]

PREFIX = "LLM_LABEL_"
DEFAULT_FILE = "llm-label.toml"
NOT_SETTINGS = {"LLM_LABEL_CONFIG", "LLM_LABEL_TEST_DATA"}  # ours, but not keys of the file

# kind of mistake -> what to say, where pydantic speaks of its own types
PLAIN = {
    "tuple_type": "a list in [brackets] is expected",
    "dict_type": "a table is expected",
    "model_type": "a table is expected",
    "int_parsing": "a whole number is expected",
    "int_type": "a whole number is expected",
    "float_parsing": "a number is expected",
    "float_type": "a number is expected",
    "bool_parsing": "true or false is expected",
    "bool_type": "true or false is expected",
    "string_type": 'a text in "quotes" is expected',
    "too_short": "must not be empty",
    "too_long": "one table is expected",  # upstreams
    "missing": "is missing",
    "string_pattern_mismatch": "must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit",
}

PATHS = (
    ("watermark", "keyring"),
    ("audit", "path"),
    ("upstreams", "api_key_file"),
    ("server", "admin_token_file"),
)

Regime = Literal["cn", "eu", "kr", "none"]
Position = Literal["start", "middle", "end"]
Traffic = Literal["human", "machine"]
Structured = Literal["allow", "json", "refuse"]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProviderSettings(_Section):
    """Who the record names. Neither is ever invented; the proxy refuses to start without one."""

    name: str | None = None  # plain name in the character set of Annex E
    code: str | None = None  # the 27-character provider code


class LabelSettings(_Section):
    regimes: tuple[Regime, ...] = ("cn",)
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


def load(
    file: Path | None,
    environ: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
    flag_names: Mapping[str, str] | None = None,
) -> Settings:
    """Read the file (or `llm-label.toml` here, if there is one), then the environment, then the flags.

    `flags` maps `section.key` to a value, `None` means not given; `flag_names` maps it to what the user typed.
    Raises SettingsError.
    """
    if file is None:
        named = environ.get(PREFIX + "CONFIG")
        file = Path(named) if named else Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None
    tree = _read_toml(file) if file is not None else {}
    if file is not None:
        _resolve(tree, file.parent)
    sources: dict[str, str] = {}
    for path, value, source in [*_from_environment(environ), *_from_flags(flags or {}, flag_names or {})]:
        _put(tree, path, value, source)
        sources[path] = source
    return parse(tree, str(file) if file else "settings", sources)


def parse(tree: Mapping[str, Any], source: str = "settings", sources: Mapping[str, str] | None = None) -> Settings:
    """Validate a tree of settings. Raises SettingsError with one line for the first mistake.

    `sources` maps `section.key` to the variable or flag that gave it, where it is not `source` that did.
    """
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a slip in a key explains the rest
        steps = [str(step) for step in first["loc"]]
        paths = (".".join(steps[:k]) for k in range(len(steps), 0, -1))
        given = next((sources[path] for path in paths if path in sources), None) if sources else None
        raise SettingsError(f"{given or source}: {_one_line(first, tree)}") from None


def read_private(path: Path, what: str) -> str:
    """Read a secret file that only its owner may read. Raises KeyringError naming the remedy."""
    try:
        mode = path.stat().st_mode
        if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
            raise KeyringError(
                f"{what} {path} has mode {stat.S_IMODE(mode):04o} and can be read by others; run: chmod 600 {path}"
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise KeyringError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise KeyringError(f"{what} {path} is not UTF-8 text") from error


def default_keyring(environ: Mapping[str, str] = os.environ) -> Path:
    """Name the user's keyring file, whether it exists or not."""
    base = environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "llm-label" / "keyring.json"


def default_audit(environ: Mapping[str, str] = os.environ) -> Path:
    """Name the user's audit database, whether it exists or not."""
    base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "llm-label" / "audit.sqlite3"


def _read_toml(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"settings file {file} cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {file} is not TOML: {error}") from error


def _resolve(tree: dict[str, Any], folder: Path) -> None:
    """Read relative paths of the file from the file's own folder, wherever the command is called."""
    tables = {name: table for name, table in tree.items() if isinstance(table, dict)}
    upstreams = tree.get("upstreams")
    for section, key in PATHS:
        found = upstreams if section == "upstreams" and isinstance(upstreams, list) else [tables.get(section)]
        for table in found:
            if isinstance(table, dict) and isinstance(table.get(key), str):
                table[key] = str(folder / table[key])


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    """List what the environment sets: (section.key, value, the variable's name)."""
    found: list[tuple[str, Any, str]] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        section, _, key = name.removeprefix(PREFIX).lower().partition("_")
        if section == "upstream":
            found.append((f"upstreams.0.{key or 'url'}", environ[name], name))
        elif section == "clients":
            raise SettingsError(f"{name}: clients can only be given in the settings file, as [[clients]] tables")
        else:
            found.append((f"{section}.{key}" if key else section, _listed(section, key, environ[name]), name))
    return found


def _from_flags(flags: Mapping[str, Any], names: Mapping[str, str]) -> list[tuple[str, Any, str]]:
    return [(path, value, names.get(path, path)) for path, value in flags.items() if value is not None]


def _listed(section: str, key: str, value: str) -> Any:
    if (section, key) in (("labels", "regimes"), ("labels", "positions")):
        return [part.strip() for part in value.split(",") if part.strip()]
    if (section, key) == ("labels", "texts"):
        return dict(part.partition("=")[::2] for part in value.split(",") if part.strip())
    return value


def _put(tree: dict[str, Any], path: str, value: Any, source: str) -> None:
    section, _, key = path.partition(".")
    if section == "upstreams":
        entries = tree.setdefault("upstreams", [{}])
        if not (isinstance(entries, list) and entries and isinstance(entries[0], dict)):
            raise SettingsError("upstreams must be a list with one table: write [[upstreams]]")
        entries[0][key.removeprefix("0.")] = value
    elif not key:
        known = _known([section] if section in Settings.model_fields else [])
        raise SettingsError(f"{source} names no key of [{section}]; known: {', '.join(known)}")
    else:
        table = tree.setdefault(section, {})
        if not isinstance(table, dict):
            raise SettingsError(f"[{section}] must be a table, not {type(table).__name__}")
        table[key] = value
        if section == "provider":  # the later source says who it is: name and code exclude each other
            table.pop({"name": "code", "code": "name"}.get(key, ""), None)


def _one_line(error: ErrorDetails, tree: Mapping[str, Any]) -> str:
    *parents, last = error["loc"]
    client, loc = _client(error["loc"], tree)
    if error["type"] == "extra_forbidden":
        name = ".".join(str(part) for part in loc)
        return f"{client}unknown key {name!r}; {_near(str(last), _known(parents))}"
    # The place in a list of values is no key: what was given says which one it is.
    in_list = isinstance(last, int) and parents[-1:] not in ([], ["upstreams"], ["clients"])
    name = client + ".".join(str(part) for part in (loc[:-1] if in_list else loc))
    given = error.get("input")
    if "key_sha256" in parents or last == "key_sha256":  # it may be the key itself, which belongs into no log
        return f"{name}: a SHA-256 in 64 hexadecimal digits is expected; make one with: llm-label keys client NAME"
    if error["type"] == "literal_error":
        known = error["ctx"]["expected"].replace("'", "").replace(" or ", ", ")
        return f"{name}: {given!r} is not known; known: {known}"
    if error["type"] == "tuple_type" and loc in (("upstreams",), ("clients",)):
        return f"{name}: write [[{name}]] with two brackets"
    return f"{name}: {PLAIN.get(error['type'], error['msg'])}{_given(given)}"


def _client(loc: tuple[int | str, ...], tree: Mapping[str, Any]) -> tuple[str, tuple[int | str, ...]]:
    """Return which client's table a mistake is in, as a prefix, and its place in that table."""
    if loc[0] != "clients" or len(loc) < 3 or not isinstance(loc[1], int):
        return "", loc
    table = tree["clients"][loc[1]]
    name = table.get("name") if isinstance(table, Mapping) and loc[2] != "name" else None
    return f"client {repr(name) if isinstance(name, str) else f'number {loc[1] + 1}'}: ", loc[2:]


def _given(value: object) -> str:
    """Show a value, but neither tables nor a URL's password."""
    tables = isinstance(value, list) and any(isinstance(item, dict | list) for item in value)
    if tables or not isinstance(value, str | int | float | list) or "@" in str(value):
        return ""
    return f" (given: {value!r})"


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"


def _known(parents: list[int | str]) -> list[str]:
    if not parents:
        return list(Settings.model_fields)
    tables: dict[str, type[_Section]] = {"upstreams": UpstreamSettings, "clients": ClientSettings}
    section = tables.get(str(parents[0])) or type(getattr(Settings(), str(parents[0])))
    return list(section.model_fields)
