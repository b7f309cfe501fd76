from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ChainedScheduler, LinearLR, MultiStepLR

from portraittalk_core.errors import InputError
from portraittalk_core.options import option_of
from portraittalk_core.training.loop.config import Clock, TrainerConfig, other_default
from portraittalk_core.training.loop.optimizers import OptimizerOptions, ScheduledOptimizer


def torch_rates(epochs, epoch_steps, milestones, gamma, warmup):
    """PyTorch's own schedulers: the milestones are stepped once an epoch, the warm-up once a step."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    chain = [LinearLR(optimizer, 1 / (warmup * epoch_steps), total_iters=warmup * epoch_steps - 1)] if warmup else []
    every_step = ChainedScheduler(chain) if chain else None
    drop, rates = MultiStepLR(optimizer, milestones, gamma), []
    for _ in range(epochs):
        for _ in range(epoch_steps):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if every_step:
                every_step.step()
        drop.step()
    return rates


@pytest.mark.parametrize(
    ("epoch_steps", "milestones", "gamma", "warmup"),
    [(1, [3, 7], 0.1, 0), (4, [2, 5], 0.5, 0), (3, [4], 0.2, 2), (1, [6], 0.1, 4), (5, [], 0.1, 3)],
)
def test_learning_rate_matches_torch_schedulers(epoch_steps, milestones, gamma, warmup):
    options = OptimizerOptions(learning_rate=0.1, milestones=tuple(milestones), gamma=gamma, warmup=warmup)
    found = [options.learning_rate_at(step, epoch_steps) for step in range(1, 9 * epoch_steps + 1)]
    assert found == pytest.approx(torch_rates(9, epoch_steps, milestones, gamma, warmup), rel=1e-9)
    assert options.scheduled == bool(milestones or warmup)


def quadratic(weights):
    return sum((weight.square() * torch.arange(1, weight.numel() + 1)).sum() for weight in weights.values())


def new_weights():
    draw = torch.Generator().manual_seed(0)
    return {name: nn.Parameter(torch.randn(3, generator=draw)) for name in ("a", "b")}


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_updates_match_torch(name, kind):
    ours, theirs = new_weights(), new_weights()
    optimizer = ScheduledOptimizer("x", ours, OptimizerOptions(name, 0.05, (0.5, 0.99), 0.1, clip_norm=2.0))
    reference = kind(theirs.values(), 0.05, betas=(0.5, 0.99), weight_decay=0.1)
    for step in range(1, 6):
        optimizer.zero_grad()
        quadratic(ours).backward()
        norm = optimizer.clip(None)
        optimizer.step(step, None)
        reference.zero_grad()
        quadratic(theirs).backward()
        assert norm == pytest.approx(float(torch.cat([w.grad for w in theirs.values()]).norm()), rel=1e-6)
        nn.utils.clip_grad_norm_(theirs.values(), 2.0)
        reference.step()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert not torch.equal(ours["a"], new_weights()["a"])


def test_adam_and_adamw_differ_by_how_they_decay_weights():
    """On a weight without gradient's pull, AdamW shrinks by rate · decay; Adam's step is the whole rate."""
    moved = {}
    for name in ("adam", "adamw"):
        weight = {"w": nn.Parameter(torch.tensor([2.0]))}
        optimizer = ScheduledOptimizer("x", weight, OptimizerOptions(name, 0.01, weight_decay=0.5))
        (weight["w"] * 0).sum().backward()
        optimizer.clip(None)
        optimizer.step(1, None)
        moved[name] = float(weight["w"].detach())
    assert moved == {"adam": pytest.approx(2 - 0.01, abs=1e-6), "adamw": pytest.approx(2 * (1 - 0.005), abs=1e-6)}


def test_state_goes_to_another_optimiser_of_the_same_weights():
    first, second = new_weights(), new_weights()
    optimizers = [ScheduledOptimizer("x", weights, OptimizerOptions()) for weights in (first, second)]

    def update(weights, optimizer, step):
        optimizer.zero_grad()
        quadratic(weights).backward()
        optimizer.step(step, None)

    update(first, optimizers[0], 1)
    state = {name: tensor.clone() for name, tensor in optimizers[0].state_tensors().items()}
    assert state.keys() == {f"{kind}.{name}" for kind in ("step", "exp_avg", "exp_avg_sq") for name in first}
    with torch.no_grad():
        for name, weight in second.items():
            weight.copy_(first[name])
    optimizers[1].load_state_tensors({**state, "step.of another one": torch.tensor(1.0)})
    for weights, optimizer in zip((first, second), optimizers, strict=True):
        update(weights, optimizer, 2)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_weight_without_a_gradient_has_no_state():
    weights = new_weights()
    optimizer = ScheduledOptimizer("x", weights, OptimizerOptions())
    weights["a"].sum().backward()
    optimizer.clip(None)
    optimizer.step(1, None)
    assert {name.rpartition(".")[2] for name in optimizer.state_tensors()} == {"a"}
    fresh = ScheduledOptimizer("x", weights, OptimizerOptions())
    fresh.load_state_tensors(optimizer.state_tensors())
    assert fresh.state_tensors().keys() == optimizer.state_tensors().keys()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer", "sgd", "adamw, adam"),
        ("betas", (0.9, 1.0), "betas"),
        ("betas", (0.9,), "betas must be two numbers"),
        ("milestones", (5, 3), "milestones must rise"),
        ("milestones", (0,), "milestones"),
        ("gamma", 2.0, "gamma"),
        ("warmup", -1, "warmup"),
        ("clip_norm", -1.0, "clip_norm"),
        ("learning_rate", 2.0, "learning_rate"),
        ("weight_decay", -0.1, "weight_decay"),
    ],
)
def test_options_reject_what_cannot_be(field, value, message):
    for kind in (OptimizerOptions, TrainerConfig):
        with pytest.raises(InputError, match=message):
            kind(**{field: value})


@pytest.mark.parametrize(
    ("num_samples", "batch", "parts", "steps"), [(100, 4, 8, 4), (96, 4, 8, 3), (1, 4, 8, 1), (7, 1, 1, 7)]
)
def test_an_epoch_shows_every_sample(num_samples, batch, parts, steps):
    config = TrainerConfig(batch_size=batch, gradient_accumulation=parts, epochs=5, unit="epochs")
    clock = Clock.of(config, num_samples)
    assert (clock.epoch_steps, clock.total) == (steps, 5 * steps)
    assert (steps - 1) * batch * parts < num_samples <= steps * batch * parts
    assert [clock.epoch(step) for step in (1, steps, steps + 1)] == [0, 0, 1]
    assert [clock.due(step, 2) for step in (steps, 2 * steps, 3 * steps)] == [False, True, False]
    assert not clock.due(steps, 0)


def test_settings_of_old_configurations_stay_what_they_were():
    """The fields that a checkpoint of the first trainer names."""
    assert TrainerConfig().settings() == {
        "batch_size": 4, "gradient_accumulation": 8, "learning_rate": 5e-6, "weight_decay": 0.01, "ema_decay": 0.999,
        "seed": 0, "mixed_precision": "no",
    }  # fmt: skip
    assert TrainerConfig(warmup=3, betas=(0.5, 0.999)).settings().keys() - TrainerConfig().settings().keys() == {
        "warmup", "betas",
    }  # fmt: skip


def test_another_default_keeps_range_and_meaning():
    @dataclass(frozen=True)
    class Slow(TrainerConfig):
        learning_rate: float = other_default("learning_rate", 1e-7)

    assert Slow().learning_rate == 1e-7
    assert option_of(Slow, "learning_rate").help == option_of(TrainerConfig, "learning_rate").help
    with pytest.raises(InputError, match="learning_rate must lie between 0 and 1"):
        Slow(learning_rate=2.0)
