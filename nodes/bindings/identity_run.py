"""The run of IdentityNet Sampler: from its inputs to the video file and the node's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...portraittalk_core.errors import InputError
from ...portraittalk_core.face.fit import check_size
from ...portraittalk_core.pipelines.render import driven_portrait, render_track
from ...portraittalk_core.renderers.animatenet.head_placement import placements
from ...portraittalk_core.renderers.contract import Callbacks
from ...portraittalk_core.renderers.identitynet.adapter import IdentityOptions
from ...portraittalk_core.renderers.identitynet.backend import Canvas
from ...portraittalk_core.renderers.identitynet.build import IdentityNetRenderer
from ...portraittalk_core.renderers.repaint import paint_latents
from ...portraittalk_core.renderers.sections import Sections
from ...portraittalk_core.types import LandmarkTrack, as_fps
from .. import texts
from ..animate_control import AnimateControl
from ..video import FrameBuffer
from . import convert, convert_audio
from . import unet as comfy_unet
from .cursor import Cursor
from .frame_masks import FrameMasks
from .input_names import inputs_named
from .painter import ComfyPainter, Sampling, batch_for
from .progress import Progress, face_mesh, show_text
from .resume import sections_of
from .temp_video import new_temp_video, temp_video, video_ui

if TYPE_CHECKING:
    from ...portraittalk_core.face.identity.embedding import FaceEmbedding
    from ..style_use import ChosenStyle


@dataclass(frozen=True)
class SamplerInputs:
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
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.face_embedding is None) != (self.adapter is None):
            missing = "adapter" if self.adapter is None else "face_embedding"
            raise InputError(f"face_embedding and adapter belong together; connect {missing} too, or neither.")
        if self.landmarks is None and self.latent is None and self.control is not None:
            object.__setattr__(self, "landmarks", self.control.track)
        if (self.landmarks is None) == (self.latent is None):
            connected = "both are" if self.latent is not None else "neither is"
            raise InputError(f"connect either landmarks, with the portrait, or a latent; {connected} connected.")
        if self.landmarks is not None and self.portrait is None:
            raise InputError("landmarks need the portrait that is to move to them; connect its picture to portrait.")
        if self.landmarks is not None:
            check_size(self.width, self.height)


class FrameCollector:
    """Collector of sampled frames and latents for the outputs and the preview."""

    def __init__(self, keep_frames: str, total: int, size: int, lost_sound: bool) -> None:
        self.buffer = FrameBuffer(keep_frames, total, size, lost_sound)
        self.latents: list[Tensor] = []
        self.last: Tensor | None = None
        self.progress = Progress()

    def callbacks(self, sections: Sections | None) -> Callbacks:
        """Callbacks for the core, with the store of finished sections."""
        show = self.buffer.preview_callback(self.progress)

        def on_picture(picture: Tensor) -> None:
            self.last = picture
            show(picture)

        return Callbacks(self.progress, on_picture, self._on_latents, sections)

    def whole_latents(self) -> Tensor:
        """All collected latents as one batch; an earlier run's come from disk, perhaps to another device."""
        return torch.cat([latents.to(self.latents[-1]) for latents in self.latents])

    def _on_latents(self, latents: Tensor) -> None:
        if self.buffer.all or not self.latents:
            self.latents.append(latents if self.buffer.all else latents[:1])


@dataclass(frozen=True)
class NodeResult:
    """Outputs and UI of the node."""

    outputs: tuple
    ui: Any


def run(model, vae, conditioning: tuple, inputs: SamplerInputs, keep_frames: str, hidden) -> NodeResult:
    """Sample the frames into a video file in the temporary folder."""
    sections = None
    if inputs.resume:
        sections = sections_of((model, vae), conditioning, inputs, hidden.unique_id, hidden.dynprompt)
    bound, out = with_face(model, inputs), new_temp_video()
    paint = _from_latent if inputs.landmarks is None else _from_landmarks
    collector = paint(bound, vae, conditioning, inputs, keep_frames, out, sections)
    buffer, resumed = collector.buffer, sections.summary if sections is not None else ""
    text = "; ".join(filter(None, (buffer.text, resumed)))
    if resumed or buffer.surprises:
        show_text(hidden.unique_id, text)
    images = convert.to_image(buffer.pictures)
    last = convert.to_image([collector.last])
    latents = collector.whole_latents() if collector.latents else vae.encode(last)
    return NodeResult((images, temp_video(out), {"samples": latents}, last), video_ui(out, text))


