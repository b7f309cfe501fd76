"""Workflow graphs of whole videos, for make_workflows.py: a long speech, and a dubbed video."""

LONG_NOTE = """## A speech of any length becomes a video

1. **Load Image**: the portrait. **Load Audio**: the speech, minutes or an hour long.
2. **Trim Audio Duration** passes on the first 10 seconds: settle text, seed and *denoise* with them. Then set
   *duration* to more than the speech lasts, such as 36000, and **Run** the whole.

Frames go straight into the video file as soon as they are final, so memory does not grow with the length. Leave
*keep_frames* at **auto**: above 300 frames *images* holds only the first. Take the *video* output.

*mode* of AnimateNet Control:
- **chunked** (the paper's): each chunk begins with the last *overlap* frames of the one before. Steady for any length.
- **sliding**: windows of a section of 52 frames are blended in every step. Softer seams; more memory, but flat too.

Stopped half-way? Press **Run** again with the same inputs: with *resume*, finished chunks are read back, not painted
again.

**Few steps**: AnimateLCM's LoRA and motion module need 6 steps. *cfg* 1 paints in one pass, twice as fast; the negative
text counts only above 1. Needed besides those of *talking_portrait*: **AnimateLCM_sd15_t2v_lora.safetensors** in
models/loras, **AnimateLCM_sd15_t2v.ckpt** in models/animatediff_models.
"""

DUB_NOTE = """## A video says something else

1. **Load Video**: the video to dub, with one face to follow. **Load Audio**: the new speech, the voice alone.
2. **Run.** Only the face is painted, at 512×512, and pasted back; the rest of the picture stays as it is.

Lips, chin and cheeks follow the new speech; head, eyes and brows stay the video's. **The video sets the length**: of a
longer speech the rest is left out, after a shorter one the mouth rests closed. Frames without a face pass through
untouched. *face_index* chooses among several faces, *batch_index* the frame that tells whose face it is.

Does the old mouth show through? Raise *denoise*, or *mouth_weight* of AnimateNet Control. Does the face look like
another person's? Lower *denoise*, raise *identity_strength*. *margin* must be the same in Crop Face and Paste Face.

**Length**: all frames lie in memory, twice. 10 seconds of 1920×1080 take 12 GB, of 960×540 3 GB. Cut a longer video
into parts, or make it smaller before. Leave *keep_frames* at **always**.

Needed: what *talking_portrait* needs.
"""

KINDS = {
    "TrimAudioDuration": ([("audio", "AUDIO")], ["start_index", "duration"], [("AUDIO", "AUDIO")]),
    "LoraLoaderModelOnly": ([("model", "MODEL")], ["lora_name", "strength_model"], [("MODEL", "MODEL")]),
    "GetVideoComponents": (
        [("video", "VIDEO")], [], [("images", "IMAGE"), ("audio", "AUDIO"), ("fps", "FLOAT")],
    ),
    "ImageFromBatch": ([("image", "IMAGE")], ["batch_index", "length"], [("IMAGE", "IMAGE")]),
    "VAEEncode": ([("pixels", "IMAGE"), ("vae", "VAE")], [], [("LATENT", "LATENT")]),
    "CreateVideo": ([("images", "IMAGE"), ("audio", "AUDIO")], ["fps"], [("VIDEO", "VIDEO")]),
    "PortraitTalkLandmarksFromVideo": (
        [("video", "VIDEO"), ("frames", "IMAGE"), ("face_landmarks", "FACE_LANDMARKS")],
        ["fps", "face_index", "on_missing"],
        [("landmarks", "PORTRAITTALK_LANDMARKS"), ("frame_count", "INT"), ("fps", "FLOAT")],
    ),
    "PortraitTalkCropFace": (
        [("image", "IMAGE"), ("landmarks", "PORTRAITTALK_LANDMARKS")],
        ["margin", "box", "size"],
        [("crops", "IMAGE"), ("landmarks", "PORTRAITTALK_LANDMARKS")],
    ),
    "PortraitTalkPasteFace": (
        [("frames", "IMAGE"), ("target", "IMAGE"), ("landmarks", "PORTRAITTALK_LANDMARKS")],
        ["margin", "feather", "match_colour", "box", "mask"],
        [("images", "IMAGE")],
    ),
}  # fmt: skip

