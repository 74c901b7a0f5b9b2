"""The tricky cases of streaming proxies, in 35 groups: where each is tested, and here those that have no other home.

`GROUPS` is the index; a test keeps it true. Numbers are those of our list of facts about proxies and clients.
"""

import ast
import json
import os
import signal
import sqlite3
from functools import cache
from pathlib import Path

import pytest

from llm_label.audit.store import Store
from llm_label.labels.labeler import strip
from llm_label.policy import RequestView
from tests.proxy import marking
from tests.proxy.running import proxy, web, whole
from tests.proxy.test_app import STREAM, post
from tests.proxy.test_chat import BOTH, DONE, TOOL, USAGE, L, chunk, delta, run
from tests.proxy.test_leaving import hangs, served
from tests.proxy.test_wire import ASK, BODY, CLOSE
from tests.proxy.touch import assert_only_marks_were_added, frames, texts
from tests.proxy.wire import APIS, Client, dechunked, values

TESTS = Path(__file__).parent.parent
HERE = "proxy/test_scenarios.py"

# number -> (what it is about, file -> tests of it)
GROUPS: dict[int, tuple[str, dict[str, list[str]]]] = {
    1: ("every byte split of Chinese and emoji", {
        "proxy/test_sse.py": ["test_every_cut_gives_the_same_events_and_bytes"],
        "proxy/test_recordings.py": ["test_every_stream_may_come_one_byte_at_a_time", "test_short_streams_keep_the_law_at_every_byte"],
        "proxy/test_grammar.py": ["test_every_stream_keeps_the_cut_law_and_the_touch_law"]}),
    2: ("line ends, missing spaces, several data lines, BOM", {
        "proxy/test_sse.py": ["test_every_cut_gives_the_same_events_and_bytes", "test_no_byte_is_lost_and_cuts_do_not_matter"],
        "proxy/test_odd_streams.py": ["test_a_last_event_without_its_blank_line_counts"]}),
    3: ("comments and long silences", {
        "proxy/test_chat.py": ["test_comments_pass_and_events_without_data_do_not"],
        "proxy/test_leaving.py": ["test_silence_is_filled_with_comments_between_events", "test_no_comment_lands_in_bytes_that_are_not_whole_events"]}),
    4: ("events without data", {
        "proxy/test_upstream.py": ["test_events_without_data_never_reach_clients_that_would_die_of_them"],
        "proxy/test_messages.py": ["test_pings_and_unknown_events_keep_their_bytes"]}),
    5: ("many frames in a packet, a frame over many packets, large and very many frames", {
        "proxy/test_wire.py": ["test_very_many_events_and_enormous_ones_take_linear_time", "test_an_event_without_end_is_malformed"]}),
    6: ("compressed answers and requests", {
        "proxy/test_wire.py": ["test_a_compressed_stream_is_read_event_by_event", "test_a_compressed_request_and_answer_are_read",
                               "test_a_bomb_goes_off_at_the_limit_and_nowhere_else"]}),
    7: ("framings of HTTP", {"proxy/test_wire.py": ["test_streams_are_read_in_every_framing_of_http"]}),
    8: ("streams that break off, errors, silence, what follows the end", {
        "proxy/test_wire.py": ["test_a_stream_that_breaks_off_ends_in_one_error_behind_its_labels",
                               "test_behind_the_end_of_an_answer_a_break_is_no_news", "test_nothing_follows_done"],
        "proxy/test_upstream.py": ["test_the_real_client_raises_on_what_breaks_a_stream",
                                   "test_a_dripping_upstream_is_followed_and_a_silent_one_given_up"],
        "proxy/test_app.py": ["test_an_error_of_the_upstream_passes_unlabelled"]}),
    9: ("clients that leave", {
        "proxy/test_leaving.py": ["test_a_client_may_leave_in_any_phase", "test_a_client_may_leave_behind_a_tool_call",
                                  "test_a_client_may_leave_before_a_whole_answer", "test_draining_has_an_end"]}),
    10: ("slow clients", {
        "proxy/test_leaving.py": ["test_a_slow_client_slows_the_upstream_and_fills_no_memory",
                                  "test_a_client_that_takes_nothing_for_ever_is_given_up"]}),
    11: ("the server stops; new settings come with a new process, and open answers finish in the old one", {
        "proxy/test_leaving.py": ["test_a_hundred_open_streams_hear_that_the_server_stops",
                                  "test_an_open_stream_may_finish_while_the_server_stops"]}),
    12: ("connections used again, and those that the upstream closed", {
        "proxy/test_upstream.py": ["test_a_connection_serves_on_after_a_stream_an_error_and_a_refusal",
                                   "test_a_pooled_connection_that_the_upstream_closed_costs_nobody_an_answer",
                                   "test_a_request_is_sent_again_only_while_no_byte_has_come"]}),
    13: ("first chunks", {
        "proxy/test_chat.py": ["test_a_role_only_stream_and_one_without_role_are_labelled",
                               "test_a_null_content_stays_null_and_the_label_waits_for_text"],
        HERE: ["test_chat_streams_of_every_kind_keep_the_laws"]}),
    14: ("reasoning", {
        "proxy/test_chat.py": ["test_reasoning_comes_first_and_carries_no_label", "test_inline_thinking_split_over_frames_is_not_labelled"],
        HERE: ["test_chat_streams_of_every_kind_keep_the_laws"]}),
    15: ("finish reasons", {
        "proxy/test_odd_streams.py": ["test_text_behind_a_finish_reason_that_no_label_can_reach_is_refused"],
        HERE: ["test_chat_streams_of_every_kind_keep_the_laws"]}),
    16: ("usage, first frames without choices, unknown fields, numbers as written", {
        "proxy/test_chat.py": ["test_azure_style_first_frames_without_choices_pass"],
        HERE: ["test_chat_streams_of_every_kind_keep_the_laws"]}),
    17: ("several choices", {
        "proxy/test_chat.py": ["test_every_choice_has_its_own_labels", "test_two_choices_in_one_frame_are_both_labelled"],
        HERE: ["test_chat_streams_of_every_kind_keep_the_laws"]}),
    18: ("tool calls", {
        "proxy/test_chat.py": ["test_prose_before_a_tool_call_is_labelled_before_the_first_tool_delta",
                               "test_a_tool_call_alone_keeps_every_byte_of_its_choices"],
        "proxy/test_odd_streams.py": ["test_text_in_pieces_behind_a_tool_call_is_labelled_once_at_its_end"],
        HERE: ["test_chat_streams_of_every_kind_keep_the_laws"]}),
    19: ("structured output", {
        "proxy/test_chat.py": ["test_structured_output_is_untouched_and_says_why"],
        "proxy/test_responses.py": ["test_structured_output_is_untouched_and_says_why"],
        "proxy/test_messages.py": ["test_structured_output_is_untouched_and_says_why"]}),
    20: ("log probabilities", {
        "proxy/test_chat.py": ["test_with_logprobs_the_label_travels_in_frames_of_its_own"],
        "proxy/test_completions.py": ["test_with_log_probabilities_only_the_end_is_labelled_and_no_offset_shifts"]}),
    21: ("refusals, audio, moderation, annotations", {
        "proxy/test_chat.py": ["test_a_refusal_is_not_labelled"],
        "proxy/test_responses.py": ["test_indices_of_citations_move_with_their_text"],
        HERE: ["test_chat_streams_of_every_kind_keep_the_laws"]}),
    22: ("prefill and echo", {
        "proxy/test_chat.py": ["test_after_a_prefill_only_the_end_is_labelled"],
        "proxy/test_completions.py": ["test_an_echoed_prompt_has_no_label_before_it_whole_or_streamed"]}),
    23: ("empty and very short answers, answers that bring a label", {
        "proxy/test_chat.py": ["test_an_empty_answer_is_not_labelled", "test_an_answer_that_brings_our_label_gets_no_second_one"],
        HERE: ["test_chat_streams_of_every_kind_keep_the_laws"]}),
    24: ("padding against guessing sizes", {HERE: ["test_chat_streams_of_every_kind_keep_the_laws"]}),
    25: ("filling gaps, echo", {
        "proxy/test_completions.py": ["test_what_fills_a_gap_is_untouched_and_says_why",
                                      "test_an_echoed_prompt_has_no_label_before_it_whole_or_streamed"],
        HERE: ["test_infill_is_not_served"]}),
    26: ("responses: all kinds of output, ends, retrieval", {
        "proxy/test_responses.py": ["test_commentary_reasoning_and_tool_calls_keep_their_bytes",
                                    "test_every_final_message_carries_its_own_labels", "test_a_refusal_keeps_its_bytes_and_says_why",
                                    "test_an_answer_that_ends_otherwise_is_labelled_all_the_same",
                                    "test_a_message_that_comes_back_is_the_upstreams_again_with_its_citations"],
        "proxy/test_retrieval.py": ["test_a_retrieved_response_repeats_label_and_content_id",
                                    "test_a_stream_that_is_taken_up_again_is_the_tail_of_the_first",
                                    "test_a_background_answer_is_labelled_when_it_is_there"]}),
    27: ("responses: all repetitions agree, sequence numbers stay", {
        "proxy/test_responses.py": ["test_labels_join_deltas_that_are_there_and_every_repetition_agrees"],
        HERE: ["test_sequence_numbers_are_the_upstreams"]}),
    28: ("messages: thinking, tools, citations, errors, unknown events", {
        "proxy/test_messages.py": ["test_thinking_leads_and_keeps_every_byte", "test_a_tool_call_alone_carries_no_label",
                                   "test_the_end_label_waits_for_the_last_block_of_cited_text",
                                   "test_server_tools_stand_between_the_start_and_the_end_label",
                                   "test_an_error_event_passes_behind_the_pending_label"]}),
    29: ("where a middle label may stand", {
        "labels/test_placement.py": ["test_labels_in_made_up_answers_change_no_other_block",
                                     "test_where_nothing_may_be_parted_the_middle_falls_to_the_end"],
        "labels/test_prose.py": ["test_sentences_begin_where_nothing_is_split"]}),
    30: ("strip gives the text back, labelling twice is labelling once", {
        "labels/test_labeler.py": ["test_cut_law_and_strip_law_hold_for_all_markdown",
                                   "test_strip_touches_no_unlabelled_text_and_never_adds"]}),
    31: ("proxies in a row, marks off", {
        "proxy/test_chain.py": ["test_the_text_is_labelled_once_and_the_first_one_has_the_word"],
        "proxy/test_app.py": ["test_with_every_mark_off_the_bytes_pass_unparsed"]}),
    32: ("headers", {
        "metadata/test_headers.py": ["test_headers_stay_under_the_limit_for_the_longest_names",
                                     "test_our_own_members_refuse_what_no_header_can_carry"],
        "proxy/test_faults.py": ["test_headers_of_the_upstream_that_would_speak_for_us_or_no_longer_fit_are_dropped"],
        HERE: ["test_scripts_of_an_allowed_origin_can_read_our_headers"]}),
    33: ("what clients may not set, and bodies that are too much", {
        "proxy/test_guard.py": ["test_what_clients_may_not_set_is_taken_out_and_nothing_else", "test_a_key_named_twice_is_refused_by_name"],
        "proxy/test_app.py": ["test_a_bad_request_gets_one_clear_line"]}),
    34: ("sampling parameters", {HERE: ["test_a_request_reaches_the_upstream_byte_for_byte"]}),
    35: ("one entry for each answer, counted once; a killed process", {
        "proxy/test_metrics.py": ["test_eligible_is_labelled_and_skipped_and_failed_everywhere"],
        HERE: ["test_a_killed_process_leaves_a_log_of_all_that_it_began"]}),
}  # fmt: skip


