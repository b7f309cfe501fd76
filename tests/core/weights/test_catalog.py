import hashlib
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from portraittalk_core.weights import catalog
from portraittalk_core.weights.catalog import KINDS, SHIPPED, find_weights, recognise
from portraittalk_core.weights.headers import Shapes

# names and shapes: adapters `docs/design/identitynet.md` 3, 4; motion modules and ControlNets
# `docs/design/animatenet.md` 1, 5; engines `docs/design/engines.md` 1, 2, 3, 4
TO_K = "transformer_blocks.0.attn2.to_k.weight"
ADAPTER = {"ip_adapter.1.to_k_ip.weight": (320, 768), "ip_adapter.31.to_k_ip.weight": (1280, 768)}
LORA_KEY = {"ip_adapter.0.to_q_lora.down.weight": (128, 320)}
MOTION_PE = "temporal_transformer.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
MOTION = {
    "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": (320, 320),
    f"down_blocks.0.motion_modules.0.{MOTION_PE}": (1, 32, 320),
    "down_blocks.3.motion_modules.0.temporal_transformer.proj_in.weight": (1280, 1280),
}
MID = {"mid_block.motion_modules.0.temporal_transformer.proj_in.weight": (1280, 1280)}
SD15 = {
    f"model.diffusion_model.input_blocks.1.1.{TO_K}": (320, 768),
    "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
}
HUBERT = {
    "hubert.encoder.layers.23.attention.k_proj.weight": (1024, 1024),
    "hubert.feature_extractor.conv_layers.0.conv.weight": (512, 1, 10),
}
KEPT = "lora_unet_up_blocks_2_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
LORA = {KEPT: (128, 768)} | {f"lora_unet_{i}": (1,) for i in range(255)}
CONTROL = {"input_hint_block.0.weight": (16, 3, 3, 3), f"input_blocks.1.1.{TO_K}": (320, 768)}

UNET = {
    "conv_in.weight": (320, 4, 3, 3),
    f"down_blocks.0.attentions.0.{TO_K}": (320, 768),
    "up_blocks.3.resnets.0.conv1.weight": (320, 960, 3, 3),
}
READS = {"down_blocks.0.attentions.0.transformer_blocks.0.attn1_5.to_q.weight": (320, 320)}
GUIDER = {
    "conv_in.weight": (16, 3, 3, 3),
    "blocks.5.weight": (256, 96, 3, 3),
    "conv_out.weight": (320, 256, 3, 3),
}

APPEARANCE = {"first.conv.weight": (64, 3, 3, 3), "resblocks_3d.3dr5.conv1.weight": (32, 32, 3, 3, 3)}
WARPING = {"dense_motion_network.mask.weight": (22, 142, 7, 7, 7), "third.conv.weight": (256, 512, 3, 3)}
FACE_VID2VID = {
    **{f"generator.{name}": shape for name, shape in (APPEARANCE | WARPING).items()},
    "generator.dense_motion_network.mask.weight": (16, 112, 7, 7, 7),
    "generator.decoder.fc.weight": (512, 256, 3, 3),
    "kp_detector.kp.weight": (15, 32, 3, 3, 3),
    "he_estimator.fc_exp.weight": (45, 2048),
}

IPLAP = {
    "flow_module.conv_4.weight": (2, 64, 7, 7),
    "translation.conv1.weight": (32, 18, 7, 7),
    "translation.conv_last.weight": (3, 64, 7, 7),
    "perceptual.model.network.0.weight": (64, 3, 3, 3),
}
MUSETALK = UNET | {"conv_in.weight": (320, 8, 3, 3), f"down_blocks.0.attentions.0.{TO_K}": (320, 384)}

