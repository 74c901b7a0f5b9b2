"""Label texts and the element rule: GB 45438-2025 5.1, EU Code 1.2.2, legibility of Measures Art. 4."""

from itertools import combinations

import pytest

from llm_label.errors import SettingsError
from llm_label.labels.wording import (
    LANGUAGES,
    LONGEST,
    REGIMES,
    all_wordings,
    check_text,
    corner_mark,
    elements,
    language_of,
    wording,
)

MIXTURES = [mixture for size in range(len(REGIMES) + 1) for mixture in combinations(REGIMES, size)]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("regimes", MIXTURES, ids="+".join)
def test_every_built_in_text_passes_its_own_rule(language: str, regimes: tuple[str, ...]) -> None:
    text = wording(language, regimes)
    assert check_text(text, regimes) == text
    assert language in elements(text)
    assert text in all_wordings()
    mark = corner_mark(language, regimes)
    assert check_text(mark, regimes, corner=True) == mark


def test_required_languages_are_there() -> None:
    assert {"zh", "en", "ja", "ko", "de", "fr", "es", "pt", "ru", "ar"} <= set(LANGUAGES)


def test_regime_cn_puts_both_chinese_elements_into_every_language() -> None:
    assert wording("zh", ("cn",)) == "本内容由AI生成"
    assert wording("en", ("cn",)) == "AI生成 · AI-generated"
    assert wording("ja", ("cn",)) == "AI生成 · AIによる生成"
    assert wording("en", ("eu",)) == wording("en", ()) == "AI-generated"
    assert wording("ar", ("eu",)).endswith("(AI)")


def test_corner_mark_is_the_acronym_that_readers_know() -> None:
    assert corner_mark("de", ("cn", "eu")) == "AI"
    assert corner_mark("de", ("eu",)) == "KI"


CN = ("cn",)
ACCEPTED = [
    ("AI生成", CN),
    ("人工智能合成", CN),
    ("本回答由 AI 生成", CN),
    ("【AI生成】内容仅供参考", CN),
    ("(内容由AI生成)", CN),
    ("[AI生成]", CN),
    ("本内容由人工智能生成合成", CN),
    ("由豆包AI合成，请注意甄别", CN),
    ("AI生成 · KI-generiert", ("cn", "eu")),
    ("AI-generated", ("eu",)),
    ("AI-generated", ("none",)),
    ("This text was created by artificial intelligence", ("kr",)),
    ("KI-generierte Antwort", ("eu",)),
    ("Erzeugt von künstlicher Intelligenz", ("none",)),
    ("Contenu généré par l'IA", ("eu",)),
    ("AI가 생성한 답변", ("kr",)),
    ("인공지능이 생성함", ("kr",)),
    ("Создано ИИ", ("eu",)),
    ("نص تم إنشاؤه بواسطة الذكاء الاصطناعي", ("none",)),
    ("2025 · AI生成", CN),
    ("AI\u3000生成", CN),
]
REFUSED = [
    ("AI 助手为您服务", CN, "生成 or 合成"),
    ("本节目为虚拟主播", CN, "人工智能 or AI"),
    ("AI-generated", CN, "生成 or 合成"),
    ("内容生成完毕", CN, "人工智能 or AI"),
    ("ai生成", CN, "人工智能 or AI"),
    ("CHAIR生成", CN, "人工智能 or AI"),
    ("MAINTAIN 合成", CN, "人工智能 or AI"),
    ("人工智能生成", ("cn", "eu"), "acronym"),
    ("Erzeugt von künstlicher Intelligenz", ("eu",), "acronym"),
    ("AI-degenerated", ("none",), "one language's words"),
    ("CHAIR generated", ("none",), "one language's words"),
    ("KI-generated", ("none",), "one language's words"),
    ("Généré automatiquement", ("none",), "one language's words"),
    ("", CN, "empty"),
    (" AI生成", CN, "white space"),
    ("AI生成\n", CN, "white space"),
    ("AI生成\n内容", CN, "U+000A"),
    ("AI\t生成", CN, "U+0009"),
    ("AI\u200b生成", CN, "U+200B"),
    ("\u202eAI生成", CN, "U+202E"),
    ("AI\u2066生成", CN, "U+2066"),
    ("AI\ufeff生成", CN, "U+FEFF"),
    ("AI\u00ad生成", CN, "U+00AD"),
    ("AI\u00a0生成", CN, "U+00A0"),
    ("AI\u2028生成", CN, "U+2028"),
    ("AI\ufe0f生成", CN, "U+FE0F"),
    ("AI\U000e0041生成", CN, "U+E0041"),
    ("AI\u3164生成", CN, "U+3164"),
    ("AI\u115f生成", CN, "U+115F"),
    ("AI\u2800生成", CN, "U+2800"),
    ("AI\u034f生成", CN, "U+034F"),
    ("AI\ue000生成", CN, "U+E000"),
    ("AI\ud800生成", CN, "U+D800"),
    ("AI\uffff生成", CN, "U+FFFF"),
    ("\u0301AI生成", CN, "combining"),
    ("# AI生成", CN, "Markdown"),
    ("> AI生成", CN, "Markdown"),
    ("- AI生成", CN, "Markdown"),
    ("---AI生成", CN, "Markdown"),
    ("* AI生成", CN, "Markdown"),
    ("**AI生成**", CN, "Markdown"),
    ("1. AI生成", CN, "Markdown"),
    ("12) AI生成", CN, "Markdown"),
    ("```AI生成", CN, "Markdown"),
    ("`AI生成`", CN, "Markdown"),
    ("| AI生成 |", CN, "Markdown"),
    ("<small>AI生成</small>", CN, "Markdown"),
    ("注意<!--AI生成-->", CN, "Markdown"),
    ("[AI生成]: https://example.org", CN, "Markdown"),
    ("[注](AI生成)", CN, "Markdown"),
    ("![AI生成](x)", CN, "Markdown"),
    ("$$AI生成$$", CN, "Markdown"),
    ("\\[AI生成\\]", CN, "Markdown"),
    ("AI生成" + "。" * LONGEST, CN, "at most 120"),
]


