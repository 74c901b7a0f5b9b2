"""Turn documentation pages into clean question-and-answer text in two languages.

Rules that the sampled text inherits: an English sentence stays only if every word of it is in the
dictionary; a Chinese sentence only if each of its characters is frequent; a sentence that repeats
(menu paths, "opens a dialog") stays twice at most.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from sources import DICTIONARY, SOURCES, Package, obtain, pages

HAN = re.compile(r"[\u4e00-\u9fff]")
WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
PLAIN = {
    "en": re.compile(r"^[A-Za-z0-9 ,.;:?!'\"()%/\-]+$"),
    "zh": re.compile(r"^[\u4e00-\u9fffA-Za-z0-9 ，。；：？！、（）《》「」“”,.;:?!'\"()%/\-]+$"),
}
SENTENCE = {"en": re.compile(r"(?<=[.!?]) +(?=[A-Z])"), "zh": re.compile(r"(?<=[。！？])")}
ENDS = {"en": re.compile(r"[a-z0-9)][.!?]$"), "zh": re.compile(r"[。！？]$")}
SWAPS = {  # names no dictionary holds, so that their sentences need not go
    "en": [
        (r"\bLibreOffice (Writer|Calc|Impress|Draw|Base|Math|Basic)\b", r"\1"),
        (r"\bLibreOffice\b", "the program"),
        (r"\bcheck ?boxes\b", "boxes"),
        (r"\bcheckbox\b", "box"),
        (r"[\u2018\u2019]", "'"),
        (r"[\u201c\u201d]", '"'),
        (r"\s[\u2013\u2014]\s", ", "),
    ],
    "zh": [(r"\(", "（"), (r"\)", "）"), (r" ?（", "（"), (r"） ?", "）"), (r"(?<=[\u4e00-\u9fff]),", "，")],
}
RARE_HAN = 8  # a character seen less often is not learnt
RARE_LATIN = 12  # the same for a Latin word inside Chinese text
COMMON_WORD, COMMON_HAN = 10, 20  # most of the training keeps to words and characters seen this often
HELD_OUT = 33  # one page in so many


@dataclass
class Passage:
    """One heading and the paragraphs under it."""

    title: str
    paragraphs: list[str] = field(default_factory=list)


@dataclass
class Corpus:
    """Flows of passages by language: (source folder, page) keeps neighbours together."""

    train: dict[str, list[list[Passage]]]
    held_out: dict[str, list[list[Passage]]]
    packages: list[tuple[Package, str, int]]  # package, licence, characters used
    words: frozenset[str]


def dictionary(cache: Path) -> tuple[Package, frozenset[str]]:
    """Read the lower-cased words of the dictionary package."""
    package = obtain(DICTIONARY, cache)
    text = (package.root / "usr/share/dict/american-english").read_text("utf-8")
    return package, frozenset(word.lower() for word in text.split())


def is_known(word: str, words: frozenset[str]) -> bool:
    """Say whether a word, or the word before its apostrophe, is in the dictionary."""
    lower = word.lower()
    return lower in words or lower.removesuffix("'s") in words


def clean(text: str, language: str) -> str:
    """Apply the swaps and normalise spaces."""
    for pattern, replacement in SWAPS[language]:
        text = re.sub(pattern, replacement, text)
    return re.sub(r"\s+", " ", text).strip()


class Filter:
    """Keep the sentences that follow the rules of this module."""

    def __init__(self, words: frozenset[str], rare: frozenset[str]) -> None:
        self.words = words
        self.rare = rare  # Han characters and Latin words of the Chinese text to avoid
        self.seen: Counter[str] = Counter()

    def keeps(self, sentence: str, language: str) -> bool:
        """Judge one sentence; counts it."""
        if not PLAIN[language].match(sentence) or not ENDS[language].search(sentence):
            return False
        latin = WORD.findall(sentence)
        if language == "en":
            if not 4 <= len(latin) <= 60 or not all(is_known(word, self.words) for word in latin):
                return False
            if not sentence[0].isupper() or any(len(word) == 1 and word not in "AIa" for word in latin):
                return False
        else:
            han = HAN.findall(sentence)
            if len(han) < 6 or len(han) < 0.5 * len(sentence) or self.rare.intersection(han + latin):
                return False
        key = re.sub(r"\W|\d", "", sentence.lower())
        self.seen[key] += 1
        return self.seen[key] <= 2

    def paragraph(self, text: str, language: str) -> str:
        """Return the kept sentences of one paragraph, or nothing."""
        sentences = [s.strip() for s in SENTENCE[language].split(clean(text, language))]
        kept = [s for s in sentences if s and self.keeps(s, language)]
        joined = (" " if language == "en" else "").join(kept)
        return joined if len(joined) >= (60 if language == "en" else 24) else ""


def title_of(text: str, language: str, sieve: Filter) -> str:
    """Return a heading fit to be a question, or nothing."""
    text = re.sub(r"^[\d.]+\s*|[.:。：]+$", "", clean(text, language)).strip()
    if not PLAIN[language].match(text) or not 3 <= len(text) <= 60:
        return ""
    if language == "en":
        found = WORD.findall(text)
        return text if found and all(is_known(word, sieve.words) for word in found) else ""
    han = HAN.findall(text)
    return text if len(han) >= 2 and not sieve.rare.intersection(han) else ""


def passages(blocks: list[tuple[bool, str]], language: str, sieve: Filter) -> list[Passage]:
    """Group the paragraphs of one page under their headings."""
    found = [Passage("")]
    for heading, text in blocks:
        if heading:
            title = title_of(text, language, sieve)
            found.append(Passage(title or found[-1].title))
        elif paragraph := sieve.paragraph(text, language):
            found[-1].paragraphs.append(paragraph)
    return [passage for passage in found if passage.paragraphs and passage.title]


def rare_signs(texts: list[str]) -> frozenset[str]:
    """Return Han characters and Latin words that are too rare in the Chinese text."""
    han = Counter(sign for text in texts for sign in HAN.findall(text))
    latin = Counter(word for text in texts for word in WORD.findall(text))
    return frozenset([s for s, n in han.items() if n < RARE_HAN] + [w for w, n in latin.items() if n < RARE_LATIN])


def build(cache: Path) -> Corpus:
    """Obtain every source and split its pages into training and held-out flows."""
    lexicon, words = dictionary(cache)
    read = []
    for source in SOURCES:
        package = obtain(source.package, cache)
        found = {language: list(pages(package, glob)) for language, glob in source.pages.items()}
        read.append((package, source.licence, found))
    chinese = [
        text for *_, found in read for _, blocks in found.get("zh", []) for _, text in blocks if HAN.search(text)
    ]
    sieve = Filter(words, rare_signs(list(dict.fromkeys(chinese))))
    corpus = Corpus({"en": [], "zh": []}, {"en": [], "zh": []}, [], words)
    for package, licence, found in read:
        used = 0
        for language, documents in found.items():
            for name, blocks in documents:
                page = passages(blocks, language, sieve)
                used += sum(len(p) for passage in page for p in passage.paragraphs)
                held = zlib.crc32(name.rsplit("/", 1)[-1].encode()) % HELD_OUT == 0
                if page:
                    (corpus.held_out if held else corpus.train)[language].append(page)
        corpus.packages.append((package, licence, used))
    corpus.packages.append((lexicon, "public domain (SCOWL)", 0))
    return corpus


def signs(sentence: str, language: str) -> list[str]:
    """Return what must be common: English words, Chinese characters."""
    return [word.lower() for word in WORD.findall(sentence)] if language == "en" else HAN.findall(sentence)


def common(pages: list[list[Passage]], language: str) -> list[list[Passage]]:
    """Return the pages with only those sentences whose every word or character is common in them."""
    texts = [text for page in pages for passage in page for text in passage.paragraphs]
    counts = Counter(sign for text in texts for sign in signs(text, language))
    least = COMMON_WORD if language == "en" else COMMON_HAN
    space = " " if language == "en" else ""

    def kept(text: str) -> str:
        sentences = [s for s in SENTENCE[language].split(text) if s]
        return space.join(s for s in sentences if all(counts[sign] >= least for sign in signs(s, language)))

    thinned = []
    for page in pages:
        passages = [Passage(p.title, [text for text in map(kept, p.paragraphs) if text]) for p in page]
        thinned.append([passage for passage in passages if passage.paragraphs])
    return [page for page in thinned if page]


if __name__ == "__main__":
    import sys

    made = build(Path(sys.argv[1]))
    for part in ("train", "held_out"):
        for language, documents in getattr(made, part).items():
            size = sum(len(p) for page in documents for passage in page for p in passage.paragraphs)
            print(part, language, len(documents), "pages", size, "characters")
    for package, licence, used in made.packages:
        print(package.name, package.version, licence, used)
