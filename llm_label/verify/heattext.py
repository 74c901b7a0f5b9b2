"""A heat map for the terminal: in colours, or with figures under each line where there are none."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from llm_label.verify.heatmap import ADDED, LEVELS, UNSCORED, HeatMap, Piece
from llm_label.verify.heatpage import shades
from llm_label.verify.report import power

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["coloured", "plain"]

_SHADES = ("", *(f"black on color({colour})" for colour in (230, 223, 222, 215, 208, 202)))
_STYLES = {ADDED: "dim strike", UNSCORED: "dim"}
_MARKS = {ADDED: "x", UNSCORED: "."}
_LEGEND = (
    f"Figures under the text: k, the score of a token, has a chance of 1 in 2^k without a mark (1 to {LEVELS}); - goes "
    "on with it; . not scored; x not the model's; ⟦marked segment⟧"
)


def coloured(one: HeatMap) -> "Text":
    """Return a heat map in colours; ⟦ and ⟧ stand around segments."""
    from rich.text import Text

    told = Text().append(f"{_head(one)}\n", style="bold")
    colours = shades(one)
    for level, shade in enumerate(colours[1:], 1):
        told.append(f" 1 in {2**level} ", style=_SHADES[shade])
    told.append("  chance of such a score without a mark; ")
    told.append("not scored", style="dim").append("; ").append("not the model's", style="dim strike")
    told.append("; ⟦marked segment⟧\n\n")
    for bracket, piece in _bracketed(one):
        told.append(bracket, style="bold")
        if piece:
            style = _STYLES[piece.level] if piece.level < 0 else _SHADES[colours[piece.level]]
            told.append(one.shown(piece), style=style)
    return told


def plain(one: HeatMap, width: int) -> str:
    """Return a heat map without colours, in lines of so many columns: the text, and what it scored below."""
    told = [_head(one), *_folded(_LEGEND, width), ""]
    for line in _lines(_cells(one), width):
        told.append("".join(cell.text for cell in line))
        if marks := "".join(cell.mark for cell in line).rstrip():
            told.append(marks)
    return "\n".join(told)


def _head(one: HeatMap) -> str:
    return f"{one.title}, p {power(one.test.log10_p)}"


def _bracketed(one: HeatMap) -> Iterator[tuple[str, Piece | None]]:
    """Yield every piece after the brackets before it, and at last the bracket at the end."""
    starts, ends = one.marked
    for piece in one.pieces:
        yield "⟧" * (piece.start in ends) + "⟦" * (piece.start in starts), piece
    yield "⟧" * (len(one.text) in ends), None


class _Cell(NamedTuple):
    """A character, and the columns under it."""

    text: str
    mark: str


def _cells(one: HeatMap) -> Iterator[_Cell]:
    from rich.cells import cell_len

    for brackets, piece in _bracketed(one):
        yield from (_Cell(bracket, " ") for bracket in brackets)
        if piece is None:
            continue
        text = one.shown(piece).expandtabs(4)  # whose columns then do not hang on where they stand
        first = len(text) - len(text.lstrip()) if text.strip() else 0  # a figure under a blank looks lost
        mark, rest = (str(piece.level), "-") if piece.level > 0 else (_MARKS.get(piece.level, " "),) * 2
        for number, char in enumerate(text):
            width = 0 if char == "\n" else cell_len(char)
            if number < first or not width:
                yield _Cell(char, " " * width)
            else:
                yield _Cell(char, mark + rest * (width - 1))
                mark = rest


def _lines(cells: Iterable[_Cell], width: int) -> Iterator[list[_Cell]]:
    """Yield lines of at most so many columns, broken at line ends, else after a blank, else anywhere."""
    line: list[_Cell] = []
    used = 0
    for cell in chain(cells, [_Cell("\n", "")]):
        if cell.text == "\n":
            yield line
            line, used = [], 0
            continue
        line.append(cell)
        used += len(cell.mark)
        if used > width and len(line) > 1:
            end = next((n for n in range(len(line) - 1, 0, -1) if line[n - 1].text == " "), len(line) - 1)
            yield line[:end]
            line = line[end:]
            used = sum(len(cell.mark) for cell in line)


def _folded(text: str, width: int) -> Iterator[str]:
    for line in _lines((_Cell(char, " ") for char in text), width):
        yield "".join(cell.text for cell in line)
