"""V-Express: one portrait and speech become a video, by its public weights."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io, ui

from ..portraittalk_core.renderers.vexpress.options import VExpressRendererOptions
from .bindings import convert, paths
from .bindings.progress import Progress, face_mesh, say
from .engine import AUTO as NO_ENCODER
from .sockets import AudioEncoderOutput, Landmarks, Style, advanced, schema
from .video import Kept
from .widgets import crf_widget, face_index_widget, widget

FOLDER = "vexpress"
HERE = f"models/{FOLDER}"
LEAST_FILES = 4  # five, or four where the motion modules are in the UNet's
BY_THE_FACE = "auto"


class VExpressPortrait(io.ComfyNode):
    """A portrait speaks, as V-Express paints it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkVExpress",
            display_name="V-Express Portrait",
            description="Lets a portrait speak by V-Express's public weights (research use only): mouth, eyes and face "
            "from the speech, the head from landmarks if there are any. Any length. Needs pip install diffusers.",
            search_aliases=["talking head", "V-Express", "VExpress", "portrait animation", "SVP"],
            inputs=[*_main_inputs(), *_painting_inputs(), *_advanced_inputs()],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="All frames, or the first (keep_frames)."),
                io.Video.Output("video", display_name="video", tooltip="The video with its sound, for Save Video."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, networks, encoder) -> bool | str:
        """Accept files that appeared after the lists were made."""
        return paths.validated(lambda: (network_files(networks), _encoder_path(encoder)))

    @classmethod
    def fingerprint_inputs(cls, networks, encoder, **others) -> str:
        """Paint again when a file has changed."""
        return paths.fingerprint([*network_files(networks)[1], _encoder_path(encoder)])

    @classmethod
    def execute(cls, portrait, audio, vae, keep_frames, crf=16, **given) -> io.NodeOutput:
        """Hear, paint, encode, and give back the file."""
        from comfy_api.input_impl import VideoFromFile

        picture, out = convert.to_portrait(portrait), paths.new_temp_video()
        kept = _paint(picture, audio, vae, out, (keep_frames, crf), **given)
        if keep_frames == "auto" and not kept.all:
            say(cls.hidden.unique_id, kept.text)
        return io.NodeOutput(convert.to_image(kept.pictures), VideoFromFile(str(out)), ui=ui.PreviewText(kept.text))


def network_names() -> list[str]:
    """Folders in models/vexpress that may hold the networks, as names for a list; itself first."""
    found = [
        inner.relative_to(root).as_posix()
        for root in paths.model_folders(FOLDER)
        for level in ("*", "*/*", "*/*/*")
        for inner in sorted(root.glob(level))
        if inner.is_dir() and len(_weights(inner)) >= LEAST_FILES
    ]
    return [HERE, *dict.fromkeys(found)]


def network_files(name) -> tuple[Path, list[Path]]:
    """A folder of a name from `network_names`, and the weight files in it.

    Raises:
        InputError: it is not there, or holds no weight files.
    """
    from ..portraittalk_core.errors import InputError
    from ..portraittalk_core.renderers.vexpress.load import PARTS, SOURCE

    for root in paths.model_folders(FOLDER):
        folder = (root if name == HERE else root / name).resolve()
        if folder.is_relative_to(root.resolve()) and folder.is_dir() and _weights(folder):
            return folder, _weights(folder)
    files = ", ".join(PARTS.values())
    where = HERE if name == HERE else f"{HERE}/{name}"
    raise InputError(f"V-Express's weights are not in {where}; get {files} from {SOURCE} and put them there.")


def _weights(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in paths.WEIGHTS and path.is_file())


def _encoder_path(name) -> Path | None:
    return None if name == NO_ENCODER else paths.encoder_path(name)


def _paint(picture, audio, vae, out, video: tuple, **given) -> Kept:
    """Paint the frames into a file; `video` is which frames to keep, and the quality."""
    from ..portraittalk_core.errors import InputError
    from ..portraittalk_core.renderers.contract import Callbacks, RenderJob
    from ..portraittalk_core.renderers.vexpress.build import VExpressRenderer
    from ..portraittalk_core.renderers.vexpress.pipeline import FPS
    from ..portraittalk_core.renderers.write import render_video
    from ..portraittalk_core.style.attention_files import VEXPRESS
    from .bindings import vexpress as comfy_vexpress

    speech, track, keep = convert.to_speech(audio), given.pop("landmarks", None), video[0]
    style = given.pop("style", None)
    hears = _encoder(given.pop("encoder"), given.pop("audio_encoder_output", None))
    networks, face_index = given.pop("networks"), given.pop("face_index", 0)
    face, options = _face_and_options(picture, track, face_index, given)
    fps = FPS if track is None else track.fps
    count = speech.num_frames(fps)
    styled = None if style is None else style.in_frames(count, fps, VEXPRESS)
    models = comfy_vexpress.models_of(network_files(networks), vae, hears, options, styled)
    kept, progress = Kept(keep, count, options.width * options.height * 3), Progress()
    job = RenderJob(face, () if track is None else (track,), count, fps, speech)
    renderer, callbacks = VExpressRenderer(models, options), Callbacks(progress, kept.and_show(progress))
    try:
        render_video(renderer, job, out, sound=convert.to_waveform(audio), crf=video[1], callbacks=callbacks)
    except comfy_vexpress.OUT_OF_MEMORY as error:
        raise InputError(
            f"there is not enough memory for {options.length} frames of {options.width}×{options.height} at once; "
            "lower window, width or height."
        ) from error
    return kept


