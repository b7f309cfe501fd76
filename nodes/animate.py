"""The AnimateNet Control node: landmark ControlNet and motion module for the IdentityNet Sampler."""

from __future__ import annotations

from comfy_api.latest import io

from ..portraittalk_core.renderers.animatenet.options import AnimateNetOptions
from .bindings import convert, paths
from .sockets import AnimateControl, Landmarks, advanced, schema
from .widgets import widget

NO_MODULE = "none"
AS_TRACK, FOLLOW = "as the track", "follow, rate-limited"
PREVIEW_FRAMES, PREVIEW_PX = 32, 512


class AnimateNetControl(io.ComfyNode):
    """Node that binds landmarks, a ControlNet and a motion module into one control for the sampler."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkAnimateNetControl",
            display_name="AnimateNet Control",
            description="Makes every frame follow the landmarks, by a ControlNet that gets each frame's own drawing, "
            "and hold together over time, by an AnimateDiff motion module. Any length.",
            search_aliases=["ControlNet", "AnimateDiff", "motion module", "landmark control"],
            inputs=[
                Landmarks.Input("landmarks", tooltip="Where the face goes, frame by frame."),
                io.ControlNet.Input(
                    "control_net", optional=True, tooltip="A landmark ControlNet for SD1.5, from Load ControlNet Model."
                ),
                io.Combo.Input(
                    "motion_module", options=[NO_MODULE, *paths.weight_names(paths.MOTION)], default=NO_MODULE,
                    tooltip="AnimateDiff v1, v2, v3 or AnimateLCM for SD1.5, from models/animatediff_models.",
                ),
                widget(
                    AnimateNetOptions, "control_strength", id="strength", step=0.01,
                    tooltip="How strictly frames follow the drawings; 0 is no ControlNet.",
                ),
                widget(
                    AnimateNetOptions, "control_start", id="start_percent", step=0.01,
                    tooltip="Part of the steps at which the ControlNet sets in.",
                ),
                widget(
                    AnimateNetOptions, "control_end", id="end_percent", step=0.01,
                    tooltip="Part of the steps at which it ends.",
                ),
                widget(
                    AnimateNetOptions, "mouth_weight", step=0.05,
                    tooltip="How much more the ControlNet counts around the mouth; 1 is everywhere alike.",
                ),
                widget(
                    AnimateNetOptions, "motion_strength", step=0.01,
                    tooltip="How strongly the motion module acts; 0 is off.",
                ),
                widget(
                    AnimateNetOptions, "long_video", id="mode",
                    tooltip="Long video: each chunk begins with the last frames of the one before; or sliding windows.",
                ),
                *_advanced_inputs(),
                *_animate_net_inputs(),
            ],
            outputs=[
                AnimateControl.Output("control", display_name="control", tooltip="For IdentityNet Sampler."),
                io.Image.Output("hints", display_name="hints", tooltip="The first drawings, at most 32."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, motion_module, animate_net=NO_MODULE) -> bool | str:
        """Accept files that appeared after the list was made."""
        return paths.validated(lambda: _files(motion_module, animate_net))

    @classmethod
    def fingerprint_inputs(cls, motion_module, animate_net=NO_MODULE, **other_inputs) -> str:
        """Read again when a file has changed."""
        return paths.fingerprint(_files(motion_module, animate_net))

    @classmethod
    def execute(cls, landmarks, motion_module, strength, start_percent, end_percent, **inputs) -> io.NodeOutput:
        """Open motion module and AnimateNet, place the head, and draw the first frames."""
        from .animate_control import AnimateControl as Control

        window, overlap = inputs.pop("window", 16), inputs.pop("overlap", 4)
        video = _video(inputs.pop("mode"), window, overlap)
        track = _placed(landmarks, inputs.pop("head_placement", AS_TRACK), inputs.pop("portrait", None))
        motion, animate = _opened(motion_module, inputs.pop("animate_net", NO_MODULE))
        percents = (start_percent, end_percent)
        control = Control(
            track, strength=strength, percents=percents, motion=motion, animate=animate, video=video, **inputs
        )
        return io.NodeOutput(control, convert.to_image(control.preview(*_preview_size(track), PREVIEW_FRAMES)))


def _advanced_inputs() -> list[io.Input]:
    more = {"optional": True, "advanced": True}
    return [
        widget(
            AnimateNetOptions, "window", min=2, max=64, **more,
            tooltip="Frames that the motion module sees at once; 16 is what it was trained on.",
        ),
        widget(AnimateNetOptions, "overlap", max=32, **more, tooltip="Frames that neighbouring windows share."),
        widget(
            AnimateNetOptions, "control_style", id="style", **more,
            tooltip="The drawing that your ControlNet was trained on.",
        ),
    ]  # fmt: skip


def _animate_net_inputs() -> list[io.Input]:
    more = {"optional": True, "advanced": True}
    return [
        io.Combo.Input(
            "animate_net", options=[NO_MODULE, *paths.animate_names()], default=NO_MODULE, optional=True,
            tooltip="AnimateNet's own modules inside the ControlNet, from models/portraittalk.",
        ),
        widget(
            AnimateNetOptions, "landmark_tokens", step=0.01, **more,
            tooltip="How strongly AnimateNet looks at the landmarks; 0 is off.",
        ),
        widget(
            AnimateNetOptions, "placement_tokens", step=0.01, **more,
            tooltip="How strongly it looks at where the head stands; 0 is off.",
        ),
        widget(
            AnimateNetOptions, "features", step=0.01, **more,
            tooltip="How strongly the checkpoint looks at the ControlNet's maps, if the AnimateNet file knows how.",
        ),
        advanced(
            io.Combo.Input(
                "head_placement", options=[AS_TRACK, FOLLOW], default=AS_TRACK, optional=True,
                tooltip="follow: the head never jumps; it goes to its place at most 2 % of the picture a frame.",
            )
        ),
        io.Image.Input(
            "portrait", optional=True,
            tooltip="Where the head stands before the first frame, for follow; none: as in the first frame.",
        ),
        widget(
            AnimateNetOptions, "control_every", id="reuse_every", max=4, **more,
            tooltip="2: what the ControlNet gives serves a second step too; faster, and a little less exact.",
        ),
    ]  # fmt: skip


def _video(mode, window, overlap):
    from ..portraittalk_core.diffusion.windowed import VideoOptions

    return VideoOptions(mode, window, overlap)


def _opened(motion_module, animate_net):
    """Motion module and AnimateNet under ComfyUI's memory management; None for none."""
    from ..portraittalk_core.diffusion.motion_modules import load_motion_modules
    from ..portraittalk_core.renderers.animatenet.animate_net import load_animate_net
    from .bindings.animate import managed_animate
    from .bindings.motion import managed_motion
    from .bindings.unet import OPERATIONS

    motion_path, animate_path = _files(motion_module, animate_net)
    return (
        None if motion_path is None else managed_motion(load_motion_modules(motion_path, OPERATIONS)),
        None if animate_path is None else managed_animate(load_animate_net(animate_path, OPERATIONS)),
    )


def _files(motion_module, animate_net):
    """Their paths; None for none."""
    return (
        None if motion_module == NO_MODULE else paths.weight_path(paths.MOTION, motion_module),
        None if animate_net == NO_MODULE else paths.animate_path(animate_net),
    )


def _placed(track, head_placement, portrait):
    """The landmarks as they are, or with a rate-limited head placement."""
    if head_placement == AS_TRACK:
        return track
    from ..portraittalk_core.face.crop import fit_track_to
    from ..portraittalk_core.pipelines.render import driven_portrait
    from .bindings.animate import rate_limited
    from .bindings.progress import face_mesh

    if portrait is None:
        return rate_limited(track)
    picture = convert.to_portrait(portrait)
    fit_track_to(track, picture.shape[1], picture.shape[0])  # a head placed on another picture starts nowhere
    with face_mesh() as mesh:
        start = driven_portrait(picture, track, "the portrait", mesh)
    return rate_limited(track, start.landmarks)


def _preview_size(track):
    """Width and height, the longer one PREVIEW_PX, multiples of 8."""
    scale = PREVIEW_PX / max(track.width, track.height)
    return tuple(max(64, 8 * round(side * scale / 8)) for side in (track.width, track.height))
