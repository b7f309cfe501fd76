"""Builds JoyVASA's engine from its two files."""

from __future__ import annotations

import torch

from ..contract import EngineFiles
from .engine import JoyVasa
from .files import load_generator, load_template, template_beside
from .options import JoyVasaOptions
from .spec import SPEC


def build(files: EngineFiles) -> JoyVasa:
    """The engine of a motion generator, on the GPU where there is one; the template is looked for beside it.

    Raises:
        InputError: a file is damaged or of another model, or an option out of its range.
        MissingDependency: the template is missing; the text says where from.
    """
    options = JoyVasaOptions(**files.options.get(SPEC.name, {}))
    template = template_beside(files.weights)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, hubert = (part.to(device) for part in load_generator(files.weights))
    return JoyVasa(network, hubert, load_template(template), options)
