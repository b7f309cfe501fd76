"""Catalogue of the files of lip renderers, which paint the mouth of a filmed face anew.

Names and shapes: `renderers/lip/files.py`, which opens them.
"""

from __future__ import annotations

from .kind import WeightFile

_FLAG = {"used": True, "flag": "--lips-file FILE"}

LIP_KINDS = (
    WeightFile(
        "IP-LAP: mouths painted from landmarks", "Weizhi-Zhong/IP_LAP renderer_checkpoint.pth",
        "Apache-2.0 as stated; trained on LRS2: research use", "iplap", "320 MB",
        (
            (r"(^|\.)flow_module\.conv_4\.weight$", (2, 64, 7, 7)),
            (r"(^|\.)translation\.conv1\.weight$", (32, 18, 7, 7)),
            (r"(^|\.)translation\.conv_last\.weight$", (3, 64, 7, 7)),
        ),
        note="with IP-LAP's landmark generator, or another engine", **_FLAG,
    ),
    WeightFile(
        "MuseTalk: mouths painted by a UNet", "TMElyralab/MuseTalk musetalkV15/unet.pth", "MIT", "musetalk", "3.4 GB",
        (
            (r"^conv_in\.weight$", (320, 8, 3, 3)),
            (r"^down_blocks\.0\.attentions\.0\.transformer_blocks\.0\.attn2\.to_k\.weight$", (320, 384)),
            (r"^up_blocks\.3\.resnets\.0\.conv1\.weight$", None),
        ),
        note="needs a VAE of SD1.5 and openai/whisper-tiny; pip install diffusers", **_FLAG,
    ),
    WeightFile(
        "lip renderer", "portraittalk train lips", "your own", "portraittalk", "100 MB",
        (
            (r"^alignment\.conv_4\.weight$", (2, None, None, None)), (r"^alignment\.fuse\.weight$", None),
            (r"^rendering\.conv_last\.weight$", (3, None, 7, 7)),
        ),
        **_FLAG,
    ),
)  # fmt: skip
