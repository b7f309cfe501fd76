"""Random single-file SD1.5 checkpoints in the original (ldm) layout, small or true to size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

MULTIPLES = (1, 2, 4, 4)
VOCABULARY, POSITIONS = 49408, 77
Shape = tuple[int, ...]
Shapes = Iterator[tuple[str, Shape]]


def make_checkpoint(
    path: Path,
    *,
    channels: int = 32,
    context: int = 48,
    full: bool = False,
    seed: int = 0,
    vae: bool = True,
    text: bool = True,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write one; `full` is SD1.5's true shapes (320 channels, 768 wide context, 2.1 GB in float16).

    Args:
        path: a .safetensors file, or .ckpt for the pickle that SD1.5 first came in.
        channels: of the UNet's first level, a multiple of 32; the VAE has as many (128 when full).
        context: width of the text tokens, a multiple of 12; the text encoder is as wide.
        full: true shapes, whatever `channels` and `context` say.
        seed: of the weights.
        vae: whether the file has one.
        text: whether the file has a text encoder.
        dtype: float16 when full, else float32, unless given.
    """
    tensors = checkpoint_tensors(
        channels=channels, context=context, full=full, seed=seed, vae=vae, text=text, dtype=dtype
    )
    if path.suffix == ".ckpt":
        torch.save({"global_step": 840000, "state_dict": tensors}, path)
    else:
        from safetensors.torch import save_file

        save_file(tensors, path, {"format": "pt"})
    return path


