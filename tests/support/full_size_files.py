"""Random weights of SD1.5's true shapes in ComfyUI's models folder, as users have them.

Weights are drawn once and repeated: a billion draws take minutes.
"""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import torch
from adapter_files import FULL, adapter_tensors
from comfy_place import ROOT, comfy_folder, comfy_python
from control_files import ldm_tensors
from onnx_models import write_face_models
from safetensors.torch import save_file

CHECKPOINT, ADAPTER, STYLE = "random_sd15.safetensors", "random_faceid_sd15.bin", "random_style.safetensors"
CONTROL, MOTION = "random_control.safetensors", "random_motion.safetensors"
POOL = 4_000_037


def write_full_size(models: Path) -> None:
    """Checkpoint, adapter, face models, a LoRA, ControlNet and motion modules; onnxruntime for ComfyUI's Python."""
    comfyui = comfy_folder()
    for folder in ("checkpoints", "ipadapter", "loras", "controlnet", "animatediff_models"):
        (models / folder).mkdir(exist_ok=True)
    python, script = comfy_python(comfyui), ROOT / "tests" / "nodes" / "make_sd15.py"
    command = [python, str(script), str(comfyui), str(models / "checkpoints" / CHECKPOINT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=comfyui)
    assert done.returncode == 0, done.stderr[-2000:]
    give_face_models(models)
    torch.save(adapter_tensors("faceid", FULL, 768), models / "ipadapter" / ADAPTER)
    save_file(style(), models / "loras" / STYLE)
    save_file(repeated(control_shapes()), models / "controlnet" / CONTROL)
    save_file(repeated(motion_shapes()), models / "animatediff_models" / MOTION)


def give_face_models(models: Path) -> None:
    """Random face models, and onnxruntime for ComfyUI's Python."""
    python = comfy_python(comfy_folder())
    if subprocess.run([python, "-c", "import onnxruntime"], capture_output=True, check=False).returncode:
        subprocess.run([python, "-m", "pip", "install", "-q", "onnxruntime"], check=True)
    write_face_models(models / "insightface")


def style() -> dict[str, torch.Tensor]:
    """A LoRA of one layer."""
    place = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    draw = torch.Generator().manual_seed(1)
    shapes = {"down": (4, 768), "up": (320, 4)}
    return {f"{place}.lora_{way}.weight": torch.randn(s, generator=draw) / 20 for way, s in shapes.items()}


def control_shapes() -> dict[str, torch.Tensor]:
    """Of a ControlNet, under the names of single files."""
    from diffusers import ControlNetModel

    with torch.device("meta"):
        return ldm_tensors(ControlNetModel(cross_attention_dim=768, attention_head_dim=8))


def motion_shapes() -> dict[str, torch.Tensor]:
    """Of AnimateDiff v3."""
    from portraittalk_core.diffusion.motion_modules import MotionModules

    with torch.device("meta"):
        return MotionModules().state_dict()


def repeated(shapes: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Half-precision weights of these names and shapes that keep activations in bounds."""
    pool = torch.randn(POOL, generator=torch.Generator().manual_seed(2)).half()
    tensors = {}
    for name, like in shapes.items():
        shape, count = tuple(like.shape), like.numel()
        if name.endswith("pos_encoder.pe"):
            continue  # sines, which files need not hold
        if like.ndim < 2:
            tensors[name] = torch.full(shape, 1.0 if name.endswith("weight") else 0.0, dtype=torch.float16)
            continue
        values = pool.repeat(-(-count // POOL))[:count] if count > POOL else pool[:count]
        tensors[name] = (0.5 * values / math.prod(shape[1:]) ** 0.5).reshape(shape).contiguous()
    return tensors
