"""Records and texts in saved files: Markdown front matter, JSON answers, event streams, plain text."""

import json
import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_label.errors import InputError
from llm_label.metadata.aigc import Record
from llm_label.metadata.carriers import CARRIERS, LIMIT, Carried, markdown, open_carrier, sniff
from tests import testdata

RECORD = Record.produced("ACME", "0f8fad5bd9cb469fa16570867728950e")
OTHER = Record.produced("Other", "2")


def front(record: Record, extra: str = "", indent: int = 2, quote: str = '"') -> str:
    lines = [f"{' ' * indent}{k}: {quote}{v}{quote}" for k, v in sorted(record.to_dict().items())]
    return "\n".join(["---", "AIGC:", *lines, *([extra] if extra else []), "---", ""])


# Markdown


@given(st.text(), st.sampled_from(['a"b', "it's", "#no", "[x", "{", "&a", "*b", "!t", "1", "null", "%"]))
def test_front_matter_is_cut_so_that_the_text_comes_back_exactly(text: str, producer: str) -> None:
    record = Record.produced(producer, "1")
    written = markdown.write(text, record)
    carried = markdown.read(written)
    assert carried.texts == (text,)
    assert carried.records == (record,)
    assert [reading.problems for reading in carried.readings] == [()]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("style", [(2, "'"), (4, '"')])
def test_front_matter_as_seen_in_public_files(end: str, bom: str, style: tuple[int, str]) -> None:
    body = f"# 标题{end}{end}正文{end}"
    source = bom + front(RECORD, indent=style[0], quote=style[1]).replace("\n", end) + body
    carried = open_carrier(source.encode())
    assert (carried.kind, carried.texts, carried.records) == ("markdown", (body,), (RECORD,))
    assert carried.problems == () and carried.readings[0].problems == ()


def test_front_matter_that_ends_with_dots_and_flow_style() -> None:
    flow = f"---\nAIGC: {json.dumps(RECORD.to_dict())}\n...\nbody"
    assert open_carrier(flow).records == (RECORD,)
    assert open_carrier(flow).texts == ("body",)


def test_keys_of_others_stay_in_the_text_as_the_model_wrote_them() -> None:
    theirs = "---\ntitle: x # why\nfiles:\n  - a\n"
    block = front(RECORD)[4:-4]
    for source in (
        f"{theirs}{block}date: 2024-01-01\n---\nbody",
        f"{theirs}date: 2024-01-01\n{block}---\nbody",
    ):
        carried = open_carrier(source)
        assert carried.records == (RECORD,)
        assert carried.texts == (theirs + "date: 2024-01-01\n---\nbody",)


@pytest.mark.parametrize(
    "text",
    ["---\ntitle: x\n---\nbody", "---\nHello\n---\nAIGC is a word", "---", "---\n", "--- a\n", "",
     "AIGC:\n  x",
     "---\ntitle: AIGC labels\nbroken: [\n---\nx", "a\n---\nb\n---\n", "---\n- AIGC\n---\n", "\ufeff\ufeffx"],
)  # fmt: skip
def test_text_without_a_record_is_left_alone(text: str) -> None:
    carried = open_carrier(text)
    assert carried.texts == (text.removeprefix("\ufeff"),)
    assert (carried.readings, carried.strays, carried.problems, carried.unread) == ((), (), (), False)


def test_two_blocks_at_the_head_are_a_problem() -> None:
    for second in (OTHER, RECORD):
        carried = open_carrier(front(RECORD) + front(second) + "body")
        assert carried.texts == ("body",)
        assert any("one per file" in problem for problem in carried.problems)
    twice = front(RECORD, extra=front(OTHER)[4:-5]) + "body"
    assert open_carrier(twice).records == (RECORD, OTHER)
    assert any("one per file" in problem for problem in open_carrier(twice).problems)


@pytest.mark.parametrize("tail", ["", "\n", "\n\n"])
def test_block_at_the_end_is_a_trace_and_no_metadata(tail: str) -> None:
    carried = open_carrier("body\n\n" + front(RECORD) + tail)
    assert carried.records == ()
    assert [stray.record for stray in carried.strays] == [RECORD]
    assert carried.texts == ("body\n\n" + tail,)
    assert "line 3" in carried.problems[0]


def test_fenced_block_is_a_trace_at_the_head_and_only_text_inside_an_article() -> None:
    fenced = "```yaml\n" + front(RECORD)[4:-4] + "```\n"
    head = open_carrier(fenced + "body")
    assert [stray.record for stray in head.strays] == [RECORD]
    article = open_carrier("The standard asks for\n\n" + fenced + "\nin every file.")
    assert article.strays == ()
    assert "ignored" in article.problems[0]
    for carried in (head, article):
        assert carried.records == ()
        assert fenced in carried.texts[0]


