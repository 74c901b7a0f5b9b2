"""A short run of the fuzzer with fixed seeds; `python3 start.py fuzz` runs it for as long as wanted."""

import random

import pytest

from tests.fuzz import run
from tests.fuzz.case import Case
from tests.fuzz.mutate import mutate
from tests.fuzz.reader import Reader, split
from tests.fuzz.spots import read, spots

RUNS = {"streams": 300, "requests": 1500, "wholes": 1000, "growth": 60}


@pytest.mark.parametrize("target", run.TARGETS)
def test_changed_inputs_keep_the_laws(target: str) -> None:
    dice, check = random.Random(20), run.checker(target)
    inputs = run.seeds_for(target, dice)
    for _ in range(RUNS[target]):
        data = dice.choice(inputs)
        check(mutate(data, dice, dice.choice(inputs), run.is_stream(target, data)))


@pytest.mark.parametrize("target", ["streams", "requests", "wholes"])
def test_seeds_keep_the_laws_and_are_understood(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without recordings."""
    monkeypatch.delenv("LLM_LABEL_TEST_DATA", raising=False)
    check, inputs = run.checker(target), run.seeds_for(target, random.Random(1))
    assert {Case.of(data).api for data in inputs} == {"chat", "completions", "responses", "messages"}
    for data in inputs:
        check(data)


def test_the_reader_cuts_streams_as_browsers_do() -> None:
    body = b"\xef\xbb\xbfdata: a\rdata:b\r\n\n: c\n\nevent: x\ndata\n\r\ndata: half"
    assert split(body) == [(b"data: a\rdata:b\r\n\n", b"a\nb"), (b": c\n\n", None), (b"event: x\ndata\n\r\n", b"")]


ERRORS = {
    "chat": b'{"error": {"message": "gone"}}',
    "completions": b'{"error": {"message": "gone"}}',
    "responses": b'{"error": {"message": "gone"}}',
    "messages": b'{"type": "error", "error": {}}',
}
TEXTS = {
    "chat": b'{"choices": [{"index": 0, "delta": {"content": "x"}}]}',
    "completions": b'{"choices": [{"index": 0, "text": "x"}]}',
    "responses": b'{"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "x"}',
    "messages": b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}',
}


@pytest.mark.parametrize("api", ERRORS)
def test_the_reader_stops_at_an_error_as_sdks_do(api: str) -> None:
    """What comes behind it may be missing; text that comes is kept apart, for it needs a label all the same."""
    reader = Reader(api)
    told = [reader.feed(b"", data) for data in (TEXTS[api], ERRORS[api], ERRORS[api], b"{half", TEXTS[api])]
    assert told == [True, True, False, False, False]
    assert (list(reader.texts.values()), list(reader.late.values())) == (["x"], ["xx"])


def test_an_index_that_no_parser_holds_is_none() -> None:
    (spot,) = spots("chat", read(b'{"choices": [{"index": 10000000000000000000000, "delta": {"content": "x"}}]}'))
    assert spot.text == 0
