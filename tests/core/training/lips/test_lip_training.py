import dataclasses

import pytest
import torch
from safetensors.torch import load_file
from toy_puppet import PREPARED_FRAMES, motion, write_prepared

from portraittalk_core.errors import InputError
from portraittalk_core.losses.perceptual import PerceptualLoss
from portraittalk_core.renderers.implicit.random_weights import randomised
from portraittalk_core.renderers.lip.contract import LipBatch, References
from portraittalk_core.renderers.lip.files import open_lip_model
from portraittalk_core.renderers.lip.iplap import IpLap
from portraittalk_core.renderers.lip.lip_model import LipPriors
from portraittalk_core.renderers.lip.sizes import LipSizes
from portraittalk_core.training.data.video_clips import read_videos
from portraittalk_core.training.lips.clips import read_lip_clips
from portraittalk_core.training.lips.config import LipTrainer, LipTraining, LipWeights, load_lip_config
from portraittalk_core.training.lips.data import LipWindows, as_pictures, as_sketches
from portraittalk_core.training.lips.losses import LipPictureLosses, masked_difference
from portraittalk_core.training.lips.score import lip_score, painted
from portraittalk_core.training.lips.stage import LipStage, new_lip_model, train_lips
from portraittalk_core.training.loop.checkpoints import load_checkpoint
from portraittalk_core.training.loop.stage import StepContext
from portraittalk_core.types import SPEECH_RATE_HZ

pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")
SIDE = 32
QUICK = LipTrainer(steps=2, batch_size=2, learning_rate=1e-3, save_every=1, sample_every=2)
PLAIN = LipWeights(gan=0.0, feature_matching=0.0, lips=10.0)


def tone(seed):
    """(N,) a tone as loud as the puppet's mouth is open."""
    opening = motion(PREPARED_FRAMES, seed)[:, 3].repeat_interleave(SPEECH_RATE_HZ // 25)
    return 0.5 * opening * torch.sin(torch.arange(len(opening)) * 0.2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("clips"), ["a", "b"], {"a": tone(0), "b": tone(1)})


def config(folder, out, weights=None, trainer=QUICK, **changes):
    base = {"networks": "tiny", "size": SIDE, "pixels": True, "warmup_epochs": 0, "warmup_steps": 1}
    base |= {"discriminator_width": 4, "discriminator_scales": 1}
    return LipTraining(folder, out, weights=weights or LipWeights(), trainer=trainer, **{**base, **changes})


def windows_of(folder, keep, settings, names=("a",)):
    model = new_lip_model(settings)
    clips, _ = read_lip_clips(folder, read_videos(folder, 1, list(names)).videos, model.crop, keep)
    return model, LipWindows(clips, model.size, settings.references, settings.lip_references)


def content(path):
    kept = load_checkpoint(path)
    return {name: tensor.numpy().tobytes() for name, tensor in kept.tensors.items()}, kept.notes


@pytest.mark.slow
def test_training_resumes_bit_for_bit_and_writes_a_file_that_dub_opens(folder, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("a\n")
    whole = train_lips(config(folder, tmp_path / "whole", clips=names))
    train_lips(config(folder, tmp_path / "cut", clips=names, trainer=dataclasses.replace(QUICK, steps=1)))
    cut = train_lips(config(folder, tmp_path / "cut", clips=names))
    assert cut.training.resumed_from == 1
    assert content(whole.training.checkpoint) == content(cut.training.checkpoint)
    assert whole.training.log.read_text() == cut.training.log.read_text()
    first, second = load_file(whole.lips), load_file(cut.lips)
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    (sample,) = whole.training.samples
    from PIL import Image

    assert Image.open(sample).size == (5 * SIDE, 4 * SIDE)
    model = open_lip_model(whole.lips, name="lips")
    assert (model.size, model.config.crop_pad_px, model.config.crop_pad_share) == (SIDE, 0.0, 0.1)
    first = new_lip_model(config(folder, tmp_path, start=whole.lips, networks="public", size=128))
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), first.state_dict().values(), strict=True))
    with pytest.raises(InputError, match="other settings"):
        train_lips(config(folder, tmp_path / "whole", clips=names, crop_pad=0.2))


