"""The block automaton, held against a CommonMark parser as the second, independent way."""

import random

import pytest

from llm_label.labels.labeler import Labeler, Labels
from llm_label.labels.markdown import START, room, step
from llm_label.labels.wording import POSITIONS

LABEL = "本内容由AI生成"


@pytest.mark.parametrize(
    ("text", "closer"),
    [
        ("```py\nx", "```"),
        ("````\n```", "````"),
        ("   ~~~ a ` b", "~~~"),
        ("``` a ` b", ""),
        ("    ```", ""),
        ("a\n```", "```"),
        ("```\nx\n  ```  ", ""),
        ("```\nx\n    ```", "```"),
        ("```\nx\n``` y", "```"),
        ("- ```\n  x", ""),
        ("- ```\nx", ""),
        ("- a\n\n   ```", ""),
        ("- a\n\n ```", "```"),
        ("10. a\n   ```", "```"),
        ("> ```", ""),
        ("> a\n```", "```"),
        ("$$", "$$"),
        ("$$ x $$", ""),
        ("$$ x\ny $$", ""),
        ("costs $$ 5", ""),
        ("<!-- a\n\nb", "-->"),
        ("<!-- a -->", ""),
        ("<!-->", ""),
        ("a <!-- b", ""),
        ("<script>\n\nx", "</script>"),
        ("<PRE>x</PRE>", ""),
        ("<think>\n\nx", "</think>"),
        ("<details><summary>a</summary>\n\nb", "</details>"),
        ("<details>\n\n</details>", ""),
        ("<div>\n<div>\n</div>", "</div>"),
        ("<details>\n\n```\n</details>", "```"),
        ("<p>\n\na", ""),
        ("<T> is a type", ""),
        ("\\[ x", ""),
        ("```\r\nx\r\n```\r", ""),
    ],
)
def test_what_swallows_a_paragraph_is_known_by_its_closing_line(text: str, closer: str) -> None:
    state = START
    for line in text.split("\n"):
        state = step(state, line)
    assert state.closer == closer


@pytest.mark.parametrize(
    ("text", "head", "answer"),
    [
        ("a\n", "b", True),
        ("a", "b", False),
        ("", "b", False),
        ("a\n", " b", False),
        ("a\n", "\n", False),
        ("a\n", "- b", True),
        ("- a\n", "-", None),
        ("- a\n", "- ", False),
        ("- a\n", "**", True),
        ("- a\n", "123456789.", None),
        ("- a\n", "1. ", False),
        ("- a\n", "12 x", True),
        ("- a\n\nb\n", "- ", True),
        ("> a\n", ">", False),
        ("|a|\n|-|\n", "|", False),
        ("a\n", "　", None),
        ("a\n", "　　b", True),
        ("a\n", "　\n", False),
        ("a\n", "　" * 9, False),
    ],
)
def test_room_for_a_paragraph(text: str, head: str, answer: bool | None) -> None:
    state = START
    for line in text.split("\n") if text else []:
        state = step(state, line)
    assert room(state, head) is answer


BLOCKS = (
    "word",
    "two words. More words",
    "\n",
    "\n\n",
    "  ",
    "    ",
    "\t",
    "\n```\n",
    "\n```py\ncode\n",
    "\n``` \n",
    "\n````\n",
    "\n~~~\n",
    "\n- ",
    "\n* * *\n",
    "\n* item\n",
    "\n1. item\n",
    "\n2) item\n",
    "  continued\n",
    "\n> quote\n",
    "\n> ",
    "\n- ```\n  x\n",
    "\n> ```\n> x\n",
    "\n| a | b |\n|---|---|\n| 1 | 2 |\n",
    "\n<!-- ",
    " -->\n",
    "\n<details>\n",
    "\n</details>\n",
    "\n<pre>",
    "x</pre>\n",
    "\n<b>\n",
    "\n===\n",
    "\n---\n",
    "\n# Heading\n",
    "**bold** ",
    "`code` ",
    "[x](y) ",
    "\n[x]: y\n",
    "“quoted” ",
    "\\",
    "*",
    "<",
)


def test_labels_are_paragraphs_of_their_own_and_change_no_other_block() -> None:
    """5,000 mixtures of blocks, parsed by markdown-it-py."""
    parser = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table")

    def blocks(text: str) -> tuple[list[tuple[str, str, int]], int]:
        """All blocks but the labels, and the number of labels."""
        tokens = [(token.type, token.content, token.level) for token in parser.parse(text)]
        ours = [at for at, token in enumerate(tokens) if token == ("inline", LABEL, 1) and tokens[at - 1][2] == 0]
        skipped = {at + offset for at in ours for offset in (-1, 0, 1)}
        return [token for at, token in enumerate(tokens) if at not in skipped], len(ours)

    dice = random.Random(7)
    middles = 0
    for _ in range(5000):
        text = "".join(dice.choice(BLOCKS) for _ in range(dice.randint(1, 14)))
        positions = dice.choice((*((position,) for position in POSITIONS), POSITIONS))
        labeler = Labeler(Labels(positions, {"zh": LABEL}, "zh", None, dice.choice((0, 3, 8, 20))))
        labelled = labeler.feed(text) + labeler.finish()
        rest, labels = blocks(labelled)
        assert labels == len(labeler.applied), labelled
        if "end" not in labeler.applied and f"{LABEL}\n\n\n" not in labelled:  # nothing closed or split
            middles += "middle" in labeler.applied
            assert rest == blocks(text)[0], labelled
    assert middles > 200
