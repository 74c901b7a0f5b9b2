"""Labels, AIGC records and watermarks for LLM text, and their detection.

The public names load on first use, so that `import llm_label` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_label.errors import LabelError
    from llm_label.labels.labeler import Labeler, Labels
    from llm_label.metadata.aigc import Record
    from llm_label.verify.detector import Detector
    from llm_label.verify.verdict import Verdict
    from llm_label.watermark.keyring import Key, Keyring, Spec
    from llm_label.watermark.scan import Scan, scan

__version__ = "0.1.0"

_HOMES = {
    "Detector": "verify.detector",
    "Key": "watermark.keyring",
    "Keyring": "watermark.keyring",
    "LabelError": "errors",
    "Labeler": "labels.labeler",
    "Labels": "labels.labeler",
    "Record": "metadata.aigc",
    "Scan": "watermark.scan",
    "Spec": "watermark.keyring",
    "Verdict": "verify.verdict",
    "scan": "watermark.scan",
}

__all__ = [
    "Detector",
    "Key",
    "Keyring",
    "LabelError",
    "Labeler",
    "Labels",
    "Record",
    "Scan",
    "Spec",
    "Verdict",
    "__version__",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
