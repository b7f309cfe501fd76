"""A tiny adversarial training: BatchNorm in the generator, spectral norm in the discriminator, two optimisers.

Run as a program it trains until it is killed: `toy_gan.py OUT STEP mid-step`, or `… writing`.
"""

import dataclasses
import sys
import time
from pathlib import Path

import torch
from torch import nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from portraittalk_core.layers.patch_discriminator import DiscriminatorOptions, MultiScaleDiscriminator
from portraittalk_core.losses.feature_matching import feature_matching_loss
from portraittalk_core.losses.gan import discriminator_loss, generator_loss
from portraittalk_core.training.loop.config import TrainerConfig
from portraittalk_core.training.loop.optimizers import OptimizerOptions
from portraittalk_core.training.loop.stage import Loss, Trainable
from portraittalk_core.training.loop.trainer import train_stage

SAMPLES = 12  # three steps of two batches of two are an epoch
CONFIG = TrainerConfig(
    steps=8, batch_size=2, gradient_accumulation=2, learning_rate=1e-2, ema_decay=0.9, save_every=2, sample_every=0,
    milestones=(4,), gamma=0.5, warmup=2,
)  # fmt: skip
DISCRIMINATOR = OptimizerOptions("adam", 2e-2, betas=(0.5, 0.999), weight_decay=0.0, clip_norm=0.0)


class ToyGan:
    """Toy stage that trains a generator to brighten pictures."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.generator = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.1), nn.Conv2d(4, 3, 1)
        )
        options = DiscriminatorOptions(width=4, num_layers=1, norm="batch", spectral_norm=True, num_scales=1)
        self.discriminator = MultiScaleDiscriminator(options)
        self.contexts = []

    def optimizers(self):
        return {
            "generator": Trainable.of(self.generator, "generator."),
            "discriminator": Trainable.of(self.discriminator, "discriminator.", DISCRIMINATOR, averaged=False),
        }

    def settings(self):
        return {"toy": "gan"}

    def num_samples(self):
        return SAMPLES

    def place(self, device, dtype):
        self.generator.to(device)
        self.discriminator.to(device)

    def batch(self, step, part):
        return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1000 * step + part))

    def losses(self, batch, context):
        self.contexts.append((context.step, context.epoch))
        dim = 0.5 * batch + 0.1 * torch.rand(batch.shape, generator=context.generator)
        generated = self.generator(dim)
        fake, real = self.discriminator(generated), self.discriminator(batch)
        pixels = (generated - batch).abs().mean()
        adversarial = generator_loss(fake.logits, "hinge") + feature_matching_loss(fake.activations, real.activations)
        yield Loss("generator", pixels + (adversarial if context.epoch else 0.0), {"pixels": float(pixels.detach())})
        self.between(context.step)
        real_logits, fake_logits = (self.discriminator(side).logits for side in (batch, generated.detach()))
        yield Loss("discriminator", discriminator_loss(real_logits, fake_logits, "hinge"))

    def between(self, step):
        """Hook between the generator's and the discriminator's update."""

    def sample_images(self, tick):
        tick()
        return ()

    def state(self):
        """Everything that training changes."""
        nets = {"generator": self.generator, "discriminator": self.discriminator}
        return {f"{name}.{key}": tensor for name, net in nets.items() for key, tensor in net.state_dict().items()}


def train(out, stage=None, **changes):
    stage = stage or ToyGan()
    return stage, train_stage(stage, dataclasses.replace(CONFIG, **changes), Path(out))


def wait_to_be_killed():
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    time.sleep(600)


class HeldGan(ToyGan):
    """ToyGan that blocks in the middle of a step."""

    def __init__(self, hold_at):
        super().__init__()
        self.hold_at = hold_at

    def between(self, step):
        if step == self.hold_at:
            wait_to_be_killed()


def write_half(name):
    """Patch Path.write_bytes to block half-way through a file of that name."""
    write = Path.write_bytes

    def write_and_block(path, content):
        if name in path.name:
            write(path, content[: len(content) // 2])
            wait_to_be_killed()
        return write(path, content)

    Path.write_bytes = write_and_block


if __name__ == "__main__":
    torch.set_num_threads(1)
    out_folder, number, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if when == "writing":
        write_half(f"step_{number:08d}")
    train(out_folder, HeldGan(number if when == "mid-step" else None))
