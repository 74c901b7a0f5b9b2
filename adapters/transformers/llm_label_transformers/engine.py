"""One checkpoint and the one thread that generates with it.

Requests wait in the executor's queue and run one after the other. Text leaves the thread as `Piece`s through a
callback; a job that nobody wants any more stops at its next token.
"""

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging

from llm_label.errors import SettingsError
from llm_label.watermark.keyring import Key

from . import EMBEDDED, checkpoint
from .prompt import Prompter
from .request import ChatRequest, RequestRefused
from .text import ChoiceText, Piece, RunningDecoder, StopMatcher, context_of
from .watermark import watermarking_config

__all__ = ["EMBEDDED", "Engine", "Job", "Piece"]

EMBEDDED_NAME = "llm-label-embedded"
SMALL = 30_000_000  # parameters; below, waking a second core for each product costs more than it brings
COLDEST = 0.01  # temperatures below overflow; exactly 0 is greedy
DEFAULT_CONTEXT = 2048  # for a checkpoint that does not say


@dataclass
class Job:
    """One request on its way through the model."""

    request: ChatRequest
    prompt: list[int]
    new_tokens: int  # the most
    key: Key | None
    variety: str | None
    tell: Callable[[Piece], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    completion_tokens: int = 0


class Engine:
    """A model with its tokenizer, and the thread that runs it."""

    def __init__(self, name: str, model: Any, tokenizer: Any) -> None:
        self.name = name
        self.model = model
        self.tokenizer = tokenizer
        self.context = int(getattr(model.config, "max_position_embeddings", None) or DEFAULT_CONTEXT)
        self._prompter = Prompter(tokenizer)
        self._ends = _end_ids(model, tokenizer)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generate", initializer=self._begin)

    @classmethod
    def load(cls, path: str | None) -> "Engine":
        """Load a checkpoint folder, or the embedded model. Raises SettingsError."""
        folder = checkpoint(path)
        try:
            with _quiet():
                tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
                # The embedded weights are bfloat16 on disk; float32 is as fast on a CPU and its results are stable.
                model: Any = AutoModelForCausalLM.from_pretrained(
                    folder, local_files_only=True, dtype="auto" if path else torch.float32
                )
        except Exception as error:  # a broken checkpoint fails in as many ways as there are files
            reason = str(error).strip().partition("\n")[0]
            raise SettingsError(f"the checkpoint {folder} cannot be loaded: {reason}") from error
        if not getattr(tokenizer, "is_fast", False):
            raise SettingsError(f"the checkpoint {folder} has no tokenizer.json, which the local upstream needs")
        model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        return cls(folder.resolve().name if path else EMBEDDED_NAME, model, tokenizer)

    def prepare(self, request: ChatRequest, key: Key | None, variety: str | None, tell: Callable[[Piece], None]) -> Job:
        """Encode the prompt and see that it fits. Raises RequestRefused."""
        prompt = self._prompter.encode(request.messages)
        room = self.context - len(prompt)
        if room < 1 or not prompt:
            raise RequestRefused(
                f"the prompt has {len(prompt)} tokens and the context of {self.name} holds {self.context}; "
                "at least one must be left for the answer",
                "messages",
                "context_length_exceeded",
            )
        wanted = room if request.max_tokens is None else min(room, request.max_tokens)
        marked = None if request.greedy and key and not key.spec.rules.marks_greedy else key
        return Job(request, prompt, wanted, marked, variety, tell)

    def start(self, job: Job) -> "Future[None]":
        """Queue a job; the future ends when its last piece was told."""
        return self._thread.submit(self._run, job)

    def close(self) -> None:
        """Let the running job end and take no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def decode(self, ids: Sequence[int]) -> str:
        """Return text as the tokenizer has it, without special tokens."""
        text: str = self.tokenizer.backend_tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def _begin(self) -> None:
        if sum(p.numel() for p in self.model.parameters()) < SMALL:
            torch.set_num_threads(1)

    def _run(self, job: Job) -> None:
        if job.cancelled.is_set():
            return
        before = context_of(job.prompt, self.decode)
        rows = _Rows(
            job,
            [
                ChoiceText(RunningDecoder(self.decode, list(before)), StopMatcher(job.request.stop))
                for _ in range(job.request.n)
            ],
            self._ends,
        )
        device = self.model.device
        ids = torch.tensor([job.prompt] * job.request.n, device=device)
        seed = secrets.randbits(63) if job.request.seed is None else job.request.seed
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.inference_mode():
            torch.manual_seed(seed)
            self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                generation_config=self._settings(job),
                stopping_criteria=StoppingCriteriaList([rows]),
            )
        rows.finish()

    def _settings(self, job: Job) -> GenerationConfig:
        request = job.request
        sampling: dict[str, Any] = {"do_sample": False}
        if not request.greedy:
            sampling = {
                "do_sample": True,
                "temperature": max(request.temperature, COLDEST),
                "top_p": request.top_p,
                "top_k": request.top_k,
            }
        if job.key is not None:
            sampling["watermarking_config"] = watermarking_config(job.key, job.variety)
        pad = self.tokenizer.pad_token_id
        return GenerationConfig(  # type: ignore[no-untyped-call]
            **sampling,
            max_new_tokens=job.new_tokens,
            eos_token_id=sorted(self._ends) or None,
            pad_token_id=min(self._ends, default=0) if pad is None else pad,
            bos_token_id=self.tokenizer.bos_token_id,
            suppress_tokens=self.model.generation_config.suppress_tokens,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars into a server's output."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    given = model.generation_config.eos_token_id
    found = set(given) if isinstance(given, list) else {given}
    return frozenset(found | {tokenizer.eos_token_id}) - {None}


class _Rows(StoppingCriteria):
    """Follow every row of a batch token by token: its text, its stop strings, its end.

    A stopping criterion sees each step before the next begins, for any batch; transformers' streamers do not.
    """

    def __init__(self, job: Job, texts: list[ChoiceText], ends: frozenset[int]) -> None:
        self._job = job
        self._texts = texts
        self._ends = ends
        self._done = [False] * len(texts)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return which rows are done, bool[n]; ids are int64[n, length]."""
        if self._job.cancelled.is_set():
            return torch.ones(len(self._texts), dtype=torch.bool, device=input_ids.device)
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if not self._done[row]:
                self._feed(row, token)
        return torch.tensor(self._done, device=input_ids.device)

    def _feed(self, row: int, token: int) -> None:
        self._job.completion_tokens += 1
        if token in self._ends:
            self._end(row, "stop")
            return
        text = self._texts[row].feed(token)
        if text:
            self._job.tell(Piece(row, text))
        if self._texts[row].stopped:
            self._end(row, "stop")

    def _end(self, row: int, reason: str) -> None:
        self._done[row] = True
        text = self._texts[row].finish()
        reason = "stop" if self._texts[row].stopped else reason
        self._job.tell(Piece(row, text, reason))

    def finish(self) -> None:
        """End the rows that used up their tokens."""
        for row, done in enumerate(self._done):
            if not done and not self._job.cancelled.is_set():
                self._end(row, "length")