def _face_and_options(picture, track, face_index, given):
    """The portrait, and how to paint it."""
    from ..portraittalk_core.face.mesh.landmarks import find_portrait
    from ..portraittalk_core.motion.transfer import belongs_to
    from ..portraittalk_core.renderers.vexpress.pipeline import VExpressOptions

    given["length"], given["guidance"] = given.pop("window", 24), given.pop("cfg")
    strategy = given.pop("head", BY_THE_FACE)
    with face_mesh() as mesh:
        face = find_portrait(picture, face_index, source="the portrait", mesh=mesh)
    if track is None:
        strategy = "fix_face"
    elif strategy == BY_THE_FACE:
        strategy = "no_retarget" if belongs_to(track, face.landmarks) else "naive_retarget"
    return face, VExpressOptions(**given, strategy=strategy)


def _encoder(name, encoded):
    """What hears the speech."""
    from ..portraittalk_core.errors import InputError
    from ..portraittalk_core.speech.encoders import GivenFeatures, features_from_tensor, load_speech_encoder

    if encoded is not None:
        values = encoded.get("encoded_audio") if isinstance(encoded, dict) else None
        return GivenFeatures(features_from_tensor(values, "audio_encoder_output"))
    path = _encoder_path(name)
    if path is None:
        raise InputError(
            "V-Express hears by wav2vec 2.0 base: put facebook/wav2vec2-base-960h into models/audio_encoders and "
            "choose it as encoder."
        )
    return load_speech_encoder(path)


def _main_inputs() -> list[io.Input]:
    return [
        io.Image.Input("portrait", tooltip="The picture that is to speak; of a batch, the first."),
        io.Audio.Input("audio", tooltip="What it says; also the sound of the video, in its own quality."),
        io.Vae.Input("vae", tooltip="The VAE of any SD1.5 checkpoint, or sd-vae-ft-mse."),
        io.Combo.Input(
            "networks", options=network_names(), default=HERE,
            tooltip="Folder with V-Express's five files, known by their content.",
        ),
        io.Combo.Input(
            "encoder", options=[NO_ENCODER, *paths.encoder_names()], default=NO_ENCODER,
            tooltip="wav2vec2-base-960h in models/audio_encoders; not needed with audio_encoder_output.",
        ),
        widget(VExpressRendererOptions, "seed", tooltip="Of the noise."),
    ]  # fmt: skip


def _painting_inputs() -> list[io.Input]:
    return [
        widget(VExpressRendererOptions, "steps", max=200, tooltip="Steps of denoising."),
        widget(
            VExpressRendererOptions, "cfg", step=0.1,
            tooltip="How strictly speech, look and head are followed; 1 takes half the time.",
        ),
        widget(
            VExpressRendererOptions, "reference_weight", step=0.01, tooltip="How strongly the portrait's look acts."
        ),
        widget(VExpressRendererOptions, "audio_weight", step=0.05, tooltip="How strongly the speech acts."),
        widget(VExpressRendererOptions, "width", step=8, tooltip="Of the frames, cut around the face."),
        widget(VExpressRendererOptions, "height", step=8, tooltip="Of the frames, cut around the face."),
        io.Combo.Input(
            "keep_frames", options=["auto", "always", "never"], default="auto",
            tooltip="Give all frames as IMAGE too: auto does up to 300 frames and 2 GB of memory.",
        ),
    ]  # fmt: skip


def _advanced_inputs() -> list[io.Input]:
    from ..portraittalk_core.renderers.vexpress.retarget import STRATEGIES

    more = {"optional": True, "advanced": True}
    return [
        Landmarks.Input("landmarks", optional=True, tooltip="Whose head is followed, and at which frame rate."),
        AudioEncoderOutput.Input(
            "audio_encoder_output", optional=True,
            tooltip="From ComfyUI's own Audio Encoder with wav2vec2-base-960h, of the same audio.",
        ),
        Style.Input(
            "style", optional=True,
            tooltip="How the person speaks, from StylePrior; acts where a style attention was chosen there.",
        ),
        advanced(
            io.Combo.Input(
                "head", options=[BY_THE_FACE, *STRATEGIES], default=BY_THE_FACE, optional=True,
                tooltip="How landmarks move the head: auto takes the portrait's own as they are and fits another's.",
            )
        ),
        widget(
            VExpressRendererOptions, "vexpress_window", id="window", max=32, **more,
            tooltip="Frames that are seen at once.",
        ),
        widget(VExpressRendererOptions, "overlap", max=31, **more, tooltip="Frames that windows share."),
        face_index_widget("Which face of the portrait, if there are several: 0 is the largest.", **more),
        crf_widget(optional=True),
    ]  # fmt: skip
