"""Style attention is trained on V-Express: tiny networks with random weights, drawn patterns, made-up sounds."""

import dataclasses
import itertools
import json

import pytest
import torch
from sd15_files import make_checkpoint
from tiny_vexpress import tiny_vexpress
from toy_faces import PatchCodec
from toy_puppet import motion, track_of
from toy_styles import MEANS, QUICK, STYLE_WIDTH, halves, toy_priors

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.diffusion.motion_modules import bind_motion
from portraittalk_core.diffusion.schedule import ZERO_SNR, schedule_betas
from portraittalk_core.errors import InputError
from portraittalk_core.layers.attention import NEGATIVE, POSITIVE
from portraittalk_core.renderers.vexpress.head_keypoints import THREE, draw_three
from portraittalk_core.renderers.vexpress.latent_codec import DiffusersLatentCodec
from portraittalk_core.renderers.vexpress.pipeline import VExpressModels, VExpressOptions, paint_vexpress
from portraittalk_core.renderers.vexpress.reference import read_bank, write_bank
from portraittalk_core.speech.encoders import GivenFeatures, SpeechFeatures
from portraittalk_core.style.attention import FrameStyles, StyleConditioning
from portraittalk_core.style.projection import load_style_attention
from portraittalk_core.training.data.video_clips import VideoClip, VideoData
from portraittalk_core.training.loop.trainer import step_generator, train_stage
from portraittalk_core.training.style.attention_data import StyledVideos
from portraittalk_core.training.style.attention_stage import starting_attention
from portraittalk_core.training.style.config import StyleAttentionTraining
from portraittalk_core.training.style.vexpress import VExpressParts, VExpressStyleStage, drawn_heads
from portraittalk_core.types import Portrait, Speech
from portraittalk_core.weights.load import read_metadata

pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]  # together they take ten seconds and more

FRAMES, SIDE = 2, 64


class Sounds:
    """Every frame of every video is heard otherwise."""

    def __call__(self, video, start, stop):
        def one(frame):
            return torch.randn(5, 64, generator=torch.Generator().manual_seed(1000 * video + frame))

        return torch.stack([one(frame) for frame in range(start, stop)])

    def fingerprint(self):
        return "made up"


@pytest.fixture(scope="module")
def videos() -> StyledVideos:
    """Two people's videos, each of a style and a pattern of its own."""
    clips = [VideoClip(str(n), lambda k, n=n: halves(n, k), track_of(motion(70, n), 128)) for n in (0, 1)]
    return StyledVideos(VideoData(clips, FRAMES), toy_priors(2))


def toy_config(out, **changes) -> StyleAttentionTraining:
    given = {"resolution": SIDE, "trainer": QUICK, "frames": FRAMES, "vexpress": (out,), "speech_encoder": out}
    return StyleAttentionTraining(out, out, out, **{**given, **changes})


def toy_stage(networks, videos, config) -> VExpressStyleStage:
    parts = VExpressParts(networks, PatchCodec(), Sounds())
    return VExpressStyleStage(parts, starting_attention(networks.unet, videos, config), videos, config)


def alpha_bars() -> torch.Tensor:
    return torch.cumprod(1 - schedule_betas(ZERO_SNR), 0).float()


def heads_of(track) -> torch.Tensor:
    """The drawing of a track on 128 pixels, at half its size."""
    return torch.stack(list(draw_three(track.points_px[:, list(THREE), :2] / 2, SIDE, SIDE)))


def told_by_hand(networks, batch, clip, noisy, level, dropped) -> torch.Tensor:
    """The UNet's answer without any style, each clip by itself."""
    reading, start = networks.reading, batch.clips.starts[clip]
    audio = Sounds()(batch.clips.videos[clip], start, start + FRAMES)
    read_bank(networks.unet, write_bank(networks.reference, PatchCodec().encode(batch.references[clip][None])))
    reading.labels = (NEGATIVE if dropped else POSITIVE,)
    heads = heads_of(batch.clips.tracks[clip]).permute(0, 3, 1, 2) / 255
    reading.kps = torch.zeros(1) if dropped else networks.guider(heads)
    try:
        with torch.no_grad(), bind_motion(networks.unet, networks.motion, FRAMES):
            return networks.unet(noisy, torch.tensor(level), audio * (not dropped)).sample
    finally:
        reading.labels, reading.kps = (POSITIVE,), None
        read_bank(networks.unet, None)


