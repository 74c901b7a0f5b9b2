"""What the proxy marks, the detector's carriers read again: saved answers and saved streams of all four APIs."""

import pytest

from llm_label.errors import UpstreamError
from llm_label.labels.finder import find
from llm_label.metadata.carriers import open_carrier
from tests.proxy import marking, recorded
from tests.proxy.test_every_cut import FILES, view_of


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_saved_answer_shows_its_label_and_its_record(file: str, stream: bool) -> None:
    surface, policy, labelled = FILES[file], marking.policy(positions=("start", "end")), 0
    for exchange, body in recorded.of(file, stream):
        view = view_of(surface, exchange)
        try:
            if stream:
                out = marking.stream([body], policy, view, surface=surface)
            else:
                out = marking.answer(policy, view, surface=surface).whole(body)
        except UpstreamError:
            continue
        if b'"applied":["start"' in out:
            labelled += 1
            carried = open_carrier(out)
            assert any(find(text, policy.known) for text in carried.texts), exchange["id"]
            assert [record.produce_id for record in carried.records] == [marking.CONTENT_ID], exchange["id"]
    assert labelled > (1 if file == "openai_completions" else 30)
