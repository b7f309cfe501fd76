"""Writes workflows/*.json and subgraphs/*.json, as ComfyUI's page saves them, from short descriptions of the graphs."""

import json
from pathlib import Path

import blueprints
import edit_workflow
import everything_workflow
import keypoint_workflow
import lip_workflows
import score_workflow
import style_workflow
import vexpress_workflow
import video_workflows

ROOT = Path(__file__).parents[1]
BYPASSED = 4  # the page's number for it

# inputs that are sockets, widgets in the page's order (control_after_generate follows a seed), outputs
KINDS = {
    "LoadImage": ([], ["image", "upload"], [("IMAGE", "IMAGE"), ("MASK", "MASK")]),
    "LoadAudio": ([], ["audio", "audioUI", "upload"], [("AUDIO", "AUDIO")]),
    "LoadVideo": ([], ["file", "upload"], [("VIDEO", "VIDEO")]),
    "RecordAudio": ([], ["audio"], [("AUDIO", "AUDIO")]),
    "PreviewImage": ([("images", "IMAGE")], [], []),
    "SaveVideo": ([("video", "VIDEO")], ["filename_prefix", "format", "codec"], []),
    "MarkdownNote": ([], [""], []),
    "PortraitTalkAudioToLandmarks": (
        [
            *[("portrait", "IMAGE"), ("audio", "AUDIO"), ("face_landmarks", "FACE_LANDMARKS")],
            ("driving_landmarks", "PORTRAITTALK_LANDMARKS"),
        ],
        [
            *("fps", "mouth_gain", "head_motion", "blink_rate", "seed", "control_after_generate", "face_index"),
            *("silence_gate_db", "smoothing", "offset_ms", "gain_points"),
        ],
        [("landmarks", "PORTRAITTALK_LANDMARKS"), ("frame_count", "INT"), ("fps", "FLOAT")],
    ),
    "PortraitTalkPreviewLandmarks": (
        [("landmarks", "PORTRAITTALK_LANDMARKS"), ("audio", "AUDIO")],
        ["max_frames"],
        [("images", "IMAGE"), ("plot", "IMAGE")],
    ),
    "PortraitTalkRenderPortrait": (
        [("portrait", "IMAGE"), ("landmarks", "PORTRAITTALK_LANDMARKS"), ("audio", "AUDIO")],
        ["keep_frames", "crf"],
        [("images", "IMAGE"), ("video", "VIDEO")],
    ),
    "CheckpointLoaderSimple": ([], ["ckpt_name"], [("MODEL", "MODEL"), ("CLIP", "CLIP"), ("VAE", "VAE")]),
    "LoraLoader": (
        [("model", "MODEL"), ("clip", "CLIP")],
        ["lora_name", "strength_model", "strength_clip"],
        [("MODEL", "MODEL"), ("CLIP", "CLIP")],
    ),
    "CLIPTextEncode": ([("clip", "CLIP")], ["text"], [("CONDITIONING", "CONDITIONING")]),
    "PortraitTalkLoadFaceEmbedding": (
        [
            *[("images", "IMAGE"), ("more", "PORTRAITTALK_FACE_EMBEDDING")],
            *[("mask", "MASK"), ("clip_vision", "CLIP_VISION")],
        ],
        ["face_index", "weights"],
        [("face_embedding", "PORTRAITTALK_FACE_EMBEDDING"), ("face", "IMAGE"), ("mask", "MASK")],
    ),
    "PortraitTalkLoadIdentityAdapter": (
        [],
        ["adapter", "lora", "lora_strength", "layout", "structure"],
        [("adapter", "PORTRAITTALK_IDENTITY_ADAPTER"), ("name", "STRING")],
    ),
    "ControlNetLoader": ([], ["control_net_name"], [("CONTROL_NET", "CONTROL_NET")]),
    "PortraitTalkAnimateNetControl": (
        [("landmarks", "PORTRAITTALK_LANDMARKS"), ("control_net", "CONTROL_NET")],
        [
            *("motion_module", "strength", "start_percent", "end_percent", "mouth_weight", "motion_strength", "mode"),
            *("window", "overlap", "style"),
        ],
        [("control", "PORTRAITTALK_CONTROL"), ("hints", "IMAGE")],
    ),
    "PortraitTalkIdentityNetSampler": (
        [
            *[("model", "MODEL"), ("vae", "VAE"), ("positive", "CONDITIONING"), ("negative", "CONDITIONING")],
            *[("face_embedding", "PORTRAITTALK_FACE_EMBEDDING"), ("adapter", "PORTRAITTALK_IDENTITY_ADAPTER")],
            ("control", "PORTRAITTALK_CONTROL"),
            *[("landmarks", "PORTRAITTALK_LANDMARKS"), ("portrait", "IMAGE"), ("latent", "LATENT"), ("audio", "AUDIO")],
        ],
        [
            *("seed", "control_after_generate", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
            *("identity_strength", "width", "height", "keep_frames", "start_percent", "end_percent", "combine"),
            *("layer_weights", "batch_size", "fps", "crf"),
        ],
        [("images", "IMAGE"), ("video", "VIDEO"), ("latent", "LATENT"), ("last_frame", "IMAGE")],
    ),
    "PortraitTalkADFDScore": (
        [("generated", "VIDEO,IMAGE,PORTRAITTALK_LANDMARKS"), ("target", "VIDEO,IMAGE,PORTRAITTALK_LANDMARKS")],
        ["fps", "face_index"],
        [("score", "FLOAT"), ("report", "STRING"), ("plot", "IMAGE")],
    ),
}

PORTRAIT_NOTE = """## One portrait and a speech clip become a video

1. **Load Image**: choose a portrait. One upright face with eyes and mouth visible: a photograph, a painting, a drawing.
2. **Load Audio**: choose the speech. The voice alone, without music, moves the mouth best. To record it, switch on
   **Record Audio** (Ctrl+B), record, and connect it in its place.
3. **Run.** The video appears on the right, and in ComfyUI's output folder.

*mouth_gain* opens the mouth more or less, *head_motion* 0 locks the head, another *seed* gives other blinks. Of several
faces, *face_index* 0 is the largest; are all to speak, take **Several Speakers**.

Nothing needs to be downloaded. Select a node and press **i** above it for its help.
"""

SCORE_NOTE = """## How near is a generated video to the real one?

1. Upper **Load Video**: the generated video. Lower one: the real video of the same speech.
2. **Run.** The node shows the numbers, and a plot of where in time the two differ.

**ADFD** is 1 for the same landmarks in place and motion, 0 at worst. Landmark distances are percent of the distance
between the eyes; lower is better. **PSNR** and **SSIM** compare the pictures themselves.
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

_HUB = "https://huggingface.co"
# weights that a node needs: the page offers to fetch what is missing
MODELS = {
    "CheckpointLoaderSimple": [
        {
            "name": "v1-5-pruned-emaonly-fp16.safetensors",
            "url": f"{_HUB}/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors",
            "directory": "checkpoints",
        }
    ],
    "PortraitTalkLoadIdentityAdapter": [
        {
            "name": "ip-adapter-faceid_sd15.bin",
            "url": f"{_HUB}/h94/IP-Adapter-FaceID/resolve/main/ip-adapter-faceid_sd15.bin",
            "directory": "ipadapter",
        }
    ],
    "ControlNetLoader": [
        {
            "name": "control_v2p_sd15_mediapipe_face.safetensors",
            "url": f"{_HUB}/CrucibleAI/ControlNetMediaPipeFace/resolve/main/"
            "control_v2p_sd15_mediapipe_face.safetensors",
            "directory": "controlnet",
        }
    ],
    "PortraitTalkAnimateNetControl": [
        {
            "name": "v3_sd15_mm.ckpt",
            "url": f"{_HUB}/guoyww/animatediff/resolve/main/v3_sd15_mm.ckpt",
            "directory": "animatediff_models",
        }
    ],
    "PortraitTalkLoadFaceEmbedding": [
        {
            "name": name,
            "url": f"{_HUB}/public-data/insightface/resolve/main/models/buffalo_l/{name}",
            "directory": "insightface/models/buffalo_l",
        }
        for name in ("det_10g.onnx", "w600k_r50.onnx")
    ],
}

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
}  # fmt: skip

LATER_WIDGETS = edit_workflow.LATER_WIDGETS
# nodes that are switched off until somebody needs them; an empty Record Audio that is on warns at every run
SWITCHED_OFF = {"identity_portrait": ("lora",), "quick_portrait": ("record",)}

# App mode: widgets that the form shows, and nodes whose results it shows
APPS = {
    "quick_portrait": (
        [("image", "image"), ("sound", "audio"), *(("motion", name) for name in ("mouth_gain", "head_motion", "seed"))],
        ["save"],
    ),
    "dub_a_video": (
        [
            *[("film", "file"), ("sound", "audio"), ("checkpoint", "ckpt_name"), ("positive", "text")],
            *[("paint", "denoise"), ("paint", "seed")],
        ],
        ["save"],
    ),
    "score_a_video": ([("made", "file"), ("true", "file")], ["score"]),
    "dub_lips": (
        [
            *[("film", "file"), ("sound", "audio"), ("networks", "renderer")],
            *[("dub", "mouth_gain"), ("dub", "voice_gate")],
        ],
        ["save"],
    ),
    "keypoint_portrait": (
        [
            *[("image", "image"), ("sound", "audio"), ("networks", "networks"), ("draw", "alpha")],
            *[("motion", "head_motion"), ("motion", "seed")],
        ],
        ["save"],
    ),
    "keypoint_dub": ([("film", "file"), ("sound", "audio"), ("networks", "networks"), ("draw", "alpha")], ["save"]),
}


def app_mode(name: str, graph: dict) -> dict:
    """Entries of a workflow's `extra` that make the page open it as a form."""
    if name not in APPS:
        return {}
    numbers = {node: number for number, node in enumerate(graph, 1)}
    inputs, outputs = APPS[name]
    data = {"inputs": [[numbers[node], widget] for node, widget in inputs], "outputs": [numbers[n] for n in outputs]}
    return {"linearMode": True, "linearData": data}


def build(
    graph: dict, groups: list = (), models: dict = MODELS, switched_off: tuple = (), extra: dict | None = None
) -> dict:
    """The JSON of a workflow as ComfyUI's page saves it."""
    numbers = {name: number for number, name in enumerate(graph, 1)}
    links, nodes = [], []
    for name, (kind, at, size, values, wires) in graph.items():
        sockets, widgets, outputs = KINDS[kind]
        node = {
            "id": numbers[name],
            "type": kind,
            "pos": list(at),
            "size": list(size),
            "flags": {},
            "order": numbers[name] - 1,
            "mode": BYPASSED if name in switched_off else 0,
            "inputs": [{"name": socket, "type": of, "link": None} for socket, of in sockets],
            "outputs": [{"name": output, "type": of, "links": []} for output, of in outputs],
            "properties": {"Node name for S&R": kind} | ({"models": models[kind]} if kind in models else {}),
            "widgets_values": values,
        }
        widgets = [*widgets, *LATER_WIDGETS.get(kind, ())][: max(len(values), len(widgets))]
        if len(values) != len(widgets):
            raise ValueError(f"{kind} has {len(widgets)} widgets, {len(values)} values are given")
        for socket, (source, slot) in wires.items():
            link, of = len(links) + 1, KINDS[graph[source][0]][2][slot][1]
            if socket not in [*widgets, *(item["name"] for item in node["inputs"])]:  # younger than the other graphs
                node["inputs"].append({"name": socket, "type": of, "link": None})
            if socket in widgets:  # a widget that is wired keeps its value, and gets a socket
                node["inputs"].append({"name": socket, "type": of, "widget": {"name": socket}, "link": None})
            index = [item["name"] for item in node["inputs"]].index(socket)
            links.append([link, numbers[source], slot, numbers[name], index, of])
            node["inputs"][index]["link"] = link
        nodes.append(node)
    for link, source, slot, *_ in links:
        nodes[source - 1]["outputs"][slot]["links"].append(link)
    boxes = [
        {"id": number, "title": title, "bounding": list(bounding), "color": "#3f789e", "font_size": 24, "flags": {}}
        for number, (title, bounding) in enumerate(groups, 1)
    ]
    return {
        "revision": 0,
        "last_node_id": len(nodes),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": boxes,
        "config": {},
        "extra": {"ds": {"scale": 0.8, "offset": [60, 60]}} | (extra or {}),
        "version": 0.4,
    }


def main() -> None:
    """Write all workflows and subgraph blueprints."""
    graphs, groups, models_of = dict(GRAPHS), {}, {}
    modules = (video_workflows, style_workflow, score_workflow, vexpress_workflow, keypoint_workflow, lip_workflows)
    modules += (everything_workflow, edit_workflow)
    for module in modules:
        KINDS.update(module.KINDS)
        graphs |= module.GRAPHS
        groups |= module.GROUPS
        models_of |= getattr(module, "MODELS", {})
    for name, graph in graphs.items():
        models = MODELS | models_of.get(name, {})
        off = (SWITCHED_OFF | everything_workflow.SWITCHED_OFF).get(name, ())
        write("workflows", name, build(graph, groups.get(name, ()), models, off, app_mode(name, graph)))
    for blueprint in blueprints.of(graphs):
        inner = build(blueprint.nodes, models=MODELS | models_of["keypoint_portrait"])
        write("subgraphs", blueprint.name, blueprints.as_json(blueprint, inner))


def write(folder: str, name: str, content: dict) -> None:
    """Write a JSON file of the pack."""
    path = ROOT / folder / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
