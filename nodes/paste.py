"""Face crop nodes: cropping the face for painting, and pasting it back into pictures of any size."""

from __future__ import annotations

from comfy_api.latest import io

from .bindings import convert
from .bindings.progress import Progress, counted
from .sockets import Landmarks, advanced, schema
from .widgets import widget, widgets

MASKS = ["auto", "face", "box"]


class CropFace(io.ComfyNode):
    """Node that crops square pictures of the face from a portrait or frames."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        from ..portraittalk_core.face.crop import CropOptions

        return schema(
            node_id="PortraitTalkCropFace",
            display_name="Crop Face",
            description="Cuts the face out as a square that keeps still, so that SD1.5 paints it at its own size in a "
            "picture or video of any size. Paste Face puts it back.",
            search_aliases=["face crop", "face detailer", "zoom in"],
            inputs=[
                io.Image.Input("image", tooltip="The portrait, or one picture for every frame of the landmarks."),
                Landmarks.Input("landmarks", tooltip="Where the face is, or where the portrait's face will go."),
                *_box_inputs(),
                widget(CropOptions, "size", min=64, max=1024, optional=True),
            ],
            outputs=[
                io.Image.Output("crops", display_name="crops", tooltip="The face; one picture for each given."),
                Landmarks.Output("landmarks_out", display_name="landmarks", tooltip="The same points on the crops."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, landmarks, margin, box="auto", size=512) -> io.NodeOutput:
        """Plan the crop box, crop every picture, and transform the landmarks."""
        pictures = convert.to_pictures(image)
        plan = _plan(pictures, landmarks, (margin, box, size))
        if len(pictures) > 1:
            _check_counts(len(pictures), len(plan), "pictures")
        cropped = (plan.crop(picture, index) for index, picture in enumerate(pictures))
        crops = counted(cropped, len(pictures), Progress())
        return io.NodeOutput(convert.to_image(list(crops)), plan.track_on_crop())


class PasteFace(io.ComfyNode):
    """Node that pastes painted crops back into the pictures they were cut from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        from ..portraittalk_core.renderers.paste import PasteOptions

        return schema(
            node_id="PortraitTalkPasteFace",
            display_name="Paste Face",
            description="Puts painted face crops back into the portrait or video, without a seam. What is not face "
            "stays as it is, to the last bit.",
            search_aliases=["paste back", "composite face", "uncrop", "face detailer"],
            inputs=[
                io.Image.Input("frames", tooltip="Painted crops, in the order of Crop Face; square, of any size."),
                io.Image.Input("target", tooltip="The portrait, or one picture a frame: what Crop Face was given."),
                Landmarks.Input("landmarks", tooltip="Of the target: the very track that Crop Face was given."),
                *_box_inputs(),
                *widgets(PasteOptions, ("feather", "match_colour")),
                advanced(
                    io.Combo.Input(
                        "mask", options=MASKS, default="auto", optional=True,
                        tooltip="face: its outline. box: also what has moved around it. auto: box for one portrait, "
                        "face for frames.",
                    )
                ),
            ],
            outputs=[io.Image.Output("images", display_name="images", tooltip="The target with the painted face.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, frames, target, landmarks, margin, feather, match_colour, box="auto", mask="auto"):
        """Plan the crop box as Crop Face did, and paste every frame."""
        from ..portraittalk_core.renderers.paste import PasteOptions, paste_frames

        frames, target = convert.to_pictures(frames), convert.to_pictures(target)
        plan, still = _plan(target, landmarks, (margin, box)), len(target) == 1
        _check_counts(len(frames), len(plan), "painted frames")
        _check_counts(len(frames), len(target), "painted frames", "pictures of the target")
        shape = mask if mask != "auto" else "box" if still and len(frames) > 1 else "face"
        options = PasteOptions(shape, feather, match_colour)
        pasted = paste_frames(target[0] if still else target, frames, plan, options)
        return io.NodeOutput(convert.to_image(list(counted(pasted, len(frames), Progress()))))


def _box_inputs() -> list[io.Input]:
    from ..portraittalk_core.face.crop import CropOptions

    return [widget(CropOptions, "margin"), widget(CropOptions, "box", optional=True)]


def _plan(pictures, landmarks, options):
    """The crop plan; a single picture has one fixed box for the whole track."""
    from ..portraittalk_core.face.crop import CropOptions, fit_track_to, plan_face_crop

    height, width = pictures.size
    margin, box, *size = options
    fixed = "fixed" if len(pictures) == 1 else box
    return plan_face_crop(fit_track_to(landmarks, width, height), CropOptions(margin, fixed, *size))


def _check_counts(count, expected, name, of="frames of landmarks") -> None:
    from ..portraittalk_core.errors import InputError

    if expected not in (1, count):
        raise InputError(
            f"{count} {name} do not go with {expected} {of}: give one for each. If a sampler kept only the first "
            "frame, set its keep_frames to always."
        )
