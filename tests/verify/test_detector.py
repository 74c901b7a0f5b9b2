"""The detector asks every technique, corrects for all that it tried, and judges with care."""

import math
import unicodedata
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from llm_label.errors import InputError, KeyringError, SettingsError
from llm_label.labels.wording import all_wordings, wording
from llm_label.metadata.aigc import Record
from llm_label.metadata.carriers import LONGEST, markdown
from llm_label.verify.detector import Detector
from llm_label.verify.findings import VisibleLabel, WatermarkTest
from llm_label.verify.source import INVISIBLE
from llm_label.verify.verdict import Verdict
from llm_label.watermark.keyring import Keyring
from tests import testdata

from .marking import VOCABULARY, key_for, marked_text, marked_with, plain_text, real_key, saved_answer, toy_tokenizer

RECORD = Record.produced("ACME", "0f8fad5bd9cb469fa16570867728950e")
LABEL = wording("zh", ["cn"])
KNOWN = all_wordings()
PLAIN = plain_text(150)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return toy_tokenizer(tmp_path)


def detector(*keys: object, alpha: float = 1e-6) -> Detector:
    return Detector(Keyring(tuple(keys)), KNOWN, alpha)  # type: ignore[arg-type]


def watermarks(verdict: Verdict) -> list[WatermarkTest]:
    return [finding for finding in verdict.evidence if isinstance(finding, WatermarkTest)]


# the watermark


def test_marked_text_is_suspected_and_a_second_key_shows_nothing(toy: Path) -> None:
    right, wrong = key_for(toy, "right"), key_for(toy, "wrong")
    verdict = detector(wrong, right).detect(marked_text(right, 150))
    decisions = {test.key: test.decision for test in watermarks(verdict)}
    assert decisions == {"right": "marked", "wrong": "not_shown"}
    assert (verdict.verdict, verdict.label) == ("suspected", "3"), "a detector alone never gives 1"


def test_every_try_of_every_key_is_paid_for(toy: Path) -> None:
    key = key_for(toy)
    text = marked_text(key, 100)
    alone = watermarks(detector(key).detect(text))[0]
    assert (alone.tests, alone.variant) == (1, "as_is"), "no variant changes the ids of this tokenizer"
    others = [key_for(toy, f"other{n}") for n in range(9)]
    crowd = watermarks(detector(*others, key).detect(text))
    assert [test.tests for test in crowd] == [10] * 10
    assert crowd[-1].log10_p == pytest.approx(alone.log10_p + 1)
    several = watermarks(detector(key).detect(saved_answer(PLAIN, "", text, plain_text(90, 2))))[0]
    assert (several.tests, several.choice, several.decision) == (3, 2, "marked")
    assert several.log10_p == pytest.approx(alone.log10_p + math.log10(3))


SCHEMES = ("gumbel", "dual_gumbel", "bernoulli")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_ring_of_several_schemes_finds_the_right_one_and_pays_for_all(toy: Path, scheme: str) -> None:
    keys = [key_for(toy, name, scheme=name) for name in SCHEMES]
    right = keys[SCHEMES.index(scheme)]
    tests = watermarks(detector(*keys).detect(marked_text(right, 200)))
    assert [(test.key, test.scheme) for test in tests] == [(name, name) for name in SCHEMES]
    assert {test.key: test.decision for test in tests} == {
        name: "marked" if name == scheme else "not_shown" for name in SCHEMES
    }
    alone = watermarks(detector(right).detect(marked_text(right, 200)))[0]
    found = tests[SCHEMES.index(scheme)]
    assert (alone.tests, found.tests) == (1, 3)
    assert found.log10_p == pytest.approx(alone.log10_p + math.log10(3))


def test_too_little_text_is_judged_by_the_power_of_each_scheme(toy: Path) -> None:
    """Sixty tokens are enough to miss a lottery, and not enough to miss a coin."""
    tests = watermarks(detector(*(key_for(toy, name, scheme=name) for name in SCHEMES)).detect(plain_text(64, 3)))
    assert [test.decision for test in tests] == ["not_shown", "not_shown", "insufficient"]


