"""Catalogue of optional public weight files: purpose, licence, and recognition by content, not by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .headers import read_shapes
from .keypoint_files import KEYPOINT_KINDS
from .kind import WeightFile
from .lip_files import LIP_KINDS
from .specs import FileSpec

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".tar", ".ckpt", ".task", ".onnx", ".mat")  # worth looking into

# weights that are part of the package, below its folder, and their SHA-256
SHIPPED = {
    "engines/builtin/closures.safetensors": "4ee822c9f2ea81db813707dae2e4fb0f20ac291f17fc6a42a95598cbba2a758c",
    "engines/builtin/mouth.safetensors": "68fb4e12e754e975acbcb91175ad919e9933dedb688dbd5058353f8b161a8de8",
    "renderers/lip/builtin/lips.safetensors": "daac5d0e82a2205f494d0d6171e6c720cf6cf74b01f1ff4ceb9255692b486f0d",
    "style/builtin/extractor.safetensors": "852a99ced7860c3159562515f3875117a6c7361715d4970a01c859132ceaf1c3",
}


@dataclass(frozen=True)
class FoundWeights:
    """A weight file and its recognised kind."""

    path: Path
    kind: WeightFile

    def __str__(self) -> str:
        """One line for a person."""
        use = "" if self.kind.used else "; known, not used by this version"
        return f"{self.path}: {self.kind.role} ({self.kind.source}, {self.kind.licence}{use})"


_RESEARCH = "research only, non-commercial"
_TO_K_IP = (r"(^|\.)1\.to_k_ip\.weight$", (320, 768)), (r"(^|\.)31\.to_k_ip\.weight$", (1280, 768))
_PROJECTION = r"^image_proj\.proj\.2\.weight$"  # one row per token and channel of 768
_MOTION = r"(^|\.)down_blocks\.{}\.motion_modules\.0\.temporal_transformer\."
_SD15_MOTION = (_MOTION.format(0) + r"proj_in\.weight$", (320, 320)), (_MOTION.format(3), None)  # SDXL has no block 3
_POSITIONS = _MOTION.format(0) + r".*\.pos_encoder\.pe$"
_ATTENTION = r"transformer_blocks\.0\.attn2\.to_k\.weight$"
_READS = r"^down_blocks\.0\.attentions\.0\.transformer_blocks\.0\.attn1_5\.to_q\.weight$"
_V_EXPRESS = "V-Express (huggingface.co/tk93/V-Express)"

KINDS = (
    WeightFile(
        "face landmarks with any mediapipe", "Google MediaPipe face_landmarker.task", "Apache-2.0", "portraittalk",
        "3.8 MB", ((r"^face_landmarks_detector\.tflite$", None),), used=True, flag="--mesh-model FILE",
        note="or ~/.cache/portraittalk, or a folder named by PORTRAITTALK_MODELS",
    ),
    WeightFile(
        "Stable Diffusion 1.5", "any SD1.5 checkpoint", "CreativeML OpenRAIL-M", "checkpoints", "2.1 GB",
        (
            (rf"^model\.diffusion_model\.input_blocks\.1\.1\.{_ATTENTION}", (320, 768)),
            (r"^model\.diffusion_model\.input_blocks\.0\.0\.weight$", (320, 4, 3, 3)),  # nine channels: inpainting
        ),
        used=True, flag="--checkpoint FILE", note="pip install diffusers accelerate outside ComfyUI",
    ),
    WeightFile(
        "face identity adapter", "h94/IP-Adapter-FaceID ip-adapter-faceid_sd15", _RESEARCH, "ipadapter", "97 MB",
        (*_TO_K_IP, (_PROJECTION, (4 * 768, None)), (r"(^|\.)0\.to_q_lora\.down\.", None)),
        ("perceiver_resampler",), used=True, flag="--identity-adapter FILE",
    ),
    WeightFile(
        "face identity adapter for several pictures", "h94/IP-Adapter-FaceID ip-adapter-faceid-portrait_sd15",
        _RESEARCH, "ipadapter", "65 MB", (*_TO_K_IP, (_PROJECTION, (16 * 768, None))),
        ("perceiver_resampler", "to_q_lora"), used=True, flag="--identity-adapter FILE",
        note="portrait or portrait-v11",
    ),
    WeightFile(
        "face identity adapter with CLIP vision", "h94/IP-Adapter-FaceID ip-adapter-faceid-plus(v2)_sd15", _RESEARCH,
        "ipadapter", "157 MB", (*_TO_K_IP, (r"^image_proj\.perceiver_resampler\.proj_in\.weight$", (768, None))),
        used=True, flag="--identity-adapter FILE", note="needs CLIP-ViT-H's vision model (--clip-vision FILE)",
    ),
    WeightFile(
        "picture adapter", "h94/IP-Adapter ip-adapter_sd15", "Apache-2.0", "ipadapter", "45 MB",
        (*_TO_K_IP, (r"^image_proj\.proj\.weight$", (4 * 768, None))), used=True, flag="--identity-adapter FILE",
        note="needs CLIP-ViT-H's vision model (--clip-vision FILE)",
    ),
    WeightFile(
        "picture adapter with more detail", "h94/IP-Adapter ip-adapter-plus_sd15 or -plus-face_sd15", "Apache-2.0",
        "ipadapter", "98 MB", (*_TO_K_IP, (r"^image_proj\.latents$", (1, 16, 768))), used=True,
        flag="--identity-adapter FILE", note="needs CLIP-ViT-H's vision model (--clip-vision FILE)",
    ),
    WeightFile(
        "LoRA of the face identity adapter", "h94/IP-Adapter-FaceID ip-adapter-faceid_sd15_lora", _RESEARCH, "loras",
        "51 MB",
        ((r"^lora_unet_up_blocks_2_attentions_0_transformer_blocks_0_attn2_to_k\.lora_down\.weight$", (128, 768)),),
        ("lora_te", r"_ff_"), num_tensors=256, used=True, note="the same LoRA as in the adapter; use one of the two",
    ),
    # the tensors of all SD1.5 ControlNets are alike: they do not show that it was trained on landmarks
    WeightFile(
        "ControlNet for SD1.5", "for landmarks: CrucibleAI/ControlNetMediaPipeFace", "OpenRAIL", "controlnet", "1.4 GB",
        ((r"(^|\.)input_hint_block\.0\.weight$", (16, 3, 3, 3)), (rf"input_blocks\.1\.1\.{_ATTENTION}", (320, 768))),
        used=True, flag="--controlnet FILE",
    ),
    WeightFile(
        "ControlNet for SD1.5", "for landmarks: CrucibleAI/ControlNetMediaPipeFace", "OpenRAIL", "controlnet", "1.4 GB",
        (
            (r"^controlnet_cond_embedding\.conv_in\.weight$", (16, 3, 3, 3)),
            (rf"^down_blocks\.0\.attentions\.0\.{_ATTENTION}", (320, 768)),
        ),
        used=True, flag="--controlnet FILE",
    ),
    WeightFile(
        "motion module v3", "guoyww/animatediff v3_sd15_mm", "Apache-2.0", "animatediff_models", "1.6 GB",
        (*_SD15_MOTION, (_POSITIONS, (1, 32, 320))), (r"(^|\.)mid_block\.motion_modules\.",), used=True,
        flag="--motion-module FILE",
    ),
    WeightFile(
        "motion module v1", "guoyww/animatediff mm_sd_v15", "Apache-2.0", "animatediff_models", "1.6 GB",
        (*_SD15_MOTION, (_POSITIONS, (1, 24, 320))), used=True, flag="--motion-module FILE",
    ),
    WeightFile(
        "motion module AnimateLCM", "wangfuyun/AnimateLCM AnimateLCM_sd15_t2v", "MIT (not verified)",
        "animatediff_models", "1.6 GB", _SD15_MOTION, (r"\.pos_encoder\.",), used=True, flag="--motion-module FILE",
    ),
    WeightFile(  # V-Express's motion_module.bin has the very same tensors, with other values
        "motion module v2", "guoyww/animatediff mm_sd_v15_v2; or V-Express's own", "Apache-2.0", "animatediff_models",
        "1.7 GB", (*_SD15_MOTION, (_POSITIONS, (1, 32, 320)), (r"(^|\.)mid_block\.motion_modules\.", None)),
        (_READS,), used=True, flag="--motion-module FILE",
    ),
    WeightFile(
        "V-Express: denoising UNet", f"{_V_EXPRESS} denoising_unet.bin", _RESEARCH, "vexpress", "2.7 GB",
        ((_READS, (320, 320)), (r"^conv_in\.weight$", (320, 4, 3, 3))), used=True, flag="--vexpress-folder FOLDER",
        note="pip install diffusers; wav2vec2-base-960h",
    ),
    WeightFile(  # the tensors of all SD1.5 UNets that diffusers writes are alike
        "V-Express: reference net, or any UNet of SD1.5 alone", f"{_V_EXPRESS} reference_net.bin", _RESEARCH,
        "vexpress", "1.7 GB", ((rf"^down_blocks\.0\.attentions\.0\.{_ATTENTION}", (320, 768)),
        (r"^conv_in\.weight$", (320, 4, 3, 3)), (r"^up_blocks\.3\.resnets\.0\.conv1\.weight$", None)),
        (_READS, r"motion_modules\."), used=True, flag="--vexpress-folder FOLDER",
    ),
    WeightFile(
        "V-Express: key point guider", f"{_V_EXPRESS} v_kps_guider.bin", _RESEARCH, "vexpress", "2.2 MB",
        (
            (r"^conv_in\.weight$", (16, 3, 3, 3)), (r"^blocks\.5\.weight$", (256, 96, 3, 3)),
            (r"^conv_out\.weight$", (320, 256, 3, 3)),
        ),
        used=True, flag="--vexpress-folder FOLDER",
    ),
    WeightFile(
        "V-Express: audio projection", f"{_V_EXPRESS} audio_projection.bin", _RESEARCH, "vexpress", "59 MB",
        (
            (r"^latents$", (1, 5, 768)), (r"^pos_emb\.weight$", (10, 768)),
            (r"^layers\.0\.0\.to_kv\.weight$", (None, 768)),
        ),
        used=True, flag="--vexpress-folder FOLDER",
    ),
    WeightFile(
        "speech encoder", "facebook/hubert-large-ls960-ft", "Apache-2.0", "audio_encoders", "1.3 GB",
        (
            (r"^(hubert\.)?encoder\.layers\.23\.attention\.k_proj\.weight$", (1024, 1024)),
            (r"^(hubert\.)?feature_extractor\.conv_layers\.0\.conv\.weight$", (512, 1, 10)),
        ),
        used=True, flag="--encoder FILE", note="for the engine speech to expression",
    ),
    WeightFile(
        "speech encoder", "facebook/wav2vec2-base-960h or alike", "Apache-2.0", "audio_encoders", "378 MB",
        (
            (r"^(wav2vec2\.|hubert\.)?encoder\.layers\.11\.attention\.k_proj\.weight$", (None, None)),
            (r"^(wav2vec2\.|hubert\.)?feature_extractor\.conv_layers\.0\.conv\.weight$", (512, 1, 10)),
        ),
        (r"(^|\.)out_fn\.",), used=True, flag="--speech-encoder FILE", note="for V-Express",
    ),
    WeightFile(
        "speech encoder", "openai/whisper-*", "Apache-2.0 (MIT before)", "audio_encoders", "from 151 MB",
        (
            (r"(^|\.)encoder\.conv1\.weight$", (None, None, 3)),
            (r"(^|\.)encoder\.embed_positions\.weight$", (1500, None)),
        ),
        used=True, flag="--encoder FILE", note="tiny, for a style extractor that was trained on it",
    ),
    WeightFile(
        "mouth network", "portraittalk train mouth", "your own", "portraittalk", "under 1 MB",
        ((r"^enter\.weight$", (None, 80, 5)), (r"^early\.weight$", (8, None, 1)), (r"^late\.weight$", (8, None, 1))),
        used=True, engine="embedded", flag="--engine FILE",
    ),
    WeightFile(
        "closure network", "portraittalk train closures", "your own", "portraittalk", "under 1 MB",
        ((r"^enter\.weight$", (None, 80, 5)), (r"^leave\.weight$", (18, None, 1))),
        used=True, engine="embedded", flag="--engine FILE",
    ),
    WeightFile(
        "speech to lip and jaw landmarks", "IP-LAP landmarkgenerator_checkpoint", "Apache-2.0", "portraittalk",
        "165 MB",
        (
            (r"(^|\.)mouse_keypoint_map\.weight$", (80, None)),
            (r"(^|\.)jaw_keypoint_map\.weight$", (34, None)),
            (r"(^|\.)fusion_transformer\.modality\.weight$", (4, None)),
        ),
        used=True, engine="landmark_generator", flag="--engine FILE",
    ),
    WeightFile(
        "speech to expression", "GeneFace++ audio2motion_vae or Real3DPortrait audio2secc_vae", "not stated",
        "portraittalk", "47 MB",
        (
            (r"(^|\.)vae\.decoder\.out_proj\.weight$", (64, 256, 1)),
            (r"(^|\.)mel_encoder\.0\.weight$", (None, 1024, 3)),
        ),
        used=True, engine="audio2motion", flag="--engine FILE", note="needs hubert-large and the Basel Face Model",
    ),
    WeightFile(
        "speech to face mesh", "ZJYang/AniPortrait audio2mesh.pt", "Apache-2.0", "portraittalk", "382 MB",
        ((r"(^|\.)out_fn\.weight$", (1404, 512)), (r"(^|\.)in_fn\.weight$", (512, 768))),
        used=True, engine="audio2mesh", flag="--engine FILE",
    ),
    WeightFile(
        "speech to keypoints of LivePortrait", "jdh-algo/JoyVASA motion_generator_hubert_chinese.pt", "MIT",
        "portraittalk", "414 MB",
        (
            (r"(^|\.)denoising_net\.motion_dec\.2\.weight$", (70, None)),
            (r"(^|\.)start_motion_feat$", (1, None, 70)), (r"(^|\.)audio_feature_map\.weight$", (None, None)),
        ),
        used=True, engine="joyvasa", flag="--engine FILE", note="with motion_template.pkl beside it; for LivePortrait",
    ),
    WeightFile(
        "Audio2Exp: speech moves keypoints", "NetEase-Media/ControlTalk lipControlNet.pt or alike",
        "MIT as stated", "controltalk", "190 MB",
        (
            (r"(^|\.)audio_encoder\.fc1\.projection\.weight$", (None, None)),
            (r"(^|\.)audio_encoder\.fc4\.layer_norm\.weight$", (None,)), (r"(^|\.)out_fc\.weight$", (None, None)),
        ),
        used=True, flag="--audio2exp FILE", note="needs chinese-hubert-large (--hubert)",
    ),
    WeightFile(
        "style extractor", "portraittalk train style", "your own", "portraittalk", "22 MB",
        (
            (r"^expression\.enter\.weight$", (None, None)), (r"^audio\.enter\.weight$", (None, None)),
            (r"^pool\.logits\.2\.weight$", (1, None)), (r"^spread$", (None,)),
        ),
        used=True, flag="--extractor FILE",
    ),
    WeightFile(
        "style extractor", "portraittalk train style, stage discriminant; built in", "your own", "portraittalk",
        "0.1 MB",
        ((r"^project\.weight$", (None, 449)), (r"^centre$", (449,)), (r"^scale$", (449,)), (r"^spread$", (None,))),
        used=True, flag="--extractor FILE",
    ),
    WeightFile(
        "style attention for SD1.5", "portraittalk train style, stage attention", "your own", "portraittalk", "176 MB",
        (
            (r"^style_proj\.proj\.weight$", (None, None)), (r"^style_proj\.norm\.weight$", (768,)),
            (r"^1\.to_q\.weight$", (320, 320)), (r"^31\.to_out\.weight$", (1280, 1280)),
        ),
        used=True, flag="--style-attention FILE",
    ),
    WeightFile(
        "style encoder to train a style extractor from", "FuxiVirtualHuman/styletalk styletalk_checkpoint",
        "MIT (not verified)", "portraittalk", "unknown",
        (
            (r"(^|\.)style_encoder\.increase_embed_dim\.weight$", (256, 64)),
            (r"(^|\.)style_encoder\.aggregate_method\.W\.2\.weight$", (1, 256)),
        ),
        used=True, note="start = FILE in style.toml",
    ),
    WeightFile(
        "expression coefficients of pictures", "sicxu/Deep3DFaceRecon_pytorch epoch_20.pth, or SadTalker's file",
        "MIT (not verified)", "portraittalk", "unknown",
        (
            (r"(^|\.)backbone\.layer4\.2\.conv3\.weight$", (2048, 512, 1, 1)),
            (r"(^|\.)final_layers\.1\.weight$", (64, 2048, 1, 1)),
        ),
        used=True, flag="--face-recon FILE", note="for style extractors over 3DMM coefficients",
    ),
    WeightFile(
        "3-D face model", "Basel Face Model 2009, as prepared for GeneFace++", "registration, non-commercial",
        "portraittalk/BFM", "unknown", ((r"^idBase$", (107127, 80)), (r"^exBase$", (107127, 64))), used=True,
        flag="--face-model FOLDER", note="BFM_model_front.mat and index_mp468_from_mesh35709.npy",
    ),
    WeightFile(
        "face encoder", "insightface buffalo_l w600k_r50", _RESEARCH, "insightface", "174 MB",
        ((r"", (None, 3, 112, 112)), (r"", (None, 512))), used=True, flag="--face-models FOLDER",
        note="in its models/buffalo_l, with det_10g.onnx, which finds faces; pip install onnxruntime",
    ),
    WeightFile(
        "image autoencoder of SD1.5", "for example stabilityai/sd-vae-ft-mse", "MIT (not verified)", "vae",
        "335 MB",
        (
            (r"^decoder\.conv_in\.weight$", (512, 4, 3, 3)),
            (r"^encoder\.conv_in\.weight$", (128, 3, 3, 3)),
            (r"^post_quant_conv\.weight$", (4, 4, 1, 1)),
        ),
        used=True, flag="--vae FILE", note="for example vae-ft-mse-840000-ema-pruned",
    ),
    WeightFile(
        "tiny image decoder of SD1.5", "madebyollin/taesd taesd_decoder", "MIT (not verified)", "vae_approx", "5 MB",
        ((r"^1\.weight$", (64, 4, 3, 3)), (r"^3\.conv\.0\.weight$", (64, 64, 3, 3)), (r"^19\.weight$", (3, 64, 3, 3))),
        used=True, flag="--vae FILE",
    ),
    *KEYPOINT_KINDS,
    *LIP_KINDS,
)  # fmt: skip


def known_file(source: str, option: str) -> FileSpec:
    """Catalogue entry of the file from a source, for the method that needs it.

    Args:
        source: as the catalogue has it.
        option: of the method that takes the file.

    Raises:
        KeyError: the catalogue has no such source.
    """
    kind = {kind.source: kind for kind in KINDS}[source]
    size = "" if kind.size == "unknown" else kind.size
    return FileSpec(option, kind.source, kind.licence, kind.folder, size=size)


def find_weights(folders: Iterable[Path], kinds: Sequence[WeightFile] = KINDS) -> list[FoundWeights]:
    """Every known weight file in some folders and the folders inside them; files of other kinds are passed over."""
    weights = []
    for folder in folders:
        for path in sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file()):
            kind = recognise(path, kinds)
            if kind is not None:
                weights.append(FoundWeights(path, kind))
    return weights


def recognise(path: Path, kinds: Sequence[WeightFile] = KINDS) -> WeightFile | None:
    """Kind of a weight file, by the names and shapes of its tensors; None for an unknown or unreadable one.

    No tensor is read, and no code inside a pickle is run.
    """
    shapes = read_shapes(Path(path))
    return next((kind for kind in kinds if shapes and kind.fits(shapes)), None)
