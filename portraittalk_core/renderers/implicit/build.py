"""Building of the renderers liveportrait and facevid2vid from their files."""

from __future__ import annotations

from pathlib import Path

from ...errors import InputError
from ...media.text_files import parse_json, read_text
from ...motion.points import MAX_POINTS_BYTES
from ..devices import select_device
from .compiled import compile_networks
from .options import ImplicitOptions
from .renderer import ImplicitRenderer

POINTS_EXAMPLE = "[[0, 1], [2.5, 0.4], [3, 1]]"


def build(options: ImplicitOptions) -> ImplicitRenderer:
    """Build the renderer, which loads the options' files once.

    Raises:
        InputError: a file is damaged, of another model, or of the other family; a bad curve of alpha.
        MissingDependency: a file that is needed is not there.
    """
    from .files import open_keypoint_model

    alpha = alpha_of(options)
    device, dtype = select_device(options.device, options.precision)
    model, retargeting = open_keypoint_model(Path(options.keypoints_folder), device, dtype, layout=options.layout)
    if options.bridge == "lips" and retargeting is None:
        raise InputError(
            f"`bridge` lips needs stitching_retargeting_module, which {options.keypoints_folder} lacks; put it there, "
            "or take warp."
        )
    driver = None
    if options.audio2exp is not None:
        from .audio2exp.driver import Audio2ExpDriver

        driver = Audio2ExpDriver.open(options.audio2exp, options.hubert, device)
    if options.compile:
        compile_networks(model)
    return ImplicitRenderer(model, retargeting, options, driver, alpha)


def alpha_of(options: ImplicitOptions) -> float | list[tuple[float, float]]:
    """Alpha of the options: a number, or the points of their file times it.

    Raises:
        InputError: the file holds no points, or points that are out of order or out of range.
    """
    strength = options.strength(options.audio2exp is not None)
    if options.alpha_points is None:
        return strength
    from .audio2exp.alpha import AlphaCurve

    text = read_text(options.alpha_points, "the points of alpha", "give a JSON file", MAX_POINTS_BYTES)
    listed = parse_json(text, "the list of alpha's points", f"write it as {POINTS_EXAMPLE}")
    if not isinstance(listed, list):
        raise InputError(f"the points of alpha must be a list such as {POINTS_EXAMPLE}.")
    AlphaCurve(listed)
    return [(float(seconds), min(2.0, float(amount) * strength)) for seconds, amount in listed]
