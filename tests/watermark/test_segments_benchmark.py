"""The benchmark of segments: a passage that is long enough is found, and rates come with their intervals."""

import numpy as np

from benchmarks import segments
from llm_label.watermark.keyring import Spec


def test_a_long_passage_is_found_where_it_is() -> None:
    rng = np.random.default_rng(1)
    found = segments.text(rng, segments.zipf(1.0), 2000, 700, 300)
    assert found.log10_p <= segments.LEVEL
    assert segments.overlap(found, 704, 1004) > 0.8


def test_rates_are_told_with_their_intervals() -> None:
    rows = list(segments.null(np.random.default_rng(2), Spec(), 150))
    assert [row["level"] for row in rows] == [0.01, 0.001]
    assert all(row["from"] <= row["level"] and row["from"] <= row["rate"] <= row["to"] for row in rows)
