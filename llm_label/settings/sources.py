"""Read the file, the environment and the flags, once; later sources win, and a mistake names the one that made it."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llm_label.errors import SettingsError
from llm_label.settings.mistake import keys_of, mistake
from llm_label.settings.tables import Settings

__all__ = ["load", "parse"]

PREFIX = "LLM_LABEL_"
DEFAULT_FILE = "llm-label.toml"
NOT_SETTINGS = {"LLM_LABEL_CONFIG", "LLM_LABEL_TEST_DATA"}  # ours, but not keys of the file

PATHS = (
    ("watermark", "keyring"),
    ("audit", "path"),
    ("upstreams", "api_key_file"),
    ("server", "admin_token_file"),
)


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
        given = _source_of([str(step) for step in first["loc"]], first["type"], sources or {})
        raise SettingsError(f"{given or source}: {mistake(first, tree)}") from None


def _source_of(steps: list[str], kind: str, sources: Mapping[str, str]) -> str | None:
    """Name the variable or flag that made this mistake, None: neither did."""
    for k in range(len(steps), 0, -1):
        if found := sources.get(".".join(steps[:k])):
            return found
    if kind == "extra_forbidden":  # a whole table that does not exist, because of a key in it
        return next((name for path, name in sources.items() if path.startswith(".".join([*steps, ""]))), None)
    return None


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
        known = keys_of([section] if section in Settings.model_fields else [])
        raise SettingsError(f"{source} names no key of [{section}]; known: {', '.join(known)}")
    else:
        table = tree.setdefault(section, {})
        if not isinstance(table, dict):
            raise SettingsError(f"[{section}] must be a table, not {type(table).__name__}")
        table[key] = value
        if section == "provider":  # the later source says who it is: name and code exclude each other
            table.pop({"name": "code", "code": "name"}.get(key, ""), None)