@pytest.mark.parametrize("limit", [5.0, 0.0])
def test_untrained_loss_is_the_weighted_error_of_the_velocity_by_hand(videos, tmp_path, limit):
    networks = tiny_vexpress()
    stage = toy_stage(networks, videos, toy_config(tmp_path, snr_limit=limit, drop=0.5))
    batch = stage.batch(1, 0)
    with stage:
        loss, told = stage.loss(batch, step_generator(0, 5))
    draw = step_generator(0, 5)
    dropped = (torch.rand(2, generator=draw) < 0.5).tolist()
    assert sorted(dropped) == [False, True]  # both kinds of clip are in the batch
    torch.randn(2, STYLE_WIDTH, generator=draw)  # of the styles
    levels = torch.randint(1000, (2,), generator=draw).tolist()
    noise = torch.randn(2 * FRAMES, 4, 8, 8, generator=draw).split(FRAMES)
    errors = []
    for clip in (0, 1):
        kept = alpha_bars()[levels[clip]]
        clean = PatchCodec().encode(batch.clips.frames[clip])
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * noise[clip]
        velocity = kept.sqrt() * noise[clip] - (1 - kept).sqrt() * clean
        snr = kept / (1 - kept)
        weight = torch.minimum(snr, torch.tensor(limit)) / (snr + 1) if limit else 1
        made = told_by_hand(networks, batch, clip, noisy, levels[clip], dropped[clip])
        errors.append(weight * (made - velocity).square().mean())
    assert float(loss.detach()) == pytest.approx(float(sum(errors) / 2), rel=1e-4)
    assert told["dropped"] == 0.5


def test_weights_are_the_velocitys_and_nothing_counts_where_all_is_noise(videos, tmp_path):
    stage = toy_stage(tiny_vexpress(), videos, toy_config(tmp_path))
    snr = torch.tensor([100.0, 5.0, 1.0, 0.2])
    found = stage.weights(snr / (snr + 1))
    torch.testing.assert_close(found, torch.tensor([5 / 101, 5 / 6, 1 / 2, 0.2 / 1.2]))
    assert float(stage.weights(alpha_bars()[-1:])) < 1e-6


def test_every_clip_is_shown_its_own_and_dropped_ones_nothing(videos, tmp_path):
    networks, seen, referred = tiny_vexpress(), [], []
    stage = toy_stage(networks, videos, toy_config(tmp_path))
    batch = stage.data.batch(0, 3, 0, SIDE, references=True)
    networks.reference.register_forward_pre_hook(lambda _, given: referred.append(given[0]))

    def keep(_unet, given):
        kps = networks.reading.kps
        style = stage._run.styles
        seen.append((networks.reading.labels, kps, given[2], style.styles, float(style.strengths), given[1]))

    networks.unet.register_forward_pre_hook(keep)
    with stage:
        assert (networks.reading.reference_weight, networks.reading.audio_weight) == (1, 1)
        stage.error(batch, MEANS[list(batch.clips.videos)], torch.tensor([False, True, False]), step_generator(0, 1))
    assert networks.reading.kps is None and networks.reading.labels == (POSITIVE,)
    assert [one[0] for one in seen] == [(POSITIVE,), (NEGATIVE,), (POSITIVE,)]
    assert [one[4] for one in seen] == [1.0, 0.0, 1.0]
    assert seen[1][1] is None and not seen[1][2].any()
    codec, centre, scale = PatchCodec(), stage.data.centre, stage.data.scale
    for clip, latents in zip((0, 2), referred, strict=True):  # the dropped clip's is not even looked at
        video, start = batch.clips.videos[clip], batch.clips.starts[clip]
        torch.testing.assert_close(latents, codec.encode(batch.references[clip][None]))
        heads = heads_of(batch.clips.tracks[clip]).permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(seen[clip][1], networks.guider(heads))
        assert torch.equal(seen[clip][2], Sounds()(video, start, start + FRAMES))
        torch.testing.assert_close(seen[clip][3][0] * scale + centre, MEANS[video])
        assert seen[clip][5].unique().numel() == 1 and len(seen[clip][5]) == FRAMES  # one noise level
        reference = [k for k in range(70) if torch.equal(halves(video, k), batch.references[clip])]
        assert len(reference) == 1 and (reference[0] <= start - 30 or reference[0] >= start + FRAMES - 1 + 30)


