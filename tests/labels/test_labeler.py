"""Where labels go, and the cut and strip laws as properties."""

import random
import sys
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_label.errors import SettingsError
from llm_label.labels.imprint import within_line
from llm_label.labels.labeler import Labeler, Labels, label, strip
from llm_label.labels.wording import LANGUAGES, POSITIONS, REGIMES, all_wordings, wording
from tests.laws import hold_cut_law, hold_label_laws, hold_strip_law
from tests.testdata import documents

L = "AI生成"
ALL_POSITIONS = [places for size in range(len(POSITIONS) + 1) for places in combinations(POSITIONS, size)]


def plan(*positions: str, after: int = 5, text: str = L) -> Labels:
    return Labels(positions, {"zh": text}, "zh", middle_after=after)


# Each case: what to write, the answer, the labelled answer, where labels then stand.
CASES = {
    # start
    "start": (("start",), "Hello.", f"{L}\n\nHello.", ("start",)),
    "start passes blank lines": (("start",), " \n\nHello.", f" \n\n{L}\n\nHello.", ("start",)),
    "start keeps an indented first line": (("start",), "\n    code", f"\n{L}\n\n    code", ("start",)),
    "start keeps wide blanks": (("start",), "　　从前", f"{L}\n\n　　从前", ("start",)),
    "start comes after reasoning": (
        ("start",),
        "<think>hm\n\nhm</think>\n\nHello.",
        f"<think>hm\n\nhm</think>\n\n{L}\n\nHello.",
        ("start",),
    ),
    "start comes after reasoning on the same line": (
        ("start",),
        "\n<thinking>hm</thinking> Hello.",
        f"\n<thinking>hm</thinking> \n\n{L}\n\n\nHello.",
        ("start",),
    ),
    "start comes after two blocks of reasoning": (
        ("start",),
        "<think>a</think>\n<think>b</think>\nHello.",
        f"<think>a</think>\n<think>b</think>\n\n\n{L}\n\n\nHello.",
        ("start",),
    ),
    "start comes after front matter": (
        ("start",),
        "---\ntitle: a\ntags:\n  - b\n---\n\n# Hello",
        f"---\ntitle: a\ntags:\n  - b\n---\n\n{L}\n\n# Hello",
        ("start",),
    ),
    "a rule is no front matter": (("start",), "---\n\nHello.", f"{L}\n\n---\n\nHello.", ("start",)),
    "front matter must close": (("start",), "---\nnote: a\n\nb", f"{L}\n\n---\nnote: a\n\nb", ("start",)),
    "no tag but nearly": (("start",), "<thin", f"{L}\n\n<thin", ("start",)),
    "reasoning alone gets its label at the end": (
        ("start",),
        "<think>hm</think>\n",
        f"<think>hm</think>\n\n\n{L}",
        ("end",),
    ),
    "reasoning that was cut off is closed": (
        ("start",),
        "<think>hm",
        f"<think>hm\n</think> \n\n{L}",
        ("end",),
    ),
    # end
    "end": (("end",), "Hello.", f"Hello.\n\n{L}", ("end",)),
    "end keeps line feeds": (("end",), "Hello.\n\n", f"Hello.\n\n\n\n{L}", ("end",)),
    "end after a list": (("end",), "- a\n- b", f"- a\n- b\n\n{L}", ("end",)),
    "end after a table": (("end",), "|a|\n|-|\n|1|", f"|a|\n|-|\n|1|\n\n{L}", ("end",)),
    "end after a paragraph that could turn into a heading": (("end",), "a\n---", f"a\n---\n\n{L}", ("end",)),
    "end closes a fence": (("end",), "```py\nx", f"```py\nx\n``` \n\n{L}", ("end",)),
    "end closes a fence after a line feed": (("end",), "```\nx\n", f"```\nx\n\n``` \n\n{L}", ("end",)),
    "end closes a long fence": (("end",), "~~~~\n~~~\nx", f"~~~~\n~~~\nx\n~~~~ \n\n{L}", ("end",)),
    "end leaves a closed fence": (("end",), "```\nx\n```", f"```\nx\n```\n\n{L}", ("end",)),
    "end escapes a closing line with a blank": (("end",), "```\nx\n``` ", f"```\nx\n```  \n\n{L}", ("end",)),
    "end leaves other blanks": (("end",), "```\nx\n```\t", f"```\nx\n```\t\n\n{L}", ("end",)),
    "a list item takes its open fence with it": (("end",), "- ```\n  x", f"- ```\n  x\n\n{L}", ("end",)),
    "so does a quote": (("end",), "> ```\n> x", f"> ```\n> x\n\n{L}", ("end",)),
    "an unindented fence in a list is open": (
        ("end",),
        "1. a\n```\nx",
        f"1. a\n```\nx\n``` \n\n{L}",
        ("end",),
    ),
    "end closes a formula": (("end",), "$$\nx^2", f"$$\nx^2\n$$ \n\n{L}", ("end",)),
    "end closes a comment": (("end",), "a\n<!-- b", f"a\n<!-- b\n--> \n\n{L}", ("end",)),
    "end closes what folds": (
        ("end",),
        "<details>\n\n```\nx",
        f"<details>\n\n```\nx\n``` \n</details> \n\n{L}",
        ("end",),
    ),
    # middle
    "middle stands at the first blank line": (
        ("middle",),
        "a b c d\n\ne\n\nf",
        f"a b c d\n\n{L}\n\ne\n\nf",
        ("middle",),
    ),
    "middle waits for enough text": (
        ("middle",),
        "a\n\nb c d e\n\nf",
        f"a\n\nb c d e\n\n{L}\n\nf",
        ("middle",),
    ),
    "middle needs text behind it": (("middle",), "a b c d\n\n", f"a b c d\n\n\n\n{L}", ("end",)),
    "middle merges with the end": (("middle", "end"), "a b c", f"a b c\n\n{L}", ("end",)),
    "all three": (
        POSITIONS,
        "a b c d\n\ne",
        f"{L}\n\na b c d\n\n{L}\n\ne\n\n{L}",
        POSITIONS,
    ),
    "not in a fence": (
        ("middle",),
        "```\na b c\n\nd\n```\n\ne",
        f"```\na b c\n\nd\n```\n\n{L}\n\ne",
        ("middle",),
    ),
    "not in a list": (
        ("middle",),
        "- a b c\n\n- d\n\n  e\n\n1. f\n\n**g**",
        f"- a b c\n\n- d\n\n  e\n\n1. f\n\n{L}\n\n**g**",
        ("middle",),
    ),
    "not in indented code": (
        ("middle",),
        "    a b\n\n    c\n\nd",
        f"    a b\n\n    c\n\n{L}\n\nd",
        ("middle",),
    ),
    "not in a quote": (("middle",), "> a b c\n\n> d\n\ne", f"> a b c\n\n> d\n\n{L}\n\ne", ("middle",)),
    "not in a table": (
        ("middle",),
        "|a|\n|-|\n|b|\n\n| c |\n\nd",
        f"|a|\n|-|\n|b|\n\n| c |\n\n{L}\n\nd",
        ("middle",),
    ),
    "not in a formula": (("middle",), "$$\na b\n\nc\n$$\n\nd", f"$$\na b\n\nc\n$$\n\n{L}\n\nd", ("middle",)),
    "not in a formula in brackets": (
        ("middle",),
        "\\[ a b\n\nc \\]\n\nd",
        f"\\[ a b\n\nc \\]\n\n{L}\n\nd",
        ("middle",),
    ),
    "not in an environment": (
        ("middle",),
        "\\begin{align}\na\n\nb\n\\end{align}\n\nc",
        f"\\begin{{align}}\na\n\nb\n\\end{{align}}\n\n{L}\n\nc",
        ("middle",),
    ),
    "not in a comment": (("middle",), "<!-- a\n\nb -->\n\nc", f"<!-- a\n\nb -->\n\n{L}\n\nc", ("middle",)),
    "not in an element": (
        ("middle",),
        "<div>\n\n<div>a</div>\n\n</div>\n\nb",
        f"<div>\n\n<div>a</div>\n\n</div>\n\n{L}\n\nb",
        ("middle",),
    ),
    "not behind a heading or a colon": (
        ("middle",),
        "# a b c d\n\nSo it is:\n\n**So:**\n\ne\n\nf",
        f"# a b c d\n\nSo it is:\n\n**So:**\n\ne\n\n{L}\n\nf",
        ("middle",),
    ),
    "before a paragraph with wide blanks": (
        ("middle",),
        "　　从前有座山\n\n　　山里有座庙",
        f"　　从前有座山\n\n{L}\n\n　　山里有座庙",
        ("middle",),
    ),
    "between sentences when no blank line comes": (
        ("middle",),
        "从前有座山，山里有座庙。庙里有个老和尚",
        f"从前有座山，山里有座庙。\n\n{L}\n\n\n庙里有个老和尚",
        ("middle",),
    ),
    "between sentences on two lines": (
        ("middle",),
        "one and two.\nThree",
        f"one and two.\n\n\n{L}\n\n\nThree",
        ("middle",),
    ),
    "not between sentences of a list item": (
        ("middle",),
        "- one and two. Three four",
        f"- one and two. Three four\n\n{L}",
        ("end",),
    ),
    # already labelled
    "labelled at the start": (POSITIONS, f"{L}\n\na b c d\n\ne", f"{L}\n\na b c d\n\ne", ()),
    "labelled at the end": (("end",), f"Hello.\n\n{L}\n", f"Hello.\n\n{L}\n", ()),
    "labelled at the end only": (("start", "end"), f"Hello.\n\n{L}", f"{L}\n\nHello.\n\n{L}", ("start",)),
    "labelled in the middle": (("middle",), f"a b c d\n\n{L}\n\ne", f"a b c d\n\n{L}\n\ne", ()),
    "the label and nothing else": (POSITIONS, L, L, ()),
    "a label in code is none": (("end",), f"```\n\n{L}", f"```\n\n{L}\n``` \n\n{L}", ("end",)),
    "a label within a line is none": (("start", "end"), f"a {L}", f"{L}\n\na {L}\n\n{L}", ("start", "end")),
    # nothing to label
    "empty": (POSITIONS, "", "", ()),
    "white space": (POSITIONS, " \n\t\n　", " \n\t\n　", ()),
    "nothing planned": ((), "Hello.", "Hello.", ()),
}