@pytest.mark.parametrize("more", [{}, {"nearest_lips": 1, "lip_guide": True, "lip_warp": True}])
def test_file_paints_as_the_training_saw_it(folder, tmp_path, more):
    """Crops, sketches, landmarks, references and sound go through the renderer's contract to the same picture."""
    settings = config(folder, tmp_path, **more)
    model, windows = windows_of(folder, tmp_path, settings)
    model.eval()
    batch = windows.batch(0, 1, 0)
    with torch.no_grad():
        made = painted(model, batch).picture
    references = References(
        as_pictures(batch.faces[0]), as_sketches(batch.face_sketches[0]),
        as_pictures(batch.lips[0]), as_sketches(batch.lip_sketches[0]), batch.lip_points[0],
    )  # fmt: skip
    seen = LipBatch(as_pictures(batch.pictures), as_sketches(batch.sketches), batch.mel, batch.points)
    assert torch.allclose(model.paint(model.encode(references), seen), made, atol=1e-4)


@pytest.mark.slow
def test_short_training_beats_the_unwarped_mean_of_references(folder, tmp_path):
    trainer = LipTrainer(steps=110, batch_size=2, learning_rate=5e-3, ema_decay=0.9, save_every=1000, sample_every=0)
    few = {"references": 2, "lip_references": 1, "warmup_steps": 14}
    settings = config(folder, tmp_path, PLAIN, trainer, **few)
    model, windows = windows_of(folder, tmp_path, settings, ("a", "b"))
    before = lip_score(model.eval(), windows, 5)
    after = train_lips(settings).score
    assert after.psnr_db > after.mean_psnr_db + 1
    assert after.psnr_db > before.psnr_db + 6
    assert after.psnr_db >= 20


