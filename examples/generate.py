"""Watermark what transformers' generate() samples, and find the mark again from the text alone.

    python examples/generate.py [CHECKPOINT]

Without a checkpoint the embedded model writes.
"""

import secrets
import sys
from pathlib import Path

import torch
from llm_label_transformers import EMBEDDED, watermarking_config
from transformers import AutoModelForCausalLM, AutoTokenizer

from llm_label import Detector, Key, Keyring
from llm_label.keyfile import tokenizer_spec

torch.set_num_threads(1)  # one token of a model this small is less work than waking a second thread
folder = Path(sys.argv[1]) if len(sys.argv) > 1 else EMBEDDED
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)

# A key knows the tokenizer it is for; `llm-label keys new` makes one on disk.
key = Key.new("example", secrets.token_bytes(32), tokenizer_spec(folder / "tokenizer.json"))

inputs = tokenizer("The picture is", return_tensors="pt", add_special_tokens=False)
output = model.generate(
    **inputs,
    do_sample=True,
    top_p=0.95,
    min_new_tokens=200,
    max_new_tokens=200,
    pad_token_id=0,
    watermarking_config=watermarking_config(key),
)
text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
print(text)

verdict = Detector(Keyring((key,)), known=()).detect(text)
print(f"\nverdict: {verdict.verdict}")
for finding in verdict.evidence:
    print(finding.to_dict())
