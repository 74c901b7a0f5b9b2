"""A text too long to hold is judged in blocks: found where it is marked, corrected for all that was tried."""

import io
import json
import math
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_label.cli.detect import detect
from llm_label.errors import InputError
from llm_label.labels.wording import all_wordings, wording
from llm_label.metadata.aigc import Record
from llm_label.metadata.carriers import markdown
from llm_label.verify import long
from llm_label.verify.detector import Detector
from llm_label.verify.findings import InvisibleMark, RecordMark, VisibleLabel, WatermarkTest
from llm_label.verify.long import BLOCK, blocks
from llm_label.verify.source import INVISIBLE
from llm_label.verify.verdict import Verdict
from llm_label.watermark.keyring import Key, Keyring

from .marking import key_for, marked_text, plain_text, toy_tokenizer


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is long here is short elsewhere."""
    monkeypatch.setattr(long, "LIMIT", 4000)
    monkeypatch.setattr(long, "LONGEST", 3000)
    monkeypatch.setattr(long, "BLOCK", 2500)
    monkeypatch.setattr(long, "_BYTES", 700)


@pytest.fixture
def key(tmp_path: Path) -> Key:
    return key_for(toy_tokenizer(tmp_path))


def judged(text: str | bytes, *keys: Key) -> Verdict:
    data = text.encode() if isinstance(text, str) else text
    file = io.BytesIO(data)
    return Detector(Keyring(keys), all_wordings()).detect_file(file.read(long.LIMIT + 1), file)


def asked(verdict: Verdict) -> list[WatermarkTest]:
    return [finding for finding in verdict.evidence if isinstance(finding, WatermarkTest)]


def pages(count: int, seed: int = 0) -> str:
    return "\n\n".join(plain_text(40, seed * 1000 + n) for n in range(count))


@pytest.mark.parametrize("unit", ["word ", "春", "🙂 ", "é\n", "a\n\n"])
def test_blocks_are_the_whole_text(unit: str) -> None:
    rng = random.Random(0)
    for size in (1, 800, 2499, 2500, 2501, 9000):
        text = (unit * size)[:size]
        data, head = text.encode(), rng.randint(0, 3000)
        found = list(blocks(data[:head], io.BytesIO(data[head:])))
        assert "".join(found) == text and all(0 < len(block) <= long.BLOCK for block in found)


def test_blocks_end_with_a_paragraph_or_a_line_or_a_word() -> None:
    for end in ("\n\n", "\n", " "):
        text = (("x" * 90 + end) * 60)[:-1]
        *first, _ = blocks(b"", io.BytesIO(text.encode()))
        assert len(first) == 2 and all(block.endswith(end) for block in first)


def test_a_marked_passage_is_found_where_it_stands(key: Key) -> None:
    before, marked, after = pages(60), marked_text(key, 300), pages(60, 1)
    verdict = judged(f"{before}\n\n{marked}\n\n{after}", key)
    (found,) = asked(verdict)
    assert (verdict.verdict, found.decision) == ("suspected", "marked")
    assert f"|blocks:{BLOCK}|" in verdict.signature
    start = len(before) + 2
    assert found.segments and all(start - 60 <= s.start and s.end <= start + len(marked) + 60 for s in found.segments)
    covered = sum(s.end - s.start for s in found.segments)
    assert covered > 0.8 * len(marked)
    text = f"{before}\n\n{marked}\n\n{after}"
    assert all(text[s.start : s.end][:20] == s.excerpt[:20] for s in found.segments)


def test_the_tries_of_all_blocks_are_paid_for(key: Key) -> None:
    marked = marked_text(key, 150)
    alone = asked(Detector(Keyring((key,)), ()).detect(marked))[0]
    text = f"{marked}\n\n" + "\n\n".join("x" * 2400 for _ in range(9))
    (found,) = asked(judged(text, key))
    count = len(list(blocks(b"", io.BytesIO(text.encode()))))
    assert found.tests == count * alone.tests
    assert found.log10_p >= alone.log10_p + math.log10(count) - 1e-9, "never less than for the passage alone"


def test_unmarked_blocks_show_nothing(key: Key) -> None:
    verdict = judged(pages(100), key)
    (found,) = asked(verdict)
    assert (verdict.verdict, found.decision, found.segments) == ("not_found", "not_shown", ())
    assert found.scored > 3000


def test_a_text_that_fits_is_judged_as_a_whole(key: Key) -> None:
    text = marked_text(key, 200)
    assert judged(text, key) == Detector(Keyring((key,)), all_wordings()).detect(text)


def test_only_the_head_of_a_file_carries_its_record() -> None:
    record = Record.produced("ACME", "id-1")
    assert judged(markdown.write(pages(100), record)).verdict == "confirmed"
    inside = judged(f"{pages(60)}\n\n{markdown.write(pages(60, 1), record)}")
    assert inside.verdict == "suspected"
    assert [f.placed for f in inside.evidence if isinstance(f, RecordMark)] == [False]


def test_labels_and_invisible_marks_are_placed_in_the_whole_text() -> None:
    label, mark = wording("zh", ["cn"]), next(iter(INVISIBLE.values()))
    verdict = judged(f"{label}\n\n{pages(60)} {mark} {pages(60, 1)} {mark}\n")
    assert [f.position for f in verdict.evidence if isinstance(f, VisibleLabel)] == ["start"]
    (found,) = [f for f in verdict.evidence if isinstance(f, InvisibleMark)]
    assert (found.count, found.at) == (2, len(label) + 2 + len(pages(60)) + 1)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"word " * 1000 + b"\xff", "byte 0xff at 5000;"),
        ("春".encode() * 2000 + b"\xe6\x98", "byte 0xe6 at 6000;"),
        (b"\xef\xbb\xbf" + b"word " * 1000 + b"\xe6 ", "not UTF-8"),
        (b"word " * 1000 + b"\0" * 9000, "NUL byte at 5000;"),
        (b'data: {"choices": []}\n\n' * 1000, "an event stream of more than 4000 bytes"),
    ],
)
def test_what_is_no_text_further_on_is_one_clear_line(data: bytes, hint: str) -> None:
    with pytest.raises(InputError, match=hint) as caught:
        judged(data)
    assert "\n" not in str(caught.value)


def test_the_command_judges_a_long_file(key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    ring = tmp_path / "ring.json"
    ring.write_text(Keyring((key,)).dumps())
    ring.chmod(0o600)
    (tmp_path / "long.txt").write_text(f"{pages(60)}\n\n{marked_text(key, 300)}\n\n{pages(60, 1)}")
    result = CliRunner().invoke(detect, ["--keyring", str(ring), "--json", "long.txt"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["verdict"] == "suspected" and f"|blocks:{BLOCK}|" in told["signature"]
