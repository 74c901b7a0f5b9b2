"""The detector of one installation: its keys, its labels, its level, and the signature of its results."""

import math
from collections.abc import Collection
from typing import Any

from llm_label import __version__
from llm_label.errors import KeyringError, SettingsError
from llm_label.verify.encoder import Encoder
from llm_label.verify.evidence import gather
from llm_label.verify.report import coarse, to_dict
from llm_label.verify.variants import VARIANTS
from llm_label.verify.verdict import Verdict, judge
from llm_label.watermark.keyring import Keyring, Spec

__all__ = ["ALPHA", "Detector"]

ALPHA = 1e-6  # family-wise, for one input


class Detector:
    """Judge texts; one object may serve many threads."""

    def __init__(self, ring: Keyring, known: Collection[str], alpha: float = ALPHA) -> None:
        if not 0.0 < alpha < 1.0 or not math.isfinite(alpha):
            raise SettingsError(f"alpha is {alpha}; allowed: between 0 and 1, both excluded")
        self.ring, self.alpha = ring, alpha
        self._known = frozenset(known)
        self._encoder = Encoder()
        self.signature = _signature(ring, alpha)

    def detect(self, source: bytes | str, *, declared: bool = False) -> Verdict:
        """Judge a file's bytes or a text. Raises InputError, KeyringError."""
        evidence = gather(source, self.ring, self._known, self.alpha, self._encoder)
        return judge(evidence, self.signature, declared=declared)

    def __call__(self, source: bytes | str, exact: bool) -> dict[str, Any]:
        """Return the verdict JSON: with every figure, or the coarse form for strangers."""
        if exact:
            return to_dict(self.detect(source))
        try:
            return coarse(self.detect(source))
        except KeyringError:  # it names keys and paths
            raise KeyringError("the detector's keyring cannot be used; the admin token shows the reason") from None


def _signature(ring: Keyring, alpha: float) -> str:
    """Name everything that changes a result, the package version last."""
    specs = sorted({_scheme(key.spec) for key in ring.keys})
    tokenizers = sorted({k.spec.tokenizer or "unchecked" for k in ring.keys})
    parts = {
        "alpha": f"{alpha:g}",
        "correction": "bonferroni",
        "variants": ",".join(VARIANTS),
        "keys": ",".join(f"{k.fingerprint}.{k.spec.variety}" for k in ring.keys) or "none",
        "schemes": ",".join(specs) or "none",
        "tokenizers": ",".join(tokenizers) or "none",
        "version": __version__,
    }
    return "|".join(f"{name}:{value}" for name, value in parts.items())


def _scheme(spec: Spec) -> str:
    settings = "".join(f".{name}={value}" for name, value in spec.parameters)
    return f"{spec.scheme}.{spec.version}.{spec.prf}.w{spec.context_width}{settings}"
