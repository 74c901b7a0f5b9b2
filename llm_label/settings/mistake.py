"""Say in one line what is wrong with a tree of settings, where, and what is allowed there."""

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from llm_label.settings.tables import ClientSettings, Settings, UpstreamSettings

__all__ = ["keys_of", "mistake"]

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
    "greater_than": "must be above {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit",
}


def mistake(error: ErrorDetails, tree: Mapping[str, Any]) -> str:
    """Return what pydantic found in this tree as one line in the operator's words."""
    *parents, last = error["loc"]
    client, loc = _client(error["loc"], tree)
    if error["type"] == "extra_forbidden":
        name = ".".join(str(part) for part in loc)
        return f"{client}unknown key {name!r}; {_near(str(last), keys_of(parents))}"
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
    plain = PLAIN.get(error["type"])
    said = plain.format_map(error.get("ctx", {})) if plain else error["msg"]
    return f"{name}: {said}{_given(given)}"


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


def keys_of(parents: list[int | str]) -> list[str]:
    """Return the keys of a table, or the tables themselves when it stands in none."""
    if not parents:
        return list(Settings.model_fields)
    tables: dict[str, type[BaseModel]] = {"upstreams": UpstreamSettings, "clients": ClientSettings}
    section = tables.get(str(parents[0])) or type(getattr(Settings(), str(parents[0])))
    return list(section.model_fields)
