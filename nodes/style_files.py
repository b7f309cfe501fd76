"""Style files: the Save Style and Load Style nodes, and the lists of extractors and style attentions."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..portraittalk_core.style.options import StyleUse
from .bindings import paths
from .bindings.outputs import valid_prefix
from .save_file import save_schema, save_to_output
from .sockets import Style, advanced, curve_input, schema
from .widgets import widget

NO_FILE, BUILT_IN = "none", "built-in"


class SaveStyle(io.ComfyNode):
    """Node that saves a style to a file in the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return save_schema(
            Style.Input("style", tooltip="The style to keep."),
            "styles",
            node_id="PortraitTalkSaveStyle",
            display_name="Save Style",
            description="Writes a style to ComfyUI's output folder, as a small safetensors file to keep or share.",
        )

    @classmethod
    def validate_inputs(cls, filename_prefix=None) -> bool | str:
        """Refuse a name before anything runs."""
        return valid_prefix(filename_prefix)

    @classmethod
    def execute(cls, style, filename_prefix) -> io.NodeOutput:
        """Write the next numbered file."""
        from .style_use import style_summary

        return save_to_output(style.style, filename_prefix, style_summary(style.style), cls.hidden.unique_id)


class LoadStyle(io.ComfyNode):
    """Node that loads a style from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkLoadStyle",
            display_name="Load Style",
            description="Reads a style from ComfyUI's input or output folder.",
            inputs=[
                io.Combo.Input(
                    "file", options=paths.track_names(),
                    tooltip="A .safetensors style in the input folder, or one that Save Style wrote ([output]).",
                ),
                widget(
                    StyleUse, "strength",
                    tooltip="0 leaves everything as it is, 1 speaks like the style, 2 exaggerates.",
                ),
                widget(StyleUse, "noise"),
                widget(StyleUse, "seed", tooltip="Every seed speaks a little differently, in the same style."),
                advanced(attention_input()),
                strength_curve_input(),
            ],
            outputs=[
                style_output(),
                io.Image.Output("plot", display_name="plot", tooltip="What is special about the style."),
            ],
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file, style_attention=NO_FILE) -> bool | str:
        """Accept files that appeared after the lists were made."""
        return paths.validated(lambda: (paths.track_path(file, "style"), style_files(NO_FILE, style_attention)))

    @classmethod
    def fingerprint_inputs(cls, file, **other_inputs) -> str:
        """Read again when the file has changed."""
        return paths.fingerprint([paths.track_path(file, "style")], other_inputs)

    @classmethod
    def execute(cls, file, strength, noise, seed, style_attention=NO_FILE, strength_curve=None) -> io.NodeOutput:
        """Read the file."""
        from ..portraittalk_core.style.prior import load_style, used_as
        from .style_use import ChosenStyle, style_image

        style = used_as(load_style(paths.track_path(file, "style")), strength, noise, seed)
        _, attention = style_files(NO_FILE, style_attention)
        node_style, plot = ChosenStyle(style, managed_attention(attention), strength_curve), style_image(style)
        return io.NodeOutput(node_style, plot, ui=ui.PreviewImage(plot, cls=cls))


def style_output() -> io.Output:
    """The style output of a node."""
    users = "AudioToLandmarks, IdentityNet Sampler, V-Express Portrait"
    return Style.Output("style", display_name="style", tooltip=f"For {users}.")


def attention_input() -> io.Input:
    """The input that lists style attention files."""
    return io.Combo.Input(
        "style_attention", options=[NO_FILE, *paths.style_names("attention")], default=NO_FILE, optional=True,
        tooltip="What brings the style into the checkpoint, from models/portraittalk; none acts on the motion alone.",
    )  # fmt: skip


def strength_curve_input() -> io.Input:
    """The input for a strength that changes over time."""
    return curve_input(
        "strength_curve",
        "Multiplies strength over time: a list of numbers, one a frame, or a CURVE, 0 to 1 over the whole clip. Not "
        "kept by Save Style.",
    )


def style_files(extractor, attention):
    """Paths of a style extractor, perhaps the package's, and of a style attention; None for none."""
    from ..portraittalk_core.style import extractor_files

    path = None if attention == NO_FILE else paths.style_path(attention, "attention")
    if extractor == BUILT_IN:
        return extractor_files.BUILT_IN, path
    return None if extractor == NO_FILE else paths.style_path(extractor, "extractor"), path


def managed_attention(path):
    """A style attention under ComfyUI's memory management; None for none."""
    if path is None:
        return None
    from ..portraittalk_core.style.projection import load_style_attention
    from .bindings.style import managed_style
    from .bindings.unet import OPERATIONS

    return managed_style(load_style_attention(path, OPERATIONS))
