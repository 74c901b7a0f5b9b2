"""Find visible labels in any text: ours where we write them, others' by the element rule of GB 45438 5.1.

A foreign label is a line of its own near the head or the tail that says nothing but that AI generated this: not
code, not a quotation, not a heading, and not a sentence about AI, which would go on to say something else.
"""

import re
from collections.abc import Collection, Iterator
from itertools import accumulate
from typing import NamedTuple

from llm_label.labels.imprint import Imprint, imprints
from llm_label.labels.markdown import BLANKS, START, step
from llm_label.labels.wording import LONGEST, all_wordings, elements

__all__ = ["Found", "find"]


class Found(NamedTuple):
    """A visible label. Without `text[start:end]` both sides rejoin as they were written."""

    position: str
    text: str
    start: int
    end: int
    own: bool


_WINDOW_LINES = 3
_WINDOW = 600  # characters from either end

_BUILT_IN = frozenset(text.casefold() for text in all_wordings())
_TAGS = re.compile(r"</?[A-Za-z][^<>]*>")
_DECORATION = " \t\r\u3000\ufe0f\u200d*_~=#|<>()（）[]【】「」『』《》〔〕\"“”'‘’-–—―•·●◆★☆✨⚠ℹ🤖💡📝.。!！:："
_JOINTS = re.compile(r"\s*[·|/•｜]\s*")
_LEAD_IN = re.compile(
    r"(?:温馨提示|特别提示|提示|注意|注|说明|免责声明|声明|备注|disclaimer|note|notice)\s*[:：]\s*", re.I
)

_CHINESE = re.compile(
    r"(?:以上|以下|上述|本|此|该|这|部分|全部|所有)*(?:回答|内容|文本|文章|文字|答案|回复|结果|信息|文案|文稿|文|资料"
    r"|报告|材料|段|篇|条|次|页|页面|消息|摘要|总结)*"
    r"(?:可能|均|皆|都|全部|部分|完全)*(?:系|是|为)?(?:(?:由|使用|利用|借助|通过|经)[^，。；、]{0,12}?)?"
    r"(?:生成式)?(?:AI|人工智能|人工智慧)(?:大?语?言?模型|助手|技术|工具|算法|系统|服务|程序|机器人)?"
    r"(?:自动|辅助|协助|智能|所|进行)*(?:生成|合成)+(?:的)?(?:回答|内容|文本|文章|文字|答案|回复|结果|信息|摘要)?"
)
_JAPANESE = re.compile(
    r"(?:この|本|以下の|上記の)?(?:回答|内容|文章|テキスト|コンテンツ|記事|応答)?(?:は|が)?、?(?:生成)?(?:AI|人工知能)"
    r"(?:モデル)?(?:によって|により|による|が|で)?(?:自動)?(?:生成|作成)(?:した|された)?(?:もの|コンテンツ|文章|内容|回答)?"
    r"(?:されました|されています|しました|です|である)?"
)
_KIND = r"(?:content|text|answer|response|article|message|reply|output|post|page|summary|document|report|information)"
_ENGLISH = re.compile(
    rf"(?:(?:this|the|all)?\s*(?:above|following|entire)?\s*{_KIND}?\s*(?:above|below)?\s*"
    r"(?:is|was|are|were|has been|may be|may have been)?\s*)?(?:(?:partly|partially|fully|entirely|automatically)\s+)?"
    r"(?:(?:AI|artificial intelligence)[-\s]*(?:generated|created|synthesi[sz]ed)"
    rf"(?:\s+{_KIND})?(?:\s+by\s+[^,.;]{{1,30}})?"
    r"|(?:generated|created|synthesi[sz]ed)\s+(?:automatically\s+)?(?:by|with|using)\s+(?:an?\s+)?(?:generative\s+)?"
    r"(?:AI|artificial intelligence)(?:\s+(?:model|assistant|system|tool|language model))?)",
    re.I,
)
_SENTENCES = (_CHINESE, _JAPANESE, _ENGLISH)
_SPELLED_OUT = ("zh", "ja", "en")
_CAUTION = re.compile(
    "参考|甄别|核实|核对|辨别|鉴别|注意|谨慎|准确|判断|错误|代表|构成|参照|確認|正確"
    r"|check|verif|accura|error|mistake|caution|careful|reference|review|rely|incorrect",
    re.I,
)
_TURNS = re.compile(r"[，,。；;！!.]+\s*|\s+[-–—]+\s+|——|\s+and\s+(?=may\b|can\b|should\b)")
# Letters which the other languages may need around the two elements: Dieser Text wurde von … generiert.
_GLUE = 20


