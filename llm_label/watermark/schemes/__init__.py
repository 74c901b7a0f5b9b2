"""Watermark schemes by name; each file holds one, a frozen dataclass whose fields are its parameters.

A further scheme is one more file and one more entry of SCHEMES. What all keys share (secrets, de-duplication,
correction, decisions) asks a scheme for nothing but what `Scheme` lists.
"""

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from llm_label.errors import KeyringError
from llm_label.watermark.schemes.bernoulli import Bernoulli
from llm_label.watermark.schemes.dual_gumbel import DualGumbel
from llm_label.watermark.schemes.gumbel import Gumbel
from llm_label.watermark.schemes.parameters import shown
from llm_label.watermark.schemes.synthid import SynthID

__all__ = ["SCHEMES", "Conditional", "Parameter", "Scheme", "parameters", "scheme"]

Parameter: TypeAlias = float | int | str
Ids: TypeAlias = npt.NDArray[np.int64]


class Scheme(Protocol):
    """A scheme with its parameters filled in; raises KeyringError when made with wrong ones."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...  # a change of arithmetic is a new version
    @property
    def prf(self) -> str: ...
    @property
    def context_width(self) -> int: ...
    @property
    def key_bytes(self) -> int: ...  # of the scheme key, which is one big-endian number
    @property
    def vllm(self) -> str | None: ...  # the algorithm of vLLM that uses the same 64-bit key
    @property
    def distorts(self) -> bool: ...  # whether it changes the distribution that tokens are drawn from
    @property
    def once_per(self) -> Literal["context", "token"]:
        """Say what carries fresh randomness: each distinct context, or each distinct (context, token)."""

    def token_scores(self, key: int, contexts: Ids, tokens: Ids) -> npt.NDArray[np.float64]:
        """Score tokens [n] after contexts [n, h]; over random keys independent for distinct `once_per`."""

    def log10_tail(self, n: int, score: float) -> float:
        """Return log10 of the chance, without a mark, that n token scores add up to at least score."""

    def plausible(self, n: int) -> float:
        """Return the sum of scores to expect of n marked tokens of ordinary prose."""


@runtime_checkable
class Conditional(Protocol):
    """A scheme that can say more than `log10_tail` when it sees the tokens that were scored."""

    def log10_p(self, contexts: Ids, tokens: Ids, score: float) -> float:
        """Return log10 of the chance, over keys, that tokens [n] after contexts [n, h] score at least this much."""


SCHEMES: Mapping[str, type[Any]] = MappingProxyType(
    {"gumbel": Gumbel, "dual_gumbel": DualGumbel, "bernoulli": Bernoulli, "synthid": SynthID}
)


def parameters(name: str) -> tuple[str, ...]:
    """Return the names of a scheme's parameters."""
    return tuple(field.name for field in fields(SCHEMES[name]))


def scheme(name: object, given: Mapping[str, Parameter]) -> Scheme:
    """Return a scheme with the given parameters, defaults for the rest. Raises KeyringError."""
    if not isinstance(name, str) or name not in SCHEMES:
        raise KeyringError(f"scheme {shown(name)} is not known; known: {', '.join(SCHEMES)}")
    known = parameters(name)
    for parameter in given:
        if parameter not in known:
            raise KeyringError(
                f"scheme {name!r} has no parameter {shown(parameter)}; known: {', '.join(known) or 'none'}"
            )
    made: Scheme = SCHEMES[name](**given)
    return made


@lru_cache(maxsize=1024)
def cached(name: str, given: tuple[tuple[str, Parameter], ...]) -> Scheme:
    """Return the scheme of a checked spec."""
    return scheme(name, dict(given))
