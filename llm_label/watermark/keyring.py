"""Secrets, the specs needed to detect with them years later, and the ring that holds them.

Nothing here reads files, clocks or random sources: the caller passes bytes in and writes what comes out. A
secret leaves this module only through `scheme_key`, `reveal` and `Keyring.dumps`; no repr, error or pickle
shows it.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal, TypeAlias, get_args

import orjson
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from llm_label.errors import KeyringError
from llm_label.watermark.prf import PRFS, Stream
from llm_label.watermark.schemes import Worded
from llm_label.watermark.schemes.parameters import shown
from llm_label.watermark.secret import Secret
from llm_label.watermark.spec import VARIETIES, Spec, is_line

__all__ = ["VARIETIES", "Key", "Keyring", "Secret", "Spec", "tokenizer_digest"]

Origin: TypeAlias = Literal["root", "derived", "imported"]

FORMAT = 1
ROOT_BYTES = 32
LONGEST_NAME = 200  # characters, of a payload
DECISIVE = ("scheme", "version", "prf", "context_width", "prompt_in_context", "variety")  # what every spec says
# An id is published; 64 hex digits would be a root key at the wrong place.
ID = re.compile(r"(?![0-9a-fA-F]{64}\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Key:
    """Hold one secret with its spec: a root of 32 bytes, or a bare scheme key (derived, imported; mostly of 8).

    `payload` is what this copy writes and reads, and is part of no file; see `carrying`. `payloads` names some of
    those that its texts may carry.
    """

    id: str
    secret: Secret = field(repr=False)
    spec: Spec
    origin: Origin = "root"
    created: str | None = None
    payloads: tuple[tuple[int, str], ...] = ()
    payload: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not ID.fullmatch(self.id):
            raise KeyringError(
                f"key id {shown(self.id)} is not allowed; use 1 to 64 of A-Z a-z 0-9 . _ - (not . _ - first)"
            )
        if self.origin not in get_args(Origin):
            known = ", ".join(get_args(Origin))
            raise KeyringError(f"key {self.id!r}: origin {shown(self.origin)} is not one of {known}")
        wanted = ROOT_BYTES if self.origin == "root" else self.spec.rules.key_bytes
        if len(self.secret) != wanted:
            raise KeyringError(
                f"key {self.id!r}: a {self.origin} key has a secret of {wanted} bytes, not {len(self.secret)}"
            )
        for payload, name in ((self.payload, "payload"), *self.payloads):
            self._check_payload(payload, name)
        object.__setattr__(self, "payloads", tuple(sorted(dict(self.payloads).items())))

    def _check_payload(self, payload: object, name: object) -> None:
        most = 2**self.spec.payload_bits - 1
        if type(payload) is not int or not 0 <= payload <= most:
            allowed = f"a whole number from 0 to {most}" if most else "only 0, for its spec has no payload_bits"
            raise KeyringError(f"key {self.id!r}: payload {shown(payload)} is not possible; allowed: {allowed}")
        if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
            raise KeyringError(
                f"key {self.id!r}: the name {shown(name)} of payload {payload} is not a text of 1 to {LONGEST_NAME} "
                "printable characters"
            )

    @classmethod
    def new(cls, id: str, random: bytes, spec: Spec, created: str | None = None) -> "Key":
        """Make a root key from 32 random bytes that the caller drew."""
        return cls(id, Secret(random), spec, "root", created)

    @classmethod
    def imported(cls, id: str, key: int, spec: Spec, created: str | None = None) -> "Key":
        """Take over a key that an engine already uses (vLLM's 64-bit `key`, best with variety="none")."""
        size = spec.rules.key_bytes
        if type(key) is not int or not 0 <= key < 2 ** (8 * size):
            raise KeyringError(f"key {id!r}: an imported key is a whole number from 0 to 2^{8 * size} - 1")
        return cls(id, Secret(key.to_bytes(size, "big")), spec, "imported", created)

    def for_auditor(self, *, names: bool = False) -> "Key":
        """Return a copy that detects just as well and does not hold the root; `names`: of its payloads, too."""
        secret = Secret(self.scheme_key().to_bytes(self.spec.rules.key_bytes, "big"))
        return replace(self, secret=secret, origin="derived", payload=0, payloads=self.payloads if names else ())

    def carrying(self, payload: int) -> "Key":
        """Return a copy that writes, and reads, this payload. Raises KeyringError for one that does not fit."""
        return self if payload == self.payload else replace(self, payload=payload)

    def naming(self, payload: int, name: str) -> "Key":
        """Return a copy that knows the name of what writes this payload. Raises KeyringError."""
        return replace(self, payloads=(*self.payloads, (payload, name)))

    def name_of(self, payload: int) -> str | None:
        return dict(self.payloads).get(payload)

    def streams(self) -> tuple[Stream, ...]:
        """Return the streams of words that a scheme of this kind writes with, for this copy's payload."""
        rules = self.spec.rules
        if not isinstance(rules, Worded):
            raise TypeError(f"scheme {self.spec.scheme!r} reads no words")
        return tuple(Stream(PRFS[rules.prf], key, self.payload) for _, key in rules.streams(self.scheme_key()))

    def scheme_key(self) -> int:
        """Return the key of the scheme: HKDF-SHA256 of the root, or the bare key itself."""
        value = self.secret.reveal()
        if self.origin != "root":
            return int.from_bytes(value, "big")
        info = f"llm-label watermark {self.spec.scheme} {self.spec.version} {self.spec.prf}".encode()
        derived = HKDF(algorithm=SHA256(), length=self.spec.rules.key_bytes, salt=None, info=info).derive(value)
        return int.from_bytes(derived, "big")

    @property
    def fingerprint(self) -> str:
        """Return 16 hex digits that name the scheme key and may be published; equal for root and auditor."""
        named = "".join(f" {name}={value}" for name, value in self.spec.parameters)
        label = f"llm-label key fingerprint {self.spec.scheme} {self.spec.version} {self.spec.prf}{named}".encode()
        return hashlib.sha256(label + self.scheme_key().to_bytes(self.spec.rules.key_bytes, "big")).hexdigest()[:16]

    def reveal(self) -> str:
        """Return the secret as hex digits; only for the operator's own eyes."""
        return self.secret.reveal().hex()


@dataclass(frozen=True)
class Keyring:
    """Hold keys by id, in the order of their file."""

    keys: tuple[Key, ...] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for key in self.keys:
            if key.id in seen:
                raise KeyringError(f"key id {key.id!r} stands in the keyring twice; every id must be its own")
            seen.add(key.id)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(key.id for key in self.keys)

    def get(self, id: str) -> Key:
        """Return the key of that id, or raise KeyringError naming the known ones."""
        for key in self.keys:
            if key.id == id:
                return key
        known = ", ".join(self.ids) if self.keys else "none; make one with `llm-label keys new`"
        raise KeyringError(f"key {id!r} is not in the keyring; known: {known}")

    def with_key(self, key: Key) -> "Keyring":
        """Return a ring that also holds this key."""
        return Keyring((*self.keys, key))

    def replacing(self, key: Key) -> "Keyring":
        """Return a ring that holds this key in place of the one of the same id."""
        return Keyring(tuple(key if old.id == key.id else old for old in self.keys))

    @classmethod
    def parse(cls, text: str | bytes) -> "Keyring":
        """Read a keyring file's JSON; raise KeyringError with one line that never holds a secret."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):  # its own message could quote the file
            raise KeyringError("the keyring is not JSON; expected what `llm-label keys new` writes") from None
        if not isinstance(data, dict) or data.get("llm_label_keyring") != FORMAT:
            raise KeyringError(f'the keyring does not say "llm_label_keyring": {FORMAT}, the known format')
        _known(data, ("llm_label_keyring", "keys"), "the keyring")
        entries = data.get("keys")
        if not isinstance(entries, list):
            raise KeyringError('the keyring lacks "keys", a list')
        return cls(tuple(_parse_key(entry, n) for n, entry in enumerate(entries, start=1)))

    def dumps(self) -> str:
        """Return the keyring file's JSON, secrets included: write it with mode 0600."""
        entries = [
            {
                "id": key.id,
                "origin": key.origin,
                "created": key.created,
                "secret": key.reveal(),
                "spec": key.spec.to_dict(),
            }
            | ({"payloads": {str(payload): name for payload, name in key.payloads}} if key.payloads else {})
            for key in self.keys
        ]
        return json.dumps({"llm_label_keyring": FORMAT, "keys": entries}, indent=2) + "\n"


def _parse_key(entry: object, n: int) -> Key:
    if not isinstance(entry, dict):
        raise KeyringError(f"key {n} of the keyring is not an object")
    id = entry.get("id")
    name = f"key {id!r}" if isinstance(id, str) and ID.fullmatch(id) else f"key {n} of the keyring"
    _known(entry, ("id", "origin", "created", "secret", "spec", "payloads"), name)
    for needed in ("id", "origin"):
        if entry.get(needed) is None:
            raise KeyringError(f"{name} lacks {needed!r}; `llm-label keys new` writes it")
    spec = entry.get("spec")
    if not isinstance(spec, dict):
        raise KeyringError(f'{name} lacks "spec", an object')
    _known(spec, [f.name for f in fields(Spec)], f"the spec of {name}")
    for decisive in DECISIVE:
        if spec.get(decisive) is None:  # a default may change; detection must not
            raise KeyringError(f"the spec of {name} lacks {decisive!r}; `llm-label keys new` writes it")
    parameters = spec.get("parameters", {})
    if not isinstance(parameters, dict):
        raise KeyringError(f'the spec of {name}: "parameters" is not an object')
    created = entry.get("created")
    if not is_line(created):
        raise KeyringError(f'{name}: "created" is not a text of printable characters')
    secret = Secret(_parse_secret(entry.get("secret"), name))
    read = Spec(**spec)
    for parameter, _ in read.parameters:
        if parameter not in parameters:
            raise KeyringError(f"the spec of {name} lacks the parameter {parameter!r} of scheme {read.scheme!r}")
    payloads = _parse_payloads(entry.get("payloads", {}), name)
    return Key(str(id) if isinstance(id, str) else "", secret, read, entry["origin"], created, payloads)


def _parse_payloads(value: object, name: str) -> tuple[tuple[int, str], ...]:
    """Read {"17": "a name"}; the key checks range and name."""
    if not isinstance(value, dict) or not all(re.fullmatch(r"0|[1-9][0-9]{0,4}", payload) for payload in value):
        raise KeyringError(f'{name}: "payloads" is not an object of whole numbers, as texts, with their names')
    return tuple((int(payload), given) for payload, given in value.items())


def _parse_secret(value: object, name: str) -> bytes:
    if value is None:
        raise KeyringError(f'{name} lacks "secret"')
    if isinstance(value, str) and re.fullmatch(r"(?:[0-9a-fA-F]{2})+", value):
        return bytes.fromhex(value)
    raise KeyringError(f"{name}: the secret is not hexadecimal; expected 64 hex digits for a root key, 16 else")


def _known(entry: Mapping[str, object], names: Iterable[str], where: str) -> None:
    names = list(names)
    for name in entry:
        if name not in names:
            raise KeyringError(f"{where} has an unknown field {shown(name)}; known: {', '.join(names)}")


def tokenizer_digest(tokenizer_json: bytes) -> str:
    """Digest what decides token ids in a tokenizer.json, whatever its formatting or age.

    Taken: model, added tokens, normalizer, pre-tokenizer. Left out: post-processor, decoder, truncation and
    padding, which detection does not use. Merges count the same as "a b" and as ["a", "b"]; a model setting
    that is null or false counts as absent, its default in every model of the tokenizers library.
    """
    try:
        data = orjson.loads(tokenizer_json)
    except orjson.JSONDecodeError:
        raise KeyringError("the tokenizer file is not JSON; expected a tokenizer.json") from None
    if not isinstance(data, dict) or not isinstance(data.get("model"), dict):
        raise KeyringError('the tokenizer file has no "model"; expected a tokenizer.json')
    model = {name: value for name, value in data["model"].items() if value is not None and value is not False}
    if isinstance(model.get("merges"), list):
        model["merges"] = [m.split(" ", 1) if isinstance(m, str) else m for m in model["merges"]]
    added = data.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(token, dict) for token in added):
        raise KeyringError('"added_tokens" of the tokenizer file is no list of objects; expected a tokenizer.json')
    added.sort(key=lambda token: str(token.get("id")))
    content = {
        "model": model,
        "added_tokens": added,
        "normalizer": data.get("normalizer"),
        "pre_tokenizer": data.get("pre_tokenizer"),
    }
    try:
        canonical = orjson.dumps(content, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:
        raise KeyringError("the tokenizer file is nested too deep; expected a tokenizer.json") from None
    return "sha256:" + hashlib.sha256(canonical).hexdigest()
