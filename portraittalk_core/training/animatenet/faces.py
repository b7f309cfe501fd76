"""Identity condition of Equation 2: each clip's face tokens in a frozen adapter's cross-attention.

Shapes: V videos, B clips, R frames of the UNet's batch (each clip's one after another), T face tokens, E their width.
Source: PortraitTalk, section 3.2 and equation 2; section 3.1 for the attentions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ...diffusion.branches import bind
from ...diffusion.sites import SITES
from ...errors import InputError, OutputError
from ...layers.attention import AttentionCall
from ...media.records import save_record
from ...renderers.identitynet.adapter import IdentityAdapter, load_adapter
from ...renderers.identitynet.decoupled_attention import DecoupledAttention
from ..data.video_clips import FACE, VideoClip, VideoData
from ..loop.low_rank import attached
from .config import AnimateTraining

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from ...face.identity.embedding import FaceEmbedding

log = logging.getLogger(__name__)

MAX_LISTED = 3  # names or reasons in an error text
FindFace = Callable[[Tensor, str], "FaceEmbedding"]  # of a picture (H, W, 3) uint8 and its name


class ClipFaces:
    """Face tokens of videos, and the frozen adapter attentions that read them.

    Args:
        adapter: as IdentityNet's stage writes it, or a public file's.
        videos: each with its face, in the order of the data.

    Raises:
        InputError: a video without a face, or one that does not fit the adapter.
    """

    def __init__(self, adapter: IdentityAdapter, videos: Sequence[VideoClip]) -> None:
        without_face = [video.name for video in videos if video.face is None]
        if without_face:
            raise InputError(_no_face(without_face))
        self.adapter = adapter.eval().requires_grad_(False)
        # one picture or several, a face is as many tokens: their average
        projected = [adapter.tokens(video.face, "average") for video in videos]
        self._tokens = torch.stack([face for face, _ in projected])  # (V, T, E)
        self._nobody = projected[0][1]  # (T, E)
        self._lora = {name: nn.Parameter(t.float(), requires_grad=False) for name, t in adapter.lora.items()}
        self._rows: Tensor | None = None  # (R, T, E)

    def fingerprint(self) -> str:
        """Hash of the face tokens."""
        return hashlib.sha256(self._tokens.cpu().contiguous().numpy().tobytes()).hexdigest()

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device and type."""
        self.adapter.to(device, dtype)
        for tensor in self._lora.values():
            tensor.data = tensor.data.to(device)  # the same tensors: they are bound to the UNet
        self._tokens, self._nobody = self._tokens.to(device), self._nobody.to(device)

    def show(self, videos: Sequence[int], num_frames: int, hidden: Tensor) -> None:
        """Set the face tokens of the next batch.

        Args:
            videos: number of each clip's video.
            num_frames: of a clip.
            hidden: (B,) bool: clips without their face embedding.
        """
        faces = self._tokens[list(videos)].clone()
        faces[hidden.to(faces.device)] = self._nobody
        self._rows = faces.repeat_interleave(num_frames, 0)

    @contextlib.contextmanager
    def bound(self, unet: UNet2DConditionModel) -> Iterator[None]:
        """Bind the adapter and its LoRA to a UNet within the context.

        Raises:
            InputError: the adapter does not fit the UNet.
        """
        sites = {site.index: self.adapter.sites[site.adapter_key] for site in SITES}
        for site in SITES:
            base_key, adapter_key = unet.get_submodule(site.attention(2)).to_k.weight, sites[site.index].to_k_ip.weight
            if base_key.shape != adapter_key.shape:
                raise InputError(
                    f"the identity's keys at {site.adapter_key} are {tuple(adapter_key.shape)}, the checkpoint's are "
                    f"{tuple(base_key.shape)}; an SD1.5 adapter needs an SD1.5 checkpoint."
                )
        branches = {index: [self._branch(site)] for index, site in sites.items()}
        with bind(unet, branches), attached(unet, self._lora):
            try:
                yield
            finally:
                self._rows = None

    def _branch(self, site: DecoupledAttention) -> Callable[[Tensor, AttentionCall], Tensor]:
        def attend(queries: Tensor, call: AttentionCall) -> Tensor:
            tokens = self._rows.to(site.to_k_ip.weight.dtype)
            return site(queries.to(tokens), tokens, call.heads).to(queries)

        return attend


