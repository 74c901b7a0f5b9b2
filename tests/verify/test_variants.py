"""Each variant undoes what really happens to texts, and says where."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_label.verify.reading import Reading
from llm_label.verify.variants import VARIANTS, readings

MARKDOWN = 'It said "no".\n\n- one\n- two…\n'

# what happened, to the written text, the name of the variant that gives it back
CHANGES = {
    "saved with CRLF": ("one\ntwo\n\nthree\n", lambda t: t.replace("\n", "\r\n"), "lf"),
    "old Mac line ends": ("one\ntwo\n", lambda t: t.replace("\n", "\r"), "lf"),
    "line separators of a PDF": ("one\ntwo\n", lambda t: t.replace("\n", "\u2028"), "lf"),
    "no-break spaces of an editor": ("a b c d", lambda t: t.replace(" ", "\u00a0"), "blanks"),
    "soft hyphens of a page": ("hyphenation", lambda t: t.replace("na", "na\u00ad"), "blanks"),
    "break hints of a page": ("path/to/file", lambda t: t.replace("/", "/\u200b"), "blanks"),
    "format=flowed mail": ("one\ntwo\nthree", lambda t: t.replace("\n", " \n"), "blanks"),
    "a form and a web page": ("a b\nc d\n", lambda t: t.replace(" ", "\u00a0").replace("\n", "\r\n"), "blanks"),
    "a file system that decomposes": ("Café, 서울, Đà Nẵng", lambda t: unicodedata.normalize("NFD", t), "nfc"),
    "a word processor": (
        'He said "it\'s".',
        lambda t: re.sub(r' "', " “", t).replace('"', "”").replace("'", "’"),
        "quotes",
    ),
    "a form that widens": (
        "订单ABC-123",
        lambda t: "".join(chr(ord(c) + 0xFEE0) if c < "\x7f" else c for c in t),
        "half_width",
    ),
    "an input method that widens": (
        "It said: yes, of course (5%)!\n",
        lambda t: t.translate({c: c + 0xFEE0 for c in range(0x21, 0x7F)} | {0x20: 0x3000}),
        "half_width",
    ),
    "cleaned by NFKC": ("春天来了，花开了（真的）！好吗？……", lambda t: unicodedata.normalize("NFKC", t), "full_width"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_happens_to_texts_is_undone(case: str) -> None:
    written, change, name = CHANGES[case]
    arrived = change(written)
    assert arrived != written
    found = {reading.text: variant for variant, reading in readings(Reading(arrived)).items()}
    assert found.get(written) == name


@pytest.mark.parametrize(
    "text",
    [
        "Plain text, with a line.\nAnd another.",
        "春天来了，花开了（真的）！\n\u3000\u3000好吗？2024年1,000元，对不对；",
        "x = f(a, b)\n\tif y: pass\n",
    ],
)
def test_a_text_that_met_nothing_is_one_reading(text: str) -> None:
    assert list(readings(Reading(text))) == ["as_is"]


def test_each_reading_is_another_text() -> None:
    texts = [reading.text for reading in readings(Reading("“a” Ａ\u00a0e\u0301 \r\n春,天\n> quote")).values()]
    assert len(texts) == len(set(texts)) == len(VARIANTS)


@given(
    st.text(
        st.sampled_from("ab e\u0301\u1100\u1161\u11a8Å\u030a\u0327春,()\u00a0\u200b\r\n…“１A\u0915\u093c\u09c7\u09be"),
        max_size=40,
    )
)
def test_nfc_by_parts_is_nfc_of_the_whole(text: str) -> None:
    found = {name: reading.text for name, reading in readings(Reading(text)).items()}
    before = [found[name] for name in ("as_is", "lf", "blanks") if name in found][-1]
    assert found.get("nfc", before) == unicodedata.normalize("NFC", before)


def test_a_long_run_of_blanks_takes_linear_time() -> None:
    """A quadratic search would take hours."""
    assert readings(Reading(" " * 1_000_000 + "x"))["as_is"]
    assert list(readings(Reading("a\u0301" * 200_000))) == ["as_is", "nfc"]


def test_a_long_text_is_not_read_again_for_a_change_here_and_there() -> None:
    sparse = ("word " * 80 + "don’t. ") * 20
    dense = "He said “don’t”. " * 20
    assert list(readings(Reading(sparse))) == ["as_is"]
    assert list(readings(Reading(sparse.replace(".", ".\r\n")))) == ["as_is", "lf"], "a line end is no matter of taste"
    both = readings(Reading(sparse + dense))["quotes"].text
    assert both.startswith(sparse[:-1500]) and both.endswith(
        dense.replace("“", '"').replace("”", '"').replace("’", "'")
    )
    assert list(readings(Reading(sparse[:1000]))) == ["as_is", "quotes"], "in a short text every token counts"


def test_chinese_keeps_its_quotes() -> None:
    assert list(readings(Reading("他说：“好……”，然后“走”了。"))) == ["as_is"]


def test_what_others_wrote_is_left_out_once() -> None:
    quoting = "My view:\n\n> " + "what they said " * 5 + "\n\n```\nx = 1\n```\n\nI agree."
    assert readings(Reading(quoting))["prose"].text == "My view:\n\n\n\nI agree."
    assert list(readings(Reading("> word\n\n" + "My view. " * 40))) == ["as_is"], "too little to thin a mark out"
