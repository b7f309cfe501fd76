import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn

from portraittalk_core.errors import InputError
from portraittalk_core.training.loop.checkpoints import checkpoints, load_checkpoint
from portraittalk_core.training.loop.config import TrainerConfig
from portraittalk_core.training.loop.stage import SingleLossStage
from portraittalk_core.training.loop.trainer import train_stage

pytest.importorskip("accelerate")

pytestmark = pytest.mark.slow  # together they take ten seconds and more


CONFIG = TrainerConfig(
    steps=8, batch_size=4, gradient_accumulation=2, learning_rate=1e-2, ema_decay=0.9, save_every=3, sample_every=4
)


class Line(SingleLossStage, nn.Module):
    """Fits a plane through points; what is drawn depends on the step, the noise on the generator, dropout on torch."""

    def __init__(self, name: str = "line") -> None:
        super().__init__()
        self.layer = nn.Linear(3, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.name, self.batches, self.spoil_at, self.drawn = name, [], None, []

    def trainable(self):
        return dict(self.layer.named_parameters())

    def settings(self):
        return {"name": self.name}

    def place(self, device, dtype):
        self.to(device)

    def batch(self, step, part):
        self.batches.append((step, part))
        draw = torch.Generator().manual_seed(1000 * step + part)
        points = torch.randn(4, 3, generator=draw)
        return points, points @ torch.tensor([[1.0], [-2.0], [0.5]]) + (float("nan") if step == self.spoil_at else 0.0)

    def loss(self, batch, generator):
        points, values = batch
        noise = torch.randn(values.shape, generator=generator)
        self.drawn.append(float(noise[0, 0]))
        said = nn.functional.dropout(self.layer(points), 0.1)
        return ((said - values - 0.1 * noise) ** 2).mean(), {"biggest": float(said.detach().abs().max())}

    def sample_images(self, tick):
        tick()
        level = int(100 * float(self.layer.weight.detach().abs().mean()))
        torch.rand(3)  # must not change what training draws
        return [torch.full((4, 4, 3), level, dtype=torch.uint8)] * 2


def train(out, stage=None, on_progress=None, **changes):
    stage = stage or Line()
    return stage, train_stage(stage, dataclasses.replace(CONFIG, **changes), out, on_progress)


def stop_at(step):
    def on_progress(done, total):
        if done == step:
            raise KeyboardInterrupt

    return on_progress


def content(path):
    kept = load_checkpoint(path)
    return {name: tensor.numpy().tobytes() for name, tensor in kept.tensors.items()}, kept.notes


def test_training_learns_and_tells_every_step(tmp_path):
    seen = []
    stage, result = train(
        tmp_path, steps=400, save_every=400, sample_every=0, on_progress=lambda *now: seen.append(now)
    )
    assert seen == [(done, 400) for done in range(1, 401)]
    # dropout of the answer with p makes (1 − p) times the plane the best one
    assert torch.allclose(stage.layer.weight, 0.9 * torch.tensor([[1.0, -2.0, 0.5]]), atol=0.05)
    lines = [json.loads(line) for line in result.log.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 401))
    assert {"loss", "biggest", "gradient_norm"} <= lines[0].keys()
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]


def test_adamw_matches_torch_on_summed_batches(tmp_path):
    """Two accumulated parts are one batch of both, through AdamW with the gradient's norm limited to 1."""

    class Plain(Line):
        def loss(self, batch, generator):
            return ((self.layer(batch[0]) - batch[1]) ** 2).mean(), {}

    stage, _ = train(tmp_path, Plain(), steps=5, sample_every=0)
    model = Plain()
    optimizer = torch.optim.AdamW(model.layer.parameters(), CONFIG.learning_rate, weight_decay=CONFIG.weight_decay)
    for step in range(1, 6):
        parts = [model.batch(step, part) for part in range(2)]
        points, values = (torch.cat(of) for of in zip(*parts, strict=True))
        optimizer.zero_grad()
        ((model.layer(points) - values) ** 2).mean().backward()
        nn.utils.clip_grad_norm_(model.layer.parameters(), 1.0)
        optimizer.step()
    assert torch.allclose(stage.layer.weight, model.layer.weight, atol=1e-6)


