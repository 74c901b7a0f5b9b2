"""Heat maps: every character once, levels that keep their promise, a page that nothing can break out of."""

import html.parser
import math
import re
import stat
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from llm_label.cli.detect import detect
from llm_label.labels.wording import all_wordings, wording
from llm_label.verify.detector import Detector
from llm_label.verify.encoder import Encoder
from llm_label.verify.heatmap import ADDED, LEVELS, UNSCORED, HeatMap, _painted, token_levels
from llm_label.verify.heatpage import html as page_of
from llm_label.verify.heattext import coloured, plain
from llm_label.verify.source import open_source
from llm_label.verify.watermarks import encoded
from llm_label.watermark.keyring import Key, Keyring, Spec
from llm_label.watermark.scan import token_scores
from tests import testdata

from .marking import key_for, marked_text, marked_with, plain_text, real_key, saved_answer, toy_tokenizer

LABEL = wording("zh", ["cn"])
EVIL = "</div><script>alert(1)</script> &amp; \"quoted\" 'too' \x1b[2J \u202e reversed \0".replace("\0", "\x01")


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return key_for(toy_tokenizer(tmp_path))


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def judge_of(*keys: Key) -> Detector:
    return Detector(Keyring(keys), all_wordings())


def is_whole(one: HeatMap) -> bool:
    """Pieces follow one another from the first character to the last."""
    ends = [0, *(piece.end for piece in one.pieces)]
    return [piece.start for piece in one.pieces] == ends[:-1] and ends[-1] == len(one.text)


WORDS = ["w001 ", "the ", "w399\r\n", "“", "é", "e\u0301", "Ａ", "好", "\u200b", "```\n", "> ", "\n\n", LABEL]


# levels


SPECS = [Spec(), Spec(scheme="dual_gumbel"), Spec(scheme="bernoulli"), Spec(scheme="synthid")]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.scheme)
def test_a_level_is_a_bound_on_the_chance_of_its_tokens(spec: Spec) -> None:
    """By each scheme's exact law, and by counting: 8 standard deviations, so never by chance."""
    key = Key.new("k", bytes(range(32)), spec)
    ids = np.random.default_rng(1).integers(0, 150_000, 6000)
    _, scores = token_scores(ids, key)
    levels = token_levels(spec.rules, scores)
    for score, level in zip(scores[:300].tolist(), levels[:300].tolist(), strict=True):
        assert spec.rules.log10_tail(1, score) <= -level * math.log10(2) + 1e-5
        if level < LEVELS and spec.scheme in ("gumbel", "dual_gumbel"):
            assert spec.rules.log10_tail(1, score) > -(level + 1) * math.log10(2) - 1e-5
    for level in range(1, LEVELS + 1):
        expected = len(scores) / 2**level
        assert (levels >= level).sum() <= expected + 8 * math.sqrt(expected)


def test_gumbel_levels_are_whole_halvings() -> None:
    scores = np.array([0.0, 0.69, 0.70, 1.38, 1.39, 4.15, 4.17, 16.0])
    assert token_levels(Spec().rules, scores).tolist() == [0, 0, 1, 1, 2, 5, 6, 6]


# maps


def test_every_character_is_drawn_once_and_labels_are_set_apart(key: Key) -> None:
    text = f"{LABEL}\n\n{plain_text(60)} {marked_text(key, 80)}"
    (one,) = judge_of(key).heatmaps(text)
    assert one.text == text and is_whole(one) and one.test.decision == "marked"
    assert (one.pieces[0].level, text[: one.pieces[0].end].strip()) == (ADDED, LABEL)
    assert {piece.level for piece in one.pieces} >= {ADDED, UNSCORED, 0, 1, 2, LEVELS}
    assert sum(one.counts) == one.test.scored
    (segment,) = one.segments
    edges = {piece.start for piece in one.pieces} | {piece.end for piece in one.pieces}
    assert {segment.start, segment.end} <= edges


def test_a_piece_is_as_bright_as_its_token(key: Key) -> None:
    text = marked_text(key, 60)
    (one,) = judge_of(key).heatmaps(text)
    positions, scores = token_scores(judge_of(key)._encoder.ids(text, key), key)
    brightest = text.split()[positions[int(scores.argmax())]]
    assert any(one.text[p.start : p.end] == brightest and p.level == LEVELS for p in one.pieces)


