"""Building of the lip renderers from their files."""

from __future__ import annotations

from pathlib import Path

from ...errors import MissingDependency
from ...weights.catalog import SUFFIXES
from ..devices import select_device
from .options import WHISPER_ADVICE, LipOptions, MuseTalkOptions
from .renderer import LipRenderer


def build(options: LipOptions) -> LipRenderer:
    """Build the renderer, which loads the options' files once.

    Raises:
        InputError: a file is damaged, or of another model.
        MissingDependency: a file that is needed is not there.
    """
    from .files import open_lip_model

    device, dtype = select_device(options.device, options.precision)
    if not isinstance(options, MuseTalkOptions):
        return LipRenderer(open_lip_model(Path(options.lips_file), device, dtype, name=options.renderer), options)
    from .musetalk.speech import open_whisper

    whisper = options.whisper or _whisper_beside(Path(options.lips_file))
    if whisper is None:
        raise MissingDependency(
            f"MuseTalk hears by whisper-tiny, and there is none beside {Path(options.lips_file).name}: put "
            f"{WHISPER_ADVICE}, into a folder whisper beside its folder, or give it with `whisper`."
        )
    model = open_lip_model(Path(options.lips_file), device, dtype, name=options.renderer, vae=options.vae)
    return LipRenderer(model, options, open_whisper(Path(whisper), model.row_width, device))


def _whisper_beside(path: Path) -> Path | None:
    """Whisper's file where MuseTalk's own layout has it: in a folder whisper… beside that of the UNet, or within it."""
    folder = path if path.is_dir() else path.parent
    for place in (*sorted(folder.glob("whisper*")), *sorted(folder.parent.glob("whisper*"))):
        files = sorted(place.iterdir()) if place.is_dir() else [place]
        if found := [file for file in files if file.suffix.lower() in SUFFIXES and file.is_file()]:
            return found[0]
    return None
