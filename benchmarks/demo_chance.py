"""How often `llm-label demo` fails by chance: its questions, many answers, a fresh key for each batch.

    python benchmarks/demo_chance.py [--batches 25]

An answer fails the demo when the watermark's family-wise p-value stays above 1e-6, because the answer ended early or
repeats itself. Prints the share with its exact upper bound (Clopper-Pearson, 95 %).
"""

import argparse
import asyncio
import json
import secrets

import numpy as np
from llm_label_transformers import LocalUpstream
from scipy.stats import beta

from llm_label import Detector, Key, Keyring
from llm_label.cli.demo import QUESTIONS, asked
from llm_label.keyfile import tokenizer_spec
from llm_label.proxy.upstream import Mark, UpstreamRequest
from llm_label.verify.findings import WatermarkTest

N = 16  # answers of a batch


async def batch(upstream: LocalUpstream, question: str) -> tuple[list[float], int]:
    """Return log10 p of each answer, and how many answers are equal to an earlier one."""
    key = Key.new("demo", secrets.token_bytes(32), tokenizer_spec(upstream.tokenizer))
    body = json.dumps({**asked(question), "n": N}).encode()
    response = await upstream.send(UpstreamRequest("POST", "/v1/chat/completions", [], body, Mark(key)))
    answer = json.loads(b"".join([chunk async for chunk in response.chunks]))
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    detector = Detector(Keyring((key,)), ())
    found = [next(f for f in detector.detect(t).evidence if isinstance(f, WatermarkTest)).log10_p for t in texts]
    return found, N - len(set(texts))


async def measure(batches: int) -> None:
    upstream = LocalUpstream()
    upstream.start()
    print("| language | answers | failed | at most (95 %) | log10 p: median, worst | equal answers |")
    print("| --- | --- | --- | --- | --- | --- |")
    for language, question in QUESTIONS:
        results = [await batch(upstream, question) for _ in range(batches)]
        values = np.array([p for found, _ in results for p in found])
        failed, n = int((values > -6).sum()), len(values)
        bound = beta.ppf(0.95, failed + 1, n - failed) if failed < n else 1.0
        equal = sum(e for _, e in results)
        print(
            f"| {language} | {n} | {failed} | {bound:.2%} | {np.median(values):.0f}, {values.max():.1f} | {equal} |",
            flush=True,
        )
    await upstream.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how often the demo fails by chance.")
    parser.add_argument("--batches", type=int, default=25)
    asyncio.run(measure(parser.parse_args().batches))


if __name__ == "__main__":
    main()
