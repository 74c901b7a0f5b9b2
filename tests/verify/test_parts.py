"""Parts that a model probably did not write, or that carry no signal, are found where they stand."""

import random
import time

import pytest

from llm_label.verify.parts import LONG_QUOTE, parts

LONG = "a sentence that somebody else wrote and that goes on for long enough to count"

# text with ⟦parts⟧ in brackets that are taken out before it is read, and the kinds
CASES = {
    "plain prose": ("Just a text.\n\nAnd another.\n", ()),
    "front matter": ('⟦---\ntitle: "x"\ndate: 2025\n---\n⟧Text.\n', ("front_matter",)),
    "front matter of Hugo": ("⟦+++\ntitle = 'x'\n+++\n⟧Text.\n", ("front_matter",)),
    "front matter after CRLF": ("⟦---\r\ntitle: x\r\n---\r\n⟧Text.\r\n", ("front_matter",)),
    "front matter and nothing else": ("⟦---\ntitle: x\n---⟧", ("front_matter",)),
    "a rule is no front matter": ("---\n\nText.\n\n---\nMore.\n", ()),
    "front matter without an end": ("---\ntitle: x\n\nText.\n", ()),
    "a fence": ("Text.\n\n⟦```python\nx = 1\n\ny = 2\n```\n⟧\nMore.\n", ("code",)),
    "a fence of tildes with backticks in it": ("⟦~~~\n```\n~~~\n⟧text\n", ("code",)),
    "a fence that is never closed": ("Text.\n⟦```\nx = 1⟧", ("code",)),
    "a fence in a list": ("- item\n\n⟦  ```\n  x\n  ```\n⟧- item\n", ("code",)),
    "a list item ends the fence in it": ("- item\n⟦  ```\n  x\n⟧text\n", ("code",)),
    "indented code": ("Text.\n\n⟦    x = 1\n    y = 2\n⟧\nMore.\n", ("code",)),
    "a line that continues a paragraph is not code": ("Text\n    goes on.\n", ()),
    "pre": ("Text.\n\n⟦<pre>\nx = 1\n\ny\n</pre>\n⟧More.\n", ("code",)),
    "a comment is not code": ("<!--\nx\n-->\nText.\n", ()),
    "a block quote": ("He said:\n\n⟦> one\n> two\n⟧\nMore.\n", ("quote",)),
    "a block quote that goes on without its mark": ("⟦> one\ntwo\n⟧\nMore.\n", ("quote",)),
    "code in a quote is a quote": ("⟦> ```\n> x\n> ```\n⟧text\n", ("quote",)),
    "a quote of HTML": ("⟦<blockquote>\n\nfoo\n\n</blockquote>\n⟧\ntext\n", ("quote",)),
    "a long quotation": (f"She wrote ⟦“{LONG}”⟧, and left.\n", ("quote",)),
    "a long quotation in straight marks": (f'She wrote ⟦"{LONG}"⟧, and left.\n', ("quote",)),
    "a long Chinese quotation": (f"他写道：⟦“{'春天来了花开了' * 10}。”⟧然后走了。\n", ("quote",)),
    "corner brackets": (f"彼は⟦「{'春が来た' * 20}」⟧と書いた。\n", ("quote",)),
    "a term": ('The “word” is «short» and "so is this".\n', ()),
    "what stands between two terms": (f'A "term" and {LONG} and a "term".\n', ()),
    "a mark that is never closed": (f'An inch is 1" and “{LONG}.\n\nNext ” paragraph.\n', ()),
    "a quotation ends with its paragraph": (f"“{LONG}\n\n{LONG}”\n", ()),
    "all of them": (
        f'⟦---\ntitle: x\n---\n⟧# Title\n\n⟦“{LONG}”⟧\n\n⟦> quote\n⟧\n⟦```\ncode\n```\n⟧Text ⟦"{LONG}"⟧.\n',
        ("front_matter", "quote", "quote", "code", "quote"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_parts_stand_where_they_stand(case: str) -> None:
    marked, kinds = CASES[case]
    text = marked.replace("⟦", "").replace("⟧", "")
    found = parts(text)
    assert tuple(part.kind for part in found) == kinds
    shown, at = "", 0
    for part in found:
        shown += f"{text[at : part.start]}⟦{text[part.start : part.end]}⟧"
        at = part.end
    assert shown + text[at:] == marked


def test_parts_are_in_order_and_never_overlap() -> None:
    pieces = [
        "```\n",
        "> q\n",
        "    code\n",
        "text “",
        "”",
        f' "{LONG}"',
        "\n",
        "\n\n",
        "- item\n",
        "<pre>",
        "</pre>\n",
        "---\n",
        "k: v\n",
    ]
    rng = random.Random(1)
    for _ in range(500):
        text = "".join(rng.choices([*pieces, "x" * LONG_QUOTE], k=rng.randint(0, 30)))
        found = parts(text)
        assert all(0 <= part.start < part.end <= len(text) for part in found)
        assert all(one.end <= two.start for one, two in zip(found, found[1:], strict=False))


@pytest.mark.parametrize("unit", ["“", '"', '"a ', "«" + "x" * 61, "\n", "> ", "`", "``` \n", "    x\n", "<pre>\n"])
def test_odd_texts_take_linear_time(unit: str) -> None:
    """A quadratic search would take minutes; two seconds leave room for a busy machine."""
    start = time.process_time()
    parts(unit * (100_000 // len(unit)))
    assert time.process_time() - start < 2
