"""Memory and time of PortraitTalk's training, computed and not measured: ``python -m benchmarks training_cost``.

The networks have SD1.5's true sizes and stand on torch's meta device, which knows shapes and holds no numbers. Weights
are counted; activations are the tensors that autograd keeps for the backward pass, each memory once, in 2 bytes a
number (bf16), attention as a fused kernel keeps it (queries, keys, values, output). Operations are counted on the same
pass.

  memory = 2 bytes · frozen weights + 4 bytes · VAE + 22 bytes · trained weights + max(frames · activations, VAE's peak)
  22 bytes: the weight, its gradient, AdamW's two moments and the moving average in float32, and autocast's bf16 copy;
  a ControlNet that does not learn stays in 4. VAE's peak: four maps of 128 channels at the picture's size in float32
  for each of the four pictures that it encodes at a time, before the other networks run.

With gradient checkpointing, what stays is each residual block's and transformer's input, and the largest one's own
activations while it is computed again. The card's own overhead (about 1 GB) comes on top.
Time is operations over the card's bf16 peak times 0.35, which trainings of this kind often reach.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

PURPOSE = "memory and time of PortraitTalk's three training stages on cards of 8, 24 and 80 GB, computed"
GB = 1e9
FRAMES, EPOCHS = 30_000, {"identity": 10, "spatial": 100, "joint": 50}  # the paper's
CARDS = {"8 GB (RTX 4060)": (8, 60e12), "24 GB (RTX 4090)": (24, 165e12), "80 GB (A100)": (80, 312e12)}
OVERHEAD, REACHED = 1.0, 0.35  # GB; share of the peak
TRAINED_BYTES, FROZEN_BYTES, ACTIVATION_BYTES, VAE_BYTES = 22, 2, 2, 4
VAE_MAPS, VAE_CHANNELS, ENCODED_AT_ONCE = 4, 128, 4
# named so; full UNet, ControlNet learns; the stage that it does not concern
VARIANTS = (
    ("", False, True, ""),
    (", `train_controlnet = false`", False, False, "identity"),
    (", `train_unet = true`", True, True, "spatial"),
)


@dataclass(frozen=True)
class Pass:
    """What one forward pass of a frame costs."""

    kept: float  # bytes of activations, without checkpointing
    checkpointed: float  # … with it
    flops: float


class _FusedAttention(torch.autograd.Function):
    """Attention that keeps what a fused kernel keeps."""

    @staticmethod
    def forward(context, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:  # noqa: ANN001 - torch's own
        out = queries.new_empty(*queries.shape[:-1], values.shape[-1])
        context.save_for_backward(queries, keys, values, out)
        return out

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, ...]:  # noqa: ANN001
        raise NotImplementedError


@contextmanager
def counted(network: nn.Module) -> Iterator[dict[str, float]]:
    """Context manager that counts kept bytes, checkpointed bytes and operations of a network's forward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    seen: dict[int, torch.UntypedStorage] = {}  # by memory; it lives on, so that no address is used twice
    weights = {weight.untyped_storage()._cdata for weight in network.parameters()}  # noqa: SLF001
    counts = {"attention": 0.0, "inputs": 0.0, "largest": 0.0}

    def keep(tensor: Tensor) -> Tensor:
        memory = tensor.untyped_storage()
        if memory._cdata not in weights:  # noqa: SLF001 - views of one memory have no other common mark
            seen[memory._cdata] = memory  # noqa: SLF001
        return tensor

    def kept() -> float:
        return sum(memory.nbytes() for memory in seen.values()) / 4 * ACTIVATION_BYTES  # float32 on the meta device

    def attention(queries: Tensor, keys: Tensor, values: Tensor, *_: object, **__: object) -> Tensor:
        counts["attention"] += 4.0 * queries.numel() * keys.shape[-2]  # two products, two operations a number
        return _FusedAttention.apply(queries, keys, values)

    def before(_: nn.Module, inputs: tuple) -> None:
        counts["inputs"] += sum(float(ACTIVATION_BYTES * x.numel()) for x in inputs if isinstance(x, Tensor))
        counts["before"] = kept()

    def after(*_: object) -> None:
        counts["largest"] = max(counts["largest"], kept() - counts["before"])

    blocks = [m for m in network.modules() if type(m).__name__ in ("ResnetBlock2D", "Transformer2DModel")]
    hooks = [h for m in blocks for h in (m.register_forward_pre_hook(before), m.register_forward_hook(after))]
    original = nn.functional.scaled_dot_product_attention
    nn.functional.scaled_dot_product_attention = attention
    try:
        with FlopCounterMode(display=False) as flops, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            yield counts
    finally:
        nn.functional.scaled_dot_product_attention = original
        for hook in hooks:
            hook.remove()
    counts["kept"] = kept()
    counts["flops"] = flops.get_total_flops() + counts["attention"]