def held_out_error(stage, swapped=False, dropped=False) -> float:
    """Of a batch that training does not see, in its clips' own styles or the other one's."""
    batch = stage.data.batch(0, 8, 99, SIDE, True)
    styles = MEANS[[1 - v if swapped else v for v in batch.clips.videos]]
    with torch.no_grad():
        return float(stage.error(batch, styles, torch.full((8,), dropped), step_generator(1, 0)))


def talking(networks, vae, style=None) -> torch.Tensor:
    """Frames of a face that speaks."""
    draw = torch.Generator().manual_seed(2)
    portrait = Portrait(
        torch.randint(0, 256, (96, 96, 3), generator=draw, dtype=torch.uint8), track_of(motion(1, 0), 96)
    )
    features = GivenFeatures(SpeechFeatures(torch.randn(7, 64, generator=draw), name="wav2vec2-base"))
    speech = Speech(0.1 * torch.randn(4 * 640, generator=draw))
    models = VExpressModels(networks, DiffusersLatentCodec(vae), features, style)
    options = VExpressOptions(width=64, height=64, steps=2, length=4, overlap=2)
    return torch.stack(list(paint_vexpress(portrait, None, speech, models, options))).int()


def test_right_style_beats_the_swapped_one_by_a_fifth(videos, tmp_path):
    """Acceptance, docs/design/styles.md 6: right beats swapped, strength 0 is as before, only style has moved."""
    out, trainer = tmp_path, dataclasses.replace(QUICK, steps=50, learning_rate=1e-2, ema_decay=0.9, save_every=999)
    networks = tiny_vexpress()
    vae = load_sd15(make_checkpoint(out / "tiny.safetensors", text=False)).vae
    every = {name: getattr(networks, name) for name in ("unet", "motion", "reference", "guider", "projection")}
    before = {(n, key): t.clone() for n, net in every.items() for key, t in net.state_dict().items()}
    plain = talking(networks, vae)
    stage = toy_stage(networks, videos, toy_config(out, trainer=trainer))
    with stage:
        dropped = held_out_error(stage, dropped=True)
        assert held_out_error(stage) == held_out_error(stage, swapped=True)  # adds nothing yet
        start = {name: weight.detach().clone() for name, weight in stage.trainable().items()}
        result = train_stage(stage, trainer, out)
        right, swapped = held_out_error(stage), held_out_error(stage, swapped=True)
        assert right <= 0.8 * swapped
        assert held_out_error(stage, dropped=True) == dropped  # who has no style sees no style
    path = stage.export(result.averages, out / "style_attention.safetensors", {})
    after = {(n, key): t for n, net in every.items() for key, t in net.state_dict().items()}
    assert after.keys() == before.keys() and all(torch.equal(after[key], old) for key, old in before.items())
    assert all(not torch.equal(weight, start[name]) for name, weight in stage.trainable().items())
    assert read_metadata(path)["trained_on"] == "V-Express" and read_metadata(path)["base"] == "SD1.5"
    net, one = load_style_attention(path), torch.ones(1)
    assert torch.equal(talking(networks, vae), plain)
    assert torch.equal(talking(networks, vae, StyleConditioning(net, FrameStyles(MEANS[:1], 0 * one))), plain)
    styled = [talking(networks, vae, StyleConditioning(net, FrameStyles(mean[None], one))) for mean in MEANS]
    assert all((made - other).abs().float().mean() > 0.5 for made, other in itertools.combinations([*styled, plain], 2))