def test_marked_keys_are_drawn_and_without_any_the_loudest(key: Key) -> None:
    other = key_for(Path(key.spec.tokenizer_path or ""), "other")
    judge = judge_of(other, key)
    assert [one.test.key for one in judge.heatmaps(marked_text(key, 80))] == ["k1"]
    (plain,) = judge.heatmaps(plain_text(100))
    assert plain.segments == () and plain.test.decision == "not_shown"
    assert judge_of().heatmaps(plain_text(100)) == ()
    for empty in ("", LABEL):
        assert judge.heatmaps(empty) == ()


def test_choices_that_hold_the_mark_are_drawn_each(key: Key) -> None:
    texts = (marked_text(key, 80, 1), plain_text(80), marked_text(key, 80, 2))
    maps = judge_of(key).heatmaps(saved_answer(*texts))
    assert [(one.choice, one.text) for one in maps] == [(0, texts[0]), (2, texts[2])]


def test_chinese_characters_of_several_tokens_are_drawn_once() -> None:
    path = testdata.folder("tokenizers/qwen3/tokenizer.json")
    key = real_key(path)
    text = "龘靐齉𠮷野家 😀👩‍👩‍👧 " + marked_with(path, key, 40, han=True)
    (one,) = judge_of(key).heatmaps(text.replace("家", "家\r\n"))
    assert is_whole(one) and one.text.startswith("龘靐齉𠮷野家\r\n")
    assert any(piece.level == LEVELS for piece in one.pieces)


