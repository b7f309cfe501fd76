"""Options of the lip renderers, and the files they need. No torch, so that --help is quick."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from ...errors import InputError, MissingDependency
from ...options import check_options, option, same_option
from ...weights.specs import FileSpec
from ..identitynet.options import PRECISIONS

LOWER, MOUTH, AUTO = "lower", "mouth", "auto"
BLENDS = (AUTO, LOWER, "face", "box", MOUTH)
WHOLE_SIDE = 128  # pixels of a crop from which skin can be painted too
OWN, PUBLIC, SCRIPT = INFERENCES = ("own", "public", "script")
USUAL = 25, 5  # references and lip references of a file that says nothing else
PUBLIC_FPS = 25  # frames a second of films of the public inference
MOST_REFERENCES = 100
_LIPS = "weights of `portraittalk train lips`, a file or its folder"
_IPLAP = "IP-LAP's renderer_checkpoint.pth, from the links of github.com/Weizhi-Zhong/IP_LAP"
_MUSETALK = "MuseTalk 1.5's musetalkV15/unet.pth, from huggingface.co/TMElyralab/MuseTalk"
VAE_ADVICE = "stabilityai/sd-vae-ft-mse's diffusion_pytorch_model.safetensors"
WHISPER_ADVICE = "openai/whisper-tiny's model.safetensors"
BUILTIN = Path(__file__).parent / "builtin" / "lips.safetensors"  # part of the package
LIPS_FILES = (FileSpec("lips_file", _LIPS, "your own: yours", "portraittalk", needed=False, size="60 MB"),)
IPLAP_FILES = (
    FileSpec("lips_file", _IPLAP, "research only: trained on LRS2", "iplap", size="320 MB",
             names="renderer_checkpoint.pth"),
)  # fmt: skip
MUSETALK_FILES = (
    FileSpec("lips_file", _MUSETALK, "MIT, also commercially", "musetalk", size="3.4 GB", names="unet.pth"),
    FileSpec("vae", VAE_ADVICE, "MIT", "vae", False, "335 MB"),
    FileSpec("speech_encoder", WHISPER_ADVICE, "MIT", "audio_encoders", False, "151 MB"),
)


@dataclass(frozen=True)
class LipPaintOptions:
    """How a lip renderer paints and pastes, without its networks' files."""

    inference: ClassVar[str] = OWN  # IP-LAP's can do it as its own script does

    references: int | None = option(
        None, 0, MOST_REFERENCES, "pictures of the film's own face that guide the painting; 0 takes a fifth of the "
        "film's frames, 1 to 25; if not given, as many as the weights are made for: IP-LAP's 25, the shipped ones' 12",
    )  # fmt: skip
    lip_references: int | None = option(
        None, 1, MOST_REFERENCES, "pictures of the film's own lips that guide the painting; if not given, as many as "
        "the weights are made for",
    )  # fmt: skip
    reference_frames: str | None = option(
        None, help="numbers of the film's frames that are the references, such as 0,12,40; instead of choosing them",
        metavar="N,N,...",
    )  # fmt: skip
    crop_pad: float | None = option(
        None, 0, 500, "room around the face's landmarks in the networks' crop, in pixels of the film; if not given, "
        "the weights' own (IP-LAP: 25)", step=1,
    )  # fmt: skip
    blend: str = option(
        AUTO,
        help="what of the painted crop is pasted: lower the face from the nose down, face all of it, box the crop, "
        "mouth what lies between parted lips, into the film as the warp bends it; auto mouth for crops below 128 pixels"
        ", else lower",
        choices=BLENDS,
    )
    feather: float = option(
        0.08, 0.02, 0.5, "width of the soft edge of what is pasted, as a share of the face's size", step=0.01
    )
    match_colour: float = option(
        1.0, 0, 1, "how far the painted colours are brought to the film's own around them", step=0.05
    )
    sharpen: float = option(
        1.0, 0, 1, "how far the painted part is brought to the sharpness of the film's own, with its grain", step=0.05
    )
    voice_gate: float = option(
        1.0, 0, 1, "how far the mouth comes to rest where nobody speaks: in silence, noise and music", step=0.05
    )
    max_yaw: float = option(
        55.0,
        0,
        90,
        "a face turned aside by more degrees stays as it was filmed; with blend mouth the warp moves it "
        "all the same, and paints its teeth from 35 degrees on",
        step=1,
        advanced=True,
    )
    batch_size: int = option(8, 1, 256, "frames painted at once")

    def __post_init__(self) -> None:
        check_options(self)
        if self.reference_frames is not None:
            frame_numbers(self.reference_frames)

    def blend_of(self, size: int) -> str:
        """What is pasted of crops of a size."""
        return (MOUTH if size < WHOLE_SIDE else LOWER) if self.blend == AUTO else self.blend

    @property
    def chosen_frames(self) -> tuple[int, ...] | None:
        """Numbers of the frames that are to be the references; None where they are to be chosen."""
        return None if self.reference_frames is None else frame_numbers(self.reference_frames)

    def num_references(self, num_frames: int) -> int:
        """How many references a film of so many frames has.

        Source: the paper's section 4.1, "one fifth of the video length", and IP-LAP's public code, 25.
        """
        if self.references is None:
            return USUAL[0]
        return self.references or max(1, min(25, round(num_frames / 5)))

    def with_usual(self, references: int, lip_references: int) -> LipPaintOptions:
        """These options with numbers of references where none were given."""
        numbers = {"references": references, "lip_references": lip_references}
        return replace(self, **{name: number for name, number in numbers.items() if getattr(self, name) is None})


