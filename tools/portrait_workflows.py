"""Workflow graphs of one portrait and a speech clip, for make_workflows.py: warped, painted by SD1.5, held together."""

PORTRAIT_NOTE = """## One portrait and a speech clip become a video

1. **Load Image**: choose a portrait. One upright face with eyes and mouth visible: a photograph, a painting, a drawing.
2. **Load Audio**: choose the speech. The voice alone, without music, moves the mouth best. To record it, switch on
   **Record Audio** (Ctrl+B), record, and connect it in its place.
3. **Run.** The video appears on the right, and in ComfyUI's output folder.

*mouth_gain* opens the mouth more or less, *head_motion* 0 locks the head, another *seed* gives other blinks. Of several
faces, *face_index* 0 is the largest; are all to speak, take **Several Speakers**.

Nothing needs to be downloaded. Select a node and press **i** above it for its help.
"""

IDENTITY_NOTE = """## Your own SD1.5 checkpoint paints this very face, speaking

1. **Load Checkpoint**: any SD1.5 checkpoint. A style of your own? Choose it in **Load LoRA** and switch that node on
   (Ctrl+B).
2. **Load Image**: the portrait. It is moved to the speech, and its face tells SD1.5 who it is.
3. **Load Audio**: the speech. Write into the two texts what the frames are to show, and what not.
4. **Run.** Try a short clip first: every frame is painted.

*denoise* 0 is the warped portrait itself; 0.3 to 0.6 paint mouth and skin anew; *identity_strength* holds the face.

Needed: **ip-adapter-faceid_sd15.bin** in models/ipadapter; InsightFace's **buffalo_l** (det_10g.onnx, w600k_r50.onnx)
in models/insightface/models/buffalo_l, and, by pip, **onnxruntime**. Both allow research only.
"""

TALKING_NOTE = """## The whole PortraitTalk: prompt, face, landmarks, control

As *identity_portrait*, and besides: every frame follows the landmarks by a **ControlNet** with its own drawing, and a
**motion module** holds the frames together. Any length: chunk after chunk, each beginning with the last frames of the
one before.

Needed besides: **control_v2p_sd15_mediapipe_face.safetensors** in models/controlnet, **v3_sd15_mm.ckpt** in
models/animatediff_models. Choose *none* as motion_module to paint each frame by itself.

*denoise* 0.5 to 0.7 lets text and ControlNet shape the face; 1 forgets the portrait's picture. The face should be
larger than 64 pixels in the frames.
"""

