"""Cut flows of passages into question-and-answer token sequences of one context each."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from corpus import Passage
from vocabulary import CONTEXT

QUESTIONS = {
    "en": (
        "{}", "{}", "{}?", "Tell me about {}.", "Please explain {}.", "What should I know about {}?",
        "How does this work: {}?", "Write a few paragraphs about {}.", "Describe {} in some detail.",
    ),
    "zh": (
        "{}", "{}", "{}？", "请介绍一下{}。", "请说明{}。", "关于{}，我应该知道什么？",
        "请写几段关于{}的文字。", "{}是怎么回事？", "请详细介绍{}。",
    ),
}  # fmt: skip
ANSWER = (230, 430)  # tokens an answer has at least, drawn evenly; it ends at the next paragraph's end


@dataclass(frozen=True)
class Marks:
    """Ids of the special tokens."""

    begin: int
    end: int
    user: int
    assistant: int


Encode = Callable[[str], list[int]]


def dialogues(
    pages: list[list[Passage]], language: str, encode: Encode, marks: Marks, draw: random.Random
) -> Iterator[list[int]]:
    """Yield token sequences of whole dialogues; neighbouring pages flow together until an answer is long enough."""
    answer: list[int] = []
    question, wanted, paragraphs = "", 0, 0
    for page in pages:
        for passage in page:
            for paragraph in passage.paragraphs:
                if not answer:
                    title = passage.title if language == "zh" else lower_first(passage.title, draw)
                    question = draw.choice(QUESTIONS[language]).format(title)
                    wanted, paragraphs = draw.randint(*ANSWER), 0
                answer += encode(("\n\n" if answer else "") + paragraph)
                paragraphs += 1
                if len(answer) >= wanted:
                    head = [marks.begin, marks.user, *encode(question), marks.assistant]
                    full = [*head, *answer, marks.end]
                    yield full[: CONTEXT + 1]
                    answer = []


def lower_first(title: str, draw: random.Random) -> str:
    """Lower-case a title half of the time, as people type."""
    return title.lower() if draw.random() < 0.5 else title


def shuffled(pages: list[list[Passage]], draw: random.Random, run: int = 6) -> list[list[Passage]]:
    """Shuffle short runs of neighbouring pages, starting each run at a random passage."""
    start = draw.randrange(run)
    runs = [pages[:start]] + [pages[i : i + run] for i in range(start, len(pages), run)]
    draw.shuffle(runs)
    return [page for group in runs for page in group]
