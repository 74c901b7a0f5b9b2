"""Where an answer begins, for every way of cutting it."""

import pytest

from llm_label.labels.opening import Opening, front_matter
from tests.laws import cuts


def split(pieces: list[str]) -> tuple[str, str, bool, int]:
    opening = Opening()
    passed, rest = "", ""
    for piece in pieces:
        if opening.found:
            rest += piece
        else:
            passed += opening.feed(piece)
            rest += opening.take() if opening.found else ""
    if not opening.found:
        passed += opening.close()
        rest += opening.take()
    return passed, rest, opening.after_block, opening.breaks


@pytest.mark.parametrize(
    ("before", "answer"),
    [
        ("", "Hello"),
        ("\n \t\n", "  Hello"),
        ("", "　Hello"),
        ("<think>a</think>", "Hello"),
        ("<think>a</think>  ", "Hello"),
        ("<think>a</think>  \n", "  Hello"),
        (" \n<thinking>a </think> </thinking>\n\n", "Hello"),
        ("<think>a</think>\n<think>b</think>\n", "<thing"),
        ("", "<thi"),
        ("", "<thinks> a </thinks>"),
        ("", "<Think>"),
        ("<think>never closed\n\n```\n", ""),
        ("<think></think>\n", ""),
        ("---\na: b\n---\n\n", "Hello"),
        ("---\na: b\n---\n<think>c</think>", "Hello"),
        ("---\na: b\n---", ""),
        ("---\na: b\n---\n", ""),
        ("", "---\na: b\n\nc"),
        ("\n", "---\na: b\n---\n"),
        ("<think>a</think>\n", "---\na: b\n---\n"),
        ("", "---\na: b"),
        ("", "--"),
        (" \n\n ", ""),
        ("\n", "<"),
        ("", ""),
    ],
)
def test_what_stands_before_the_answer_is_split_off(before: str, answer: str) -> None:
    whole = split([before + answer])
    assert whole[:2] == (before, answer)
    for pieces in cuts(before + answer):
        assert split([piece for piece in pieces if piece]) == whole


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("---\na: b\n---\n", 12),
        ("---\na: b\n...  \n", 14),
        ("---\na:\n  - b\n# c\n- d\n---\nrest", 24),
        ("---\n", None),
        ("---\ntit", None),
        ("---\na: b\n", None),
        ("---\na: b\n---", None),
        ("-", None),
        ("---\n\n", 0),
        ("---\nNot a key", 0),
        ("---\na: b\nprose\n", 0),
        ("--- a", 0),
        ("----\n", 0),
        ("text", 0),
        ("---\na: " + "b" * 2000, 0),
    ],
)
def test_front_matter(text: str, length: int | None) -> None:
    assert front_matter(text) == length