@pytest.mark.parametrize(("positions", "answer", "labelled", "applied"), CASES.values(), ids=CASES)
def test_labels_stand_where_they_should(
    positions: tuple[str, ...], answer: str, labelled: str, applied: tuple[str, ...]
) -> None:
    labels = plan(*positions)
    assert hold_label_laws(answer, labels) == labelled
    labeler = Labeler(labels)
    labeler.feed(answer)
    labeler.finish()
    assert labeler.applied == applied
    assert labeler.written == ({L} if applied else frozenset())
    assert labeler.present == (L in answer and applied in ((), ("start",)))


FRAGMENTS = (
    "word",
    "Foo. Bar",
    "今天很好。明天",
    "e.g. C",
    "!? D",
    "A: B\n\n",
    "　",
    " ",
    "  ",
    "    ",
    "\t",
    "\n",
    "\n",
    "\n\n",
    "\n\n",
    "\r\n",
    "\r",
    "\x0b",
    "\u2028",
    "```",
    "``` ",
    "```py\n",
    "````",
    "~~~",
    "- ",
    "1. ",
    "2) ",
    "> ",
    "- ```\n  x",
    "> ```\n> x",
    "| a | b |",
    "|---|---|",
    "$$",
    "$$ ",
    "\\[",
    "\\]",
    "\\begin{x}",
    "\\end{x}",
    "<!--",
    "-->",
    "--> ",
    "<details>",
    "</details>",
    "</details> ",
    "<div>",
    "</div>",
    "<pre>",
    "</pre>",
    "<think>",
    "</think>",
    "</think> ",
    "<thinking>",
    "</thinking>\n",
    "---\n",
    "---\na: b\n---\n",
    "===",
    "# H",
    "**b.** ",
    "`",
    "(",
    ")",
    "[x](y)",
    "“",
    "”",
    '"',
    "*",
    "_",
    "\\",
    "<",
    "|",
    "AI",
    "本内容由AI生成",
    "AI生成 · AI-generated",
    "AI-generated\n\n",
)
markdown = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), max_size=24).map("".join)


