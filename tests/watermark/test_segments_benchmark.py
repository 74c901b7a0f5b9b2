"""The benchmark of segments: a passage that is long enough is found, and where it is."""

import numpy as np

from benchmarks import segments


def test_a_long_passage_is_found_where_it_is() -> None:
    rng = np.random.default_rng(1)
    found = segments.text(rng, segments.zipf(1.0), 2000, 700, 300)
    assert found.log10_p <= segments.LEVEL
    assert segments.overlap(found, 704, 1004) > 0.8
