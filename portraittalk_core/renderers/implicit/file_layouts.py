"""Layouts of the public files of keypoint models: which networks a file holds, and the sizes of these.

Names in a layout are `network.tensor` with the networks' names in `LivePortrait` and `FaceVid2Vid`.
Sources, names and shapes alone: the five files of KlingTeam/LivePortrait and Kijai/LivePortrait_safetensors; the
checkpoints of NetEase-Media/ControlTalk and of SadTalker (facevid2vid_00189-model.pth.tar).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ...errors import InputError
from ...weights import repositories
from .facevid2vid.head_estimator import EstimatorSizes
from .facevid2vid.keypoint_detector import DetectorSizes
from .liveportrait.motion_extractor import ExtractorSizes
from .liveportrait.retargeting import RetargetingSizes
from .sizes import DenseMotionSizes, ImplicitSizes

LIVEPORTRAIT, FACEVID2VID = "liveportrait-21", "face-vid2vid-15"
ENCODER, WARPING, GENERATOR = "appearance_feature_extractor", "warping_module", "spade_generator"
EXTRACTOR, RETARGETING = "motion_extractor", "stitching_retargeting_module"
DETECTOR, ESTIMATOR = "kp_detector", "he_estimator"
COUNTER = "num_batches_tracked"  # of batch norms in training; some files leave it out


@dataclass(frozen=True)
class Part:
    """A network, as far as a file is known by it."""

    name: str
    marks: tuple[str, ...]  # regular expressions of names, each of which must occur
    needed: bool = True


@dataclass(frozen=True)
class Layout:
    """The files of one family."""

    called: str
    parts: tuple[Part, ...]
    source: str  # where they come from

    def names(self, only_needed: bool = False) -> tuple[str, ...]:
        """Of the parts."""
        return tuple(part.name for part in self.parts if part.needed or not only_needed)


LAYOUTS = {
    LIVEPORTRAIT: Layout(
        "LivePortrait",
        (
            Part(ENCODER, (r"^first\.conv\.weight", r"^resblocks_3d\.3dr0\.conv1\.weight")),
            Part(EXTRACTOR, (r"^detector\.fc_kp\.weight", r"^detector\.fc_scale\.weight")),
            Part(WARPING, (r"^dense_motion_network\.mask\.weight", r"^third\.conv\.weight")),
            Part(GENERATOR, (r"^fc\.weight", r"^G_middle_0\.conv_0\.weight")),
            Part(RETARGETING, (r"^retarget_shoulder\.mlp\.0\.weight",), needed=False),
        ),
        f"huggingface.co/{repositories.LIVEPORTRAIT} (.pth) or huggingface.co/{repositories.LIVEPORTRAIT_SAFETENSORS}",
    ),
    FACEVID2VID: Layout(
        "face-vid2vid",
        (
            Part("generator", (r"^dense_motion_network\.mask\.weight", r"^decoder\.fc\.weight")),
            Part(DETECTOR, (r"^predictor\.conv\.weight", r"^kp\.weight")),
            Part(ESTIMATOR, (r"^fc_yaw\.weight", r"^fc_exp\.weight")),
        ),
        "huggingface.co/Lavivis/ControlTalk (…-checkpoint.pth.tar) or SadTalker's facevid2vid_00189-model.pth.tar",
    ),
}
_BARE = {LIVEPORTRAIT: ("", "{}."), FACEVID2VID: ("{}.",)}  # what may stand before the names of a part's tensors
_GENERATOR_PARTS = (  # of face-vid2vid's generator, which is one network
    (re.compile(r"^decoder\."), GENERATOR),
    (re.compile(r"^(?=(dense_motion_network|third|fourth)\.)"), WARPING),
    (re.compile(r"^(?=(first|down_blocks|second|resblocks_3d)\.)"), ENCODER),
)
_FLAT = re.compile(r"(^|\.)(retarget_(?:shoulder|mouth|eye))_module\.")  # Kijai's names


def sorted_names(names: Iterable[str]) -> dict[str, dict[str, dict[str, str]]]:
    """Layout → part → name of the part's tensor → name in the file, for whatever a file holds of them."""
    plain = {_FLAT.sub(r"\1\2.", name): name for name in names}
    layouts: dict[str, dict[str, dict[str, str]]] = {}
    for key, layout in LAYOUTS.items():
        for part in layout.parts:
            for prefix in (form.format(part.name) for form in _BARE[key]):
                inside = {n.removeprefix(prefix): name for n, name in plain.items() if n.startswith(prefix)}
                if all(any(re.search(mark, n) for n in inside) for mark in part.marks):
                    layouts.setdefault(key, {})[part.name] = inside
                    break
    if "decoder.fc.weight" in plain:  # face-vid2vid's generator by itself, which has the names of two of LivePortrait's
        layouts.pop(LIVEPORTRAIT, None)
    return layouts