@st.composite
def label_plans(draw: st.DrawFn) -> Labels:
    regimes = draw(st.lists(st.sampled_from(REGIMES), max_size=2))
    return Labels(
        positions=draw(st.sampled_from(ALL_POSITIONS)),
        texts={language: wording(language, regimes) for language in LANGUAGES},
        start=draw(st.sampled_from(LANGUAGES)),
        rest=draw(st.none() | st.sampled_from(LANGUAGES)),
        middle_after=draw(st.sampled_from([0, 1, 3, 8, 20])),
        issued=all_wordings(),
    )


@settings(max_examples=800, derandomize=True, deadline=None, database=None)
@given(markdown, label_plans(), st.integers(0, 2**16))
def test_cut_law_and_strip_law_hold_for_all_markdown(text: str, labels: Labels, seed: int) -> None:
    hold_label_laws(text, labels, seed)


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(markdown)
def test_strip_touches_no_unlabelled_text_and_never_adds(text: str) -> None:
    known = all_wordings()
    stripped = strip(text, known)
    if not any(line in known for line in text.split("\n")):
        assert stripped == text
    assert len(stripped) <= len(text)
    assert strip(text, ()) == text


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(markdown, markdown, label_plans())
def test_labelling_loses_nothing(text: str, other: str, labels: Labels) -> None:
    """Two unlabelled texts that differ still differ when labelled."""
    known = labels.known
    if text != other and strip(text, known) == text and strip(other, known) == other:
        assert label(text, labels) != label(other, labels)


