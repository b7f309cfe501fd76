"""Workflow graphs of the lip renderers, for make_workflows.py: a dub, a dub that is painted again, a mended clip."""

DUB_NOTE = """## A film says something else, in its own speaker's lips

1. **Load Video**: the film, one face to follow. **Load Audio**: the new speech, the voice alone.
2. **Run.** **Select References** shows which frames tell what teeth and lips look like; **Dub Lips** paints the mouth
   of the new speech into every frame. Any length: frames go straight into the video file.

Only the mouth is new; it rests where nobody speaks. Other references? Copy the numbers of *indices* into the input of
that name and change them. Another face? *face_at* in both nodes. A second speaker? Another Dub Lips behind the first,
with *keep_film_sound*.

Nothing needs to be downloaded: *lips* are networks of this pack, or your own of **portraittalk train lips**. Sharper
in close-ups: *musetalk* (MIT), or *iplap* (research only); the help of Load Lip Renderer says what they need.
"""

REPAINT_NOTE = """## Dubbed, then painted again by your own SD1.5

1. **Load Video**: a short film, one face. **Load Audio**: the new speech, the voice alone.
2. **Run.** **Dub Lips** gives the film its new mouth, in few pixels; your checkpoint paints the face again in 512×512,
   held by its landmarks and its identity; **Paste Face** puts it back, the *mask* of Dub Lips keeps all but the mouth
   as it was filmed.

Does the mouth change its shape? Lower *denoise*. Are the teeth still soft? Raise it. The whole face from SD1.5? Connect
Paste Face to Create Video instead.

**Length**: all frames lie in memory, four times: 10 seconds of 960×540 take 6 GB. Cut a longer film into parts.

Needed: what *talking_portrait* needs.
"""

FIX_NOTE = """## A generated clip whose lips fail gets the mouth of its own sound

1. **Load Video**: the clip that a video model made, with the voice in it.
2. **Run.** **Dub Lips** paints the mouth that its sound asks for; all else stays as it was generated.

Is there music under the voice? Connect **Load Audio** with the voice alone to *audio*. Do the lips still look like the
old ones? Raise *mouth_gain*. Many faces: *face_at* takes a mask or a box. A drawn face that is not found by its
landmarks cannot be mended.

Nothing needs to be downloaded. Close-ups, and drawn mouths, are sharper with *musetalk* (MIT): the help of Load Lip
Renderer says what it needs.
"""

_RENDERER = ("lip_renderer", "PORTRAITTALK_LIP_RENDERER")
_REFERENCES = ("references", "PORTRAITTALK_LIP_REFERENCES")
KINDS = {
    "PortraitTalkLoadLipRenderer": (
        [],
        ["renderer", "file", "precision", "vae", "encoder"],
        [_RENDERER, ("name", "STRING")],
    ),
    "PortraitTalkSelectReferences": (
        [("film", "VIDEO,IMAGE"), ("landmarks", "PORTRAITTALK_LANDMARKS")],
        ["num_references", "num_lip_references", "indices", "face_index"],
        [_REFERENCES, ("contact_sheet", "IMAGE"), ("indices", "STRING")],
    ),
    "PortraitTalkDubLips": (
        [
            *[("film", "VIDEO"), ("audio", "AUDIO"), _RENDERER, _REFERENCES],
            *[("engine", "PORTRAITTALK_MOTION_ENGINE"), ("film_landmarks", "PORTRAITTALK_LANDMARKS")],
        ],
        [
            *("mouth_gain", "voice_gate", "sharpen", "match_colour", "blend", "feather", "keep_frames"),
            *("num_references", "num_lip_references", "crop_pad", "max_yaw", "batch_size", "silence_gate_db"),
            *("smoothing", "offset_ms", "film_end", "scenes", "face_index", "crf", "resume"),
        ],
        [("video", "VIDEO"), ("frames", "IMAGE"), ("landmarks", "PORTRAITTALK_LANDMARKS"), ("mask", "MASK")],
    ),
    "ImageCompositeMasked": (
        [("destination", "IMAGE"), ("source", "IMAGE"), ("mask", "MASK")],
        ["x", "y", "resize_source"],
        [("IMAGE", "IMAGE")],
    ),
}

