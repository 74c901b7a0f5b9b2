import copy
import dataclasses
import hashlib
import hmac
import json
import pickle
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from llm_label.errors import KeyringError
from llm_label.watermark.keyring import Key, Keyring, Spec, tokenizer_digest
from tests.testdata import folder

ROOT = bytes(range(100, 132))
DIGEST = "sha256:" + "0" * 64
KEY = Key.new("prod-1", ROOT, Spec(tokenizer=DIGEST, tokenizer_path="m/tokenizer.json"), "2026-09-01")
RING = Keyring((KEY, Key.imported("vllm", 2**64 - 1, Spec(variety="none"))))


def edited(**changes: object) -> str:
    """Return RING's JSON with its first entry changed, and of its spec what is named; None takes out."""
    data = json.loads(RING.dumps())
    return json.dumps(data | {"keys": [changed(data["keys"][0], changes), *data["keys"][1:]]})


def changed(entry: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    nested = {n: changed(entry[n], v) for n, v in changes.items() if isinstance(v, dict) and n == "spec"}
    return {name: value for name, value in (entry | changes | nested).items() if changes.get(name, "") is not None}


def test_a_ring_survives_writing_and_reading() -> None:
    assert Keyring.parse(RING.dumps()) == RING
    assert Keyring.parse(RING.dumps().encode()) == RING
    assert Keyring.parse(Keyring().dumps()) == Keyring()
    assert Keyring((KEY,)).with_key(RING.keys[1]) == RING


def test_a_ring_of_several_schemes_keeps_their_parameters_also_for_auditors() -> None:
    keys = (
        KEY,
        Key.new("two", ROOT, Spec(scheme="dual_gumbel", parameters=(("alpha", 0.3),))),
        Key.new("coin", ROOT, Spec(scheme="bernoulli", parameters=(("gamma", 0.25),))),
    )
    ring = Keyring(keys)
    entries = json.loads(ring.dumps())["keys"]
    assert [entry["spec"].get("parameters") for entry in entries] == [
        None,
        {"alpha": 0.3},
        {"gamma": 0.25, "delta": 2.0},
    ]
    assert Keyring.parse(ring.dumps()) == ring
    auditors = Keyring(tuple(key.for_auditor() for key in keys))
    assert [key.spec for key in Keyring.parse(auditors.dumps()).keys] == [key.spec for key in keys]
    assert copy.deepcopy(keys[1].spec) == keys[1].spec == pickle.loads(pickle.dumps(keys[1].spec))


def test_the_scheme_key_is_hkdf_sha256_of_the_root() -> None:
    """RFC 5869 by hand: the second way."""
    extracted = hmac.digest(bytes(32), ROOT, "sha256")
    expanded = hmac.digest(extracted, b"llm-label watermark gumbel 1 philox4x32-10-v1\x01", "sha256")
    assert KEY.scheme_key() == int.from_bytes(expanded[:8], "big")


def test_scheme_key_and_fingerprint_of_a_root_never_change() -> None:
    """Computed once, with the first release's labels; a ring made then must be read for ever."""
    key = Key.new("any", bytes(range(32)), Spec())
    assert (f"{key.scheme_key():016x}", key.fingerprint) == ("c56be8667bf25a52", "9e0f81dde4ece4c1")


def test_the_auditors_copy_holds_no_root_and_shares_key_and_fingerprint() -> None:
    auditor = KEY.for_auditor()
    assert auditor.origin == "derived"
    assert auditor.scheme_key() == KEY.scheme_key()
    assert auditor.fingerprint == KEY.fingerprint
    assert ROOT.hex() not in Keyring((auditor,)).dumps()
    assert Keyring.parse(Keyring((auditor,)).dumps()).keys == (auditor,)


def test_an_imported_key_is_used_as_it_is() -> None:
    assert Key.imported("v", 42, Spec()).scheme_key() == 42
    assert RING.keys[1].scheme_key() == 2**64 - 1
    for bad in (-1, 2**64, True, 4.0):
        with pytest.raises(KeyringError, match="0 to 2\\^64 - 1"):
            Key.imported("v", bad, Spec())  # type: ignore[arg-type]


def test_the_fingerprint_depends_on_the_secret_alone() -> None:
    renamed = Key.new("other", ROOT, Spec(variety="none"))
    assert renamed.fingerprint == KEY.fingerprint
    assert len(KEY.fingerprint) == 16
    assert Key.new("prod-1", bytes(32), KEY.spec).fingerprint != KEY.fingerprint


def test_no_repr_copy_or_serialiser_shows_the_secret() -> None:
    shown = [ROOT.hex(), repr(ROOT), str(KEY.scheme_key()), f"{KEY.scheme_key():x}", str(list(ROOT))]
    for text in (repr(KEY), str(KEY), repr(RING), repr(dataclasses.asdict(KEY)), repr(vars(KEY))):
        assert not any(secret in text for secret in shown)
    for dump in (pickle.dumps, orjson.dumps, json.dumps):
        with pytest.raises((KeyringError, TypeError)):
            dump(KEY)  # type: ignore[operator]
    assert copy.deepcopy(KEY) == KEY == copy.copy(KEY)
    assert KEY.reveal() == ROOT.hex()


def test_an_unknown_id_is_answered_with_the_known_ones() -> None:
    assert RING.get("vllm") is RING.keys[1]
    with pytest.raises(KeyringError, match="'nope' is not in the keyring; known: prod-1, vllm"):
        RING.get("nope")
    with pytest.raises(KeyringError, match="known: none; make one with `llm-label keys new`"):
        Keyring().get("nope")


@pytest.mark.parametrize("field", ["scheme", "version", "prf", "context_width", "prompt_in_context", "variety"])
def test_a_spec_that_lacks_what_decides_a_p_value_is_refused(field: str) -> None:
    """Defaults would read another mark, and find none."""
    with pytest.raises(KeyringError, match=f"^the spec of key 'prod-1' lacks '{field}'; [^\n]*$"):
        Keyring.parse(edited(spec={field: None}))


def test_a_spec_may_leave_out_what_is_empty() -> None:
    text = edited(spec={"tokenizer": None, "tokenizer_path": None})
    assert Keyring.parse(text).get("prod-1").spec == Spec()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("[]", "llm_label_keyring"),
        ('{"llm_label_keyring": 2, "keys": []}', '"llm_label_keyring": 1'),
        ('{"llm_label_keyring": 1}', 'lacks "keys"'),
        ('{"llm_label_keyring": 1, "keys": [7]}', "key 1 of the keyring is not an object"),
        ('{"llm_label_keyring": 1, "keys": [], "keyz": 1}', "unknown field 'keyz'"),
        (edited(secret=None), "key 'prod-1' lacks \"secret\""),
        (edited(secret=ROOT.hex()[:-1]), "key 'prod-1': the secret is not hexadecimal"),
        (edited(secret=ROOT.hex()[:-2]), "a root key has a secret of 32 bytes, not 31"),
        (edited(secret=ROOT.hex()[:-2] + "zz"), "not hexadecimal"),
        (edited(secret=[1, 2]), "not hexadecimal"),
        (edited(id=""), "key id '' is not allowed"),
        (edited(id=None), "lacks 'id'"),
        (edited(id="vllm"), "key id 'vllm' stands in the keyring twice"),
        (edited(origin="stolen"), "origin 'stolen' is not one of root, derived, imported"),
        (edited(created=5), '"created" is not a text'),
        (edited(spec=None), 'lacks "spec"'),
        (edited(spec={"scheme": "nice"}), "scheme 'nice' is not known; known: gumbel"),
        (edited(spec={"scheme": ["gumbel"]}), "is not known; known: gumbel"),
        (edited(spec={"version": 2}), "use the release that made the key"),
        (edited(spec={"context_width": 5}), "use the release that made the key"),
        (edited(spec={"prompt_in_context": True}), "use the release that made the key"),
        (edited(spec={"variety": "some"}), "variety 'some' is not known; use one of: default, none"),
        (edited(spec={"tokenizer": "md5:00"}), "is not a digest"),
        (edited(spec={"tokenizer_path": 5}), "is not a text"),
        (edited(spec={"tokenizer_path": "a\0b"}), "is not a text of printable characters"),
        (edited(spec={"tokenizer_path": "\ud800"}), "is not a text of printable characters"),
        (edited(created="2026\n"), '"created" is not a text of printable characters'),
        ("[" * 100_000, "not JSON"),
        (edited(id=ROOT.hex(), secret="prod-1"), "key 1 of the keyring: the secret is not hexadecimal"),
        (edited(id=ROOT.hex()), "key id (not shown) is not allowed"),
        (edited(origin=ROOT.hex()), "origin (not shown) is not one of root"),
        (edited(spec={"scheme": ROOT.hex()}), "scheme (not shown) is not known"),
        (edited(spec={"variety": [ROOT.hex()]}), "variety (not shown) is not known"),
        (edited(spec={"version": int(ROOT.hex(), 16)}), "version is 1 in this release of llm-label, not (not shown)"),
        (edited(spec={"version": True}), "version is 1 in this release of llm-label, not True"),
        (edited(spec={"tokenizer": ROOT.hex()}), "tokenizer (not shown) is not a digest"),
        (edited(spec={"widht": 4}), "unknown field 'widht'"),
        (edited(spec={"parameters": 5}), '"parameters" is not an object'),
        (edited(spec={"parameters": {"alpha": 0.1}}), "scheme 'gumbel' has no parameter 'alpha'; known: none"),
        (edited(spec={"parameters": {ROOT.hex(): 0.1}}), "has no parameter (not shown)"),
        (edited(spec={"scheme": "dual_gumbel"}), "lacks the parameter 'alpha' of scheme 'dual_gumbel'"),
        (edited(spec={"scheme": "dual_gumbel", "parameters": {"alpha": 2}}), "alpha is a number from 0 to 1, not 2"),
        (edited(spec={"scheme": "bernoulli", "parameters": {"gamma": 0.5}}), "lacks the parameter 'delta'"),
        (edited(spec={"scheme": "bernoulli", "parameters": {"delta": ROOT.hex()}}), "not (not shown)"),
        (edited(**{ROOT.hex(): 1}), "unknown field (not shown)"),
    ],
)
def test_a_bad_ring_is_refused_in_one_line_without_the_secret(text: str, message: str) -> None:
    with pytest.raises(KeyringError) as caught:
        Keyring.parse(text)
    line = str(caught.value)
    assert message in line
    assert "\n" not in line
    assert ROOT.hex()[:16] not in line