@dataclass(frozen=True)
class ScriptPaintOptions(LipPaintOptions):
    """With the inference of IP-LAP's own script, which its renderer alone has."""

    inference: str = option(
        OWN,
        help="public: the networks see what IP-LAP's own script shows them, at 25 frames a second and with the engine "
        "landmark_generator; script: it is pasted as there too, and crop_pad, blend, feather, match_colour, sharpen, "
        "voice_gate and max_yaw do not count; own: as films of any rate and engine",
        choices=INFERENCES,
    )


def frame_numbers(text: str) -> tuple[int, ...]:
    """Numbers of frames from text such as "0, 12, 40".

    Raises:
        InputError: something else than numbers, or too many of them.
    """
    words = [word for word in re.split(r"[\s,;]+", text.strip()) if word]
    if not words or not all(word.isascii() and word.isdigit() and len(word) < 10 for word in words):
        raise InputError(f"`reference_frames` must be numbers of frames such as 0,12,40, not {text[:80]!r}.")
    if len(words) > MOST_REFERENCES:
        raise InputError(f"`reference_frames` names {len(words)} frames; at most {MOST_REFERENCES} are looked at.")
    return tuple(map(int, words))


@dataclass(frozen=True)
class LipOptions(LipPaintOptions):
    """Files and options of the renderer lips: the paper's networks."""

    renderer: ClassVar[str] = "lips"
    needed_files: ClassVar[str] = _LIPS
    builtin: ClassVar[Path | None] = BUILTIN  # what is taken where no file is given
    resumable: ClassVar[bool] = True  # painted crops are kept, see `renderers.sections`

    lips_file: Path | None = option(
        None, help="the networks' file or folder, known by its content; lips has one of its own, for the inside of the "
        "mouth, the others need theirs", metavar="FILE",
    )  # fmt: skip
    device: str | None = option(None, help="cpu, cuda, mps; if not given, the fastest there is", metavar="NAME")
    precision: str = option("auto", help="auto: fp16 on a GPU, else fp32", choices=PRECISIONS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lips_file is None and self.builtin is None:
            raise InputError(f"`renderer` {self.renderer} needs `lips_file` FILE: {self.needed_files}.")
        if not self.file.exists():
            raise MissingDependency(f"`lips_file` {self.lips_file} is not there; give {self.needed_files}.")

    @property
    def file(self) -> Path:
        """The networks' file or folder: the one that was given, or the package's own."""
        return Path(self.builtin if self.lips_file is None else self.lips_file)


@dataclass(frozen=True)
class IpLapOptions(LipOptions):
    """Files and options of IP-LAP's renderer, which has no lip references."""

    renderer: ClassVar[str] = "iplap"
    needed_files: ClassVar[str] = _IPLAP
    builtin: ClassVar[Path | None] = None

    inference: str = same_option(ScriptPaintOptions, "inference")


@dataclass(frozen=True)
class MuseTalkOptions(LipOptions):
    """Files and options of MuseTalk 1.5, whose reference is every frame itself."""

    renderer: ClassVar[str] = "musetalk"
    needed_files: ClassVar[str] = _MUSETALK
    builtin: ClassVar[Path | None] = None

    vae: Path | None = option(
        None, help="SD1.5's VAE; if not given, the one beside MuseTalk's file, or in a folder sd-vae… beside",
        metavar="FILE",
    )  # fmt: skip
    speech_encoder: Path | None = option(
        None, help="whisper-tiny's file; if not given, the one beside MuseTalk's file, or in a folder whisper… beside",
        metavar="FILE",
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, what in (("vae", VAE_ADVICE), ("speech_encoder", WHISPER_ADVICE)):
            path = getattr(self, name)
            if path is not None and not Path(path).exists():
                raise MissingDependency(f"`{name}` {path} is not there; give {what}.")