GRAPHS = {
    "quick_portrait": {
        "note": ("MarkdownNote", (40, 40), (420, 250), [PORTRAIT_NOTE], {}),
        "image": ("LoadImage", (40, 350), (300, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "sound": ("LoadAudio", (40, 740), (300, 140), ["portraittalk_speech.wav", None, None], {}),
        "record": ("RecordAudio", (40, 960), (300, 120), [""], {}),
        "motion": (
            "PortraitTalkAudioToLandmarks",
            (500, 40),
            (360, 640),
            [25.0, 1.0, 1.0, 15.0, 0, "fixed", 0, -45.0, 0.3, 0.0, "[]"],
            {"portrait": ("image", 0), "audio": ("sound", 0)},
        ),
        "draw": (
            "PortraitTalkRenderPortrait",
            (500, 990),  # above it there is room for a text on the node, of which face of several speaks
            (360, 330),
            ["never", 16],
            {"portrait": ("image", 0), "landmarks": ("motion", 0), "audio": ("sound", 0)},
        ),
        "curves": (
            "PortraitTalkPreviewLandmarks",
            (900, 40),
            (620, 570),
            [48],
            {"landmarks": ("motion", 0), "audio": ("sound", 0)},
        ),
        "save": (
            "SaveVideo",
            (900, 660),
            (620, 740),
            ["video/PortraitTalk", "auto", "auto"],
            {"video": ("draw", 1)},
        ),
    },
    "identity_portrait": {
        "note": ("MarkdownNote", (40, 40), (480, 330), [IDENTITY_NOTE], {}),
        "image": ("LoadImage", (40, 430), (300, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "sound": ("LoadAudio", (40, 820), (300, 140), ["portraittalk_speech.wav", None, None], {}),
        "checkpoint": (
            "CheckpointLoaderSimple", (560, 40), (380, 100), ["v1-5-pruned-emaonly-fp16.safetensors"], {},
        ),
        "lora": (
            "LoraLoader", (560, 220), (380, 130), ["", 0.8, 0.8],
            {"model": ("checkpoint", 0), "clip": ("checkpoint", 1)},
        ),
        "positive": (
            "CLIPTextEncode", (980, 40), (400, 130),
            ["portrait photo of a person speaking, sharp focus, natural light"], {"clip": ("lora", 1)},
        ),
        "negative": (
            "CLIPTextEncode", (980, 230), (400, 130), ["blurry, deformed teeth, text, watermark"],
            {"clip": ("lora", 1)},
        ),
        "motion": (
            "PortraitTalkAudioToLandmarks", (560, 410), (380, 640),
            [25.0, 1.0, 1.0, 15.0, 0, "fixed", 0, -45.0, 0.3, 0.0, "[]"],
            {"portrait": ("image", 0), "audio": ("sound", 0)},
        ),
        "face": (
            "PortraitTalkLoadFaceEmbedding", (980, 420), (400, 170), [0, ""], {"images": ("image", 0)},
        ),
        "adapter": (
            "PortraitTalkLoadIdentityAdapter", (980, 760), (400, 190),
            ["ip-adapter-faceid_sd15.bin", "of the adapter", 0.8, "auto", 1.0], {},
        ),
        "paint": (
            "PortraitTalkIdentityNetSampler", (1420, 40), (400, 730),
            [0, "fixed", 20, 3.5, "euler", "normal", 0.45, 0.8, 512, 512, "auto", 0.0, 1.0, "auto", "", 0, 25.0, 16],
            {
                "model": ("lora", 0), "vae": ("checkpoint", 2), "positive": ("positive", 0),
                "negative": ("negative", 0), "face_embedding": ("face", 0), "adapter": ("adapter", 0),
                "landmarks": ("motion", 0), "portrait": ("image", 0), "audio": ("sound", 0),
            },
        ),
        "save": (
            "SaveVideo", (1860, 40), (560, 640), ["video/PortraitTalk", "auto", "auto"], {"video": ("paint", 1)},
        ),
    },
    "talking_portrait": {
        "note": ("MarkdownNote", (40, 40), (480, 360), [TALKING_NOTE], {}),
        "image": ("LoadImage", (40, 460), (300, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "sound": ("LoadAudio", (40, 850), (300, 140), ["portraittalk_speech.wav", None, None], {}),
        "checkpoint": (
            "CheckpointLoaderSimple", (560, 40), (380, 100), ["v1-5-pruned-emaonly-fp16.safetensors"], {},
        ),
        "motion": (
            "PortraitTalkAudioToLandmarks", (560, 200), (380, 640),
            [25.0, 1.0, 1.0, 15.0, 0, "fixed", 0, -45.0, 0.3, 0.0, "[]"],
            {"portrait": ("image", 0), "audio": ("sound", 0)},
        ),
        "positive": (
            "CLIPTextEncode", (980, 40), (400, 130),
            ["portrait photo of a person speaking, sharp focus, natural light"], {"clip": ("checkpoint", 1)},
        ),
        "negative": (
            "CLIPTextEncode", (980, 230), (400, 130), ["blurry, deformed teeth, text, watermark"],
            {"clip": ("checkpoint", 1)},
        ),
        "face": (
            "PortraitTalkLoadFaceEmbedding", (980, 420), (400, 170), [0, ""], {"images": ("image", 0)},
        ),
        "adapter": (
            "PortraitTalkLoadIdentityAdapter", (980, 760), (400, 190),
            ["ip-adapter-faceid_sd15.bin", "of the adapter", 0.8, "auto", 1.0], {},
        ),
        "net": (
            "ControlNetLoader", (1420, 40), (400, 80), ["control_v2p_sd15_mediapipe_face.safetensors"], {},
        ),
        "control": (
            "PortraitTalkAnimateNetControl", (1420, 180), (400, 500),
            ["v3_sd15_mm.ckpt", 1.0, 0.0, 1.0, 1.5, 1.0, "chunked", 16, 4, "mediapipe_face"],
            {"landmarks": ("motion", 0), "control_net": ("net", 0)},
        ),
        "hints": ("PreviewImage", (1420, 740), (400, 300), [], {"images": ("control", 1)}),
        "paint": (
            "PortraitTalkIdentityNetSampler", (1860, 40), (400, 750),
            [0, "fixed", 20, 3.5, "euler", "normal", 0.6, 0.8, 512, 512, "auto", 0.0, 1.0, "auto", "", 0, 25.0, 16],
            {
                "model": ("checkpoint", 0), "vae": ("checkpoint", 2), "positive": ("positive", 0),
                "negative": ("negative", 0), "face_embedding": ("face", 0), "adapter": ("adapter", 0),
                "control": ("control", 0), "landmarks": ("motion", 0), "portrait": ("image", 0), "audio": ("sound", 0),
            },
        ),
        "save": (
            "SaveVideo", (2300, 40), (560, 640), ["video/PortraitTalk", "auto", "auto"], {"video": ("paint", 1)},
        ),
    },
}  # fmt: skip

# off until somebody needs them; an empty Record Audio that is on warns at every run
SWITCHED_OFF = {"identity_portrait": ("lora",), "quick_portrait": ("record",)}
# widgets that the form of app mode shows, and nodes whose results it shows
FORMS = {
    "quick_portrait": (
        [("image", "image"), ("sound", "audio"), *(("motion", name) for name in ("mouth_gain", "head_motion", "seed"))],
        ["save"],
    ),
}