SECRETS = (ROOT.hex(), str(int(ROOT.hex(), 16)))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([*SECRETS, "\ud800", "gumbel", "bernoulli"])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(SECRETS), inner), max_leaves=6
)
NAMES = st.sampled_from(
    ["id", "origin", "created", "secret", "spec", "scheme", "version", "prf", "variety", "tokenizer", "parameters"]
)


@settings(max_examples=300, deadline=None)
@given(
    entry=st.dictionaries(NAMES, VALUES, max_size=4),
    spec=st.dictionaries(NAMES, VALUES, max_size=2),
    base=st.booleans(),
    cut=st.integers(0, 400),
)
def test_any_ring_is_read_or_refused_in_one_line_without_its_secrets(
    entry: dict[str, object], spec: dict[str, object], base: bool, cut: int
) -> None:
    good = json.loads(RING.dumps())["keys"][0] if base else {}
    whole = json.dumps({"llm_label_keyring": 1, "keys": [{**good, "spec": spec, **entry}]})
    for text in (whole, whole[:cut]):
        try:
            Keyring.parse(text)
        except KeyringError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
            assert not any(secret in str(error) for secret in SECRETS)


@pytest.mark.parametrize("name", ["gpt2", "qwen3", "llama2-spm"])
def test_the_tokenizer_digest_ignores_formatting_and_the_age_of_the_file(name: str) -> None:
    path = folder(f"tokenizers/{name}/tokenizer.json")
    original = path.read_bytes()
    digest = tokenizer_digest(original)
    data = json.loads(original)
    backwards = json.dumps(dict(reversed(data.items())), indent=3).encode()
    assert tokenizer_digest(backwards) == digest
    rewritten = Tokenizer.from_file(str(path)).to_str().encode()
    assert tokenizer_digest(rewritten) == digest
    data["truncation"], data["post_processor"] = {"max_length": 5}, None
    assert tokenizer_digest(json.dumps(data).encode()) == digest


