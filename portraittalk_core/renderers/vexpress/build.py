"""V-Express behind the renderers' contract: it listens to the speech itself and follows the motion's head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from ...errors import InputError
from ...motion.resample import join_tracks
from ...style.attention import style_cues
from ...style.attention_files import VEXPRESS
from ..contract import Callbacks, RenderJob
from ..devices import chosen_place
from .options import VExpressRendererOptions
from .pipeline import VExpressFiles, VExpressModels, VExpressOptions, load_models, paint_vexpress


def build(options: VExpressRendererOptions) -> VExpressRenderer:
    """The renderer that reads the options' files once."""
    place = chosen_place(options.device, options.precision)
    files = VExpressFiles([options.vexpress_folder], options.vae or options.checkpoint, options.speech_encoder)
    return VExpressRenderer(load_models(files, *place), options.painting, options, place)


class VExpressRenderer:
    """Paints all frames of a portrait that speaks.

    Args:
        models: V-Express's networks.
        painting: how they paint.
        options: where the file of a style attention stands; None for none.
        place: device and dtype of such an attention.
    """

    def __init__(
        self,
        models: VExpressModels,
        painting: VExpressOptions,
        options: VExpressRendererOptions | None = None,
        place: tuple | None = None,
    ) -> None:
        self.models, self.painting, self.options, self.place = models, painting, options, place

    def output_size(self, job: RenderJob) -> tuple[int, int]:  # noqa: ARG002 - as the contract has it
        """Width and height of the painted frames."""
        return self.painting.width, self.painting.height

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
        yield from paint_vexpress(job.source, track, job.speech, self._styled(job), self.painting, on_progress)

    def _styled(self, job: RenderJob) -> VExpressModels:
        if self.options is None or self.options.style_attention is None:
            return self.models
        length = (job.num_frames, job.fps)
        cues = style_cues(job.style, self.options.style_attention, self.place, VEXPRESS, length)
        return replace(self.models, style=cues)
