"""Time: ten times the bytes may take ten times as long, wherever the input repeats itself."""

import contextlib
import json
import random
import time
from collections.abc import Callable

from llm_label.errors import LabelError
from llm_label.policy import decide
from llm_label.proxy.guard import read_body, strip
from llm_label.proxy.marking import Marking
from tests.fuzz.case import Case
from tests.fuzz.mutate import frames

__all__ = ["check"]

TIMES = 8  # how much longer the long input is
SLOWER = 3.5  # and how much more time than that it may take
NOTABLE = 0.4  # seconds of CPU below which nobody minds


def check(data: bytes) -> None:
    """Raise AssertionError when a long input takes far longer than its length says."""
    case = Case.of(data)
    dice = random.Random(case.seed)
    grow, work = dice.choice(((_frames, _stream), (_bytewise, _stream), (_members, _whole), (_members, _request)))
    short, long = grow(case.body, 1, case.seed), grow(case.body, TIMES, case.seed)
    if len(long) < 2 * len(short):
        return
    for _ in range(3):  # others may be at work on this machine
        took = [_seconds(work, case, pieces) for pieces in (short, long)]
        if took[1] < NOTABLE or took[1] < took[0] * TIMES * SLOWER:
            return
    raise AssertionError(
        f"{TIMES} times the input takes {took[1] / took[0]:.0f} times as long ({took[1]:.2f} s of CPU)"
    )


def _seconds(work: Callable[[Case, list[bytes]], None], case: Case, pieces: list[bytes]) -> float:
    began = time.thread_time()
    with contextlib.suppress(LabelError):
        work(case, pieces)
    return time.thread_time() - began


def _frames(body: bytes, times: int, seed: int) -> list[bytes]:
    """Repeat some of a stream's frames."""
    all_, dice = frames(body), random.Random(seed)
    begin = dice.randrange(len(all_) + 1)
    end = min(len(all_), begin + dice.randrange(1, 4))
    return [*all_[:begin], *all_[begin:end] * (100 * times), *all_[end:]]


def _bytewise(body: bytes, times: int, seed: int) -> list[bytes]:
    """Repeat some bytes of a stream, and let them come one by one."""
    dice = random.Random(seed)
    at = dice.randrange(len(body) + 1)
    piece = body[at : at + dice.choice((1, 2, 3, 10))]
    grown = body[:at] + piece * (2000 * times // max(1, len(piece))) + body[at:]
    return [grown[k : k + 1] for k in range(len(grown))]


def _members(body: bytes, times: int, seed: int) -> list[bytes]:
    """Repeat an item of a list, or the text of a string, in the deepest places first."""
    try:
        tree = json.loads(body)
    except (ValueError, RecursionError):
        return [body]
    found: list[tuple[object, object]] = []
    stack = [tree]
    while stack:
        value = stack.pop()
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in list(pairs):
            if (isinstance(inner, list) and inner) or (isinstance(inner, str) and inner):
                found.append((value, key))
            stack.append(inner)
    if not found:
        return [body]
    holder, key = random.Random(seed).choice(found)
    holder[key] = holder[key] * (100 * times)  # type: ignore[index]
    return [json.dumps(tree).encode()]


def _stream(case: Case, pieces: list[bytes]) -> None:
    marking = Marking(case.answer(stream=True), untouched=False, fail_open=False)
    for piece in pieces:
        marking.feed(piece)
        if marking.broke:
            return
    marking.end()


def _whole(case: Case, pieces: list[bytes]) -> None:
    case.answer(stream=False).whole(b"".join(pieces))


def _request(case: Case, pieces: list[bytes]) -> None:
    raw = b"".join(pieces)
    body = read_body(raw, 100)
    raw, _ = strip(raw, body)
    decide(case.surface.view(body), case.policy)
    case.surface.clean(raw, body, case.policy.known)
