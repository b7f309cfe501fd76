"""Workflow graph of four edits of one portrait by text, each with its settings and mask, for make_workflows.py."""

NOTE = """## One portrait, four edits by text

1. **Load Image**: the portrait. **Load Checkpoint**: any SD1.5.
2. **Run.** Four pictures of the same person appear, each with its own text, *denoise*, *identity_strength* and mask.

| edit | what it needs |
|---|---|
| **style** | all is painted; *denoise* 0.5, with a style LoRA 0.4 |
| **age** | the person alone, *denoise* 0.6; the face says the age too: *identity_strength* 0.5 |
| **expression** | the person alone, *denoise* 0.4; landmarks that smile (*emotion*): text alone moves none |
| **background** | all but the person, *denoise* 0.9; the person stays, pixel by pixel |

**Person Mask** says where the person is. Not what you want? Write another text; too little of it: more *denoise*.

**It shall speak?** Connect Load Audio to AudioToLandmarks (*fps* 25) and its landmarks to AnimateNet Control and
sampler. Where the head moves, masks of the frames fit better: Render Portrait → Person Mask → *mask*.

Needed: what *talking_portrait* needs, without the motion module.
"""

GROUPS = {
    "edit_by_text": [
        ("1  The portrait, and where the person is", (20, 500, 500, 950)),
        ("2  Your checkpoint, and who it is", (560, -90, 440, 1540)),
        ("3  What holds the face", (1040, -90, 440, 1540)),
        ("The face that smiles", (1520, -90, 420, 1540)),
        ("Style", (1980, -90, 440, 1540)),
        ("Age", (2460, -90, 440, 1540)),
        ("Expression", (2940, -90, 440, 1540)),
        ("Background", (3420, -90, 440, 1540)),
    ],
}

SHORTEST_S, FEW_FPS = 0.1, 8.0  # of speech that AudioToLandmarks takes: one frame
_CONTROL = ["none", 1.0, 0.0, 1.0, 1.0, 1.0, "chunked", 16, 4, "mediapipe_face"]
# name, text, denoise, identity_strength, output of Person Mask (None: all is painted), nodes that hold the face
EDITS = (
    ("style", "oil painting of a person, thick brush strokes", 0.5, 0.8, None, ("still", "control")),
    ("age", "photo of an 80 year old person, grey hair, wrinkles", 0.6, 0.5, 0, ("still", "control")),
    ("expression", "photo of a smiling person", 0.4, 0.8, 0, ("smile", "control_smile")),
    ("background", "photo of a person on a beach at sunset", 0.9, 0.8, 1, ("still", "control")),
)


def _edit(place: int, name: str, text: str, denoise: float, strength: float, mask: int | None, held: tuple) -> dict:
    """Text, sampler and picture of an edit, in a column of its own."""
    left, (landmarks, control) = 2000 + 480 * place, held
    wires = {
        "model": ("checkpoint", 0), "vae": ("checkpoint", 2), "positive": (f"text_{name}", 0),
        "negative": ("negative", 0), "face_embedding": ("face", 0), "adapter": ("adapter", 0),
        "control": (control, 0), "landmarks": (landmarks, 0), "portrait": ("image", 0),
    }  # fmt: skip
    values = [0, "fixed", 20, 3.5, "euler", "normal", denoise, strength, 512, 512, "auto", 0.0, 1.0, "auto", "", 0]
    return {
        f"text_{name}": ("CLIPTextEncode", (left, 0), (400, 130), [text], {"clip": ("checkpoint", 1)}),
        f"paint_{name}": (
            "PortraitTalkIdentityNetSampler", (left, 190), (400, 750), [*values, 25.0, 16],
            wires if mask is None else wires | {"mask": ("person", mask)},
        ),
        f"save_{name}": (
            "SaveImage", (left, 1010), (400, 400), [f"PortraitTalk_{name}"], {"images": (f"paint_{name}", 0)},
        ),
    }  # fmt: skip


GRAPHS = {
    "edit_by_text": {
        "note": ("MarkdownNote", (20, -90), (500, 560), [NOTE], {}),
        "image": ("LoadImage", (40, 570), (300, 330), ["portraittalk_portrait.jpg", "image"], {}),
        "person": ("PortraitTalkPersonMask", (40, 960), (300, 80), [], {"images": ("image", 0)}),
        "seen": ("MaskPreview", (40, 1100), (300, 280), [], {"mask": ("person", 0)}),
        "checkpoint": (
            "CheckpointLoaderSimple", (580, 0), (400, 100), ["v1-5-pruned-emaonly-fp16.safetensors"], {},
        ),
        "negative": (
            "CLIPTextEncode", (580, 160), (400, 130), ["blurry, deformed teeth, text, watermark"],
            {"clip": ("checkpoint", 1)},
        ),
        "face": ("PortraitTalkLoadFaceEmbedding", (580, 350), (400, 170), [0, ""], {"images": ("image", 0)}),
        "adapter": (
            "PortraitTalkLoadIdentityAdapter", (580, 700), (400, 190),
            ["ip-adapter-faceid_sd15.bin", "of the adapter", 0.8, "auto", 1.0], {},
        ),
        "net": ("ControlNetLoader", (580, 950), (400, 80), ["control_v2p_sd15_mediapipe_face.safetensors"], {}),
        "still": (
            "PortraitTalkLandmarksFromVideo", (1060, 0), (400, 200), [25.0, 0, "hold"], {"frames": ("image", 0)},
        ),
        "control": (
            "PortraitTalkAnimateNetControl", (1060, 320), (400, 500), _CONTROL,
            {"landmarks": ("still", 0), "control_net": ("net", 0)},
        ),
        "silence": ("EmptyAudio", (1540, 0), (380, 110), [SHORTEST_S, 44100, 1], {}),
        "smile": (
            "PortraitTalkAudioToLandmarks", (1540, 170), (380, 640),
            [FEW_FPS, 1.0, 0.0, 0.0, 0, "fixed", 0, -45.0, 0.3, 0.0, "[]", "cut", "[]", "happy", 0.7],
            {"portrait": ("image", 0), "audio": ("silence", 0)},
        ),
        "control_smile": (
            "PortraitTalkAnimateNetControl", (1060, 880), (400, 500), _CONTROL,
            {"landmarks": ("smile", 0), "control_net": ("net", 0)},
        ),
    }
    | {name: node for place, edit in enumerate(EDITS) for name, node in _edit(place, *edit).items()},
}  # fmt: skip

KINDS = {
    "SaveImage": ([("images", "IMAGE")], ["filename_prefix"], []),
    "MaskPreview": ([("mask", "MASK")], [], []),
    "EmptyAudio": ([], ["duration", "sample_rate", "channels"], [("AUDIO", "AUDIO")]),
    "PortraitTalkPersonMask": ([("images", "IMAGE")], [], [("person", "MASK"), ("background", "MASK")]),
}
