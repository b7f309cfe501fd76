"""Building of the lip renderers from their files."""

from __future__ import annotations

from ..devices import select_device
from .options import LipOptions
from .renderer import LipRenderer


def build(options: LipOptions) -> LipRenderer:
    """Build the renderer, which loads the options' files once.

    Raises:
        InputError: a file is damaged, or of another model.
        MissingDependency: a file that is needed is not there.
    """
    from .files import open_lip_model

    device, dtype = select_device(options.device, options.precision)
    files = {"vae": options.vae, "speech_encoder": options.speech_encoder} if options.renderer == "musetalk" else {}
    return LipRenderer(open_lip_model(options.file, device, dtype, name=options.renderer, **files), options)
