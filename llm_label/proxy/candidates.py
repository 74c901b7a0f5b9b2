"""Stand before an upstream that gives no hand in the choice of tokens: draw candidates, keep what the key prefers.

An answer has to be whole before it can be chosen. So a client that asked for a stream gets the kept answer as one, in a
few events, once all candidates are there; errors keep their status. `usage` counts every candidate: it is what the
upstream bills. Candidates come from one request (`n`), or from one request each where the upstream knows no `n`.

Refused before anything is sent: a client's `n` that makes too many candidates, and `store`, for the upstream would keep
every candidate and give all of them to whoever asks for the stored answer.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from llm_label.errors import ClientError, LabelError
from llm_label.policy import Skipped
from llm_label.proxy.body import whole_of
from llm_label.proxy.jsonspan import Editor, dumps, find, loads
from llm_label.proxy.surfaces import asked, chat
from llm_label.proxy.upstream import Upstream, UpstreamRequest, UpstreamResponse
from llm_label.watermark.keyring import Key
from llm_label.watermark.schemes.select import Select
from llm_label.watermark.selection import choice

__all__ = ["Choosing", "check", "choosing"]

Body: TypeAlias = dict[str, Any]

MOST = 128  # candidates for one request: a client's `n` multiplies what an answer costs
AT_ONCE = 8  # requests to the upstream for one answer
CHOOSING = 2  # answers chosen at the same time, each in a thread: what is long takes seconds of a core
LEARNT = 60.0  # seconds that the limit of an upstream is believed: one odd request may have been why
REFUSED = frozenset([400, 404, 413, 422, 500, 501])  # what servers answer to an `n` that is unknown or too large
ONCE = frozenset(["idempotency-key", "x-idempotency-key"])  # a second request of the same key gets the same answer
SSE = [("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-cache")]
OF_A_WHOLE = frozenset(["content-type", "content-length", "cache-control"])
STREAMED = frozenset(["stream", "stream_options"])


def choosing(upstream: Upstream, key: Key | None) -> Upstream:
    """Return an upstream that marks with this key, if choosing among answers is how the key marks."""
    return Choosing(upstream) if key and isinstance(key.spec.rules, Select) else upstream


@dataclass
class _Drawn:
    """One response of the upstream: its choices, or none where it is no answer."""

    response: UpstreamResponse
    raw: bytes
    choices: list[Body] = field(default_factory=list)
    usage: Any = None

    def __post_init__(self) -> None:
        try:
            body = loads(self.raw) if self.response.status < 400 else None
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            return
        found = body.get("choices")
        if isinstance(found, list) and all(isinstance(c, dict) and isinstance(c.get("message"), dict) for c in found):
            self.choices, self.usage = found, body.get("usage")

    def relayed(self, skipped: str | None = None) -> UpstreamResponse:
        return _answer(self.response, self.raw, skipped)

    def choice(self, at: int, index: int) -> bytes:
        """Return the bytes of a choice, under its new number."""
        start, end = find(self.raw, ("choices", at)) or (0, 0)
        editor = Editor(self.raw[start:end])
        editor.set(("index",), index)
        return editor.apply()


@dataclass
class _Limit:
    """The least `n` that an upstream was seen to refuse or to ignore, a short while ago."""

    least: int = sys.maxsize
    until: float = 0.0

    def allows(self, n: int) -> bool:
        return n < self.least or _now() >= self.until

    def learn(self, n: int) -> None:
        self.least, self.until = min(n, self.least) if _now() < self.until else n, _now() + LEARNT


class Choosing:
    """An upstream that marks chat completions by choosing among several; everything else passes."""

    watermarks = True
    surfaces = frozenset([chat.NAME])  # whose answers it marks

    def __init__(self, inner: Upstream) -> None:
        self._inner, self.tokenizer = inner, inner.tokenizer
        self._limit, self._turn = _Limit(), asyncio.Semaphore(CHOOSING)

    def start(self) -> None:
        self._inner.start()

    async def close(self) -> None:
        await self._inner.close()

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        """Answer one request; a chat completion that is to be marked comes back whole."""
        mark, plain = request.watermark, replace(request, watermark=None)
        if mark is None:
            return await self._inner.send(plain)
        if request.path.partition("?")[0] != chat.PATH:
            response = await self._inner.send(plain)
            response.watermark_skipped = lambda: Skipped.UPSTREAM.value
            return response
        body = loads(request.body)
        stream = body.get("stream") is True
        whole = {name: value for name, value in body.items() if name not in STREAMED} if stream else body
        drawn = await self._candidates(plain, whole, mark.key)
        if not drawn[0].choices:
            return drawn[0].relayed(Skipped.ERROR.value)
        async with self._turn:
            kept, skipped = await asyncio.to_thread(_kept, drawn, body, mark.key)
        if not stream:
            return _answer(drawn[0].response, kept, skipped)
        headers = [(name, value) for name, value in drawn[0].response.headers if name.lower() not in OF_A_WHOLE]
        streamed = _events(loads(kept), body.get("stream_options"))
        return _answer(replace(drawn[0].response, headers=headers + SSE), streamed, skipped)

    async def _candidates(self, request: UpstreamRequest, body: Body, key: Key) -> list[_Drawn]:
        """Return responses that hold enough choices together, or one that is what the client has to see."""
        wanted = asked.count(body) * _count(key)
        first = await self._first(request, body, wanted)
        have = len(first.choices)
        if not 0 < have < wanted:
            return [first]
        more = -(-(wanted - have) // have)
        turn = asyncio.Semaphore(AT_ONCE)

        async def draw(step: int) -> _Drawn:
            async with turn:
                return await self._draw(_again(request), _reseeded(body, step))

        work = map(draw, range(1, more + 1))
        found = await asyncio.gather(*work, return_exceptions=True)  # fewer candidates still make a choice
        if broken := next((e for e in found if isinstance(e, BaseException) and not isinstance(e, LabelError)), None):
            raise broken
        return [first, *(one for one in found if isinstance(one, _Drawn) and one.choices)]

    async def _first(self, request: UpstreamRequest, body: Body, wanted: int) -> _Drawn:
        """Ask for all at once; where that is refused, for what the client asked for, which may be refused as well."""
        tried = self._limit.allows(wanted) and _is_count(body.get("n"))
        if tried:
            first = await self._draw(request, {**body, "n": wanted})
            if first.choices and len(first.choices) < wanted:
                self._limit.learn(wanted)
            if first.response.status not in REFUSED:
                return first
            request = _again(request)
        first = await self._draw(request, body)
        if tried and first.choices:  # so it was the number that was refused
            self._limit.learn(wanted)
        return first

    async def _draw(self, request: UpstreamRequest, body: Body) -> _Drawn:
        response = await self._inner.send(replace(request, body=dumps(body)))
        try:
            return _Drawn(response, await whole_of(response.chunks))
        finally:
            response.close()


def _now() -> float:
    return asyncio.get_running_loop().time()


def check(raw: bytes, key: Key) -> None:
    """Raise ClientError for a request that cannot be marked by choosing, or costs too much."""
    body = loads(raw)
    n, each = asked.count(body), _count(key)
    if n * each > MOST:
        raise ClientError(
            f"n is {n}, and each answer is chosen among {each} candidates: {n * each} in all; this server draws at "
            f"most {MOST} for one request; ask for n = {MOST // each} or fewer"
        )
    if body.get("store"):
        raise ClientError(
            "store is not served: answers are chosen here among several candidates, and the upstream would keep all of "
            "them; leave store out or set it to false"
        )


def _count(key: Key) -> int:
    rules = key.spec.rules
    assert isinstance(rules, Select)
    return rules.candidates


def _is_count(n: object) -> bool:
    """Say whether a client's `n` may be multiplied; what is none is the upstream's to refuse."""
    return n is None or (isinstance(n, int) and not isinstance(n, bool) and n > 0)


def _again(request: UpstreamRequest) -> UpstreamRequest:
    return replace(request, headers=[(name, value) for name, value in request.headers if name.lower() not in ONCE])


def _reseeded(body: Body, step: int) -> Body:
    """Return the request for a further candidate: the same seed would give the same answer."""
    seed = body.get("seed")
    return {**body, "seed": seed + step} if isinstance(seed, int) and not isinstance(seed, bool) else body


def _kept(drawn: list[_Drawn], body: Body, key: Key) -> tuple[bytes, str | None]:
    """Return the first answer with the choices to keep, and why they carry no mark, if they carry none."""
    places = [(one, at) for one in drawn for at in range(len(one.choices))]
    n = min(asked.count(body), len(places))
    last = body["messages"][-1] if body["messages"] else {}
    before = asked.plain(last.get("content")) if last.get("role") == "assistant" else ""
    kept, reasons = [], []
    for index in range(n):
        group = places[index::n]
        texts = [asked.plain(one.choices[at]["message"].get("content")) for one, at in group]
        found = choice(texts, key, before)
        one, at = group[found.kept]
        kept.append(one.choice(at, index))
        reasons.append(None if found.marks else _unmarked(texts, texts[found.kept]))
    first = drawn[0]
    start, end = find(first.raw, ("choices",)) or (0, 0)
    raw = first.raw[:start] + b"[" + b",".join(kept) + b"]" + first.raw[end:]
    if len(drawn) > 1 and first.usage is not None:
        editor = Editor(raw)
        editor.set(("usage",), _sum([one.usage for one in drawn]))
        raw = editor.apply()
    return raw, _skipped(reasons)


def _unmarked(texts: list[str], kept: str) -> Skipped:
    """Say why the key had nothing to choose by: no text is kept, one candidate alone, all alike or too short."""
    if not kept.strip():
        return Skipped.EMPTY
    return Skipped.UPSTREAM if len(texts) < 2 else Skipped.GREEDY


def _skipped(reasons: list[Skipped | None]) -> str | None:
    """Return the reason of an answer: one text without the mark is enough, and choices without text do not count."""
    texts = [reason for reason in reasons if reason != Skipped.EMPTY]
    return next((reason.value for reason in texts if reason), None) if texts else Skipped.EMPTY.value


def _sum(usages: list[Any]) -> Any:
    """Add up what the upstream counted, member by member; of what is no number the first holds."""
    first = usages[0]
    if isinstance(first, dict):
        return {name: _sum([u[name] for u in usages if isinstance(u, dict) and name in u]) for name in first}
    numbers = [u for u in usages if isinstance(u, int | float) and not isinstance(u, bool)]
    return sum(numbers) if isinstance(first, int | float) and not isinstance(first, bool) else first


def _answer(response: UpstreamResponse, raw: bytes, skipped: str | None) -> UpstreamResponse:
    async def chunks() -> AsyncIterator[bytes]:
        yield raw

    return UpstreamResponse(response.status, response.headers, chunks(), watermark_skipped=lambda: skipped)


def _events(answer: Body, options: Any) -> bytes:
    """Return a whole answer as the stream of one."""
    counted = isinstance(options, Mapping) and options.get("include_usage") is True
    usage, choices = answer.pop("usage", None), answer.pop("choices")
    head = {**answer, "object": "chat.completion.chunk"} | ({"usage": None} if counted else {})
    frames = [
        {**head, "choices": [{"index": choice["index"], "delta": delta, "logprobs": logprobs, "finish_reason": end}]}
        for choice in choices
        for delta, logprobs, end in _deltas(choice)
    ]
    if counted:
        frames.append({**head, "choices": [], "usage": usage})
    return b"".join(b"data: %b\n\n" % dumps(frame) for frame in frames) + b"data: [DONE]\n\n"


def _deltas(choice: Body) -> list[tuple[Body, Any, Any]]:
    """Return the deltas of one choice, each with its log probabilities and the reason for the end: in this order."""
    message = {name: value for name, value in choice["message"].items() if value is not None}
    deltas: list[tuple[Body, Any, Any]] = [({"role": message.pop("role", "assistant"), "content": ""}, None, None)]
    said = {name: message.pop(name) for name in ("content", "annotations") if name in message}
    calls = message.pop("tool_calls", None)
    if message:  # reasoning, a refusal
        deltas.append((message, None, None))
    if said:
        deltas.append((said, choice.get("logprobs"), None))
    if calls:
        deltas.append(({"tool_calls": [{"index": at, **call} for at, call in enumerate(calls)]}, None, None))
    return [*deltas, ({}, None, choice.get("finish_reason"))]
