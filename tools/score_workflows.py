"""Workflow graphs of scores, for make_workflows.py: a video against the real one, two seeds against each other."""

SCORE_NOTE = """## How near is a generated video to the real one?

1. Upper **Load Video**: the generated video. Lower one: the real video of the same speech.
2. **Run.** The node shows the numbers, and a plot of where in time the two differ.

**ADFD** is 1 for the same landmarks in place and motion, 0 at worst. Landmark distances are percent of the distance
between the eyes; lower is better. **PSNR** and **SSIM** compare the pictures themselves.
"""

SEEDS_NOTE = """## Which seed speaks better?

1. **Load Image**: the portrait. **Load Audio**: what it says.
2. **Run.** The same portrait says the same twice, with two seeds: other blinks, another sway of the head.
3. **Score Without Reference** measures each by itself: lip sync, jitter, blinks, head motion.
   **Compare Videos** measures what the seed changes: everything, with the frames that differ most.
4. **Open the report** shows plots, frames, and what each number means.

Have the real video of this speech? Connect it to **target** of Compare Videos: the numbers say which take is nearer.

LSE, LPIPS, FID and FVD need files in *models/portraittalk*, identity needs InsightFace's buffalo_l and the portrait
connected. What is not there is told as not available. Nothing needs to be downloaded for the rest.
"""

PICTURES = "VIDEO,IMAGE"
_MORE = [("portrait", "IMAGE"), ("audio", "AUDIO")]
_COMMON_WIDGETS = ["fps", "face_index", "max_frames"]
KINDS = {
    "PortraitTalkADFDScore": (
        [("generated", "VIDEO,IMAGE,PORTRAITTALK_LANDMARKS"), ("target", "VIDEO,IMAGE,PORTRAITTALK_LANDMARKS")],
        ["fps", "face_index"],
        [("score", "FLOAT"), ("report", "STRING"), ("plot", "IMAGE")],
    ),
    "PortraitTalkCompareVideos": (
        [("generated", PICTURES), ("target", PICTURES), *_MORE],
        ["align", "crop", "filename_prefix", *_COMMON_WIDGETS],
        [
            *[("table", "STRING"), ("ADFD", "FLOAT"), ("SSIM", "FLOAT"), ("mouth_correlation", "FLOAT")],
            *[("LSE-C", "FLOAT"), ("plot", "IMAGE"), ("worst_frames", "IMAGE"), ("report", "STRING")],
            ("identity_to_target", "FLOAT"),
        ],
    ),
    "PortraitTalkScoreWithoutReference": (
        [("video", PICTURES), *_MORE],
        ["filename_prefix", *_COMMON_WIDGETS],
        [
            *[("table", "STRING"), ("sync", "FLOAT"), ("LSE-C", "FLOAT"), ("identity", "FLOAT"), ("jitter", "FLOAT")],
            *[("blink_rate", "FLOAT"), ("head_motion", "FLOAT"), ("plot", "IMAGE"), ("report", "STRING")],
        ],
    ),
}

# titles, and left, top, width, height
GROUPS = {
    "compare_two_seeds": [
        ("1  Portrait and speech", (20, 500, 460, 650)),
        ("2  Two takes", (520, 0, 900, 1790)),
        ("3  Each by itself", (1460, 0, 560, 1980)),
        ("4  What the seed changes", (2060, 0, 1000, 1980)),
    ],
}


def _take(name: str, seed: int, top: int) -> dict:
    """Nodes of one take: motion and video."""
    return {
        f"motion {name}": (
            "PortraitTalkAudioToLandmarks", (540, top), (400, 680),
            [25.0, 1.0, 1.0, 15.0, seed, "fixed", 0, -45.0, 0.3, 0.0, "[]"],
            {"portrait": ("image", 0), "audio": ("sound", 0)},
        ),
        f"draw {name}": (
            "PortraitTalkRenderPortrait", (1000, top), (400, 280), ["never", 16],
            {"portrait": ("image", 0), "landmarks": (f"motion {name}", 0), "audio": ("sound", 0)},
        ),
    }  # fmt: skip


def _score(name: str, seed: int, top: int) -> dict:
    return {
        f"score {name}": (
            "PortraitTalkScoreWithoutReference", (1480, top), (520, 900), [f"reports/seed_{seed}", 25.0, 0, 0],
            {"video": (f"draw {name}", 1)},
        ),
    }  # fmt: skip


GRAPHS = {
    "score_a_video": {
        "note": ("MarkdownNote", (40, 40), (420, 250), [SCORE_NOTE], {}),
        # the nodes grow with the video they show: an upright one must fit above the second
        "made": ("LoadVideo", (40, 350), (280, 400), ["portraittalk_generated.mp4", "image"], {}),
        "true": ("LoadVideo", (40, 860), (280, 400), ["portraittalk_film.mp4", "image"], {}),
        "score": (
            "PortraitTalkADFDScore",
            (500, 350),
            (720, 440),
            [25.0, 0],
            {"generated": ("made", 0), "target": ("true", 0)},
        ),
    },
    "compare_two_seeds": {
        "note": ("MarkdownNote", (20, 0), (460, 460), [SEEDS_NOTE], {}),
        "image": ("LoadImage", (40, 580), (400, 340), ["portraittalk_portrait.jpg", "image"], {}),
        "sound": ("LoadAudio", (40, 980), (400, 120), ["portraittalk_speech.wav", None, None], {}),
        **_take("a", 0, 80),
        **_take("b", 1, 950),
        **_score("a", 0, 80),
        **_score("b", 1, 1050),
        "compare": (
            "PortraitTalkCompareVideos", (2080, 80), (540, 1100),
            [False, "whole", "reports/two_seeds", 25.0, 0, 0],
            {"generated": ("draw b", 1), "target": ("draw a", 1)},
        ),
        "worst": ("PreviewImage", (2660, 80), (380, 420), [], {"images": ("compare", 6)}),
    },
}  # fmt: skip

# widgets that the form of app mode shows, and nodes whose results it shows
FORMS = {
    "score_a_video": ([("made", "file"), ("true", "file")], ["score"]),
}
