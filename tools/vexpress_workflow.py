"""Workflow graph of V-Express on a portrait and speech, for make_workflows.py."""

NOTE = """## V-Express: portrait and speech become a video

1. **Load Image**: one upright face. **Load Audio**: the voice alone. **Load Checkpoint**: any SD1.5, for its VAE.
2. **Run.** Try two seconds first: all frames are painted together, 25 steps each.

Mouth, eyes and face follow the speech by themselves. The head follows **landmarks**: here those of AudioToLandmarks
(*head_motion* 0 holds it still), or of any film by Landmarks From Video.

*audio_weight* opens the mouth more, *reference_weight* holds the portrait's look, *cfg* 1 takes half the time.

Needed (research use only): **denoising_unet.bin**, **reference_net.bin**, **motion_module.bin**,
**v_kps_guider.bin**, **audio_projection.bin** of huggingface.co/tk93/V-Express in *models/vexpress*;
**facebook/wav2vec2-base-960h** in *models/audio_encoders*; by pip, **diffusers** in ComfyUI's Python.
"""

_ENCODER = "wav2vec2-base-960h.safetensors"
KINDS = {
    "PortraitTalkVExpress": (
        [
            *[("portrait", "IMAGE"), ("audio", "AUDIO"), ("vae", "VAE")],
            *[("landmarks", "PORTRAITTALK_LANDMARKS"), ("audio_encoder_output", "AUDIO_ENCODER_OUTPUT")],
        ],
        [
            *("networks", "encoder", "seed", "control_after_generate", "steps", "cfg", "reference_weight"),
            *("audio_weight", "width", "height", "keep_frames", "head", "window", "overlap", "face_index", "crf"),
        ],
        [("images", "IMAGE"), ("video", "VIDEO")],
    ),
}

# weights that the page offers to fetch; V-Express's own are pickles, which it does not
MODELS = {
    "v_express_portrait": {
        "PortraitTalkVExpress": [
            {
                "name": _ENCODER,
                "url": "https://huggingface.co/facebook/wav2vec2-base-960h/resolve/main/model.safetensors",
                "directory": "audio_encoders",
            }
        ],
    },
}

# titles, and left, top, width, height
GROUPS = {
    "v_express_portrait": [
        ("1  Portrait and speech", (20, 310, 500, 650)),
        ("2  How the head moves", (560, -90, 420, 1050)),
        ("3  V-Express paints", (1020, -90, 440, 1050)),
        ("4  The video", (1500, -90, 620, 1050)),
    ],
}

GRAPHS = {
    "v_express_portrait": {
        "note": ("MarkdownNote", (20, -60), (500, 330), [NOTE], {}),
        "image": ("LoadImage", (40, 390), (340, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "sound": ("LoadAudio", (40, 780), (340, 140), ["portraittalk_speech.wav", None, None], {}),
        "motion": (
            "PortraitTalkAudioToLandmarks", (580, 0), (380, 640),
            [25.0, 1.0, 1.0, 15.0, 0, "fixed", 0, -45.0, 0.3, 0.0, "[]"],
            {"portrait": ("image", 0), "audio": ("sound", 0)},
        ),
        "checkpoint": (
            "CheckpointLoaderSimple", (1040, 0), (400, 100), ["v1-5-pruned-emaonly-fp16.safetensors"], {},
        ),
        "paint": (
            "PortraitTalkVExpress", (1040, 170), (400, 580),
            [
                *["models/vexpress", _ENCODER, 0, "fixed", 25, 3.5, 0.95, 3.0, 512, 512, "auto"],
                *["auto", 24, 4, 0, 16],
            ],
            {
                "portrait": ("image", 0), "audio": ("sound", 0), "vae": ("checkpoint", 2),
                "landmarks": ("motion", 0),
            },
        ),
        "save": (
            "SaveVideo", (1520, 0), (580, 700), ["video/PortraitTalk_vexpress", "auto", "auto"],
            {"video": ("paint", 1)},
        ),
    },
}  # fmt: skip
