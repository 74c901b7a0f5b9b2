"""A text read in another way keeps the way back to the original."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_label.verify.reading import Edit, Reading


def origin(reading: Reading, start: int, end: int) -> tuple[int, int]:
    begin, stop = reading.origin(np.array([[start, end]]))[0].tolist()
    return begin, stop


def test_characters_beside_edits_are_found_again() -> None:
    original = "one\r\ntwo \u200bthree"
    reading = Reading(original).edited([Edit(3, 5, "\n"), Edit(9, 10)])
    assert reading.text == "one\ntwo three"
    for word in ("one", "two", "three"):
        at = reading.text.index(word)
        start, end = origin(reading, at, at + len(word))
        assert original[start:end] == word


def test_what_an_edit_wrote_is_all_that_it_replaced() -> None:
    reading = Reading("a…b").edited([Edit(1, 2, "...")])
    assert origin(reading, 2, 3) == (1, 2), "one of the three dots"
    assert origin(reading, 0, 2) == (0, 2)
    assert origin(Reading("a<<long>>b").edited([Edit(1, 9, "x")]), 1, 2) == (1, 9)


def test_an_empty_range_stays_empty_outside_of_edits() -> None:
    assert origin(Reading("abc").edited([Edit(0, 1)]), 1, 1) == (2, 2)


def test_edits_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="do not overlap"):
        Reading("abc").edited([Edit(0, 2), Edit(1, 3)])


_CUTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 4), st.text("xyz", max_size=4)), max_size=6)


def spelled(text: str, cuts: list[tuple[int, int, str]]) -> list[Edit]:
    """Turn drawn cuts into edits that fit the text."""
    edits: list[Edit] = []
    for start, size, new in sorted(cuts):
        if start >= (edits[-1].end if edits else 0) and start + size <= len(text):
            edits.append(Edit(start, start + size, new))
    return edits


@given(st.text("abcdef", max_size=30), st.lists(_CUTS, max_size=3))
def test_kept_characters_come_from_where_they_stood(text: str, rounds: list[list[tuple[int, int, str]]]) -> None:
    """Original letters are a to f and written ones x to z, so every kept letter must map to its like."""
    reading = Reading(text)
    for cuts in rounds:
        reading = reading.edited(spelled(reading.text, cuts))
    places = reading.origin(np.array([[n, n + 1] for n in range(len(reading.text))], dtype=np.int64).reshape(-1, 2))
    for letter, (start, end) in zip(reading.text, places.tolist(), strict=True):
        if letter in "abcdef":
            assert text[start:end] == letter
    assert (np.diff(places[:, 0]) >= 0).all() and (places >= 0).all() and (places <= len(text)).all()


@given(st.text("abcdef", max_size=30), st.lists(_CUTS, max_size=3))
def test_what_the_last_round_left_alone_stands_there_still(text: str, rounds: list[list[tuple[int, int, str]]]) -> None:
    readings = [Reading(text)]
    for cuts in rounds:
        readings.append(readings[-1].edited(spelled(readings[-1].text, cuts)))
    reading = readings[-1]
    before = next((other for other in reversed(readings) if other is not reading and reading.rounds), reading)
    stretches = list(reading.stretches())
    for now, then, length in stretches:
        assert reading.text[now : now + length] == before.text[then : then + length]
    written = sum(len(edit.text) for edit in reading.rounds[-1]) if reading.rounds else 0
    assert sum(length for *_, length in stretches) + written == len(reading.text)
