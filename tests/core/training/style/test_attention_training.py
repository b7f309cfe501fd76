import dataclasses

import numpy as np
import pytest
import torch
from sd15_files import make_checkpoint
from toy_faces import FixedTexts, PatchCodec
from toy_puppet import motion, puppet_clip, track_of, write_prepared
from toy_styles import MEANS, QUICK, STYLE_WIDTH, halves, toy_priors

from portraittalk_core.cli.main import main
from portraittalk_core.diffusion.branches import Batch
from portraittalk_core.diffusion.motion_modules import new_motion_modules
from portraittalk_core.diffusion.schedule import schedule_sigmas
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.errors import InputError
from portraittalk_core.renderers.animatenet.animate_net import new_animate_net
from portraittalk_core.renderers.identitynet.adapter import new_adapter
from portraittalk_core.style.attention import FrameStyles, StyleRun, bind_style
from portraittalk_core.style.attention_files import StyleSizes
from portraittalk_core.style.extractor import StyleExtractor, load_extractor, new_extractor_net, save_extractor
from portraittalk_core.style.extractor_files import ExtractorSizes
from portraittalk_core.style.prior import STATISTICS_SPACE, BlendedStyle
from portraittalk_core.style.projection import load_style_attention, new_style_attention, save_style_attention
from portraittalk_core.training.data.video_clips import VideoClip, VideoData
from portraittalk_core.training.identitynet.stage import FrozenParts
from portraittalk_core.training.loop.trainer import step_generator, train_stage
from portraittalk_core.training.style.attention_data import StyledVideos
from portraittalk_core.training.style.attention_parts import Conditioners
from portraittalk_core.training.style.attention_stage import StyleAttentionStage, standardised, starting_attention
from portraittalk_core.training.style.config import StyleAttentionTraining, StyleTraining, load_style_config
from portraittalk_core.weights.catalog import recognise

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")

WIDTHS = (32, 32, 32, 32)


@pytest.fixture(scope="module")
def videos() -> StyledVideos:
    """Two videos, each of a style and a pattern of its own."""
    clips = [VideoClip(str(n), lambda k, n=n: halves(n, k), track_of(motion(8, n))) for n in (0, 1)]
    return StyledVideos(VideoData(clips, 1), toy_priors(2))


def new_unet(seed: int = 0):
    torch.manual_seed(seed)
    return diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=WIDTHS, cross_attention_dim=48, attention_head_dim=8
    ).eval()


@pytest.fixture(scope="module")
def plain_unet():
    """Knows that pictures are even areas of some tint, nothing of patterns."""
    unet, texts = new_unet().requires_grad_(True), FixedTexts()
    optimizer = torch.optim.AdamW(unet.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, 60, pct_start=0.1)
    alpha_bars, draw = (1 / (1 + schedule_sigmas() ** 2)).float(), torch.Generator().manual_seed(1)
    for _ in range(60):
        noise, timesteps = torch.randn(4, 4, 8, 8, generator=draw), torch.randint(1000, (4,), generator=draw)
        kept = alpha_bars[timesteps].view(-1, 1, 1, 1)
        noisy = kept.sqrt() * 0.1 * torch.randn(4, 4, 1, 1, generator=draw) + (1 - kept).sqrt() * noise
        loss = (unet(noisy, timesteps, texts.tokens([""] * 4)).sample - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return unet.requires_grad_(False)


def toy_config(out, **changes) -> StyleAttentionTraining:
    given = {"resolution": 64, "drawing": "landmarks", "trainer": QUICK, "frames": 4}
    return StyleAttentionTraining(out, out, out, **{**given, **changes})


def toy_stage(unet, videos, config, company=None) -> StyleAttentionStage:
    frozen = FrozenParts(unet, PatchCodec(), FixedTexts())
    return StyleAttentionStage(frozen, starting_attention(unet, videos, config), videos, config, company)


def error(stage, swapped: bool = False, dropped: bool = False) -> float:
    """Of batches that training does not see, in their own styles or the other one's."""
    found = []
    with torch.no_grad():
        for number in range(6):
            batch = stage.data.batch(number, 8, 99, 64)
            styles = MEANS[[1 - v if swapped else v for v in batch.clips.videos]]
            found.append(float(stage.error(batch, styles, torch.full((8,), dropped), step_generator(1, number))))
    return sum(found) / len(found)


@pytest.mark.slow
def test_right_style_beats_the_swapped_one_by_a_fifth(plain_unet, videos, tmp_path):
    """Acceptance, docs/design/styles.md 6: right beats swapped, strength 0 is as before, only style has moved."""
    unet, out = plain_unet, tmp_path
    trainer = dataclasses.replace(QUICK, steps=200, batch_size=4, learning_rate=1e-2, ema_decay=0.9, save_every=999)
    stage = toy_stage(unet, videos, toy_config(out, trainer=trainer))
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    latents, level = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5)), torch.tensor([300, 300])
    text = FixedTexts().tokens(["", ""])
    with torch.no_grad():
        plain = unet(latents, level, text).sample
    with stage:
        assert error(stage) == error(stage, swapped=True) == error(stage, dropped=True)  # adds nothing yet
        start = {name: weight.detach().clone() for name, weight in stage.trainable().items()}
        result = train_stage(stage, trainer, out)
        right, swapped, without = error(stage), error(stage, swapped=True), error(stage, dropped=True)
    path = stage.export(result.averages, out / "style_attention.safetensors", {})
    assert right <= 0.8 * swapped  # found: 0.75
    assert right < without
    after = unet.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], old) for name, old in before.items())
    assert all(not torch.equal(weight, start[name]) for name, weight in stage.trainable().items())
    net = load_style_attention(path)
    for strength, same in ((0.0, True), (1.0, False)):
        run = StyleRun(net, FrameStyles(MEANS[:1], torch.tensor([strength])), Batch())
        with torch.no_grad(), bind_style(unet, run):
            assert torch.equal(unet(latents, level, text).sample, plain) is same
    with torch.no_grad():
        assert torch.equal(unet(latents, level, text).sample, plain)


