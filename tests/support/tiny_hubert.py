"""A tiny HuBERT of random weights, and files of it."""

from __future__ import annotations

from pathlib import Path

import torch

SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 96}
SMALL = {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}
LARGE = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}


def tiny_hubert(large: bool = True, seed: int = 0):
    """`transformers`' network with 64 channels; `large` has the normalisations of the large size."""
    import transformers

    torch.manual_seed(seed)
    return transformers.HubertModel(transformers.HubertConfig(**SIZES, **SMALL, **(LARGE if large else {}))).eval()


def write_tiny_hubert(path: Path, seed: int = 0) -> Path:
    """A file of it, as Hugging Face has them."""
    torch.save(tiny_hubert(seed=seed).state_dict(), path)
    return path
