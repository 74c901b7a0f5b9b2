"""The AIGC record: strict to write, lenient to read. GB 45438-2025 Annex E."""

import json
from pathlib import Path

import pytest

from llm_label.errors import SettingsError
from llm_label.metadata.aigc import FIELDS, Record, fits_charset, loads, read

GOLDEN = Path(__file__).parents[1] / "golden" / "aigc_record.json"
NAME = "Example-AI"
ID = "0f8fad5bd9cb469fa16570867728950e"


def fields(**changes: object) -> dict[str, object]:
    return {**json.loads(GOLDEN.read_text()), **changes}


def test_fresh_record_equals_the_golden_file_byte_for_byte() -> None:
    assert Record.produced(NAME, ID).to_json() == GOLDEN.read_text().strip()


def test_names_and_order_are_the_standards() -> None:
    assert list(Record.produced("ACME", "1").to_dict()) == list(fields())
    assert list(FIELDS) == list(fields())


def test_first_propagator_is_the_producer_and_reserved_codes_are_empty() -> None:
    record = Record.produced("ACME", "id-1")
    assert (record.content_propagator, record.propagate_id) == (record.content_producer, record.produce_id)
    assert (record.label, record.reserved_code1, record.reserved_code2) == ("1", "", "")


def test_record_is_frozen() -> None:
    with pytest.raises(AttributeError, match="can't set attribute"):
        Record.produced("ACME", "1").label = "2"  # type: ignore[misc]


CHARSET = {
    " ": False, "!": True, '"': True, "#": True, "[": True, "\\": False, "]": True, "~": True,
    "\x7f": False, "\n": False, "\r": False, "\0": False, "中": False, "é": False,
}  # fmt: skip


@pytest.mark.parametrize(("char", "allowed"), CHARSET.items())
def test_writer_takes_exactly_the_characters_of_clause_j(char: str, allowed: bool) -> None:
    assert fits_charset(char) is allowed
    if allowed:
        assert json.loads(Record.produced(f"a{char}b", "1").to_json())["ContentProducer"] == f"a{char}b"
    else:
        with pytest.raises(SettingsError, match=f"ContentProducer has the character U\\+{ord(char):04X}"):
            Record.produced(f"a{char}b", "1")


def test_quote_is_written_escaped() -> None:
    assert r'"ContentProducer":"a\"b"' in Record.produced('a"b', "1").to_json()


@pytest.mark.parametrize("label", ["0", "4", "", "AIGC", "１"])
def test_writer_refuses_labels_outside_the_three_states(label: str) -> None:
    with pytest.raises(SettingsError, match="Label is"):
        Record(*fields(Label=label).values()).to_json()


@pytest.mark.parametrize("name", ["ContentProducer", "ProduceID", "ContentPropagator", "PropagateID"])
def test_writer_refuses_empty_names_and_numbers(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is empty"):
        Record(*fields(**{name: ""}).values()).to_json()


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("as_text", [False, True])
def test_reader_takes_bare_and_wrapped_in_any_order(wrap: bool, as_text: bool) -> None:
    shuffled: object = dict(reversed(fields().items()))
    shuffled = {"AIGC": shuffled} if wrap else shuffled
    reading = read(json.dumps(shuffled) if as_text else shuffled)
    assert reading.problems == ()
    assert reading.record == Record.produced(NAME, ID)


DEFECTS = [
    (fields(Label=1), "Label is a number, not a string", "1"),
    (fields(Label="AIGC"), "Label is 'AIGC'", "AIGC"),
    (fields(Label=None), "Label is null", ""),
    (fields(Label=True), "Label is a boolean", ""),
    (fields(ContentProducer="Minimax Agent AI"), "ContentProducer has the character U+0020", "1"),
    (fields(ContentProducer="某公司"), "ContentProducer has the character U+67D0", "1"),
    (fields(ContentProducer=["x"]), "ContentProducer is a list", "1"),
    (fields(PropatorID="x"), "unknown field 'PropatorID'", "1"),
    ({k: v for k, v in fields().items() if k != "ReservedCode2"}, "ReservedCode2 is missing", "1"),
    ({"Label": "1"}, "ProduceID is missing", "1"),
    (fields(ProduceID="\ud800"), None, "1"),
]


@pytest.mark.parametrize(("given", "problem", "label"), DEFECTS)
def test_reader_keeps_a_defective_record_and_names_the_defect(given: object, problem: str | None, label: str) -> None:
    reading = read(given)
    assert reading.record is not None
    assert reading.record.label == label
    json.dumps(reading.record.to_dict(), ensure_ascii=False).encode()  # whatever was read can be shown
    if problem:
        assert any(problem in found for found in reading.problems), reading.problems


@pytest.mark.parametrize(
    "given",
    [None, 3, [], "x", "{", '"AIGC"', {}, {"a": 1}, {"AIGC": None}, {"AIGC": []},
     {"AIGC": {"AIGC": fields()}},
     '{"AIGC":' * 5000, "[" * 60_000, "9" * 60_000, '"' + "x" * 70_000 + '"'],
)  # fmt: skip
def test_reader_says_why_there_is_no_record(given: object) -> None:
    reading = read(given)
    assert reading.record is None
    assert reading.problems


def test_reader_reports_a_field_given_twice_and_takes_the_first() -> None:
    reading = read('{"Label":"1","Label":"3","ContentProducer":"A","ProduceID":"1"}')
    assert reading.record is not None and reading.record.label == "1"
    assert "Label is given more than once" in reading.problems


def test_reader_reports_two_records_in_one_object() -> None:
    reading = read(f'{{"AIGC":{json.dumps(fields())},"AIGC":{{}}}}')
    assert reading.record is not None
    assert any("one record per file" in problem for problem in reading.problems)


def test_reader_bounds_its_list_of_unknown_fields() -> None:
    assert len(read({f"k{i}": "" for i in range(10_000)} | fields()).problems) < 20


def test_defective_record_cannot_be_written_again() -> None:
    record = read(fields(ContentProducer="a\r\nSet-Cookie: x")).record
    assert record is not None
    with pytest.raises(SettingsError, match="ContentProducer"):
        record.to_json()


def test_json_that_nests_too_deep_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="deep"):
        loads("[" * 100_000)
