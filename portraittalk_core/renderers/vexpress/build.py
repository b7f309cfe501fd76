"""The V-Express renderer of portraits and films: driven by the speech's audio and by the motion's head keypoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from ...errors import InputError
from ...motion.resample import join_tracks
from ...style.attention import style_conditioning
from ...style.attention_files import VEXPRESS
from ..contract import Callbacks, Film, RenderJob
from ..devices import select_device
from ..warp.build import source_size
from .film import paint_film
from .options import VExpressRendererOptions
from .pipeline import VExpressFiles, VExpressModels, VExpressOptions, load_models, paint_vexpress


def build(options: VExpressRendererOptions) -> VExpressRenderer:
    """Build the renderer, which loads the options' files once."""
    device_dtype = select_device(options.device, options.precision)
    files = VExpressFiles([options.vexpress_folder], options.vae or options.checkpoint, options.speech_encoder)
    return VExpressRenderer(load_models(files, *device_dtype), options.painting, options, device_dtype)


class VExpressRenderer:
    """Renders a speaking portrait, or the face of a film, with V-Express.

    Args:
        models: V-Express's networks.
        painting: how they paint.
        options: where the file of a style attention stands; None for none.
        device_dtype: device and dtype of such an attention.
    """

    repaints_all = True  # of a portrait, not its face alone

    def __init__(
        self,
        models: VExpressModels,
        painting: VExpressOptions,
        options: VExpressRendererOptions | None = None,
        device_dtype: tuple | None = None,
    ) -> None:
        self.models, self.painting, self.options, self.device_dtype = models, painting, options, device_dtype

    def output_size(self, job: RenderJob) -> tuple[int, int]:
        """Width and height of the painted frames, or of the film."""
        return source_size(job) if isinstance(job.source, Film) else (self.painting.width, self.painting.height)

    def render(self, job: RenderJob, callbacks: Callbacks | None = None) -> Iterator[Tensor]:
        """(H, W, 3) uint8 pictures; `on_progress` counts layers and frames.

        Raises:
            InputError: the job has no speech.
        """
        if job.speech is None:
            raise InputError("the renderer vexpress listens to the speech itself; give the speech too.")
        motion = tuple(job.motion)
        track = join_tracks(motion) if motion else None
        on_progress = (callbacks or Callbacks()).on_progress
        if isinstance(job.source, Film):
            yield from paint_film(job.source, track, job.speech, self._styled(job), self.painting, on_progress)
            return
        yield from paint_vexpress(job.source, track, job.speech, self._styled(job), self.painting, on_progress)

    def _styled(self, job: RenderJob) -> VExpressModels:
        if self.options is None or self.options.style_attention is None:
            return self.models
        length = (job.num_frames, job.fps)
        style = style_conditioning(job.style, self.options.style_attention, self.device_dtype, VEXPRESS, length)
        return replace(self.models, style=style)