# titles, and left, top, width, height
GROUPS = {
    "dub_lips": [
        ("1  Film and new speech", (20, 420, 500, 800)),
        ("2  Networks, and the speaker's own lips", (560, -90, 440, 1310)),
        ("3  The new mouth", (1020, -90, 460, 1310)),
        ("4  The video", (1500, -90, 620, 1310)),
    ],
    "dub_then_repaint": [
        ("1  Film and new speech", (20, 430, 500, 890)),
        ("2  The new mouth", (560, -90, 440, 1410)),
        ("3  Whose face, in which words", (1020, -90, 440, 1410)),
        ("4  Only the face, held to the landmarks", (1480, -90, 440, 1410)),
        ("5  Paint", (1940, -90, 440, 1410)),
        ("6  Only the mouth is taken", (2400, -90, 620, 1410)),
    ],
    "fix_lips_of_a_generated_clip": [
        ("1  The clip, and its own sound", (20, 370, 500, 850)),
        ("2  The mouth that it asks for", (560, -90, 460, 1310)),
        ("3  The video", (1040, -90, 620, 1310)),
    ],
}


def _dubbed(keep_frames: str) -> list:
    """Widget values of Dub Lips."""
    advanced = [-1, -1, -1.0, 55.0, 8, -45.0, 0.3, 0.0, "cut", "same", 0, 16, True]
    return [1.0, 1.0, 1.0, 1.0, "auto", 0.08, keep_frames, *advanced]


_LIPS = ["lips", "auto", "auto", "auto", "auto"]
_FILM = {"film": ("film", 0), "audio": ("sound", 0), "lip_renderer": ("networks", 0)}
_FACE = {"model": ("checkpoint", 0), "vae": ("checkpoint", 2), "positive": ("positive", 0), "negative": ("negative", 0)}
_FACE |= {"face_embedding": ("face", 0), "adapter": ("adapter", 0), "control": ("control", 0)}

