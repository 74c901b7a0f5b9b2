"""A heat map as one HTML file that needs nothing else and runs no script, and for the terminal."""

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from llm_label.verify.heatmap import ADDED, LEVELS, UNSCORED, HeatMap
from llm_label.verify.report import power
from llm_label.verify.verdict import Verdict

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["html", "terminal"]

# One hue over the page's own ground: as good on white as on black, and told apart by the colour-blind.
_ALPHA = (0.0, 0.10, 0.20, 0.34, 0.50, 0.68, 0.88)
_SHADES = ("", *(f"black on color({colour})" for colour in (230, 223, 222, 215, 208, 202)))
_ALONE = 3  # how the only level there is is shaded, as of a coin's tokens
_KINDS = {ADDED: "added", UNSCORED: "unscored"}
_HIDDEN = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1a1a1a; --dim: #767676; --line: #0b6bcb; --rule: #ddd; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #16181c; --ink: #e8e8e8; --dim: #8f959e; --line: #6cb2ff; --rule: #3a3d42; }
}
body { background: var(--ground); color: var(--ink); font: 16px/1.6 system-ui, "Noto Sans", "PingFang SC",
  "Microsoft YaHei", sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-size: .85rem; margin: 1rem 0; }
th, td { text-align: right; padding: .15rem .8rem; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: plaintext; line-height: 1.9; }
.text i, .key i { font-style: normal; border-radius: 2px; }
.text u, .key u { text-decoration: none; border-bottom: 2px solid var(--line); padding-bottom: 1px; }
.unscored { color: var(--dim); }
.added { color: var(--dim); text-decoration: line-through dotted; }
.note { color: var(--dim); font-size: .85rem; overflow-wrap: anywhere; }
"""


def html(verdict: Verdict, maps: Sequence[HeatMap], name: str) -> str:
    """Return the page of a text's heat maps; `name`: what the text is called."""
    shades = "".join(
        f"i.l{level} {{ background: rgba(222, 92, 0, {alpha:.2f}); }}\n" for level, alpha in enumerate(_ALPHA) if level
    )
    wording = verdict.wording
    body = "".join(_section(one) for one in maps) or "<p>There is no text that a key could be tried on.</p>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(name)} – llm-label</title>\n<style>{_STYLE}{shades}</style></head><body>\n"
        f"<h1>{_safe(name)}</h1>\n<p><b>{escape(verdict.verdict)}</b>: {escape(wording['en'])}<br>"
        f'<span lang="zh">{escape(wording["zh"])}</span></p>\n'
        f'{body}<p class="note">how: {escape(verdict.signature.replace("|", "; "))}</p>\n</body></html>\n'
    )


def terminal(one: HeatMap) -> "Text":
    """Return a heat map for the terminal; ⟦ and ⟧ stand around segments, which a pipe without colours shows too."""
    from rich.text import Text

    told = Text(f"{_title(one)}, p {power(one.test.log10_p)}\n", style="bold")
    for level, shade in enumerate(_shades(one)[1:], 1):
        told.append(f" 1 in {2**level} ", style=_SHADES[shade])
    told.append("  chance of such a score without a mark; ")
    told.append("not scored", style="dim").append("; ").append("not the model's", style="dim strike")
    told.append("; ⟦marked segment⟧\n\n")
    starts, ends = _edges(one)
    shades = _shades(one)
    for start, end, level in one.pieces:
        if start in ends:
            told.append("⟧", style="bold")
        if start in starts:
            told.append("⟦", style="bold")
        style = {ADDED: "dim strike", UNSCORED: "dim"}.get(level) or _SHADES[shades[max(level, 0)]]
        told.append(_visible(one.text[start:end]), style=style)
    return told.append("⟧" if len(one.text) in ends else "", style="bold")


def _section(one: HeatMap) -> str:
    return (
        f"<h2>{_safe(_title(one))}, p {_power(one.test.log10_p)}</h2>\n{_legend(one)}"
        f'<div class="text" dir="auto">{"".join(_marked_up(one))}</div>\n'
    )


def _title(one: HeatMap) -> str:
    test, choice = one.test, "" if one.choice is None else f", choice {one.choice}"
    said = test.decision.replace("_", " ")
    payload = "" if test.payload is None else f", payload {test.payload}"
    name = f" ({test.payload_name})" if test.payload_name else ""
    return f"key {test.key} ({test.scheme}){choice}: {said}{payload}{name}, {sum(one.counts)} tokens scored"


def _shades(one: HeatMap) -> list[int]:
    """Return the shade of each level up to the highest that a token has."""
    used = [level for level in range(1, LEVELS + 1) if one.counts[level]]
    return [_ALONE if used == [level] else level for level in range(max(used, default=0) + 1)]


def _legend(one: HeatMap) -> str:
    """Return what colours mean, and how many tokens have them against how many would without a mark."""
    total = sum(one.counts)
    rows = [
        f'<tr><td><i class="l{shade}">&nbsp;word&nbsp;</i> and brighter</td><td>1 in {2**level}</td>'
        f"<td>{total / 2**level:.0f}</td><td>{sum(one.counts[level:])}</td></tr>"
        for level, shade in enumerate(_shades(one)[1:], 1)
    ]
    lines = [
        f"<li>characters {s.start} to {s.end}: p {_power(s.log10_p)}, {s.scored} tokens</li>" for s in one.segments
    ]
    where = f"<p>Marked segments:</p><ul>{''.join(lines)}</ul>" if lines else ""
    return (
        '<table class="key"><tr><th>score of a token</th><th>chance without a mark</th>'
        f"<th>tokens expected, at most</th><th>tokens found</th></tr>{''.join(rows)}</table>\n"
        '<p class="note key">Underlined: <u>marked segment</u>. Dim: <span class="unscored">not scored</span> (a '
        'repeat, or the first tokens). Struck out: <span class="added">not the model\'s</span> (a label or a record). '
        f"One bright token proves nothing; p is over many.</p>\n{where}"
    )


def _power(log10_p: float) -> str:
    base, _, exponent = power(log10_p).partition("^")
    return f"{base}<sup>{exponent.replace('-', '−')}</sup>" if exponent else base


def _marked_up(one: HeatMap) -> Iterator[str]:
    starts, ends = _edges(one)
    shades = _shades(one)
    for start, end, level in one.pieces:
        if start in ends:
            yield "</u>"
        if start in starts:
            yield f'<u title="{escape(starts[start])}">'
        words = _safe(one.text[start:end])
        if level > 0:
            yield f'<i class="l{shades[level]}">{words}</i>'
        else:
            yield f'<span class="{_KINDS[level]}">{words}</span>' if level in _KINDS else words
    if len(one.text) in ends:
        yield "</u>"


def _edges(one: HeatMap) -> tuple[dict[int, str], set[int]]:
    """Return where segments start, with what they are, and where they end."""
    shown = [s for s in one.segments if s.end > s.start]
    return {s.start: f"p {power(s.log10_p)}, {s.scored} tokens" for s in shown}, {s.end for s in shown}


def _safe(text: str) -> str:
    return escape(_visible(text))


def _visible(text: str) -> str:
    """Show what commands a terminal, turns the order of letters or is half a character as U+FFFD."""
    return _HIDDEN.sub("\ufffd", text)
