"""Our own labels leave the history; what the model and the user wrote stays."""

import json
import random
import re
import unicodedata
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llm_label.labels.history import clean_text
from llm_label.labels.imprint import imprints
from llm_label.labels.labeler import Labels, label
from llm_label.labels.wording import POSITIONS, all_wordings, wording
from tests.labels.documents import document
from tests.labels.test_labeler import label_plans, markdown
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
        # the client took the reasoning out, joined two answers, stripped blanks, or text came after an end label
        (f"{L}\n\n\nHello.", "Hello."),
        (f" \n\n{L}\n\n\nHello.", " \n\nHello."),
        (f"{L}\n\na.\n\n{L}\n\n{OLD}\n\nb.\n\n{L}", "a.\n\nb."),
        (f"One.\n\n{L}\n\n\nTwo", "One. Two"),
        (f"一。\n\n{L}\n\n\n二", "一。二"),
        (f"“One.”\n\n{L}\n\n\nTwo", "“One.” Two"),
        (f"Let me look:\n\n{L}\n\n\nIt rains.", "Let me look:It rains."),
        (f"a.\n\n{L}\n\nP.S.", "a.\n\nP.S."),
        # not ours, or not where we write it
        (f"The notice reads:\n\n{L}\n\nIt has to be seen.", f"The notice reads:\n\n{L}\n\nIt has to be seen."),
        (f"## The text\n\n{L}\n\nIt has to be seen.", f"## The text\n\n{L}\n\nIt has to be seen."),
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


def trim_lines(text: str) -> str:
    return "\n".join(line.rstrip(" \t") for line in text.split("\n"))


def without_reasoning(text: str) -> str:
    return re.sub(r"\A\s*(<think>.*?</think>\s*)+", "", text, flags=re.S)


# What clients do to an answer before they send it back.
CLIENTS = {
    "nothing": str,
    "JSON": lambda text: json.loads(json.dumps(text)),
    "CR LF": lambda text: text.replace("\r\n", "\n").replace("\n", "\r\n"),
    "LF": lambda text: text.replace("\r\n", "\n"),
    "composed": lambda text: unicodedata.normalize("NFC", text),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "trimmed lines": trim_lines,
    "trimmed": str.strip,
    "trimmed at the end": str.rstrip,
    "one line feed at the end": lambda text: text.rstrip("\n") + "\n",
    "padded": lambda text: f"\n{text}\n\n",
    "reasoning taken out": without_reasoning,
    "trimmed and with CR LF": lambda text: text.strip().replace("\r\n", "\n").replace("\n", "\r\n"),
}  # fmt: skip
OUTER = ("trimmed", "one line", "padded", "reasoning")  # these change outer white space: compared without


@st.composite
def answers(draw: st.DrawFn) -> str:
    made_up = document(random.Random(draw(st.integers(0, 2**32))))
    return draw(markdown) if draw(st.booleans()) else made_up[: draw(st.integers(0, len(made_up)))]


@settings(max_examples=500, derandomize=True, deadline=None, database=None)
@given(answers(), label_plans(), st.sampled_from(sorted(CLIENTS)))
def test_what_comes_back_is_the_answer_as_the_client_keeps_it(answer: str, labels: Labels, client: str) -> None:
    assume(unlabelled(answer, labels) and not re.search("\r(?!\n)", answer))
    labelled = label(answer, labels)
    if client in ("trimmed lines", "reasoning taken out"):  # what we wrote to close a block is the client's then
        assume(label(answer, replace(labels, positions=("end",))).startswith(f"{answer}\n\n"))
        assume(
            not re.search(r"[.!?][^\w\s]* +\n\n[^\n]*\n\n\n", labelled)
            or not re.search(r" {2}|[\u0600-\U000fffff] ", answer)
        )
    if client.startswith(OUTER):  # trimmed, code at the beginning is code no more
        blanks = re.match(r"\s*(?:<think>.*?</think>\s*)*", answer, re.S)
        assume(not re.search(r"[^\S\r\n]\Z", blanks[0] if blanks else ""))
    keep = CLIENTS[client]
    cleaned, kept = clean_text(keep(labelled), labels.known), keep(answer)
    if client.startswith(OUTER):
        cleaned, kept = cleaned.strip(), kept.strip()
    assert cleaned == kept


@settings(max_examples=500, derandomize=True, deadline=None, database=None)
@given(answers(), label_plans(), st.integers(0, 2**16))
def test_an_answer_cut_off_anywhere_comes_back_without_labels(answer: str, labels: Labels, place: int) -> None:
    assume(unlabelled(answer, labels))
    labelled = label(answer, labels)
    cut = place % (len(labelled) + 1)
    gone = 0
    for imprint in imprints(labelled, labels.known):
        if cut > imprint.start:
            gone += min(imprint.end, cut) - imprint.start
            text = labelled[imprint.start : imprint.end]
            assume(cut - imprint.start >= text.index(imprint.label) + len(imprint.label))  # not within our own words
    assert clean_text(labelled[:cut], labels.known).strip() == answer[: cut - gone].strip()


def unlabelled(answer: str, labels: Labels) -> bool:
    return not any(known in unicodedata.normalize("NFC", answer) for known in labels.known)


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(answers(), label_plans())
def test_cleaning_twice_is_cleaning_once(answer: str, labels: Labels) -> None:
    cleaned = clean_text(label(answer, labels), labels.known)
    assert clean_text(cleaned, labels.known) == cleaned


@pytest.mark.parametrize("name", ["machine_en", "machine_zh"])
def test_answers_joined_to_one_turn_lose_all_their_labels(name: str) -> None:
    labels = Labels(POSITIONS, {"zh": L, "en": wording("en", ("cn",))}, "zh", None, 100, all_wordings())
    texts = [found["text"].strip() for found in documents(f"data/text/{name}.jsonl.gz")[:400]]
    texts = [text for text in texts if text.endswith((".", "。")) and not re.search("[`~$<\\\\]", text)]
    for one, other in pairwise(texts):
        joined = f"{label(one, labels)}\n\n{label(other, labels)}"
        assert clean_text(joined, labels.known) == f"{one}\n\n{other}"
        assert clean_text(label(one, labels) + "\n\nMy own words.", labels.known) == f"{one}\n\nMy own words."
    assert len(texts) > 50


def test_twenty_turns_come_back_as_the_engine_wrote_them() -> None:
    labels = Labels(POSITIONS, {"zh": L, "en": wording("en", ("cn",))}, "zh", None, 100, all_wordings())
    for found in documents("data/text/machine_zh.jsonl.gz")[:20]:
        answer = found["text"].strip()
        assert clean_text(label(answer, labels).strip(), labels.known) == answer
        assert clean_text(answer, labels.known) == answer
