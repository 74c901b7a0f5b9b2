"""Label texts by language, and the element rule that every label text must pass.

GB 45438-2025 5.1: a text label holds an AI element (`人工智能` or `AI`) and a generation element (`生成` or `合成`);
a corner mark may hold the AI element alone. The EU Code of Practice (section 2) asks for the capital acronym.
Everywhere else a label says in one language's own words that an AI generated the text. Measures Art. 4 wants it
legible: whatever would not show as plain text in Markdown is refused.
"""

import re
import unicodedata
from collections.abc import Sequence
from itertools import product

from llm_label.errors import SettingsError
from llm_label.labels.script import language_of

__all__ = [
    "LANGUAGES",
    "LONGEST",
    "POSITIONS",
    "REGIMES",
    "all_wordings",
    "check_text",
    "corner_mark",
    "elements",
    "language_of",
    "wording",
]

POSITIONS = ("start", "middle", "end")
REGIMES = ("cn", "eu", "kr", "none")
LONGEST = 120
"""Characters a label text may have; a longer one is a notice, not a label, and would hold up a stream."""

_TEXTS = {
    "zh": "本内容由AI生成",
    "en": "AI-generated",
    "ja": "AIによる生成",
    "ko": "AI로 생성된 콘텐츠",
    "de": "KI-generiert",
    "fr": "Généré par IA",
    "es": "Generado por IA",
    "it": "Generato da IA",
    "pt": "Gerado por IA",
    "nl": "Door AI gegenereerd",
    "ru": "Сгенерировано ИИ",
    "ar": "تم إنشاؤه بواسطة الذكاء الاصطناعي",
}
LANGUAGES = tuple(_TEXTS)

_CHINESE = "AI生成"
_JOINT = " · "
_ACRONYMS = {"de": "KI", "fr": "IA", "es": "IA", "it": "IA", "pt": "IA", "ru": "ИИ"}


def _acronym(letters: str) -> str:
    # Only a letter of its own script makes it part of another word: CHAIR is not AI, 由AI生成 is.
    return rf"(?<![A-Za-zА-Яа-яЁё]){letters}(?![A-Za-zА-Яа-яЁё])"


def _word(*stems: str) -> str:
    return rf"(?<![^\W\d_])(?i:{'|'.join(stems)})(?![^\W\d_])"


_AI = _acronym("AI")
# Language -> (AI element, generation element), inflections included.
_ELEMENTS = {
    "zh": (f"人工智能|人工智慧|{_AI}", "生成|合成"),
    "en": (f"{_AI}|{_word('artificial intelligence')}", _word("generated", "synthesi[sz]ed", "created")),
    "ja": (f"人工知能|{_AI}", "生成|合成|作成"),
    "ko": (f"인공지능|{_AI}", "생성|합성"),
    "de": (
        f"{_acronym('KI')}|{_AI}|{_word('künstliche[rn]? intelligenz')}",
        _word("(?:generiert|erzeugt|erstellt)(?:e[rsnm]?)?"),
    ),
    "fr": (f"{_acronym('IA')}|{_word('intelligence artificielle')}", _word("(?:généré|créé)e?s?")),
    "es": (f"{_acronym('IA')}|{_word('inteligencia artificial')}", _word("(?:generad|cread)[oa]s?")),
    "it": (f"{_acronym('IA')}|{_AI}|{_word('intelligenza artificiale')}", _word("(?:generat|creat)[oaie]")),
    "pt": (f"{_acronym('IA')}|{_word('inteligência artificial')}", _word("(?:gerad|criad)[oa]s?")),
    "nl": (f"{_AI}|{_word('kunstmatige intelligentie')}", _word("(?:gegenereerde?|gemaakte?)")),
    "ru": (
        f"{_acronym('ИИ')}|{_word('искусственн(?:ый|ого|ым|ому) интеллект(?:а|ом|у)?')}",
        _word(r"(?:создан|сгенерирован)\w{0,3}"),
    ),
    "ar": (f"ذكاء (?:ال)?[إا]صطناعي|{_AI}", "إنشاؤ|[أإ]نشئ|إنشاء|توليد|مول[ّ]?د|منشأ"),
}
_PATTERNS = {language: (re.compile(ai), re.compile(made)) for language, (ai, made) in _ELEMENTS.items()}
_CN = (re.compile(f"人工智能|{_AI}"), re.compile("生成|合成"))
_EU = re.compile("|".join(map(_acronym, ("AI", "KI", "IA", "ИИ"))))

