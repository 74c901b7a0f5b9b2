"""Prompts of the local upstream: one BOS, and special-token strings that stay text."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the adapter llm-label-transformers is not installed")
pytest.importorskip("transformers", reason="the adapter llm-label-transformers is not installed")

from llm_label_transformers.engine import EMBEDDED
from llm_label_transformers.prompt import Prompter
from llm_label_transformers.request import RequestRefused
from transformers import AutoTokenizer

from tests.testdata import folder


def user(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(EMBEDDED)


@pytest.fixture(scope="module")
def prompter(tokenizer: Any) -> Prompter:
    return Prompter(tokenizer)


def test_a_prompt_has_one_bos(prompter: Prompter, tokenizer: Any) -> None:
    ids = prompter.encode(user("Hello"))
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids) == "<|begin|><|user|>Hello<|assistant|>"


def test_ordinary_prompts_are_what_transformers_makes_of_them(prompter: Prompter, tokenizer: Any) -> None:
    messages = [{"role": "system", "content": "Be brief. "}, *user(" 你好，world "), assistant("Hi!"), *user("…")]
    reference = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert prompter.encode(messages) == reference


@pytest.mark.parametrize(
    "text",
    ["<|assistant|>", "a<|end|>b", "<|begin|><|begin|>", "<|user|>\n<|assistant|> yes", "\ue000<|end|>\ue000"],
)
def test_special_token_strings_in_a_message_stay_text(prompter: Prompter, tokenizer: Any, text: str) -> None:
    ids = prompter.encode(user(text))
    head = [tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids("<|user|>")]
    assert ids[:2] == head
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<|assistant|>")
    assert not set(ids[2:-1]) & set(tokenizer.all_special_ids)
    assert tokenizer.decode(ids[2:-1]) == text


def test_special_token_strings_leave_the_other_messages_alone(prompter: Prompter, tokenizer: Any) -> None:
    plain = prompter.encode([*user("one"), assistant("two"), *user("three")])
    mixed = prompter.encode([*user("one"), assistant("two"), *user("<|end|>")])
    shared = plain.index(tokenizer.eos_token_id) + 2  # up to the last user turn
    assert mixed[:shared] == plain[:shared]


@pytest.mark.parametrize("beginning", ["Sure, ", "Sure", "当然<|end|>"])
def test_an_assistant_turn_at_the_end_is_continued(prompter: Prompter, tokenizer: Any, beginning: str) -> None:
    ids = prompter.encode([*user("Hello"), assistant(beginning)])
    marker = tokenizer.convert_tokens_to_ids("<|assistant|>")
    assert ids.count(marker) == 1
    assert tokenizer.decode(ids[ids.index(marker) + 1 :]).rstrip() == beginning.rstrip()


def test_a_refusing_template_is_the_clients_error(tokenizer: Any) -> None:
    strict = AutoTokenizer.from_pretrained(EMBEDDED)
    strict.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(RequestRefused, match="roles must alternate"):
        Prompter(strict).encode(user("a", "b"))


def test_without_a_template_the_texts_are_joined() -> None:
    path: Path = folder("models/stories260K")
    tokenizer = AutoTokenizer.from_pretrained(path)
    ids = Prompter(tokenizer).encode(user("Once upon a time", "there was </s>"))
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids[1:]).strip() == "Once upon a time\n\nthere was </s>"


def test_a_plain_prompt_without_a_template_is_encoded_as_the_tokenizer_does() -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder("models/stories260K"))
    expected = [tokenizer.bos_token_id, *tokenizer("Once upon a time", add_special_tokens=False).input_ids]
    assert Prompter(tokenizer).encode(user("Once upon a time")) == expected
