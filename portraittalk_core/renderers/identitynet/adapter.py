"""Identity adapters (IP-Adapter FaceID): face projection, decoupled attention at sixteen sites, and their LoRA.

Source: PortraitTalk, section 3.1; the files of IP-Adapter FaceID.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...checks import check_choice, check_finite, check_range, check_window
from ...errors import InputError
from ...layers.attention import Attend, attend
from ...media.tensor_file import save_tensors
from ...options import check_options, option, same_option
from ...weights.load import load_strict, read_metadata, read_tensors
from .adapter_files import LAYOUTS, AdapterTensors, sort_adapter
from .decoupled_attention import ALWAYS, DecoupledAttention, IdentityBranch, Window
from .face_tokens import ClipProjection, FaceProjection, ProjectionInput, build_projection
from .options import COMBINATIONS, IdentityNetOptions

if TYPE_CHECKING:
    from ...face.identity.embedding import FaceEmbedding

_NEEDED = {
    "clip_states": "CLIP vision's hidden states of the face (connect CLIP-ViT-H to Load Face Embedding)",
    "clip_embeds": "CLIP vision's embedding of the face (connect CLIP-ViT-H to Load Face Embedding)",
}


class IdentityAdapter(nn.Module):
    """An identity adapter's projection, decoupled attentions and LoRA.

    Args:
        layout: one of `weights.adapters.LAYOUTS`.
        projection: makes tokens of a face.
        sites: keys and values, by the checkpoint's own numbers "1", "3", …, "31".
        lora: low-rank changes of the UNet's attentions, by the checkpoint's names; empty for none.
    """

    def __init__(
        self, layout: str, projection: nn.Module, sites: Mapping[str, DecoupledAttention], lora: dict[str, Tensor]
    ) -> None:
        super().__init__()
        self.layout, self.lora = check_choice(layout, LAYOUTS, "the adapter's layout"), dict(lora)
        self.projection, self.sites = projection, nn.ModuleDict(sites)

    @property
    def token_width(self) -> int:
        """Numbers per token: 768 for SD1.5."""
        return self.sites["1"].to_k_ip.weight.shape[1]

    def set_structure(self, structure: float) -> None:
        """Set the weight, 0..3, of the CLIP shortcut in plusv2; other layouts ignore it."""
        check_range(structure, 0, 3, "structure")
        if self.layout == "plusv2":
            self.projection.structure = structure

    def is_per_reference(self, combine: str = "auto") -> bool:
        """Whether every reference has tokens of its own; else all have those of their average."""
        check_choice(combine, COMBINATIONS, "combine")
        return combine == "concat" or (combine == "auto" and self.layout == "portrait")

    def tokens(self, embedding: FaceEmbedding, combine: str = "auto") -> Tensor:
        """(2, T, E) tokens of a face, and unconditional tokens of no face.

        Args:
            embedding: of one person, from one or more pictures.
            combine: "average" of the embeddings, "concat" of the tokens of each; "auto" is what the adapter was
                trained for: concat for portrait, average for the others.

        Raises:
            InputError: the adapter needs CLIP's view of the face, which is not there, or of another width.
        """
        faces = _projection_input(embedding, self.is_per_reference(combine), self.projection.needs)
        like = next(self.projection.parameters())
        with torch.no_grad():
            tokens = [
                check_finite(self._project(face, like).flatten(0, 1), "the face's tokens")
                for face in (faces, _no_face(faces))
            ]
        return torch.stack(tokens)

    def _project(self, faces: ProjectionInput, like: Tensor) -> Tensor:
        inputs = {name: getattr(faces, name).to(like.device, torch.float32) for name in self.projection.needs}
        try:
            return self.projection(ProjectionInput(**inputs)).float()
        except RuntimeError as error:
            sizes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in inputs.items())
            raise InputError(f"the face ({sizes}) does not fit this {self.layout} adapter: {error}.") from error


@dataclass(frozen=True)
class IdentityOptions:
    """Strength, step range, layer weights and combination of face embeddings."""

    strength: float = same_option(IdentityNetOptions, "identity_strength", default=1.0)  # 0: bit-equal to no adapter
    start: float = option(0.0, 0, 1, "Part of the steps at which the face sets in.", step=0.01, advanced=True)
    end: float = option(1.0, 0, 1, "Part of the steps at which the face ends.", step=0.01, advanced=True)
    combine: str = option(
        "auto",
        help="Several pictures of a person: average them, or show them all; auto is what the adapter knows.",
        choices=COMBINATIONS, advanced=True,
    )  # see `IdentityAdapter.tokens`  # fmt: skip
    layers: Mapping[int, float] = field(default_factory=dict)  # factor for single sites, by their index 0..15

    def __post_init__(self) -> None:
        check_options(self, strength="the identity strength", start="the identity's start", end="the identity's end")
        check_window(self.start, self.end, ("`start`", "`end`"), "the face")
        for index, factor in self.layers.items():
            check_range(index, 0, 15, "a layer's number")
            check_range(factor, -1, 3, f"the weight of layer {index}")


def identity_branches(
    adapter: IdentityAdapter,
    tokens: Tensor,
    keys: Sequence[str],
    options: IdentityOptions,
    window: Window = ALWAYS,
    attend_with: Attend = attend,
) -> dict[int, IdentityBranch]:
    """Identity branches of all sites with a non-zero weight.

    Args:
        adapter: weights.
        tokens: (2, T, E) of `IdentityAdapter.tokens`.
        keys: the adapter's number of every site, in the order the sites run.
        options: strength and weights of single sites.
        window: largest and least sigma at which it acts.
        attend_with: the attention to use.

    Returns:
        By the site's index; sites whose weight is 0 have none.
    """
    strengths = {index: options.strength * options.layers.get(index, 1.0) for index in range(len(keys))}
    return {
        index: IdentityBranch(adapter.sites[key], tokens, strengths[index], window, attend_with)
        for index, key in enumerate(keys)
        if strengths[index] != 0
    }


def load_adapter(path: Path, layout: str | None = None, ops: ModuleType = nn) -> IdentityAdapter:
    """Load an adapter from a .bin or .safetensors file.

    Args:
        path: the file.
        layout: "plus" or "plusv2" if the file's name does not say; None infers it from tensors and name.
        ops: where Linear and LayerNorm come from; ComfyUI gives its own.

    Raises:
        MissingDependency: no such file.
        InputError: damaged, no identity adapter, or one for another base model.
    """
    path = Path(path)
    tensors = read_tensors(path)
    stored_layout = layout or (read_metadata(path).get("layout") if path.suffix == ".safetensors" else None)
    return build_adapter(sort_adapter(tensors, path.name), path.name, stored_layout, ops)


def build_adapter(parts: AdapterTensors, name: str, layout: str | None = None, ops: ModuleType = nn) -> IdentityAdapter:
    """Build an adapter from a file's sorted tensors."""
    same_tensors = {"plus", "plusv2"}
    if layout and layout != parts.layout and not {layout, parts.layout} <= same_tensors:
        raise InputError(f"{name} has the layout {parts.layout}, not {layout}.")
    layout = layout or parts.layout
    projection = load_strict(build_projection(layout, parts.projection, ops), parts.projection, name)
    sites = {}
    for number in sorted({key.split(".")[0] for key in parts.sites}, key=int):
        weights = {f"to_{part}_ip.weight": parts.sites[f"{number}.to_{part}_ip.weight"] for part in "kv"}
        sites[number] = load_strict(DecoupledAttention(*weights["to_k_ip.weight"].shape, ops), weights, name)
    for key, tensor in parts.sites.items():
        check_finite(tensor, f"{key} of {name}")
    return IdentityAdapter(layout, projection, sites, parts.lora)