# Letters and marks that Unicode calls default-ignorable, and the braille blank: they show nothing.
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_SPACES = {" ", "\u3000"}
# What Markdown would take for a block or an inline construct, so that the text would not show as written.
_OPENING = re.compile(r"[#>\-+*_=~|$\\:]|\d{1,9}[.)]|!\[|\[[^\]]*\]:|\[\^")
_INLINE = re.compile(r"[`<]|\]\(|\]\[|~~|\$\$")


def wording(language: str, regimes: Sequence[str]) -> str:
    """Give the built-in label text of `language` that satisfies all `regimes`."""
    _check_regimes(regimes)
    text = _TEXTS[_check_language(language)]
    if "eu" in regimes and not _EU.search(text):
        text = f"{text} (AI)"
    if "cn" in regimes and language != "zh":
        text = f"{_CHINESE}{_JOINT}{text}"
    return text


def corner_mark(language: str, regimes: Sequence[str]) -> str:
    """Give the corner mark of `language`: `AI` for GB 45438 5.1, elsewhere the acronym that its readers know."""
    _check_regimes(regimes)
    return "AI" if "cn" in regimes else _ACRONYMS.get(_check_language(language), "AI")


def all_wordings() -> frozenset[str]:
    """Give every built-in label text of every language under every mixture of regimes."""
    mixtures = (("none",), ("eu",), ("cn",), ("cn", "eu"))
    return frozenset(wording(language, regimes) for language, regimes in product(LANGUAGES, mixtures))


def elements(text: str) -> dict[str, int]:
    """Find both elements in one language's own words: language -> how many letters `text` has besides them."""
    return {
        language: sum(map(str.isalpha, made.sub("", ai.sub("", text))))
        for language, (ai, made) in _PATTERNS.items()
        if ai.search(text) and made.search(text)
    }


def check_text(text: str, regimes: Sequence[str], *, corner: bool = False) -> str:
    """Return `text` if it may serve as a label under all `regimes`, else raise SettingsError."""
    _check_regimes(regimes)
    fault = _form_fault(text) or _element_fault(text, regimes, corner)
    if fault:
        raise SettingsError(f"label text {text[: LONGEST + 1]!r}: {fault}")
    return text


def _form_fault(text: str) -> str | None:
    if not text:
        return "it is empty; give a text such as " + repr(_TEXTS["zh"])
    if len(text) > LONGEST:
        return f"it has {len(text)} characters; at most {LONGEST} are allowed"
    if text != text.strip():
        return "it begins or ends with white space; remove it"
    for character in text:
        if not _shows(character):
            name = unicodedata.name(character, "unnamed")
            return f"it holds U+{ord(character):04X} ({name}), which nobody sees; use visible characters on one line"
    if unicodedata.category(text[0]).startswith("M"):
        return "it begins with a combining mark; begin with a letter"
    if found := _OPENING.match(text) or _INLINE.search(text):
        return f"Markdown would not show {found[0]!r} as plain text; use plain words"
    return None


def _shows(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Zs":
        return character in _SPACES
    return category not in _UNSEEN and not _IGNORABLE.match(character)


def _element_fault(text: str, regimes: Sequence[str], corner: bool) -> str | None:
    if "cn" in regimes:
        ai, made = _CN
        if not ai.search(text):
            return "regime cn wants the AI element 人工智能 or AI (GB 45438 5.1); add it"
        if not corner and not made.search(text):
            return "regime cn wants the generation element 生成 or 合成 (GB 45438 5.1); add it"
    if "eu" in regimes and not _EU.search(text):
        return "regime eu wants the capital acronym AI, KI, IA or ИИ; add it"
    if corner:
        said = any(ai.search(text) for ai, _ in _PATTERNS.values())
        return None if said else "it does not say AI in any known language; add it"
    return (
        None
        if elements(text)
        else (
            "it does not say in one language's words that an AI generated the text; "
            "write for example " + " or ".join(repr(_TEXTS[name]) for name in ("en", "zh", "de"))
        )
    )


def _check_language(language: str) -> str:
    if language not in _TEXTS:
        raise SettingsError(f"label language {language!r} has no built-in text; known: {', '.join(LANGUAGES)}")
    return language


def _check_regimes(regimes: Sequence[str]) -> None:
    for regime in regimes:
        if regime not in REGIMES:
            raise SettingsError(f"regime {regime!r} is unknown; allowed: {', '.join(REGIMES)}")
