"""CLIP image features of aligned faces, which some adapters use beside the face embedding.

Source: Radford et al. 2021; the files of h94/IP-Adapter (models/image_encoder: CLIP-ViT-H-14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import InputError, MissingDependency
from ...media.resize import resize_planes
from ...weights.load import load_strict, read_tensors
from .embedding import FaceEmbedding

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training pictures
HEADS = {768: 12, 1024: 16, 1280: 16, 1664: 16}  # by width: ViT-B, L, H, bigG
GELU_WIDTHS = (1280, 1664)  # OpenCLIP's; OpenAI's have a quick approximation of it


def load_clip_vision(path: Path) -> CLIPVisionModelWithProjection:
    """CLIP vision from a file in transformers' names.

    Raises:
        MissingDependency: no such file, or transformers is not installed.
        InputError: damaged, or another network.
    """
    tensors = read_tensors(path)
    patches = tensors.get("vision_model.embeddings.patch_embedding.weight")
    if patches is None or "visual_projection.weight" not in tensors:
        raise InputError(
            f"{Path(path).name} is no CLIP vision model in transformers' names; use models/image_encoder/"
            "model.safetensors of huggingface.co/h94/IP-Adapter."
        )
    try:
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    except ImportError as error:
        raise MissingDependency("transformers is not installed; run: pip install transformers") from error
    width, _, patch, _ = patches.shape
    layers = len({name.split(".")[3] for name in tensors if name.startswith("vision_model.encoder.layers.")})
    positions = tensors["vision_model.embeddings.position_embedding.weight"].shape[0]
    config = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=tensors["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        projection_dim=tensors["visual_projection.weight"].shape[0],
        num_hidden_layers=layers,
        num_attention_heads=HEADS.get(width, max(1, width // 64)),
        image_size=patch * round((positions - 1) ** 0.5),
        patch_size=patch,
        hidden_act="gelu" if width in GELU_WIDTHS else "quick_gelu",
    )
    return load_strict(CLIPVisionModelWithProjection(config), tensors, Path(path).name, (r"position_ids$",))


@torch.no_grad()
def with_clip_view(
    embedding: FaceEmbedding, crops: Sequence[Tensor], clip: CLIPVisionModelWithProjection
) -> FaceEmbedding:
    """The face embedding with CLIP image features of its faces.

    Args:
        embedding: of N faces.
        crops: N aligned faces (S, S, 3) uint8.
        clip: of `load_clip_vision`.
    """
    side = clip.config.image_size
    planes = torch.stack(list(crops)).permute(0, 3, 1, 2).float() / 255
    planes = resize_planes(planes, (side, side)).clamp(0, 1)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    output = clip(((planes - mean) / std).to(next(clip.parameters())), output_hidden_states=True)
    return replace(embedding, clip_states=output.hidden_states[-2].float(), clip_embeds=output.image_embeds.float())
