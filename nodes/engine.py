"""The Load Motion Engine node: the list of engine files, and the engine opened from one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io
from torch import Tensor

from ..portraittalk_core.errors import InputError
from .bindings import paths
from .sockets import MotionEngine, advanced, choice, chosen, schema
from .widgets import widget

if TYPE_CHECKING:
    from ..portraittalk_core.engines import contract
    from ..portraittalk_core.types import Speech

BUILT_IN, AUTO = "built in", "none"


class LoadMotionEngine(io.ComfyNode):
    """Node that opens a speech-driven motion engine from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        encoder = advanced(
            io.Combo.Input(
                "encoder",
                options=[AUTO, *paths.encoder_names()],
                optional=True,
                tooltip="Speech encoder for engines that need one (GeneFace++: HuBERT large), "
                "from models/audio_encoders. Or connect audio_encoder_output later.",
            )
        )
        of_files = [encoder, *_option_widgets()]
        without, files = [BUILT_IN, *_engines_from_outside()], paths.engine_names()
        return schema(
            node_id="PortraitTalkLoadMotionEngine",
            display_name="Load Motion Engine",
            description="Opens what moves the mouth: the built-in network, one fitted to a person, or a public one.",
            search_aliases=["lip sync model", "audio2mesh", "GeneFace", "IP-LAP", "HuBERT"],
            inputs=choice(
                "engine", dict.fromkeys(without, []) | dict.fromkeys(files, of_files), of_files,
                tooltip="Files in models/portraittalk that hold a motion engine, known by their content.",
            ),
            accept_all_inputs=True,
            outputs=[
                MotionEngine.Output("motion_engine", display_name="engine", tooltip="For AudioToLandmarks."),
                io.String.Output("name", display_name="name", tooltip="What kind of engine the file holds."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, engine, **more) -> bool | str:
        """Accept files that appeared after the list was made."""
        return paths.validated(lambda: _files(engine, more))

    @classmethod
    def fingerprint_inputs(cls, engine, **more) -> str:
        """Read again when a file has changed."""
        files = _files(engine, more)
        if files is None or isinstance(files, str):
            return files or ""
        return paths.fingerprint([files.weights, files.encoder], files.options)

    @classmethod
    def execute(cls, engine, **more) -> io.NodeOutput:
        """Open the engine."""
        from ..portraittalk_core.engines.registry import open_engine

        opened = open_engine(_files(engine, more))
        return io.NodeOutput(opened, opened.name)


def _engines_from_outside():
    """Registered engines that need no file, by name."""
    from ..portraittalk_core.engines.registry import ENGINES, nameable_engines

    return [name for name in nameable_engines() if name not in {spec.name for spec in ENGINES}]


def _option_widgets() -> list[io.Input]:
    """The widgets of the options that single engines have, under the names that manifests give them."""
    return [
        widget(spec.options, option.name, id=option.column, optional=True, advanced=True)
        for spec, option in _engine_options()
    ]


def _engine_options():
    """Pairs of an engine of this pack and an option of its own."""
    from ..portraittalk_core.engines.registry import ENGINES
    from ..portraittalk_core.options import options_of

    return [(spec, option) for spec in ENGINES if spec.options for option in options_of(spec.options)]


def _files(engine, beside):
    """The argument of `open_engine` for an entry of the list and the inputs beside it."""
    from ..portraittalk_core.engines.contract import EngineFiles

    engine, values = chosen("engine", engine, beside)
    encoder = values.get("encoder", AUTO)
    if engine == BUILT_IN:
        return None
    if engine in _engines_from_outside():
        return engine
    encoder_path = None if encoder == AUTO else paths.encoder_path(encoder)
    options: dict[str, dict] = {}
    for spec, option in _engine_options():
        if values.get(option.column) is not None:
            options.setdefault(spec.name, {})[option.name] = values[option.column]
    return EngineFiles(paths.engine_path(engine), encoder_path, options=options)


def to_engine(engine: object | None, encoded: dict | None, speech: Speech) -> contract.MotionEngine:
    """The motion engine, with features of ComfyUI's own audio encoder if its output is given.

    Args:
        engine: a PORTRAITTALK_MOTION_ENGINE; None is the built-in one.
        encoded: an AUDIO_ENCODER_OUTPUT.
        speech: the clip that was encoded.

    Raises:
        InputError: the output holds no features, or the engine needs none.
    """
    from ..portraittalk_core.engines.contract import listening_to
    from ..portraittalk_core.engines.registry import open_engine
    from ..portraittalk_core.speech.encoders import features_from_tensor

    motion_engine = engine or open_engine()
    if encoded is None:
        return motion_engine
    features = encoded.get("encoded_audio") if isinstance(encoded, dict) else None
    if not isinstance(features, Tensor):
        raise InputError("audio_encoder_output holds no features; connect ComfyUI's Audio Encoder Encode to it.")
    return listening_to(motion_engine, features_from_tensor(features.float().cpu()))