@pytest.mark.parametrize("stopped", [4, 6, 7])
def test_resume_is_bit_exact(tmp_path, stopped):
    whole, uninterrupted = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", on_progress=stop_at(stopped))
    again, resumed = train(tmp_path / "cut")
    assert resumed.resumed_from == 3 * (stopped // 3) and resumed.steps == 8
    assert torch.equal(whole.layer.weight, again.layer.weight)
    assert content(uninterrupted.checkpoint) == content(resumed.checkpoint)
    assert all(torch.equal(uninterrupted.averages[n], resumed.averages[n]) for n in uninterrupted.averages)
    assert uninterrupted.log.read_text() == resumed.log.read_text()
    assert whole.drawn[-4:] == again.drawn[-4:]


def test_resume_needs_the_optimizer_state(tmp_path):
    """That the comparison above can fail: without the moments the same steps lead elsewhere."""
    from safetensors.torch import save_file

    whole, _ = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", on_progress=stop_at(7))
    (path,) = checkpoints(tmp_path / "cut" / "checkpoints")[-1:]
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    changed = {n: torch.zeros_like(t) if n.startswith("optimizer.exp_avg.") else t for n, t in tensors.items()}
    save_file(changed, path, metadata)
    again, _ = train(tmp_path / "cut")
    assert not torch.equal(whole.layer.weight, again.layer.weight)


def test_a_finished_run_can_be_lengthened(tmp_path):
    whole, _ = train(tmp_path / "whole")
    train(tmp_path / "short", steps=5)
    longer, result = train(tmp_path / "short", save_every=100)
    assert result.resumed_from == 5
    assert torch.equal(whole.layer.weight, longer.layer.weight)
    same, result = train(tmp_path / "short")
    assert result.resumed_from == 8 and not same.batches


def test_samples_show_the_averages_and_change_nothing(tmp_path):
    with_samples, result = train(tmp_path / "with")
    without, _ = train(tmp_path / "without", sample_every=0)
    assert torch.equal(with_samples.layer.weight, without.layer.weight)
    assert [path.name for path in result.samples] == ["step_00000004.png", "step_00000008.png"]
    picture = Image.open(result.samples[-1])
    assert picture.size == (8, 4)
    assert picture.getpixel((0, 0))[0] == int(100 * float(result.averages["weight"].abs().mean()))


@pytest.mark.parametrize(
    ("changes", "name", "told"),
    [
        ({"learning_rate": 2e-2}, "line", r"learning_rate was 0\.01, is 0\.02"),
        ({"seed": 1, "batch_size": 5}, "line", r"batch_size was 4, is 5; seed was 0, is 1"),
        ({}, "other", "name was 'line', is 'other'"),
    ],
)
def test_resume_refuses_other_settings_by_name(tmp_path, changes, name, told):
    train(tmp_path)
    with pytest.raises(InputError, match=told):
        train(tmp_path, Line(name), **changes)


def test_stop_leaves_the_last_checkpoint_whole(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, on_progress=stop_at(7))
    folder = tmp_path / "checkpoints"
    assert [load_checkpoint(path).step for path in checkpoints(folder)] == [3, 6]
    assert {path.suffix for path in folder.iterdir()} == {".safetensors"}
    assert not list(folder.glob(".*"))


def test_a_checkpoint_cut_off_while_written_is_not_seen(tmp_path, monkeypatch):
    train(tmp_path, steps=3)

    def full(self, data):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(OSError, match="disk is full"):
            train(tmp_path)
    assert [load_checkpoint(path).step for path in checkpoints(tmp_path / "checkpoints")] == [3]
    assert not list((tmp_path / "checkpoints").glob(".*"))


def test_old_checkpoints_are_removed(tmp_path):
    _, result = train(tmp_path, steps=15, keep_checkpoints=2)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints")] == [
        "step_00000012.safetensors",
        "step_00000015.safetensors",
    ]
    assert result.checkpoint.name == "step_00000015.safetensors"


def test_a_damaged_checkpoint_is_named(tmp_path, cut_file):
    _, result = train(tmp_path)
    cut_file(result.checkpoint)
    with pytest.raises(InputError, match=r"step_00000008\.safetensors is not a whole checkpoint"):
        train(tmp_path)


def test_a_loss_that_is_no_number_stops(tmp_path):
    stage = Line()
    stage.spoil_at = 5
    with pytest.raises(InputError, match=r"loss is nan at step 5.*step_00000003"):
        train(tmp_path, stage)


def test_an_error_in_a_batch_reaches_the_caller(tmp_path):
    class Broken(Line):
        def batch(self, step, part):
            if step == 4:
                raise InputError("picture gone")
            return super().batch(step, part)

    with pytest.raises(InputError, match="picture gone"):
        train(tmp_path, Broken())


def test_precision_can_differ_between_runs_of_one_process(tmp_path):
    _, exact = train(tmp_path / "exact")
    stage, result = train(tmp_path / "half", mixed_precision="bf16")
    assert all(tensor.dtype == torch.float32 for tensor in result.averages.values())
    assert torch.allclose(exact.averages["weight"], result.averages["weight"], atol=0.02)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="'fp16' needs a GPU"):
            train(tmp_path / "fp16", mixed_precision="fp16")


@pytest.mark.parametrize(
    ("field", "value"),
    [("steps", 0), ("learning_rate", -1.0), ("mixed_precision", "int8"), ("ema_decay", 1.0), ("keep_checkpoints", 0)],
)
def test_config_rejects_what_cannot_be(field, value):
    with pytest.raises(InputError, match=field):
        dataclasses.replace(CONFIG, **{field: value})


def test_training_leaves_the_callers_chance_alone(tmp_path):
    stage = Line()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(tmp_path, stage)
    assert torch.equal(torch.rand(3), expected)


def test_a_run_of_the_first_trainer_goes_on(tmp_path):
    """A checkpoint after five steps, made before optimisers had names; its end, and the hash of its settings, too."""
    old = Path(__file__).parent / "files" / "step_00000005_before_optimizers.safetensors"
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    shutil.copy(old, folder / "step_00000005.safetensors")
    stage, result = train(tmp_path)
    assert result.resumed_from == 5
    assert result.settings_hash == "ef1094e3094851e9fd69a5adb2685af113439da1a1303271cf1a7f8d468e5913"
    assert torch.allclose(
        stage.layer.weight, torch.tensor([[0.024519335478544235, -0.07878714799880981, 0.05937299504876137]]), atol=1e-6
    )
    assert torch.allclose(
        result.averages["weight"],
        torch.tensor([[0.0174576286226511, -0.06999598443508148, 0.05351117253303528]]),
        atol=1e-6,
    )
