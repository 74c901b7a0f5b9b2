"""Edits of raw JSON change one value and keep every other byte."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_label.proxy.jsonspan import Editor, find

RAW = b'{ "a": 1.0, "b" : [ {"c":"x\\"}{","d":null}, [], 1e5 ],"e":{} , "n":12345678901234567890123 }'


def edited(raw: bytes, *changes: tuple[tuple[str | int, ...], object]) -> bytes:
    editor = Editor(raw)
    for path, value in changes:
        editor.set(path, value)
    return editor.apply()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("a",), b"1.0"),
        (("b", 0, "c"), b'"x\\"}{"'),
        (("b", 0, "d"), b"null"),
        (("b", 1), b"[]"),
        (("b", 2), b"1e5"),
        (("e",), b"{}"),
        ((), RAW),
        (("n",), b"12345678901234567890123"),
    ],
)
def test_a_value_is_found_by_its_path(path: tuple[str | int, ...], text: bytes) -> None:
    span = find(RAW, path)
    assert span is not None
    assert RAW[slice(*span)] == text


@pytest.mark.parametrize("path", [("x",), ("b", 9), ("a", "b"), ("b", "c"), ("a", 0)])
def test_what_is_not_there_is_not_found(path: tuple[str | int, ...]) -> None:
    assert find(RAW, path) is None


def test_only_the_edited_bytes_change() -> None:
    out = edited(RAW, (("b", 0, "c"), "标签"), (("e", "new"), 1), (("z",), [2]))
    expected = RAW.replace(b'"x\\"}{"', '"标签"'.encode()).replace(b'"e":{}', b'"e":{"new":1}')
    assert out == expected[:-1] + b',"z":[2]}'


@pytest.mark.parametrize("name", ["content", "a/b", "é", "标签", 'q"', "tab\t"])
@pytest.mark.parametrize("escape", [lambda c: f"\\u{ord(c):04x}", lambda c: "\\/" if c == "/" else c])
def test_a_key_is_found_however_it_is_spelt(name: str, escape: Callable[[str], str]) -> None:
    plain = json.dumps(name)[1:-1] if escape("a") == "a" else name
    raw = b'{"x":{"%b":"old"}}' % "".join(map(escape, plain)).encode()
    assert find(raw, ("x", name)) == find(raw, ("x", name), "old") == (raw.index(b'"old"'), raw.index(b'"old"') + 5)
    assert json.loads(edited(raw, (("x", name), "new"))) == {"x": {name: "new"}}


def test_a_new_member_stands_first_inside_and_last_outside() -> None:
    raw = b' { "e" : { "i" : 1 } , "n" : { } } '
    assert edited(raw, (("e", "a"), 1)) == b' { "e" : {"a":1, "i" : 1 } , "n" : { } } '
    assert edited(raw, (("n", "a"), 1)) == b' { "e" : { "i" : 1 } , "n" : {"a":1 } } '
    assert edited(raw, (("a",), 1)) == b' { "e" : { "i" : 1 } , "n" : { } ,"a":1} '


def test_of_equal_keys_the_last_counts_as_in_parsers() -> None:
    assert edited(b'{"a":1,"a":2}', (("a",), 3)) == b'{"a":1,"a":3}'


def test_a_parent_that_is_missing_is_an_error() -> None:
    with pytest.raises(LookupError):
        edited(b'{"a":[]}', (("b", "c"), 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(p for key, inner in below for p in paths(inner, (*at, key)))]


@settings(max_examples=200, derandomize=True, deadline=None)
@given(JSON, st.sampled_from([None, 0, 1]), st.data())
def test_every_value_of_any_json_is_found(value: Any, indent: int | None, data: st.DataObject) -> None:
    raw = json.dumps(value, indent=indent).encode()
    path = data.draw(st.sampled_from(paths(value)))
    span = find(raw, path)
    assert span is not None
    expected = value
    for step in path:
        expected = expected[step]
    assert json.loads(raw[slice(*span)]) == expected


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":{"x":"old"},"b":{"x":"old"}}',
        b'{"a":{"y":1},"b":{"x" : "old"}}',
        b'{"a":{"y":"x"},"b":{"x":"old"}}',
        b'{"a":{"x":"old"},"b":{"\\u0078":"old"}}',
        b'{"a":"\\"x\\":\\"old\\"","b":{"x":"old"}}',
    ],
)
def test_a_value_known_by_its_text_is_found_in_the_right_place(raw: bytes) -> None:
    editor = Editor(raw)
    editor.set(("b", "x"), "new", "old")
    expected = json.loads(raw)
    expected["b"]["x"] = "new"
    assert json.loads(editor.apply()) == expected


@pytest.mark.parametrize("raw", [b"{}", b" { } ", b'{"a":1}', b'{"a":"llm_label"}\n', b'{"a":{"new":1}}'])
def test_a_member_is_added_at_the_end_of_the_text(raw: bytes) -> None:
    out = edited(raw, (("new",), 1))
    assert json.loads(out) == {**json.loads(raw), "new": 1}


NAMES = st.sampled_from(["a", "b", 'b"a', "\\", "ä", ""])
OBJECTS = st.recursive(
    NAMES | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
BLANKS = st.sampled_from(["", " ", "\n", "\t "])


@settings(max_examples=400, derandomize=True, deadline=None)
@given(st.dictionaries(NAMES, OBJECTS, max_size=4), NAMES, OBJECTS, BLANKS, BLANKS, st.booleans())
def test_a_member_is_added_to_the_right_object(
    value: Any, name: str, inner: Any, before: str, behind: str, ascii_only: bool
) -> None:
    value[name] = {"x": inner}
    raw = json.dumps(value, separators=(",", f"{before}:{behind}"), ensure_ascii=ascii_only).encode()
    value[name]["new"] = 1
    assert json.loads(edited(raw, ((name, "new"), 1))) == value


def test_a_member_spelt_with_escapes_is_replaced_not_doubled() -> None:
    assert edited(b'{"\\u006eew":1}', (("new",), 2)) == b'{"\\u006eew":2}'


@pytest.mark.parametrize("raw", ['{"a":[%s]}', '{ "a" : [ %s ] , "b":1.0 }'])
@given(st.integers(0, 5), st.data())
def test_items_are_dropped_edited_and_appended_at_once(raw: str, size: int, data: st.DataObject) -> None:
    text = (raw % " ,".join(f'{{"x": {i}.0}}' for i in range(size))).encode()
    dropped = data.draw(st.sets(st.integers(0, size)))
    editor = Editor(text)
    editor.drop(("a",), dropped)
    kept = [i for i in range(size) if i not in dropped]
    for i in kept[:1]:
        editor.set(("a", i, "x"), "new")
    items = json.loads(editor.apply())["a"]
    assert items == [{"x": "new" if i in kept[:1] else float(i)} for i in kept]
    more = Editor(text)
    more.append(("a",), 9)
    assert json.loads(more.apply())["a"] == [*json.loads(text)["a"], 9]
    with pytest.raises(LookupError, match="no list"):
        more.append((), 9)
