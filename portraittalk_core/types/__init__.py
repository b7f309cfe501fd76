"""The small frozen records that every stage hands to the next one.

Each checks itself on construction. Those that are kept turn themselves into named tensors plus text metadata
(``to_record``) and back (``from_record``), so that ``media.records`` can keep any of them as one safetensors file.

Shapes: T frames, N samples, K keypoints.
"""

from ..frame_rate import as_fps, num_frames_for
from .head_pose import HeadPose
from .keypoint_track import KEYPOINT_LAYOUTS, KeypointTrack
from .landmark_track import NUM_LANDMARKS, LandmarkTrack, joined_shoulders
from .motion_plan import MotionPlan, joined_plans
from .mouth import MOUTH_PARAMETERS, MouthCurves
from .portrait import Portrait, check_picture
from .record import Record
from .speech import SPEECH_RATE_HZ, Speech
from .style_statistics import STYLE_STATISTICS, StyleStatistics

__all__ = [
    "KEYPOINT_LAYOUTS",
    "STYLE_STATISTICS",
    "MOUTH_PARAMETERS",
    "NUM_LANDMARKS",
    "SPEECH_RATE_HZ",
    "HeadPose",
    "KeypointTrack",
    "LandmarkTrack",
    "StyleStatistics",
    "MotionPlan",
    "MouthCurves",
    "Portrait",
    "Record",
    "Speech",
    "as_fps",
    "check_picture",
    "joined_plans",
    "joined_shoulders",
    "num_frames_for",
]