def test_score_is_the_peak_ratio_of_the_hidden_half(folder, tmp_path):
    settings = config(folder, tmp_path)
    model, windows = windows_of(folder, tmp_path, settings)
    score = lip_score(model.eval(), windows, 3)
    squares, means = [], []
    for number in range(-(-len(windows) // 8)):
        batch = windows.batch(number, 8, 3)
        with torch.no_grad():
            made = painted(model, batch).picture
        target = as_pictures(batch.pictures)
        squares.append((made - target).square()[:, :, SIDE // 2 :])
        means.append((as_pictures(batch.faces).mean(1) - target).square()[:, :, SIDE // 2 :])
    expected = [-10 * torch.cat(part).mean().log10().item() for part in (squares, means)]
    assert [score.psnr_db, score.mean_psnr_db] == pytest.approx(expected, abs=1e-3)


def terms_at(step, settings, folder, keep):
    model, windows = windows_of(folder, keep, settings)
    stage = LipStage(model, windows, settings)
    losses = list(stage.losses(stage.batch(1, 0), StepContext(step, 0, torch.Generator())))
    return stage, losses


def test_at_first_alignment_alone_is_judged_while_the_discriminator_learns(folder, tmp_path):
    settings = config(folder, tmp_path, warmup_steps=3)
    _, (generator, discriminator) = terms_at(3, settings, folder, tmp_path)
    assert set(generator.logged) == {"warp"}
    assert generator.value.item() == pytest.approx(2.5 * generator.logged["warp"], rel=1e-5)
    assert discriminator.optimizer == "discriminator" and discriminator.value.item() > 0
    _, (generator, _) = terms_at(4, settings, folder, tmp_path)
    weights = {"warp": 2.5, "render": 4, "gan": 0.25, "feature_matching": 2.5}
    assert set(generator.logged) == set(weights)
    total = sum(weights[name] * value for name, value in generator.logged.items())
    assert generator.value.item() == pytest.approx(total, rel=1e-5)


def test_warm_up_counts_passes_through_the_clips(folder, tmp_path):
    """26 passes through 1 clip in steps of 2 windows."""
    settings = config(folder, tmp_path, warmup_epochs=26, warmup_steps=0)
    assert LipStage(*windows_of(folder, tmp_path, settings), settings).warmup == 13
    settings = config(folder, tmp_path, warmup_epochs=26, warmup_steps=100)
    assert LipStage(*windows_of(folder, tmp_path, settings), settings).warmup == 100
    settings = config(folder, tmp_path, ablate="align")
    assert LipStage(*windows_of(folder, tmp_path, settings), settings).warmup == 0


@pytest.mark.parametrize("ablate", ["align", "align-mean", "lips", "audio"])
def test_every_ablation_learns_from_what_is_left(ablate, folder, tmp_path):
    settings = config(folder, tmp_path, PLAIN, ablate=ablate, warmup_steps=0)
    stage, (loss,) = terms_at(1, settings, folder, tmp_path)
    assert ("warp" in loss.logged) == (ablate in ("lips", "audio"))
    loss.value.backward()
    used = {name.split(".")[0] + "." + name.split(".")[1] for name, weight in stage.model.named_parameters()
            if weight.grad is not None and weight.grad.any()}  # fmt: skip
    assert ("rendering.lips" in used) == (ablate != "lips")
    assert ("rendering.sound" in used) == (ablate != "audio")
    assert ("alignment.conv_4" in used) == (ablate in ("lips", "audio"))
    assert ("alignment.conv1" in used) == (ablate != "align")


def test_vgg19_judges_features_and_style_and_gets_the_range_that_is_asked_for(folder, tmp_path):
    seen = []

    def network(pictures):
        seen.append(pictures)
        return [pictures, pictures[:, :1]]

    settings = config(folder, tmp_path)
    a, b = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    plain = LipPictureLosses(settings, SIDE, PerceptualLoss(network, 2))(a, b)
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    expected = 0.0
    for first, second in ((a, b), (torch.nn.functional.avg_pool2d(a, 2), torch.nn.functional.avg_pool2d(b, 2))):
        away = (first - second).abs() / deviation
        expected += away.mean().item() + away[:, 0].mean().item()
    assert plain.features.item() == pytest.approx(expected, rel=1e-5)
    assert plain.style.item() > 0
    count = len(seen)
    iplap = dataclasses.replace(settings, vgg_range="iplap")
    halved = LipPictureLosses(iplap, SIDE, PerceptualLoss(network, 2))(a, b)
    assert halved.features.item() == pytest.approx(expected / 2, rel=1e-4)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    assert torch.allclose(seen[count] * deviation + mean, (a + 1) / 2, atol=1e-5)


def test_masked_difference_matches_the_closed_form():
    mask = torch.zeros(1, 4, 4)
    mask[:, 2:, :2] = 1
    made = torch.zeros(1, 3, 4, 4)
    made[:, 1, 3, 1] = 0.6  # one of 4 · 3 numbers in the mask
    made[:, :, 0] = 1  # outside
    assert masked_difference(made, torch.zeros(1, 3, 4, 4), mask).item() == pytest.approx(0.05)


def test_training_begins_with_the_alignment_of_iplap(tmp_path):
    """Flows and weights are those of IP-LAP's network, which sees blue, green, red."""
    public = IpLap(LipSizes(size=SIDE, narrow=8, wide=32, hidden=16, audio=(4, 8, 16, 16, 32)))
    names = {f"module.{name}": tensor for name, tensor in randomised(public, 3).state_dict().items()}
    path = tmp_path / "renderer_checkpoint.pth"
    torch.save({"state_dict": names | {"input_size": torch.tensor(SIDE)}}, path)
    settings = config(tmp_path, tmp_path, alignment=path)
    model = new_lip_model(settings).eval()
    faces, sketches = torch.rand(1, 2, 3, SIDE, SIDE), torch.rand(1, 2, 1, SIDE, SIDE).expand(-1, -1, 3, -1, -1)
    around, masked = torch.rand(1, 15, SIDE, SIDE), torch.rand(1, 3, SIDE, SIDE)
    with torch.no_grad():
        own = model.alignment.encode_references(faces, sketches)
        ours = model.alignment(own, around, model.alignment.masked.encode(masked)[1])
        theirs = public.flow_module(public.flow_module.encode_references(faces.flip(2), sketches), around)
    assert torch.allclose(ours.picture, theirs.picture.flip(1), atol=1e-5)
    assert torch.allclose(ours.wide, theirs.wide, atol=1e-4)
    with pytest.raises(InputError, match="leave alignment out"):
        config(tmp_path, tmp_path, alignment=path, start=path, networks="public", size=128)


def test_random_weights_follow_the_seed(tmp_path):
    first, same, other = (
        new_lip_model(config(tmp_path, tmp_path, trainer=dataclasses.replace(QUICK, seed=seed))) for seed in (1, 1, 2)
    )
    assert isinstance(first, LipPriors)
    weights = [model.rendering.conv_last.weight for model in (first, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("", "need vgg19"),
        ('pixels = true\nvgg19 = "v.pth"', "takes the place of vgg19"),
        ('pixels = true\nablate = "mouth"', "ablate"),
        ("pixels = true\nsize = 33", "must be even"),
        ('pixels = true\nnetworks = "huge"', "networks"),
        ('pixels = true\nstart = "a.safetensors"\nsize = 256', "has its own .*; leave size out"),
        ("pixels = true\n[weights]\ngan = 0", "needs a discriminator"),
        ("pixels = true\n[weights]\nrender = 0", "nothing says what a mouth should look like"),
        ("pixels = true\n[weights]\nwarp = -1", r"weights\.warp"),
    ],
)
def test_settings_are_checked(lines, message, tmp_path):
    path = tmp_path / "lips.toml"
    path.write_text(f'data = "clips"\nout = "run"\n{lines}\n')
    with pytest.raises(InputError, match=message):
        load_lip_config(path)
