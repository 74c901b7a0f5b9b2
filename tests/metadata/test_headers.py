"""Response headers, read back by a parser of RFC 9651 that is not ours."""

import json
from typing import Any

import http_sf
import pytest

from llm_label.errors import SettingsError
from llm_label.metadata.aigc import Record
from llm_label.metadata.headers import LIMIT, AiDisclosure, read_response_headers, response_headers

RECORD = Record.produced("ACME", "0f8fad5bd9cb469fa16570867728950e")


def parsed(name: str, **given: Any) -> dict[str, Any]:
    value = dict(response_headers(RECORD, **given))[name]
    assert value.isascii() and value.isprintable()
    return {key: item[0] for key, item in http_sf.parse(value.encode(), tltype="dictionary").items()}


def test_record_travels_as_compact_json() -> None:
    value = dict(response_headers(RECORD, label=("start",)))["X-AIGC"]
    assert value == RECORD.to_json()
    assert list(json.loads(value)) == list(RECORD.to_dict())


def test_plan_is_a_dictionary_with_positions_as_tokens() -> None:
    plan = parsed("X-LLM-Label", label=("start", "end"), watermark="gumbel", key="k-1", policy="cn-1a2b")
    positions = [item for item, _ in plan["label"]]
    assert [type(item) for item in positions] == [http_sf.Token, http_sf.Token]
    assert [str(item) for item in positions] == ["start", "end"]
    assert (plan["watermark"], plan["key"], plan["policy"]) == ("gumbel", "k-1", "cn-1a2b")
    assert list(plan) == ["label", "watermark", "key", "policy"]


def test_plan_is_written_as_documented() -> None:
    value = dict(response_headers(RECORD, label=("start", "end"), watermark="gumbel", key="k", policy="p"))
    assert value["X-LLM-Label"] == 'label=(start end), watermark="gumbel", key="k", policy="p"'
    skipped = dict(response_headers(RECORD, skipped="structured"))
    assert skipped["X-LLM-Label"] == 'skipped="structured"'


@pytest.mark.parametrize("value", ['a"b', "a\\b", "a\\", '"', "", "a, b;c=(d)"])
def test_strings_are_escaped(value: str) -> None:
    assert parsed("X-LLM-Label", policy=value)["policy"] == value


def test_nothing_planned_sends_no_empty_header() -> None:
    assert [name for name, _ in response_headers(None)] == []


def test_disclosure_is_off_unless_asked_for() -> None:
    assert "AI-Disclosure" not in dict(response_headers(RECORD))


def test_disclosure_separates_members_by_commas() -> None:
    found = parsed("AI-Disclosure", ai_disclosure=AiDisclosure("qwen3-max", "ACME"))
    assert found == {"mode": http_sf.Token("machine-generated"), "model": "qwen3-max", "provider": "ACME"}


@pytest.mark.parametrize("model", [None, "", "通义千问", "a\nb", "x" * 129])
def test_disclosure_leaves_out_a_model_that_is_no_string_of_rfc_9651(model: str | None) -> None:
    found = parsed("AI-Disclosure", ai_disclosure=AiDisclosure(model, "ACME"))
    assert sorted(found) == ["mode", "provider"]


@pytest.mark.parametrize("bad", ["中", "a\r\nSet-Cookie: x", "\x7f"])
def test_our_own_members_refuse_what_no_header_can_carry(bad: str) -> None:
    with pytest.raises(SettingsError, match="cannot stand in a header"):
        response_headers(RECORD, policy=bad)
    with pytest.raises(SettingsError, match="cannot stand in a header"):
        response_headers(RECORD, label=(bad,))


def test_headers_stay_under_the_limit_for_the_longest_names() -> None:
    record = Record.produced('"' * 128, "f" * 64)
    headers = response_headers(
        record,
        label=("start", "middle", "end"),
        watermark="gumbel",
        key="k" * 64,
        policy="p" * 64,
        ai_disclosure=AiDisclosure("m" * 128, '"' * 128),
    )
    assert sum(len(name) + len(value) + 4 for name, value in headers) < LIMIT == 4096


def test_headers_above_the_limit_are_refused() -> None:
    with pytest.raises(SettingsError, match="allowed: 4096"):
        response_headers(Record.produced("x" * 2100, "1"))


def test_headers_are_read_as_they_are_written() -> None:
    told = read_response_headers(
        RECORD.to_json(), 'label=(start end), watermark="gumbel", key="2026-11", policy="cn-1"'
    )
    assert told is not None and (told.label, told.watermark, told.key) == (("start", "end"), "gumbel", "2026-11")
    told = read_response_headers(RECORD.to_json(), 'skipped="off", watermark="gumbel", key="k", policy="cn-1"')
    assert told is not None and (told.label, told.watermark) == ((), "gumbel")
    told = read_response_headers(RECORD.to_json(), 'skipped="off", policy="watermark=x"')
    assert told is not None and (told.label, told.watermark, told.key) == ((), None, None)


@pytest.mark.parametrize("line", ["", "label=(start)\t", 'label=(start), policy="中"', "label=(start)\udc80"])
def test_a_line_that_is_none_of_ours_is_not_read(line: str) -> None:
    assert read_response_headers(RECORD.to_json(), line) is None
