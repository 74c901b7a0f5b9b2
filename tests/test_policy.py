"""What is planned for a request, and what is refused before serving."""

from typing import Any

import pytest

from llm_label.errors import ClientError, MarkError, SettingsError
from llm_label.policy import Policy, RequestView, Skipped, decide
from llm_label.settings import parse


def policy(tree: dict[str, Any], *, upstream_watermarks: bool = True) -> Policy:
    return Policy.of(parse({"provider": {"name": "Acme"}, **tree}), upstream_watermarks=upstream_watermarks)


def test_the_default_is_a_start_label_in_the_language_of_the_question() -> None:
    default = policy({})
    for prompt, language in (
        ("今天天气如何？", "zh"),
        ("How is the weather?", "en"),
        ("Какая погода?", "ru"),
        ("1+1", "zh"),
    ):
        plan = decide(RequestView("chat", prompt=prompt), default)
        assert plan.labels is not None and plan.labels.positions == ("start",)
        assert (plan.labels.start, plan.labels.rest) == (language, None)


def test_under_cn_every_language_carries_both_chinese_elements() -> None:
    for text in policy({}).texts.values():
        assert ("AI" in text or "人工智能" in text) and ("生成" in text or "合成" in text)


def test_a_fixed_language_holds_for_every_position() -> None:
    plan = decide(
        RequestView("chat", prompt="你好"), policy({"labels": {"language": "en", "positions": ["end", "start"]}})
    )
    assert plan.labels is not None
    assert (plan.labels.positions, plan.labels.start, plan.labels.rest) == (("start", "end"), "en", "en")


@pytest.mark.parametrize(
    ("view", "tree", "label", "watermark"),
    [
        ({"structured": True}, {}, Skipped.STRUCTURED, Skipped.OFF),
        ({}, {"labels": {"positions": []}}, Skipped.OFF, Skipped.OFF),
        ({"greedy": True}, {"watermark": {"key": "k"}}, None, Skipped.GREEDY),
        ({}, {"watermark": {"key": "k"}}, None, None),
    ],
)
def test_reasons_come_from_the_closed_list(view: Any, tree: Any, label: Any, watermark: Any) -> None:
    plan = decide(RequestView("chat", **view), policy(tree))
    assert (plan.label_skipped, plan.watermark_skipped) == (label, watermark)
    assert (plan.labels is None) == (label is not None)


def test_greedy_is_no_reason_where_the_scheme_marks_it() -> None:
    given = parse({"provider": {"name": "Acme"}, "watermark": {"key": "k", "required": True}})
    marking = Policy.of(given, upstream_watermarks=True, marks_greedy=True)
    plan = decide(RequestView("chat", greedy=True), marking)
    assert (plan.watermark, plan.watermark_skipped) == ("k", None)


def test_an_upstream_without_access_to_tokens_is_a_reason_of_its_own() -> None:
    plan = decide(RequestView("chat"), policy({"watermark": {"key": "k"}}, upstream_watermarks=False))
    assert plan.watermark_skipped == Skipped.UPSTREAM


def test_a_required_watermark_fails_closed() -> None:
    tree = {"watermark": {"key": "k", "required": True}}
    with pytest.raises(MarkError, match="gives no access to its tokens"):
        policy(tree, upstream_watermarks=False)
    with pytest.raises(ClientError, match="temperature"):
        decide(RequestView("chat", greedy=True), policy(tree))
    with pytest.raises(SettingsError, match="names no key"):
        policy({"watermark": {"required": True}})


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"provider": {}}, "needs a name or the 27-character code"),
        ({"provider": {"name": "A", "code": "B"}}, "not both"),
        ({"provider": {"name": "某某公司"}}, "code"),
        ({"provider": {"name": "", "code": "123"}}, "27 characters"),
        ({"provider": {"name": "", "code": ""}}, "27 characters"),
        ({"labels": {"texts": {"en": "AI assistant"}}}, "生成"),
        ({"labels": {"texts": {"xx": "AI生成"}}}, "labels.texts: language 'xx' is not known"),
        ({"labels": {"language": "tlh"}}, "'tlh' is not known"),
        ({"labels": {"texts": {"zh": "AI\u200b生成"}}}, "U+200B"),
    ],
)
def test_settings_that_cannot_comply_are_refused(tree: dict[str, Any], line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        policy(tree)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def test_another_policy_has_another_id() -> None:
    assert policy({}).id != policy({"labels": {"positions": ["end"]}}).id
    assert policy({"labels": {"regimes": ["cn", "eu"]}}).id.startswith("cn+eu-")