KNOWN: list[tuple[str, Shapes]] = [
    ("Stable Diffusion 1.5", SD15 | {"first_stage_model.decoder.conv_in.weight": (512, 4, 3, 3)}),
    ("face identity adapter", ADAPTER | LORA_KEY | {"image_proj.proj.2.weight": (3072, 1024)}),
    ("face identity adapter for several pictures", ADAPTER | {"image_proj.proj.2.weight": (12288, 1024)}),
    (
        "face identity adapter with CLIP vision",
        ADAPTER
        | LORA_KEY
        | {"image_proj.proj.2.weight": (3072, 1024), "image_proj.perceiver_resampler.proj_in.weight": (768, 1280)},
    ),
    ("picture adapter", ADAPTER | {"image_proj.proj.weight": (3072, 1024), "image_proj.norm.weight": (768,)}),
    ("picture adapter with more detail", ADAPTER | {"image_proj.latents": (1, 16, 768)}),
    ("LoRA of the face identity adapter", LORA),
    ("ControlNet for SD1.5", CONTROL),
    ("ControlNet for SD1.5", {f"control_model.{k}": v for k, v in CONTROL.items()}),
    (
        "ControlNet for SD1.5",
        {
            "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
            f"down_blocks.0.attentions.0.{TO_K}": (320, 768),
        },
    ),
    ("motion module v3", MOTION),
    ("motion module v1", MOTION | {f"down_blocks.0.motion_modules.0.{MOTION_PE}": (1, 24, 320)}),
    ("motion module AnimateLCM", {k: v for k, v in MOTION.items() if "pos_encoder" not in k}),
    ("motion module v2", {f"module.{k}": v for k, v in (MOTION | MID).items()}),
    ("speech encoder", HUBERT),
    (
        "speech to expression",
        {"vae.decoder.out_proj.weight": (64, 256, 1), "mel_encoder.0.weight": (128, 1024, 3)},
    ),
    (
        "speech to lip and jaw landmarks",
        {
            "mouse_keypoint_map.weight": (80, 512),
            "jaw_keypoint_map.weight": (34, 512),
            "fusion_transformer.modality.weight": (4, 512),
        },
    ),
    (
        "speech to keypoints of LivePortrait",
        {
            "denoising_net.motion_dec.2.weight": (70, 128),
            "start_motion_feat": (1, 10, 70),
            "audio_feature_map.weight": (256, 768),
            "audio_encoder.encoder.layers.11.attention.k_proj.weight": (768, 768),
            "audio_encoder.feature_extractor.conv_layers.0.conv.weight": (512, 1, 10),
        },
    ),
    (
        "Audio2Exp: speech moves keypoints",
        {
            "audio_encoder.fc1.projection.weight": (2048, 18432),
            "audio_encoder.fc4.layer_norm.weight": (1024,),
            "out_fc.weight": (45, 1069),
        },
    ),
    ("closure network", {"enter.weight": (64, 80, 5), "leave.weight": (18, 64, 1)}),
    (
        "mouth network",
        {
            "enter.weight": (96, 80, 5),
            "early.weight": (8, 96, 1),
            "late.weight": (8, 96, 1),
            "closures.enter.weight": (64, 80, 5),
            "closures.leave.weight": (18, 64, 1),
        },
    ),
    ("mouth network", {"enter.weight": (96, 80, 5), "early.weight": (8, 96, 1), "late.weight": (8, 96, 1)}),
    (
        "speech encoder",
        {
            "wav2vec2.encoder.layers.11.attention.k_proj.weight": (768, 768),
            "wav2vec2.feature_extractor.conv_layers.0.conv.weight": (512, 1, 10),
        },
    ),
    (
        "speech encoder",
        {
            "model.encoder.conv1.weight": (384, 80, 3),
            "model.encoder.embed_positions.weight": (1500, 384),
        },
    ),
    ("speech to face mesh", {"out_fn.weight": (1404, 512), "in_fn.weight": (512, 768)}),
    (
        "style extractor",
        {
            "expression.enter.weight": (256, 23),
            "audio.enter.weight": (256, 80),
            "pool.logits.2.weight": (1, 256),
            "spread": (256,),
        },
    ),
    (
        "style attention for SD1.5",
        {
            "style_proj.proj.weight": (3072, 256),
            "style_proj.norm.weight": (768,),
            "1.to_q.weight": (320, 320),
            "31.to_out.weight": (1280, 1280),
        },
    ),
    (
        "style encoder to train a style extractor from",
        {
            "model_state_dict.style_encoder.increase_embed_dim.weight": (256, 64),
            "model_state_dict.style_encoder.aggregate_method.W.2.weight": (1, 256),
        },
    ),
    (
        "expression coefficients of pictures",
        {
            "net_recon.backbone.layer4.2.conv3.weight": (2048, 512, 1, 1),
            "net_recon.final_layers.1.weight": (64, 2048, 1, 1),
            "opt_00.state.0.exp_avg": (64, 3, 7, 7),
        },
    ),
    ("3-D face model", {"idBase": (107127, 80), "exBase": (107127, 64)}),
    ("face encoder", {"input.1": (0, 3, 112, 112), "683": (1, 512)}),
    (
        "tiny image decoder of SD1.5",
        {"1.weight": (64, 4, 3, 3), "3.conv.0.weight": (64, 64, 3, 3), "19.weight": (3, 64, 3, 3)},
    ),
    (
        "image autoencoder of SD1.5",
        {
            "decoder.conv_in.weight": (512, 4, 3, 3),
            "encoder.conv_in.weight": (128, 3, 3, 3),
            "post_quant_conv.weight": (4, 4, 1, 1),
        },
    ),
    ("face landmarks with any mediapipe", {"face_landmarks_detector.tflite": (1,), "face_detector.tflite": (1,)}),
    # docs/design/vexpress.md 5: V-Express's files; the UNet's holds motion modules of its own
    ("V-Express: denoising UNet", UNET | READS),
    ("V-Express: denoising UNet", UNET | READS | MOTION | MID),
    ("V-Express: reference net, or any UNet of SD1.5 alone", UNET),
    ("motion module v2", MOTION | MID),
    ("V-Express: key point guider", GUIDER),
    (
        "V-Express: audio projection",
        {"latents": (1, 5, 768), "pos_emb.weight": (10, 768), "layers.0.0.to_kv.weight": (1536, 768)},
    ),
    # docs/design of keypoint renderers: LivePortrait's five files, and the checkpoints of face-vid2vid
    ("LivePortrait: appearance", APPEARANCE),
    ("LivePortrait: keypoints of pictures", {"detector.fc_kp.weight": (63, 768), "detector.fc_scale.weight": (1, 768)}),
    ("LivePortrait: warping", WARPING),
    ("LivePortrait: picture", {"G_middle_5.conv_0.weight_orig": (512, 512, 3, 3), "conv_img.0.weight": (12, 64, 3, 3)}),
    ("LivePortrait: stitching, lips and eyes", {"retarget_shoulder.module.mlp.0.weight": (128, 126)}),
    ("LivePortrait: stitching, lips and eyes", {"retarget_shoulder_module.mlp.0.weight": (128, 126)}),
    ("face-vid2vid", FACE_VID2VID),
    # lip renderers: IP-LAP's checkpoint of four GPUs, MuseTalk's UNet, our own file
    ("IP-LAP: mouths painted from landmarks", IPLAP),
    ("IP-LAP: mouths painted from landmarks", {f"module.{name}": shape for name, shape in IPLAP.items()}),
    ("MuseTalk: mouths painted by a UNet", MUSETALK),
    (
        "lip renderer",
        {
            "alignment.conv_4.weight": (2, 64, 7, 7),
            "alignment.fuse.weight": (256, 512, 3, 3),
            "rendering.conv_last.weight": (3, 64, 7, 7),
        },
    ),
]
STRANGERS: dict[str, Shapes] = {
    "SD2.1 checkpoint": SD15 | {f"model.diffusion_model.input_blocks.1.1.{TO_K}": (320, 1024)},
    "SD1.5 inpainting": SD15 | {"model.diffusion_model.input_blocks.0.0.weight": (320, 9, 3, 3)},
    "FaceID plus without what makes it plus": ADAPTER
    | LORA_KEY
    | {"image_proj.proj.2.weight": (3072, 1024), "image_proj.perceiver_resampler.x": (1,)},
    "full-face adapter": ADAPTER | {"image_proj.proj.0.weight": (1280, 1280), "image_proj.proj.3.weight": (768,)},
    "SDXL adapter": {"ip_adapter.1.to_k_ip.weight": (640, 2048), "image_proj.proj.2.weight": (8192, 1024)},
    "another LoRA": LORA | {"lora_te_x": (1,)},
    "SD2.1 ControlNet": CONTROL | {f"input_blocks.1.1.{TO_K}": (320, 1024)},
    "ControlNet's vector": CONTROL | {f"input_blocks.1.1.{TO_K}": (320,)},
    "motion module of another length": MOTION | {f"down_blocks.0.motion_modules.0.{MOTION_PE}": (1, 20, 320)},
    "SDXL motion module": {k: v for k, v in MOTION.items() if "blocks.3" not in k},
    "wav2vec2": {k.replace("hubert", "wav2vec2"): v for k, v in HUBERT.items()},
    "SD2.1 UNet alone": UNET | {f"down_blocks.0.attentions.0.{TO_K}": (320, 1024)},
    "guider of another width": GUIDER | {"conv_out.weight": (128, 256, 3, 3)},
    "face-vid2vid without its head estimator": {k: v for k, v in FACE_VID2VID.items() if "he_" not in k},
    "IP-LAP's flows alone": {k: v for k, v in IPLAP.items() if k.startswith("flow")},
    "instruct-pix2pix": MUSETALK | {f"down_blocks.0.attentions.0.{TO_K}": (320, 768)},
    "hand landmarks": {"hand_landmarks_detector.tflite": (1,)},
    "nothing": {},
}


