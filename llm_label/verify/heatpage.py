"""A heat map as one HTML file that needs nothing else and runs no script."""

from collections.abc import Iterator, Sequence
from html import escape

from llm_label.verify.findings import WatermarkTest
from llm_label.verify.heatmap import ADDED, LEVELS, UNSCORED, HeatMap, visible
from llm_label.verify.report import power
from llm_label.verify.verdict import Verdict

__all__ = ["html", "shades"]

# One hue over the page's own ground: as good on white as on black, and told apart by the colour-blind.
_ALPHA = (0.0, 0.10, 0.20, 0.34, 0.50, 0.68, 0.88)
_ALONE = 3  # how the only level there is is shaded, as of a coin's tokens
_KINDS = {ADDED: "added", UNSCORED: "unscored"}

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
    keys = [finding.key for finding in verdict.evidence if isinstance(finding, WatermarkTest)]
    tried = f'<p class="note">Keys that were tried: {escape(", ".join(keys))}.</p>\n' if len(keys) > 1 else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(name)} – llm-label</title>\n<style>{_STYLE}{shades}</style></head><body>\n"
        f"<h1>{_safe(name)}</h1>\n<p><b>{escape(verdict.verdict)}</b>: {escape(wording['en'])}<br>"
        f'<span lang="zh">{escape(wording["zh"])}</span></p>\n'
        f'{body}{tried}<p class="note">how: {escape(verdict.signature.replace("|", "; "))}</p>\n</body></html>\n'
    )


def _section(one: HeatMap) -> str:
    return (
        f"<h2>{_safe(one.title)}, p {_power(one.test.log10_p)}</h2>\n{_legend(one)}"
        f'<div class="text" dir="auto">{"".join(_marked_up(one))}</div>\n'
    )


def shades(one: HeatMap) -> list[int]:
    """Return the shade of each level up to the highest that a token has."""
    used = [level for level in range(1, LEVELS + 1) if one.counts[level]]
    return [_ALONE if used == [level] else level for level in range(max(used, default=0) + 1)]


def _legend(one: HeatMap) -> str:
    """Return what colours mean, and how many tokens have them against how many would without a mark."""
    total = sum(one.counts)
    rows = [
        f'<tr><td><i class="l{shade}">&nbsp;word&nbsp;</i> and brighter</td><td>1 in {2**level}</td>'
        f"<td>{total / 2**level:.0f}</td><td>{sum(one.counts[level:])}</td></tr>"
        for level, shade in enumerate(shades(one)[1:], 1)
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
    starts, ends = one.marked
    colours = shades(one)
    for piece in one.pieces:
        if piece.start in ends:
            yield "</u>"
        if segment := starts.get(piece.start):
            yield f'<u title="p {power(segment.log10_p)}, {segment.scored} tokens">'
        words = escape(one.shown(piece))
        if piece.level > 0:
            yield f'<i class="l{colours[piece.level]}">{words}</i>'
        else:
            yield f'<span class="{_KINDS[piece.level]}">{words}</span>' if piece.level in _KINDS else words
    if len(one.text) in ends:
        yield "</u>"


def _safe(text: str) -> str:
    return escape(visible(text))
