"""Files for the tiny SD1.5 of the test nodes GiveTinyCheckpoint and GiveTinyControlNet, in ComfyUI's models folder."""

from __future__ import annotations

from pathlib import Path

from adapter_files import adapter_tensors, flat
from motion_files import motion_tensors
from safetensors.torch import save_file
from tiny_vae import write_taesd

ADAPTER, MOTION = "tiny_faceid.safetensors", "tiny_motion.safetensors"  # a node loads MOTION by this name
CHECKPOINT = {"class_type": "GiveTinyCheckpoint", "inputs": {"wait_s": 0.0}}
CONTROL = {"class_type": "GiveTinyControlNet", "inputs": {}}
TOKEN_WIDTH = 48
WIDTHS = {"1": 32, "3": 32, "5": 64, "7": 64, "9": 128, "11": 128, "31": 128}  # of the ControlNet's attentions
UP = (128, 128, 128, 64, 64, 64, 32, 32, 32)  # channels of the UNet's attentions on the way up, 13 to 29
SEEN_UP = (128, 128, 64, 64, 64, 32, 32, 32, 32)  # of the maps that meet them


def write_tiny_sd15(models: Path) -> None:
    """Identity adapter, motion module and TAESD."""
    for folder in ("ipadapter", "animatediff_models"):
        (models / folder).mkdir(exist_ok=True)
    save_file(flat(adapter_tensors("faceid")), models / "ipadapter" / ADAPTER)
    save_file(motion_tensors("v3"), models / "animatediff_models" / MOTION)
    write_taesd(models / "vae_approx")


def moving(control: list) -> dict:
    """A node that gives a control the tiny motion module."""
    return {"class_type": "GiveTinyMotion", "inputs": {"control": control}}


def checkpoint(wait_s: float) -> dict:
    """The checkpoint as a node, each of whose calls waits so long."""
    return {"class_type": CHECKPOINT["class_type"], "inputs": {"wait_s": wait_s}}
