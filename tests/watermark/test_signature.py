"""The signature of a result says which key is of which tokenizer and payload, and shows no secret."""

from llm_label.watermark.keyring import Key, Spec
from llm_label.watermark.signature import named


def key(id: str, **spec: object) -> Key:
    return Key.new(id, id.encode() * 32, Spec(**spec))  # type: ignore[arg-type]


def told(*keys: Key) -> dict[str, str]:
    return named(keys, [one.spec for one in keys])


def test_what_a_fingerprint_leaves_open_stands_beside_it() -> None:
    one, other = (f"sha256:{digit * 64}" for digit in "ab")
    pairs = (
        ({"payload_bits": 8}, {"payload_bits": 4}),
        ({"variety": "none"}, {"variety": "default"}),
        ({"tokenizer": one}, {"tokenizer": other}),
    )
    for here, there in pairs:
        straight, crossed = told(key("a", **here), key("b", **there)), told(key("a", **there), key("b", **here))
        assert straight["keys"] != crossed["keys"] and key("a").fingerprint in straight["keys"]
        assert (straight["schemes"], straight["tokenizers"]) == (crossed["schemes"], crossed["tokenizers"])


def test_schemes_and_tokenizers_are_named_once_with_all_of_their_settings() -> None:
    keys = key("a"), key("b"), key("c", scheme="bernoulli", parameters={"gamma": 0.25}), key("d", scheme="select")
    parts = told(*keys)
    gumbel, bernoulli = "gumbel.1.philox4x32-10-v1.w4", "bernoulli.1.philox4x32-10-v1.w4.gamma=0.25.delta=2.0"
    assert parts["schemes"] == f"{bernoulli},{gumbel},select.1.philox4x32-10-v1.w7.candidates=8"
    assert parts["tokenizers"] == "letters-v1,unchecked" and parts["keys"].count("@") == 4
    assert not any(one.reveal() in part or str(one.scheme_key()) in part for one in keys for part in parts.values())
    assert told() == {"keys": "none", "schemes": "none", "tokenizers": "none"}
