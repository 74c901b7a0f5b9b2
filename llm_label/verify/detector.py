"""The detector of one installation: its keys, its labels, its level, and the signature of its results."""

import hashlib
import math
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from typing import Any, BinaryIO

from llm_label import __version__
from llm_label.errors import InputError, KeyringError, SettingsError
from llm_label.verify.encoder import Encoder
from llm_label.verify.evidence import Evidence, gather
from llm_label.verify.heatmap import HeatMap, heatmaps
from llm_label.verify.long import BLOCK, Judged, blocks, is_short, joined
from llm_label.verify.report import coarse, to_dict
from llm_label.verify.source import open_source
from llm_label.verify.variants import VARIANTS
from llm_label.verify.verdict import Verdict, judge
from llm_label.verify.watermarks import encoded, watermarks
from llm_label.watermark.keyring import Keyring
from llm_label.watermark.segments import RULE
from llm_label.watermark.signature import SHORT, named

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
        self.signature = _signature(ring, self._known, alpha)

    def detect(self, source: bytes | str, *, declared: bool = False) -> Verdict:
        """Judge a file's bytes or a text. Raises InputError, KeyringError."""
        evidence = gather(source, self.ring, self._known, self.alpha, self._encoder)
        return self._judge(evidence, declared)

    def detect_file(self, head: bytes, rest: BinaryIO, *, declared: bool = False) -> Verdict:
        """Judge a file whose first bytes were read, `LIMIT` and one more: a long text in blocks and flat memory.

        Raises InputError, KeyringError.
        """
        if is_short(head):
            return self.detect(head, declared=declared)
        start, judged = 0, []
        for block in blocks(head, rest):
            judged.append(Judged(start, gather(block, self.ring, self._known, self.alpha, self._encoder)))
            start += len(block)
        return self._judge(joined(judged, self.alpha), declared, blocks=BLOCK)

    def detect_many(self, sources: Iterable[bytes | str], *, declared: bool = False) -> Iterator[Verdict]:
        """Judge inputs one by one, as they come; one that is no text is inconclusive, and its problem says why.

        All verdicts have the same signature. Alpha holds for each of them, not for all together.
        Raises KeyringError.
        """
        for source in sources:
            try:
                yield self.detect(source, declared=declared)
            except InputError as error:
                nothing = Evidence((), (str(error),), unread=True, too_little=True)
                yield self._judge(nothing, declared)

    def heatmaps(self, source: bytes | str, only: Collection[str] = ()) -> tuple[HeatMap, ...]:
        """Show the score of every token, under the keys of these ids; else those that found a mark, or the loudest."""
        opened = open_source(source, self._known)
        tests = watermarks(opened.texts, self.ring, self.alpha, self._encoder)
        readings = encoded(opened.texts, self.ring, self._encoder)
        return heatmaps(opened.texts, list(zip(self.ring.keys, tests, readings, strict=True)), only)

    def _judge(self, evidence: Evidence, declared: bool, **more: object) -> Verdict:
        """Draw the conclusion; what else decided it stands in the signature, before the package version."""
        told = more | ({"declared": "yes"} if declared else {})
        first, _, version = self.signature.rpartition("version:")
        added = "".join(f"{name}:{value}|" for name, value in told.items())
        return judge(evidence, f"{first}{added}version:{version}", declared=declared)

    def __call__(self, source: bytes | str, exact: bool) -> dict[str, Any]:
        """Return the verdict JSON: with every figure, or the coarse form for strangers."""
        if exact:
            return to_dict(self.detect(source))
        try:
            return coarse(self.detect(source))
        except KeyringError:  # it names keys and paths
            raise KeyringError("the detector's keyring cannot be used; the admin token shows the reason") from None


def _signature(ring: Keyring, known: Collection[str], alpha: float) -> str:
    """Name everything that changes a result, the package version last."""
    parts = {
        "alpha": repr(alpha),
        "correction": "bonferroni",
        "windows": RULE,
        "variants": ",".join(VARIANTS),
        "unicode": unicodedata.unidata_version,  # what is a letter, and how it composes
        "labels": hashlib.sha256("\0".join(sorted(known)).encode(errors="surrogatepass")).hexdigest()[:SHORT],
        **named(ring.keys, [key.spec for key in ring.keys]),
        "version": __version__,
    }
    return "|".join(f"{name}:{value}" for name, value in parts.items())
