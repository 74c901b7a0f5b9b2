"""Mixed documents, end to end: what was marked is found, as characters of the file at hand."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from llm_label.cli.detect import detect
from llm_label.labels.wording import all_wordings, wording
from llm_label.metadata.aigc import Record
from llm_label.metadata.carriers import markdown
from llm_label.verify.detector import Detector
from llm_label.verify.evidence import Evidence
from llm_label.verify.findings import Segment, WatermarkTest
from llm_label.verify.long import Judged, joined
from llm_label.verify.report import coarse, line, terminal
from llm_label.verify.source import INVISIBLE, open_source
from llm_label.verify.watermarks import _apart
from llm_label.watermark import shortlist
from llm_label.watermark.keyring import Key, Keyring, Spec
from tests import testdata

from .marking import key_for, marked_text, marked_with, plain_text, real_key, saved_answer, toy_tokenizer

RECORD = Record.produced("ACME", "id-1")
WORD = 6  # characters of a toy word, its space included, and a little more


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return toy_tokenizer(tmp_path)


def detector(*keys: Key, alpha: float = 1e-6) -> Detector:
    return Detector(Keyring(keys), all_wordings(), alpha)


def said(judge: Detector, source: str | bytes) -> list[WatermarkTest]:
    return [finding for finding in judge.detect(source).evidence if isinstance(finding, WatermarkTest)]


def near(segment: Segment, start: int, end: int, room: int = 8 * WORD) -> bool:
    return abs(segment.start - start) <= room and abs(segment.end - end) <= room


def test_a_marked_passage_in_a_human_text_is_told_as_characters(toy: Path) -> None:
    key = key_for(toy)
    before, mark, after = plain_text(300, 1), marked_text(key, 120), plain_text(200, 2)
    text = f"{before}\n\n{mark}\n\n{after}"
    (test,) = said(detector(key), text)
    (segment,) = test.segments
    assert test.decision == "marked" and test.windows > 100
    assert near(segment, len(before) + 2, len(before) + 2 + len(mark))
    assert segment.excerpt.split()[0] in text[segment.start :].split()[0]
    assert test.log10_p <= segment.log10_p <= -6.0 and 100 <= segment.scored <= 130


CHANGES = {
    "front matter": lambda text: markdown.write(text, RECORD),
    "front matter of others as well": lambda text: markdown.write(text, RECORD).replace(
        "---\nAIGC", "---\ntitle: x\nAIGC", 1
    ),
    "HTTP head": lambda text: f"HTTP/1.1 200 OK\nContent-Type: text/plain\n\n{text}",
    "label at the start": lambda text: f"{wording('zh', ['cn'])}\n\n{text}",
    "label at both ends": lambda text: f"{wording('en', ['cn'])}\n\n{text}\n\n{wording('en', ['cn'])}",
    "windows mark": lambda text: text[:40] + INVISIBLE["Windows AI text APIs"] + text[40:],
    "byte order mark": lambda text: "\ufeff" + text,
    "crlf": lambda text: text.replace("\n", "\r\n"),
    "no-break spaces": lambda text: text[:60].replace(" ", "\u00a0") + text[60:],
}


@pytest.mark.parametrize("change", CHANGES)
def test_characters_are_those_of_the_file_whatever_was_put_into_it(toy: Path, change: str) -> None:
    key = key_for(toy)
    before, mark, after = plain_text(150, 1), marked_text(key, 100), plain_text(150, 2)
    text = CHANGES[change]("\n\n".join(p for part in (before, mark, after) for p in part.split(" the ")))
    words = mark.split(" the ")
    (segment,) = said(detector(key), text)[0].segments
    start, last = text.index(words[0]), text.index(words[-1])
    assert near(segment, start, last + len(words[-1]), room=12 * WORD)


def test_the_record_s_lines_are_cut_out_of_what_was_written(toy: Path) -> None:
    text = CHANGES["front matter of others as well"]("body\n")
    (written,) = open_source(text, ()).texts
    assert written.reading.text == "---\ntitle: x\n---\nbody\n" == written.text
    ranges = np.array([(4, 12), (len(written.text) - 5, len(written.text))])
    assert [text[a:b] for a, b in written.reading.origin(ranges)] == ["title: x", "body\n"]


def test_two_keys_and_two_passages_of_one_in_one_document(toy: Path) -> None:
    first, second = key_for(toy, "first"), key_for(toy, "second")
    parts = [plain_text(200, 1), marked_text(first, 100, 1), plain_text(200, 2), marked_text(second, 100, 2),
             plain_text(200, 3), marked_text(first, 100, 3), plain_text(200, 4)]  # fmt: skip
    text = "\n".join(parts)
    places = {n: (text.index(parts[n]), text.index(parts[n]) + len(parts[n])) for n in (1, 3, 5)}
    a, b = said(detector(first, second), text)
    assert (a.decision, b.decision, a.tests) == ("marked", "marked", 2)
    assert len(a.segments) == 2 and len(b.segments) == 1
    assert near(a.segments[0], *places[1]) and near(b.segments[0], *places[3]) and near(a.segments[1], *places[5])


def test_segments_of_several_answers_name_their_choice(toy: Path) -> None:
    key = key_for(toy)
    texts = [marked_text(key, 80, 1), plain_text(80), f"{plain_text(100)} {marked_text(key, 80, 2)}"]
    (test,) = said(detector(key), saved_answer(*texts))
    assert [segment.choice for segment in test.segments] == [0, 2]
    assert test.segments[0].start == 0 and test.segments[0].end == len(texts[0])
    assert near(test.segments[1], len(plain_text(100)) + 1, len(texts[2]))


@pytest.mark.parametrize(("name", "han"), [("gpt2", False), ("qwen3", True), ("qwen3", False), ("deepseek-v3", True)])
def test_machine_passages_in_people_s_text_are_found_through_real_tokenizers(name: str, han: bool) -> None:
    path = testdata.folder(f"tokenizers/{name}/tokenizer.json")
    key = real_key(path)
    documents = testdata.documents(f"data/text/human_{'zh' if han else 'en'}.jsonl.gz")
    people = "\n\n".join(document["text"] for document in documents[:3])
    middle = people.index("\n", len(people) // 2)
    mark = marked_with(path, key, 80, han=han)
    text = f"{people[:middle]}\n\n{mark}\n{people[middle:]}"
    test = said(detector(key), text)[0]
    (segment,) = test.segments
    room = len(mark) // 8
    start = text.index(mark)
    assert abs(segment.start - start) <= room and abs(segment.end - start - len(mark)) <= room


def test_unmarked_text_has_no_segments_and_strangers_are_told_of_none(toy: Path) -> None:
    key = key_for(toy)
    judge = detector(key)
    assert said(judge, plain_text(600))[0].segments == ()
    told = json.dumps(coarse(judge.detect(f"{plain_text(300)} {marked_text(key, 100)}")))
    assert "marked" in told
    for word in ("segments", "start", "excerpt", "more_tokens", '"windows"'):
        assert word not in told
    assert "more_tokens" not in json.dumps(coarse(judge.detect("w001 w002 w003")))


# too little text


def test_too_little_text_says_about_how_much_more_is_needed(toy: Path) -> None:
    key = key_for(toy)
    (test,) = said(detector(key), plain_text(24, 3))
    assert test.decision == "insufficient" and test.more_tokens
    assert f"about {test.more_tokens} more tokens needed" in shown(detector(key), plain_text(24, 3))
    enough = plain_text(test.scored + test.skipped + test.more_tokens, 3)
    (longer,) = said(detector(key), enough)
    assert (longer.decision, longer.more_tokens) == ("not_shown", None)
    assert "more_tokens" not in longer.to_dict() and test.to_dict()["more_tokens"] == test.more_tokens


def test_more_keys_need_more_tokens(toy: Path) -> None:
    keys = [key_for(toy, f"k{n}") for n in range(20)]
    alone, crowd = (said(detector(*some), plain_text(24, 3))[0] for some in (keys[:1], keys))
    assert (alone.more_tokens or 0) < (crowd.more_tokens or 0)


# reports


def shown(judge: Detector, source: str, width: int = 400) -> str:
    from rich.console import Console

    console = Console(width=width, highlight=False)
    with console.capture() as caught:
        console.print(terminal(judge.detect(source)))
    return caught.get()


def test_the_terminal_shows_where_and_keeps_to_a_dozen(toy: Path) -> None:
    key = key_for(toy)
    told = shown(detector(key), f"{plain_text(300)} {marked_text(key, 100)} \x1b[2J")
    assert "characters " in told and "\x1b" not in told
    random.seed(1)
    many = " ".join(f"{plain_text(150, n)} {marked_text(key, 60, n)}" for n in range(15))
    told = shown(detector(key), many)
    assert told.count("characters ") == 12 and "and 3 more" in told
    assert "\n" not in line(detector(key).detect(many))


def test_the_command_prints_segments_of_a_mixed_document(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    keys = key_for(toy, "first"), key_for(toy, "second")
    (tmp_path / "ring.json").write_text(Keyring(keys).dumps())
    (tmp_path / "ring.json").chmod(0o600)
    text = f"{plain_text(200)}\n{marked_text(keys[0], 100, 1)}\n{plain_text(200, 1)}\n{marked_text(keys[1], 100, 2)}"
    (tmp_path / "mixed.txt").write_text(text)
    result = CliRunner().invoke(detect, ["--keyring", "ring.json", "--json", "mixed.txt"])
    assert result.exit_code == 0
    found = [e for e in json.loads(result.stdout)["evidence"] if e["kind"] == "watermark"]
    assert [len(e["segments"]) for e in found] == [1, 1]
    for test, n in zip(found, (1, 3), strict=True):
        segment = test["segments"][0]
        part = text.split("\n")[n]
        assert abs(segment["start"] - text.index(part)) <= 8 * WORD
        assert abs(segment["end"] - text.index(part) - len(part)) <= 8 * WORD


# payloads


@pytest.mark.parametrize("scheme", ["gumbel", "bernoulli"])
def test_the_payload_of_a_passage_is_read_and_named(toy: Path, scheme: str) -> None:
    key = key_for(toy, scheme=scheme, payload_bits=8).naming(77, "Singapore, blue")
    mark = marked_text(key.carrying(77), 200)
    text = f"{plain_text(900, 1)} {mark} {plain_text(900, 2)}"
    (test,) = said(detector(key), text)
    assert (test.decision, test.payload, test.payload_name, test.tests) == ("marked", 77, "Singapore, blue", 256)
    assert all(segment.payload == 77 for segment in test.segments)
    assert near(test.segments[0], text.index(mark), test.segments[0].end, room=40 * WORD)
    table = shown(detector(key), text)
    assert table.count("payload 77 (Singapore, blue)") == 1 + len(test.segments)
    told = test.to_dict()
    for found in (told, *told["segments"]):
        assert (found["payload"], found["payload_name"]) == (77, "Singapore, blue")
    assert line(detector(key).detect(text)).endswith(":payload 77 (Singapore, blue)")


def test_two_payloads_of_one_key_in_one_document(toy: Path) -> None:
    key = key_for(toy, payload_bits=8)
    marks = [marked_text(key.carrying(payload), 100, payload) for payload in (3, 200)]
    text = f"{plain_text(400, 1)} {marks[0]} {plain_text(400, 2)} {marks[1]} {plain_text(400, 3)}"
    (test,) = said(detector(key), text)
    assert [segment.payload for segment in test.segments] == [3, 200]
    for segment, mark in zip(test.segments, marks, strict=True):
        assert near(segment, text.index(mark), text.index(mark) + len(mark))


def test_payloads_are_paid_for_by_their_own_key_alone(toy: Path) -> None:
    plain, many = key_for(toy, "plain"), key_for(toy, "many", payload_bits=12)
    text = marked_text(plain, 100)
    alone, both = said(detector(plain), text)[0], said(detector(plain, many), text)
    assert [test.tests for test in both] == [2, 2 * 4096]
    assert both[0].log10_p == pytest.approx(alone.log10_p + np.log10(2))
    assert (both[1].decision, both[1].payload, both[1].segments) == ("not_shown", None, ())


def test_unmarked_text_shows_no_payload_more_often_than_a_key_without(toy: Path) -> None:
    """Sixty keys of 6 bits at alpha 1 %: more than 7 alarms by chance 1e-6; the best of 64 unpaid would alarm 28 times."""
    found = [
        said(detector(key_for(toy, f"k{n}", payload_bits=6), alpha=0.01), plain_text(150, n))[0] for n in range(60)
    ]
    assert sum(test.decision == "marked" for test in found) <= 7


def test_the_payload_is_no_matter_for_strangers_and_not_told_of_unmarked_text(toy: Path) -> None:
    key = key_for(toy, payload_bits=8)
    judge = detector(key)
    assert "payload" not in json.dumps(coarse(judge.detect(marked_text(key.carrying(9), 120))))
    assert "payload" not in json.dumps(said(judge, plain_text(200))[0].to_dict())


def test_what_was_not_searched_for_payloads_is_insufficient_and_not_unmarked(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_for(toy, payload_bits=8)
    text = f"{plain_text(600, 1)} {marked_text(key.carrying(17), 120)} {plain_text(600, 2)}"
    (test,) = said(detector(key), text)
    assert (test.decision, test.payload, test.unsearched) == ("marked", 17, 0)
    assert "unsearched" not in test.to_dict()
    monkeypatch.setattr(shortlist, "MOST", 256 << 8)  # the block at the end
    judge = detector(key)
    (test,) = said(judge, text)
    assert (test.decision, test.more_tokens) == ("insufficient", None)
    assert test.unsearched == test.to_dict()["unsearched"] >= 1320 - 256
    assert judge.detect(text).verdict == "inconclusive"
    told = shown(judge, text)
    assert f"{test.unsearched} tokens not searched" in told and "no length" not in told
    assert "unsearched" not in json.dumps(coarse(judge.detect(text)))
    assert said(judge, marked_text(key.carrying(17), 800))[0].payload == 17, "one marked throughout is found"


def test_choices_and_readings_of_one_input_share_the_search(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_for(toy, payload_bits=8)
    scored: list[int] = []
    scores = shortlist.candidate_scores

    def counted(ids: np.ndarray, one: Key) -> np.ndarray:
        scored.append(len(ids) - one.spec.context_width)
        return scores(ids, one)

    monkeypatch.setattr(shortlist, "candidate_scores", counted)
    monkeypatch.setattr(shortlist, "MOST", 1000 << 8)
    texts = [plain_text(60, n).replace(" the ", "\r\nthe ") for n in range(60)]
    (test,) = said(detector(key), saved_answer(*texts))
    assert 500 < sum(scored) <= 1000
    assert (test.decision, test.unsearched > 2000) == ("insufficient", True)


def test_a_long_text_with_a_block_that_was_not_searched_is_insufficient(toy: Path) -> None:
    (test,) = said(detector(key_for(toy)), plain_text(300))
    assert test.decision == "not_shown"
    parts = [replace(test, decision="insufficient", unsearched=900), test]
    judged = [Judged(n, Evidence((one,), (), False, False)) for n, one in enumerate(parts)]
    together = joined(judged, 1e-6)
    (found,) = together.findings
    assert isinstance(found, WatermarkTest) and together.too_little
    assert (found.decision, found.unsearched, found.more_tokens) == ("insufficient", 900, None)


def test_segments_that_touch_are_trimmed_and_none_is_lost() -> None:
    first, second = Segment(0, 101, -20.0, 50, "", payload=3), Segment(100, 200, -12.0, 50, "", payload=9)
    assert _apart([second, first]) == [first, replace(second, start=101)]
    inside = replace(second, start=20, end=110)
    assert _apart([first, inside]) == [first], "mostly another's words"
    around = replace(second, start=0, end=400)
    assert _apart([first, around]) == [first, replace(around, start=101)]
    elsewhere = replace(second, choice=1)
    assert _apart([elsewhere, replace(first, choice=0)]) == [replace(first, choice=0), elsewhere]


def test_two_payloads_side_by_side_are_both_told(toy: Path) -> None:
    key = key_for(toy, payload_bits=4)
    marks = [marked_text(key.carrying(payload), 200, payload) for payload in (3, 9)]
    (test,) = said(detector(key), " ".join(marks))
    first, second = test.segments
    assert (first.payload, second.payload) == (3, 9) and first.end <= second.start
    assert near(first, 0, len(marks[0])) and near(second, len(marks[0]) + 1, len(" ".join(marks)))
    assert second.excerpt.split()[0] in " ".join(marks)[second.start :].split()[0]


def test_code_and_quotes_between_marked_paragraphs_are_left_out_of_segments(toy: Path) -> None:
    key = key_for(toy)
    mark = marked_text(key, 240).split(" ")
    halves = " ".join(mark[:120]), " ".join(mark[120:])
    code = "```\n" + "\n".join(plain_text(12, n) for n in range(12)) + "\n```"
    text = f"{halves[0]}\n\n{code}\n\n{halves[1]}"
    (test,) = said(detector(key), text)
    assert test.decision == "marked" and test.variant == "prose" and test.tests == 2
    first, second = test.segments
    assert near(first, 0, len(halves[0])) and near(second, text.index(halves[1]), len(text))


# the null law, through everything


def tokenizer_of(spec: Spec) -> dict[str, Any]:
    return {"tokenizer": spec.tokenizer, "tokenizer_path": spec.tokenizer_path}


def test_people_s_texts_alarm_no_more_often_than_stated_with_all_that_is_tried() -> None:
    """Windows, variants, payloads, two schemes, a fresh ring a text; chance of failing below 1e-6."""
    spec = real_key(testdata.folder("tokenizers/gpt2/tokenizer.json")).spec
    specs = [spec, replace(spec, payload_bits=4), Spec(scheme="bernoulli", **tokenizer_of(spec))]
    documents = [testdata.documents(f"data/text/human_{language}.jsonl.gz")[:40] for language in ("en", "zh")]
    rng, judge, alpha, alarms, count = random.Random(7), detector(alpha=0.05), 0.05, 0, 0
    for document in (document for of_language in documents for document in of_language):
        judge.ring = Keyring(tuple(Key.new(f"k{n}", rng.randbytes(32), one) for n, one in enumerate(specs)))
        tests = said(judge, document["text"][:1500].replace(".", ".\r\n"))
        alarms, count = alarms + any(test.decision == "marked" for test in tests), count + 1
    assert alarms <= stats.binom.isf(1e-6, count, alpha)


def test_a_scheme_that_no_single_text_can_prove_says_so() -> None:
    key = Key.new("s", bytes(32), Spec(scheme="select"))
    (test,) = said(detector(key), plain_text(500))
    assert (test.decision, test.more_tokens) == ("insufficient", None)
    assert "no single answer would be enough, however long" in shown(detector(key), plain_text(500))
