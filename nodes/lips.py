"""Nodes of lip renderers: their networks, and the frames of a film that they take a speaker's lips from."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..portraittalk_core.renderers.lip.options import USUAL, LipPaintOptions
from .bindings import convert, paths
from .sockets import (
    LipReferences,
    LipRenderer,
    advanced,
    choice,
    chosen,
    face_at_input,
    film_landmarks_input,
    schema,
)
from .widgets import face_index_widget, widget

PRECISIONS = ["auto", "fp32", "fp16", "bf16"]
AUTO = "auto"
REFERENCE_INPUTS = {"references": "num_references", "lip_references": "num_lip_references"}  # by the option's name


class LoadLipRenderer(io.ComfyNode):
    """Node that loads the networks of a lip renderer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkLoadLipRenderer",
            display_name="Load Lip Renderer",
            description="Opens the networks that paint a filmed mouth anew: this package's own, those of portraittalk "
            "train lips, IP-LAP's, or MuseTalk 1.5; known by their content.",
            search_aliases=["lip sync model", "dubbing", "IP-LAP", "MuseTalk", "Wav2Lip", "LatentSync"],
            inputs=_renderers(),
            accept_all_inputs=True,
            outputs=[
                LipRenderer.Output("lip_renderer", display_name="lip_renderer", tooltip="For Dub Lips."),
                io.String.Output("name", display_name="name", tooltip="Which family, its crops, its numbers."),
            ],
        )

    @classmethod
    def validate_inputs(cls, renderer, **more) -> bool | str:
        """Accept files that appeared after the lists were made."""
        return paths.validated(lambda: _files(renderer, more))

    @classmethod
    def fingerprint_inputs(cls, renderer, **more) -> str:
        """Read again when a file has changed."""
        family, values = chosen("renderer", renderer, more)
        return paths.fingerprint(_files(renderer, more).values(), family, values.get("precision"))

    @classmethod
    def execute(cls, renderer, **more) -> io.NodeOutput:
        """Read the networks and put them under ComfyUI's memory management."""
        from .bindings.input_names import inputs_named
        from .bindings.lips import open_networks

        family, values = chosen("renderer", renderer, more)
        files = _files(renderer, more)
        with inputs_named(lips_file="file", speech_encoder="encoder"):
            opened = open_networks(files.pop("path"), family, values.get("precision", AUTO), **files)
        return io.NodeOutput(opened, opened.name)


def _renderers() -> list[io.Input]:
    """The list of renderers, and what belongs to each."""
    from .bindings.lip_files import FAMILIES, file_names, vae_names

    names = {family: file_names(family) for family in FAMILIES}
    precision = io.Combo.Input(
        "precision", options=PRECISIONS, default=AUTO, optional=True,
        tooltip="Numbers that the networks compute with: auto takes half precision on a GPU, else fp32.",
    )  # fmt: skip
    vae = io.Combo.Input(
        "vae", options=[AUTO, *vae_names()], default=AUTO, optional=True,
        tooltip="MuseTalk's VAE, that of any SD1.5, from models/vae; auto takes the one beside its file.",
    )  # fmt: skip
    encoder = io.Combo.Input(
        "encoder", options=[AUTO, *paths.encoder_names()], default=AUTO, optional=True,
        tooltip="MuseTalk's whisper-tiny, from models/audio_encoders; auto takes the one beside its file.",
    )  # fmt: skip
    beside = [advanced(vae), advanced(encoder)]
    entries = {family: [_file(names[family]), precision, *(beside if family == "musetalk" else [])] for family in names}
    every = [_file([name for found in names.values() for name in found]), precision, *beside]
    return choice(
        "renderer", entries, every,
        tooltip="lips are our networks or your own, iplap and musetalk the public ones of IP-LAP and MuseTalk 1.5.",
    )  # fmt: skip


def _file(names: list[str]) -> io.Input:
    return io.Combo.Input(
        "file", options=[AUTO, *dict.fromkeys(names)], default=AUTO, optional=True,
        tooltip="The networks' file in models/portraittalk, iplap or musetalk; auto takes the first of this "
        "renderer, else for lips our own.",
    )  # fmt: skip


