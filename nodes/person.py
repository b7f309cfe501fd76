"""The Person Mask node: where people are in pictures, and where the background is."""

from __future__ import annotations

from comfy_api.latest import io

from .bindings import convert
from .bindings.progress import Progress, counted
from .sockets import schema


class PersonMask(io.ComfyNode):
    """Node that segments people from the background."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkPersonMask",
            display_name="Person Mask",
            description="Tells people from the background, with fine edges at hair, for the mask of IdentityNet "
            "Sampler and of any other sampler. Nothing to download.",
            search_aliases=["segmentation", "selfie", "remove background", "matting", "inpaint"],
            inputs=[
                io.Image.Input("images", tooltip="A portrait, or frames: each gets a mask of its own."),
            ],
            outputs=[
                io.Mask.Output("person", display_name="person", tooltip="1 where people are."),
                io.Mask.Output("background", display_name="background", tooltip="1 where no people are."),
            ],
        )

    @classmethod
    def execute(cls, images) -> io.NodeOutput:
        """Segment every picture."""
        from ..portraittalk_core.face.identity.background import person_masks

        pictures = convert.to_pictures(images)
        masks = (person_masks([picture])[0] for picture in pictures)
        person = convert.to_masks(list(counted(masks, len(pictures), Progress())))
        return io.NodeOutput(person, 1 - person)
