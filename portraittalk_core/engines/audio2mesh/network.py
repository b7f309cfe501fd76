"""The network of AniPortrait's audio2mesh, and its public weight file.

Source: H. Wei, Z. Yang, Z. Wang, "AniPortrait" (arXiv 2403.17694), section 3.1, and its public weights audio2mesh.pt.

Shapes: F frames at 30 Hz, D feature channels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import InputError
from ...face.topology import NUM_MESH_POINTS
from ...speech.encoders import wave_network, without_prefix
from ...weights.load import load_strict, read_tensors


class MeshNet(nn.Module):
    """wav2vec 2.0 with features resampled to the video's frame rate, and two linear layers."""

    def __init__(self, audio_encoder: nn.Module, latents: int, num_values: int) -> None:
        """Build the network around `transformers`' Wav2Vec2Model."""
        super().__init__()
        self.audio_encoder = audio_encoder
        self.in_fn = nn.Linear(audio_encoder.config.hidden_size, latents)
        self.out_fn = nn.Linear(latents, num_values)

    def forward(self, features: Tensor) -> Tensor:
        """(F, 468, 3) displacements of (F, D) convolution features."""
        projected, _ = self.audio_encoder.feature_projection(features[None])
        encoded = self.audio_encoder.encoder(projected).last_hidden_state[0]
        return self.out_fn(self.in_fn(encoded)).reshape(-1, NUM_MESH_POINTS, 3)


def load_mesh_net(path: Path, device: torch.device | str = "cpu") -> MeshNet:
    """The network in AniPortrait's weight file audio2mesh.pt, recognised by the names and shapes of its tensors.

    Args:
        path: the file, as PyTorch or safetensors.
        device: where it is to compute.

    Raises:
        MissingDependency: no such file, or `transformers` is not installed.
        InputError: the file is damaged or holds something else.
    """
    path = Path(path)
    tensors = read_tensors(path)
    ends = {name: tensors.get(f"{name}.weight") for name in ("in_fn", "out_fn")}
    if any(weight is None or weight.ndim != 2 for weight in ends.values()):
        other = (
            "AniPortrait's audio2pose"
            if "pose_map.weight" in tensors
            else f"it holds {', '.join(list(tensors)[:3])}, …"
        )
        raise InputError(f"{path.name} is not AniPortrait's audio2mesh.pt ({other}); choose that file.")
    num_values, latents = ends["out_fn"].shape
    if num_values != 3 * NUM_MESH_POINTS:
        raise InputError(f"{path.name} moves {num_values / 3:g} points; audio2mesh moves {NUM_MESH_POINTS}.")
    encoder = wave_network(without_prefix(tensors, "audio_encoder."), path.name)
    if encoder.config.feat_extract_norm != "group":
        raise InputError(f"{path.name} holds a large wav2vec 2.0; audio2mesh has wav2vec2-base-960h.")
    net = MeshNet(encoder, latents, num_values)
    rest = {name: value for name, value in tensors.items() if not name.startswith("audio_encoder.")}
    filled = {**{f"audio_encoder.{name}": value for name, value in encoder.state_dict().items()}, **rest}
    return load_strict(net, filled, path.name).to(device)
