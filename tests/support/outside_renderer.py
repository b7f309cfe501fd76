"""A renderer from outside: one file adds it to the command line, manifests, the doctor and the docs."""

from dataclasses import dataclass

import torch

from portraittalk_core.options import check_options, option
from portraittalk_core.renderers import RendererSpec, register


@dataclass(frozen=True)
class FlatOptions:
    shade: int = option(90, 0, 255, "grey level of every picture")

    def __post_init__(self) -> None:
        check_options(self)


class FlatRenderer:
    def __init__(self, options):
        self.options = options

    def output_size(self, job):
        return job.source.landmarks.width, job.source.landmarks.height

    def render(self, job, callbacks=None):
        width, height = self.output_size(job)
        for span in job.motion:
            for _ in range(len(span)):
                yield torch.full((height, width, 3), self.options.shade, dtype=torch.uint8)


SPEC = register(RendererSpec("flat", "paints everything grey", FlatOptions, FlatRenderer))
