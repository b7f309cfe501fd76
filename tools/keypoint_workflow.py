"""Workflow graphs of the keypoint renderers, for make_workflows.py: a portrait, a dubbed film, the mouth's opening."""

from portraittalk_core.weights.repositories import LIVEPORTRAIT_SAFETENSORS

PORTRAIT_NOTE = f"""## A portrait speaks, drawn by LivePortrait

1. **Load Image**: one upright face. **Load Audio**: the voice alone.
2. **Run.** AudioToLandmarks moves the face; **Landmarks To Keypoints** says the same in LivePortrait's keypoints;
   **Render Keypoints** draws it and puts the head back into the whole picture.

**Edit Keypoints** changes what the face does: mouth, eyes, brows, head, blinks. Mix in a second track (*other*), such
as the look of a film by Keypoints From Video, and say which *parts* are its.

Needed (MIT): LivePortrait's five files in *models/liveportrait*, for example those of
huggingface.co/{LIVEPORTRAIT_SAFETENSORS}; the page offers to fetch them. InsightFace is not needed.
"""

DUB_NOTE = """## A film says something else, drawn by LivePortrait

1. **Load Video**: the film, one face to follow. **Load Audio**: the new speech, the voice alone.
2. **Run.** **Keypoints From Video** finds the face; AudioToLandmarks gives it the mouth of the new speech; **Render
   Keypoints** draws the face into every frame. Any length: frames go straight into the video file.

Head, eyes and surroundings stay the film's. *alpha* opens the mouth more or less, 0 keeps it shut.

Have **Audio2Exp** (ControlTalk's lipControlNet.pt with its own checkpoint, or one that you trained)? Connect it
between *keypoints* of Keypoints From Video and Render Keypoints: then no landmarks are needed, and a speech longer than
the film goes on by ping-pong. For that also choose *film_end* ping-pong.

Needed (MIT): LivePortrait's five files in *models/liveportrait*.
"""

OPENING_NOTE = """## How far the mouth opens, asked and measured

1. **Run.** *alpha_points* of Render Keypoints goes from 0 to 2 over the sentence: at its beginning the mouth stays
   shut whatever is said, at its end it opens twice as far.
2. The **plot** shows what was asked, and the opening that the face mesh measures in the finished frames.

Other amounts: change *alpha* (for all frames) or *alpha_points* (over time). The *report* holds the numbers as JSON.

Needed (MIT): LivePortrait's five files in *models/liveportrait*.
"""

_KEYPOINTS = [("keypoints", "PORTRAITTALK_KEYPOINTS"), ("plot", "IMAGE"), ("frame_count", "INT"), ("fps", "FLOAT")]
_RENDERER = ("keypoint_renderer", "PORTRAITTALK_KEYPOINT_RENDERER")
KINDS = {
    "PortraitTalkLoadKeypointRenderer": (
        [],
        ["networks", "precision", "size", "compile"],
        [_RENDERER, ("name", "STRING")],
    ),
    "PortraitTalkKeypointsFromVideo": (
        [_RENDERER, ("video", "VIDEO"), ("frames", "IMAGE")],
        ["fps", "face_index", "on_missing", "crop"],
        [*_KEYPOINTS, ("landmarks", "PORTRAITTALK_LANDMARKS"), ("first_frame", "IMAGE")],
    ),
    "PortraitTalkLandmarksToKeypoints": (
        [_RENDERER, ("portrait", "IMAGE"), ("landmarks", "PORTRAITTALK_LANDMARKS")],
        ["bridge"],
        _KEYPOINTS,
    ),
    "PortraitTalkEditKeypoints": (
        [
            ("keypoints", "PORTRAITTALK_KEYPOINTS"),
            *[("other", "PORTRAITTALK_KEYPOINTS"), ("source", "PORTRAITTALK_KEYPOINTS")],
        ],
        [
            *("mouth_gain", "eyes_gain", "brows_gain", "rest_gain", "head_gain", "pitch_deg", "yaw_deg", "roll_deg"),
            *("blink_rate", "smoothing", "smoother", "seed", "control_after_generate", "parts", "share", "carry"),
            *("fps", "num_frames", "track_end"),
        ],
        _KEYPOINTS,
    ),
    "PortraitTalkRenderKeypoints": (
        [
            *[_RENDERER, ("keypoints", "PORTRAITTALK_KEYPOINTS,PORTRAITTALK_LANDMARKS")],
            *[("portrait", "IMAGE"), ("film", "VIDEO"), ("audio", "AUDIO")],
            ("film_landmarks", "PORTRAITTALK_LANDMARKS"),
        ],
        [
            *(
                "alpha",
                "keep_frames",
                "paste",
                "measure_opening",
                "alpha_points",
                "relative",
                "lips",
                "stitching",
                "bridge",
            ),
            *("match_colour", "batch_size", "film_end", "face_index", "crf"),
        ],
        [("images", "IMAGE"), ("video", "VIDEO"), ("plot", "IMAGE"), ("report", "STRING")],
    ),
}