def new_adapter(
    widths: Mapping[str, int],
    token_width: int = 768,
    num_tokens: int = 4,
    hidden: int = 1024,
    seed: int = 0,
    clip_width: int | None = None,
) -> IdentityAdapter:
    """An untrained FaceID adapter, or a plain IP-Adapter, whose values are initialised to zero.

    Args:
        widths: channels of every site, by the adapter's numbers "1", "3", …
        token_width: of the text tokens.
        num_tokens: of a face.
        hidden: between the projection's two layers.
        seed: of the weights that are not zero.
        clip_width: numbers of CLIP's image embedding, which a plain IP-Adapter sees; None is FaceID.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if clip_width is None:
            projection = FaceProjection(hidden, token_width, num_tokens)
        else:
            projection = ClipProjection(clip_width, token_width, num_tokens)
        sites = {number: DecoupledAttention(width, token_width) for number, width in widths.items()}
    for site in sites.values():
        nn.init.zeros_(site.to_v_ip.weight)
    return IdentityAdapter("faceid" if clip_width is None else "plain", projection, sites, {})


def save_adapter(adapter: IdentityAdapter, path: Path, metadata: Mapping[str, str] | None = None) -> Path:
    """Write an adapter as safetensors atomically, under the public files' names."""
    tensors = {f"image_proj.{name}": tensor for name, tensor in adapter.projection.state_dict().items()}
    tensors |= {f"ip_adapter.{name}": tensor for name, tensor in adapter.sites.state_dict().items()}
    tensors |= {f"ip_adapter.{name}": tensor for name, tensor in adapter.lora.items()}
    return save_tensors(tensors, path, {"layout": adapter.layout, "base": "SD1.5", **(metadata or {})})


def _projection_input(embedding: FaceEmbedding, per_reference: bool, needs: Sequence[str]) -> ProjectionInput:
    """The projection's inputs: of every reference, or their weighted average."""
    missing = [_NEEDED[name] for name in needs if getattr(embedding, name) is None]
    if missing:
        raise InputError(f"this adapter needs {' and '.join(missing)}.")
    used = embedding.weights > 0
    share = embedding.weights / embedding.weights.sum()

    def value(name: str) -> Tensor | None:
        tensor = getattr(embedding, name)
        if tensor is None:
            return None
        if per_reference:
            return tensor[used]
        if name == "face_embeds":
            return embedding.averaged()[None]
        return torch.einsum("n...,n->...", tensor, share)[None]

    return ProjectionInput(**{name: value(name) for name in needs})


def _no_face(faces: ProjectionInput) -> ProjectionInput:
    """Zero inputs for the unconditional tokens, which are not zero themselves."""
    inputs = {name: value for name, value in vars(faces).items() if value is not None}
    return ProjectionInput(**{name: torch.zeros_like(value) for name, value in inputs.items()})
