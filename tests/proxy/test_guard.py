"""The guard: nothing that a client smuggles in gets through, and nothing else of its bytes changes."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_label.errors import ClientError
from llm_label.proxy.guard import _check_keys, _colons, _shape, read_body, strip
from llm_label.proxy.jsonspan import Editor

LIMITS = settings(max_examples=300, derandomize=True, deadline=None)


@pytest.mark.parametrize(
    ("given", "kept", "gone"),
    [
        (b'{"model": "m", "watermarking": false}', b'{"model": "m"}', "watermarking"),
        (b'{ "watermarking":false , "n": 1.0 }', b'{ "n": 1.0 }', "watermarking"),
        (b'{"a":1e5,"Watermarking":0,"b":[ ]}', b'{"a":1e5,"b":[ ]}', "Watermarking"),
        (b'{"watermark":{"enabled":false,"key":"00ff"},"n":1}', b'{"n":1}', "watermark"),
        (b'{"custom_logit_processor":"{\\"callable\\":\\"80\\"}","custom_params":{}}', b"{}",
         "custom_logit_processor custom_params"),
        (b'{"a":1,"watermark":1,"watermarking":1}', b'{"a":1}', "watermark watermarking"),
        (b'{"watermark":1,"a":1,"watermarking":1}', b'{"a":1}', "watermark watermarking"),
        (b'{"vllm_xargs":{"x":1,"llm_label_key":"k"},"n":1}', b'{"vllm_xargs":{"x":1},"n":1}', "vllm_xargs.llm_label_key"),
        (b'{"vllm_xargs":{"llm_label_key":"k"}}', b'{"vllm_xargs":{}}', "vllm_xargs.llm_label_key"),
        (b'{"generation_config":{"watermarking_config":{},"top_k":5}}', b'{"generation_config":{"top_k":5}}',
         "generation_config.watermarking_config"),
        (b'{"generation_config":"{\\"top_k\\": 5.0, \\"watermarking_config\\": {}}"}',
         b'{"generation_config":"{\\"top_k\\": 5.0}"}', "generation_config.watermarking_config"),
        (b'{"extra_body":{"watermarking":false,"top_k":1}}', b'{"extra_body":{"top_k":1}}', "extra_body.watermarking"),
        (b'{"llm_label":{"content_id":"x"},"n":1}', b'{"n":1}', "llm_label"),
        (b'{"\\u0077atermark":{},"n":1}', b'{"n":1}', "watermark"),
        (b'{"vllm_xargs":"llm_label_x","generation_config":null,"extra_body":[]}', None, ""),
        (b'{"messages":[{"content":"\\"watermarking\\": false","watermark":1}],"logit_bias":{"1":-100}}', None, ""),
    ],
)  # fmt: skip
def test_what_clients_may_not_set_is_taken_out_and_nothing_else(given: bytes, kept: bytes | None, gone: str) -> None:
    body = read_body(given, 100)
    raw, names = strip(given, body)
    assert raw == (given if kept is None else kept)
    assert json.loads(raw) == body, "the tree that policy sees is the one that is sent"
    assert " ".join(names) == gone


@pytest.mark.parametrize("text", ["{", "[1]", "\ud800", '{"a": 1, "a": 2}'])
def test_a_generation_config_that_cannot_be_looked_into_is_refused(text: str) -> None:
    raw = json.dumps({"generation_config": text}).encode()
    with pytest.raises(ClientError, match="generation_config"):
        strip(raw, read_body(raw, 100))


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"stream":true,"stream":false}', '"stream"'),
        (b'{"stream" : true, "x": {}, "stream"\n:false}', '"stream"'),
        (b'{"a":{"b":[{"c":1,"c":1}]}}', '"c"'),
        (b'{"watermark":1,"\\u0077atermark":2}', '"watermark"'),
        (b'{"a\\\\":1,"a\\\\":2}', '"a\\\\"'),
        (b'{"":1,"":2}', '""'),
    ],
)
def test_a_key_named_twice_is_refused_by_name(raw: bytes, name: str) -> None:
    with pytest.raises(ClientError) as caught:
        read_body(raw, 100)
    assert caught.value.code == "duplicate_key" and caught.value.status == 400
    assert f"the body names the key {name} twice" in str(caught.value)


@pytest.mark.parametrize(
    "raw",
    [b'{"a":"\\"b\\":1,\\"b\\":2"}', b'{"a":":","b":"\\\\"}', b'{"a":[{"x":1},{"x":1}]}', b'{"\\"a\\"" : ":\\\\\\":"}'],
)
def test_colons_and_keys_inside_strings_count_for_nothing(raw: bytes) -> None:
    assert read_body(raw, 100) == json.loads(raw)


texts = st.text(st.sampled_from(['"', "\\", ":", "a", "{", "}", ",", " ", "é", "\u2028", "\n", "\ud800"]), max_size=6)


def trees(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Objects as lists of pairs, so that a key can stand twice."""
    leaves = st.none() | st.integers(-9, 9) | texts | st.sampled_from([1.0, 1e30])
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=4) | st.lists(st.tuples(keys, inner), max_size=4).map(Pairs)
    )


class Pairs(list[Any]):
    pass


def written(value: Any, colon: str, ascii: bool) -> str:
    if isinstance(value, Pairs):
        members = (json.dumps(k, ensure_ascii=ascii) + colon + written(v, colon, ascii) for k, v in value)
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(v, colon, ascii) for v in value) + "]"
    return json.dumps(value, ensure_ascii=ascii)


def doubled(value: Any) -> bool:
    if isinstance(value, Pairs):
        names = [k for k, _ in value]
        return len(set(names)) < len(names) or any(doubled(v) for _, v in value)
    return isinstance(value, list) and any(doubled(v) for v in value)


@LIMITS
@given(trees(texts), st.sampled_from([":", " : ", "\t:\n"]), st.booleans())
def test_keys_named_twice_are_found_exactly(tree: Any, colon: str, ascii: bool) -> None:
    raw = written([tree], colon, ascii).encode("utf-8", "surrogatepass")
    try:
        body = json.loads(raw)
    except UnicodeDecodeError:  # half a pair that is not escaped is no JSON
        return
    assert (_shape(body)[1] != _colons(raw)) == doubled(tree)
    if doubled(tree):
        with pytest.raises(ClientError):
            _check_keys(raw, body, "it")
    else:
        _check_keys(raw, body, "it")


@LIMITS
@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), texts | st.integers() | st.lists(st.integers(), max_size=2)), max_size=6, unique_by=lambda p: p[0]),
    st.sets(st.sampled_from("abcdef")),
    st.sampled_from(["", " ", "\n  "]),
)  # fmt: skip
def test_a_deletion_leaves_the_other_members_as_they_are(members: list[Any], names: set[str], space: str) -> None:
    def raw(kept: list[Any]) -> str:
        return "{" + ",".join(f'{space}"{k}"{space}:{space}{json.dumps(v)}{space}' for k, v in kept) + "}"

    editor = Editor(f'{{"x": 1.0, "in": {raw(members)}, "y":"\\u0041"}}'.encode())
    editor.delete(("in",), names)
    out = editor.apply().decode()
    kept = [(k, v) for k, v in members if k not in names]
    assert json.loads(out)["in"] == dict(kept)
    assert out.startswith('{"x": 1.0, "in": {') and out.endswith('}, "y":"\\u0041"}')
    assert "".join(out.split()) == "".join(f'{{"x": 1.0, "in": {raw(kept)}, "y":"\\u0041"}}'.split())
