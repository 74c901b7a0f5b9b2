"""Who calls, and what the operator lets that client choose.

A client is known by the SHA-256 of its key. Plain SHA-256 is right here and a slow password hash is not: keys are
random, 128 bits or more, so there is no dictionary to try, and every request would pay for the slowness. `new_key`
makes such keys and `digest_of` refuses weaker ones.

Without `[[clients]]` everybody is human traffic, and `Authorization` belongs to the upstream.
"""

import hashlib
import math
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from llm_label.errors import ClientError, InputError, NotAllowed, NotAuthorized, SettingsError
from llm_label.labels.wording import LANGUAGES, POSITIONS
from llm_label.policy import OUR_HEADERS, Caller, known_language
from llm_label.settings import Settings

__all__ = ["HEADER", "Clients", "Wish", "digest_of", "new_key", "read_wish"]

HEADER = "X-LLM-Label-Request"
KEY_HEADERS = ("authorization", "x-api-key", "api-key")  # OpenAI, Anthropic, Azure
PREFIX = "llk-"  # lets secret scanners find a key that was published
LEAST_BITS = 128
TRAFFIC = ("human", "machine")

# RFC 9651 3.2: a dictionary, of which tokens and inner lists of tokens are all that is needed here.
_TOKEN = r"[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]*"
_MEMBER = re.compile(rf"(traffic|label|language)=(?:({_TOKEN})|\( *(?:({_TOKEN}(?: +{_TOKEN})*) *)?\))")


@dataclass(frozen=True)
class Wish:
    """What a request header asks for; None: nothing."""

    traffic: str | None = None
    label: tuple[str, ...] | None = None
    language: str | None = None


@dataclass(frozen=True)
class _Terms:
    """What one client gets when it asks for nothing, and what it may ask for."""

    caller: Caller
    traffic: tuple[str, ...] = ("human",)
    positions: tuple[str, ...] = ()  # what its answers get
    positions_allowed: tuple[str, ...] = ()


