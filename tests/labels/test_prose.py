"""Where a sentence begins: `^` marks the places."""

import pytest

from llm_label.labels.prose import Prose


@pytest.mark.parametrize(
    "marked",
    [
        "One here. ^Two there! ^Three? ^Four",
        "从前有座山。^山里有座庙！^庙里有个老和尚？^他说",
        "他说：“好。”然后走了。^“好。”",
        "“好。”他说。^“不好。”",
        "“好。”\n^他说",
        "他喊「好！」と言った。^然后",
        "《你好！》是一首歌。^很好",
        "（见图1！）之后。^然后",
        "**注意！** ^这是。^然后",
        "**注意！**这是。然后",
        "　　山里有庙。^庙里有和尚",
        "『一。二。』三。^四",
        "“Really?” John asked. ^Then",
        "He said “no way.” ^Then",
        "Jan. Then, Sept. The",
        "snake_case is. ^Two has a_b and 2 * 3 is six. ^Three",
        "[#a]_, [#b]_). Two",
        "*A. B.** C. D.*",
        "*a **b. C** d* is. ^Two",
        "A `` one ` here. Two `` is. ^Three",
        "A `(` here. ^Two",
        "A `\\` here. ^Two",
        "So \\(a! B\\) is. ^Two",
        "So \\[a! B\\] is. ^Two",
        "a < b here. Two",
        "A line here.  \nTwo here. ^Three",
        "A line here.\\\nTwo here. ^Three",
        "¿Qué? ^¿No? ^Sí",
        "مرحبا بك؟ ^نعم هذا صحيح. ^ثم ذهب",
        "مرحبا\u061f\u200f ^نعم",
        "שלום לכם. ^מה שלומך? ^טוב",
        "\u2067שלום לכם. מה\u2069 here. ^Two",
        "वह घर गया। ^फिर सो गया",
        "สวัสดีครับ วันนี้อากาศดี",
        "Great! 🎉 Next",
        "Great! ^Ne\u0301xt",
        "好。\u200d再",
        "好。\u0301再",
        "Really?^真的 AI. ^好",
        "Really!^真的",
        "One here.\n^Two there",
        "One here.  ^Two",
        "One here.Two",
        "one here. two",
        "Pi is 3.14 and e is 2.7. Then",
        "See e.g. Foo, i.e. Bar, Dr. Who, Fig. A, z.B. Baum, J. Smith, U.S. Army",
        "Wait... Then",
        "(One here. Two there). ^Three",
        "A [one here. Two](there. Three) is. ^Four",
        "A `one here. Two` is. ^Three",
        "A $a. B$ is. ^Three",
        "**One here. Two** is. ^Three",
        "**One here.** ^Two",
        "“One here. Two there.” ^Three",
        '"One here. Two there." ^Three',
        "（一。二）三。^四",
        "One \\`here. ^Two",
        "One | here. Two",
        "One <b>here. Two</b>",
        "One here. - Two",
        "One here. 2 more",
        "One here. # Two",
        "One here. ^(aside)",
        "- One here. Two",
        "1. One here. Two",
        "# One here. Two",
        "    One here. Two",
        "| One here. Two",
        "2024 年很好。^明年",
        "2024. One",
        "**Note** that. ^Two",
        "第一句。\n- 第二句",
    ],
)
def test_sentences_begin_where_nothing_is_split(marked: str) -> None:
    text = marked.replace("^", "")
    expected = [place - order for order, place in enumerate(i for i, c in enumerate(marked) if c == "^")]
    assert places(text, len(text)) == expected
    assert places(text, 1) == expected


def places(text: str, size: int) -> list[int]:
    prose, found = Prose(), []
    for begin in range(0, len(text), size):
        piece, start = text[begin : begin + size], 0
        while piece:
            at = prose.feed(piece, start)
            if at is None:
                break
            found.append(begin + len(text[begin : begin + size]) - len(piece) + at)
            piece, start = piece[at:], 1
    return found


def test_a_new_paragraph_forgets_what_was_open() -> None:
    prose = Prose()
    assert prose.feed("(One here. Two", 0) is None
    prose.begin()
    assert prose.feed("One here. Two", 0) == len("One here. ")


def test_nothing_is_found_before_the_start() -> None:
    assert Prose().feed("One here. Two here. Three", 15) == len("One here. Two here. ")
