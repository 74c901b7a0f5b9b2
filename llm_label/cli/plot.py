"""Draw a calibration with matplotlib, which is an extra: `pip install 'llm-label[plots]'`."""

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from llm_label.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from llm_label.cli.calibration import Calibration, Section
    from llm_label.watermark.calibrate import Point

__all__ = ["check", "draw"]

FORMATS = (".png", ".svg")
NAMED = 8  # own keys with a colour and a name of their own; more are drawn alike


def check(paths: Sequence[Path]) -> None:
    """Raise InputError where a plot could not be drawn, before anything is measured."""
    for path in paths:
        if path.suffix.lower() not in FORMATS:
            raise InputError(f"--plot {path}: the name must end in {' or '.join(FORMATS)}")
    if paths and importlib.util.find_spec("matplotlib") is None:
        raise InputError("--plot needs matplotlib; install it with: pip install 'llm-label[plots]'")


def draw(found: "Calibration", form: str) -> bytes:
    """Return, as a PNG or SVG, the share of units at or below each p-value, one panel per scheme and tokenizer."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    sections, drawn = found.sections, io.BytesIO()
    figure = Figure(figsize=(5.5 * len(sections), 5.0), layout="constrained")
    for section, axes in zip(sections, figure.subplots(1, len(sections), squeeze=False)[0], strict=True):
        _panel(axes, section)
    with rc_context({"svg.hashsalt": "llm-label"}):  # the same result gives the same file
        figure.savefig(drawn, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return drawn.getvalue()


def _panel(axes: "Axes", section: "Section") -> None:
    thrown, *own = section.rows()
    least = min(min(10.0**p, share) for _, rates in (thrown, *own) for p, share, *_ in rates.curve)
    axes.plot([least, 1.0], [least, 1.0], color="0.4", linewidth=1, linestyle="--", label="nominal")
    _curve(axes, thrown[1].curve, "C0", thrown[0], band=True)
    for number, (name, rates) in enumerate(own):
        named = number < NAMED
        _curve(axes, rates.curve, f"C{number + 1}" if named else "0.7", name if named else None, band=False)
    axes.set(xscale="log", yscale="log", xlabel="p-value", ylabel="share of (family, key) units at or below it")
    axes.set_ylim(bottom=least / 10.0)  # intervals of single units reach far below
    axes.set_title(
        f"{section.spec.scheme} {section.spec.version}, {section.reading.families:,} families", fontsize="medium"
    )
    axes.grid(which="major", color="0.9", linewidth=0.6)
    axes.legend(frameon=False, fontsize="small", loc="upper left")


def _curve(axes: "Axes", points: "Sequence[Point]", color: str, name: str | None, *, band: bool) -> None:
    p = [10.0 ** point[0] for point in points]
    axes.plot(p, [point[1] for point in points], color=color, linewidth=1.5, label=name)
    if band:
        low, high = [max(point[2], 1e-12) for point in points], [point[3] for point in points]
        axes.fill_between(p, low, high, color=color, alpha=0.2, linewidth=0, label="99.9 % interval")
