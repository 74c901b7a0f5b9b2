"""A short run of the fuzzer with fixed seeds; `python3 start.py fuzz` runs it for as long as wanted."""

import random

import pytest

from tests.fuzz import run
from tests.fuzz.case import Case
from tests.fuzz.mutate import mutate
from tests.fuzz.reader import split

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