@pytest.mark.parametrize("name", ["machine_en", "machine_zh", "code"])
def test_laws_hold_for_real_answers(name: str) -> None:
    dice = random.Random(name)
    reached = 0
    texts = {language: wording(language, ("cn",)) for language in LANGUAGES}
    for document in dice.sample(documents(f"data/text/{name}.jsonl.gz"), 150):
        text = document["text"][:4000]
        if dice.random() < 0.5:
            text = text[: dice.randint(0, len(text))]  # as `max_tokens` cuts it
        positions, start = dice.choice(ALL_POSITIONS), dice.choice(LANGUAGES)
        labels = Labels(positions, texts, start, None, 100, all_wordings())
        whole = hold_strip_law(text, labels)
        labeler = Labeler(labels)
        places = sorted(dice.randint(0, len(text)) for _ in range(len(text) // 3))
        cut = [text[begin:end] for begin, end in zip([0, *places], [*places, len(text)], strict=True)]
        assert "".join(map(labeler.feed, cut)) + labeler.finish() == whole
        reached += "middle" in labeler.applied
    assert reached > 5


def test_middle_and_end_follow_the_language_of_the_answer() -> None:
    texts = {language: wording(language, ("none",)) for language in ("zh", "en", "de")}
    labels = Labels(POSITIONS, texts, "en", None, 5)
    answer = "从前有座山。\n\n```python\nprint('a long line of code in Latin letters')\n```\n\n山里有座庙。"
    labelled = label(answer, labels)
    assert labelled.startswith(texts["en"])
    assert labelled.count(texts["zh"]) == 2  # code is left aside
    # A script that tells less than the question did changes nothing, nor does one without a text.
    assert label("Hallo Welt", Labels(("end",), texts, "de")).endswith(texts["de"])
    assert label("Привет", Labels(("end",), texts, "zh")).endswith(texts["zh"])
    assert label("Hello", Labels(("end",), texts, "zh", "de")).endswith(texts["de"])


def test_start_label_comes_with_the_first_visible_character() -> None:
    labeler = Labeler(plan(*POSITIONS))
    assert labeler.feed("\n") == "\n"
    assert labeler.feed("  ") == ""
    assert labeler.applied == ()
    assert labeler.feed("H") == f"{L}\n\n  H"
    assert labeler.applied == ("start",)


def test_once_nothing_is_due_pieces_pass_untouched() -> None:
    labeler = Labeler(plan("start"))
    labeler.feed("Hello")
    piece = " and more ```\n" * 3
    assert labeler.feed(piece) is piece
    assert labeler.finish() == ""
    assert labeler.finish() == ""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_little_is_held_back_at_any_time(case: tuple[tuple[str, ...], str, str, tuple[str, ...]]) -> None:
    """Of what shows, a label's length at most; front matter is the exception."""
    text = case[1] * 20
    labeler = Labeler(plan(*POSITIONS, after=30))
    sent = 0
    for count, character in enumerate(text, start=1):
        sent += len(labeler.feed(character))
        added = len(labeler.applied) * len(within_line(L))
        assert count - sent <= added + len(L) + 12 or text.startswith("---") or not text[:count].strip()


@pytest.mark.parametrize(
    "unit", ["Foo bar. ", "x", "天气很好。", "\n", " ", "> ", "- a\n", "<t", "```\n", "---\na: b\n", "12", "AI"]
)
def test_work_grows_with_the_text_and_no_faster(unit: str) -> None:
    """Counted in calls, character by character; each call handles a bounded piece (see the test above)."""

    def work(size: int) -> int:
        calls = 0

        def count(_frame: object, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        labeler = Labeler(plan(*POSITIONS, after=400))
        text = (unit * size)[:size]
        before = sys.getprofile()
        sys.setprofile(count)
        for character in text:
            labeler.feed(character)
        labeler.finish()
        sys.setprofile(before)
        return calls

    small, large = work(3000), work(6000)
    assert large <= 2.2 * small
    assert small <= 3000 * 60


def test_long_texts_of_one_kind_are_labelled_and_restored() -> None:
    for unit in ("Foo bar. ", "> ", "[", "- ", "天。", "`", "\n", "<!-- ", "```\n", "|-"):
        text = (unit * 150_000)[:150_000]
        labels = plan("start", "end")
        assert strip(label(text, labels), labels.known) == text


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(SettingsError, match="'top'.*allowed: start, middle, end"):
        Labels(("top",), {"zh": L}, "zh")
    with pytest.raises(SettingsError, match="'en'; given: zh"):
        Labels(("start",), {"zh": L}, "en")


def test_cut_law_helper_sees_a_labeler_that_breaks_it() -> None:
    class Framed:
        def feed(self, piece: str) -> str:
            return f"{piece}|"

        def finish(self) -> str:
            return ""

    with pytest.raises(AssertionError, match="cut"):
        hold_cut_law(Framed, "ab")


@settings(max_examples=200, derandomize=True, deadline=None, database=None)
@given(st.lists(markdown, min_size=1, max_size=3), label_plans())
def test_an_answer_in_several_places_is_restored_as_one_text_or_place_by_place(
    parts: list[str], labels: Labels
) -> None:
    labeler = Labeler(labels)
    out = [labeler.feed(part) + labeler.settle() for part in parts]
    out[-1] += labeler.finish()
    text = "".join(parts)
    if strip(text, labels.known) == text:
        assert strip("".join(out), labels.known) == text or [strip(part, labels.known) for part in out] == parts
    if not labeler.applied:
        assert out == parts
    assert labeler.settle() == "" and not labeler.due
