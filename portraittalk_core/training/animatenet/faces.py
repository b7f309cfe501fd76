"""Identity condition of Equation 2: each clip's face tokens in an adapter's cross-attention.

Shapes: V videos, K known references of each, B clips, N references of a clip, R frames of the UNet's batch (each
clip's one after another), T face tokens, E their width.
Source: PortraitTalk, section 3.2 and equation 2; section 3.1 for the attentions.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from ...renderers.identitynet.face_tokens import ProjectionInput
from ..data.options import POOL
from ..data.references import ReferenceReader
from ..data.video_clips import FACE, ClipBatch, VideoClip, VideoData
from ..identitynet.config import TRAINABLE_LAYOUTS
from ..identitynet.describe import face_tokens, open_describer, stacked
from ..loop.low_rank import attached
from .config import AnimateTraining

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from ...face.identity.embedding import FaceEmbedding

log = logging.getLogger(__name__)

MAX_LISTED = 3  # names or reasons in an error text
FindFace = Callable[[Tensor, str], "FaceEmbedding"]  # of a picture (H, W, 3) uint8 and its name


@dataclass(frozen=True)
class FaceChoice:
    """How clips see faces, as the configuration has it."""

    references: int = 1  # N
    combine: str = "auto"
    learns: bool = False  # whether the adapter does
    attention: str = "decoupled"  # "unified": tokens stand behind the text's, in one attention


class ClipFaces:
    """Face tokens of videos, and the adapter attentions that read them.

    Args:
        adapter: as IdentityNet's stage writes it, or a public file's.
        videos: each with its references, or with the face of its reference frame, in the order of the data.
        choice: how many references a clip sees, and whether the adapter learns.

    Raises:
        InputError: a video without a face, one that does not fit the adapter, or an adapter that cannot learn.
    """

    def __init__(self, adapter: IdentityAdapter, videos: Sequence[VideoClip], choice: FaceChoice | None = None) -> None:
        without_face = [video.name for video in videos if video.face is None and not video.references]
        if without_face:
            raise InputError(_no_face(without_face))
        self.choice = choice or FaceChoice()
        if self.choice.learns and adapter.layout not in TRAINABLE_LAYOUTS:
            raise InputError(f"{adapter.layout} adapters cannot learn on; take a faceid or portrait adapter.")
        self.adapter = adapter.float().eval() if self.choice.learns else adapter.eval()
        adapter.requires_grad_(self.choice.learns)
        self._frames = [tuple(video.references) for video in videos]  # where the references stand; none: one face
        self._known = [self._parts(video) for video in videos]
        self._hash = self._fingerprint(videos)
        self.lora = {
            name: nn.Parameter(t.float(), requires_grad=self.choice.learns) for name, t in adapter.lora.items()
        }
        self._rows: Tensor | None = None  # (R, T, E)

    def _parts(self, video: VideoClip) -> dict[str, Tensor]:
        """(K, …) what the projection needs of each reference; where a video has a face only, one for its pictures."""
        needs = self.adapter.projection.needs
        missing = [name for name in needs if getattr(video.face, name, True) is None and not video.references]
        if missing:
            self.adapter.tokens(video.face)  # which says what it lacks
        return stacked(list(video.references.values()) or [video.face], needs)

    def _fingerprint(self, videos: Sequence[VideoClip]) -> str:
        if all(not video.references for video in videos):  # as before there were several references
            projected = torch.stack([self.adapter.tokens(video.face, "average")[0] for video in videos])
            return hashlib.sha256(projected.cpu().contiguous().numpy().tobytes()).hexdigest()
        digest = hashlib.sha256()
        for frames, parts in zip(self._frames, self._known, strict=True):
            digest.update(repr(frames).encode())
            for tensor in parts.values():
                digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """Hash of the faces."""
        return self._hash

    def trainable(self) -> dict[str, nn.Parameter]:
        """The adapter's weights and its LoRA's, where they learn."""
        if not self.choice.learns:
            return {}
        lora = {f"lora.{name}": tensor for name, tensor in self.lora.items()}
        unused = () if self.choice.attention == "decoupled" else ("sites.",)
        adapter = {n: weight for n, weight in self.adapter.named_parameters() if not n.startswith(unused)}
        return {f"identity.{name}": weight for name, weight in adapter.items()} | lora

    def place(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move to a device and type."""
        self.adapter.to(device, torch.float32 if self.choice.learns else dtype)
        for tensor in self.lora.values():
            tensor.data = tensor.data.to(device)  # the same tensors: they are bound to the UNet

    def show(self, batch: ClipBatch, num_frames: int, hidden: Tensor, generator: torch.Generator | None = None) -> None:
        """Set the face tokens of the next batch.

        Args:
            batch: its videos, and the frames of its clips, which are no references of theirs where there are others.
            num_frames: of a clip.
            hidden: (B,) bool: clips without their face embedding.
            generator: chooses references; without one they are the first.
        """
        picks = [
            self._picks(video, range(start, start + num_frames), generator)
            for video, start in zip(batch.videos, batch.starts, strict=True)
        ]
        weight = next(self.adapter.parameters())
        faces = {
            name: torch.stack([self._known[v][name][pick] for v, pick in zip(batch.videos, picks, strict=True)])
            for name in self.adapter.projection.needs
        }
        for part in faces.values():
            part[hidden] = 0.0
        faces = {name: part.to(weight.device, weight.dtype) for name, part in faces.items()}
        with torch.set_grad_enabled(self.choice.learns and torch.is_grad_enabled()):
            tokens = face_tokens(self.adapter, ProjectionInput(**faces), self.choice.combine)
        self._rows = tokens.repeat_interleave(num_frames, 0)

    def behind(self, text: Tensor) -> Tensor:
        """Text tokens (R, L, E), with the face's behind them where the attention is unified."""
        return text if self.choice.attention == "decoupled" else torch.cat([text, self._rows.to(text)], 1)

    def _picks(self, video: int, clip: range, generator: torch.Generator | None) -> list[int]:
        """Which of a video's known references a clip sees."""
        frames, count = self._frames[video], self.choice.references
        if not frames:
            return [0] * count
        outside = [number for number, frame in enumerate(frames) if frame not in clip] or list(range(len(frames)))
        if generator is None or len(outside) == 1:
            return [outside[number % len(outside)] for number in range(count)]
        if len(outside) < count:
            return [outside[number] for number in torch.randint(len(outside), (count,), generator=generator).tolist()]
        return [outside[number] for number in torch.randperm(len(outside), generator=generator)[:count].tolist()]

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
        with bind(unet, branches if self.choice.attention == "decoupled" else {}), attached(unet, self.lora):
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
    if config.references > 1 or config.remove_background or config.train_identity or config.attention == "unified":
        return _read_references(data, config, adapter, notify)
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


def _read_references(
    data: VideoData, config: AnimateTraining, adapter: IdentityAdapter, notify: Callable[[], None]
) -> tuple[VideoData, ClipFaces, tuple[tuple[str, str], ...]]:
    """The videos with embeddings of several frames each, and their faces, as `read_faces` returns them."""
    views = frozenset(adapter.projection.needs) - {"face_embeds"}
    videos, dropped = [], []
    with contextlib.ExitStack() as stack:
        reader = ReferenceReader(config.data, lambda: _finder(config, stack), config.remove_background, views)
        for video in data.videos:
            try:
                videos.append(reader.read(video, POOL if config.references > 1 else 1))
            except InputError as error:
                dropped.append((video.name, str(error)))
                log.warning("%s is left out: %s", video.name, error)
            notify()
    if not videos:
        raise InputError(f"no video's face can be used: {'; '.join(reason for _, reason in dropped[:MAX_LISTED])}")
    choice = FaceChoice(config.references, config.combine, config.train_identity, config.attention)
    return VideoData(videos, data.num_frames), ClipFaces(adapter, videos, choice), tuple(dropped)


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
    return open_describer(config.face_models, config.clip_vision, config.remove_background, stack)