_FILES = ("appearance_feature_extractor", "motion_extractor", "warping_module", "spade_generator")
_WEIGHTS = {
    "PortraitTalkLoadKeypointRenderer": [
        {
            "name": f"{name}.safetensors",
            "url": f"https://huggingface.co/{LIVEPORTRAIT_SAFETENSORS}/resolve/main/{name}.safetensors",
            "directory": "liveportrait",
        }
        for name in (*_FILES, "stitching_retargeting_module")
    ]
}
MODELS = dict.fromkeys(("keypoint_portrait", "keypoint_dub", "mouth_opening"), _WEIGHTS)

# titles, and left, top, width, height
GROUPS = {
    "keypoint_portrait": [
        ("1  Portrait and speech", (20, 310, 500, 650)),
        ("2  How the face moves", (560, -90, 420, 1050)),
        ("3  The same as keypoints", (1020, -90, 440, 1640)),
        ("4  LivePortrait draws", (1500, -90, 1080, 1640)),
    ],
    "keypoint_dub": [
        ("1  Film and new speech", (20, 420, 500, 800)),
        ("2  The film's face, the speech's mouth", (560, -90, 440, 1760)),
        ("3  LivePortrait draws it into every frame", (1040, -90, 1080, 1760)),
    ],
    "mouth_opening": [
        ("1  Portrait and speech", (20, 280, 500, 800)),
        ("2  How the face moves", (560, -90, 420, 1170)),
        ("3  Drawn, and measured", (1020, -90, 1300, 1170)),
    ],
}

_MOTION = [25.0, 1.0, 1.0, 15.0, 0, "fixed", 0, -45.0, 0.3, 0.0, "[]"]
_NETWORKS = ["models/liveportrait", "auto", "auto", False]
_EDIT = [1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, "one-euro", 0, "fixed"]
_EDIT += ["mouth", 1.0, "relative", 0.0, 0, "ping-pong"]


def _drawn(measured: bool = False, points: str = "[]", film_end: str = "cut") -> list:
    """Widget values of Render Keypoints."""
    return [1.0, "never", "picture", measured, points, False, "engine", True, "warp", 1.0, 4, film_end, 0, 16]


