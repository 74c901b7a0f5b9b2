"""The main job: the embedded model behind the proxy, asked by the real client, its marks found again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the adapter llm-label-transformers is not installed")
pytest.importorskip("transformers", reason="the adapter llm-label-transformers is not installed")

import openai
from aiohttp import web
from llm_label_transformers import EMBEDDED

from llm_label import Detector, Key, Keyring, Spec
from llm_label.errors import KeyringError
from llm_label.keyfile import tokenizer_spec, write_keyring
from llm_label.labels.labeler import strip
from llm_label.labels.wording import all_wordings
from llm_label.verify.findings import WatermarkTest
from tests.proxy.running import Running, proxy

TOKENIZER = EMBEDDED / "tokenizer.json"
SPEC = tokenizer_spec(TOKENIZER)
KEY = Key.new("test", bytes(range(32)), SPEC)
OTHER = Key.new("other", bytes(range(1, 33)), SPEC)
ASK: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "How do I insert a picture?"}],
    "max_tokens": 120,
    "top_p": 0.95,
    "seed": 7,
}


async def unused(request: web.Request) -> web.StreamResponse:
    raise AssertionError("the local upstream needs no server")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("local")
    write_keyring(folder / "ring.json", Keyring((KEY,)))
    watermark = {"keyring": folder / "ring.json", "key": "test"}
    labels = {"positions": ["start", "end"]}
    with proxy(folder, unused, upstream={"url": "local:"}, watermark=watermark, labels=labels) as running:
        yield running


@pytest.fixture(scope="module")
def chat(up: Running) -> Iterator[Any]:
    with openai.OpenAI(base_url=up.url + "/v1", api_key="k", max_retries=0, timeout=60) as client:
        yield client.chat.completions


def log10_p(text: str, key: Key) -> float:
    found = Detector(Keyring((key,)), all_wordings()).detect(text).evidence
    return next(f for f in found if isinstance(f, WatermarkTest)).log10_p


def test_a_whole_answer_carries_all_three_marks(chat: Any) -> None:
    raw = chat.with_raw_response.create(**ASK)
    answer = raw.parse()
    text = answer.choices[0].message.content
    own = answer.model_extra["llm_label"]
    assert 'watermark="gumbel", key="test"' in raw.headers["x-llm-label"]
    assert own["label"]["applied"] == ["start", "end"]
    assert own["watermark"] == {"scheme": "gumbel", "key": "test", "skipped": None}
    assert json.loads(raw.headers["x-aigc"]) == own["record"]
    verdict = Detector(Keyring((KEY,)), all_wordings()).detect(raw.content)
    assert {f.to_dict()["kind"] for f in verdict.evidence} == {"record", "label", "watermark"}
    assert log10_p(text, KEY) < -6 and log10_p(text, OTHER) > -3


def test_a_stream_gives_the_answer_that_a_whole_request_gives(chat: Any) -> None:
    whole = chat.create(**ASK).choices[0].message.content
    with chat.create(**ASK, stream=True) as chunks:
        pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == whole
    assert len(pieces) > 20, "it streams"


def test_every_choice_is_marked_and_no_two_are_equal(chat: Any) -> None:
    answer = chat.create(**{**ASK, "n": 4})
    texts = [choice.message.content for choice in answer.choices]
    assert len(set(texts)) == 4
    for text in texts:
        assert text.count("AI生成") == 2
        assert log10_p(text, KEY) < -6


def test_greedy_is_not_marked_and_says_so(chat: Any) -> None:
    answer = chat.create(**{**ASK, "temperature": 0})
    assert answer.model_extra["llm_label"]["watermark"] == {"scheme": None, "key": None, "skipped": "greedy"}
    assert log10_p(strip(answer.choices[0].message.content, all_wordings()), KEY) > -3


def test_a_scheme_that_marks_greedy_decoding_marks_it_here_too(tmp_path: Path) -> None:
    """Temperature 0 and a fixed key: the answer is the same each time, and so is its p-value."""
    coin = Key.new("coin", bytes(range(32)), tokenizer_spec(TOKENIZER, scheme="bernoulli"))
    write_keyring(tmp_path / "ring.json", Keyring((coin,)))
    watermark = {"keyring": tmp_path / "ring.json", "key": "coin", "required": True}
    with (
        proxy(tmp_path, unused, upstream={"url": "local:"}, watermark=watermark) as up,
        openai.OpenAI(base_url=up.url + "/v1", api_key="k", max_retries=0) as client,
    ):
        raw = client.chat.completions.with_raw_response.create(**{**ASK, "temperature": 0})
        with client.chat.completions.create(**{**ASK, "temperature": 0}, stream=True) as chunks:
            streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    answer = raw.parse()
    assert 'watermark="bernoulli", key="coin"' in raw.headers["x-llm-label"]
    assert answer.model_extra["llm_label"]["watermark"] == {"scheme": "bernoulli", "key": "coin", "skipped": None}
    assert streamed == answer.choices[0].message.content
    assert log10_p(streamed, coin) < -6 and log10_p(streamed, KEY) > -3


@pytest.mark.parametrize("candidates", [8, 20])
def test_answers_chosen_among_several_are_found_together(tmp_path: Path, candidates: int) -> None:
    """The local upstream writes at most 16 choices a request, so 20 candidates come one by one. Seeds are fixed."""
    key = Key.new("s", bytes(range(32)), Spec(scheme="select", parameters={"candidates": candidates}))  # type: ignore[arg-type]
    write_keyring(tmp_path / "ring.json", Keyring((key,)))
    watermark, short = (
        {"keyring": tmp_path / "ring.json", "key": "s"},
        {**ASK, "max_tokens": 24 if candidates == 8 else 12},
    )
    count, least = (6, -1.5) if candidates == 8 else (1, -0.5)
    with (
        proxy(tmp_path, unused, upstream={"url": "local:"}, watermark=watermark) as up,
        openai.OpenAI(base_url=up.url + "/v1", api_key="k", max_retries=0, timeout=60) as client,
    ):
        answers = [client.chat.completions.create(**{**short, "seed": seed}) for seed in range(count)]
    for answer in answers:
        assert answer.model_extra["llm_label"]["watermark"] == {"scheme": "select", "key": "s", "skipped": None}
        assert answer.usage.completion_tokens > 8 * candidates, "every candidate is counted"
    together = "\n\n".join(strip(answer.choices[0].message.content, all_wordings()) for answer in answers)
    assert log10_p(together, key) < least


def test_a_required_watermark_refuses_greedy_requests(tmp_path: Path) -> None:
    write_keyring(tmp_path / "ring.json", Keyring((KEY,)))
    watermark = {"keyring": tmp_path / "ring.json", "key": "test", "required": True}
    with (
        proxy(tmp_path, unused, upstream={"url": "local:"}, watermark=watermark) as up,
        openai.OpenAI(base_url=up.url + "/v1", api_key="k", max_retries=0) as client,
        pytest.raises(openai.BadRequestError, match="temperature above 0"),
    ):
        client.chat.completions.create(**{**ASK, "temperature": 0})


def test_a_key_for_another_tokenizer_is_refused_at_start(tmp_path: Path) -> None:
    foreign = Key.new("foreign", bytes(32), Spec(tokenizer="sha256:" + "0" * 64, tokenizer_path="elsewhere.json"))
    write_keyring(tmp_path / "ring.json", Keyring((foreign,)))
    watermark = {"keyring": tmp_path / "ring.json", "key": "foreign"}
    with (
        pytest.raises(KeyringError, match="key 'foreign' is for tokenizer sha256:000"),
        proxy(tmp_path, unused, upstream={"url": "local:"}, watermark=watermark),
    ):
        pass