def test_untrained_loss_is_the_weighted_noise_error_by_hand(videos, tmp_path):
    unet = new_unet()
    stage = toy_stage(unet, videos, toy_config(tmp_path))
    batch = stage.batch(1, 0)
    with stage:
        loss, told = stage.loss(batch, step_generator(0, 1))
    draw = step_generator(0, 1)
    dropped = torch.rand(2, generator=draw) < 0.1
    torch.randn(2, STYLE_WIDTH, generator=draw)  # of the styles
    levels = torch.randint(1000, (2,), generator=draw)
    noise = torch.randn(2, 4, 8, 8, generator=draw)
    kept = (1 / (1 + schedule_sigmas() ** 2)).float()[levels]
    noisy = kept.sqrt().view(-1, 1, 1, 1) * PatchCodec().encode(batch.clips.frames[:, 0])
    noisy = noisy + (1 - kept).sqrt().view(-1, 1, 1, 1) * noise
    with torch.no_grad():
        made = unet(noisy, levels, FixedTexts().tokens(["", ""])).sample
    weights = torch.minimum(5 * (1 - kept) / kept, torch.ones(2))
    wanted = ((made - noise).square().mean((1, 2, 3)) * weights).mean()
    assert float(loss.detach()) == pytest.approx(float(wanted), rel=1e-4)
    assert told["dropped"] == float(dropped.float().mean())


def test_styles_are_drawn_anew_with_at_least_the_noise(videos, tmp_path):
    stage = toy_stage(new_unet(), videos, toy_config(tmp_path, drop=0.3))
    batch, seen = stage.batch(1, 0), []
    stage.error = lambda batch, styles, dropped, generator: (seen.append((styles, dropped)), torch.zeros(()))[1]
    for step in range(400):
        stage.loss(batch, step_generator(0, step))
    drawn = torch.stack([styles for styles, _ in seen])
    torch.testing.assert_close(drawn.mean(0), batch.means, atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.std(0), torch.full_like(batch.means, 0.05), atol=0.01, rtol=0)  # 0.1 · 0.5
    assert float(torch.stack([dropped for _, dropped in seen]).float().mean()) == pytest.approx(0.3, abs=0.05)


def test_a_deterministic_attention_is_trained_and_used_with_means(videos, tmp_path):
    """What SVP's Fig. 4 sets against sampling."""
    stage, seen = toy_stage(new_unet(), videos, toy_config(tmp_path, deterministic=True)), []
    batch = stage.batch(1, 0)
    stage.error = lambda batch, styles, dropped, generator: (seen.append(styles), torch.zeros(()))[1]
    stage.loss(batch, step_generator(0, 1))
    assert torch.equal(seen[0], batch.means)
    path = stage.export(dict(stage.trainable()), tmp_path / "a.safetensors", {})
    net, style = load_style_attention(path), toy_priors(1)[0]
    assert net.deterministic and torch.equal(net.drawn(style, 3, 25)[0], style.mean.expand(3, -1))
    again = load_style_attention(save_style_attention(net, tmp_path / "b.safetensors"))
    blend = BlendedStyle(*toy_priors(2), ((0.0, 0.0), (1.0, 1.0)))
    assert torch.equal(again.drawn(blend, 1, 25)[0][0], style.mean)
    net.deterministic = False
    assert torch.equal(net.drawn(style, 1, 25)[0][0], style.sample()) and not torch.equal(style.sample(), style.mean)