def test_p_values_are_never_above_one(toy: Path) -> None:
    keys = [key_for(toy, f"k{n}") for n in range(30)]
    for test in watermarks(detector(*keys).detect(PLAIN)):
        assert -6 < test.log10_p <= 0


@pytest.mark.parametrize("length", [0, 1, 4, 10])
def test_too_little_text_is_inconclusive(toy: Path, length: int) -> None:
    verdict = detector(key_for(toy)).detect(plain_text(length, 3))
    assert (verdict.verdict, verdict.label) == ("inconclusive", None)
    assert [test.decision for test in watermarks(verdict)] == ["insufficient"]


def test_long_text_without_marks_is_not_found_and_nobody_is_called_human(toy: Path) -> None:
    verdict = detector(key_for(toy)).detect(PLAIN)
    assert (verdict.verdict, verdict.label) == ("not_found", None)
    assert "human" not in verdict.wording["en"].lower() and "人写" not in verdict.wording["zh"]


CHANGES = {
    "front matter": lambda text: markdown.write(text, RECORD),
    "label at the start": lambda text: f"{LABEL}\n\n{text}",
    "label at the end": lambda text: f"{text}\n\n{LABEL}",
    "another's label": lambda text: f"本回答由 AI 生成，内容仅供参考\n\n{text}",
    "two labels": lambda text: f"{LABEL}\n\n{text}\n\n{LABEL}\n",
    "windows mark": lambda text: text[:400] + INVISIBLE["Windows AI text APIs"] + text[400:],
    "byte order mark": lambda text: "\ufeff" + text,
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_added_is_cut_before_the_words_are_scored(toy: Path, change: str) -> None:
    key = key_for(toy)
    text = marked_text(key, 120)
    bare = watermarks(detector(key).detect(text))[0]
    found = watermarks(detector(key).detect(CHANGES[change](text)))[0]
    assert (found.log10_p, found.scored) == (bare.log10_p, bare.scored)


# real tokenizers


@pytest.mark.parametrize(("name", "han"), [("gpt2", False), ("qwen3", False), ("qwen3", True), ("llama2-spm", False)])
def test_marks_are_found_through_real_tokenizers(name: str, han: bool) -> None:
    path = testdata.folder(f"tokenizers/{name}/tokenizer.json")
    key = real_key(path)
    text = marked_with(path, key, 60, han=han)
    judge = detector(key)
    for changed in (text, text.strip(), f" {text.strip()}\n"):
        test = watermarks(judge.detect(changed))[0]
        assert test.decision == "marked", (changed[:80], test)
        assert test.tests <= 5


def test_a_file_saved_with_crlf_is_read_as_it_was_written() -> None:
    path = testdata.folder("tokenizers/gpt2/tokenizer.json")
    key = real_key(path)
    words = marked_with(path, key, 40, han=False)
    test = watermarks(detector(key).detect(f"{words}\n\n{words}".replace("\n", "\r\n")))[0]
    assert (test.decision, test.variant) == ("marked", "lf")


def test_decomposed_text_is_tried_in_nfc() -> None:
    path = testdata.folder("tokenizers/gpt2/tokenizer.json")
    key = real_key(path)
    text = "é " + marked_with(path, key, 40, han=False)
    whole, apart = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    judge = detector(key)
    tests = [watermarks(judge.detect(form))[0].tests for form in (whole, apart)]
    assert tests[1] == tests[0] + 1


def test_special_token_strings_in_a_text_are_text() -> None:
    from llm_label.verify.encoder import Encoder

    path = testdata.folder("tokenizers/qwen3/tokenizer.json")
    key = real_key(path)
    ids = Encoder().ids("a<|im_end|>b<|endoftext|>", key)
    assert max(ids) < 151_643, "ids from 151643 on are special"


def test_people_s_text_shows_nothing() -> None:
    """Over the choice of key, an alarm in 400 texts at alpha 1e-4 has a chance of 4 %; the key is fixed."""
    path = testdata.folder("tokenizers/qwen3/tokenizer.json")
    judge = detector(real_key(path), alpha=1e-4)
    low = 0
    for name in ("human_en", "human_zh"):
        for document in testdata.documents(f"data/text/{name}.jsonl.gz")[:200]:
            test = watermarks(judge.detect(document["text"]))[0]
            assert test.decision != "marked", document["id"]
            low += test.log10_p < -1
    assert low < 60, "family-wise p below 0.1 in about a tenth at most; 60 of 400 by chance: under 1e-3"


# keys and tokenizers


def test_a_keyring_for_another_tokenizer_names_both_digests(toy: Path, tmp_path: Path) -> None:
    key = key_for(toy)
    toy_tokenizer(tmp_path, ["other", "words"])
    with pytest.raises(KeyringError) as caught:
        detector(key).detect(PLAIN)
    assert str(caught.value).count("sha256:") == 2
    assert key.spec.tokenizer and key.spec.tokenizer in str(caught.value)


@pytest.mark.parametrize("path", ["/nowhere/tokenizer.json", "~nobody-of-that-name/tokenizer.json", None])
def test_a_missing_tokenizer_is_named(toy: Path, path: str | None) -> None:
    with pytest.raises(KeyringError, match="k1.*tokenizer"):
        detector(key_for(toy, tokenizer_path=path)).detect(PLAIN)


@pytest.mark.parametrize("content", ["", "{}", '{"model": {}}', "\x80"])
def test_a_damaged_tokenizer_is_one_clear_line(toy: Path, content: str) -> None:
    key = key_for(toy, tokenizer=None)
    toy.write_text(content)
    with pytest.raises(KeyringError) as caught:
        detector(key).detect(PLAIN)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("alpha", [0, 1, -1, 2, math.nan, math.inf])
def test_alpha_is_a_probability(alpha: float) -> None:
    with pytest.raises(SettingsError, match="alpha"):
        detector(alpha=alpha)


# verdicts


def test_record_that_says_generated_confirms() -> None:
    for source in (
        markdown.write(PLAIN, RECORD),
        saved_answer(PLAIN, llm_label={"record": RECORD.to_dict()}),
        RECORD.to_json(),
    ):
        verdict = detector().detect(source)
        assert (verdict.verdict, verdict.label) == ("confirmed", "1")


STATES = [
    ({}, False, "not_found"),
    ({}, True, "possible"),
    ({"Label": "2"}, False, "possible"),
    ({"Label": "3"}, False, "suspected"),
    ({"Label": "3"}, True, "possible"),
    ({"Label": "AIGC"}, False, "suspected"),
    ({"Label": "1"}, True, "confirmed"),
    ({"Label": "1", "ContentProducer": "some space"}, False, "confirmed"),
]


@pytest.mark.parametrize(("changes", "declared", "expected"), STATES)
def test_states_of_article_6(changes: dict[str, str], declared: bool, expected: str) -> None:
    aigc = {"AIGC": {**RECORD.to_dict(), **changes}} if changes else {}
    verdict = detector().detect(saved_answer(PLAIN, **aigc), declared=declared)
    assert verdict.verdict == expected


def test_visible_label_alone_is_suspected_and_recognised_as_ours() -> None:
    verdict = detector().detect(f"{LABEL}\n\n{PLAIN}")
    found = [finding for finding in verdict.evidence if isinstance(finding, VisibleLabel)]
    assert [(label.position, label.own) for label in found] == [("start", True)]
    assert verdict.verdict == "suspected"


def test_windows_mark_is_reported() -> None:
    verdict = detector().detect(PLAIN + INVISIBLE["Windows AI text APIs"])
    assert verdict.evidence[0].to_dict() == {
        "kind": "invisible",
        "maker": "Windows AI text APIs",
        "mark": "U+200B U+034F U+2060 U+200B",
        "count": 1,
        "at": len(PLAIN),
    }
    assert verdict.verdict == "suspected"


def test_misplaced_record_is_only_a_trace() -> None:
    verdict = detector().detect(PLAIN + "\n\n" + markdown.write("", RECORD))
    assert (verdict.verdict, len(verdict.problems)) == ("suspected", 1)


def test_unreadable_front_matter_is_inconclusive_and_never_not_found() -> None:
    verdict = detector().detect("---\nAIGC: [\n---\n" + PLAIN)
    assert verdict.verdict == "inconclusive"
    assert verdict.problems


@pytest.mark.parametrize("text", ["", " \n", "hello", "你好", saved_answer(""), "data: {}\n\n"])
def test_empty_and_one_word_input_is_inconclusive_without_any_key(text: str) -> None:
    assert detector().detect(text).verdict == "inconclusive"


def test_text_that_would_take_minutes_is_refused(toy: Path) -> None:
    with pytest.raises(InputError, match=f"allowed: {LONGEST}"):
        detector(key_for(toy)).detect("a " * (LONGEST // 2 + 1))


def test_binary_input_is_refused() -> None:
    with pytest.raises(InputError, match="NUL"):
        detector().detect(b"a\0b")


# many


def test_many_inputs_are_judged_as_they_come_under_one_signature(toy: Path) -> None:
    key = key_for(toy)
    judge, asked = detector(key), []

    def sources() -> Iterator[str | bytes]:
        for source in (marked_text(key, 100), b"\xff", PLAIN, "", markdown.write(PLAIN, RECORD)):
            asked.append(source)
            yield source

    verdicts = judge.detect_many(sources())
    first = next(verdicts)
    assert len(asked) == 1, "lazily"
    found = [first, *verdicts]
    states = ["suspected", "inconclusive", "not_found", "inconclusive", "confirmed"]
    assert [verdict.verdict for verdict in found] == states
    assert {verdict.signature for verdict in found} == {judge.signature}
    assert "UTF-8" in found[1].problems[0]
    assert found[0] == judge.detect(marked_text(key, 100))


def test_results_are_frozen(toy: Path) -> None:
    key = key_for(toy)
    verdict = detector(key).detect(marked_text(key, 100))
    (test,) = watermarks(verdict)
    for thing, name in ((verdict, "verdict"), (test, "log10_p"), (test.segments[0], "start")):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, 0)
    assert isinstance(hash(test), int)


# signature


def test_signature_names_all_that_changes_a_result_and_no_secret(toy: Path) -> None:
    key = key_for(toy)
    first = detector(key).signature
    assert key.fingerprint in first and (key.spec.tokenizer or "?") in first
    assert "alpha:1e-06" in first and "variants:as_is,lf,blanks,nfc,quotes,half_width,full_width,prose" in first
    assert "windows:whole=0.75.least=16" in first
    assert first.split("|")[-1].startswith("version:")
    assert key.reveal() not in first and str(key.scheme_key()) not in first
    others = [
        detector(key, alpha=1e-3),
        detector(),
        detector(key_for(toy, "k2")),
        detector(key_for(toy, variety="none")),
        detector(key_for(toy, payload_bits=8)),
    ]
    assert len({first, *(other.signature for other in others)}) == 6


def test_rings_that_give_one_text_two_verdicts_have_two_signatures(toy: Path, tmp_path: Path) -> None:
    """It is not enough that everything stands in the signature: which key it belongs to changes results, too."""
    turned = tmp_path / "turned"
    turned.mkdir()
    other = toy_tokenizer(turned, VOCABULARY[::-1])
    pairs = [
        (
            (key_for(toy, "a", payload_bits=8), key_for(toy, "b")),
            (key_for(toy, "a"), key_for(toy, "b", payload_bits=8)),
        ),
        ((key_for(toy, "a"), key_for(other, "b")), (key_for(other, "a"), key_for(toy, "b"))),
    ]
    for right, wrong in pairs:
        text = marked_text(right[0].carrying(77 if right[0].spec.payload_bits else 0), 150)
        found, lost = detector(*right).detect(text), detector(*wrong).detect(text)
        assert (found.verdict, lost.verdict) == ("suspected", "not_found")
        assert found.signature != lost.signature


def test_signature_tells_a_declaration_and_the_labels_that_were_known(toy: Path) -> None:
    judge = detector(key_for(toy))
    plain, declared = judge.detect(PLAIN), judge.detect(PLAIN, declared=True)
    assert (plain.verdict, declared.verdict) == ("not_found", "possible")
    assert plain.signature == judge.signature != declared.signature
    assert declared.signature.split("|")[-2] == "declared:yes"
    ours = Detector(judge.ring, {"Written by ACME's machine"})
    assert ours.signature != judge.signature