_LCM = "https://huggingface.co/wangfuyun/AnimateLCM/resolve/main"
_LCM_LORA, _LCM_MODULE = "AnimateLCM_sd15_t2v_lora.safetensors", "AnimateLCM_sd15_t2v.ckpt"
# other weights than workflow_nodes.py's
MODELS = {
    "long_speech": {
        "LoraLoaderModelOnly": [{"name": _LCM_LORA, "url": f"{_LCM}/{_LCM_LORA}", "directory": "loras"}],
        "PortraitTalkAnimateNetControl": [
            {"name": _LCM_MODULE, "url": f"{_LCM}/{_LCM_MODULE}", "directory": "animatediff_models"}
        ],
    },
}

# titles, and left, top, width, height
GROUPS = {
    "long_speech": [
        ("Portrait and speech", (20, 420, 500, 790)),
        ("Checkpoint with few steps", (560, -90, 420, 420)),
        ("Motion", (560, 350, 420, 930)),
        ("Text and face", (1000, -90, 440, 1210)),
        ("Frames that follow and hold together", (1460, -90, 440, 1210)),
        ("Paint, and save as it grows", (1920, -90, 1060, 1210)),
    ],
    "dub_a_video": [
        ("Video and new speech", (20, 430, 500, 890)),
        ("Face of the video, mouth of the speech", (560, -90, 420, 1410)),
        ("Whose face, in which words", (1000, -90, 440, 1410)),
        ("Only the face, held to the landmarks", (1460, -90, 440, 1410)),
        ("Paint", (1920, -90, 440, 1410)),
        ("Paste back, with the new sound", (2380, -90, 620, 1410)),
    ],
}

_SAMPLED = ["auto", 0.0, 1.0, "auto", "", 0, 25.0, 16]  # keep_frames and the advanced inputs
_FACE = {"model": ("checkpoint", 0), "vae": ("checkpoint", 2), "positive": ("positive", 0), "negative": ("negative", 0)}
_FACE |= {"face_embedding": ("face", 0), "adapter": ("adapter", 0), "control": ("control", 0)}
_MOTION = [25.0, 1.0, 1.0, 15.0, 0, "fixed", 0, -45.0, 0.3, 0.0, "[]"]
_ADAPTER = ["ip-adapter-faceid_sd15.bin", "of the adapter", 0.8, "auto", 1.0]