UNREADABLE = {
    "broken": "---\nAIGC:\n  Label: [\n---\nbody",
    "deep": "---\nAIGC: " + "[" * 60_000 + "\n---\nbody",
    "deep keys": "---\nAIGC:\n " + "? " * 20_000 + "\n---\nbody",
    "endless": "---\nAIGC:\n" + "  x: y\n" * 100_000,
    "control": "---\nAIGC:\n  Label: '\x01'\n---\nbody",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_front_matter_that_cannot_be_read_says_so_in_bounded_time(name: str) -> None:
    started = time.process_time()
    carried = open_carrier(UNREADABLE[name])
    assert time.process_time() - started < 2
    assert carried.unread and len(carried.problems) == 1
    assert carried.texts == (UNREADABLE[name],)


def test_yaml_aliases_are_not_followed() -> None:
    bomb = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9 if i else ['x'])}]\n" for i in range(30))
    carried = open_carrier(f"---\n{bomb}AIGC: *l29\n---\nbody")
    assert carried.records == ()
    assert carried.readings[0].problems


def test_unquoted_and_null_values_are_read_and_reported() -> None:
    carried = open_carrier("---\nAIGC:\n  Label: 1\n  ProduceID: 142569260085903360\n  ReservedCode1:\n---\n")
    assert carried.records[0].label == "1"
    assert carried.records[0].produce_id == "142569260085903360"
    assert "ProduceID is not quoted and reads as int" in carried.readings[0].problems
    assert "ReservedCode1 is not quoted and reads as null" in carried.readings[0].problems


# saved answers


def answer(*contents: Any, **top: Any) -> dict[str, Any]:
    choices = [{"index": i, "message": {"content": c}} for i, c in enumerate(contents)]
    return {"id": "x", "object": "chat.completion", "choices": choices, **top}


def test_saved_answer_gives_each_choice_and_our_record() -> None:
    saved = answer("你好", None, [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])
    saved["llm_label"] = {"content_id": "x", "record": RECORD.to_dict()}
    carried = open_carrier(json.dumps(saved, indent=1).encode())
    assert carried == Carried("json", ("你好", "", "ab"), carried.readings)
    assert carried.records == (RECORD,)


@pytest.mark.parametrize("key", ["AIGC", "aigc"])
def test_record_of_others_beside_the_choices_is_read(key: str) -> None:
    for value in (RECORD.to_dict(), json.dumps(RECORD.to_dict())):
        assert open_carrier(json.dumps(answer("x", **{key: value}))).records == (RECORD,)


def test_two_records_that_differ_are_a_problem_and_two_equal_ones_are_not() -> None:
    for other, problems in ((RECORD, 0), (OTHER, 1)):
        saved = answer("x", AIGC=RECORD.to_dict(), llm_label={"record": other.to_dict()})
        assert len(open_carrier(json.dumps(saved)).problems) == problems


@pytest.mark.parametrize("wrap", [False, True])
def test_bare_record_is_a_record_without_text(wrap: bool) -> None:
    bare = {"AIGC": RECORD.to_dict()} if wrap else RECORD.to_dict()
    carried = open_carrier(json.dumps(bare))
    assert (carried.texts, carried.records) == ((), (RECORD,))


@pytest.mark.parametrize("source", ['{"city": "上海"}\n', '{"text": "a", "n": 1}', '{"content": "a"}', "{}"])
def test_json_that_is_no_answer_is_itself_the_text(source: str) -> None:
    """A model in JSON mode wrote it whole."""
    assert open_carrier(source).texts == (source,)


ERRORS = {
    "OpenAI": {"error": {"message": "m", "type": "invalid_request_error", "param": None, "code": "model_not_found"}},
    "Anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "m"}, "request_id": "req_1"},
    "vLLM": {"object": "error", "message": "m", "type": "BadRequestError", "param": None, "code": 400},
    "Ollama": {"error": "model 'm' not found"},
    "OpenRouter": {"error": {"message": "m", "code": 400, "metadata": {}}, "user_id": "user_1"},
    "TGI": {"error": "Model is overloaded", "error_type": "overloaded"},
    "DashScope": {"code": "InvalidApiKey", "message": "m", "request_id": "1"},
    "Responses, in a stream": {"type": "error", "code": "server_error", "message": "m", "sequence_number": 3},
}