@pytest.mark.parametrize(("text", "regimes"), ACCEPTED)
def test_accepted(text: str, regimes: tuple[str, ...]) -> None:
    assert check_text(text, regimes) == text


@pytest.mark.parametrize(("text", "regimes", "reason"), REFUSED)
def test_refused_with_one_clear_line(text: str, regimes: tuple[str, ...], reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_text(text, regimes)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_corner_mark_needs_the_ai_element_only() -> None:
    assert check_text("AI", CN, corner=True) == "AI"
    assert check_text("KI", ("eu",), corner=True) == "KI"
    for text, regimes in [("KI", CN), ("生成", CN), ("VR", ("none",))]:
        with pytest.raises(SettingsError):
            check_text(text, regimes, corner=True)


def test_unknown_names_are_answered_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="'tlh'.*known: zh, en, ja"):
        wording("tlh", CN)
    with pytest.raises(SettingsError, match="'usa'.*allowed: cn, eu, kr, none"):
        wording("en", ("usa",))
    with pytest.raises(SettingsError, match="'usa'"):
        check_text("AI生成", ("usa",))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("今天天气怎么样？", "zh"),
        ("用 TensorFlow 的 tf.data.Dataset API 加载数据并训练模型", "zh"),
        ("日本語の「の」は助词，相当于汉语的“的”，用来连接两个名词，使用频率非常高", "zh"),
        ("東京の天気はどうですか", "ja"),
        ("カタカナ", "ja"),
        ("오늘 날씨 어때? Python 3", "ko"),
        ("Какая сегодня погода?", "ru"),
        ("كيف حال الطقس اليوم؟", "ar"),
        ("What is the weather like?", "en"),
        ("Wie wird das Wetter?", "en"),  # script alone cannot tell
        ("วันนี้อากาศเป็นอย่างไร", None),
        ("ต้นไม้ใหญ่ในสวนของฉัน Baum", None),
        ("12 + 30 = ?", None),
        ("", None),
    ],
)
def test_language_is_told_by_script(text: str, language: str | None) -> None:
    assert language_of(text) == language
