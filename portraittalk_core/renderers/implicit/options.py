"""Options of the renderers with implicit keypoints, and the files they need. No torch, so that --help is quick."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...errors import InputError, MissingDependency
from ...options import check_options, option, same_option
from ...weights.repositories import LIVEPORTRAIT, LIVEPORTRAIT_EITHER, LIVEPORTRAIT_SAFETENSORS
from ...weights.specs import FileSpec
from ..identitynet.options import PRECISIONS

BRIDGES = ("warp", "lips")
PASTES = ("picture", "crop")
PUBLIC_ALPHA = 0.7  # with Audio2Exp: the default of ControlTalk's public code

_LIVEPORTRAIT = (
    "LivePortrait's appearance_feature_extractor, motion_extractor, warping_module, spade_generator and, if there, "
    "stitching_retargeting_module (.pth or .safetensors), from "
    f"huggingface.co/{LIVEPORTRAIT} or huggingface.co/{LIVEPORTRAIT_SAFETENSORS}"
)
_FACEVID2VID = (
    "a face-vid2vid checkpoint with generator, kp_detector and he_estimator, such as ControlTalk's "
    "20231128_210236_337a_e0362-checkpoint.pth.tar or facevid2vid_00189-model.pth.tar"
)
_AUDIO2EXP = FileSpec(
    "audio2exp", "Audio2Exp: ControlTalk's lipControlNet.pt, or one of `portraittalk train audio2exp`",
    "MIT as stated (your own: yours)", "controltalk", False, "190 MB",
)  # fmt: skip
_HUBERT = FileSpec(
    "hubert", "TencentGameMate/chinese-hubert-large, for Audio2Exp", "MIT", "audio_encoders", False, "1.3 GB"
)
LIVEPORTRAIT_FILES = (
    FileSpec("keypoints_folder", LIVEPORTRAIT_EITHER, "MIT", "liveportrait",
             size="520 MB", names="its five files"),
    _AUDIO2EXP,
    _HUBERT,
)  # fmt: skip
FACEVID2VID_FILES = (
    FileSpec("keypoints_folder", "ControlTalk's checkpoint, or facevid2vid_00189-model.pth.tar",
             "MIT as stated; made with code under CC BY-NC", "controltalk", size="2.1 GB", names="the checkpoint"),
    _AUDIO2EXP,
    _HUBERT,
)  # fmt: skip


@dataclass(frozen=True)
class KeypointRenderOptions:
    """How keypoints are rendered, without the networks' files."""

    alpha: float | None = option(
        None, 0, 2,
        f"How far the speech moves the mouth: 0 keeps it shut, 1 is natural ({PUBLIC_ALPHA:g} with Audio2Exp, else 1); "
        "eyes and brows stay, but for what Audio2Exp itself adds to them",
        step=0.05,
    )  # fmt: skip
    bridge: str = option(
        "warp",
        help="How landmarks become keypoints: warp measures them on the warped portrait, lips moves only the lips, by "
        "LivePortrait's retargeting",
        choices=BRIDGES,
    )
    silence_pass: bool = option(True, help="Audio2Exp hears silence first, which shuts the mouth")
    audio_offset: int = option(0, -25, 25, "frames by which Audio2Exp's mouth is later than the sound, below 0 earlier")
    lips: str = option(
        "engine",
        help="whose lips a motion of keypoints has: engine keeps its own; ours takes those of the built-in engine, on "
        "its head and with its eyes",
        choices=("engine", "ours"),
    )
    relative: bool = option(
        False, help="carry keypoint tracks as motion from their first frame on, instead of taking them as they are"
    )
    stitching: bool = option(True, help="LivePortrait's stitching network holds shoulders and border still")
    paste: str = option(
        "picture", help="what is written: the whole picture, or the networks' square crop of the face", choices=PASTES
    )
    match_colour: float = option(1.0, 0, 1, "how far the rendered colours are brought to the picture's own", step=0.05)
    batch_size: int = option(4, 1, 256, "frames rendered at once")

    def __post_init__(self) -> None:
        check_options(self)

    def strength(self, with_audio2exp: bool) -> float:
        """Alpha, with its default filled in."""
        return self.alpha if self.alpha is not None else PUBLIC_ALPHA if with_audio2exp else 1.0


@dataclass(frozen=True)
class ImplicitOptions(KeypointRenderOptions):
    """Files and options of a renderer with implicit keypoints."""

    renderer: ClassVar[str] = "liveportrait"
    layout: ClassVar[str] = "liveportrait-21"
    needed_files: ClassVar[str] = _LIVEPORTRAIT

    keypoints_folder: Path | None = option(
        None, help="folder with the networks' files, known by their content; required", metavar="FOLDER"
    )
    audio2exp: Path | None = option(
        None, help="file of Audio2Exp: the speech edits the keypoints itself; --hubert with it", metavar="FILE"
    )
    hubert: Path | None = option(None, help="HuBERT's file or folder, for Audio2Exp", metavar="FILE")
    alpha_points: Path | None = option(
        None, help="alpha over time, a JSON file such as [[0, 1], [2.5, 0.4]]; times --alpha", metavar="FILE"
    )
    compile: bool = option(False, help="let torch compile the networks: a minute or more at first, then faster")
    device: str | None = option(None, help="cpu, cuda, mps; if not given, the fastest there is", metavar="NAME")
    precision: str = option("auto", help="auto: fp16 on a GPU, else fp32", choices=PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keypoints_folder is None:
            raise InputError(f"`renderer` {self.renderer} needs `keypoints_folder` FOLDER: {self.needed_files}.")
        for name, what in self._files().items():
            path = getattr(self, name)
            if path is not None and not Path(path).exists():
                raise MissingDependency(f"`{name}` {path} is not there; give {what}.")
        if self.audio2exp is not None and self.hubert is None:
            raise InputError("`audio2exp` needs `hubert`: it hears the speech by HuBERT; give its file or folder.")
        if self.hubert is not None and self.audio2exp is None:
            raise InputError("`hubert` is for `audio2exp` alone; leave it out, or give Audio2Exp's file too.")

    def _files(self) -> dict[str, str]:
        return {
            "keypoints_folder": self.needed_files,
            "audio2exp": _AUDIO2EXP.source,
            "hubert": _HUBERT.source,
            "alpha_points": "a JSON file of [seconds, alpha] pairs",
        }


@dataclass(frozen=True)
class FaceVid2VidOptions(ImplicitOptions):
    """Files and options of face-vid2vid, which has no stitching and no retargeting of lips."""

    renderer: ClassVar[str] = "facevid2vid"
    layout: ClassVar[str] = "face-vid2vid-15"
    needed_files: ClassVar[str] = _FACEVID2VID

    bridge: str = same_option(KeypointRenderOptions, "bridge", shared=False)
    stitching: bool = same_option(KeypointRenderOptions, "stitching", shared=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bridge == "lips":
            raise InputError("`bridge` lips needs LivePortrait's retargeting; take warp, or `renderer` liveportrait.")