def checkpoint_tensors(
    *,
    channels: int = 32,
    context: int = 48,
    full: bool = False,
    seed: int = 0,
    vae: bool = True,
    text: bool = True,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """The tensors that make_checkpoint writes."""
    dtype = dtype or (torch.float16 if full else torch.float32)
    channels, context = (320, 768) if full else (channels, context)
    shapes = {f"model.diffusion_model.{name}": shape for name, shape in unet_shapes(channels, context)}
    if vae:
        shapes |= {f"first_stage_model.{name}": shape for name, shape in vae_shapes(128 if full else channels)}
    if text:
        prefix = "cond_stage_model.transformer.text_model."
        shapes |= {prefix + name: shape for name, shape in text_shapes(context, 12 if full else 2)}
    draw = torch.Generator().manual_seed(seed)
    tensors = {name: _weights(name, shape, draw).to(dtype) for name, shape in shapes.items()}
    if text:  # integers, as in the public file
        tensors[f"{prefix}embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    tensors |= {"betas": betas.float(), "alphas_cumprod": torch.cumprod(1 - betas, 0).float()}
    return tensors | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(840000)}


def _weights(name: str, shape: Shape, draw: torch.Generator) -> Tensor:
    """Scaled so that a layer keeps the size of what goes through it."""
    noise = torch.randn(shape, generator=draw)
    if "embedding.weight" in name:
        return noise * 0.5
    if len(shape) > 1:
        return noise / noise[0].numel() ** 0.5
    return 1 + 0.1 * noise if name.endswith("weight") else 0.1 * noise


def _affine(name: str, *weight: int) -> Shapes:
    yield f"{name}.weight", weight
    yield f"{name}.bias", weight[:1]


def unet_shapes(channels: int, context: int) -> Shapes:
    """Names and shapes behind model.diffusion_model., four latent channels in and out."""
    time = 4 * channels
    yield from _affine("time_embed.0", time, channels)
    yield from _affine("time_embed.2", time, time)
    yield from _affine("input_blocks.0.0", channels, 4, 3, 3)
    skipped, width, number = [channels], channels, 1
    for level, multiple in enumerate(MULTIPLES):
        for _ in range(2):
            yield from _unet_block(f"input_blocks.{number}", width, channels * multiple, time, context * (level < 3))
            width, number = channels * multiple, number + 1
            skipped.append(width)
        if level < 3:
            yield from _affine(f"input_blocks.{number}.0.op", width, width, 3, 3)
            number += 1
            skipped.append(width)
    yield from _residual("middle_block.0", width, width, time)
    yield from _transformer("middle_block.1", width, context)
    yield from _residual("middle_block.2", width, width, time)
    number = 0
    for level in reversed(range(4)):
        for i in range(3):
            out = channels * MULTIPLES[level]
            yield from _unet_block(f"output_blocks.{number}", width + skipped.pop(), out, time, context * (level < 3))
            width = out
            if level and i == 2:
                yield from _affine(f"output_blocks.{number}.{1 if level == 3 else 2}.conv", width, width, 3, 3)
            number += 1
    yield from _affine("out.0", channels)
    yield from _affine("out.2", 4, channels, 3, 3)


def _unet_block(name: str, into: int, out: int, time: int, context: int) -> Shapes:
    yield from _residual(f"{name}.0", into, out, time)
    if context:
        yield from _transformer(f"{name}.1", out, context)


def _residual(name: str, into: int, out: int, time: int) -> Shapes:
    yield from _affine(f"{name}.in_layers.0", into)
    yield from _affine(f"{name}.in_layers.2", out, into, 3, 3)
    yield from _affine(f"{name}.emb_layers.1", out, time)
    yield from _affine(f"{name}.out_layers.0", out)
    yield from _affine(f"{name}.out_layers.3", out, out, 3, 3)
    if into != out:
        yield from _affine(f"{name}.skip_connection", out, into, 1, 1)


def _transformer(name: str, width: int, context: int) -> Shapes:
    yield from _affine(f"{name}.norm", width)
    yield from _affine(f"{name}.proj_in", width, width, 1, 1)
    block = f"{name}.transformer_blocks.0"
    for attention, key_width in (("attn1", width), ("attn2", context)):
        yield f"{block}.{attention}.to_q.weight", (width, width)
        yield f"{block}.{attention}.to_k.weight", (width, key_width)
        yield f"{block}.{attention}.to_v.weight", (width, key_width)
        yield from _affine(f"{block}.{attention}.to_out.0", width, width)
    yield from _affine(f"{block}.ff.net.0.proj", 8 * width, width)
    yield from _affine(f"{block}.ff.net.2", width, 4 * width)
    for norm in ("norm1", "norm2", "norm3"):
        yield from _affine(f"{block}.{norm}", width)
    yield from _affine(f"{name}.proj_out", width, width, 1, 1)


def vae_shapes(channels: int) -> Shapes:
    """Names and shapes behind first_stage_model., four latent channels."""
    top = channels * MULTIPLES[-1]
    yield from _affine("encoder.conv_in", channels, 3, 3, 3)
    width = channels
    for level, multiple in enumerate(MULTIPLES):
        for block in range(2):
            yield from _vae_block(f"encoder.down.{level}.block.{block}", width, channels * multiple)
            width = channels * multiple
        if level < 3:
            yield from _affine(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    yield from _vae_middle("encoder.mid", top)
    yield from _affine("encoder.norm_out", top)
    yield from _affine("encoder.conv_out", 8, top, 3, 3)
    yield from _affine("decoder.conv_in", top, 4, 3, 3)
    yield from _vae_middle("decoder.mid", top)
    for level in reversed(range(4)):
        for block in range(3):
            yield from _vae_block(f"decoder.up.{level}.block.{block}", width, channels * MULTIPLES[level])
            width = channels * MULTIPLES[level]
        if level:
            yield from _affine(f"decoder.up.{level}.upsample.conv", width, width, 3, 3)
    yield from _affine("decoder.norm_out", channels)
    yield from _affine("decoder.conv_out", 3, channels, 3, 3)
    yield from _affine("quant_conv", 8, 8, 1, 1)
    yield from _affine("post_quant_conv", 4, 4, 1, 1)


def _vae_block(name: str, into: int, out: int) -> Shapes:
    yield from _affine(f"{name}.norm1", into)
    yield from _affine(f"{name}.conv1", out, into, 3, 3)
    yield from _affine(f"{name}.norm2", out)
    yield from _affine(f"{name}.conv2", out, out, 3, 3)
    if into != out:
        yield from _affine(f"{name}.nin_shortcut", out, into, 1, 1)


def _vae_middle(name: str, width: int) -> Shapes:
    yield from _vae_block(f"{name}.block_1", width, width)
    yield from _affine(f"{name}.attn_1.norm", width)
    for part in ("q", "k", "v", "proj_out"):
        yield from _affine(f"{name}.attn_1.{part}", width, width, 1, 1)
    yield from _vae_block(f"{name}.block_2", width, width)


def text_shapes(width: int, layers: int) -> Shapes:
    """Names and shapes behind cond_stage_model.transformer.text_model., without the position ids."""
    yield "embeddings.token_embedding.weight", (VOCABULARY, width)
    yield "embeddings.position_embedding.weight", (POSITIONS, width)
    for layer in range(layers):
        at = f"encoder.layers.{layer}"
        for part in ("k_proj", "v_proj", "q_proj", "out_proj"):
            yield from _affine(f"{at}.self_attn.{part}", width, width)
        yield from _affine(f"{at}.layer_norm1", width)
        yield from _affine(f"{at}.mlp.fc1", 4 * width, width)
        yield from _affine(f"{at}.mlp.fc2", width, 4 * width)
        yield from _affine(f"{at}.layer_norm2", width)
    yield from _affine("final_layer_norm", width)
