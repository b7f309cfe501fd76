"""Training of several networks against each other: gradients, schedules, and runs that were stopped or killed."""

import contextlib
import dataclasses
import json
import signal
import subprocess
import sys

import pytest
import torch
import toy_gan
from torch import nn
from toy_gan import CONFIG, DISCRIMINATOR, ToyGan, train

from portraittalk_core.errors import InputError
from portraittalk_core.training.loop import trainer
from portraittalk_core.training.loop.checkpoints import checkpoints, load_checkpoint
from portraittalk_core.training.loop.stage import Loss, Trainable
from portraittalk_core.training.loop.trainer import step_generator

pytest.importorskip("accelerate")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]  # together they take ten seconds and more


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train(tmp_path_factory.mktemp("whole"))


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def plain_loop(steps):
    """The same training as PyTorch's tutorials write it."""
    gan = ToyGan()
    torch.manual_seed(CONFIG.seed)
    nets = {"generator": gan.generator, "discriminator": gan.discriminator}
    weights = {name: list(net.parameters()) for name, net in nets.items()}
    optimizers = {
        "generator": torch.optim.AdamW(weights["generator"], 1e-2, weight_decay=0.01),
        "discriminator": torch.optim.Adam(weights["discriminator"], 2e-2, betas=(0.5, 0.999)),
    }
    warm = torch.optim.lr_scheduler.LinearLR(optimizers["generator"], 0.5, total_iters=1)
    drop = torch.optim.lr_scheduler.MultiStepLR(optimizers["generator"], [4], 0.5)
    for step in range(1, steps + 1):
        gradients = {name: [torch.zeros_like(weight) for weight in of] for name, of in weights.items()}
        for part in range(2):
            context = trainer.StepContext(step, (step - 1) // 3, step_generator(CONFIG.seed, step, part))
            for loss in gan.losses(gan.batch(step, part), context):
                found = torch.autograd.grad(loss.value / 2, weights[loss.optimizer])
                pairs = zip(gradients[loss.optimizer], found, strict=True)
                gradients[loss.optimizer] = [total + gradient for total, gradient in pairs]
        for name, of in weights.items():
            for weight, gradient in zip(of, gradients[name], strict=True):
                weight.grad = gradient
        nn.utils.clip_grad_norm_(weights["generator"], 1.0)
        for optimizer in optimizers.values():
            optimizer.step()
        warm.step()
        drop.step()
    return gan


def test_two_optimisers_match_a_loop_written_out(whole):
    expected, (stage, _) = plain_loop(8).state(), whole
    for name, tensor in stage.state().items():
        assert torch.allclose(tensor, expected[name], atol=1e-6), name


def test_every_loss_and_rate_is_logged_by_its_optimiser(whole):
    lines = [json.loads(line) for line in whole[1].log.read_text().splitlines()]
    own = {f"{name}.{number}" for name in ("generator", "discriminator") for number in ("loss", "gradient_norm")}
    assert lines[0].keys() == {"step", "generator.pixels", "generator.learning_rate"} | own
    rates = [line["generator.learning_rate"] for line in lines]
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.005, 0.005, 0.005, 0.005])


@pytest.mark.parametrize("stopped", [4, 5])
def test_2n_steps_equal_n_steps_and_resume_bit_for_bit(tmp_path, whole, stopped):
    train(tmp_path, steps=stopped)
    again, resumed = train(tmp_path)
    stage, uninterrupted = whole
    assert resumed.resumed_from == stopped
    assert same(stage.state(), again.state())
    assert same(uninterrupted.averages, resumed.averages)
    assert uninterrupted.checkpoint.read_bytes() == resumed.checkpoint.read_bytes()
    assert uninterrupted.log.read_text() == resumed.log.read_text()
    kept = load_checkpoint(resumed.checkpoint)
    assert {"generator.1.running_mean", "generator.1.num_batches_tracked"} <= kept.part("buffers").keys()
    vectors = [name for name in kept.part("buffers") if name.endswith(("._u", "._v"))]
    assert len(vectors) == 2 * 3
    assert kept.part("optimizer.exp_avg").keys() == kept.part("weights").keys()