def test_dropped_clips_see_neither_style_nor_text_nor_face(videos, tmp_path):
    class Texts(FixedTexts):
        def tokens(self, captions):
            said.append(list(captions))
            return super().tokens(captions)

    class Faces(torch.nn.Module):
        def forward(self, given):
            faces.append(given.face_embeds)
            return torch.zeros(len(given.face_embeds), 4, 48)

    said, faces = [], []
    named = [dataclasses.replace(clip, caption="a man") for clip in videos.data.videos]
    data = StyledVideos(VideoData(named, 1), videos.priors, lambda _: torch.ones(512))
    adapter = new_adapter(dict.fromkeys(map(str, range(1, 33, 2)), 32), 48)
    adapter.projection = Faces()
    stage = toy_stage(new_unet(), data, toy_config(tmp_path), Conditioners(identity=adapter))
    stage.frozen = dataclasses.replace(stage.frozen, texts=Texts())
    batch = stage.batch(1, 0)
    with stage:
        stage.error(batch, batch.means, torch.tensor([True, False]), step_generator(0, 1))
    assert said[-1] == ["", "a man"]
    assert faces[-1].sum(1).tolist() == [0.0, 512.0]
    assert stage._run.styles.strengths.tolist() == [0.0, 1.0]


@pytest.mark.slow
def test_company_acts_and_stays_as_it_was(tmp_path):
    clips = [puppet_clip(seed, 8) for seed in range(2)]
    unet = new_unet()
    controlnet = diffusers.ControlNetModel.from_unet(unet).eval()
    adapter = new_adapter(dict.fromkeys(map(str, range(1, 33, 2)), 32), 48)
    torch.manual_seed(1)
    for name, weight in controlnet.named_parameters():
        if name.startswith("controlnet_"):
            torch.nn.init.normal_(weight, std=0.1)
    motion_modules = new_motion_modules(WIDTHS)
    company = Conditioners(controlnet, new_animate_net(controlnet, 0), motion_modules, adapter)
    config = toy_config(tmp_path, motion=tmp_path)
    videos = StyledVideos(VideoData(clips, 4), toy_priors(2), lambda picture: picture.mean(0).flatten()[:512] + 1)
    stage = toy_stage(unet, videos, config, company)
    networks = {"unet": unet, **company.networks()}
    before = {(n, key): t.clone() for n, net in networks.items() for key, t in net.state_dict().items()}
    start = {key: t.detach().clone() for key, t in stage.trainable().items()}
    with stage:
        loss = float(stage.loss(stage.batch(1, 0), step_generator(0, 1))[0].detach())
        train_stage(stage, QUICK, tmp_path)
    alone = toy_stage(unet, videos, config, Conditioners(motion=motion_modules))
    with alone:
        assert float(alone.loss(alone.batch(1, 0), step_generator(0, 1))[0].detach()) != pytest.approx(loss, rel=1e-3)
    after = {(n, key): t for n, net in networks.items() for key, t in net.state_dict().items()}
    assert all(torch.equal(after[key], old) for key, old in before.items())
    assert any(not torch.equal(t, start[key]) for key, t in stage.trainable().items())


def test_reference_is_another_time_or_another_video_of_the_person():
    track = track_of(motion(100, 0))
    names = ("anna/1", "anna/2", "bruno/1", "alone")
    data = VideoData([VideoClip(name, lambda _: torch.zeros(3, 8, 8), track) for name in names], 4)
    videos, rng = StyledVideos(data, toy_priors(4), other_video=0.5), np.random.default_rng(0)
    found = [videos.reference(0, 40, rng) for _ in range(400)]
    assert {video for video, _ in found} == {0, 1}
    assert np.mean([video for video, _ in found]) == pytest.approx(0.5, abs=0.07)
    assert all(frame <= 10 or frame >= 73 for video, frame in found if video == 0)  # the clip is 40 … 43
    assert {videos.reference(n, 40, rng)[0] for n in (2, 3) for _ in range(20)} == {2, 3}
    short = StyledVideos(VideoData([VideoClip("a", data.videos[0].read, track_of(motion(8, 0)))], 4), toy_priors(1))
    assert short.reference(0, 1, rng) == (0, 7)  # as far away as it goes


def test_in_spreads_is_the_same_attention_told_otherwise(videos, tmp_path):
    net = starting_attention(new_unet(), videos, toy_config(tmp_path))
    centre, scale = torch.linspace(-1, 12, STYLE_WIDTH), torch.logspace(-2, 1, STYLE_WIDTH)
    styles = centre + scale * torch.randn(5, STYLE_WIDTH, generator=torch.Generator().manual_seed(1))
    spreads = standardised(net, centre, scale)
    torch.testing.assert_close(spreads.tokens((styles - centre) / scale), net.tokens(styles), atol=1e-4, rtol=1e-4)
    back = standardised(spreads, -centre / scale, 1 / scale)
    torch.testing.assert_close(back.style_proj.proj.weight, net.style_proj.proj.weight)