GRAPHS = {
    "long_speech": {
        "note": ("MarkdownNote", (20, -60), (500, 450), [LONG_NOTE], {}),
        "image": ("LoadImage", (40, 510), (300, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "sound": ("LoadAudio", (40, 880), (300, 120), ["portraittalk_speech.wav", None, None], {}),
        "start": ("TrimAudioDuration", (40, 1080), (300, 90), [0.0, 10.0], {"audio": ("sound", 0)}),
        "checkpoint": (
            "CheckpointLoaderSimple", (580, 0), (380, 100), ["v1-5-pruned-emaonly-fp16.safetensors"], {},
        ),
        "lora": ("LoraLoaderModelOnly", (580, 160), (380, 90), [_LCM_LORA, 1.0], {"model": ("checkpoint", 0)}),
        "motion": (
            "PortraitTalkAudioToLandmarks", (580, 440), (380, 640), _MOTION,
            {"portrait": ("image", 0), "audio": ("start", 0)},
        ),
        "positive": (
            "CLIPTextEncode", (1020, 0), (400, 130),
            ["portrait photo of a person speaking, sharp focus, natural light"], {"clip": ("checkpoint", 1)},
        ),
        "negative": (
            "CLIPTextEncode", (1020, 190), (400, 130), ["blurry, deformed teeth, text, watermark"],
            {"clip": ("checkpoint", 1)},
        ),
        "face": ("PortraitTalkLoadFaceEmbedding", (1020, 380), (400, 170), [0, ""], {"images": ("image", 0)}),
        "adapter": ("PortraitTalkLoadIdentityAdapter", (1020, 720), (400, 190), _ADAPTER, {}),
        "net": ("ControlNetLoader", (1480, 0), (400, 80), ["control_v2p_sd15_mediapipe_face.safetensors"], {}),
        "control": (
            "PortraitTalkAnimateNetControl", (1480, 140), (400, 500),
            [_LCM_MODULE, 1.0, 0.0, 1.0, 1.5, 1.0, "chunked", 16, 4, "mediapipe_face"],
            {"landmarks": ("motion", 0), "control_net": ("net", 0)},
        ),
        "hints": ("PreviewImage", (1480, 720), (400, 290), [], {"images": ("control", 1)}),
        "paint": (
            "PortraitTalkIdentityNetSampler", (1940, 0), (400, 750),
            [0, "fixed", 6, 1.0, "lcm", "sgm_uniform", 0.5, 0.8, 512, 512, *_SAMPLED],
            _FACE | {
                "model": ("lora", 0), "landmarks": ("motion", 0), "portrait": ("image", 0), "audio": ("start", 0),
            },
        ),
        "save": (
            "SaveVideo", (2400, 0), (560, 640), ["video/PortraitTalk_long", "auto", "auto"], {"video": ("paint", 1)},
        ),
    },
    "dub_a_video": {
        "note": ("MarkdownNote", (20, -60), (500, 450), [DUB_NOTE], {}),
        # the node grows with the video it shows: an upright one must fit
        "film": ("LoadVideo", (40, 520), (280, 400), ["portraittalk_film.mp4", "image"], {}),
        "sound": ("LoadAudio", (40, 1030), (280, 120), ["portraittalk_speech.wav", None, None], {}),
        "parts": ("GetVideoComponents", (580, 0), (380, 80), [], {"video": ("film", 0)}),
        "track": (
            "PortraitTalkLandmarksFromVideo", (580, 180), (380, 180), [25.0, 0, "hold"],
            {"frames": ("parts", 0), "fps": ("parts", 2)},
        ),
        "motion": (
            "PortraitTalkAudioToLandmarks", (580, 440), (380, 680), _MOTION,
            {"portrait": ("parts", 0), "audio": ("sound", 0), "driving_landmarks": ("track", 0)},
        ),
        "first": ("ImageFromBatch", (1020, 0), (400, 90), [0, 1], {"image": ("parts", 0)}),
        "face": ("PortraitTalkLoadFaceEmbedding", (1020, 150), (400, 170), [0, ""], {"images": ("first", 0)}),
        "adapter": ("PortraitTalkLoadIdentityAdapter", (1020, 500), (400, 190), _ADAPTER, {}),
        "checkpoint": (
            "CheckpointLoaderSimple", (1020, 750), (400, 100), ["v1-5-pruned-emaonly-fp16.safetensors"], {},
        ),
        "positive": (
            "CLIPTextEncode", (1020, 910), (400, 130),
            ["close-up photo of the face of a person speaking, sharp focus, natural light"],
            {"clip": ("checkpoint", 1)},
        ),
        "negative": (
            "CLIPTextEncode", (1020, 1100), (400, 130), ["blurry, deformed teeth, text, watermark"],
            {"clip": ("checkpoint", 1)},
        ),
        "crop": (
            "PortraitTalkCropFace", (1480, 0), (400, 150), [0.4, "auto", 512],
            {"image": ("parts", 0), "landmarks": ("motion", 0)},
        ),
        "encode": (
            "VAEEncode", (1480, 210), (400, 60), [], {"pixels": ("crop", 0), "vae": ("checkpoint", 2)},
        ),
        "net": ("ControlNetLoader", (1480, 330), (400, 80), ["control_v2p_sd15_mediapipe_face.safetensors"], {}),
        "control": (
            "PortraitTalkAnimateNetControl", (1480, 470), (400, 500),
            ["v3_sd15_mm.ckpt", 1.0, 0.0, 1.0, 2.0, 1.0, "chunked", 16, 4, "mediapipe_face"],
            {"landmarks": ("crop", 1), "control_net": ("net", 0)},
        ),
        "hints": ("PreviewImage", (1940, 880), (400, 290), [], {"images": ("control", 1)}),
        "paint": (
            "PortraitTalkIdentityNetSampler", (1940, 0), (400, 750),
            [0, "fixed", 20, 3.5, "euler", "normal", 0.65, 0.8, 512, 512, "always", *_SAMPLED[1:]],
            _FACE | {"latent": ("encode", 0)},
        ),
        "paste": (
            "PortraitTalkPasteFace", (2400, 0), (580, 210), [0.4, 0.15, 1.0, "auto", "auto"],
            {"frames": ("paint", 0), "target": ("parts", 0), "landmarks": ("motion", 0)},
        ),
        "video": (
            "CreateVideo", (2400, 270), (580, 80), [25.0],
            {"images": ("paste", 0), "audio": ("sound", 0), "fps": ("parts", 2)},
        ),
        "save": (
            "SaveVideo", (2400, 450), (580, 640), ["video/PortraitTalk_dub", "auto", "auto"], {"video": ("video", 0)},
        ),
    },
}  # fmt: skip

# widgets that the form of app mode shows, and nodes whose results it shows
FORMS = {
    "dub_a_video": (
        [
            *[("film", "file"), ("sound", "audio"), ("checkpoint", "ckpt_name"), ("positive", "text")],
            *[("paint", "denoise"), ("paint", "seed")],
        ],
        ["save"],
    ),
}
