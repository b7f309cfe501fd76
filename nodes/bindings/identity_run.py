"""What IdentityNet Sampler does between its inputs and its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.face.fit import check_size, fit_to, fitted
from ...portraittalk_core.pipelines.talk import driven_portrait
from ...portraittalk_core.renderers.identitynet.adapter import IdentityOptions
from ...portraittalk_core.renderers.repaint import Watch, paint_latents, paint_track
from ...portraittalk_core.renderers.sections import Sections
from ...portraittalk_core.types import LandmarkTrack, as_fps
from .. import texts
from ..animate_control import AnimateControl
from ..video import Kept
from . import convert, paths
from . import unet as comfy_unet
from .cursor import Cursor
from .painter import ComfyPainter, Sampling, batch_for
from .progress import Progress, face_mesh, say
from .resume import sections_of

if TYPE_CHECKING:
    from ...portraittalk_core.face.identity.embedding import FaceEmbedding
    from ..style_use import ChosenStyle


@dataclass(frozen=True)
class Wanted:
    """The sampler's inputs besides the checkpoint and the text; see the node for what each means."""

    seed: int
    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    denoise: float
    identity_strength: float
    width: int
    height: int
    face_embedding: FaceEmbedding | None = None
    adapter: comfy_unet.BoundAdapter | None = None
    control: AnimateControl | None = None
    landmarks: LandmarkTrack | None = None
    portrait: Tensor | None = None
    latent: dict | None = None
    audio: dict | None = None
    start_percent: float = 0.0
    end_percent: float = 1.0
    combine: str = "auto"
    layer_weights: str = ""
    batch_size: int = 0
    fps: float = 25.0
    crf: int = 16
    style: ChosenStyle | None = None
    resume: bool = True

    def __post_init__(self) -> None:
        if (self.face_embedding is None) != (self.adapter is None):
            missing = "adapter" if self.adapter is None else "face_embedding"
            raise InputError(f"face_embedding and adapter belong together; connect {missing} too, or neither.")
        if self.landmarks is None and self.latent is None and self.control is not None:
            object.__setattr__(self, "landmarks", self.control.track)
        if (self.landmarks is None) == (self.latent is None):
            given = "both are" if self.latent is not None else "neither is"
            raise InputError(f"connect either landmarks, with the portrait, or a latent; {given} connected.")
        if self.landmarks is not None and self.portrait is None:
            raise InputError("landmarks need the portrait that is to move to them; connect its picture to portrait.")
        if self.landmarks is not None:
            check_size(self.width, self.height)


class Gathered:
    """Frames and latents on their way through: what the outputs keep, what the node shows."""

    def __init__(self, keep_frames: str, total: int, size: int) -> None:
        self.kept = Kept(keep_frames, total, size)
        self.latents: list[Tensor] = []
        self.last: Tensor | None = None
        self.progress = Progress()

    def watch(self, sections: Sections | None) -> Watch:
        """What the core tells, and where it keeps finished sections."""
        show = self.kept.and_show(self.progress)

        def on_picture(picture: Tensor) -> None:
            self.last = picture
            show(picture)

        return Watch(self.progress, on_picture, self._on_latents, sections)

    def whole_latents(self) -> Tensor:
        """All that were kept; those of an earlier run come from disk, so perhaps to another device."""
        return torch.cat([one.to(self.latents[-1]) for one in self.latents])

    def _on_latents(self, latents: Tensor) -> None:
        if self.kept.all or not self.latents:
            self.latents.append(latents if self.kept.all else latents[:1])


@dataclass(frozen=True)
class Made:
    """What the node gives."""

    outputs: tuple
    ui: Any