@pytest.mark.parametrize("maker", ERRORS)
def test_an_error_answer_says_that_no_model_wrote_it(maker: str) -> None:
    told = "it is built like an API's error answer, which holds no text that a model wrote"
    source = json.dumps(ERRORS[maker])
    carried = open_carrier(source)
    assert (carried.problems, carried.unread) == ((told,), True)
    assert carried.texts == (source,), "marks are sought in it all the same"
    stream = open_carrier(f"event: error\ndata: {source}\n\n")
    assert (stream.kind, stream.texts, stream.problems) == ("sse", (), (told,))


def test_an_answer_that_failed_says_so_unless_there_is_text() -> None:
    error, part = {"code": "server_error", "message": "m"}, {"type": "output_text", "text": "上海"}
    for output, told in (([], 1), ([{"type": "message", "content": [part]}], 0)):
        response = {"object": "response", "status": "failed", "error": error, "output": output}
        carried = open_carrier(json.dumps(response))
        assert (len(carried.problems), carried.unread, len(carried.texts)) == (told, bool(told), 1 - told)
        stream = open_carrier(f"data: {json.dumps({'type': 'response.failed', 'response': response})}\n\n")
        assert (len(stream.problems), stream.texts) == (told, carried.texts)
    assert open_carrier('data: {"choices": [{"delta": {"content": "上海"}}]}\n\ndata: {"error": {}}\n').problems == ()
    assert open_carrier('{"choices": [], "error": null}').problems == ()


@pytest.mark.parametrize("source", ['{"error": null, "city": "上海"}', '{"error": 3}', '{"error": {}, "city": "上海"}', '{"code": "print()", "message": "上海"}', '{"type": "user"}', "{}"])  # fmt: skip
def test_json_of_a_model_is_no_error_answer(source: str) -> None:
    carried = open_carrier(source)
    assert (carried.texts, carried.problems, carried.unread) == ((source,), (), False)


@pytest.mark.parametrize("source", ['{"role": "assistant", "content": "上海"}', '{"text": "上海"}'])
def test_single_message_and_detection_request_give_their_text(source: str) -> None:
    assert open_carrier(source).texts == ("上海",)


@pytest.mark.parametrize("source", ["{a set}", "{", "{" * 100_000, '{"a":' * 5000, "[1, 2]", "3", '"x"'])
def test_what_only_looks_like_json_is_text(source: str) -> None:
    assert (open_carrier(source).kind, open_carrier(source).texts) == ("text", (source,))


def test_halves_of_a_surrogate_pair_are_joined_or_replaced() -> None:
    frames = [{"choices": [{"index": 0, "delta": {"content": half}}]} for half in ("\ud83d", "\ude00", "\ud800")]
    stream = "".join(f"data: {json.dumps(frame)}\n\n" for frame in frames)
    assert open_carrier(stream).texts == ("😀\ufffd",)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_saved_stream_is_joined_choice_by_choice(end: str) -> None:
    frames = [
        {
            "choices": [{"index": 1, "delta": {"content": "b\u2028"}}],
            "llm_label": {"record": RECORD.to_dict()},
        },
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "你"}}]},
        {"choices": [{"index": 0, "delta": {"content": "好"}}, {"index": 1, "delta": {"content": "c"}}]},
        {"choices": [], "usage": {}, "llm_label": {"record": RECORD.to_dict()}},
    ]
    lines = [f": ping{end}{end}"]
    lines += [f"event: x{end}data:{json.dumps(frame, ensure_ascii=False)}{end}{end}" for frame in frames]
    carried = open_carrier("".join([*lines, f"data: [DONE]{end}{end}"]).encode())
    assert (carried.kind, carried.texts) == ("sse", ("你好", "b\u2028c"))
    assert carried.records == (RECORD,)
    assert carried.problems == ()


def test_stream_that_was_cut_off_keeps_what_came() -> None:
    frame = json.dumps({"choices": [{"delta": {"content": "abc"}}]})
    carried = open_carrier(f"data: {frame}\n\ndata: {frame[:20]}")
    assert carried.texts == ("abc",)
    assert "1 frames" in carried.problems[0]


# bytes