def test_the_tokenizer_digest_sees_every_change_of_ids() -> None:
    data = {
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
        "added_tokens": [{"id": 3, "content": "<s>", "special": True}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
    }
    digests = {tokenizer_digest(json.dumps(data).encode())}
    changes: list[dict[str, object]] = [
        {"model": data["model"] | {"vocab": {"a": 1, "b": 0, "ab": 2}}},  # type: ignore[operator]
        {"model": data["model"] | {"merges": []}},  # type: ignore[operator]
        {"model": data["model"] | {"byte_fallback": True}},  # type: ignore[operator]
        {"added_tokens": []},
        {"normalizer": None},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        {"pre_tokenizer": {"type": "ByteLevel"}},
    ]
    digests |= {tokenizer_digest(json.dumps(data | change).encode()) for change in changes}
    assert len(digests) == 1 + len(changes)
    pairs = data | {"model": data["model"] | {"merges": [["a", "b"]], "dropout": None}}  # type: ignore[operator]
    assert tokenizer_digest(json.dumps(pairs).encode()) in digests


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff\xfe", b"[]", b"{}", b'{"model": 3}'),
        *(b'{"model": {}, "added_tokens": %s}' % value for value in (b"[3]", b"5", b'{"a": 1}')),
        b'{"model": {"a": ' + b"[" * 500 + b"]" * 500 + b"}}",
    ],
)
def test_what_is_no_tokenizer_file_is_refused(content: bytes) -> None:
    with pytest.raises(KeyringError, match="tokenizer.json"):
        tokenizer_digest(content)


def test_the_digest_names_its_hash() -> None:
    assert tokenizer_digest(b'{"model": {}}').removeprefix("sha256:") == (
        hashlib.sha256(b'{"added_tokens":[],"model":{},"normalizer":null,"pre_tokenizer":null}').hexdigest()
    )
