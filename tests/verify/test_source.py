"""What was written in an input, and the way back: each character is the one that stands in the file."""

from pathlib import Path

import numpy as np
import pytest

from llm_label.labels.wording import all_wordings, wording
from llm_label.metadata.aigc import Record
from llm_label.metadata.carriers import markdown
from llm_label.verify.source import INVISIBLE, open_source

from .marking import plain_text, saved_answer

RECORD = Record.produced("ACME", "id-1")
MARK = INVISIBLE["Windows AI text APIs"]
BODY = f"# Title\n\n{plain_text(60)}\n\n---\n\n春天来了。\r\n\r\n{plain_text(20, 1)}\n"
LABEL = wording("zh", ["cn"])

FILES = {
    "plain": BODY,
    "record": markdown.write(BODY, RECORD),
    "record among other keys": markdown.write(BODY, RECORD).replace(
        "---\nAIGC", "---\ntitle: AIGC\ntags: [a]\nAIGC", 1
    ),
    "record twice": markdown.write(markdown.write(BODY, RECORD), RECORD),
    "record at a wrong place": f"{BODY}\n{markdown.write('', RECORD)}\nmore text\n",
    "HTTP head": f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n{BODY}",
    "labels": f"{LABEL}\n\n{BODY}\n\n{LABEL}\n",
    "invisible marks": f"{BODY[:30]}{MARK}{BODY[30:70]}{MARK}{MARK}{BODY[70:]}",
    "all": markdown.write(f"{LABEL}\n\n{BODY[:40]}{MARK}{BODY[40:]}\n\n{LABEL}\n", RECORD),
    "empty": "",
    "only a label": LABEL,
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("as_bytes", [False, True])
def test_every_character_is_found_again_in_the_file(name: str, as_bytes: bool) -> None:
    file = FILES[name]
    (written,) = open_source(file.encode() if as_bytes else file, all_wordings()).texts
    text, each = written.reading.text, np.arange(len(written.reading.text))
    places = written.reading.origin(np.column_stack([each, each + 1]))
    assert written.original == file
    assert [file[start:end] for start, end in places.tolist()] == list(text)
    assert MARK not in text and LABEL not in text
    assert (places[1:, 0] >= places[:-1, 1]).all()


@pytest.mark.parametrize("name", [name for name in FILES if name not in ("empty", "only a label")])
def test_what_was_written_joins_up_again(name: str) -> None:
    (written,) = open_source(FILES[name], all_wordings()).texts
    assert plain_text(60) in written.reading.text and plain_text(20, 1) in written.reading.text


def test_texts_that_a_file_spells_as_json_count_by_themselves() -> None:
    first, second = open_source(saved_answer(f"{LABEL}\n\nhello “you”", "two\nlines"), all_wordings()).texts
    assert (first.original, first.reading.text) == (f"{LABEL}\n\nhello “you”", "hello “you”")
    assert (second.original, second.reading.text) == ("two\nlines", "two\nlines")


def test_a_byte_order_mark_is_no_character_of_bytes(tmp_path: Path) -> None:
    (written,) = open_source(b"\xef\xbb\xbfhello", ()).texts
    assert (written.original, written.reading.text) == ("hello", "hello")
    (written,) = open_source("\ufeffhello", ()).texts
    assert written.reading.origin(np.array([[0, 5]])).tolist() == [[1, 6]]


def test_a_surrogate_without_its_other_half_costs_its_own_place_only() -> None:
    """Such texts come from JSON that was cut, and from files read with `surrogateescape`."""
    (written,) = open_source(f"{BODY}\ud83d\n\n{BODY}", all_wordings()).texts
    assert written.reading.text == f"{BODY}\ufffd\n\n{BODY}" and not written.reading.rounds
    assert written.original == written.reading.text
