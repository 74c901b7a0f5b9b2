"""Measure detection from text end to end: tokens per second, the tokenizer's own time beside it, peak memory.

    python benchmarks/detect_text.py --tokenizer FILE [--text FILE …] [--sizes 1 10 100] [--keys 1] [--json]

"tokenizer" is tokenizers' `encode` with its ids as a list, on the text in pieces of 2 MB. "detect" is `llm-label
detect`'s way from bytes to a verdict, once it is loaded: carrier, labels, every reading of the text, encoding, one
gumbel key with all windows. Each figure comes from its own process, so that peak memory is that of this one alone,
libraries and all; both run on one thread, and seconds are of CPU. Without --text words are drawn at random.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO

MB = 1_000_000
PIECE = 2 * MB  # that the tokenizer is given at once
SYLLABLES = ("ka", "to", "mi", "ren", "sol", "va", "ter", "in", "an", "el", "dor", "qui", "s", "ing", "ed", "ly")


def sample(size: int, files: list[str]) -> bytes:
    """Return that many bytes of UTF-8: the files again and again, or words of a toy language."""
    if files:
        source = "\n\n".join(Path(file).read_text(encoding="utf-8") for file in files)
    else:
        rng = random.Random(0)
        words = ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) for _ in range(20_000)]
        lines = (" ".join(rng.choices(words, k=rng.randint(20, 120))) + "." for _ in range(size // 400 + 1))
        source = "\n\n".join(lines)
    data = source.encode()
    data = data * (size // len(data) + 1)
    return data[:size].decode(errors="ignore").encode()


def tokenizer_alone(file: BinaryIO, tokenizer: str) -> tuple[float, int]:
    """Return seconds and tokens."""
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(tokenizer)
    loaded.encode("warm " * 100)
    seconds, count = 0.0, 0
    while data := file.read(PIECE):
        text = data.decode(errors="ignore")  # a character that is cut in two does not matter here
        start = time.process_time()
        count += len(loaded.encode(text, add_special_tokens=False).ids)
        seconds += time.process_time() - start
    return seconds, count


def detected(file: BinaryIO, tokenizer: str, keys: int) -> tuple[float, int]:
    """Return seconds and how many tokens were read."""
    from llm_label.labels.wording import all_wordings
    from llm_label.metadata.carriers import LIMIT
    from llm_label.verify.detector import Detector
    from llm_label.verify.findings import WatermarkTest
    from llm_label.watermark.keyring import Key, Keyring, Spec, tokenizer_digest

    spec = Spec(tokenizer=tokenizer_digest(Path(tokenizer).read_bytes()), tokenizer_path=tokenizer)
    ring = Keyring(tuple(Key.new(f"k{n}", bytes([n]) * 32, spec) for n in range(keys)))
    detector = Detector(ring, all_wordings())
    detector.detect("warm " * 100)
    start = time.process_time()
    verdict = detector.detect_file(file.read(LIMIT + 1), file)
    spent = time.process_time() - start
    test = next(finding for finding in verdict.evidence if isinstance(finding, WatermarkTest))
    return spent, test.scored + test.skipped


def measured(what: str, path: str, args: argparse.Namespace) -> dict[str, float]:
    """Measure in a fresh process on one thread."""
    command = [sys.executable, __file__, "--child", what, path, "--tokenizer", args.tokenizer, "--keys", str(args.keys)]
    one = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env={**os.environ, **one}, stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def child(what: str, path: str, args: argparse.Namespace) -> None:
    with open(path, "rb") as file:
        run = (
            tokenizer_alone(file, args.tokenizer) if what == "tokenizer" else detected(file, args.tokenizer, args.keys)
        )
    seconds, tokens = run
    print(json.dumps({"seconds": seconds, "tokens": tokens, "peak_mb": peak_mb()}))


def peak_mb() -> float:
    """Return this process's own peak; ru_maxrss would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def both(size: float, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        file.write(sample(int(size * MB), args.text))
        file.flush()
        return {what: measured(what, file.name, args) for what in ("tokenizer", "detect")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="a tokenizer.json")
    parser.add_argument("--text", nargs="+", default=[], metavar="FILE", help="UTF-8 text to repeat")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1, 10, 100], metavar="MB")
    parser.add_argument("--keys", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child, args)
        return
    rows = {size: both(size, args) for size in args.sizes}
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print("| text | tokens | tokenizer, CPU s | detect, CPU s (ratio) | tokens/s | peak MB: tokenizer, detect |")
    print("| --- | --- | --- | --- | --- | --- |")
    for size, row in rows.items():
        alone, ours = row["tokenizer"], row["detect"]
        print(
            f"| {size:g} MB | {alone['tokens']:,.0f} | {alone['seconds']:.2f} | {ours['seconds']:.2f} "
            f"({ours['seconds'] / alone['seconds']:.2f}) | {alone['tokens'] / ours['seconds']:,.0f} "
            f"| {alone['peak_mb']:.0f}, {ours['peak_mb']:.0f} |"
        )


if __name__ == "__main__":
    main()