def test_a_token_that_spans_what_was_cut_out_paints_none_of_it(tmp_path: Path) -> None:
    """Its line ends stand on both sides of the code that the reading leaves out."""
    words = [f"w{n:03d}" for n in range(400)]
    tokenizer = Tokenizer(models.WordLevel({w: n for n, w in enumerate(["[UNK]", " ", "\n\n\n\n", *words])}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n+| |[^\s]+"), "isolated")  # type: ignore[assignment]
    path = tmp_path / "spans.json"
    tokenizer.save(str(path))
    text, code = plain_text(120), "```\n" + "x = 1\n" * 60 + "```\n"
    before, after = text[:301], text[301:]
    whole = f"{before}\n\n{code}\n\n{after}"
    key = key_for(path)
    opened = open_source(whole, ())
    (of_key,) = encoded(opened.texts, Keyring((key,)), Encoder())
    one = next(one for one in of_key if one.variant == "prose")
    painted, owner = _painted(opened.texts[0], one, np.full(len(one.encoding), LEVELS))
    inside = slice(whole.index("x = 1"), whole.rindex("x = 1") + 5)
    places = one.origin(np.column_stack([np.arange(len(one.encoding)), np.arange(len(one.encoding)) + 1]))
    assert any(start < inside.start and end > inside.stop for start, end in places.tolist())
    assert set(painted[inside].tolist()) == {UNSCORED} and set(owner[inside].tolist()) == {-1}
    assert painted[inside.start - 10] == LEVELS == painted[inside.stop + 10]


# the page


def test_half_a_character_is_shown_as_none(key: Key) -> None:
    judge, text = judge_of(key), f"{plain_text(40)} \ud83d {marked_text(key, 80)}"
    page = page_of(judge.detect(text), judge.heatmaps(text), "half \udcff.md")
    assert ">\ufffd<" in page and "half \ufffd.md" in page and page.encode()


class Reader(html.parser.HTMLParser):
    """Collect tags and the text inside the element of class text; every element must be closed."""

    VOID = ("meta", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.shown = ""
        self.inside = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in self.VOID:
            return
        self.open.append(tag)
        if ("class", "text") in attrs:
            self.inside = len(self.open)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if len(self.open) < self.inside:
            self.inside = 0

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.shown += data


def test_the_page_holds_the_whole_text_and_nothing_can_break_out(key: Key) -> None:
    text = f"{LABEL}\n\n{EVIL} {plain_text(40)}\n{marked_text(key, 80)} {EVIL}"
    judge = judge_of(key)
    page = page_of(judge.detect(text), judge.heatmaps(text), f"{EVIL}.md")
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert reader.shown == re.sub("[\x01\x1b\u202e]", "\ufffd", text)
    assert "script" not in reader.tags and not re.search(r"(?:src|href|url)\s*[=(]", page.replace(EVIL, ""))
    assert "\x1b" not in page and "\u202e" not in page and "\x01" not in page
    assert "prefers-color-scheme: dark" in page and "default-src 'none'" in page
    assert page.count("<u title=") == 1 and "1 in 64" in page


def test_the_page_of_a_text_without_words_says_so(key: Key) -> None:
    judge = judge_of(key)
    assert "no text that a key could be tried on" in page_of(judge.detect(""), judge.heatmaps(""), "empty")


# the terminal


def test_colours_keep_the_text_and_bracket_segments(key: Key) -> None:
    text = f"{plain_text(60)} {marked_text(key, 60)} \x1b[2J"
    (one,) = judge_of(key).heatmaps(text)
    told = coloured(one).plain
    assert told.count("⟦") == told.count("⟧") == 2  # the legend's and the segment's
    assert text[:100] in told and "\x1b" not in told


def test_without_colours_figures_stand_under_the_first_letter_of_their_token(key: Key) -> None:
    text = f"{LABEL}\r\n\r\n{plain_text(60)}\n\n春 {marked_text(key, 60)} \x1b[2J"
    (one,) = judge_of(key).heatmaps(text)
    head, _, body = plain(one, 72).partition("\n\n")
    assert "key k1 (gumbel): marked" in head and "k, the score of a token" in head and "⟦marked segment⟧" in head
    lines = body.split("\n")
    assert all(cell_len(line) <= 72 for line in head.split("\n") + lines) and "\x1b" not in body and "\r" not in body
    assert lines[:2] == [LABEL, "x" * cell_len(LABEL)]
    drawn = figures(lines)
    expected = [(one.text[p.start : p.end].strip(), p.level) for p in one.pieces if p.level > 0]
    assert drawn == expected and len(drawn) > 40
    assert "".join(line for line in lines if not MARKS.fullmatch(line)).count("⟦") == 1


MARKS = re.compile("[ .x1-6-]*")


def figures(lines: list[str]) -> list[tuple[str, int]]:
    """Read the words with a figure, and the figure, off lines of ASCII words and their marks."""
    found = []
    for words, marks in pairwise(lines):
        if MARKS.fullmatch(marks) and not MARKS.fullmatch(words):
            wide = "".join(c + " " * (cell_len(c) - 1) for c in words)  # a column for a column
            places = [(n, int(mark)) for n, mark in enumerate(marks) if mark.isdigit()]
            found += [(re.match(r"[^ ⟦⟧]*", wide[n:])[0], level) for n, level in places]  # type: ignore[index]
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from([*WORDS, "\t", "a" * 90, "春" * 50]), min_size=1).map("".join), st.integers(20, 100))
def test_lines_without_colours_lose_no_character_and_fit(key: Key, text: str, width: int) -> None:
    for one in judge_of(key).heatmaps(text):
        body = plain(one, width).partition("\n\n")[2]
        lines = body.split("\n")
        assert all(cell_len(line) <= width for line in lines)
        shown = "".join(line for line in lines if not MARKS.fullmatch(line))
        assert re.sub(r"[\s⟦⟧]", "", shown) == re.sub(r"\s", "", text)


# the command


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(detect, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def ring(key: Key) -> str:
    Path("ring.json").write_text(Keyring((key,)).dumps())
    Path("ring.json").chmod(0o600)
    return "ring.json"


def test_the_command_writes_the_page_beside_its_verdict(ring: str, key: Key) -> None:
    Path("a.txt").write_text(marked_text(key, 80))
    result = run("--keyring", ring, "a.txt", "--heatmap", "a.html", "--json")
    assert result.exit_code == 0 and result.stdout.startswith("{")
    assert "a.html" in result.stderr and "key k1" in Path("a.html").read_text()
    assert stat.S_IMODE(Path("a.html").stat().st_mode) == 0o600
    shown = run("--keyring", ring, "a.txt", "--heatmap", "-")
    assert "suspected" in shown.stdout and "⟦w" in shown.stdout and "Figures under the text" in shown.stdout


def test_a_page_that_was_there_is_replaced_whole_and_keeps_its_mode(ring: str, key: Key) -> None:
    Path("a.txt").write_text(marked_text(key, 80))
    Path("a.html").write_text("old" * 100_000)
    Path("a.html").chmod(0o640)
    assert run("--keyring", ring, "a.txt", "--heatmap", "a.html").exit_code == 0
    page = Path("a.html").read_text()
    assert page.startswith("<!DOCTYPE") and page.endswith("</html>\n") and "old" not in page
    assert stat.S_IMODE(Path("a.html").stat().st_mode) == 0o640


@pytest.mark.parametrize("environ", [{"FORCE_COLOR": "1", "TERM": "xterm-256color"}, {"NO_COLOR": "1"}, {}])
def test_figures_stand_where_colours_do_not(
    ring: str, key: Key, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    Path("a.txt").write_text(marked_text(key, 80))
    shown = run("--keyring", ring, "a.txt", "--heatmap", "-").stdout
    assert ("\x1b[30;48;5;" in shown) == ("FORCE_COLOR" in environ) == ("Figures under" not in shown)


def test_of_several_keys_the_one_drawn_is_named_and_may_be_chosen(key: Key) -> None:
    other = key_for(Path(key.spec.tokenizer_path or ""), "other")
    Path("two.json").write_text(Keyring((other, key)).dumps())
    Path("two.json").chmod(0o600)
    Path("a.txt").write_text(marked_text(key, 80))
    Path("b.txt").write_text(plain_text(100))
    marked = run("--keyring", "two.json", "a.txt", "--heatmap", "a.html")
    assert "shows key k1, which found a mark (of 2 keys; --heatmap-key ID shows another)" in marked.stderr
    assert "Keys that were tried: other, k1." in Path("a.html").read_text()
    assert "is the loudest; none found a mark (of 2" in run("--keyring", "two.json", "b.txt", "--heatmap", "-").stderr
    chosen = run("--keyring", "two.json", "a.txt", "--heatmap", "-", "--heatmap-key", "other")
    assert "key other (gumbel): not shown" in chosen.stdout and "key k1 (gumbel)" not in chosen.stdout
    assert chosen.stderr == ""
    both = run("--keyring", "two.json", "a.txt", "--heatmap", "-", "--heatmap-key", "k1", "--heatmap-key", "other")
    assert both.stdout.count("Figures under the text") == 2


def test_the_payload_that_is_drawn_is_the_one_that_is_named(tmp_path: Path) -> None:
    """Not the loudest of the text for all of its maps."""
    key = key_for(toy_tokenizer(tmp_path), payload_bits=4).naming(9, "Köln")
    text = " ".join(marked_text(key.carrying(payload), 200, payload) for payload in (3, 9))
    maps = judge_of(key).heatmaps(text)
    assert [one.title.split(": ")[1].partition(" tokens")[0].rpartition(",")[0] for one in maps] == [
        "marked, payload 3",
        "marked, payload 9 (Köln)",
    ]
    (plain_one,) = judge_of(key).heatmaps(plain_text(200))
    assert "not shown, drawn as payload 0," in plain_one.title


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("a.txt", "b.txt", "--heatmap", "x.html"), "one FILE"),
        (("a.txt", "--heatmap", "-", "--json"), "standard output"),
        (("a.txt", "--heatmap", "./a.txt"), "overwrite"),
        (("a.txt", "--heatmap", "link.txt"), "overwrite"),
        (("a.txt", "--heatmap", "none/x.html"), "--heatmap none/x.html cannot be written: No such file or directory"),
        (("a.txt", "--heatmap", "none/\x1b[2J"), "none/\ufffd[2J cannot be written"),
        (("a.txt", "--heatmap", "."), "--heatmap . cannot be written: Is a directory"),
        (("a.txt", "--heatmap", "a\0b"), "cannot be written"),
        (("a.txt", "--heatmap-key", "k1"), "give --heatmap OUT too"),
        (("a.txt", "--heatmap", "x.html", "--heatmap-key", "k9"), "key 'k9' is not in the keyring; known: k1"),
        (("none.txt", "--heatmap", "x.html"), "none.txt: cannot be read"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(ring: str, arguments: tuple[str, ...], told: str) -> None:
    Path("a.txt").write_text("some words")
    Path("b.txt").write_text("some words")
    Path("link.txt").symlink_to("a.txt")
    result = run("--keyring", ring, *arguments)
    assert result.exit_code == 2 and told in result.stderr and len(result.stderr.splitlines()) == 1
    assert result.stdout == ""  # before the work
    assert Path("a.txt").read_text() == "some words" and not Path("x.html").exists()


def test_a_text_too_long_to_draw_is_refused_before_it_is_judged(ring: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_label.verify.detector.gather", lambda *_, **__: pytest.fail("it was judged"))
    Path("a.txt").write_text("some words " * 200_000)
    result = run("--keyring", ring, "a.txt", "--heatmap", "x.html")
    assert result.exit_code == 2 and "a.txt: --heatmap draws texts of up to 2000000 characters" in result.stderr
    assert not Path("x.html").exists()


def test_a_heat_map_without_keys_is_refused() -> None:
    Path("a.txt").write_text("some words")
    result = run("a.txt", "--heatmap", "x.html")
    assert result.exit_code == 2 and "keyring" in result.stderr and not Path("x.html").exists()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(WORDS)).map("".join))
def test_whatever_a_text_holds_it_is_drawn_once(key: Key, text: str) -> None:
    judge = judge_of(key)
    for one in judge.heatmaps(text):
        assert is_whole(one) and one.text == text
        reader = Reader()
        reader.feed(page_of(judge.detect(text), (one,), "x"))
        assert reader.open == []
