"""Options of the renderer IdentityNet, and the files it needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...options import option
from ...weights.specs import FileSpec
from ..animatenet.options import AnimateNetOptions

COMBINATIONS = ("auto", "average", "concat")
PRECISIONS = ("auto", "fp32", "fp16", "bf16")
PRESETS: dict[str, dict[str, Any]] = {
    "quality": {"steps": 30, "cfg": 3.5, "sampler": "dpmpp_2m", "schedule": "karras"},
    "balanced": {"steps": 20, "cfg": 3.5, "sampler": "euler", "schedule": "normal"},
    "fast": {"steps": 4, "cfg": 1.0, "sampler": "lcm", "schedule": "sgm_uniform"},
}
_RESEARCH = "research only, non-commercial"
FILES = (
    FileSpec("checkpoint", "any SD1.5 checkpoint", "CreativeML OpenRAIL-M", "checkpoints", size="2.1 GB"),
    FileSpec("identity_adapter", "h94/IP-Adapter-FaceID ip-adapter-faceid_sd15", _RESEARCH, "ipadapter", False,
             "97 MB"),
    FileSpec("face_models", "InsightFace's buffalo_l", _RESEARCH, "insightface/models/buffalo_l", False, "191 MB",
             names="det_10g.onnx and w600k_r50.onnx"),
    FileSpec("controlnet", "CrucibleAI/ControlNetMediaPipeFace", "OpenRAIL", "controlnet", False, "1.4 GB"),
    FileSpec("motion_module", "guoyww/animatediff v3_sd15_mm", "Apache-2.0", "animatediff_models", False, "1.6 GB"),
)  # fmt: skip


def _of_presets(name: str) -> str:
    return "if not given, by --preset: " + ", ".join(f"{preset} {values[name]}" for preset, values in PRESETS.items())


@dataclass(frozen=True)
class IdentityNetOptions(AnimateNetOptions):
    """Files, face identity and sampling of IdentityNet."""

    checkpoint: Path | None = option(None, help="SD1.5 checkpoint, one file; required", metavar="FILE")
    vae: Path | None = option(
        None,
        help="SD1.5 VAE instead of the checkpoint's, or taesd_decoder.safetensors: rougher, 16 x as fast",
        metavar="FILE",
    )
    identity_adapter: Path | None = option(
        None, help="IP-Adapter FaceID file for SD1.5; without one the face is not held", metavar="FILE"
    )
    face_models: Path | None = option(
        None, help="folder with InsightFace's buffalo_l; needed with an adapter", metavar="FOLDER"
    )
    faces: tuple[Path, ...] = option(
        (), help="pictures of the person; if not given, the portrait", metavar="PICTURE", nargs="+"
    )
    clip_vision: Path | None = option(
        None, help="CLIP-ViT-H vision model, for the adapters FaceID plus and IP-Adapter", metavar="FILE"
    )
    tokenizer: Path | None = option(
        None, help="CLIP's tokenizer; if not given, ComfyUI's or the one on the hub", metavar="FOLDER"
    )
    lora: tuple[str, ...] = option(
        (), help="LoRA file and its strength, 1 if not given; may be given several times", metavar="FILE[:X]"
    )
    prompt: str = option(
        "portrait photo of a person speaking, sharp focus, natural light",
        help="what the frames are to show",
        metavar="TEXT",
    )
    negative_prompt: str = option(
        "blurry, deformed teeth, text, watermark", help="what they are not to show", metavar="TEXT"
    )
    identity_strength: float = option(0.8, -1, 3, "how strongly the face acts; 0 is the plain checkpoint")
    adapter_lora: float = option(1.0, -10, 10, "strength of the LoRA inside the adapter; 0 for none")
    denoise: float = option(0.45, 0, 1, "0 gives the warp back, 0.3 to 0.6 paint mouth and skin anew")
    preset: str = option(
        "balanced",
        help="sets those of --steps, --cfg, --sampler and --schedule that are not given; fast needs an LCM or "
        "Lightning LoRA (--lora) or AnimateLCM",
        choices=tuple(PRESETS),
    )
    steps: int | None = option(None, 1, 1000, f"denoising steps of every frame; {_of_presets('steps')}")
    cfg: float | None = option(
        None,
        0,
        100,
        "how strictly the prompt is followed; 1 leaves the negative prompt out, in half the time; "
        + _of_presets("cfg"),
    )
    sampler: str | None = option(None, help=f"sampler, as ComfyUI names it; {_of_presets('sampler')}", metavar="NAME")
    schedule: str | None = option(
        None, help=f"schedule, as ComfyUI names it; {_of_presets('schedule')}", metavar="NAME"
    )
    seed: int = option(0, 0, 2**64 - 1, "another seed begins with other noise")
    width: int = option(512, 64, 2048, "width of the frames in pixels, a multiple of 8")
    height: int = option(512, 64, 2048, "height of the frames in pixels, a multiple of 8")
    only_face: bool = option(
        False,
        help="paint a square around the face, --width by --height, and paste it into the portrait at its own size",
    )
    batch_size: int = option(1, 1, 256, "frames painted at once")
    device: str | None = option(None, help="cpu, cuda, mps; if not given, the fastest there is", metavar="NAME")
    precision: str = option("auto", help="auto: fp16 on a GPU, else fp32", choices=PRECISIONS)
    remove_background: bool = option(
        False, help="all but the person turns black before the face is described, as PortraitTalk does"
    )
    combine: str = option(
        COMBINATIONS[0],
        help="several --faces: their average, or tokens of each; auto is what the adapter is made for",
        choices=COMBINATIONS,
    )
    face_weights: tuple[float, ...] = option(
        (), 0, help="how much each of --faces counts; if not given, all alike", metavar="X", nargs="+"
    )
    edit: str = option(
        "all", help="what is painted; the rest stays as the portrait has it", choices=("all", "person", "background")
    )
    blend_with: tuple[Path, ...] = option(
        (), help="pictures of another person, to paint somebody in between", metavar="PICTURE", nargs="+"
    )
    blend_amount: float = option(0.5, 0, 1, "with --blend-with: 0 is the person, 1 the other")

    def __post_init__(self) -> None:
        if self.checkpoint is None:
            raise InputError("`renderer` identitynet needs `checkpoint` FILE: any SD1.5 checkpoint.")
        if self.identity_adapter is not None and self.face_models is None:
            raise InputError(
                "`identity_adapter` needs `face_models` FOLDER, with InsightFace's det_10g.onnx and w600k_r50.onnx."
            )
        for name, value in PRESETS.get(self.preset, {}).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        super().__post_init__()
        from ...face.fit import check_size

        check_size(self.width, self.height)
        if self.only_face:
            self.check_square()
        self._check_faces()
        if self.per_frame and self.batch_size != 1:
            raise InputError(f"`per_frame` paints one frame at a time; leave `batch_size` at 1, not {self.batch_size}.")
        self._check_sampling()

    def check_square(self) -> None:
        """Check that the size for painting a face region is square.

        Raises:
            InputError: with both sides.
        """
        if self.width != self.height:
            raise InputError(f"`only_face` paints a square; `width` {self.width} and `height` {self.height} differ.")

    def _check_faces(self) -> None:
        if self.face_weights and len(self.face_weights) != len(self.faces):
            raise InputError(
                f"`face_weights` has {len(self.face_weights)} numbers for {len(self.faces)} `faces`; give one for each."
            )
        if self.face_weights and not any(self.face_weights):
            raise InputError("`face_weights` are all 0; let one of `faces` count.")
        if self.blend_with and self.identity_adapter is None:
            raise InputError("`blend_with` needs `identity_adapter` FILE, which holds the face.")

    def _check_sampling(self) -> None:
        from ...diffusion.samplers import OWN_SCHEDULE, SAMPLERS, SCHEDULES

        for name, choices in (("sampler", SAMPLERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in choices:
                raise InputError(f"`{name}` {getattr(self, name)} is not known; choose one of {', '.join(choices)}.")
        schedules = OWN_SCHEDULE.get(self.sampler, SCHEDULES)
        if self.schedule not in schedules:
            raise InputError(
                f"`sampler` {self.sampler} has no `schedule` {self.schedule}; choose one of {', '.join(schedules)}."
            )
