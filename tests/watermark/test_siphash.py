"""siphash-2-4-v1: the vectors of its authors, plain integer arithmetic, and every scheme that can use it."""

import json

import numpy as np
import pytest

from llm_label.errors import KeyringError
from llm_label.watermark import siphash
from llm_label.watermark.keyring import Key, Keyring, Spec
from llm_label.watermark.prf import PRFS
from llm_label.watermark.scan import scan
from tests.verify.marking import marked_ids
from tests.watermark import golden_siphash

SIPHASH = PRFS[siphash.NAME]
SECURE = Spec(prf=siphash.NAME)
SCHEMES = ["gumbel", "dual_gumbel", "bernoulli"]
WORD = 2**64 - 1


def slow_siphash(key: bytes, message: bytes) -> int:
    """SipHash-2-4 as the paper writes it, on Python integers: the second, independent way."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v0, v1, v2, v3 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573

    def rotated(word: int, by: int) -> int:
        return (word << by | word >> (64 - by)) & WORD

    def sip_round() -> None:
        nonlocal v0, v1, v2, v3
        v0, v2 = (v0 + v1) & WORD, (v2 + v3) & WORD
        v1, v3 = rotated(v1, 13) ^ v0, rotated(v3, 16) ^ v2
        v0 = rotated(v0, 32)
        v2, v0 = (v2 + v1) & WORD, (v0 + v3) & WORD
        v1, v3 = rotated(v1, 17) ^ v2, rotated(v3, 21) ^ v0
        v2 = rotated(v2, 32)

    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for at in range(0, len(padded), 8):
        block = int.from_bytes(padded[at : at + 8], "little")
        v3 ^= block
        sip_round(), sip_round()
        v0 ^= block
    v2 ^= 0xFF
    sip_round(), sip_round(), sip_round(), sip_round()
    return v0 ^ v1 ^ v2 ^ v3


def fast_siphash(key: bytes, message: bytes) -> int:
    """The same by the arithmetic of the package."""
    halves = siphash._halves(int.from_bytes(key, "big")).byteswap()
    state = np.concatenate([halves, halves]) ^ np.array(siphash.SEED, dtype=np.uint64)[:, None]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for block in np.frombuffer(padded, dtype="<u8"):
        siphash._compress(state, np.uint64(block))
    return int(siphash._finish(state)[0])


@pytest.mark.parametrize("hashed", [slow_siphash, fast_siphash])
@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (0, "310e0edd47db6f72"),
        (1, "fd67dc93c539f874"),
        (2, "5a4fa9d909806c0d"),
        (3, "2d7efbd796666785"),
        (7, "37d1018bf50002ab"),
        (8, "6224939a79f5f593"),
        (15, "e545be4961ca29a1"),
    ],
)
def test_the_authors_vectors(hashed: object, length: int, expected: str) -> None:
    """Key 00 … 0f, message 00 01 …; 15 bytes are appendix A of the paper, the others are of its reference code."""
    found: int = hashed(bytes(range(16)), bytes(range(length)))  # type: ignore[operator]
    assert found.to_bytes(8, "little").hex() == expected


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 8, 16])
def test_words_are_halves_of_siphash_of_the_documented_message(width: int) -> None:
    rng = np.random.default_rng(width)
    contexts, tokens = rng.integers(-1, 2**32 - 2, (20, width)), rng.integers(0, 2**32 - 2, 20)
    for key in (0, 42, 2**127 + 5, 2**128 - 1):
        expected = []
        for context, token in zip(contexts.tolist(), tokens.tolist(), strict=True):
            ids = b"".join((one % 2**32).to_bytes(4, "little") for one in context)
            message = width.to_bytes(8, "little") + ids + bytes(-len(ids) % 8) + (token // 2).to_bytes(4, "little")
            expected.append(slow_siphash(key.to_bytes(16, "big"), message) >> 32 * (token % 2) & 0xFFFFFFFF)
        assert SIPHASH.words(key, contexts, tokens).tolist() == expected


def test_a_key_of_its_own_for_each_gives_the_words_of_each_key() -> None:
    rng = np.random.default_rng(8)
    keys = [0, 2**128 - 1, *(int.from_bytes(rng.bytes(16), "big") for _ in range(8))]
    contexts, tokens = rng.integers(-1, 2**31, (10, 4)), rng.integers(0, 2**31, 10)
    halves = np.concatenate([siphash._halves(key) for key in keys], axis=1)
    each = [int(SIPHASH.words(k, contexts[n : n + 1], tokens[n : n + 1])[0]) for n, k in enumerate(keys)]
    assert SIPHASH.words(halves, contexts, tokens).tolist() == each
    with pytest.raises(ValueError, match="128 bits"):
        SIPHASH.words(2**128, contexts, tokens)


def test_the_golden_file_is_what_is_computed() -> None:
    held = json.loads(golden_siphash.FILE.read_text(encoding="utf-8"))
    computed = json.loads(json.dumps(golden_siphash.compute()))
    for mine, theirs in zip(held["schemes"], computed["schemes"], strict=True):
        for figure in ("score", "log10_p"):
            assert mine.pop(figure) == pytest.approx(theirs.pop(figure), rel=1e-12)
    assert held == computed


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_mark_is_found_with_its_own_prf_and_not_with_the_other(scheme: str) -> None:
    """The largest p of a mark here is far below 1e-12; the other's falls below 1e-4 with that chance; fixed keys."""
    key = Key.new("k", bytes(range(32)), Spec(scheme=scheme, prf=siphash.NAME))
    ids = marked_ids(key, list(range(50, 66)), 250, 3)
    assert scan(ids, key).log10_p < -12
    assert scan(ids, Key.new("k", bytes(range(32)), Spec(scheme=scheme))).log10_p > -4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_keys_have_16_bytes_and_survive_the_file(scheme: str) -> None:
    key = Key.new("k", bytes(range(32)), Spec(scheme=scheme, prf=siphash.NAME))
    assert key.spec.rules.key_bytes == 16 and key.spec.rules.vllm is None
    assert key.scheme_key() >= 2**64
    auditor = Keyring.parse(Keyring((key.for_auditor(),)).dumps()).keys[0]
    assert auditor.spec == key.spec and auditor.scheme_key() == key.scheme_key()
    assert auditor.fingerprint == key.fingerprint != Key.new("k", bytes(range(32)), Spec(scheme=scheme)).fingerprint


def test_both_keys_of_dual_gumbel_derive_as_the_64_bit_ones() -> None:
    """The first 16 bytes of SHA-256 over a label and 16 bytes of key."""
    a, b = Spec(scheme="dual_gumbel", prf=siphash.NAME).rules.streams(42)  # type: ignore[attr-defined]
    assert (f"{a[1]:032x}", f"{b[1]:032x}") == golden_siphash.both_keys(42)


def test_a_prf_that_a_scheme_cannot_use_is_refused() -> None:
    with pytest.raises(KeyringError, match="prf 'md5' is not known; known: philox4x32-10-v1, siphash-2-4-v1"):
        Spec(prf="md5")
    with pytest.raises(KeyringError, match="prf is 'transformers-lcg64-v1' and nothing else"):
        Spec(scheme="synthid", prf=siphash.NAME)
    with pytest.raises(KeyringError, match="has no parameter 'prf'"):
        Spec(parameters=(("prf", siphash.NAME),))
    with pytest.raises(KeyringError, match="secret of 16 bytes, not 8"):
        Key("k", Key.imported("v", 1, Spec()).secret, SECURE, "imported")