@pytest.mark.parametrize(("role", "shapes"), KNOWN, ids=[f"{i} {role}" for i, (role, _) in enumerate(KNOWN)])
def test_kind_is_known_by_its_tensors_alone(role, shapes):
    assert [kind.role for kind in KINDS if kind.fits(shapes)] == [role]


@pytest.mark.parametrize("shapes", STRANGERS.values(), ids=STRANGERS.keys())
def test_kind_rejects_its_near_relatives(shapes):
    assert [kind.role for kind in KINDS if kind.fits(shapes)] == []


def test_every_kind_is_tested_and_says_where_it_comes_from():
    assert {kind.role for kind in KINDS} == {role for role, _ in KNOWN}
    assert all(kind.source and kind.licence and kind.folder and kind.size for kind in KINDS)


def test_files_are_found_whatever_their_name(tmp_path):
    tensors = {"out_fn.weight": torch.zeros(1404, 512), "in_fn.weight": torch.zeros(512, 768)}
    (tmp_path / "deep" / "er").mkdir(parents=True)
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save({"state_dict": tensors}, tmp_path / "deep" / "er" / "hubert.CKPT")
    save_file({"w": torch.zeros(1)}, tmp_path / "audio2mesh.safetensors")
    (tmp_path / "broken.pt").write_bytes(b"PK\x03\x04 and no more")
    found = find_weights([tmp_path])
    assert [weights.path.name for weights in found] == ["a.safetensors", "hubert.CKPT"]
    assert {weights.kind.role for weights in found} == {"speech to face mesh"}
    assert "AniPortrait" in str(found[0]) and "a.safetensors" in str(found[0])


def test_landmarker_is_the_one_file_that_this_version_uses(tmp_path):
    with zipfile.ZipFile(tmp_path / "face.task", "w") as bundle:
        bundle.writestr("face_landmarks_detector.tflite", b"x")
    assert recognise(tmp_path / "face.task") == next(kind for kind in KINDS if kind.used)


def test_a_missing_folder_holds_nothing(tmp_path):
    assert find_weights([tmp_path / "none"]) == []


@pytest.mark.parametrize("name", list(SHIPPED))
def test_shipped_weights_are_those_of_the_card(name):
    package = Path(catalog.__file__).parents[1]
    content = (package / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHIPPED[name]
    assert len(content) < 10_000_000
    roles = {
        "lips": "lip renderer",
        "mouth": "mouth network",
        "extractor": "style extractor",
        "closures": "closure network",
    }
    assert recognise(package / name).role == roles[Path(name).stem]