GRAPHS = {
    "dub_lips": {
        "note": ("MarkdownNote", (20, -60), (500, 430), [DUB_NOTE], {}),
        # the node grows with the video it shows: an upright one must fit
        "film": ("LoadVideo", (40, 510), (280, 400), ["portraittalk_film.mp4", "image"], {}),
        "sound": ("LoadAudio", (40, 1020), (280, 140), ["portraittalk_speech.wav", None, None], {}),
        "networks": ("PortraitTalkLoadLipRenderer", (580, 0), (400, 200), _LIPS, {}),
        "select": ("PortraitTalkSelectReferences", (580, 320), (400, 560), [12, 1, "", 0], {"film": ("film", 0)}),
        "dub": ("PortraitTalkDubLips", (1040, 0), (420, 780), _dubbed("never"), _FILM | {"references": ("select", 0)}),
        "save": (
            "SaveVideo", (1520, 0), (580, 700), ["video/PortraitTalk_lips", "auto", "auto"], {"video": ("dub", 0)},
        ),
    },
    "dub_then_repaint": {
        "note": ("MarkdownNote", (20, -60), (500, 450), [REPAINT_NOTE], {}),
        "film": ("LoadVideo", (40, 520), (280, 400), ["portraittalk_film.mp4", "image"], {}),
        "sound": ("LoadAudio", (40, 1030), (280, 120), ["portraittalk_speech.wav", None, None], {}),
        "networks": ("PortraitTalkLoadLipRenderer", (580, 0), (400, 200), _LIPS, {}),
        "dub": ("PortraitTalkDubLips", (580, 300), (400, 780), _dubbed("always"), _FILM),
        "first": ("ImageFromBatch", (1040, 0), (400, 90), [0, 1], {"image": ("dub", 1)}),
        "face": ("PortraitTalkLoadFaceEmbedding", (1040, 150), (400, 170), [0, ""], {"images": ("first", 0)}),
        "adapter": (
            "PortraitTalkLoadIdentityAdapter", (1040, 500), (400, 190),
            ["ip-adapter-faceid_sd15.bin", "of the adapter", 0.8, "auto", 1.0], {},
        ),
        "checkpoint": (
            "CheckpointLoaderSimple", (1040, 750), (400, 100), ["v1-5-pruned-emaonly-fp16.safetensors"], {},
        ),
        "positive": (
            "CLIPTextEncode", (1040, 910), (400, 130),
            ["close-up photo of the face of a person speaking, sharp teeth and lips, natural light"],
            {"clip": ("checkpoint", 1)},
        ),
        "negative": (
            "CLIPTextEncode", (1040, 1100), (400, 130), ["blurry, deformed teeth, text, watermark"],
            {"clip": ("checkpoint", 1)},
        ),
        "crop": (
            "PortraitTalkCropFace", (1500, 0), (400, 150), [0.4, "auto", 512],
            {"image": ("dub", 1), "landmarks": ("dub", 2)},
        ),
        "encode": ("VAEEncode", (1500, 210), (400, 60), [], {"pixels": ("crop", 0), "vae": ("checkpoint", 2)}),
        "net": ("ControlNetLoader", (1500, 330), (400, 80), ["control_v2p_sd15_mediapipe_face.safetensors"], {}),
        "control": (
            "PortraitTalkAnimateNetControl", (1500, 470), (400, 500),
            ["v3_sd15_mm.ckpt", 1.0, 0.0, 1.0, 2.0, 1.0, "chunked", 16, 4, "mediapipe_face"],
            {"landmarks": ("crop", 1), "control_net": ("net", 0)},
        ),
        "paint": (
            "PortraitTalkIdentityNetSampler", (1960, 0), (400, 750),
            [0, "fixed", 20, 3.5, "euler", "normal", 0.4, 0.8, 512, 512, "always", 0.0, 1.0, "auto", "", 0, 25.0, 16],
            _FACE | {"latent": ("encode", 0)},
        ),
        "hints": ("PreviewImage", (1960, 880), (400, 290), [], {"images": ("control", 1)}),
        "paste": (
            "PortraitTalkPasteFace", (2420, 0), (580, 210), [0.4, 0.15, 1.0, "auto", "auto"],
            {"frames": ("paint", 0), "target": ("dub", 1), "landmarks": ("dub", 2)},
        ),
        "mouth": (
            "ImageCompositeMasked", (2420, 270), (280, 150), [0, 0, False],
            {"destination": ("dub", 1), "source": ("paste", 0), "mask": ("dub", 3)},
        ),
        "parts": ("GetVideoComponents", (2720, 270), (280, 80), [], {"video": ("dub", 0)}),
        "video": (
            "CreateVideo", (2420, 490), (580, 80), [25.0],
            {"images": ("mouth", 0), "audio": ("parts", 1), "fps": ("parts", 2)},
        ),
        "save": (
            "SaveVideo", (2420, 660), (580, 620), ["video/PortraitTalk_repainted", "auto", "auto"],
            {"video": ("video", 0)},
        ),
    },
    "fix_lips_of_a_generated_clip": {
        "note": ("MarkdownNote", (20, -60), (500, 380), [FIX_NOTE], {}),
        "film": ("LoadVideo", (40, 460), (280, 400), ["portraittalk_generated.mp4", "image"], {}),
        "sound": ("GetVideoComponents", (40, 970), (280, 80), [], {"video": ("film", 0)}),
        "networks": (
            "PortraitTalkLoadLipRenderer", (580, 0), (420, 200), _LIPS, {},
        ),
        "dub": ("PortraitTalkDubLips", (580, 300), (420, 780), _dubbed("never"), _FILM | {"audio": ("sound", 1)}),
        "save": (
            "SaveVideo", (1060, 0), (580, 700), ["video/PortraitTalk_mended", "auto", "auto"], {"video": ("dub", 0)},
        ),
    },
}  # fmt: skip

# widgets that the form of app mode shows, and nodes whose results it shows
FORMS = {
    "dub_lips": (
        [
            *[("film", "file"), ("sound", "audio"), ("networks", "renderer")],
            *[("dub", "mouth_gain"), ("dub", "voice_gate")],
        ],
        ["save"],
    ),
}