class Clients:
    """The operator's clients; checked once, then asked for every request."""

    def __init__(self, settings: Settings) -> None:
        labels = settings.labels
        self._language = labels.language
        everybody = Caller(structured=labels.structured)
        self._everybody = None if settings.clients else _Terms(everybody, positions=labels.positions)
        # Found by a MAC under a secret of this process: how long a look-up takes tells nothing about a key.
        self._mac_key = secrets.token_bytes(32)
        self._terms: dict[bytes, _Terms] = {}
        names: set[str] = set()
        for client in settings.clients:
            if client.name in names:
                raise SettingsError(f"clients: the name {client.name!r} stands twice")
            names.add(client.name)
            known_language(client.language or "auto", f"clients: language of {client.name!r}")
            caller = Caller(
                name=client.name,
                traffic=client.traffic[0],
                positions=_ordered(client.positions) if client.positions else None,
                language=client.language,
                structured=client.structured or labels.structured,
                withheld=OUR_HEADERS.union(KEY_HEADERS),
            )
            terms = _Terms(caller, client.traffic, client.positions or labels.positions, client.positions_allowed)
            for digest in map(bytes.fromhex, client.key_sha256):
                if self._mac(digest) in self._terms:
                    raise SettingsError(f"clients: a key of {client.name!r} stands twice; every client has its own")
                self._terms[self._mac(digest)] = terms

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Say whose request it is. Raises NotAuthorized, NotAllowed, ClientError."""
        terms = self._everybody or self._known(headers)
        asked = headers.get(HEADER)
        return terms.caller if asked is None else self._granted(terms, asked)

    def _known(self, headers: Mapping[str, str]) -> _Terms:
        given = [key for name in KEY_HEADERS if (key := _key(name, headers.get(name, "")))]
        for key in given:
            digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
            if terms := self._terms.get(self._mac(digest)):
                return terms
        if given:
            raise NotAuthorized("this API key is not known here; ask the operator of this server for one")
        raise NotAuthorized("an API key is needed: send it as Authorization: Bearer KEY, or as x-api-key or api-key")

    def _mac(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._mac_key, digest_size=32).digest()

    def _granted(self, terms: _Terms, header: str) -> Caller:
        """Apply a request header. Raises NotAllowed naming what is allowed."""
        wish, caller = read_wish(header), terms.caller
        if wish.traffic is not None:
            if wish.traffic not in terms.traffic:
                raise _refused(caller, f"traffic={wish.traffic}", f"traffic={' or '.join(terms.traffic)}")
            caller = replace(caller, traffic="machine" if wish.traffic == "machine" else "human")
        if wish.label is not None and set(wish.label) != set(terms.positions):
            if not wish.label or not set(wish.label) <= set(terms.positions_allowed):
                raise _refused(caller, f"label=({' '.join(wish.label)})", _choice(terms))
            caller = replace(caller, positions=wish.label)
        if wish.language is not None:
            fixed = caller.language or self._language
            if fixed not in ("auto", wish.language):
                raise _refused(caller, f"language={wish.language}", f"language={fixed}")
            caller = replace(caller, language=wish.language)
        return replace(caller, asked=" ".join(header.split()))


def read_wish(header: str) -> Wish:
    """Read `traffic=machine, label=(start end), language=zh`, any of them. Raises ClientError."""
    found: dict[str, tuple[str, ...]] = {}
    lists: set[str] = set()
    for part in header.strip(" ").split(","):
        match = _MEMBER.fullmatch(part.strip(" \t"))
        if match is None or match[1] in found:
            raise _malformed(f"{part.strip()[:80]!r} cannot be read")
        found[match[1]] = (match[2],) if match[2] else tuple((match[3] or "").split())
        if not match[2]:
            lists.add(match[1])
    known = {"traffic": TRAFFIC, "label": POSITIONS, "language": ("auto", *LANGUAGES)}
    for name, values in found.items():
        if unknown := [value for value in values if value not in known[name]]:
            raise _malformed(f"{name} {unknown[0][:40]!r} is not known; known: {', '.join(known[name])}")
    if wrong := lists - {"label"}:
        raise _malformed(f"{min(wrong)} takes one value, without parentheses")
    return Wish(
        traffic=found["traffic"][0] if "traffic" in found else None,
        label=_ordered(found["label"]) if "label" in found else None,
        language=found["language"][0] if "language" in found else None,
    )


def new_key() -> str:
    """Make a key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def digest_of(key: str) -> str:
    """Return the `key_sha256` of an existing key. Raises InputError for one that could be guessed."""
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise InputError("a client key is one line of ASCII without blanks")
    if (bits := _bits(key)) < LEAST_BITS:
        raise InputError(
            f"this key has room for {bits:.0f} random bits at most, {LEAST_BITS} are needed (22 random letters and "
            "digits, or 32 hexadecimal digits); make one with: llm-label keys client NAME"
        )
    return hashlib.sha256(key.encode()).hexdigest()


def _bits(key: str) -> float:
    """Bound the entropy of a key from above: as if each character were drawn from the smallest usual alphabet."""
    key = re.sub(r"[-_]", "", key)
    if len(set(key)) < 8:
        return 0.0
    alphabets = (r"[0-9]+", r"[0-9a-fA-F]+", r"[0-9A-Za-z]+", r".+")
    sizes = dict(zip(alphabets, (10, 16, 62, 94), strict=True))
    return len(key) * math.log2(next(sizes[a] for a in alphabets if re.fullmatch(a, key)))


def _key(name: str, value: str) -> str:
    """Return the key that a header holds, an empty text when it holds none."""
    if name != "authorization":
        return value.strip()
    scheme, _, key = value.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _ordered(positions: Iterable[str]) -> tuple[str, ...]:
    given = set(positions)
    return tuple(position for position in POSITIONS if position in given)


def _choice(terms: _Terms) -> str:
    def shown(positions: Sequence[str]) -> str:
        return f"label=({' '.join(_ordered(positions))})"

    if not terms.positions_allowed:
        return shown(terms.positions)
    return f"{shown(terms.positions)} or any of {', '.join(_ordered(terms.positions_allowed))}"


def _refused(caller: Caller, wish: str, allowed: str) -> NotAllowed:
    who = f"client {caller.name!r}" if caller.name else "clients of this server"
    return NotAllowed(f"{HEADER}: {wish} is not allowed for {who}; allowed: {allowed}")


def _malformed(what: str) -> ClientError:
    return ClientError(f"{HEADER}: {what}; an example: traffic=human, label=(start end), language=en")
