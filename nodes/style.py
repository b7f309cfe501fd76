"""Style nodes: the style prior of a reference or a preset, and interpolation of two styles."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..portraittalk_core.motion.options import MotionOptions
from ..portraittalk_core.style.options import StyleUse
from . import texts
from .bindings import paths
from .bindings.face_recon import face_recon_names, face_recon_path
from .sockets import Landmarks, Style, advanced, schema
from .style_files import (
    BUILT_IN,
    NO_FILE,
    attention_input,
    managed_attention,
    strength_curve_input,
    style_files,
    style_output,
)
from .widgets import face_index_widget, sound_track_widget, widget, widgets

OF_THE_REFERENCE = "of the reference"


class StylePrior(io.ComfyNode):
    """Node that estimates a style prior from a reference, or takes a preset by name."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        from ..portraittalk_core.style.presets import PRESETS

        return schema(
            node_id="PortraitTalkStylePrior",
            display_name="StylePrior",
            description="How someone speaks, as a distribution: from a reference video, or by name. Lent to any face, "
            "by AudioToLandmarks for the motion and by IdentityNet Sampler for the picture.",
            search_aliases=["speaking style", "SVP", "talking style", "emotion", "style transfer"],
            inputs=[
                io.Combo.Input(
                    "preset", options=[OF_THE_REFERENCE, *PRESETS], default=OF_THE_REFERENCE,
                    tooltip="The style of the reference below, or one by its name, which needs no reference.",
                ),
                *widgets(StyleUse, ("strength", "noise", "seed")),
                io.Video.Input("video", optional=True, tooltip="The reference; its own sound is used too."),
                io.Image.Input("frames", optional=True, tooltip="Frames of the reference instead of a video."),
                Landmarks.Input("landmarks", optional=True, tooltip="The reference's landmarks, if there are any yet."),
                io.Audio.Input("audio", optional=True, tooltip="The reference's sound, where the video has none."),
                *_advanced_inputs(),
                advanced(
                    io.Combo.Input(
                        "face_recon", options=[NO_FILE, *face_recon_names()], default=NO_FILE, optional=True,
                        tooltip="Measures expressions for extractors over 3DMM coefficients or blendshapes, from "
                        "models/portraittalk: a 3DMM encoder, MediaPipe's task file with blendshapes, or a BFM folder.",
                    )
                ),
            ],
            outputs=[
                style_output(),
                io.Image.Output("plot", display_name="plot", tooltip="What is special about the style."),
                io.String.Output("summary", display_name="summary", tooltip="The style in one line."),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(
        cls, extractor=NO_FILE, style_attention=NO_FILE, encoder=NO_FILE, face_recon=NO_FILE
    ) -> bool | str:
        """Accept files that appeared after the lists were made."""
        return paths.validated(
            lambda: (style_files(extractor, style_attention), _encoder_path(encoder), _recon_path(face_recon))
        )

    @classmethod
    def execute(cls, preset, strength, noise, seed, **inputs) -> io.NodeOutput:
        """Look the preset up, or estimate the style of the reference."""
        from ..portraittalk_core.style.reference import named_style
        from .style_use import ChosenStyle, style_image, style_summary

        use, curve = StyleUse(strength, noise, seed), inputs.pop("strength_curve", None)
        extractor, attention = style_files(inputs.pop("extractor", NO_FILE), inputs.pop("style_attention", NO_FILE))
        named = preset != OF_THE_REFERENCE
        style = named_style(preset, use) if named else _reference_style(use, extractor, **inputs)
        node_style, plot = ChosenStyle(style, managed_attention(attention), curve), style_image(style)
        return io.NodeOutput(node_style, plot, style_summary(style), ui=ui.PreviewImage(plot, cls=cls))


class BlendStyles(io.ComfyNode):
    """Node that interpolates two styles, with a fixed share or one that changes over time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkBlendStyles",
            display_name="Blend Styles",
            description="Mixes two styles, or lets one turn into the other while the person speaks.",
            inputs=[
                Style.Input("style_a", tooltip="The style at share 0."),
                Style.Input("style_b", tooltip="The style at share 1; of the same kind."),
                io.Float.Input(
                    "share", default=0.5, min=0.0, max=1.0, step=0.01, tooltip="How much of style_b, from 0 to 1."
                ),
                io.String.Input(
                    "over_time", default="", optional=True,
                    tooltip="A change while speaking instead: [[seconds, share], …], for example [[0, 0], [4, 1]].",
                ),
            ],
            outputs=[
                style_output(),
                io.Image.Output("plot", display_name="plot", tooltip="Both styles, or the one between them."),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def execute(cls, style_a, style_b, share, over_time="") -> io.NodeOutput:
        """Interpolate the styles."""
        from .style_use import blended, style_image

        mixed = blended(style_a, style_b, share, texts.to_points(over_time, "over_time"))
        plot = style_image(mixed.style)
        return io.NodeOutput(mixed, plot, ui=ui.PreviewImage(plot, cls=cls))


def _advanced_inputs() -> list[io.Input]:
    return [
        advanced(
            io.Combo.Input(
                "extractor", options=[NO_FILE, BUILT_IN, *paths.style_names("extractor")], default=BUILT_IN,
                optional=True, tooltip="What tells speakers apart: the built-in extractor, which sees and does not "
                "hear; one of `portraittalk train style`, from models/portraittalk; or none: the motion's measures.",
            )
        ),
        advanced(attention_input()),
        advanced(
            widget(
                MotionOptions, "fps", optional=True,
                tooltip="Frames per second of the frames input; a video knows its own.",
            )
        ),
        face_index_widget("Whose style, of several faces: 0 is the largest.", optional=True, advanced=True),
        advanced(
            io.Combo.Input(
                "encoder", options=[NO_FILE, *paths.encoder_names()], default=NO_FILE, optional=True,
                tooltip="Speech encoder for extractors that hear by one (Whisper tiny), from models/audio_encoders.",
            )
        ),
        strength_curve_input(),
        sound_track_widget("the video"),
    ]  # fmt: skip


def _encoder_path(name):
    return None if name == NO_FILE else paths.encoder_path(name)


def _recon_path(name):
    return None if name == NO_FILE else face_recon_path(name)


def _measuring(extractor, name):
    """Path of what measures expressions for an opened extractor; None where its own measure is landmarks.

    Raises:
        InputError: a file is chosen that would not count.
    """
    from ..portraittalk_core.errors import InputError
    from ..portraittalk_core.style.features import MEASURED_EXPRESSION

    if name != NO_FILE and (extractor is None or extractor.sizes.expression == MEASURED_EXPRESSION):
        why = "no extractor is chosen" if extractor is None else f"{extractor.name} reads landmarks"
        raise InputError(
            f"face_recon {name} measures 3DMM coefficients or blendshapes for an extractor that reads them, and {why}; "
            f"choose such an extractor, or set face_recon to {NO_FILE}."
        )
    return _recon_path(name)


def _reference_style(use, extractor, encoder=NO_FILE, face_recon=NO_FILE, **reference_inputs):
    """The style prior of whichever reference is connected."""
    from ..portraittalk_core.speech.encoders import load_speech_encoder
    from ..portraittalk_core.style.extractor import load_extractor
    from ..portraittalk_core.style.features import WHISPER
    from ..portraittalk_core.style.reference import style_of
    from .bindings.progress import Progress
    from .style_reference import reference_of

    opened = None if extractor is None else load_extractor(extractor)
    path = _encoder_path(encoder) if opened is not None and opened.sizes.audio == WHISPER else None
    speech_encoder = None if path is None else load_speech_encoder(path)
    hears = opened is not None and opened.hears
    reference = reference_of(hears, **reference_inputs, face_recon=_measuring(opened, face_recon))
    if not (hears or reference.tracks):
        opened = None  # what cannot hear has nothing to go by: `style_of` says so
    return style_of(reference, use, opened, speech_encoder, Progress())
