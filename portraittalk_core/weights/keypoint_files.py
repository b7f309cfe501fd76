"""Catalogue of the public files of renderers with implicit keypoints.

Names and shapes: `renderers/implicit/file_layouts.py`, which has more of them and opens the files.
"""

from __future__ import annotations

from .kind import WeightFile
from .repositories import LIVEPORTRAIT_EITHER

_STATED = "MIT or Apache-2.0 as stated; made with code under CC BY-NC"
_PLACE = {"folder": "liveportrait", "used": True, "flag": "--keypoints-folder FOLDER"}

KEYPOINT_KINDS = (
    WeightFile(
        "LivePortrait: appearance", f"{LIVEPORTRAIT_EITHER} appearance_feature_extractor", "MIT", size="3.4 MB",
        needs=(
            (r"(^|\.)first\.conv\.weight$", (64, 3, 3, 3)),
            (r"(^|\.)resblocks_3d\.3dr5\.conv1\.weight$", (32, 32, 3, 3, 3)),
        ),
        forbidden=(r"(^|\.)dense_motion_network\.",), **_PLACE,
    ),
    WeightFile(
        "LivePortrait: keypoints of pictures", f"{LIVEPORTRAIT_EITHER} motion_extractor", "MIT", size="113 MB",
        needs=((r"(^|\.)detector\.fc_kp\.weight$", (63, 768)), (r"(^|\.)detector\.fc_scale\.weight$", (1, 768))),
        **_PLACE,
    ),
    WeightFile(
        "LivePortrait: warping", f"{LIVEPORTRAIT_EITHER} warping_module", "MIT", size="182 MB",
        needs=(
            (r"(^|\.)dense_motion_network\.mask\.weight$", (22, 142, 7, 7, 7)),
            (r"(^|\.)third\.conv\.weight$", (256, 512, 3, 3)),
        ),
        forbidden=(r"(^|\.)decoder\.fc\.",), **_PLACE,
    ),
    WeightFile(
        "LivePortrait: picture", f"{LIVEPORTRAIT_EITHER} spade_generator", "MIT", size="222 MB",
        needs=(
            (r"(^|\.)G_middle_5\.conv_0\.weight(_orig)?$", (512, 512, 3, 3)),
            (r"(^|\.)conv_img\.0\.weight$", (12, 64, 3, 3)),
        ),
        **_PLACE,
    ),
    WeightFile(
        "LivePortrait: stitching, lips and eyes", f"{LIVEPORTRAIT_EITHER} stitching_retargeting_module", "MIT",
        size="under 3 MB",
        needs=((r"(^|\.)retarget_shoulder(_module)?\.(module\.)?mlp\.0\.weight$", (128, 126)),),
        note="without it heads are not stitched and lips not retargeted", **_PLACE,
    ),
    WeightFile(
        "face-vid2vid", "NetEase-Media/ControlTalk …-checkpoint.pth.tar or SadTalker facevid2vid_00189-model.pth.tar",
        _STATED, "controltalk", "2.1 GB",
        (
            (r"^generator\.(module\.)?dense_motion_network\.mask\.weight$", (16, 112, 7, 7, 7)),
            (r"^kp_detector\.(module\.)?kp\.weight$", (15, 32, 3, 3, 3)),
            (r"^he_estimator\.(module\.)?fc_exp\.weight$", (45, 2048)),
        ),
        used=True, flag="--keypoints-folder FOLDER",
        note="SadTalker_V0.0.2_*.safetensors lack the head estimator and cannot be used",
    ),
)  # fmt: skip