def one_pass(network: nn.Module, call: Callable[[], object]) -> Pass:
    """Cost of a call of a network."""
    with counted(network) as counts:
        call()
    return Pass(counts["kept"], counts["inputs"] + counts["largest"], counts["flops"])


@dataclass(frozen=True)
class Networks:
    """Numbers of weights, and costs of a frame of 512×512 pixels."""

    weights: dict[str, int]
    passes: dict[str, Pass]
    vae_peak: float  # bytes a frame while pictures are encoded


def networks(side_px: int = 512) -> Networks:
    """All networks of the recipe at SD1.5's size."""
    from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel

    from portraittalk_core.diffusion.motion_modules import bind_motion, new_motion_modules
    from portraittalk_core.diffusion.sites import HEADS, SITES
    from portraittalk_core.renderers.animatenet.animate_net import new_animate_net
    from portraittalk_core.renderers.identitynet.adapter import new_adapter

    side = side_px // 8
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=HEADS)
        control = ControlNetModel(cross_attention_dim=768, attention_head_dim=HEADS)
        widths = {site.adapter_key: unet.get_submodule(site.attention(2)).to_q.out_features for site in SITES}
        adapter, net, motion = new_adapter(widths), new_animate_net(control), new_motion_modules()
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )  # fmt: skip
        latents, text = torch.empty(1, 4, side, side, requires_grad=True), torch.empty(1, 77, 768)
        level, hint, picture = torch.empty(1), torch.empty(1, 3, side_px, side_px), torch.empty(1, 3, side_px, side_px)
    sizes = {"unet": unet, "controlnet": control, "animatenet": net, "motion": motion, "adapter": adapter, "vae": vae}
    weights = {name: sum(w.numel() for w in network.parameters()) for name, network in sizes.items()}
    weights["text encoder"] = 123_060_480  # of CLIP ViT-L/14
    # of a frozen network what its weights' gradients would need is not kept, of a linear layer its input
    passes = {"unet": one_pass(unet, lambda: unet(latents, level, text))}
    unet.requires_grad_(False)
    passes["frozen unet"] = one_pass(unet, lambda: unet(latents, level, text))
    passes["controlnet"] = one_pass(control, lambda: control(latents, level, text, hint))
    with torch.no_grad():
        passes["vae"] = one_pass(vae, lambda: vae.encode(picture))
    clip = latents.expand(16, -1, -1, -1)
    with bind_motion(unet, motion, 16):
        both = one_pass(unet, lambda: unet(clip, level.expand(16), text.expand(16, -1, -1)))
    passes["unet with motion"] = Pass(*(number / 16 for number in (both.kept, both.checkpointed, both.flops)))
    return Networks(weights, passes, 4.0 * VAE_MAPS * VAE_CHANNELS * side_px**2)


@dataclass(frozen=True)
class StageCost:
    """What a stage costs."""

    fixed: float  # bytes of weights and what belongs to them
    frame: float  # bytes a frame in memory
    checkpointed: float  # … with gradient checkpointing
    flops: float  # of a frame, forward and backward