def test_stopped_training_goes_on_as_if_it_had_not(videos, tmp_path):
    weights = []
    for folder, stops in (("a", (2,)), ("b", (1, 2))):
        for stop in stops:
            stage = toy_stage(new_unet(), videos, toy_config(tmp_path))
            with stage:
                train_stage(stage, dataclasses.replace(QUICK, steps=stop), tmp_path / folder)
        weights.append(stage.trainable())
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["manner", "extractor"])
def test_training_goes_from_a_folder_to_a_file(tmp_path, kind, capsys):
    data, space, lines = write_prepared(tmp_path / "data", ("anna/1.mp4", "bruno/1.mp4")), STATISTICS_SPACE, ""
    make_checkpoint(tmp_path / "sd15.safetensors")
    if kind == "extractor":
        torch.manual_seed(0)
        sizes = ExtractorSizes(width=32, num_layers=1, num_heads=4, feed_forward=64)
        path = save_extractor(StyleExtractor(new_extractor_net(sizes), torch.ones(32)), tmp_path / "e.safetensors")
        space, lines = load_extractor(path).space, 'extractor = "e.safetensors"\n'
    file = tmp_path / "style.toml"
    file.write_text(
        'stage = "attention"\ncheckpoint = "sd15.safetensors"\ndata = "data"\nout = "out"\nresolution = 64\n' + lines +
        "[trainer]\nsteps = 1\nbatch_size = 1\ngradient_accumulation = 1\nlearning_rate = 0.01\n"
    )  # fmt: skip
    assert main(["train", "style", "--config", str(file)]) == 0
    made = load_style_attention(tmp_path / "out" / "style_attention.safetensors")
    assert made.space == space and made.style_proj.proj.in_features == (11 if kind == "manner" else 32)
    assert space in capsys.readouterr().out
    assert any(made.site("1").to_out.weight.flatten())
    assert sorted(path.name for path in data.iterdir()) == ["anna", "bruno"]


def test_catalogue_knows_the_file(tmp_path):
    widths = {site.adapter_key: site.width for site in SITES}
    path = save_style_attention(
        new_style_attention(StyleSizes(widths, STATISTICS_SPACE, 11)), tmp_path / "s.safetensors"
    )
    assert round(path.stat().st_size / 1e6) == 176  # as the catalogue says
    assert recognise(path).role.startswith("style attention")


def test_unfit_data_is_refused(videos, tmp_path):
    with pytest.raises(InputError, match="clips of 1 frames"):
        toy_stage(new_unet(), videos, toy_config(tmp_path, motion=tmp_path))
    with pytest.raises(InputError, match="as many styles"):
        StyledVideos(videos.data, toy_priors(3))
    other = dataclasses.replace(videos.priors[1], space="extractor:other")
    with pytest.raises(InputError, match="2 spaces"):
        StyledVideos(videos.data, [videos.priors[0], other])
    net = starting_attention(new_unet(), videos, toy_config(tmp_path))
    net.space = STATISTICS_SPACE
    with pytest.raises(InputError, match="trained on manner"):
        StyleAttentionStage(FrozenParts(new_unet(), PatchCodec(), FixedTexts()), net, videos, toy_config(tmp_path))
    with pytest.raises(InputError, match="portrait"):
        adapter = new_adapter(dict.fromkeys(map(str, range(1, 33, 2)), 32), 48)
        adapter.layout = "plus"
        toy_stage(new_unet(), videos, toy_config(tmp_path), Conditioners(identity=adapter))


def test_config_is_read_by_its_stage_and_refused(tmp_path):
    file, head = tmp_path / "style.toml", 'stage = "attention"\ncheckpoint = "a"\ndata = "b"\nout = "c"\n'
    file.write_text(head + "noise = 0.2\n[trainer]\nsteps = 5\n")
    config = load_style_config(file)
    assert isinstance(config, StyleAttentionTraining) and config.data == tmp_path / "b"
    assert (config.noise, config.trainer.steps, config.trainer.learning_rate, config.clip_frames) == (0.2, 5, 1e-5, 1)
    wrong = {"noise = 3": "noise", "drop = 1": "drop", 'animate_net = "x"': "belong together", "colour = 1": "unknown"}
    for line, told in {**wrong, 'identity = "x"': "face_models", "resolution = 100": "multiple of 64"}.items():
        file.write_text(f"{head}{line}\n")
        with pytest.raises(InputError, match=told):
            load_style_config(file)
    file.write_text('out = "c"\n')
    assert isinstance(load_style_config(file), StyleTraining)
    file.write_text('stage = "both"\nout = "c"\n')
    with pytest.raises(InputError, match="attention"):
        load_style_config(file)
