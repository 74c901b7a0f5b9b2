"""How the signature of a result names keys and what they are for: all that changes a result, and no secret.

A fingerprint covers the scheme, its version, hash and parameters. What it leaves open stands beside it, for it is not
enough that everything is named somewhere: two rings may hold the same keys and the same tokenizers, crosswise.
"""

from collections.abc import Sequence

from llm_label.watermark.keyring import Key, Spec

__all__ = ["SHORT", "named"]

SHORT = 12  # hex digits that tell the digests of one signature apart


def named(keys: Sequence[Key], specs: Sequence[Spec]) -> dict[str, str]:
    """Return the parts of a signature that keys and the specs of all keys that were used make up."""
    return {
        "keys": ",".join(map(_key, keys)) or "none",
        "schemes": ",".join(sorted(set(map(_scheme, specs)))) or "none",
        "tokenizers": ",".join(sorted({spec.counted_in for spec in specs})) or "none",
    }


def _key(key: Key) -> str:
    spec = key.spec
    bits = f".payload_bits={spec.payload_bits}" if spec.payload_bits else ""
    return f"{key.fingerprint}.{spec.variety}{bits}@{spec.counted_in.removeprefix('sha256:')[:SHORT]}"


def _scheme(spec: Spec) -> str:
    settings = "".join(f".{name}={value}" for name, value in spec.parameters)
    return f"{spec.scheme}.{spec.version}.{spec.prf}.w{spec.context_width}{settings}"
