"""Running text of the local upstream: whole characters, stop strings, nothing taken back."""

import random

import pytest

pytest.importorskip("tokenizers", reason="the adapter llm-label-transformers is not installed")
pytest.importorskip("torch", reason="the adapter llm-label-transformers is not installed")

from llm_label_transformers.text import ChoiceText, RunningDecoder, StopMatcher, context_of
from tokenizers import Tokenizer, decoders, models


def byte_level() -> Tokenizer:
    """One token a byte, as GPT-2's alphabet writes them."""
    codes = [*range(33, 127), *range(161, 173), *range(174, 256)]
    signs = {code: chr(code) for code in codes}
    spare = iter(range(256, 512))
    signs |= {code: chr(next(spare)) for code in range(256) if code not in signs}
    tokenizer = Tokenizer(models.BPE(vocab={signs[code]: code for code in range(256)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def byte_fallback() -> Tokenizer:
    """One token a byte, as SentencePiece writes them, and one token for " ok"."""
    vocab = {f"<0x{code:02X}>": code for code in range(256)} | {"\u2581ok": 256}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


TOKENIZERS = {"byte level": byte_level, "byte fallback": byte_fallback}
TEXTS = ("plain", "你好，世界", "naïve café", "👩‍👩‍👧 family", "\u2028 a\r\nb", "é")


def fed(decoder: RunningDecoder, ids: list[int]) -> list[str]:
    return [*(decoder.feed(token) for token in ids), decoder.finish()]


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("text", TEXTS)
def test_pieces_are_whole_characters_and_join_to_the_text(kind: str, text: str) -> None:
    pieces = fed(RunningDecoder(TOKENIZERS[kind]().decode), list(text.encode()))
    assert "".join(pieces) == text
    assert all("\ufffd" not in piece for piece in pieces)


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_bytes_that_never_become_a_character_are_shown_as_such_at_the_end(kind: str) -> None:
    pieces = fed(RunningDecoder(TOKENIZERS[kind]().decode), list("ab你".encode()[:-1]))
    assert pieces[:3] == ["a", "b", ""]
    assert set(pieces[-1]) == {"\ufffd"}


def test_a_leading_space_stays_after_a_prompt_and_goes_after_a_special_token() -> None:
    decode = byte_fallback().decode
    assert fed(RunningDecoder(decode, [256]), [256, 256]) == [" ok", " ok", ""]
    assert fed(RunningDecoder(decode, []), [256, 256]) == ["ok", " ok", ""]


def test_context_is_never_half_a_character() -> None:
    prompt = list("a你好".encode())
    assert context_of(prompt, byte_level().decode) == prompt[-3:]
    assert context_of(list(b"\x80" * 20), byte_level().decode) == []


STOPS = [("end",), ("。",), ("ab", "abc"), ("aab",), ("\n\nUser:", "User"), ("aaaa", "b")]


@pytest.mark.parametrize("stops", STOPS)
def test_stop_strings_are_found_at_every_cut_and_never_sent(stops: tuple[str, ...]) -> None:
    for text in ("the end of it", "句子。下一句", "xxaabcyy", "aaab", "a\n\nUser: b", "nothing", "aaaab", "en"):
        for size in range(1, len(text) + 1):
            matcher = StopMatcher(stops)
            parts = [text[i : i + size] for i in range(0, len(text), size)]
            out = "".join(map(matcher.feed, parts)) + matcher.finish()
            assert (out, matcher.stopped) == _expected(text, stops, parts)


def _expected(text: str, stops: tuple[str, ...], parts: list[str]) -> tuple[str, bool]:
    """The earliest stop that is complete when a part ends wins; one that overlaps it may only be complete later."""
    seen = ""
    for part in parts:
        seen += part
        hits = [i for i in map(seen.find, stops) if i >= 0]
        if hits:
            return text[: min(hits)], True
    return text, False


def test_only_a_possible_beginning_of_a_stop_string_is_held_back() -> None:
    matcher = StopMatcher(("END",))
    assert [matcher.feed(part) for part in ("one E", "N", "T two", " E")] == ["one ", "", "ENT two", " "]
    assert matcher.finish() == "E"


def test_nothing_follows_a_stop() -> None:
    choice = ChoiceText(RunningDecoder(byte_level().decode), StopMatcher(("X",)))
    out = "".join(choice.feed(token) for token in b"abXcd") + choice.finish()
    assert (out, choice.stopped) == ("ab", True)


def test_a_stop_string_inside_the_flushed_tail_counts() -> None:
    choice = ChoiceText(RunningDecoder(byte_level().decode), StopMatcher(("\ufffd",)))
    out = "".join(choice.feed(token) for token in b"ab\xe4") + choice.finish()
    assert (out, choice.stopped) == ("ab", True)


def test_broken_bytes_do_not_swallow_what_follows() -> None:
    draw = random.Random(5)
    for kind, plain, text in (("byte level", 97, "a"), ("byte fallback", 256, "ok")):
        for _ in range(50):
            ids = [draw.choice((plain, plain, 0xE4, 0xBD, 0xA0, 0xC3, 0xA9, 0xF0)) for _ in range(24)]
            pieces = fed(RunningDecoder(TOKENIZERS[kind]().decode), ids)
            assert "".join(pieces).count(text) == ids.count(plain)
