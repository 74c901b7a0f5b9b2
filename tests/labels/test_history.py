"""Our own labels leave the history; what the model and the user wrote stays."""

import pytest

from llm_label.labels.history import clean_text
from llm_label.labels.labeler import Labels, label
from llm_label.labels.wording import POSITIONS, all_wordings, wording
from tests.testdata import documents

L = wording("zh", ("cn",))
OLD = "旧版：本回答由AI生成"
KNOWN = frozenset({L, OLD})


@pytest.mark.parametrize(
    ("sent_back", "cleaned"),
    [
        (f"{L}\n\nHello.", "Hello."),
        (f"Hello.\n\n{L}", "Hello."),
        (f"{OLD}\n\nHello.\n\n{OLD}", "Hello."),
        (f"{L}\n\na\n\n{L}\n\nb\n\n{L}", "a\n\nb"),
        (f"<think>hm</think>\n\n{L}\n\nHello.", "<think>hm</think>\n\nHello."),
        (f"```\nx\n``` \n\n{L}", "```\nx"),
        # trimmed, padded, cut off
        (f"Hello.\n\n{L}\n", "Hello."),
        (f"{L}\n\nHello.\n\n{L} \n\n", "Hello."),
        (f"{L}\n\nHello.\n", "Hello.\n"),
        (f"\n{L}\n\nHello.", "\nHello."),
        (L, ""),
        (f"{L}\n\n", ""),
        (f"\n{L}\n", ""),
        (f"{L}\n\n{L}", ""),
        (f"{L}\r\n\r\nHello.\r\n\r\nBye.\r\n\r\n{L}", "Hello.\r\n\r\nBye."),
        # not ours, or not where we write it
        ("Hello.", "Hello."),
        ("", ""),
        (f"The label {L} is a label.", f"The label {L} is a label."),
        (f"He wrote:\n{L}\nand left.", f"He wrote:\n{L}\nand left."),
        (f"```\n{L}\n\nx\n```", f"```\n{L}\n\nx\n```"),
        (f"```\n\n{L}\n\nx\n```", f"```\n\n{L}\n\nx\n```"),
        (f"> {L}\n\nHello.", f"> {L}\n\nHello."),
        (f"- a\n\n  {L}\n\nb", f"- a\n\n  {L}\n\nb"),
        (f"{L}。\n\nHello.", f"{L}。\n\nHello."),
        ("AI-generated\n\nHello.", "AI-generated\n\nHello."),
    ],
)
def test_only_our_own_labels_go(sent_back: str, cleaned: str) -> None:
    assert clean_text(sent_back, KNOWN) == cleaned


def test_twenty_turns_come_back_as_the_engine_wrote_them() -> None:
    labels = Labels(POSITIONS, {"zh": L, "en": wording("en", ("cn",))}, "zh", None, 100, all_wordings())
    for document in documents("data/text/machine_zh.jsonl.gz")[:20]:
        answer = document["text"].strip()
        assert clean_text(label(answer, labels).strip(), labels.known) == answer
        assert clean_text(answer, labels.known) == answer