def network_tensors(layout: str, parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Network → its tensors, of the tensors of every part; face-vid2vid's generator becomes three networks."""
    if layout == LIVEPORTRAIT:
        return {part: dict(tensors) for part, tensors in parts.items()}
    networks = {part: dict(tensors) for part, tensors in parts.items() if part != "generator"}
    for name, tensor in parts["generator"].items():
        pattern, network = next((row for row in _GENERATOR_PARTS if row[0].search(name)), (None, WARPING))
        networks.setdefault(network, {})[pattern.sub("", name) if pattern else name] = tensor
    return networks


def public_names(layout: str, networks: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Part → its tensors; the opposite of `network_tensors`."""
    if layout == LIVEPORTRAIT:
        return {part: dict(tensors) for part, tensors in networks.items()}
    parts = {name: dict(tensors) for name, tensors in networks.items() if name in (DETECTOR, ESTIMATOR)}
    decoder = {f"decoder.{name}": tensor for name, tensor in networks[GENERATOR].items()}
    return {"generator": {**networks[WARPING], **networks[ENCODER], **decoder}, **parts}


def dimension(tensors: Mapping[str, Tensor], name: str, axis: int, source: str) -> int:
    """Size of a tensor along an axis.

    Raises:
        InputError: the file lacks the tensor, or it has fewer axes, or nothing in it.
    """
    if name not in tensors or tensors[name].ndim <= axis or not tensors[name].numel():
        raise InputError(f"{source} is not whole: it lacks {name}; download it again.")
    return tensors[name].shape[axis]


def count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers the names have in the place of the group of a pattern."""
    return len({match.group(1) for name in tensors if (match := re.match(pattern, name))})


def generator_sizes(networks: Mapping[str, Mapping[str, Tensor]], files: Mapping[str, str]) -> ImplicitSizes:
    """Sizes of encoder, warping and generator.

    Args:
        networks: their tensors.
        files: their files' names, for messages.

    Raises:
        InputError: a tensor that tells a size is missing, or sizes do not fit each other.
    """
    encoder, warping, generator = (networks[name] for name in (ENCODER, WARPING, GENERATOR))

    def size(name: str, axis: int, tensors: Mapping[str, Tensor] = warping, of: str = WARPING) -> int:
        return dimension(tensors, name, axis, files[of])

    channels = size("resblocks_3d.3dr0.conv1.weight", 0, encoder, ENCODER)
    motion, hourglass = "dense_motion_network.", "dense_motion_network.hourglass."
    num_blocks = count(warping, rf"{re.escape(hourglass)}encoder\.down_blocks\.(\d+)\.")
    colours = [n for n in ("conv_img.weight", "conv_img.0.weight") if n in generator]
    return ImplicitSizes(
        num_keypoints=size(f"{motion}mask.weight", 0) - 1,
        width=size("first.conv.weight", 0, encoder, ENCODER),
        volume_channels=channels,
        volume_depth=size("second.weight", 0, encoder, ENCODER) // channels,
        num_resblocks=count(encoder, r"resblocks_3d\.3dr(\d+)\."),
        motion=DenseMotionSizes(
            width=size(f"{hourglass}decoder.up_blocks.{num_blocks - 1}.conv.weight", 0),
            max_width=max(size(f"{hourglass}encoder.down_blocks.{i}.conv.weight", 0) for i in range(num_blocks or 1)),
            num_blocks=num_blocks,
            compress=size(f"{motion}compress.weight", 0),
            kernel=size(f"{motion}mask.weight", 2),
        ),
        spade_hidden=size("G_middle_0.norm_0.mlp_shared.0.weight", 0, generator, GENERATOR),
        num_middle=count(generator, r"G_middle_(\d+)\."),
        upscale=2 if colours == ["conv_img.0.weight"] else 1,
    )


def extractor_sizes(tensors: Mapping[str, Tensor], source: str) -> ExtractorSizes:
    """Sizes of LivePortrait's motion extractor."""
    stages = range(count(tensors, r"detector\.stages\.(\d+)\."))
    return ExtractorSizes(
        dimension(tensors, "detector.fc_kp.weight", 0, source) // 3,
        tuple(count(tensors, rf"detector\.stages\.{stage}\.(\d+)\.") for stage in stages),
        tuple(dimension(tensors, f"detector.stages.{stage}.0.dwconv.weight", 0, source) for stage in stages),
        dimension(tensors, "detector.fc_yaw.weight", 0, source),
    )


def retargeting_sizes(tensors: Mapping[str, Tensor], source: str) -> RetargetingSizes:
    """Sizes of LivePortrait's stitching and retargeting networks."""

    def hidden(network: str) -> tuple[int, ...]:
        last = 2 * count(tensors, rf"{network}\.mlp\.(\d+)\.weight") - 2
        return tuple(dimension(tensors, f"{network}.mlp.{i}.weight", 0, source) for i in range(0, last, 2))

    points = dimension(tensors, "retarget_mouth.mlp.0.weight", 1, source) // 3
    return RetargetingSizes(points, hidden("retarget_shoulder"), hidden("retarget_mouth"), hidden("retarget_eye"))


def detector_sizes(tensors: Mapping[str, Tensor], source: str) -> DetectorSizes:
    """Sizes of face-vid2vid's keypoint detector."""
    num_blocks = count(tensors, r"predictor\.down_blocks\.down(\d+)\.")
    last = dimension(tensors, "predictor.conv.weight", 1, source)
    reach = dimension(tensors, "down.weight", 2, source) // 2
    return DetectorSizes(
        dimension(tensors, "kp.weight", 0, source),
        width=dimension(tensors, "kp.weight", 1, source),
        max_width=last,
        num_blocks=num_blocks,
        depth=dimension(tensors, "predictor.conv.weight", 0, source) // last,
        shrink=reach // 2 + 1,  # the filter reaches four deviations of (shrink - 1) / 2
    )


def estimator_sizes(tensors: Mapping[str, Tensor], source: str) -> EstimatorSizes:
    """Sizes of face-vid2vid's estimator of head pose and expression."""
    return EstimatorSizes(
        dimension(tensors, "fc_exp.weight", 0, source) // 3,
        dimension(tensors, "conv1.weight", 0, source),
        tuple(count(tensors, rf"block{stage}\.b{stage}_(\d+)\.") for stage in (1, 3, 5, 7)),
        dimension(tensors, "fc_yaw.weight", 0, source),
    )
