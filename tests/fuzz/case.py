"""One input of the fuzzer: eight bytes that choose API, policy and request, then the bytes under test."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from llm_label.policy import Policy, RequestView, decide
from llm_label.proxy.surfaces import chat, completions, messages, responses
from llm_label.proxy.surfaces.surface import Answering, Surface
from tests.proxy import marking

SURFACES: tuple[Surface, ...] = (chat, completions, responses, messages)
APIS = tuple(surface.NAME for surface in SURFACES)
POSITIONS = (
    ("start",),
    ("end",),
    ("start", "end"),
    ("start", "middle", "end"),
    ("middle",),
    ("middle", "end"),
    ("start", "middle"),
    (),
)
LANGUAGES = ("zh", "en", "auto", "ko")
MIDDLES = (1, 8, 40, 400)
# Bits of the flags; the rare ones take several.
NO_FIELD, OPEN, JSON, GRAMMAR, PREFILL, FILL_IN = 1, 2, 12, 48, 192, 68
HEAD = 8


@dataclass(frozen=True)
class Case:
    """What one input means."""

    api: str
    positions: tuple[str, ...]
    language: str
    middle_after: int
    flags: int
    n: int
    seed: int
    body: bytes

    @classmethod
    def of(cls, data: bytes) -> "Case":
        head = data[:HEAD].ljust(HEAD, b"\0")
        return cls(
            api=APIS[head[0] % 4],
            positions=POSITIONS[head[1] % 8],
            language=LANGUAGES[head[2] % 4],
            middle_after=MIDDLES[head[3] % 4],
            flags=head[4],
            n=3 if head[5] % 8 == 7 else 1,
            seed=int.from_bytes(head[6:8], "big"),
            body=data[HEAD:],
        )

    @property
    def surface(self) -> Surface:
        return SURFACES[APIS.index(self.api)]

    @property
    def fail_open(self) -> bool:
        return self._has(OPEN)

    def _has(self, bits: int) -> bool:
        return self.flags & bits == bits

    @property
    def policy(self) -> Policy:
        return _policy(self.positions, self.language, self.middle_after, self.fail_open)

    def view(self, *, stream: bool) -> RequestView:
        structured = self._has(JSON) or self._has(GRAMMAR)
        return RequestView(
            self.api, stream=stream, n=self.n, structured=structured, json=self._has(JSON),
            prefill=self._has(PREFILL), fill_in=self._has(FILL_IN), prompt="Wie geht es dir?",
        )  # fmt: skip

    def answer(self, *, stream: bool) -> Answering:
        view, surface = self.view(stream=stream), self.surface
        return marking.answer(self.policy, view, body_field=not self._has(NO_FIELD), surface=surface)

    def labels_due(self, *, stream: bool) -> bool:
        return decide(self.view(stream=stream), self.policy).labels is not None

    def unless_json(self, *, stream: bool) -> bool:
        return decide(self.view(stream=stream), self.policy).otherwise is not None

    def cuts(self, body: bytes) -> Iterator[list[bytes]]:
        """Cut at random places; the first bytes, where a stream's beginning is decided, one by one."""
        dice = random.Random(self.seed)
        few = [body[at : at + 1] for at in range(min(len(body), 6))]
        yield [*few, body[6:]]
        for most in (4, 60):
            points = sorted(dice.randrange(len(body) + 1) for _ in range(dice.randrange(1, most)))
            yield [body[a:b] for a, b in zip([0, *points], [*points, len(body)], strict=True)]


def head(api: int, dice: random.Random) -> bytes:
    """Return the first bytes of an input for an API, the rest of them by chance."""
    flags = dice.choice((0, 0, 0, 1, OPEN, JSON, PREFILL, dice.randrange(256)))
    many = dice.choice((0, 0, 0, 7))
    middle = (dice.randrange(8), dice.randrange(4), dice.randrange(4))
    return bytes((api, *middle, flags, many, dice.randrange(256), dice.randrange(256)))


@lru_cache(maxsize=512)
def _policy(positions: tuple[str, ...], language: str, middle_after: int, fail_open: bool) -> Policy:
    return marking.policy(
        positions=list(positions), language=language, middle_after=middle_after,
        on_failure="open" if fail_open else "closed",
    )  # fmt: skip
