"""Registry of metrics: one row each, with its exact definition, its requirements and its meter.

A new metric is a file with a meter (see `meter`) and one row here, or one call of `register` from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields

from ..checks import check_choice
from ..errors import InputError
from .adfd import AdfdMeter
from .blinks import blink_duration, blink_rate
from .fid import FramesFid
from .files import ALEXNET, I3D, INCEPTION, LPIPS_HEADS, METRIC_KINDS, SYNCNET
from .flicker import flicker_of_frames
from .fvd import FramesFvd
from .head_motion import head_statistics
from .identity_similarity import PortraitIdentity, TargetIdentity
from .jitter import track_jitter
from .landmark_distance import lmd, variant_mean
from .lpips import lpips_mean
from .lse import CropsLse
from .meter import (
    CURVES,
    FACE_CROPS,
    FRAME_PAIRS,
    FRAMES,
    INPUTS,
    LANDMARK_PAIRS,
    LANDMARKS,
    PAIRED,
    SOURCE_FRAME_PAIRS,
    MeterFactory,
    frame_mean,
    landmark_mean,
    once,
)
from .mouth_correlation import MouthCorrelation
from .networks import load
from .packages import KORNIA, TORCHMETRICS
from .picture_change import picture_change
from .psnr import psnr
from .sound_mouth import sound_mouth_correlation
from .ssim import ssim

BETTER = ("higher", "lower", "target", "neither")

# what a metric may need besides the video it is of
TARGET, SPEECH, PORTRAIT = "the true video", "the speech", "the portrait"
FACE_ENCODER = "a face encoder"
PACKAGES = (KORNIA, TORCHMETRICS)
NEEDS = (TARGET, SPEECH, PORTRAIT, FACE_ENCODER, *(kind.role for kind in METRIC_KINDS), *PACKAGES)
TARGET_PREFIX = "target:"
"""Before the name of a number that is the target's own."""


@dataclass(frozen=True)
class Metric:
    """Definition of a metric, and its meter."""

    name: str  # in files
    title: str  # for a person
    unit: str  # empty for a pure number
    better: str  # "higher", "lower", "target": as near to the true video's as can be; "neither"
    range: str  # of possible values
    text: str  # the definition, as reports show it
    source: str  # paper, equation, or whose code reports it so
    needs: tuple[str, ...] = (TARGET,)  # of NEEDS, the files of its network in the order that `network` takes them
    inputs: str = ""  # of meter.INPUTS, what the meter is fed; empty: not of single videos or pairs
    meter: MeterFactory | None = field(default=None, repr=False)  # metrics with the same one share its work
    network: Callable[..., object] | None = field(default=None, repr=False)  # opens the network of its files
    curve: str = ""  # what reports call its values over time; empty draws none
    standard: bool = True  # in every report; else only where options name it

    def __post_init__(self) -> None:
        check_choice(self.better, BETTER, f"which way {self.name} is better")
        for need in self.needs:
            check_choice(need, NEEDS, f"what {self.name} needs")
        if self.inputs:
            check_choice(self.inputs, INPUTS, f"what {self.name} is fed")
        if bool(self.inputs) != (self.meter is not None):
            raise InputError(f"the metric {self.name} needs both the inputs and the meter, or neither.")
        if self.inputs in PAIRED and TARGET not in self.needs:
            raise InputError(f"the metric {self.name} is fed {self.inputs}, so it must need {TARGET}.")

    def missing(self, available: Collection[str]) -> str:
        """Message in place of a number, "not available: needs …"; empty if it can be measured.

        Args:
            available: of NEEDS, what there is.
        """
        absent = [need for need in self.needs if need not in available]
        return f"not available: needs {' and '.join(absent)}" if absent else ""

    def definition(self) -> dict[str, object]:
        """Name, title, unit, better, range, text, source and needs, as report.json holds them."""
        names = [entry.name for entry in fields(self)]
        return {name: getattr(self, name) for name in names[: names.index("needs") + 1]}


