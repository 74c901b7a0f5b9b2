"""What a key needs to be read years later, beside its secret."""

import re
from dataclasses import dataclass, fields

from llm_label.errors import KeyringError
from llm_label.watermark.schemes import SCHEMES, Parameter, Scheme, Worded, cached, parameters, scheme
from llm_label.watermark.schemes.parameters import shown

__all__ = ["MOST_PAYLOAD_BITS", "VARIETIES", "Spec", "is_line"]

VARIETIES = ("default", "none")
MOST_PAYLOAD_BITS = 16  # 65,536 candidates; more are better spelled out in headers and logs
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """Hold all that detection needs beside the secret; a change of arithmetic is a new version."""

    scheme: str = "gumbel"
    # the scheme's own; a mapping is taken too, and what it leaves out gets the scheme's default
    parameters: tuple[tuple[str, Parameter], ...] = ()
    version: int = None  # type: ignore[assignment]  # None: the scheme's, here and below
    prf: str = None  # type: ignore[assignment]
    context_width: int = None  # type: ignore[assignment]
    prompt_in_context: bool = False
    variety: str = "default"
    payload_bits: int = 0  # how many bits a text may carry beside the mark
    tokenizer: str | None = None  # tokenizer_digest()
    tokenizer_path: str | None = None  # of its tokenizer.json, or what a scheme that needs none counts instead

    def __post_init__(self) -> None:
        rules = scheme(self.scheme, dict(self.parameters), self.prf)
        filled = tuple((name, getattr(rules, name)) for name in parameters(self.scheme))
        object.__setattr__(self, "parameters", filled)
        for name in ("version", "prf", "context_width", "prompt_in_context"):
            given, fixed = getattr(self, name), getattr(rules, name, False)
            if given is None:
                object.__setattr__(self, name, fixed)
            elif given != fixed or type(given) is not type(fixed):  # True == 1 == 1.0
                raise KeyringError(
                    f"scheme {self.scheme!r}: {name} is {fixed!r} in this release of llm-label, not "
                    f"{shown(given)}; use the release that made the key"
                )
        if self.variety not in VARIETIES:
            raise KeyringError(f"variety {shown(self.variety)} is not known; use one of: {', '.join(VARIETIES)}")
        _check_payload_bits(self.payload_bits, rules)
        if (units := getattr(rules, "units", None)) is not None:
            if self.tokenizer is not None or self.tokenizer_path not in (None, units):
                raise KeyringError(f"scheme {self.scheme!r} counts {units} and no tokens; leave the tokenizer out")
            object.__setattr__(self, "tokenizer_path", units)
        if self.tokenizer is not None and not DIGEST.fullmatch(str(self.tokenizer)):
            raise KeyringError(f'tokenizer {shown(self.tokenizer)} is not a digest of the form "sha256:" + 64 hex')
        if not is_line(self.tokenizer_path):
            raise KeyringError(f"tokenizer_path {shown(self.tokenizer_path)} is not a text of printable characters")

    @property
    def counted_in(self) -> str:
        """Name what texts are cut into: a tokenizer's digest, or the scheme's own units."""
        return self.tokenizer or getattr(self.rules, "units", None) or "unchecked"

    @property
    def rules(self) -> Scheme:
        """Return the scheme with this spec's parameters."""
        return cached(self.scheme, self.parameters, self.prf)

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form; `parameters` and `payload_bits` only where there are some."""
        plain: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("parameters", "payload_bits"):
            if not plain[name]:
                del plain[name]
        return plain | ({"parameters": dict(self.parameters)} if self.parameters else {})


def _check_payload_bits(bits: object, rules: Scheme) -> None:
    if type(bits) is not int or not 0 <= bits <= MOST_PAYLOAD_BITS:
        raise KeyringError(f"payload_bits is a whole number from 0 to {MOST_PAYLOAD_BITS}, not {shown(bits)}")
    if bits and not isinstance(rules, Worded):
        carriers = ", ".join(name for name, made in SCHEMES.items() if issubclass(made, Worded))
        raise KeyringError(f"scheme {rules.name!r} carries no payload; schemes that do: {carriers}")


def is_line(value: object) -> bool:
    """Tell whether a value is absent, or a text of printable characters."""
    return value is None or (isinstance(value, str) and value.isprintable())
