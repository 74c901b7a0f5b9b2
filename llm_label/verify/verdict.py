"""From evidence to a verdict: the three states of Measures Art. 6, and two honest ones.

A record that expressly says generated confirms; a declaration (or a record that says "may be") makes it
possible; every other trace, however strong, makes it suspected. Not finding a mark says nothing about who
wrote a text.
"""

from dataclasses import dataclass
from types import MappingProxyType

from llm_label.verify.evidence import Evidence
from llm_label.verify.findings import Finding, RecordMark, WatermarkTest

__all__ = ["LABELS", "WORDING", "Verdict", "judge"]

LABELS = MappingProxyType(
    {"confirmed": "1", "possible": "2", "suspected": "3", "not_found": None, "inconclusive": None}
)

WORDING = MappingProxyType(
    {
        "confirmed": {
            "zh": "属于人工智能生成合成内容（元数据已明确标明）",
            "en": "This is AI-generated content: its metadata expressly says so.",
        },
        "possible": {
            "zh": "可能为人工智能生成合成内容（已声明，或元数据标明可能如此）",
            "en": "This may be AI-generated content: it was declared, or its record says that it may be.",
        },
        "suspected": {
            "zh": "疑似人工智能生成合成内容（检测到标识或其他痕迹）",
            "en": "Suspected AI-generated content: marks or other traces were found.",
        },
        "not_found": {
            "zh": "未发现标识；不能据此判断内容由谁生成",
            "en": "No mark was found. That says nothing about who or what wrote the text.",
        },
        "inconclusive": {
            "zh": "无法判断：可供检测的文本过少，或有部分内容无法读取",
            "en": "Inconclusive: there is too little text to show a mark, or a part could not be read.",
        },
    }
)


@dataclass(frozen=True)
class Verdict:
    """One of five states with everything it rests on."""

    verdict: str
    evidence: tuple[Finding, ...]
    signature: str
    problems: tuple[str, ...] = ()

    @property
    def label(self) -> str | None:
        """Return the `Label` that a platform may write: "1", "2", "3" or none."""
        return LABELS[self.verdict]

    @property
    def wording(self) -> dict[str, str]:
        return dict(WORDING[self.verdict])


def judge(evidence: Evidence, signature: str, *, declared: bool = False) -> Verdict:
    """Draw the conclusion; `declared`: the user says that the text is generated (Art. 6 (2))."""
    return Verdict(_state(evidence, declared), evidence.findings, signature, evidence.problems)


def _state(evidence: Evidence, declared: bool) -> str:
    said = {
        f.record.label for f in evidence.findings if isinstance(f, RecordMark) and f.placed and f.record is not None
    }
    if "1" in said:
        return "confirmed"
    if declared or "2" in said:
        return "possible"
    if any(_is_trace(finding) for finding in evidence.findings):
        return "suspected"
    return "inconclusive" if evidence.unread or evidence.too_little else "not_found"


def _is_trace(finding: Finding) -> bool:
    if isinstance(finding, WatermarkTest):
        return finding.decision == "marked"
    return not isinstance(finding, RecordMark) or finding.record is not None
