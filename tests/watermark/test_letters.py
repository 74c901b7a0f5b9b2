"""Units of text that no tokenizer makes: what counts as the same letter, where each stands, how they cut."""

import unicodedata
from collections.abc import Callable

import numpy as np
import pytest

from llm_label.watermark.letters import Letters, letters

MIXED = "# Der **Spaß**\r\nｷｬﾝﾃﾞｨ, 𝒜𝓈 ﬁne as “It's 3½ ㎞”!\n\n```py\nx = 'é'\n```\n你好,世界 한국어 हिन्दी 😀\u200b\ud800"


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("", ""),
        (" \n\t*#-—“”。,、|\u200b\u200d\ufeff😀", ""),
        ("The QUICK brown", "thequickbrown"),
        ("Ａｂ１", "ab1"),
        ("ß ﬁ ½", "ssfi12"),
        ("é e\u0301 ё", "eee"[:2] + "е"),  # Cyrillic stays Cyrillic
        ("Σς", "σσ"),
        ("臺灣 台湾", "臺灣台湾"),  # other characters, other units
        ("が か\u3099", "かか"),
    ],
)
def test_letters_and_digits_count_as_they_are_heard(text: str, heard: str) -> None:
    ids, offsets = letters(text)
    assert Letters().decode(ids.tolist()) == heard
    assert ids.dtype == offsets.dtype == np.int64 and offsets.shape == (len(ids), 2)


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        str.lower,
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: text.replace("\r\n", "\n").replace("*", "").replace("`", "").replace("#", ""),
        lambda text: " ".join(text.split()),
        lambda text: text.replace(",", "，").replace("“", '"'),
        lambda text: text.encode("utf-8", "replace").decode(),  # half a pair of surrogates becomes "?"
    ],
)
def test_what_changes_no_letter_changes_nothing(change: Callable[[str], str]) -> None:
    assert change(MIXED) != MIXED
    assert letters(change(MIXED))[0].tolist() == letters(MIXED)[0].tolist()


def test_every_character_is_taken_by_itself_wherever_a_text_is_cut() -> None:
    ids, offsets = letters(MIXED)
    for cut in range(len(MIXED) + 1):
        (left, at), (right, after) = Letters().encode_all([MIXED[:cut], MIXED[cut:]])
        assert [*left, *right] == ids.tolist()
        assert [*at.tolist(), *(after + cut).tolist()] == offsets.tolist()


def test_offsets_name_the_character_that_each_unit_came_from() -> None:
    ids, offsets = letters(MIXED)
    for unit, (start, end) in zip(ids.tolist(), offsets.tolist(), strict=True):
        assert end == start + 1
        assert unit in letters(MIXED[start:end])[0].tolist()
    doubled = letters("ß1")[1].tolist()
    assert doubled == [[0, 1], [0, 1], [1, 2]]
