"""Diffusion with SD1.5: checkpoints, LoRA, text tokens, denoisers, samplers, motion modules, overlapping windows."""
