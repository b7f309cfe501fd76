"""SD1.5's shape as ComfyUI writes it; needs nothing, so that ComfyUI's own Python can read it too."""

from __future__ import annotations

UNET = {
    "in_channels": 4, "out_channels": 4, "model_channels": 320, "channel_mult": [1, 2, 4, 4], "num_heads": 8,
    "num_res_blocks": [2, 2, 2, 2], "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "num_head_channels": -1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "transformer_depth_middle": 1,
    "context_dim": 768, "image_size": 32, "use_spatial_transformer": True, "legacy": False,
    "use_linear_in_transformer": False, "adm_in_channels": None, "use_temporal_attention": False,
}  # fmt: skip
CONTROL = {name: UNET[name] for name in (
    "image_size", "in_channels", "model_channels", "num_res_blocks", "channel_mult", "num_heads", "transformer_depth",
    "transformer_depth_middle", "context_dim", "use_spatial_transformer", "legacy", "use_linear_in_transformer",
)} | {"hint_channels": 3}  # fmt: skip
TINY = {"model_channels": 32, "context_dim": 48}