@pytest.mark.parametrize("lost", ["buffers.discriminator", "optimizer.exp_avg_sq.discriminator", "random.cpu"])
def test_resume_needs_every_part_of_the_state(tmp_path, whole, lost):
    """That the comparison above can fail."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    _, short = train(tmp_path, steps=4)
    with safe_open(short.checkpoint, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    seed = torch.Generator().manual_seed(99).get_state()
    other = {n: (seed if n.startswith("random") else torch.ones_like(t)) for n, t in tensors.items()}
    save_file({n: other[n] if n.startswith(lost) else t for n, t in tensors.items()}, short.checkpoint, metadata)
    again, _ = train(tmp_path)
    assert not same(whole[0].state(), again.state())


def kill_in(out, step, when):
    """Train in another process until it says that it is there, and kill it."""
    command = [sys.executable, toy_gan.__file__, str(out), str(step), when]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.kill()  # SIGKILL, which nothing can catch
    assert process.returncode == -getattr(signal, "SIGKILL", -1)


def test_a_killed_run_ends_in_the_same_bytes(tmp_path, whole):
    kill_in(tmp_path, 5, "mid-step")
    folder = tmp_path / "checkpoints"
    assert [load_checkpoint(path).step for path in checkpoints(folder)] == [2, 4]
    kill_in(tmp_path, 6, "writing")
    assert [load_checkpoint(path).step for path in checkpoints(folder)] == [2, 4]
    assert len(list(folder.glob(".step_00000006.*"))) == 1  # half a file
    again, resumed = train(tmp_path)
    stage, uninterrupted = whole
    assert resumed.resumed_from == 4
    assert uninterrupted.checkpoint.read_bytes() == resumed.checkpoint.read_bytes()
    assert uninterrupted.log.read_text() == resumed.log.read_text()
    assert same(stage.state(), again.state())
    assert not list(folder.glob(".*"))


def test_averages_follow_the_generator_alone(whole):
    stage, result = whole
    assert set(result.averages) == {f"generator.{name}" for name in stage.generator.state_dict()}
    assert int(result.averages["generator.1.num_batches_tracked"]) == 16
    assert not torch.equal(result.averages["generator.1.running_mean"], stage.generator[1].running_mean)


def test_an_optimiser_without_a_loss_rests(tmp_path):
    class Alternating(ToyGan):
        def losses(self, batch, context):
            return [
                loss for loss in super().losses(batch, context) if context.step % 2 or loss.optimizer != "generator"
            ]

    stage, _ = train(tmp_path, Alternating(), steps=3, weight_decay=0.5)
    before = {name: weight.clone() for name, weight in stage.generator.named_parameters()}
    again, result = train(tmp_path, Alternating(), steps=4, weight_decay=0.5)
    assert same(before, dict(again.generator.named_parameters()))
    assert not same(dict(stage.discriminator.named_parameters()), dict(again.discriminator.named_parameters()))
    assert "generator.loss" not in json.loads(result.log.read_text().splitlines()[-1])
    moved, _ = train(tmp_path, Alternating(), steps=5, weight_decay=0.5)
    assert not same(before, dict(moved.generator.named_parameters()))


def test_epochs_count_passes_through_the_data(tmp_path):
    seen = []
    config = dataclasses.replace(CONFIG, epochs=3, unit="epochs", save_every=2, milestones=(1, 2), warmup=0)
    stage = ToyGan()
    result = trainer.train_stage(stage, config, tmp_path, lambda *now: seen.append(now))
    assert seen == [(done, 9) for done in range(1, 10)]
    assert stage.contexts == [(step, (step - 1) // 3) for step in range(1, 10) for _ in range(2)]
    assert [load_checkpoint(path).step for path in checkpoints(tmp_path / "checkpoints")] == [6, 9]
    rates = [json.loads(line)["generator.learning_rate"] for line in result.log.read_text().splitlines()]
    assert rates == pytest.approx([0.01] * 3 + [0.005] * 3 + [0.0025] * 3)
    longer = trainer.train_stage(ToyGan(), dataclasses.replace(config, epochs=4), tmp_path)
    assert (longer.resumed_from, longer.steps) == (9, 12)


@pytest.mark.parametrize("changes", [{"epochs": 2}, {"unit": "epochs"}])
def test_epochs_of_endless_data_are_refused(tmp_path, changes):
    class Endless(ToyGan):
        def num_samples(self):
            return None

    with pytest.raises(InputError, match="epochs cannot be counted; give steps"):
        train(tmp_path, Endless(), **changes)
    stage, _ = train(tmp_path, Endless(), steps=4)
    assert {epoch for _, epoch in stage.contexts} == {0}


def test_scaled_losses_of_two_optimisers_match_unscaled_ones(tmp_path, whole, monkeypatch):
    """As fp16 does on a GPU: what is multiplied by 1024 is divided again, once, for each optimiser."""
    plain, made = trainer._accelerator, []

    @contextlib.contextmanager
    def with_scaler(config):
        with plain(config) as accelerator:
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=4)
            made.append(accelerator.scaler)
            yield accelerator

    monkeypatch.setattr(trainer, "_accelerator", with_scaler)
    train(tmp_path / "cut", steps=5)
    stage, resumed = train(tmp_path / "cut")
    assert same(whole[0].state(), stage.state())  # powers of two lose nothing
    assert made[-1].get_scale() == 4096.0  # grown twice in eight steps
    _, uninterrupted = train(tmp_path / "whole")
    assert uninterrupted.checkpoint.read_bytes() == resumed.checkpoint.read_bytes()


def test_an_overflow_leaves_out_the_step_of_its_optimiser(tmp_path, monkeypatch):
    class Overflowing(ToyGan):
        def losses(self, batch, context):
            for loss in super().losses(batch, context):
                bad = loss.optimizer == "generator" and context.step == 2
                yield dataclasses.replace(loss, value=loss.value * 1e38) if bad else loss

    plain, scalers = trainer._accelerator, []

    @contextlib.contextmanager
    def with_scaler(config):
        with plain(config) as accelerator:
            accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
            scalers.append(accelerator.scaler)
            yield accelerator

    monkeypatch.setattr(trainer, "_accelerator", with_scaler)
    first, _ = train(tmp_path, Overflowing(), steps=1)
    second, result = train(tmp_path, Overflowing(), steps=2)
    assert scalers[-1].get_scale() == 512.0
    assert same(dict(first.generator.named_parameters()), dict(second.generator.named_parameters()))
    assert not same(dict(first.discriminator.named_parameters()), dict(second.discriminator.named_parameters()))
    assert json.loads(result.log.read_text().splitlines()[-1])["generator.gradient_norm"] is None


def test_other_options_of_an_optimiser_are_refused(tmp_path):
    class Faster(ToyGan):
        def optimizers(self):
            own = dataclasses.replace(DISCRIMINATOR, learning_rate=0.5)
            return {**super().optimizers(), "discriminator": Trainable.of(self.discriminator, "discriminator.", own)}

    train(tmp_path, steps=2)
    with pytest.raises(InputError, match=r"optimizers was .*0\.02.*is .*0\.5"):
        train(tmp_path, Faster())


def test_a_checkpoint_of_other_buffers_is_refused_by_name(tmp_path):
    class Unnormed(ToyGan):
        def optimizers(self):
            found = super().optimizers()
            return {**found, "generator": dataclasses.replace(found["generator"], networks={})}

    train(tmp_path, Unnormed(), steps=2)
    with pytest.raises(InputError, match=r"other buffers .*it lacks generator\.1\.num_batches_tracked"):
        train(tmp_path)


def test_a_loss_that_is_no_number_names_its_optimiser(tmp_path):
    class Broken(ToyGan):
        def losses(self, batch, context):
            yield next(super().losses(batch, context))
            yield Loss("discriminator", torch.tensor(float("inf")))

    with pytest.raises(InputError, match="discriminator's loss is inf at step 1"):
        train(tmp_path, Broken())


def test_faults_of_a_stage_are_told(tmp_path):
    class Twice(ToyGan):
        def optimizers(self):
            return {name: Trainable.of(self.generator, "same.") for name in ("generator", "discriminator")}

    class Apart(ToyGan):
        def losses(self, batch, context):
            yield Loss("discriminator", next(super().losses(batch, context)).value)

    with pytest.raises(ValueError, match=r"one name: same\.0\.bias"):
        train(tmp_path / "twice", Twice())
    apart = Apart()
    apart.discriminator.requires_grad_(False)
    apart.optimizers = lambda: {
        "generator": Trainable.of(apart.generator, "generator."),
        "discriminator": Trainable({"lonely": nn.Parameter(torch.zeros(1))}),
    }
    with pytest.raises(ValueError, match="'discriminator' does not depend on any of its weights"):
        train(tmp_path / "apart", apart)