GRAPHS = {
    "keypoint_portrait": {
        "note": ("MarkdownNote", (20, -60), (500, 330), [PORTRAIT_NOTE], {}),
        "image": ("LoadImage", (40, 390), (340, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "sound": ("LoadAudio", (40, 780), (340, 140), ["portraittalk_speech.wav", None, None], {}),
        "motion": (
            "PortraitTalkAudioToLandmarks", (580, 0), (380, 640), _MOTION,
            {"portrait": ("image", 0), "audio": ("sound", 0)},
        ),
        "networks": ("PortraitTalkLoadKeypointRenderer", (1040, 0), (400, 130), _NETWORKS, {}),
        "bridge": (
            "PortraitTalkLandmarksToKeypoints", (1040, 190), (400, 400), ["warp"],
            {"keypoint_renderer": ("networks", 0), "portrait": ("image", 0), "landmarks": ("motion", 0)},
        ),
        "edit": ("PortraitTalkEditKeypoints", (1040, 650), (400, 870), _EDIT, {"keypoints": ("bridge", 0)}),
        "draw": (
            "PortraitTalkRenderKeypoints", (1520, 0), (420, 480), _drawn(),
            {
                "keypoint_renderer": ("networks", 0), "keypoints": ("edit", 0), "portrait": ("image", 0),
                "audio": ("sound", 0),
            },
        ),
        "save": (
            "SaveVideo", (1980, 0), (580, 700), ["video/PortraitTalk_keypoints", "auto", "auto"],
            {"video": ("draw", 1)},
        ),
    },
    "keypoint_dub": {
        "note": ("MarkdownNote", (20, -60), (500, 430), [DUB_NOTE], {}),
        # the node grows with the video it shows: an upright one must fit
        "film": ("LoadVideo", (40, 510), (280, 400), ["portraittalk_film.mp4", "image"], {}),
        "sound": ("LoadAudio", (40, 1020), (280, 140), ["portraittalk_speech.wav", None, None], {}),
        "networks": ("PortraitTalkLoadKeypointRenderer", (580, 0), (400, 130), _NETWORKS, {}),
        "watch": (
            "PortraitTalkKeypointsFromVideo", (580, 190), (400, 540), [25.0, 0, "hold", "follow"],
            {"keypoint_renderer": ("networks", 0), "video": ("film", 0)},
        ),
        "motion": (
            "PortraitTalkAudioToLandmarks", (580, 800), (400, 680), _MOTION,
            {"portrait": ("watch", 5), "audio": ("sound", 0), "driving_landmarks": ("watch", 4)},
        ),
        "draw": (
            "PortraitTalkRenderKeypoints", (1060, 0), (420, 480), _drawn(),
            {
                "keypoint_renderer": ("networks", 0), "keypoints": ("motion", 0), "film": ("film", 0),
                "audio": ("sound", 0),
            },
        ),
        "save": (
            "SaveVideo", (1520, 0), (580, 700), ["video/PortraitTalk_keypoint_dub", "auto", "auto"],
            {"video": ("draw", 1)},
        ),
    },
    "mouth_opening": {
        "note": ("MarkdownNote", (20, -60), (500, 300), [OPENING_NOTE], {}),
        "image": ("LoadImage", (40, 360), (340, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "sound": ("LoadAudio", (40, 750), (340, 140), ["portraittalk_speech.wav", None, None], {}),
        "motion": (
            "PortraitTalkAudioToLandmarks", (580, 0), (380, 640), _MOTION,
            {"portrait": ("image", 0), "audio": ("sound", 0)},
        ),
        "networks": ("PortraitTalkLoadKeypointRenderer", (580, 890), (380, 130), _NETWORKS, {}),
        "draw": (
            "PortraitTalkRenderKeypoints", (1040, 0), (640, 860), _drawn(True, "[[0, 0], [7.7, 2]]"),
            {
                "keypoint_renderer": ("networks", 0), "keypoints": ("motion", 0), "portrait": ("image", 0),
                "audio": ("sound", 0),
            },
        ),
        "save": (
            "SaveVideo", (1720, 0), (580, 700), ["video/PortraitTalk_opening", "auto", "auto"],
            {"video": ("draw", 1)},
        ),
    },
}  # fmt: skip

# widgets that the form of app mode shows, and nodes whose results it shows
FORMS = {
    "keypoint_portrait": (
        [
            *[("image", "image"), ("sound", "audio"), ("networks", "networks"), ("draw", "alpha")],
            *[("motion", "head_motion"), ("motion", "seed")],
        ],
        ["save"],
    ),
    "keypoint_dub": ([("film", "file"), ("sound", "audio"), ("networks", "networks"), ("draw", "alpha")], ["save"]),
}
