"""Workflow graph of style transfer from a reference video to a portrait, for make_workflows.py."""

NOTE = """## Speak in their style

1. **Load Video**: someone speaking, in the manner you want. One face, ten seconds or more.
2. **Load Image**: the portrait that is to speak so. **Load Audio**: what it says, the voice alone.
3. **Run.** The plot in StylePrior shows what is special about the reference; the video appears on the right.

**strength** 0 is no style, 1 the reference's, 2 exaggerates. Another **seed** of StylePrior speaks a little
differently, in the same style. *mouth_gain*, *head_motion* and *blink_rate* multiply what the style says.

No reference at hand? Choose a **preset**: calm, lively, emphatic, whispering, smiling …, and bypass Load Video
(Ctrl+B).

**Save Style** keeps the style as a small file; **Load Style** takes the place of StylePrior later.

**Blend Styles** mixes two, or lets one turn into the other while speaking.

Nothing needs to be downloaded. Select a node and press **i** above it for its help.
"""

PAINTED_NOTE = """## The style in your SD1.5's picture too

1. Train with **portraittalk train style**, and choose both files in StylePrior: **extractor**, **style_attention**.
2. Open **identity_portrait** or **talking_portrait**, and copy Load Video and StylePrior into it.
3. Connect **style** to AudioToLandmarks *and* to IdentityNet Sampler.

Without a *style_attention* the sampler paints the same frames as without a style, bit for bit.
"""

KINDS = {
    "PortraitTalkStylePrior": (
        [("video", "VIDEO"), ("frames", "IMAGE"), ("landmarks", "PORTRAITTALK_LANDMARKS"), ("audio", "AUDIO")],
        [
            *("preset", "strength", "noise", "seed", "control_after_generate"),
            *("extractor", "style_attention", "fps", "face_index"),
        ],
        [("style", "PORTRAITTALK_STYLE_PRIOR"), ("plot", "IMAGE"), ("summary", "STRING")],
    ),
    "PortraitTalkSaveStyle": ([("style", "PORTRAITTALK_STYLE_PRIOR")], ["filename_prefix"], [("path", "STRING")]),
}

# titles, and left, top, width, height
GROUPS = {
    "speak_in_their_style": [
        ("1  Who speaks like that", (20, 330, 500, 780)),
        ("Their style", (560, -90, 500, 1640)),
        ("2  Your portrait and speech", (1100, -90, 380, 620)),
        ("Speech in that style", (1520, -90, 420, 1640)),
        ("3  The video", (1980, -90, 620, 1640)),
    ],
}

GRAPHS = {
    "speak_in_their_style": {
        "note": ("MarkdownNote", (20, -60), (500, 360), [NOTE], {}),
        # the node grows with the video it shows: an upright one must fit
        "film": ("LoadVideo", (40, 410), (460, 560), ["portraittalk_film.mp4", "image"], {}),
        "style": (
            "PortraitTalkStylePrior", (580, 0), (460, 700),
            ["of the reference", 1.0, 0.1, 0, "fixed", "built-in", "none", 25.0, 0], {"video": ("film", 0)},
        ),
        "keep": (
            "PortraitTalkSaveStyle", (580, 790), (460, 110), ["styles/PortraitTalk"], {"style": ("style", 0)},
        ),
        "image": ("LoadImage", (1120, 0), (340, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "sound": ("LoadAudio", (1120, 380), (340, 120), ["portraittalk_speech.wav", None, None], {}),
        "painted": ("MarkdownNote", (1100, 570), (380, 270), [PAINTED_NOTE], {}),
        "motion": (
            "PortraitTalkAudioToLandmarks", (1540, 0), (380, 640),
            [25.0, 1.0, 1.0, 15.0, 0, "fixed", 0, -45.0, 0.3, 0.0, "[]"],
            {"portrait": ("image", 0), "audio": ("sound", 0), "style": ("style", 0)},
        ),
        "draw": (
            "PortraitTalkRenderPortrait", (1540, 880), (380, 280), ["never", 16],
            {"portrait": ("image", 0), "landmarks": ("motion", 0), "audio": ("sound", 0)},
        ),
        "save": (
            "SaveVideo", (2000, 0), (580, 700), ["video/PortraitTalk_style", "auto", "auto"], {"video": ("draw", 1)},
        ),
    },
}  # fmt: skip