def stage_costs(nets: Networks, full_unet: bool = False, control_learns: bool = True) -> dict[str, StageCost]:
    """Costs of the three stages, with `train_unet` and `train_controlnet` as given."""
    n, p = nets.weights, nets.passes
    base = VAE_BYTES * n["vae"] + FROZEN_BYTES * n["text encoder"]
    unet = (TRAINED_BYTES if full_unet else FROZEN_BYTES) * n["unet"]
    inner, times = ("unet", 3) if full_unet else ("frozen unet", 2)  # forward, gradients of inputs, of weights
    animate = (TRAINED_BYTES if control_learns else 4) * n["controlnet"] + TRAINED_BYTES * n["animatenet"]
    encode, control, both = p["vae"].flops, p["controlnet"], p["unet with motion"]
    grown = p["unet"].kept - p["frozen unet"].kept if full_unet else 0.0
    return {
        "identity": StageCost(
            base + unet + TRAINED_BYTES * n["adapter"],
            p[inner].kept,
            p[inner].checkpointed,
            2 * encode + times * p["unet"].flops,  # the masked and the whole picture
        ),
        "spatial": StageCost(
            base + FROZEN_BYTES * (n["unet"] + n["adapter"]) + animate,
            p["frozen unet"].kept + control.kept,
            p["frozen unet"].checkpointed + control.checkpointed,
            encode + 2 * p["unet"].flops + 3 * control.flops,
        ),
        "joint": StageCost(
            base + unet + TRAINED_BYTES * (n["adapter"] + n["motion"]) + animate,
            both.kept + grown + control.kept,
            both.checkpointed + control.checkpointed,
            encode + times * p["unet"].flops + 3 * (both.flops - p["unet"].flops) + 3 * control.flops,
        ),
    }


def most_frames(cost: StageCost, vae_peak: float, card_gb: float, checkpointed: bool) -> int:
    """Frames that fit into a card at a time; 0 where the weights alone do not."""
    room = (card_gb - OVERHEAD) * GB - cost.fixed
    count = max(int(room // (cost.checkpointed if checkpointed else cost.frame)), 0)
    return min(count, max(int(room // vae_peak), 0)) if room < ENCODED_AT_ONCE * vae_peak else count


def _fits(cost: StageCost, vae_peak: float, card_gb: float, least: int) -> str:
    numbers = [most_frames(cost, vae_peak, card_gb, checkpointed) for checkpointed in (False, True)]
    if numbers[1] < least:
        return "no"
    return f"{numbers[0]}, {numbers[1]}" if numbers[0] >= least else f"–, {numbers[1]}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--resolution", type=int, default=512, help="pixels (default: 512)")
    parser.add_argument("--clip-frames", type=int, default=16, help="of the joint stage (default: 16)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the tables of docs/training.md."""
    nets = networks(args.resolution)
    print("| network | weights, millions |\n|---|---|")
    for name, number in nets.weights.items():
        print(f"| {name} | {number / 1e6:.1f} |")
    print(f"\n| pass of a frame of {args.resolution}² | GB kept | GB checkpointed | TFLOP |\n|---|---|---|---|")
    for name, made in nets.passes.items():
        print(f"| {name} | {made.kept / GB:.2f} | {made.checkpointed / GB:.2f} | {made.flops / 1e12:.2f} |")
    print(f"\n| stage | GB fixed | {' | '.join(CARDS)} | hours: {' | '.join(CARDS)} |")
    print(f"|---|---|{'---|' * 2 * len(CARDS)}")
    for named, full, control_learns, without in VARIANTS:
        for stage, cost in stage_costs(nets, full, control_learns).items():
            if stage == without:
                continue
            least = args.clip_frames if stage == "joint" else 1
            fits = [_fits(cost, nets.vae_peak, gb, least) for gb, _ in CARDS.values()]
            total = cost.flops * FRAMES * EPOCHS[stage]
            hours = [f"{total / (peak * REACHED) / 3600:.0f}" for _, peak in CARDS.values()]
            print(f"| {stage}{named} | {cost.fixed / GB:.1f} | {' | '.join(fits)} | {' | '.join(hours)} |")
    return 0
