"""Nodes that several workflows use, and the weights that nodes need, for make_workflows.py."""

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
}

# widgets behind those that other graphs of the same node set
LATER_WIDGETS = {
    "PortraitTalkAudioToLandmarks": ("film_end", "emotion_points", "emotion", "emotion_strength"),
}

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
