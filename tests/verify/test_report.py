"""A verdict as JSON, for strangers, as a line, and in the terminal."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from llm_label.errors import KeyringError
from llm_label.labels.wording import all_wordings, wording
from llm_label.metadata.aigc import Record
from llm_label.metadata.carriers import markdown
from llm_label.verify.detector import Detector
from llm_label.verify.findings import WatermarkTest
from llm_label.verify.report import coarse, line, terminal, to_dict
from llm_label.verify.verdict import Verdict
from llm_label.watermark.keyring import Key, Keyring

from .marking import key_for, marked_text, saved_answer, toy_tokenizer

RECORD = Record.produced("ACME", "id-1")


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return key_for(toy_tokenizer(tmp_path))


@pytest.fixture
def full(key: Key) -> Verdict:
    """A verdict with every kind of evidence."""
    text = f"{wording('en', ['cn'])}\n\n{marked_text(key, 120)}\u200b\u034f\u2060\u200b"
    other = key_for(Path(key.spec.tokenizer_path or ""), "other")
    return Detector(Keyring((other, key)), all_wordings()).detect(markdown.write(text, RECORD))


def shown(verdict: Verdict, width: int = 200, **given: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(terminal(verdict, **given))
    return out.getvalue()


def test_json_has_the_documented_shape(full: Verdict) -> None:
    told = json.loads(json.dumps(to_dict(full)))
    assert list(told) == ["verdict", "label", "wording", "evidence", "signature"]
    assert sorted(told["wording"]) == ["en", "zh"]
    assert [found["kind"] for found in told["evidence"]] == [
        "record", "label", "invisible", "watermark", "watermark",
    ]  # fmt: skip
    mark = told["evidence"][-1]
    assert {"key", "scheme", "log10_p", "scored", "skipped", "tests", "decision"} <= set(mark)
    assert (mark["key"], mark["scheme"], mark["tests"], mark["decision"]) == ("k1", "gumbel", 2, "marked")


def test_strangers_are_not_told_what_is_wrong_with_which_key(key: Key) -> None:
    judge = Detector(Keyring((key,)), ())
    Path(key.spec.tokenizer_path or "").unlink()
    for exact, told in ((True, "k1"), (False, "admin token")):
        with pytest.raises(KeyringError, match=told) as caught:
            judge("some text", exact)
    assert "k1" not in str(caught.value) and "tokenizer.json" not in str(caught.value)


def test_coarse_form_holds_nothing_that_helps_a_forger(full: Verdict, key: Key) -> None:
    told = coarse(full)
    assert list(told) == ["verdict", "label", "wording", "evidence", "signature"]
    assert [found for found in told["evidence"] if found["kind"] == "watermark"] == [
        {"kind": "watermark", "decision": "marked"}
    ]
    text = json.dumps(told)
    for secret in ("log10_p", "scored", "k1", "other", key.fingerprint, key.spec.tokenizer or "?", "tests"):
        assert secret not in text
    assert told["signature"].split("|")[-1].startswith("version:")


def test_terminal_view_tells_what_was_found_and_what_it_means(full: Verdict) -> None:
    text = shown(full)
    for part in (
        "confirmed (Label 1)",
        "ACME",
        "key k1",
        "10^-",
        "not shown",
        "start",
        "属于",
        "p is the chance",
    ):
        assert part in text
    assert full.wording["en"] in text and "how: alpha:" in text and "; correction:" in text


def test_a_p_that_rounds_to_one_is_written_as_one(full: Verdict) -> None:
    test = next(finding for finding in full.evidence if isinstance(finding, WatermarkTest))
    for log10_p, written in ((0.0, "p 1;"), (-0.01, "p 1;"), (-0.2, "p 10^-0.2;")):
        assert written in shown(replace(full, evidence=(replace(test, log10_p=log10_p),)))


@pytest.mark.parametrize("width", [20, 40, 80])
def test_terminal_view_fits_narrow_windows(full: Verdict, width: int) -> None:
    assert max(len(row) for row in shown(full, width).splitlines()) <= width


def test_terminal_view_says_when_no_key_was_given() -> None:
    text = shown(Detector(Keyring(), ()).detect("word " * 50), keys=False)
    assert "not asked" in text and "not_found" in text


def test_foreign_text_cannot_command_the_terminal() -> None:
    evil = "a\x1b]0;pwned\x07[bold]b\u202e"
    aigc = {**RECORD.to_dict(), "ContentProducer": evil, evil: ""}
    text = shown(Detector(Keyring(), ()).detect(saved_answer("x", AIGC=aigc)))
    assert "\x1b" not in text and "\u202e" not in text and "\x07" not in text
    assert "[bold]" in text


def test_line_names_the_state_and_its_grounds(full: Verdict) -> None:
    told = line(full)
    assert told.startswith("confirmed") and "\n" not in told
    assert "record:1" in told and "label:start" in told and "watermark:k1:10^-" in told