def run(model, vae, conditioning: tuple, wanted: Wanted, keep_frames: str, hidden) -> Made:
    """Paint the frames into a file in the temporary folder."""
    from comfy_api.input_impl import VideoFromFile
    from comfy_api.latest import ui

    sections = None
    if wanted.resume:
        sections = sections_of((model, vae), conditioning, wanted, hidden.unique_id, hidden.dynprompt)
    bound, out = with_face(model, wanted), paths.new_temp_video()
    paint = _from_latent if wanted.landmarks is None else _from_landmarks
    gathered = paint(bound, vae, conditioning, wanted, keep_frames, out, sections)
    kept, resumed = gathered.kept, sections.told if sections is not None else ""
    text = "; ".join(filter(None, (kept.text, resumed)))
    if resumed or (keep_frames == "auto" and not kept.all):
        say(hidden.unique_id, text)
    images = convert.to_image(kept.pictures)
    last = convert.to_image([gathered.last])
    latents = gathered.whole_latents() if gathered.latents else vae.encode(last)
    return Made((images, VideoFromFile(str(out)), {"samples": latents}, last), ui.PreviewText(text))


def with_face(model, wanted: Wanted):
    """The MODEL with the face in it; the MODEL itself where no face is connected or its strength is 0."""
    if wanted.adapter is None:
        return model
    layers = texts.to_layer_weights(wanted.layer_weights)
    options = IdentityOptions(
        wanted.identity_strength, wanted.start_percent, wanted.end_percent, wanted.combine, layers
    )
    tokens = wanted.adapter.adapter.tokens(wanted.face_embedding, wanted.combine)
    return comfy_unet.bind_identity(model, wanted.adapter, tokens, options)


def _from_landmarks(model, vae, conditioning, wanted: Wanted, keep_frames, out, sections) -> Gathered:
    picture, track = convert.to_portrait(wanted.portrait), wanted.landmarks
    with face_mesh() as mesh:
        whole = driven_portrait(picture, track, "the portrait", mesh)
    fit = fit_to(whole, wanted.width, wanted.height)
    face, moved = fitted(whole, fit), fit.track(track)
    gathered = Gathered(keep_frames, len(track), face.picture.numel())
    drawn = None if wanted.control is None else fit.track(wanted.control.track)
    painter = _painter(model, vae, conditioning, wanted, (wanted.height, wanted.width), drawn, (len(track), track.fps))
    sound = convert.to_waveform(wanted.audio) if wanted.audio is not None else None
    paint_track(face, moved, painter, out, sound=sound, crf=wanted.crf, watch=gathered.watch(sections))
    return gathered


def _from_latent(model, vae, conditioning, wanted: Wanted, keep_frames, out, sections) -> Gathered:
    latents = convert.to_latents(wanted.latent)
    height, width = (8 * side for side in latents.shape[2:])
    gathered = Gathered(keep_frames, len(latents), height * width * 3)
    drawn = None if wanted.control is None else wanted.control.track
    fps, watch = as_fps(wanted.fps), gathered.watch(sections)
    painter = _painter(model, vae, conditioning, wanted, (height, width), drawn, (len(latents), fps))
    sound = convert.to_waveform(wanted.audio) if wanted.audio is not None else None
    paint_latents(latents, painter, out, fps, sound=sound, crf=wanted.crf, watch=watch)
    return gathered


def _painter(model, vae, conditioning, wanted: Wanted, size: tuple, drawn: LandmarkTrack | None, length: tuple):
    """`size` is height and width, `length` frames and their rate."""
    sampling = Sampling(wanted.seed, wanted.steps, wanted.cfg, wanted.sampler_name, wanted.scheduler, wanted.denoise)
    cursor, control = Cursor(), wanted.control
    if wanted.style is not None:
        model = wanted.style.bound(model, *length, cursor)
    if control is None:
        return ComfyPainter(model, vae, conditioning, sampling, batch_for(model, size, wanted.batch_size), cursor)
    held = control.conditioned(conditioning, drawn, cursor)
    batch = batch_for(model, size, wanted.batch_size)
    video = control.video if control.moves else None
    return ComfyPainter(control.bound(model), vae, held, sampling, batch, cursor, video)
