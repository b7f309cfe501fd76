"""The Render Portrait node: a video of a portrait warped to a landmark track."""

from __future__ import annotations

from comfy_api.latest import io

from .bindings import convert, convert_audio
from .bindings.progress import Progress, face_mesh, show_text
from .bindings.temp_video import new_temp_video, temp_video, video_ui
from .sockets import ESSENTIALS, Landmarks, schema
from .widgets import FEW_FRAMES, ai_mark_widget, crf_widget, keep_frames_widget, marked

FEW_BYTES = 2 * 1024**3  # nor one that takes more memory than this


class RenderPortrait(io.ComfyNode):
    """Node that warps a portrait to every frame of a landmark track."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="PortraitTalkRenderPortrait",
            display_name="Render Portrait",
            description="Draws the portrait in every frame of a landmark track, without weights. Any length: frames "
            "go straight into a video file.",
            search_aliases=["talking head", "animate portrait"],
            inputs=[
                io.Image.Input("portrait", tooltip="The picture to move; of a batch, the first."),
                Landmarks.Input("landmarks", tooltip="Where the face goes. Another face's track is carried over."),
                io.Audio.Input("audio", optional=True, tooltip="The sound of the video, in its own quality."),
                keep_frames_widget(),
                crf_widget(),
                ai_mark_widget(),
            ],
            outputs=[
                io.Image.Output("images", display_name="images", tooltip="All frames, or the first (keep_frames)."),
                io.Video.Output("video", display_name="video", tooltip="The video with its sound, for Save Video."),
                io.Mask.Output(
                    "mask", display_name="mask",
                    tooltip="White on the person, for as many frames as images; all white where no person is "
                    "recognised.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
            essentials_category=ESSENTIALS,
            has_intermediate_output=True,
        )  # fmt: skip

    @classmethod
    @marked
    def execute(cls, portrait, landmarks, keep_frames, crf=16, audio=None) -> io.NodeOutput:
        """Render the frames, write the video, and return it."""
        picture, out = convert.to_portrait(portrait), new_temp_video()
        sound = convert_audio.to_sound(audio)
        buffer = FrameBuffer(keep_frames, len(landmarks), picture.numel(), sound is None and audio is not None)
        _render(picture, landmarks, out, sound, crf, buffer)
        if buffer.surprises:  # what the person may not expect; it covers part of the preview
            show_text(cls.hidden.unique_id, buffer.text)
        images, masks = convert.to_image(buffer.pictures), convert.to_mask(buffer.masks)
        return io.NodeOutput(images, temp_video(out), masks, ui=video_ui(out, buffer.text))


def _render(picture, landmarks, out, sound, crf, buffer) -> None:
    from ..portraittalk_core.pipelines.render import driven_portrait, render_track
    from ..portraittalk_core.renderers.contract import Callbacks

    with face_mesh() as mesh:
        face = driven_portrait(picture, landmarks, "the portrait", mesh)
    progress = Progress()
    callbacks = Callbacks(progress, buffer.preview_callback(progress), on_mask=buffer.keep_mask)
    render_track(face, landmarks, out, sound=sound, crf=crf, callbacks=callbacks)


class FrameBuffer:
    """Buffer of frames for the IMAGE output: all of them, or the first only.

    Args:
        keep_frames: "auto", "always" or "never".
        total: frames in all.
        size: numbers in a frame.
        lost_sound: an AUDIO is connected that holds no sound.
        output: name of the output that gives them.
    """

    def __init__(
        self, keep_frames: str, total: int, size: int, lost_sound: bool = False, output: str = "images"
    ) -> None:
        few = total <= FEW_FRAMES and 4 * total * size <= FEW_BYTES
        self.all = keep_frames == "always" or (keep_frames == "auto" and few)
        self.pictures: list = []
        self.masks: list = []
        self.surprises = lost_sound or (keep_frames == "auto" and not self.all)
        self.text = f"{total} frames" + ("" if self.all else f"; {output} holds the first one, video all of them")
        self.text += "; the video has no sound, because the audio input holds none" if lost_sound else ""

    def keep_mask(self, mask) -> None:
        """Buffer the (H, W) mask of a frame whose picture is buffered."""
        if self.all or not self.masks:
            self.masks.append(mask)

    def preview_callback(self, progress: Progress):
        """A callback that buffers a picture and shows it as preview."""

        def on_picture(picture) -> None:
            if self.all or not self.pictures:
                self.pictures.append(picture)
            progress.show(picture)

        return on_picture