@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"", "markdown"), (b"{}", "json"), (b"data: {}\n\n", "sse"), (b"data: none\n", "markdown"),
     (b"x", "markdown"),
     (b"\xef\xbb\xbf{}", "json"), (b"\n\nevent: a\ndata: {}\n\n", "sse"), (b"event: a party\n", "markdown")],
)  # fmt: skip
def test_sniff_names_the_carrier(data: bytes, kind: str) -> None:
    assert sniff(data) == kind
    assert kind in CARRIERS


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"%PDF-1.7", "PDF"), (b"PK\x03\x04", "ZIP"), (b"a\0b", "NUL byte at 1"),
     ("中".encode("gb18030"), "0xd6 at 0"),
     ("中".encode("utf-16"), "UTF-16"), (b"\x1f\x8b", "gzip"), (b"\x89PNG\r\n", "0x89"),
     (b"x" * (LIMIT + 1), "allowed"),
     ("x中".encode()[:-1], "at 1")],
)  # fmt: skip
def test_what_is_no_text_is_refused_in_one_line(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        open_carrier(data)
    assert "\n" not in str(caught.value)


def test_damaged_files_never_break_a_carrier() -> None:
    seeds = [front(RECORD) + "body", json.dumps(answer("x", AIGC=RECORD.to_dict())), "data: {}\n\n" * 3]
    rng = random.Random(5)
    for _ in range(1500):
        data = bytearray(rng.choice(seeds).encode())
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.choice(b"\n\r-{}[]\":' &*|>\\0aA\xe4")
        try:
            carried = open_carrier(bytes(data))
        except InputError:
            continue
        assert all(isinstance(text, str) for text in carried.texts)


# real recordings


def test_every_chat_recording_is_recognised_and_its_text_joined() -> None:
    counts = {"sse": 0, "json": 0}
    for recording in testdata.documents("data/recordings/openai_chat.jsonl.gz"):
        if recording["kind"] == "event_payloads":
            frames = [json.loads(event) for event in recording["events"]]
            body = "".join(f"data: {event}\n\n" for event in recording["events"]) + "data: [DONE]\n\n"
            expected: dict[int, str] = {}
            for frame in frames:
                for choice in frame.get("choices") or []:
                    piece = (choice.get("delta") or {}).get("content")
                    expected.setdefault(choice.get("index", 0), "")
                    expected[choice.get("index", 0)] += piece if isinstance(piece, str) else ""
            carried = open_carrier(body.encode())
            assert carried.texts == tuple(expected[i] for i in sorted(expected)), recording["id"]
        else:
            body = recording["response"].get("body")
            if not body:
                continue
            carried = open_carrier(body if isinstance(body, str) else json.dumps(body))
        counts["sse" if recording["stream"] else "json"] += carried.kind == ("sse" if recording["stream"] else "json")
        status = (recording.get("response") or {}).get("status") or 200
        assert not carried.readings and carried.unread == (status >= 400), recording["id"]
    assert counts["sse"] >= 90 and counts["json"] >= 180, counts


def test_a_text_full_of_records_is_read_in_linear_time() -> None:
    """A loose bound (measured: 0.1 s); it catches joining the text anew for every block."""
    block = "---\nAIGC: {Label: '1'}\n---\n"
    start = time.perf_counter()
    carried = markdown.read("Look:\n" + block * 40_000)
    assert time.perf_counter() - start < 5.0
    assert carried.readings == () and "more than 64 AIGC blocks" in carried.problems[-1]


def test_a_control_character_in_front_matter_is_told_in_one_line() -> None:
    carried = markdown.read("---\nAIGC: \x07\n---\nText")
    assert carried.unread and "control characters" in carried.problems[0] and "\n" not in carried.problems[0]


def test_content_that_nests_without_end_is_no_text() -> None:
    deep = '[{"text":' * 400 + '"x"' + "}]" * 400
    assert open_carrier(f'{{"role": "assistant", "content": {deep}}}').texts == ("",)


def test_thousands_of_records_are_told_and_not_all_read() -> None:
    records = [Record.produced("ACME", str(n)).to_json() for n in range(3000)]
    whole = open_carrier("{" + ",".join(f'"AIGC": {record}' for record in records) + "}")
    assert len(whole.readings) == 64 and "given 3000 times" in whole.problems[0]
    stream = open_carrier("".join(f'data: {{"AIGC": {record}}}\n\n' for record in records))
    assert len(stream.readings) == 64


def test_a_stream_of_broken_frames_is_left_unread() -> None:
    carried = open_carrier('data: {"choices": [{"delta": {"content": "x"}}]}\n\n' + "data: {\n\n" * 5000)
    assert carried.unread and carried.texts == ("x",)
    assert carried.problems == ("1000 frames of the stream are not JSON; the rest is not read",)


def test_headers_that_curl_saved_before_the_body_are_passed_over() -> None:
    body = '{"choices":[{"message":{"role":"assistant","content":"春"}}],"llm_label":{"record":{"Label":"1"}}}'
    carried = open_carrier(f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-AIGC: {{}}\r\n\r\n{body}")
    assert (carried.kind, carried.texts) == ("json", ("春",))
    assert len(carried.readings) == 1


def test_json_that_was_cut_off_is_not_judged_as_if_it_were_whole() -> None:
    carried = open_carrier('{"choices":[{"message":{"role":"assistant","content":"春')
    assert carried.unread and "cut off" in carried.problems[0]