def read_faces(
    data: VideoData, config: AnimateTraining, notify: Callable[[], None]
) -> tuple[VideoData, ClipFaces | None, tuple[tuple[str, str], ...]]:
    """Face embeddings of all videos where the configuration has an identity; absent ones are computed and saved.

    Args:
        data: videos of `config.data`.
        config: its `identity`, and `face_models` for embeddings that are not there yet.
        notify: called after every video; may raise to stop.

    Returns:
        The videos whose faces are known, their faces (None without an identity), and name and reason of all others.

    Raises:
        InputError: an embedding is absent and no face models are named, no face can be used, or the adapter's file
            cannot.
        MissingDependency: face models or what runs them are absent.
    """
    if config.identity is None:
        return data, None, ()
    adapter = load_adapter(config.identity)
    needs_view = {"clip_states", "clip_embeds"} & set(adapter.projection.needs)
    if needs_view and config.clip_vision is None and any(_is_missing(video, needs_view) for video in data.videos):
        raise InputError(
            f"{config.identity.name} also looks at faces by CLIP vision: name its file as clip_vision, or take a "
            "faceid or portrait adapter."
        )
    missing = [video.name for video in data.videos if _is_missing(video, needs_view)]
    if missing and config.face_models is None:
        raise InputError(_no_face(missing))
    videos, dropped = [], []
    with contextlib.ExitStack() as stack:
        find = _finder(config, stack) if missing else None
        for video in data.videos:
            try:
                videos.append(_with_face(video, config.data, find) if _is_missing(video, needs_view) else video)
            except InputError as error:  # no face is found in the reference
                dropped.append((video.name, str(error)))
                log.warning("%s is left out: %s", video.name, error)
            notify()
    if not videos:
        raise InputError(f"no video's face can be used: {'; '.join(reason for _, reason in dropped[:MAX_LISTED])}")
    return VideoData(videos, data.num_frames), ClipFaces(adapter, videos), tuple(dropped)


def _no_face(names: Sequence[str]) -> str:
    listed = ", ".join(names[:MAX_LISTED]) + (
        f" and {len(names) - MAX_LISTED} others" if len(names) > MAX_LISTED else ""
    )
    return (
        f"{listed}: no face embedding ({FACE} in the video's folder), which training with an identity needs; name "
        "face_models, the folder with InsightFace's buffalo_l, and it is computed once, or leave identity out."
    )


def _is_missing(video: VideoClip, view: set[str]) -> bool:
    return video.face is None or any(getattr(video.face, name) is None for name in view)


def _with_face(video: VideoClip, folder: Path, find: FindFace) -> VideoClip:
    picture = ((video.read(video.reference) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous()
    face = find(picture, video.name)
    try:
        save_record(face, folder / video.name / FACE)
    except OutputError as error:
        log.warning("the face of %s is not kept: %s", video.name, error)
    return dataclasses.replace(video, face=face)


def _finder(config: AnimateTraining, stack: contextlib.ExitStack) -> FindFace:
    """Face encoder with the user's models."""
    from ...face.identity.clip_crop import load_clip_vision, with_clip_view
    from ...face.identity.encoder import CROP_PX, FaceEncoder, find_face_models

    encoder = stack.enter_context(FaceEncoder(find_face_models(config.face_models)))
    clip = load_clip_vision(config.clip_vision) if config.clip_vision else None

    def find(picture: Tensor, name: str) -> FaceEmbedding:
        result = encoder.encode([picture], [name], crop_px=CROP_PX)
        return result.embedding if clip is None else with_clip_view(result.embedding, result.crops, clip)

    return find
