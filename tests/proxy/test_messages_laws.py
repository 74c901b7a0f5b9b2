"""The laws of Messages as properties: any blocks, whole and streamed, labelled and sent back."""

import json
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_label.proxy.jsonspan import dumps
from llm_label.proxy.surfaces import messages
from tests.proxy import marking
from tests.proxy.touch_messages import blocks, replayed, streams_like

L = "AI生成"
PIECES = [
    "春天来了。", "Hello. ", "A", "AI", "AI生", "<thi", "<think>", "</think>", "---\n", "a: b\n", "```\n", "```", "- x\n", "1", "2. ",
    "\n", "\n\n", " ", "\t", "$$\n", "> q\n", "# h\n", "|a|b|\n|-|-|\n", "é", "😀", ":",
]  # fmt: skip
TEXT = st.lists(st.sampled_from(PIECES), max_size=7).map("".join).map(lambda text: {"type": "text", "text": text})
OTHER = st.sampled_from(
    [
        {"type": "thinking", "thinking": "想", "signature": "c2ln"},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ]
)
CONTENT = st.lists(st.one_of(TEXT, TEXT, OTHER), max_size=6)
POSITIONS = st.sampled_from([("start",), ("end",), ("start", "end"), ("start", "middle", "end"), ("middle",)])


@settings(max_examples=400, deadline=None)
@given(CONTENT, POSITIONS, st.integers(0, 9))
def test_blocks_are_labelled_alike_whole_and_streamed_and_restored(
    content: list[dict[str, Any]], positions: tuple[str, ...], seed: int
) -> None:
    policy = marking.policy(positions=positions, texts={"zh": L}, middle_after=5)
    answer = {"id": "m", "content": content, "stop_reason": "end_turn"}
    whole = json.loads(marking.answer(policy, surface=messages).whole(dumps(answer)))
    rng = random.Random(seed)
    stream = streams_like(answer, rng)
    out = marking.stream(marking.cuts(stream, rng), policy, surface=messages)
    assert blocks(out) == whole["content"]
    text = "".join(block.get("text", "") for block in content)
    labelled = "".join(block.get("text", "") for block in whole["content"])
    assert [b for b in whole["content"] if b["type"] != "text"] == [b for b in content if b["type"] != "text"]
    assert (whole["llm_label"]["label"]["applied"] == []) == (labelled == text) == (not text.strip() or L in text)
    kinds = [block["type"] for block in content]
    called = kinds.index("tool_use") if "tool_use" in kinds else len(kinds)
    # Text behind a `tool_use` is nothing this API sends: it is labelled, but not restored inside an open `<think>`.
    if len(content) > 1 and L not in text and "text" not in kinds[called:]:
        assert replayed(whole["content"], policy.known) == replayed(content, ())