def _files(renderer, beside):
    """The networks' path, and those of what goes with them; None for what lies beside."""
    from .bindings.lip_files import encoder_path, file_path, vae_path

    family, values = chosen("renderer", renderer, beside)
    files = {"path": file_path(values.get("file") or AUTO, family)}
    if family == "musetalk":
        files |= {"vae": vae_path(values.get("vae") or AUTO)}
        files |= {"speech_encoder": encoder_path(values.get("encoder") or AUTO)}
    return files


class SelectReferences(io.ComfyNode):
    """Node that chooses the frames of a film from which a lip renderer takes the speaker's face and lips."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkSelectReferences",
            display_name="Select References",
            description="Chooses frames of a film that show a lip renderer the speaker's teeth, lips and skin: from "
            "the shut mouth to the widest one, sharp, with the head as it mostly is. Or name them yourself.",
            search_aliases=["contact sheet", "reference frames", "lip sync", "dubbing"],
            inputs=_select_inputs(),
            outputs=[
                LipReferences.Output("references_out", display_name="references", tooltip="For Dub Lips."),
                io.Image.Output(
                    "contact_sheet", display_name="contact_sheet", tooltip="The chosen faces with their numbers."
                ),
                io.String.Output("indices_out", display_name="indices", tooltip="Numbers of the frames of the face."),
            ],
            is_output_node=True,  # runs with nothing after it, so that the sheet can be looked at first
        )  # fmt: skip

    @classmethod
    def execute(cls, film, face_index, landmarks=None, face_at=None, indices="", **numbers) -> io.NodeOutput:
        """Track the face, choose the frames, and show them."""
        from .bindings.input_names import inputs_named
        from .bindings.lip_select import selected

        counts = {option: numbers[name] for option, name in REFERENCE_INPUTS.items()}
        with inputs_named(**REFERENCE_INPUTS, reference_frames="indices"):
            options = LipPaintOptions(**counts, reference_frames=indices.strip() or None)
            references, sheet = selected(film, landmarks, (face_index, face_at), options)
        image = convert.to_image([sheet])
        return io.NodeOutput(references, image, references.indices, ui=ui.PreviewImage(image, cls=cls))


def reference_widgets(weights_own: int | None = None, **changes: object) -> list[io.Input]:
    """The widgets for how many references there are.

    Args:
        weights_own: a number below all others that stands for as many as the weights are made for; None: there is none.
        changes: of the widgets.
    """
    usual = dict(zip(("references", "lip_references"), USUAL, strict=True))
    low = {} if weights_own is None else {"min": weights_own}
    default = usual if weights_own is None else dict.fromkeys(usual, weights_own)
    told = "" if weights_own is None else f"; {weights_own}: as many as the weights are made for"
    return [
        widget(
            LipPaintOptions, "references", id="num_references", default=default["references"], **low, **changes,
            tooltip="Pictures of the film's own face that guide the painting; 0 takes a fifth of its frames, 1 to "
            f"25{told}.",
        ),
        widget(
            LipPaintOptions, "lip_references", id="num_lip_references", default=default["lip_references"], **low,
            **changes,
            tooltip=f"Pictures of the film's own lips that guide it; only the renderer lips looks at them{told}.",
        ),
    ]  # fmt: skip


def _select_inputs() -> list[io.Input]:
    return [
        io.MultiType.Input(
            "film", types=[io.Video, io.Image],
            tooltip="The VIDEO that is to be dubbed, or its frames as IMAGE.",
        ),
        film_landmarks_input("landmarks"),
        *reference_widgets(),
        io.String.Input(
            "indices", default="",
            tooltip="Numbers of the frames that are the references, such as 0, 12, 40; empty chooses them.",
        ),
        face_index_widget("Which face of several in the first frame that shows them: 0 is the largest."),
        face_at_input("Where the face is in the first frame that shows it, as a mask or box; before face_index."),
    ]  # fmt: skip
