"""A toy model with random weights for the plug-in's tests: real transformers code, no files."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

PAD, EOS, VOCABULARY = 0, 1, 512


def toy(vocabulary: int = VOCABULARY) -> Any:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=512,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


@contextlib.contextmanager
def one_thread() -> Iterator[Any]:
    """Give the model with fixed weights. Tiny tensors: more threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    try:
        yield toy()
    finally:
        torch.set_num_threads(threads)


def write(model: Any, config: Any, **given: Any) -> np.ndarray:
    """Write completions [b, new] after two prompts, the first left-padded."""
    ids = torch.tensor([[PAD, PAD, 5, 6], [7, 8, 9, 10]])
    settings: dict[str, Any] = {
        "attention_mask": (ids != PAD).long(),
        "do_sample": True,
        "top_k": 0,
        "max_new_tokens": 80,
        "suppress_tokens": [PAD, EOS],
        "watermarking_config": config,
    } | given
    return np.asarray(model.generate(ids, **settings)[:, ids.shape[1] :])
