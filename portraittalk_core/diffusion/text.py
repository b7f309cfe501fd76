"""Text encoding: tokenizer and the CLIP hidden states of a prompt.

Source: Radford et al. 2021 (CLIP ViT-L/14); SD1.5 reads the last layer behind its norm, of 77 tokens at a time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError, MissingDependency

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

WINDOW = 77  # context length of CLIP: a start token, words, and end tokens as padding
WORDS = WINDOW - 2
VOCABULARY = 49408  # words of CLIP's tokenizer
PUBLISHED = "openai/clip-vit-large-patch14"


@torch.no_grad()
def encode_text(text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, prompt: str) -> Tensor:
    """Text tokens (1, L, E) of a prompt: the text encoder's last hidden states.

    Args:
        text_encoder: of SD1.5.
        tokenizer: that goes with it, see `find_tokenizer`.
        prompt: any length; brackets and weights are read as text.

    Returns:
        (1, 77 · n, width): n is 1 for up to 75 words or word pieces, one more for every 75 beyond, each encoded alone.

    Raises:
        InputError: the tokenizer's vocabulary is larger than the encoder's.
    """
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    words = tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"]
    num_known = text_encoder.get_input_embeddings().num_embeddings
    beyond = max(begin, end, *words, 0)
    if beyond >= num_known:
        raise InputError(
            f"the tokenizer does not go with this text encoder: it has a word {beyond}, the encoder {num_known} words. "
            f"SD1.5 needs the one of {PUBLISHED}."
        )
    parts = [words[i : i + WORDS] for i in range(0, len(words), WORDS)] or [[]]
    filled = [[begin, *part, *[end] * (WINDOW - 1 - len(part))] for part in parts]
    ids = torch.tensor(filled, device=text_encoder.get_input_embeddings().weight.device)
    return text_encoder(ids).last_hidden_state.flatten(0, 1)[None]


def find_tokenizer(folder: Path | None = None) -> CLIPTokenizer:
    """CLIP's tokenizer: from a folder, else from the user's ComfyUI, else from Hugging Face.

    Args:
        folder: with vocab.json and merges.txt, or with tokenizer.json; None looks in COMFYUI_DIR, else in ~/ComfyUI,
            then in transformers' cache, and downloads it (2 MB) if it is nowhere.

    Raises:
        InputError: `folder` holds no tokenizer.
        MissingDependency: none of the ways led to one.
    """
    if folder is not None:
        if not _holds_tokenizer(Path(folder)):
            raise InputError(f"{folder} holds no tokenizer; it needs vocab.json and merges.txt, or tokenizer.json.")
        return _read(Path(folder))
    comfy = Path(os.environ.get("COMFYUI_DIR", "~/ComfyUI")).expanduser() / "comfy" / "sd1_tokenizer"
    if _holds_tokenizer(comfy):
        return _read(comfy)
    for options in ({"local_files_only": True}, {}):
        try:
            return _complete(PUBLISHED, **options)
        except Exception as error:  # no cache, no network, a proxy's page: all mean that it is not to be had
            reason = _first_line(error)
    raise MissingDependency(
        f"SD1.5's tokenizer was not found ({reason}). Give a folder with its vocab.json and merges.txt, or set "
        f"COMFYUI_DIR to a ComfyUI, which has one, or connect to the network once to fetch {PUBLISHED}."
    )


def _holds_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or all((folder / n).is_file() for n in ("vocab.json", "merges.txt"))


def _read(folder: Path) -> CLIPTokenizer:
    try:
        return _complete(str(folder), local_files_only=True)
    except Exception as error:  # damaged files make their readers raise anything
        raise InputError(f"the tokenizer in {folder} cannot be read ({_first_line(error)}); fetch it again.") from error


def _complete(source: str, **options: bool) -> CLIPTokenizer:
    """Load a tokenizer and check that it is complete; transformers returns an empty one where files are missing."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(source, **options)
    if len(tokenizer) < VOCABULARY:
        raise ValueError(f"it has {len(tokenizer)} words, CLIP's has {VOCABULARY}")
    return tokenizer


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
