"""JoyVASA's files: the motion generator with its speech encoder, and the template that gives its numbers units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import InputError, MissingDependency
from ...speech.encoders import wave_network, without_prefix
from ...weights.load import load_strict, read_tensors
from ...weights.pickled_arrays import read_pickled_arrays
from .network import GeneratorSize, MotionGenerator

TEMPLATE_FILE = "motion_template.pkl"
EXPRESSION = 63  # 21 keypoints of LivePortrait
RANGES = {"scale": 1, "t": 3, "pitch": 1, "yaw": 1, "roll": 1}  # numbers of each part, in the network's order
MOTION = EXPRESSION + sum(RANGES.values())
# computed here, as in the public code, which drops or recomputes them
IGNORED = (r"^denoising_net\.(TE|PE)\.pe$", r"^denoising_net\.alignment_mask$", r"^audio_encoder\.")
MASK = "denoising_net.alignment_mask"


@dataclass(frozen=True)
class MotionTemplate:
    """The units of the network's numbers."""

    mean: Tensor  # (63,) of the expression
    deviation: Tensor  # (63,)
    least: Tensor  # (7,) of scale, translation, pitch, yaw and roll; 0 of the network's numbers
    most: Tensor  # (7,) 1 of the network's numbers

    def in_units(self, motion: Tensor) -> Tensor:
        """(T, 70) motion in half crops, degrees and times, from the network's (T, 70) numbers."""
        expression = motion[:, :EXPRESSION] * self.deviation + self.mean
        return torch.cat([expression, motion[:, EXPRESSION:] * (self.most - self.least) + self.least], 1)


def load_generator(path: Path) -> tuple[MotionGenerator, nn.Module]:
    """The motion generator and its HuBERT, ready for inference, on the CPU.

    Raises:
        MissingDependency: there is no such file, or `transformers` is not installed.
        InputError: it is damaged, or of another model.
    """
    path = Path(path)
    tensors = read_tensors(path)
    size = _size(tensors, path.name)
    generator = load_strict(MotionGenerator(size), tensors, path.name, IGNORED)
    hubert = without_prefix(tensors, "audio_encoder.")
    if not hubert:
        raise InputError(f"{path.name} lacks the speech encoder that the network was trained with; download it again.")
    return generator, wave_network(hubert, path.name, "hubert")


def template_beside(weights: Path) -> Path:
    """Where the template of a generator's file is: beside it, or in the folder motion_template beside its folder.

    Raises:
        MissingDependency: it is in neither.
    """
    places = (weights.parent / TEMPLATE_FILE, weights.parent.parent / "motion_template" / TEMPLATE_FILE)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise MissingDependency(
            f"{weights.name} cannot be used yet: put {TEMPLATE_FILE} (huggingface.co/jdh-algo/JoyVASA, "
            f"motion_template, MIT) beside it, into {weights.parent}."
        )
    return path


def load_template(path: Path) -> MotionTemplate:
    """Units from motion_template.pkl; see `weights.pickled_arrays` for how a pickle is read without running it.

    Raises:
        MissingDependency: there is no such file.
        InputError: it is damaged, or not such a template.
    """
    arrays = read_pickled_arrays(path)
    needed = {"mean_exp": EXPRESSION, "std_exp": EXPRESSION}
    needed |= {f"{end}_{part}": count for end in ("min", "max") for part, count in RANGES.items()}
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise InputError(f"{path.name} is no motion template of JoyVASA: it lacks {', '.join(missing)}.")
    values = {name: torch.from_numpy(arrays[name]).float().flatten() for name in needed}
    wrong = [name for name, count in needed.items() if len(values[name]) not in (1, count)]
    if wrong:
        raise InputError(
            f"{path.name} is no motion template of JoyVASA: {wrong[0]} has {len(values[wrong[0]])} numbers."
        )
    broken = [name for name, value in values.items() if not torch.isfinite(value).all()]
    if broken:
        raise InputError(
            f"{path.name} holds numbers that are NaN or infinite in {', '.join(broken)}; download it again."
        )
    expanded = {name: value.expand(needed[name]) for name, value in values.items()}
    ends = [torch.cat([expanded[f"{end}_{part}"] for part in RANGES]) for end in ("min", "max")]
    return MotionTemplate(expanded["mean_exp"], expanded["std_exp"], *ends)


def _size(tensors: dict[str, Tensor], source: str) -> GeneratorSize:
    """Sizes of a file's network, from the shapes of its tensors."""
    shapes = {
        "audio_feature_map.weight": 2, "start_motion_feat": 3, "denoising_net.motion_dec.2.weight": 2,
        "denoising_net.transformer.layers.0.linear1.weight": 2, "diffusion_sched.betas": 1, MASK: 2,
    }  # fmt: skip
    missing = [name for name, axes in shapes.items() if name not in tensors or tensors[name].ndim != axes]
    if missing:
        raise InputError(
            f"{source} does not fit MotionGenerator: it lacks {missing[0]}. Is it a file of another model?"
        )
    width, audio_width = tensors["audio_feature_map.weight"].shape
    previous, mask = tensors["start_motion_feat"].shape[1], tensors[MASK].bool()
    if len(mask) <= previous or not torch.equal(mask, ~torch.eye(len(mask), dtype=torch.bool)):
        raise InputError(
            f"{source} has a mask of another kind than JoyVASA's; its frames hear more than their own sound."
        )
    motion = len(tensors["denoising_net.motion_dec.2.weight"])
    if motion != MOTION:
        raise InputError(f"{source} moves {motion} numbers a frame, JoyVASA's {MOTION}; it is another model.")
    layers = {match[1] for name in tensors if (match := re.match(r"denoising_net\.transformer\.layers\.(\d+)\.", name))}
    feed = len(tensors["denoising_net.transformer.layers.0.linear1.weight"])
    steps = len(tensors["diffusion_sched.betas"]) - 1
    return GeneratorSize(motion, len(mask) - previous, previous, width, len(layers), feed, steps, audio_width)