def find(text: str, known: Collection[str]) -> list[Found]:
    """Find all visible labels, in the order in which they stand."""
    found = [_own(text, imprint) for imprint in imprints(text.rstrip(), known)]
    candidates = [
        (position, line, start)
        for position, line, start in _window_lines(text)
        if not any(label.start <= start < label.end for label in found)
        and (line.strip(BLANKS) in known or _is_label(line))
    ]
    shown = _prose_starts(text) if candidates else ()
    for position, line, start in candidates:
        if start in shown:
            found.append(_foreign(text, position, start, start + len(line), line.strip(BLANKS) in known))
    return sorted(found, key=lambda label: label.start)


def _own(text: str, imprint: Imprint) -> Found:
    # White space behind an end label came after it and goes with it.
    end = len(text) if imprint.position == "end" else imprint.end
    return Found(imprint.position, imprint.label, imprint.start, end, True)


def _foreign(text: str, position: str, start: int, end: int, own: bool) -> Found:
    """Take the line with one separator: behind it at the head, before it at the tail."""
    label = text[start:end].strip(BLANKS)
    if position == "start":
        end = _over_breaks(text, end, 1)
    else:
        start = _over_breaks(text, start, -1)
    return Found(position, label, start, end, own)


def _over_breaks(text: str, place: int, way: int) -> int:
    """Step over at most two line feeds."""
    for _ in range(2):
        if text[min(place, place + way) : max(place, place + way)] == "\n":
            place += way
    return max(place, 0)


def _window_lines(text: str) -> Iterator[tuple[str, str, int]]:
    """Give the lines near the head and the tail that are not blank: (position, line, where it starts)."""
    head, tail = _head_lines(text), _tail_lines(text)
    first = min((start for _, start in [*head, *tail]), default=0)
    tail_starts = {start for _, start in tail}
    for line, start in sorted({*head, *tail}, key=lambda found: found[1]):
        if len(line) <= 2 * LONGEST:
            is_head = (line, start) in head and (start == first or start not in tail_starts)
            yield ("start" if is_head else "end"), line, start


def _head_lines(text: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    start = 0
    while start < min(len(text), _WINDOW) and len(found) < _WINDOW_LINES:
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else len(text)]
        if line.strip(BLANKS):
            found.append((line, start))
        start += len(line) + 1
    return found


def _tail_lines(text: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    end = len(text)
    while end >= 0 and len(found) < _WINDOW_LINES:
        start = text.rfind("\n", 0, end) + 1
        if len(text) - start >= _WINDOW:
            break
        if text[start:end].strip(BLANKS):
            found.append((text[start:end], start))
        end = start - 1
    return found


def _prose_starts(text: str) -> frozenset[int]:
    """Give where the lines of top-level prose start."""
    lines = text.split("\n")
    states = accumulate(lines, step, initial=START)
    next(states)
    starts = accumulate((len(line) + 1 for line in lines), initial=0)
    return frozenset(start for start, state in zip(starts, states, strict=False) if state.prose)


def _is_label(line: str) -> bool:
    plain = _TAGS.sub("", line).strip(_DECORATION)
    if not plain or len(plain) > LONGEST:
        return False
    lead_in = _LEAD_IN.match(plain)
    plain = plain[lead_in.end() if lead_in else 0 :].strip(_DECORATION)
    return plain.casefold() in _BUILT_IN or all(map(_says_so, _JOINTS.split(plain)))


def _says_so(words: str) -> bool:
    """Say whether `words` are a statement that AI generated this, with nothing behind it but words of caution."""
    parts = [part.strip(_DECORATION) for part in _TURNS.split(words)]
    statement, *rest = [part for part in parts if part] or [""]
    if not all(map(_CAUTION.search, rest)):
        return False
    spoken = re.sub(r"\s+", " ", statement)
    if any(sentence.fullmatch(spoken) or sentence.fullmatch(spoken.replace(" ", "")) for sentence in _SENTENCES):
        return True
    return _is_terse(spoken)


def _is_terse(spoken: str) -> bool:
    """Apply the element rule alone, in languages whose sentences are not spelled out here."""
    return any(besides <= _GLUE for language, besides in elements(spoken).items() if language not in _SPELLED_OUT)
