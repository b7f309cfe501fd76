"""The V-Express Portrait node: a talking video of a portrait from speech, by V-Express's public weights."""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io

from ..portraittalk_core.renderers.vexpress.options import VExpressRendererOptions
from .bindings import convert, convert_audio, paths
from .bindings.progress import Progress, face_mesh, show_text
from .bindings.temp_video import new_temp_video, temp_video, video_ui
from .engine import AUTO as NO_ENCODER
from .sockets import AudioEncoderOutput, Landmarks, Style, advanced, schema
from .video import FrameBuffer
from .widgets import ai_mark_widget, crf_widget, face_index_widget, keep_frames_widget, marked, widget

FOLDER = "vexpress"
MODEL_FOLDER = f"models/{FOLDER}"
MIN_FILES = 4  # five, or four where the motion modules are in the UNet's
BY_THE_FACE = "auto"


class VExpressPortrait(io.ComfyNode):
    """Node that samples a talking portrait with V-Express."""

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
            has_intermediate_output=True,
        )

    @classmethod
    def validate_inputs(cls, networks, encoder) -> bool | str:
        """Accept files that appeared after the lists were made."""
        return paths.validated(lambda: (network_files(networks), _encoder_path(encoder)))

    @classmethod
    def fingerprint_inputs(cls, networks, encoder, **other_inputs) -> str:
        """Paint again when a file has changed."""
        return paths.fingerprint([*network_files(networks)[1], _encoder_path(encoder)])

    @classmethod
    @marked
    def execute(cls, portrait, audio, vae, keep_frames, crf=16, **inputs) -> io.NodeOutput:
        """Encode the speech, sample the frames, write the video, and return it."""
        picture, out = convert.to_portrait(portrait), new_temp_video()
        buffer = _paint(picture, audio, vae, out, (keep_frames, crf), **inputs)
        if buffer.surprises:
            show_text(cls.hidden.unique_id, buffer.text)
        return io.NodeOutput(convert.to_image(buffer.pictures), temp_video(out), ui=video_ui(out, buffer.text))


def network_names() -> list[str]:
    """Folders in models/vexpress that may hold the networks, as names for a list; itself first."""
    folders = [
        inner.relative_to(root).as_posix()
        for root in paths.model_folders(FOLDER)
        for level in ("*", "*/*", "*/*/*")
        for inner in sorted(root.glob(level))
        if inner.is_dir() and len(_weights(inner)) >= MIN_FILES
    ]
    return [MODEL_FOLDER, *dict.fromkeys(folders)]


def network_files(name) -> tuple[Path, list[Path]]:
    """A folder of a name from `network_names`, and the weight files in it.

    Raises:
        InputError: it is not there, or holds no weight files.
    """
    from ..portraittalk_core.errors import InputError
    from ..portraittalk_core.renderers.vexpress.load import PARTS, SOURCE

    for root in paths.model_folders(FOLDER):
        folder = (root if name == MODEL_FOLDER else root / name).resolve()
        if folder.is_relative_to(root.resolve()) and folder.is_dir() and _weights(folder):
            return folder, _weights(folder)
    files = ", ".join(PARTS.values())
    shown_name = MODEL_FOLDER if name == MODEL_FOLDER else f"{MODEL_FOLDER}/{name}"
    raise InputError(f"V-Express's weights are not in {shown_name}; get {files} from {SOURCE} and put them there.")


def _weights(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in paths.WEIGHTS and path.is_file())


def _encoder_path(name) -> Path | None:
    return None if name == NO_ENCODER else paths.encoder_path(name)


def _paint(picture, audio, vae, out, video: tuple, **inputs) -> FrameBuffer:
    """Sample the frames into a video file; `video` is (keep_frames, crf)."""
    from ..portraittalk_core.errors import InputError
    from ..portraittalk_core.renderers.contract import Callbacks, RenderJob
    from ..portraittalk_core.renderers.vexpress.build import VExpressRenderer
    from ..portraittalk_core.renderers.vexpress.pipeline import FPS
    from ..portraittalk_core.renderers.write import render_video
    from ..portraittalk_core.style.attention_files import VEXPRESS
    from .bindings import vexpress as comfy_vexpress

    speech, track, keep = convert_audio.to_speech(audio), inputs.pop("landmarks", None), video[0]
    style = inputs.pop("style", None)
    speech_encoder = _encoder(inputs.pop("encoder"), inputs.pop("audio_encoder_output", None))
    networks, face_index = inputs.pop("networks"), inputs.pop("face_index", 0)
    face, options = _face_and_options(picture, track, face_index, inputs)
    fps = FPS if track is None else track.fps
    count = speech.num_frames(fps)
    frame_styles = None if style is None else style.in_frames(count, fps, VEXPRESS)
    models = comfy_vexpress.models_of(network_files(networks), vae, speech_encoder, options, frame_styles)
    buffer, progress = FrameBuffer(keep, count, options.width * options.height * 3), Progress()
    job = RenderJob(face, () if track is None else (track,), count, fps, speech)
    renderer, callbacks = VExpressRenderer(models, options), Callbacks(progress, buffer.preview_callback(progress))
    try:
        render_video(renderer, job, out, sound=convert_audio.to_waveform(audio), crf=video[1], callbacks=callbacks)
    except comfy_vexpress.OUT_OF_MEMORY as error:
        raise InputError(
            f"there is not enough memory for {options.length} frames of {options.width}×{options.height} at once; "
            "lower window, width or height."
        ) from error
    return buffer


def _face_and_options(picture, track, face_index, inputs):
    """The portrait with its landmarks, and V-Express's options."""
    from ..portraittalk_core.face.mesh.landmarks import find_portrait
    from ..portraittalk_core.motion.transfer import belongs_to
    from ..portraittalk_core.renderers.vexpress.pipeline import VExpressOptions

    inputs["length"], inputs["guidance"] = inputs.pop("window", 24), inputs.pop("cfg")
    strategy = inputs.pop("head", BY_THE_FACE)
    with face_mesh(notes=True) as mesh:
        face = find_portrait(picture, face_index, source="the portrait", mesh=mesh)
    if track is None:
        strategy = "fix_face"
    elif strategy == BY_THE_FACE:
        strategy = "no_retarget" if belongs_to(track, face.landmarks) else "naive_retarget"
    return face, VExpressOptions(**inputs, strategy=strategy)


def _encoder(name, encoded):
    """The speech encoder, or the features that ComfyUI's own encoder has computed."""
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
            "networks", options=network_names(), default=MODEL_FOLDER,
            tooltip="Folder with V-Express's five files, known by their content.",
        ),
        io.Combo.Input(
            "encoder", options=[NO_ENCODER, *paths.encoder_names()], default=NO_ENCODER,
            tooltip="wav2vec2-base-960h in models/audio_encoders; not needed with audio_encoder_output.",
        ),
        widget(VExpressRendererOptions, "seed", tooltip="Another seed begins with other noise."),
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
        widget(VExpressRendererOptions, "width", step=8, tooltip="Width of the frames in pixels, around the face."),
        widget(VExpressRendererOptions, "height", step=8, tooltip="Height of the frames in pixels, around the face."),
        keep_frames_widget(),
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
        ai_mark_widget(),
    ]  # fmt: skip