def with_face(model, inputs: SamplerInputs):
    """The MODEL with identity attention; the MODEL itself where no face is connected or its strength is 0."""
    if inputs.adapter is None:
        return model
    layers = texts.to_layer_weights(inputs.layer_weights)
    with inputs_named(start="start_percent", end="end_percent"):
        options = IdentityOptions(
            inputs.identity_strength, inputs.start_percent, inputs.end_percent, inputs.combine, layers
        )
    tokens = inputs.adapter.adapter.tokens(inputs.face_embedding, inputs.combine)
    return comfy_unet.bind_identity(model, inputs.adapter, tokens, options)


def _from_landmarks(model, vae, conditioning, inputs: SamplerInputs, keep_frames, out, sections) -> FrameCollector:
    picture, track = convert.to_portrait(inputs.portrait), inputs.landmarks
    with face_mesh() as mesh:
        portrait = driven_portrait(picture, track, "the portrait", mesh)
    sound = convert_audio.to_sound(inputs.audio)
    lost_sound = sound is None and inputs.audio is not None
    collector = FrameCollector(keep_frames, len(track), inputs.height * inputs.width * 3, lost_sound)
    renderer = IdentityNetRenderer(ComfyBackend(model, vae, conditioning, inputs), inputs.width, inputs.height)
    output_options = {"sound": sound, "crf": inputs.crf, "callbacks": collector.callbacks(sections)}
    render_track(portrait, track, out, renderer=renderer, **output_options)
    return collector


def _from_latent(model, vae, conditioning, inputs: SamplerInputs, keep_frames, out, sections) -> FrameCollector:
    latents, fps = convert.to_latents(inputs.latent), as_fps(inputs.fps)
    height, width = (8 * side for side in latents.shape[2:])
    sound = convert_audio.to_sound(inputs.audio)
    lost_sound = sound is None and inputs.audio is not None
    collector = FrameCollector(keep_frames, len(latents), height * width * 3, lost_sound)
    hint_track = None if inputs.control is None else inputs.control.track
    backend = ComfyBackend(model, vae, conditioning, inputs)
    mask = inputs.latent.get("noise_mask") if inputs.mask is None else inputs.mask
    masks = None if mask is None else FrameMasks(convert.to_mask_batch(mask), (height, width))
    painter = backend.painter((height, width), hint_track, len(latents), fps, masks)
    paint_latents(latents, painter, out, fps, sound=sound, crf=inputs.crf, callbacks=collector.callbacks(sections))
    return collector


@dataclass(frozen=True)
class ComfyBackend:
    """SD1.5 as ComfyUI runs it, for the core's IdentityNet renderer."""

    model: Any  # MODEL with identity attention
    vae: Any
    conditioning: tuple  # positive and negative
    inputs: SamplerInputs
    needs_motion = False  # AnimateNet Control brings the track that is drawn

    def open(self, canvas: Canvas) -> ComfyPainter:
        """A painter for one job."""
        size, job, control = (canvas.height, canvas.width), canvas.job, self.inputs.control
        hint_track = None if control is None else canvas.place(control.track)
        start = placements(canvas.place(canvas.portrait.landmarks))[0]
        return self.painter(size, hint_track, job.num_frames, job.fps, self._masks(canvas), start)

    def _masks(self, canvas: Canvas) -> FrameMasks | None:
        if self.inputs.mask is None:
            return None
        masks, picture = convert.to_mask_batch(self.inputs.mask), canvas.portrait.picture
        return FrameMasks(masks, (canvas.height, canvas.width), canvas.fit, tuple(picture.shape[:2]))

    def painter(  # noqa: PLR0913 - what differs between landmarks and a latent
        self,
        size: tuple[int, int],
        hint_track: LandmarkTrack | None,
        num_frames: int,
        fps: Fraction,
        masks: FrameMasks | None = None,
        start: Tensor | None = None,
    ) -> ComfyPainter:
        """A painter of frames of a size (height, width), controlled by the hints of a track.

        Args:
            size: of the frames, pixels.
            hint_track: on these frames.
            num_frames: in all.
            fps: of the video.
            masks: of what is painted.
            start: (6,) where the portrait's head stands on these frames.
        """
        inputs, model, vae = self.inputs, self.model, self.vae
        sampling = Sampling(
            inputs.seed, inputs.steps, inputs.cfg, inputs.sampler_name, inputs.scheduler, inputs.denoise
        )
        cursor, control = Cursor(), inputs.control
        if inputs.style is not None:
            model = inputs.style.bound(model, num_frames, fps, cursor)
        batch, more = batch_for(model, size, inputs.batch_size), {"keep": inputs.resume, "masks": masks}
        if control is None:
            return ComfyPainter(model, vae, self.conditioning, sampling, batch, cursor, **more)
        controlled = control.conditioned(self.conditioning, hint_track, cursor, start)
        video = control.video if control.moves else None
        more["looks_back"] = control.looks_back
        return ComfyPainter(control.bound(model), vae, controlled, sampling, batch, cursor, video, **more)
