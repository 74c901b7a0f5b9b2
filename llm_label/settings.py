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
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llm_label.errors import KeyringError, SettingsError

__all__ = [
    "AuditSettings",
    "LabelSettings",
    "ProviderSettings",
    "ServerSettings",
    "Settings",
    "UpstreamSettings",
    "WatermarkSettings",
    "load",
    "parse",
    "read_private",
]

PREFIX = "LLM_LABEL_"
DEFAULT_FILE = "llm-label.toml"
NOT_SETTINGS = {"LLM_LABEL_CONFIG", "LLM_LABEL_TEST_DATA"}  # ours, but not keys of the file

PATHS = (
    ("watermark", "keyring"),
    ("audit", "path"),
    ("upstreams", "api_key_file"),
    ("server", "admin_token_file"),
)

Regime = Literal["cn", "eu", "kr", "none"]
Position = Literal["start", "middle", "end"]


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


class WatermarkSettings(_Section):
    keyring: Path | None = None  # None: the default place, if there is one
    key: str | None = None  # id of the key to mark with; None: no watermark
    variety: Literal["default", "none"] | None = None  # None: as the key's spec says
    required: bool = False


class UpstreamSettings(_Section):
    """A model server: `http://…`, `https://…` or `KIND:ADDRESS` for a kind that an adapter brings."""

    url: str = "local:"
    api_key_file: Path | None = None
    connect_timeout: float = Field(default=10, gt=0)  # seconds
    read_timeout: float = Field(default=600, gt=0)  # seconds without a byte

    @property
    def kind(self) -> str:
        scheme = self.url.partition(":")[0]
        return "openai" if scheme in ("http", "https") else scheme


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


class Settings(_Section):
    provider: ProviderSettings = ProviderSettings()
    labels: LabelSettings = LabelSettings()
    watermark: WatermarkSettings = WatermarkSettings()
    upstreams: tuple[UpstreamSettings, ...] = Field(default=(UpstreamSettings(),), min_length=1, max_length=1)
    audit: AuditSettings = AuditSettings()
    server: ServerSettings = ServerSettings()


def load(
    file: Path | None, environ: Mapping[str, str] = os.environ, flags: Mapping[str, Any] | None = None
) -> Settings:
    """Read the file (or `llm-label.toml` here, if there is one), then the environment, then the flags.

    `flags` maps `section.key` to a value; `None` means not given. Raises SettingsError.
    """
    if file is None:
        named = environ.get(PREFIX + "CONFIG")
        file = Path(named) if named else Path(DEFAULT_FILE) if Path(DEFAULT_FILE).is_file() else None
    tree = _read_toml(file) if file is not None else {}
    if file is not None:
        _resolve(tree, file.parent)
    for path, value in [*_from_environment(environ), *(flags or {}).items()]:
        if value is not None:
            _put(tree, path, value)
    return parse(tree, str(file) if file else "settings")


def parse(tree: Mapping[str, Any], source: str = "settings") -> Settings:
    """Validate a tree of settings. Raises SettingsError with one line for the first mistake."""
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(f"{source}: {_one_line(error)}") from None


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


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in NOT_SETTINGS:
            continue
        section, _, key = name.removeprefix(PREFIX).lower().partition("_")
        if section == "upstream":
            found.append((f"upstreams.0.{key or 'url'}", environ[name]))
        else:
            found.append((f"{section}.{key}", _listed(section, key, environ[name])))
    return found


def _listed(section: str, key: str, value: str) -> Any:
    if (section, key) in (("labels", "regimes"), ("labels", "positions")):
        return [part.strip() for part in value.split(",") if part.strip()]
    if (section, key) == ("labels", "texts"):
        return dict(part.partition("=")[::2] for part in value.split(",") if part.strip())
    return value


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    section, _, key = path.partition(".")
    if section == "upstreams":
        entries = tree.setdefault("upstreams", [{}])
        if not (isinstance(entries, list) and entries and isinstance(entries[0], dict)):
            raise SettingsError("upstreams must be a list with one table: write [[upstreams]]")
        entries[0][key.removeprefix("0.")] = value
    else:
        table = tree.setdefault(section, {})
        if not isinstance(table, dict):
            raise SettingsError(f"[{section}] must be a table, not {type(table).__name__}")
        table[key] = value
        if section == "provider":  # the later source says who it is: name and code exclude each other
            table.pop({"name": "code", "code": "name"}.get(key, ""), None)


def _one_line(error: ValidationError) -> str:
    first = error.errors()[0]
    *parents, last = first["loc"]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        given = first.get("input")
        shown = f" (given: {given!r})" if isinstance(given, str | int | float | bool | list) else ""
        return f"{name}: {first['msg']}{shown}"
    known = _known(parents)
    near = difflib.get_close_matches(str(last), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"unknown key {name!r}; {hint}"


def _known(parents: list[int | str]) -> list[str]:
    if not parents:
        return list(Settings.model_fields)
    default = getattr(Settings(), str(parents[0]))
    section = default[0] if isinstance(default, tuple) else default
    return list(type(section).model_fields)
