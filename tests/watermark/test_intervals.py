"""Clopper–Pearson intervals beside scipy's beta quantiles, which are another way to the same bounds."""

import pytest
from scipy.stats import beta

from llm_label.watermark.intervals import clopper_pearson


@pytest.mark.parametrize("units", [1, 2, 5, 804, 100_000, 10_000_000])
@pytest.mark.parametrize("confidence", [0.95, 0.999, 1 - 1e-5])
def test_both_ends_are_beta_quantiles(units: int, confidence: float) -> None:
    error = (1 - confidence) / 2
    for hits in sorted({0, 1, 2, units // 1000, units // 2, units - 1, units} & set(range(units + 1))):
        low, high = clopper_pearson(hits, units, confidence)
        assert low == pytest.approx(beta.ppf(error, hits, units - hits + 1) if hits else 0.0, rel=1e-7)
        assert high == pytest.approx(beta.isf(error, hits + 1, units - hits) if hits < units else 1.0, rel=1e-7)


@pytest.mark.parametrize(("hits", "units", "confidence"), [(-1, 5, 0.9), (6, 5, 0.9), (0, 0, 0.9), (1, 5, 1.0)])
def test_impossible_counts_are_refused(hits: int, units: int, confidence: float) -> None:
    with pytest.raises(ValueError, match="not possible"):
        clopper_pearson(hits, units, confidence)
