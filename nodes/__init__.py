"""The ComfyUI nodes: convert inputs, make one core call, convert outputs. This file is the only list of nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..portraittalk_core.media.once import once_in_each
from .animate import AnimateNetControl
from .bindings.progress import current_prompt
from .bindings.samples import offer_samples
from .compare import CompareVideos, ScoreWithoutReference
from .engine import LoadMotionEngine
from .face import BlendFaces, LoadFaceEmbedding
from .gaze import GazeAndBreath
from .identity import IdentityNetSampler, LoadIdentityAdapter
from .keypoints import KeypointsFromVideo, LandmarksToKeypoints, LoadKeypointRenderer
from .keypoints_edit import EditKeypoints
from .keypoints_files import LoadKeypoints, SaveKeypoints
from .keypoints_render import RenderKeypoints
from .keypoints_speech import Audio2Exp, AudioToKeypoints
from .landmarks import LandmarksFromVideo, LoadLandmarks, PreviewLandmarks, SaveLandmarks
from .lips import LoadLipRenderer, SelectReferences
from .lips_dub import DubLips
from .paste import CropFace, PasteFace
from .person import PersonMask
from .score import ADFDScore
from .speech import AudioToLandmarks
from .style import BlendStyles, StylePrior
from .style_files import LoadStyle, SaveStyle
from .together import SeveralSpeakers
from .vexpress import VExpressPortrait
from .video import RenderPortrait

NODES: list[type[io.ComfyNode]] = [
    AudioToLandmarks,
    GazeAndBreath,
    LoadMotionEngine,
    LandmarksFromVideo,
    PreviewLandmarks,
    SaveLandmarks,
    LoadLandmarks,
    RenderPortrait,
    LoadFaceEmbedding,
    BlendFaces,
    PersonMask,
    LoadIdentityAdapter,
    AnimateNetControl,
    IdentityNetSampler,
    VExpressPortrait,
    LoadKeypointRenderer,
    KeypointsFromVideo,
    LandmarksToKeypoints,
    Audio2Exp,
    AudioToKeypoints,
    EditKeypoints,
    RenderKeypoints,
    SaveKeypoints,
    LoadKeypoints,
    LoadLipRenderer,
    SelectReferences,
    DubLips,
    SeveralSpeakers,
    StylePrior,
    BlendStyles,
    SaveStyle,
    LoadStyle,
    CropFace,
    PasteFace,
    ADFDScore,
    CompareVideos,
    ScoreWithoutReference,
]


class PortraitTalkExtension(ComfyExtension):
    """The extension object that ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes of this pack."""
        return NODES


async def comfy_entrypoint() -> PortraitTalkExtension:
    """Called by ComfyUI when it loads the pack."""
    once_in_each(current_prompt)
    offer_samples()
    return PortraitTalkExtension()