def test_checkpointing_makes_the_same_gradients(videos, tmp_path):
    """Though the UNet is at the last clip when the first one's values are made again."""
    found = []
    for checkpointing in (False, True):
        networks = tiny_vexpress()
        stage = toy_stage(networks, videos, toy_config(tmp_path, gradient_checkpointing=checkpointing))
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in stage.trainable().values():
                weight.add_(0.1 * torch.randn(weight.shape))
        batch, block = stage.batch(1, 0), networks.unet.up_blocks[1].attentions[0].transformer_blocks[0]
        calls = []
        block.norm1.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        with stage:
            stage.error(batch, batch.means, torch.tensor([False, False]), step_generator(0, 1)).backward()
        assert len(calls) == (4 if checkpointing else 2)
        assert not any(getattr(module, "gradient_checkpointing", False) for module in networks.unet.modules())
        found.append({name: weight.grad for name, weight in stage.trainable().items()})
        others = (networks.unet, networks.motion, networks.reference, networks.guider, networks.projection)
        assert all(weight.grad is None for net in others for weight in net.parameters())
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-4, atol=1e-7)
        assert gradient.any(), name


def test_a_batch_of_dropped_clips_alone_moves_nothing(videos, tmp_path):
    stage = toy_stage(tiny_vexpress(), videos, toy_config(tmp_path))
    batch = stage.batch(1, 0)
    with stage:
        stage.error(batch, batch.means, torch.tensor([True, True]), step_generator(0, 1)).backward()
    assert not any(weight.grad.any() for weight in stage.trainable().values())


def test_stopped_training_goes_on_as_if_it_had_not(videos, tmp_path):
    weights = []
    for folder, stops in (("a", (2,)), ("b", (1, 2))):
        for stop in stops:
            stage = toy_stage(tiny_vexpress(), videos, toy_config(tmp_path))
            with stage:
                train_stage(stage, dataclasses.replace(QUICK, steps=stop), tmp_path / folder)
        weights.append(stage.trainable())
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_half_precision_comes_close(videos, tmp_path, checkpointing):
    losses = []
    for precision in ("no", "bf16"):
        trainer = dataclasses.replace(QUICK, steps=1, mixed_precision=precision)
        config = toy_config(tmp_path, trainer=trainer, gradient_checkpointing=checkpointing)
        stage = toy_stage(tiny_vexpress(), videos, config)
        with stage:
            made = train_stage(stage, trainer, tmp_path / precision)
        losses.append(json.loads(made.log.read_text())["loss"])
        assert all(weight.dtype == torch.float32 for weight in stage.trainable().values())
    assert stage.unet.dtype == torch.bfloat16
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[1] != losses[0]


def test_settings_name_the_base_and_what_is_heard(videos, tmp_path):
    stage = toy_stage(tiny_vexpress(), videos, toy_config(tmp_path))
    write = (tmp_path / "denoising_unet.bin").write_bytes
    write(b"123")
    settings = stage.settings()
    assert settings["trained_on"] == "V-Express" and settings["heard"] == "made up"
    assert settings["vexpress"] == ["denoising_unet.bin, 3 bytes"]
    assert not settings.keys() & {"motion", "controlnet", "drawing"}
    write(b"1234")
    assert stage.settings() != settings


def test_clips_longer_than_the_motion_modules_know_are_refused(tmp_path):
    clips = [VideoClip(str(n), lambda k, n=n: halves(n, k), track_of(motion(40, n))) for n in (0, 1)]
    data = StyledVideos(VideoData(clips, 33), toy_priors(2))
    with pytest.raises(InputError, match="33 frames.*at most 32"):
        toy_stage(tiny_vexpress(), data, toy_config(tmp_path, frames=33))


def test_heads_are_drawn_at_the_pictures_size():
    track = track_of(motion(3, 0), 128)
    assert torch.equal((drawn_heads(track, 64) * 255).round().byte(), heads_of(track).permute(0, 3, 1, 2))
    assert drawn_heads(track, 64).amax() == 1
