"""Says exactly what every number of a score report is, so that no two definitions are mistaken for each other."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..checks import check_choice
from .files import ALEXNET, I3D, INCEPTION, LPIPS_HEADS, SYNCNET
from .packages import KORNIA, TORCHMETRICS

BETTER = ("higher", "lower", "target", "neither")

# what a metric may need besides the video it is of
TARGET, SPEECH, PORTRAIT = "the true video", "the speech", "the portrait"
FACE_ENCODER = "the face encoder (InsightFace's buffalo_l)"
NEEDS = (TARGET, SPEECH, PORTRAIT, FACE_ENCODER, SYNCNET, ALEXNET, LPIPS_HEADS, INCEPTION, I3D, KORNIA, TORCHMETRICS)


@dataclass(frozen=True)
class MetricDefinition:
    """What one number is."""

    name: str  # in files
    title: str  # for a person
    unit: str  # empty for a pure number
    better: str  # "higher", "lower", "target": as near to the true video's as can be; "neither"
    range: str  # of possible values
    text: str  # the definition, as reports show it
    source: str  # paper, equation, or whose code reports it so
    needs: tuple[str, ...] = (TARGET,)  # of NEEDS

    def __post_init__(self) -> None:
        check_choice(self.better, BETTER, f"which way {self.name} is better")
        for need in self.needs:
            check_choice(need, NEEDS, f"what {self.name} needs")

    def missing(self, available: Collection[str]) -> str:
        """What to show instead of a number, "not available: needs …"; empty if it can be measured.

        Args:
            available: of NEEDS, what there is.
        """
        lacks = [need for need in self.needs if need not in available]
        return f"not available: needs {' and '.join(lacks)}" if lacks else ""


_WANG = "Wang et al. 2004, equation 13"
_LM68 = "68 points read off MediaPipe's mesh (metrics/points68.py), not a 68-point detector's"
_SYNC = (
    "SyncNet v2 on 5 frames of the face crop (224×224, BGR 0..255) and 20 columns of 13 cepstra, at 25 fps and 16 kHz; "
    "Euclidean distances of 1024 numbers at 31 shifts of the sound, mean over the windows of each shift"
)

_ALL = (
    MetricDefinition(
        "psnr", "PSNR", "dB", "higher", "0..∞",
        "10·log10(255² / MSE), MSE over all pixels and channels of a frame, mean over frames; identical frames, which "
        "would be infinite, are left out and counted.", "ITU-T J.247, annex; by kornia", (TARGET, KORNIA),
    ),
    MetricDefinition(
        "ssim", "SSIM", "", "higher", "−1..1",
        "Gaussian window 11×11, σ 1.5, K 0.01 and 0.03, population covariance, windows wholly inside the frame, mean "
        "over channels and frames; RGB 0..255, no downsampling.", f"{_WANG}; by kornia", (TARGET, KORNIA),
    ),
    MetricDefinition(
        "lpips", "LPIPS (AlexNet, v0.1)", "", "lower", "≥ 0",
        "Five layers of AlexNet, each position's channels brought to length 1, squared differences weighted by the "
        "learnt heads, mean over positions, sum over layers, mean over frames; RGB −1..1 at the frame's own size.",
        "Zhang et al. 2018, equation 1", (TARGET, ALEXNET, LPIPS_HEADS),
    ),
    MetricDefinition(
        "fid", "FID", "", "lower", "≥ 0",
        "Fréchet distance of the frames' 2048 features of Inception-v3 (FID's weights of 2015-12-05), frames scaled to "
        "299×299 as TensorFlow 1 did, unbiased covariance. Fewer than 2048 frames make it too high: compare only with "
        "numbers of as many frames.", "Heusel et al. 2017, equation 6; by torchmetrics",
        (TARGET, INCEPTION, TORCHMETRICS),
    ),
    MetricDefinition(
        "fvd", "FVD", "", "lower", "≥ 0",
        "Fréchet distance of the 400 outputs of I3D (Kinetics-400) over clips of 16 frames that do not overlap, "
        "224×224, RGB −1..1, unbiased covariance. It depends on the number of clips: compare only with as many.",
        "Unterthiner et al. 2018, equation 2; weights as StyleGAN-V has them", (TARGET, I3D),
    ),
    MetricDefinition(
        "m_lmd", "M-LMD", "px at 256", "lower", "≥ 0",
        "20 mouth points, their centroid subtracted in each frame, mean Euclidean distance, in pixels of a face crop "
        f"scaled to 256×256, mean over frames with a face in both; {_LM68}.", "ControlTalk, SVP (as EAT measures it)",
    ),
    MetricDefinition(
        "f_lmd", "F-LMD", "px at 256", "lower", "≥ 0",
        "68 face points, their centroid subtracted in each frame, mean Euclidean distance, in pixels of a face crop "
        f"scaled to 256×256, mean over frames with a face in both; {_LM68}.", "ControlTalk, SVP (as EAT measures it)",
    ),
    MetricDefinition(
        "lmd_atvg", "LMD (ATVG)", "px", "lower", "≥ 0",
        f"20 mouth points, their centroid subtracted, sum of their 20 Euclidean distances, mean over frames; {_LM68}.",
        "Chen et al. 2019 (ATVG-Net), as its code measures it",
    ),
    MetricDefinition(
        "lmd_lip", "LipLMD (IP-LAP)", "px", "lower", "≥ 0",
        f"20 mouth points as they stand, mean of |dx| and |dy|, mean over frames; {_LM68}.",
        "Zhong et al. 2023 (IP-LAP), as the code that it names measures it",
    ),
    MetricDefinition(
        "m_lmd_iod", "M-LMD, free of resolution", "% of inter-ocular distance", "lower", "≥ 0",
        "40 points of MediaPipe's lip contours, centroid subtracted, mean Euclidean distance over the true distance "
        "between the eyes' middles, times 100, mean over frames.", "this project",
    ),
    MetricDefinition(
        "f_lmd_iod", "F-LMD, free of resolution", "% of inter-ocular distance", "lower", "≥ 0",
        "MediaPipe's 468 face points, centroid subtracted, mean Euclidean distance over the true distance between the "
        "eyes' middles, times 100, mean over frames.", "this project",
    ),
    MetricDefinition(
        "adfd", "ADFD", "", "higher", "0..1",
        "S·C: S is 1 − the landmarks' root mean square distance over the image diagonal, mean over frames; C is "
        "(cosine + 1) / 2 of the landmarks' motion from frame to frame, mean over steps; both still counts 1, one "
        "still ½. The formula as printed mixes units, so this is the reading its text asks for.",
        "PortraitTalk, equation 3",
    ),
    MetricDefinition(
        "lse_d", "LSE-D", "", "lower", "≥ 0", f"{_SYNC}; the least of the 31 means.",
        "Chung and Zisserman 2016; Prajwal et al. 2020, section 4.2", (SPEECH, SYNCNET),
    ),
    MetricDefinition(
        "lse_c", "LSE-C", "", "higher", "≥ 0", f"{_SYNC}; the 16th smallest of the 31 means minus the least.",
        "Chung and Zisserman 2016; Prajwal et al. 2020, section 4.2", (SPEECH, SYNCNET),
    ),
    MetricDefinition(
        "av_offset", "Offset of sound and lips", "frames of 40 ms", "target", "−15..15",
        f"{_SYNC}; 15 − the number (from 0) of the shift with the least mean. Negative: the sound's own match lies "
        "later in the sound track.", "Chung and Zisserman 2016", (SPEECH, SYNCNET),
    ),
    MetricDefinition(
        "identity", "Identity similarity (CSIM)", "", "higher", "−1..1",
        "Cosine of the ArcFace embeddings (buffalo_l, w600k_r50) of the aligned face and the reference's, mean over "
        "frames with a face.", "Deng et al. 2019", (PORTRAIT, FACE_ENCODER),
    ),
    MetricDefinition(
        "identity_to_target", "Identity similarity to the target", "", "higher", "−1..1",
        "Cosine of the ArcFace embeddings (buffalo_l, w600k_r50) of the largest face in the generated frame and in the "
        "target's frame of the same time, each aligned by its own five points; one frame a second from the first "
        "compared one on, mean over those with a face in both.", "Deng et al. 2019", (TARGET, FACE_ENCODER),
    ),
    MetricDefinition(
        "jitter", "Landmark jitter", "% of inter-ocular distance per frame²", "target", "≥ 0",
        "Mean length of p[t−1] − 2·p[t] + p[t+1] over points that speech hardly moves, over the clip's mean "
        "distance between the eyes, times 100. Depends on the frame rate: compare at one rate.", "this project", (),
    ),
    MetricDefinition(
        "jitter_still", "Landmark jitter without head motion", "% of inter-ocular distance per frame²", "target",
        "≥ 0", "As landmark jitter, after every frame's head position, turn and size are taken out by a similarity "
        "fit of those points to the canonical face.", "this project", (),
    ),
    MetricDefinition(
        "flicker", "Flicker", "levels of 255", "lower", "0..255",
        "Mean absolute change from frame to frame of the generated pixels at places where no channel of the true video "
        "changes by more than 2 levels; over all such pixels of all steps.", "this project",
    ),
    MetricDefinition(
        "mouth_correlation", "Mouth-opening correlation", "", "higher", "−1..1",
        "Pearson correlation of the inner-lip gaps (over the inter-ocular distance) of both videos, over frames with a "
        "face in both; 0 for a mouth that does not move.", "this project",
    ),
    MetricDefinition(
        "blink_rate", "Blink rate", "blinks per minute", "target", "≥ 0",
        "Spans of 0.06 to 0.6 s in which the lids stand below 0.6 of the face's own open eyes (their 80th percentile), "
        "over the minutes with a face.", "this project", (),
    ),
    MetricDefinition(
        "blink_duration", "Blink duration", "s", "target", "0.06..0.6", "Median length of those spans.", "this project",
        (),
    ),
    MetricDefinition(
        "head_std", "Head motion", "degrees", "target", "≥ 0",
        "Root mean square of the standard deviations over time of pitch, yaw, roll (calmed by a Gaussian of 0.12 s).",
        "this project", (),
    ),
    MetricDefinition(
        "head_speed", "Head speed", "degrees per second", "target", "≥ 0",
        "Mean over time of the length of the change of pitch, yaw, roll per second (calmed by a Gaussian of 0.12 s).",
        "this project", (),
    ),
    MetricDefinition(
        "head_beat", "Head beat", "Hz", "target", "≥ 0",
        "Root mean square speed over standard deviation of the head's angles, over 2π: the frequency, if the head "
        "swings as a sine.", "this project", (),
    ),
    MetricDefinition(
        "clustering_strength", "Clustering strength", "", "higher", "≥ 0",
        "Mean distance between the centroids of styles over the mean distance of clips to their own centroid.",
        "SVP, equation 7 (its formula is lost; this reading is the project's)", (),
    ),
    MetricDefinition(
        "centroid_accuracy", "Nearest-centroid accuracy", "", "higher", "0..1",
        "Share of clips that lie nearest to the centroid of their own style; chance is 1 over the number of styles.",
        "this project, beside the clustering strength", (),
    ),
)  # fmt: skip

METRICS: dict[str, MetricDefinition] = {definition.name: definition for definition in _ALL}
"""Every metric by its name, in the order that reports show them."""
