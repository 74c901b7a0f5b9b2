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
from llm_label.watermark.schemes.select import Select
from llm_label.watermark.schemes.synthid import SynthID

__all__ = ["SCHEMES", "Conditional", "Parameter", "Scheme", "Worded", "parameters", "scheme"]

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
    def marks_greedy(self) -> bool: ...  # whether it also marks decoding that draws nothing: greedy, beams
    @property
    def once_per(self) -> Literal["context", "token"]:
        """Say what carries fresh randomness: each distinct context, or each distinct (context, token)."""

    def token_scores(self, key: int, contexts: Ids, tokens: Ids) -> npt.NDArray[np.float64]:
        """Score tokens [n] after contexts [n, h]; over random keys independent for distinct `once_per`."""

    def log10_tail(self, n: int, score: float) -> float:
        """Return log10 of the chance, without a mark, that n token scores add up to at least score."""

    def plausible(self, n: int) -> float:
        """Return the sum of scores to expect of n marked tokens of ordinary prose."""

    def __hash__(self) -> int: ...


@runtime_checkable
class Conditional(Protocol):
    """A scheme that can say more than `log10_tail` when it sees the tokens that were scored."""

    def log10_p(self, contexts: Ids, tokens: Ids, score: float) -> float:
        """Return log10 of the chance, over keys, that tokens [n] after contexts [n, h] score at least this much."""


@runtime_checkable
class Worded(Protocol):
    """A scheme that adds up scores of a PRF's words, and so can carry a payload."""

    def streams(self, key: int) -> tuple[tuple[float, int], ...]:
        """Return the weight and the key of each stream of words that it reads."""

    def scores(self, word: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
        """Score words [n] of one stream."""


SCHEMES: Mapping[str, type[Any]] = MappingProxyType(
    {"gumbel": Gumbel, "dual_gumbel": DualGumbel, "bernoulli": Bernoulli, "synthid": SynthID, "select": Select}
)


def parameters(name: str) -> tuple[str, ...]:
    """Return the names of a scheme's parameters; its mapping is none, for every spec names that."""
    return tuple(field.name for field in fields(SCHEMES[name]) if field.name != "prf")


def scheme(name: object, given: Mapping[str, Parameter], prf: str | None = None) -> Scheme:
    """Return a scheme with the given parameters, defaults for the rest. Raises KeyringError."""
    if not isinstance(name, str) or name not in SCHEMES:
        raise KeyringError(f"scheme {shown(name)} is not known; known: {', '.join(SCHEMES)}")
    known = parameters(name)
    for parameter in given:
        if parameter not in known:
            raise KeyringError(
                f"scheme {name!r} has no parameter {shown(parameter)}; known: {', '.join(known) or 'none'}"
            )
    chosen = {} if prf is None or prf == SCHEMES[name].prf else {"prf": prf}
    if chosen and "prf" not in (field.name for field in fields(SCHEMES[name])):
        raise KeyringError(f"scheme {name!r}: prf is {SCHEMES[name].prf!r} and nothing else, not {shown(prf)}")
    made: Scheme = SCHEMES[name](**given, **chosen)
    return made


@lru_cache(maxsize=1024)
def cached(name: str, given: tuple[tuple[str, Parameter], ...], prf: str) -> Scheme:
    """Return the scheme of a checked spec."""
    return scheme(name, dict(given), prf)
