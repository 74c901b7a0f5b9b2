"""The table of the client suite: what stayed the same, client by client and surface by surface."""

from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["SURFACES", "Cell", "Row", "show"]

SURFACES = (
    "chat",
    "chat stream",
    "completions",
    "responses",
    "responses stream",
    "messages",
    "messages stream",
    "tools",
    "structured",
)


@dataclass
class Cell:
    """One surface of one client: way -> scenario -> what is wrong with it."""

    scenarios: dict[str, dict[str, list[str]]] = field(default_factory=lambda: {"off": {}, "on": {}})

    def add(self, way: str, scenario: str, faults: list[str]) -> None:
        self.scenarios[way][scenario] = faults

    def good(self, way: str) -> bool:
        return not any(self.scenarios[way].values())

    def text(self) -> str:
        """Write `off on`, each the number of scenarios or how many of them failed."""
        return " ".join(self._text(way) for way in ("off", "on"))

    def _text(self, way: str) -> str:
        cases = self.scenarios[way]
        failed = sum(map(bool, cases.values()))
        return f"[red]✗{failed}/{len(cases)}[/red]" if failed else f"[green]✓{len(cases)}[/green]"


@dataclass
class Row:
    """One client."""

    name: str
    versions: dict[str, str]
    cells: dict[str, Cell]
    broken: str | None = None  # why the client could not be run at all

    @property
    def good(self) -> bool:
        return not self.broken and bool(self.cells) and all(c.good(w) for c in self.cells.values() for w in c.scenarios)

    def faults(self) -> list[str]:
        """List everything that is wrong, a line each."""
        found = [f"{self.name}: {self.broken}"] if self.broken else []
        for surface, cell in self.cells.items():
            for way, scenarios in cell.scenarios.items():
                found += [f"{self.name}, {surface}, {way}, {n}: {f}" for n, faults in scenarios.items() for f in faults]
        return found

    def summary(self) -> str:
        count = sum(len(cell.scenarios["on"]) for cell in self.cells.values())
        return f"{count} scenarios, {'all the same' if self.good else f'{len(self.faults())} differences'}"

    def report(self) -> dict[str, Any]:
        cells = {surface: cell.scenarios for surface, cell in self.cells.items()}
        return {"client": self.name, "versions": self.versions, "surfaces": cells, "broken": self.broken}


def show(rows: list[Row], seconds: float) -> bool:
    """Print the table and every difference; return whether all is well."""
    table = Table(title="off = marks off, on = marks on; ✓ with the number of scenarios")
    for heading in ("client", "versions", *SURFACES):
        table.add_column(heading, justify="left" if heading in ("client", "versions") else "center")
    for row in rows:
        versions = "\n".join(f"{name} {version}" for name, version in row.versions.items())
        texts = [row.cells[s].text() if s in row.cells else "–" for s in SURFACES]
        table.add_row(row.name, versions or "[red]did not run[/red]", *texts)
    console = Console(width=180)
    console.print(table)
    for fault in [fault for row in rows for fault in row.faults()]:
        console.print(fault, style="red", markup=False, soft_wrap=True, highlight=False)
    good = all(row.good for row in rows)
    console.print(f"{len(rows)} clients in {seconds:.0f} s: {'all green' if good else 'not all green'}")
    return good
