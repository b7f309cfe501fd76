"""Workflow graph that joins text, style, identity, mouth curve, AnimateNet and scores, for make_workflows.py."""

NOTE = """## Everything in one graph

1. **Load Image**, twice: two pictures of one person. The upper one is moved; both tell SD1.5 who it is.
2. **Load Audio**: what is said, the voice alone.
3. **StylePrior**: how it is said. A preset, or *of the reference* with a video connected.
4. **AudioToLandmarks**: draw how far the mouth opens into its timeline; the text *gain_points* is the same.
5. **Load Checkpoint**: any SD1.5. A LoRA of your own: choose it in **Load LoRA** and switch that node on (Ctrl+B).
   Write what the frames are to show, and what not.
6. **Run.** Try a short clip first: every frame is painted.

**ADFD Score** tells how nearly the painted face moves as the same motion drawn without SD1.5: 1 is the same. It needs
frames that show a face.

A trained *style_attention*, chosen in StylePrior, shows the style in the picture too; without one it moves the face.

Needed: what *talking_portrait* needs.
"""

GROUPS = {
    "everything": [
        ("1  One person, and the speech", (20, 430, 500, 1260)),
        ("2  How it is said", (560, -90, 500, 1780)),
        ("3  Your checkpoint, text, and who it is", (1100, -90, 440, 1780)),
        ("4  Motion, with the mouth's curve", (1580, -90, 420, 1780)),
        ("5  Frames that follow", (2040, -90, 440, 1780)),
        ("6  Paint", (2520, -90, 440, 1780)),
        ("7  The video, and its score", (3000, -90, 600, 1780)),
    ],
}

_CURVE = "[[0, 1], [1.2, 0.6], [2, 1.2]]"  # of the mouth's gain, as the timeline draws it

GRAPHS = {
    "everything": {
        "note": ("MarkdownNote", (20, -60), (500, 460), [NOTE], {}),
        "image": ("LoadImage", (40, 520), (300, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "second": ("LoadImage", (40, 900), (300, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "sound": ("LoadAudio", (40, 1280), (300, 120), ["portraittalk_speech.wav", None, None], {}),
        "style": (
            "PortraitTalkStylePrior", (580, 0), (460, 700),
            ["lively", 1.0, 0.1, 0, "fixed", "none", "none", 25.0, 0], {},
        ),
        "checkpoint": (
            "CheckpointLoaderSimple", (1120, 0), (400, 100), ["v1-5-pruned-emaonly-fp16.safetensors"], {},
        ),
        "lora": (
            "LoraLoader", (1120, 160), (400, 130), ["", 0.8, 0.8],
            {"model": ("checkpoint", 0), "clip": ("checkpoint", 1)},
        ),
        "positive": (
            "CLIPTextEncode", (1120, 350), (400, 130),
            ["portrait photo of a person speaking, sharp focus, natural light"], {"clip": ("lora", 1)},
        ),
        "negative": (
            "CLIPTextEncode", (1120, 540), (400, 130), ["blurry, deformed teeth, text, watermark"],
            {"clip": ("lora", 1)},
        ),
        "more": ("PortraitTalkLoadFaceEmbedding", (1120, 730), (400, 170), [0, ""], {"images": ("second", 0)}),
        "face": (
            "PortraitTalkLoadFaceEmbedding", (1120, 1080), (400, 170), [0, ""],
            {"images": ("image", 0), "more": ("more", 0)},
        ),
        "adapter": (
            "PortraitTalkLoadIdentityAdapter", (1120, 1430), (400, 190),
            ["ip-adapter-faceid_sd15.bin", "of the adapter", 0.8, "auto", 1.0], {},
        ),
        "motion": (
            "PortraitTalkAudioToLandmarks", (1600, 0), (380, 640),
            [25.0, 1.0, 1.0, 15.0, 0, "fixed", 0, -45.0, 0.3, 0.0, _CURVE],
            {"portrait": ("image", 0), "audio": ("sound", 0), "style": ("style", 0)},
        ),
        "draw": (
            "PortraitTalkRenderPortrait", (1600, 900), (380, 280), ["never", 16],
            {"portrait": ("image", 0), "landmarks": ("motion", 0), "audio": ("sound", 0)},
        ),
        "net": ("ControlNetLoader", (2060, 0), (400, 80), ["control_v2p_sd15_mediapipe_face.safetensors"], {}),
        "control": (
            "PortraitTalkAnimateNetControl", (2060, 140), (400, 500),
            ["v3_sd15_mm.ckpt", 1.0, 0.0, 1.0, 1.5, 1.0, "chunked", 16, 4, "mediapipe_face"],
            {"landmarks": ("motion", 0), "control_net": ("net", 0)},
        ),
        "hints": ("PreviewImage", (2060, 720), (400, 300), [], {"images": ("control", 1)}),
        "paint": (
            "PortraitTalkIdentityNetSampler", (2540, 0), (400, 750),
            [0, "fixed", 20, 3.5, "euler", "normal", 0.6, 0.8, 512, 512, "auto", 0.0, 1.0, "auto", "", 0, 25.0, 16],
            {
                "model": ("lora", 0), "vae": ("checkpoint", 2), "positive": ("positive", 0),
                "negative": ("negative", 0), "face_embedding": ("face", 0), "adapter": ("adapter", 0),
                "control": ("control", 0), "landmarks": ("motion", 0), "portrait": ("image", 0), "audio": ("sound", 0),
                "style": ("style", 0),
            },
        ),
        "save": (
            "SaveVideo", (3020, 0), (560, 640), ["video/PortraitTalk_everything", "auto", "auto"],
            {"video": ("paint", 1)},
        ),
        "score": (
            "PortraitTalkADFDScore", (3020, 1000), (560, 440), [25.0, 0],
            {"generated": ("paint", 1), "target": ("draw", 1)},
        ),
    },
}  # fmt: skip

SWITCHED_OFF = {"everything": ("lora",)}