_WANG = "Wang et al. 2004, equation 13"
_LM68 = "68 points read off MediaPipe's mesh (metrics/points68.py), not a 68-point detector's"
_SYNC = (
    "SyncNet v2 on 5 frames of the face crop (224×224, BGR 0..255) and 20 columns of 13 cepstra, at 25 fps and 16 kHz; "
    "Euclidean distances of 1024 numbers at 31 shifts of the sound, mean over the windows of each shift"
)
_NETWORKS = (
    "The network is dlib's face descriptor, or ArcFace (InsightFace's buffalo_l, w600k_r50) where that is given; the "
    "report names it, and numbers of the two do not compare."
)


def _lmd_mean(points: str, norm: str) -> MeterFactory:
    return landmark_mean(lambda generated, target: lmd(generated, target, points=points, norm=norm))


_SOUND_MOUTH, _HEAD = once(sound_mouth_correlation), once(head_statistics)

_ALL = (
    Metric(
        "adfd", "ADFD", "", "higher", "0..1",
        "S·C: S is 1 − the landmarks' root mean square distance over the image diagonal, mean over frames; C is "
        "(cosine + 1) / 2 of the landmarks' motion from frame to frame, mean over steps; both still counts 1, one "
        "still ½. The formula as printed mixes units, so this is the reading its text asks for.",
        "PortraitTalk, equation 3", (TARGET,), LANDMARK_PAIRS, AdfdMeter,
    ),
    Metric(
        "adfd_place", "ADFD, place", "", "higher", "0..1", "The part S of ADFD: how near the landmarks lie.",
        "PortraitTalk, equation 3", (TARGET,), LANDMARK_PAIRS, AdfdMeter, curve="ADFD place",
    ),
    Metric(
        "adfd_motion", "ADFD, motion", "", "higher", "0..1",
        "The part C of ADFD: how alike the landmarks move; ½ is unrelated motion.", "PortraitTalk, equation 3",
        (TARGET,), LANDMARK_PAIRS, AdfdMeter, curve="ADFD motion",
    ),
    Metric(
        "m_lmd", "M-LMD", "px at 256", "lower", "≥ 0",
        "20 mouth points, their centroid subtracted in each frame, mean Euclidean distance, in pixels of a face crop "
        f"scaled to 256×256, mean over frames with a face in both; {_LM68}.", "ControlTalk, SVP (as EAT measures it)",
        (TARGET,), LANDMARK_PAIRS, variant_mean("m_lmd"),
    ),
    Metric(
        "f_lmd", "F-LMD", "px at 256", "lower", "≥ 0",
        "68 face points, their centroid subtracted in each frame, mean Euclidean distance, in pixels of a face crop "
        f"scaled to 256×256, mean over frames with a face in both; {_LM68}.", "ControlTalk, SVP (as EAT measures it)",
        (TARGET,), LANDMARK_PAIRS, variant_mean("f_lmd"),
    ),
    Metric(
        "m_lmd_iod", "M-LMD, free of resolution", "% of inter-ocular distance", "lower", "≥ 0",
        "40 points of MediaPipe's lip contours, centroid subtracted, mean Euclidean distance over the true distance "
        "between the eyes' middles, times 100, mean over frames.", "this project", (TARGET,),
        LANDMARK_PAIRS, _lmd_mean("mouth", "interocular"), curve="mouth distance",
    ),
    Metric(
        "f_lmd_iod", "F-LMD, free of resolution", "% of inter-ocular distance", "lower", "≥ 0",
        "MediaPipe's 468 face points, centroid subtracted, mean Euclidean distance over the true distance between the "
        "eyes' middles, times 100, mean over frames.", "this project", (TARGET,),
        LANDMARK_PAIRS, _lmd_mean("face", "interocular"),
    ),
    Metric(
        "m_lmd_px", "M-LMD, in pixels", "px", "lower", "≥ 0",
        "40 points of MediaPipe's lip contours, centroid subtracted, mean Euclidean distance in pixels of the target, "
        "mean over frames.", "this project", (TARGET,), LANDMARK_PAIRS, _lmd_mean("mouth", "none"), standard=False,
    ),
    Metric(
        "f_lmd_px", "F-LMD, in pixels", "px", "lower", "≥ 0",
        "MediaPipe's 468 face points, centroid subtracted, mean Euclidean distance in pixels of the target, mean over "
        "frames.", "this project", (TARGET,), LANDMARK_PAIRS, _lmd_mean("face", "none"), standard=False,
    ),
    Metric(
        "lmd_atvg", "LMD (ATVG)", "px", "lower", "≥ 0",
        f"20 mouth points, their centroid subtracted, sum of their 20 Euclidean distances, mean over frames; {_LM68}.",
        "Chen et al. 2019 (ATVG-Net), as its code measures it", (TARGET,), LANDMARK_PAIRS, variant_mean("lmd_atvg"),
    ),
    Metric(
        "lmd_lip", "LipLMD (IP-LAP)", "px", "lower", "≥ 0",
        f"20 mouth points as they stand, mean of |dx| and |dy|, mean over frames; {_LM68}.",
        "Zhong et al. 2023 (IP-LAP), as the code that it names measures it", (TARGET,),
        LANDMARK_PAIRS, variant_mean("lmd_lip"),
    ),
    Metric(
        "mouth_correlation", "Mouth-opening correlation", "", "higher", "−1..1",
        "Pearson correlation of the inner-lip gaps (over the inter-ocular distance) of both videos, over frames with a "
        "face in both; 0 for a mouth that does not move.", "this project", (TARGET,), LANDMARK_PAIRS, MouthCorrelation,
    ),
    Metric(
        "mouth_lag", "Mouth lag", "ms", "neither", "−200..200",
        "The lag within ±0.2 s at which the two mouth openings correlate best, in whole frames; + the generated mouth "
        "comes late. 0 is best.", "this project", (TARGET,), LANDMARK_PAIRS, MouthCorrelation,
    ),
    Metric(
        "lse_d", "LSE-D", "", "lower", "≥ 0", f"{_SYNC}; the least of the 31 means.",
        "Chung and Zisserman 2016; Prajwal et al. 2020, section 4.2", (SPEECH, SYNCNET),
        FACE_CROPS, CropsLse, load.load_syncnet,
    ),
    Metric(
        "lse_c", "LSE-C", "", "higher", "≥ 0", f"{_SYNC}; the 16th smallest of the 31 means minus the least.",
        "Chung and Zisserman 2016; Prajwal et al. 2020, section 4.2", (SPEECH, SYNCNET),
        FACE_CROPS, CropsLse, load.load_syncnet,
    ),
    Metric(
        "av_offset", "Offset of sound and lips", "frames of 40 ms", "target", "−15..15",
        f"{_SYNC}; 15 − the number (from 0) of the shift with the least mean. Negative: the sound's own match lies "
        "later in the sound track.", "Chung and Zisserman 2016", (SPEECH, SYNCNET),
        FACE_CROPS, CropsLse, load.load_syncnet,
    ),
    Metric(
        "sound_mouth_correlation", "Sound–mouth correlation (proxy, not LSE)", "", "target", "−1..1",
        "Pearson correlation of the inner-lip gap with the sound's level (10 ms root mean square, decibels, averaged "
        "over the frame) at the best lag within ±0.2 s. A proxy of lip sync that needs no weights. Loud is not open: "
        "real videos stay far below 1. Compare with the target's own, or between methods on the same speech.",
        "this project", (SPEECH,), CURVES, _SOUND_MOUTH,
    ),
    Metric(
        "sound_mouth_lag", "Sound–mouth lag (proxy)", "ms", "target", "−200..200",
        "The lag of that correlation, in whole frames; + the mouth comes after the sound.", "this project", (SPEECH,),
        CURVES, _SOUND_MOUTH,
    ),
    Metric(
        "psnr", "PSNR", "dB", "higher", "0..∞",
        "10·log10(255² / MSE), MSE over all pixels and channels of a frame, mean over frames; identical frames, which "
        "would be infinite, are left out and counted.", "ITU-T J.247, annex; by kornia", (TARGET, KORNIA),
        FRAME_PAIRS, frame_mean(psnr), curve="PSNR",
    ),
    Metric(
        "ssim", "SSIM", "", "higher", "−1..1",
        "Gaussian window 11×11, σ 1.5, K 0.01 and 0.03, population covariance, windows wholly inside the frame, mean "
        "over channels and frames; RGB 0..255, no downsampling.", f"{_WANG}; by kornia", (TARGET, KORNIA),
        FRAME_PAIRS, frame_mean(ssim, identical=1.0), curve="SSIM",
    ),
    Metric(
        "lpips", "LPIPS (AlexNet, v0.1)", "", "lower", "≥ 0",
        "Five layers of AlexNet, each position's channels brought to length 1, squared differences weighted by the "
        "learnt heads, mean over positions, sum over layers, mean over frames; RGB −1..1 at the frame's own size.",
        "Zhang et al. 2018, equation 1", (TARGET, ALEXNET, LPIPS_HEADS), FRAME_PAIRS, lpips_mean, load.load_lpips,
    ),
    Metric(
        "fid", "FID", "", "lower", "≥ 0",
        "Fréchet distance of the frames' 2048 features of Inception-v3 (FID's weights of 2015-12-05), frames scaled to "
        "299×299 as TensorFlow 1 did, unbiased covariance. Fewer than 2048 frames make it too high: compare only with "
        "numbers of as many frames.", "Heusel et al. 2017, equation 6; by torchmetrics",
        (TARGET, INCEPTION, TORCHMETRICS), FRAME_PAIRS, FramesFid, load.load_inception,
    ),
    Metric(
        "fvd", "FVD", "", "lower", "≥ 0",
        "Fréchet distance of the 400 outputs of I3D (Kinetics-400) over clips of 16 frames that do not overlap, "
        "224×224, RGB −1..1, unbiased covariance. It depends on the number of clips: compare only with as many.",
        "Unterthiner et al. 2018, equation 2; weights as StyleGAN-V has them", (TARGET, I3D),
        FRAME_PAIRS, FramesFvd, load.load_i3d,
    ),
    Metric(
        "identity", "Identity similarity (CSIM)", "", "higher", "−1..1",
        "Cosine of the embeddings of the aligned face and the portrait's, one frame a second, mean over those with a "
        "face. " + _NETWORKS, "Deng et al. 2019", (PORTRAIT, FACE_ENCODER), FRAMES, PortraitIdentity, curve="identity",
    ),
    Metric(
        "identity_distance", "Identity distance", "", "lower", "≥ 0",
        "Euclid's distance of the same embeddings, ArcFace's of length 1. By dlib's descriptor, faces closer than 0.6 "
        "are one person's.", "King 2017", (PORTRAIT, FACE_ENCODER), FRAMES, PortraitIdentity,
    ),
    Metric(
        "identity_to_target", "Identity similarity to the target", "", "higher", "−1..1",
        "Cosine of the embeddings of the largest face in the generated frame and in the target's frame of the same "
        "time, each aligned by its own five points; one frame a second from the first compared one on, mean over those "
        "with a face in both. " + _NETWORKS, "Deng et al. 2019", (TARGET, FACE_ENCODER), SOURCE_FRAME_PAIRS,
        TargetIdentity, curve="identity to target",
    ),
    Metric(
        "identity_to_target_distance", "Identity distance to the target", "", "lower", "≥ 0",
        "Euclid's distance of the same embeddings, ArcFace's of length 1. By dlib's descriptor, faces closer than 0.6 "
        "are one person's.", "King 2017", (TARGET, FACE_ENCODER), SOURCE_FRAME_PAIRS, TargetIdentity,
    ),
    Metric(
        "jitter", "Landmark jitter", "% of inter-ocular distance per frame²", "target", "≥ 0",
        "Mean length of p[t−1] − 2·p[t] + p[t+1] over points that speech hardly moves, over the clip's mean "
        "distance between the eyes, times 100. Depends on the frame rate: compare at one rate.", "this project", (),
        LANDMARKS, track_jitter(),
    ),
    Metric(
        "jitter_still", "Landmark jitter without head motion", "% of inter-ocular distance per frame²", "target",
        "≥ 0", "As landmark jitter, after every frame's head position, turn and size are taken out by a similarity "
        "fit of those points to the canonical face.", "this project", (), LANDMARKS, track_jitter(without_head=True),
    ),
    Metric(
        "flicker", "Flicker", "levels of 255", "lower", "0..255",
        "Mean absolute change from frame to frame of the generated pixels at places where no channel of the true video "
        "changes by more than 2 levels; over all such pixels of all steps.", "this project", (TARGET,),
        FRAME_PAIRS, flicker_of_frames,
    ),
    Metric(
        "change", "Picture change", "levels of 255", "target", "0..255",
        "Mean absolute change of grey level from frame to frame, on the picture at about 128 pixels: motion and "
        "flicker together, for there is no truth to tell them apart.", "this project", (), CURVES, once(picture_change),
    ),
    Metric(
        "blink_rate", "Blink rate", "blinks per minute", "target", "≥ 0",
        "Spans of 0.06 to 0.6 s in which the lids stand below 0.6 of the face's own open eyes (their 80th percentile), "
        "over the minutes with a face.", "this project", (), CURVES, once(blink_rate),
    ),
    Metric(
        "blink_duration", "Blink duration", "s", "target", "0.06..0.6", "Median length of those spans.", "this project",
        (), CURVES, once(blink_duration),
    ),
    Metric(
        "head_std", "Head motion", "degrees", "target", "≥ 0",
        "Root mean square of the standard deviations over time of pitch, yaw, roll (smoothed by a Gaussian of 0.12 s).",
        "this project", (), CURVES, _HEAD,
    ),
    Metric(
        "head_speed", "Head speed", "degrees per second", "target", "≥ 0",
        "Mean over time of the length of the change of pitch, yaw, roll per second (smoothed by a Gaussian of 0.12 s).",
        "this project", (), CURVES, _HEAD,
    ),
    Metric(
        "head_beat", "Head beat", "Hz", "target", "≥ 0",
        "Root mean square speed over standard deviation of the head's angles, over 2π: the frequency, if the head "
        "swings as a sine.", "this project", (), CURVES, _HEAD,
    ),
    Metric(
        "clustering_strength", "Clustering strength", "", "higher", "≥ 0",
        "Mean distance between the centroids of styles over the mean distance of clips to their own centroid.",
        "SVP, equation 7 (its formula is lost; this reading is the project's)", (),
    ),
    Metric(
        "centroid_accuracy", "Nearest-centroid accuracy", "", "higher", "0..1",
        "Share of clips that lie nearest to the centroid of their own style; chance is 1 over the number of styles.",
        "this project, beside the clustering strength", (),
    ),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric by its name, in the order in which reports show them."""


def register(metric: Metric) -> None:
    """Add a metric, which reports then show after the others.

    Raises:
        InputError: there is one of that name.
    """
    if metric.name in METRICS:
        raise InputError(f"there is a metric named {metric.name} already; choose another name.")
    METRICS[metric.name] = metric


def measured_metrics(reference_free: bool, names: Collection[str] | None = None) -> dict[str, Metric]:
    """The metrics of a report, in its order.

    Args:
        reference_free: of single videos, so that none needs the true video; else of pairs.
        names: those that are asked for; None takes the standard ones.

    Raises:
        InputError: an unknown name.
    """
    if unknown := [name for name in names or () if name not in METRICS or not METRICS[name].inputs]:
        available = ", ".join(name for name, metric in METRICS.items() if metric.inputs)
        raise InputError(f"there is no metric {', '.join(unknown)} of videos; the metrics are {available}.")
    selected = {name: m for name, m in METRICS.items() if m.inputs and (m.standard if names is None else name in names)}
    return {name: m for name, m in selected.items() if not (reference_free and TARGET in m.needs)}