@cache
def _tests_of(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_group_has_its_tests() -> None:
    assert sorted(GROUPS) == list(range(1, 36))
    named = [(file, name) for _, files in GROUPS.values() for file, names in files.items() for name in names]
    assert [(file, name) for file, name in named if name not in _tests_of(file)] == []
    assert all(files for _, files in GROUPS.values())


TEXT = f"{L}\n\n春天\n\n{L}"
CITE = {"annotations": [{"type": "url_citation", "url_citation": {"url": "x", "title": "y"}}]}
HALF = [{"index": 0, "function": {"arguments": '{"a": "\\'}}]
REST = [{"index": 0, "function": {"arguments": 'n"}'}}]

# group, what, frames, text of every choice that reaches the client
CHAT: list[tuple[int, str, list[bytes], dict[int, str]]] = [
    (13, "white space first", [chunk(delta("\n", role="assistant")), chunk(delta(" ")), chunk(delta("春天", "stop"))],
     {0: f"\n{L}\n\n 春天\n\n{L}"}),
    (14, "reasoning without an answer", [chunk(delta(reasoning="想")), chunk(delta(finish="length"))], {0: ""}),
    (14, "both names of reasoning", [chunk(delta(reasoning="想", reasoning_content="想")), chunk(delta("春天", "stop"))], {0: TEXT}),
    (15, "cut off inside a fence", [chunk(delta("```\n春天")), chunk(delta(finish="length"))], {0: f"{L}\n\n```\n春天\n``` \n\n{L}"}),
    (15, "filtered", [chunk(delta("春天")), chunk(delta(finish="content_filter"))], {0: TEXT}),
    (15, "with its last words", [chunk(delta("春")), chunk(delta("天", "stop"))], {0: TEXT}),
    (15, "again", [chunk(delta("春天", "stop")), chunk(delta(finish="stop"))], {0: TEXT}),
    (16, "usage everywhere", [chunk(delta("春"), usage={"n": 1.0}), chunk(delta("天"), usage={"n": 1}), chunk(delta(finish="stop"), usage=None), USAGE],
     {0: TEXT}),
    (16, "unknown members", [chunk(delta("春天", x={"y": 1.50, "z": 1e3}), extra=[1.0, 1]), chunk(delta(finish="stop"), nvext=None)], {0: TEXT}),
    (17, "the second first, one empty", [chunk(delta("秋", index=1)), chunk(delta("春天", index=0)), chunk(delta("", "stop", 1)), chunk(delta("", "stop", 0)), chunk(delta("", "stop", 2))],
     {0: TEXT, 1: f"{L}\n\n秋\n\n{L}", 2: ""}),
    (18, "arguments cut inside an escape", [chunk(delta(tool_calls=TOOL)), chunk(delta(tool_calls=HALF)), chunk(delta(tool_calls=REST, finish="tool_calls"))],
     {0: ""}),
    (18, "the older kind of call", [chunk(delta("春天")), chunk(delta(function_call={"name": "f", "arguments": "{"})), chunk(delta(finish="function_call"))],
     {0: TEXT}),
    (18, "parallel calls", [chunk(delta(tool_calls=[*TOOL, {**TOOL[0], "index": 1, "id": "u"}])), chunk(delta(finish="tool_calls"))], {0: ""}),
    (21, "an audio transcript", [chunk(delta(audio={"id": "a", "transcript": "春天"})), chunk(delta(finish="stop"))], {0: ""}),
    (21, "a moderation chunk", [chunk(delta("春天")), chunk(moderation={"results": []}), chunk(delta(finish="stop"))], {0: TEXT}),
    (21, "citations without offsets", [chunk(delta("春天")), chunk(delta(**CITE)), chunk(delta(finish="stop"))], {0: TEXT}),
    (23, "one character", [chunk(delta("春")), chunk(delta(finish="stop"))], {0: f"{L}\n\n春\n\n{L}"}),
    (23, "nothing but white space", [chunk(delta(" \n")), chunk(delta(finish="stop"))], {0: " \n"}),
    (24, "padding", [chunk(delta("春天"), obfuscation="aXb"), chunk(delta(finish="stop"), obfuscation="")], {0: TEXT}),
]  # fmt: skip


@pytest.mark.parametrize(("group", "what", "parts", "expected"), CHAT, ids=[f"{n} {what}" for n, what, *_ in CHAT])
def test_chat_streams_of_every_kind_keep_the_laws(
    group: int, what: str, parts: list[bytes], expected: dict[int, str]
) -> None:
    body = b"".join([*parts, DONE])
    out = run([*parts, DONE], BOTH, RequestView("chat", stream=True, n=len(expected)))
    assert texts(out) == expected
    assert_only_marks_were_added(body, out, BOTH.known)
    assert {index: strip(text, {L}) for index, text in texts(out).items()} == texts(body)


@pytest.mark.parametrize("answer", [L, f"{L}\n\n春天\n\n{L}", f"春天\n\n{L}"])
def test_an_answer_with_a_label_gets_no_second_one_however_it_is_cut(answer: str) -> None:
    """Group 23: the label may come split over two deltas."""
    for at in range(len(answer) + 1):
        parts = [chunk(delta(answer[:at])), chunk(delta(answer[at:])), chunk(delta(finish="stop")), DONE]
        out = texts(marking.stream(parts, BOTH))[0]
        assert out.count(L) <= max(2, answer.count(L)) and strip(out, {L}) == strip(answer, {L})


def test_infill_is_not_served(tmp_path: Path) -> None:
    """Group 25: it could carry text to programs and to people alike."""
    with proxy(tmp_path, whole(b"{}")) as up:
        assert [post(up.url, b"{}", path)[0] for path in ("/infill", "/v1/infill")] == [501, 501]
        assert up.fake.asked == []


def test_sequence_numbers_are_the_upstreams(tmp_path: Path) -> None:
    """Group 27: a client that takes a stream up again counts with them."""
    api = APIS["responses"]

    async def reply(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"".join(api.events), content_type="text/event-stream")

    with proxy(tmp_path, reply, labels={"positions": ["start", "end"]}) as up, Client(up.url) as one:
        body = dechunked(one.post(api.ask, CLOSE, path=api.path).rest())
    numbers = [json.loads(data)["sequence_number"] for data in frames(body)]
    assert numbers == list(range(len(api.events)))


def test_scripts_of_an_allowed_origin_can_read_our_headers(tmp_path: Path) -> None:
    """Group 32: a browser hides headers of another origin that are not named."""
    for origin, exposed in ((("Access-Control-Allow-Origin", "*"), ["X-AIGC, X-LLM-Label"]), (("X-Other", "1"), [])):

        async def reply(request: web.Request, origin: tuple[str, str] = origin) -> web.StreamResponse:
            return web.Response(body=BODY, headers=[origin, ("Content-Type", "application/json")])

        with proxy(tmp_path, reply) as up, Client(up.url) as one:
            assert values(one.post(ASK, CLOSE).rest(), "access-control-expose-headers") == exposed


SAMPLING = '"temperature": 1.0, "top_p":0.90,"top_k" : 40, "seed": 1e0, "min_p": 0, "x": {"temperature": null}'


@pytest.mark.parametrize("name", APIS)
def test_a_request_reaches_the_upstream_byte_for_byte(tmp_path: Path, name: str) -> None:
    """Group 34: some makers mark their text only while nobody touches sampling, so nothing is added or changed."""
    api = APIS[name]
    ask = api.ask.replace(b"{", b"{ " + SAMPLING.encode() + b", ", 1)
    with proxy(tmp_path, whole(b'{"error": {"message": "seen"}}', 400)) as up:
        post(up.url, ask, api.path)
        assert [asked["body"] for asked in up.fake.asked] == [ask]


def test_a_killed_process_leaves_a_log_of_all_that_it_began(tmp_path: Path) -> None:
    """Group 35: an entry is on disk before the first byte of its answer, so nothing was served without one."""
    (tmp_path / "fake").mkdir()
    with proxy(tmp_path / "fake", hangs(b"".join(STREAM[:2]))) as fake:
        process, url = served(tmp_path, fake.fake_url)
        clients = [Client(url).post(ASK) for _ in range(20)]
        for one in clients:
            one.until("四月".encode())
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        for one in clients:
            one.sock.close()
    with sqlite3.connect(tmp_path / "audit.sqlite3") as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    store = Store(tmp_path / "audit.sqlite3")
    entries = store.list(limit=100)
    store.close()
    assert [(entry.result, entry.label_planned) for entry in entries] == [("open", "start end")] * 20
    assert len({entry.content_id for entry in entries}) == 20
