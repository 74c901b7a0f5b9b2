"""One panel, written as SVG and PNG; matplotlib is an extra: `pip install 'llm-label[plots]'`."""

from pathlib import Path
from typing import Any

__all__ = ["nats", "panel", "save"]


def panel() -> tuple[Any, Any]:
    """Return a figure and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 5.0), layout="constrained")
    return figure, figure.subplots()


def nats(axes: Any, ticks: tuple[float, ...]) -> None:
    """Give the x axis a logarithmic scale with plain numbers."""
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def save(figure: Any, axes: Any, folder: Path, name: str) -> None:
    """Write the plot twice; the same figures give the same files."""
    from matplotlib import rc_context

    axes.grid(which="major", color="0.9", linewidth=0.6)
    axes.legend(frameon=False, fontsize="small", bbox_to_anchor=(1.0, 1.0), loc="upper left")
    folder.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "llm-label"}):
        figure.savefig(folder / f"{name}.png", dpi=150)
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
