"""SVP's first two fine-tuning stages on toys: begun from SD1.5, handed on as files, painted with, styled."""

import dataclasses
import itertools

import pytest
import torch
from sd15_files import make_checkpoint
from tiny_vexpress import randomise, write_wav2vec
from toy_faces import PatchCodec
from toy_puppet import motion, track_of, write_prepared
from toy_styles import QUICK, halves, toy_priors

from portraittalk_core.cli.main import main
from portraittalk_core.diffusion.schedule import IMAGES, schedule_sigmas
from portraittalk_core.errors import InputError
from portraittalk_core.layers.attention import POSITIVE
from portraittalk_core.renderers.vexpress.audio_projection import features_around
from portraittalk_core.renderers.vexpress.denoiser import NoiseDenoiser
from portraittalk_core.renderers.vexpress.head_keypoints import EIGHT, draw_eight
from portraittalk_core.renderers.vexpress.latent_codec import decoded
from portraittalk_core.renderers.vexpress.load import AUDIO, MOTION, load_vexpress
from portraittalk_core.renderers.vexpress.options import VExpressOptions
from portraittalk_core.renderers.vexpress.pipeline import VExpressModels, paint_vexpress, sampling_of
from portraittalk_core.renderers.vexpress.reference import read_bank, write_bank
from portraittalk_core.speech.encoders import GivenFeatures, SpeechFeatures, load_speech_encoder
from portraittalk_core.training.data.video_clips import VideoClip, VideoData
from portraittalk_core.training.loop.trainer import step_generator, train_stage
from portraittalk_core.training.style.attention_data import StyledVideos
from portraittalk_core.training.style.attention_stage import starting_attention
from portraittalk_core.training.style.config import StyleAttentionTraining, load_style_config
from portraittalk_core.training.style.diffusion_config import DiffusionTrainer, DiffusionTraining
from portraittalk_core.training.style.diffusion_networks import networks_of_sd15, starting_networks
from portraittalk_core.training.style.diffusion_stage import DiffusionStage
from portraittalk_core.training.style.speech_features import FeatureKeeper, keep_features
from portraittalk_core.training.style.vexpress import VExpressParts, VExpressStyleStage
from portraittalk_core.types import Portrait, Speech
from portraittalk_core.weights.load import read_tensors

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]  # together they take some seconds

SIDE, FRAMES, CONTEXT = 64, 2, 64
TRAINER = DiffusionTrainer(
    steps=2, batch_size=2, gradient_accumulation=1, learning_rate=1e-3, ema_decay=0.5, save_every=1, sample_every=0
)


class Sounds:
    """Every frame of every video is heard otherwise."""

    def __call__(self, video, start, stop):
        draw = torch.Generator().manual_seed(100 * video + start)
        return torch.randn(stop - start, 10, 32, generator=draw)

    def fingerprint(self):
        return "made up"


def videos(frames: int) -> VideoData:
    clips = [VideoClip(str(n), lambda k, n=n: halves(n, k), track_of(motion(40, n), 128)) for n in (0, 1)]
    return VideoData(clips, frames)


def config(out, stage="single", **changes) -> DiffusionTraining:
    given = {"resolution": SIDE, "trainer": TRAINER, "frames": FRAMES, "sample_steps": 1}
    more = {"start": (out,), "speech_encoder": out} if stage == "multi" else {}
    return DiffusionTraining(out, out, out, stage, **{**given, **more, **changes})


def base_unet():
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 32, 64, 64), cross_attention_dim=CONTEXT, attention_head_dim=8
    ).eval()


def single(out, **changes) -> DiffusionStage:
    return DiffusionStage(networks_of_sd15(base_unet(), 8), PatchCodec(), videos(1), config(out, **changes))


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict:
    """Both stages, one after the other, each stopped once on the way; the first one's files and networks before it."""
    out, kept = tmp_path_factory.mktemp("svp"), {}
    for name, stops in (("once", (2,)), ("twice", (1, 2))):
        for stop in stops:
            stage = single(out)
            before = {n: w.detach().clone() for n, w in _weights(stage.networks).items()}
            with stage:
                made = train_stage(stage, dataclasses.replace(TRAINER, steps=stop), out / name)
                if name == "twice" and stop == 2:
                    kept |= {"samples": stage.sample_images(lambda: None), "single": (before, stage)}
                    kept["last"] = {n: w.detach().clone() for n, w in stage.trainable().items()}
                    kept["files"] = stage.export(made.averages, out / "single", {})
        kept[name] = {n: w.clone() for n, w in made.averages.items()}
    kept["out"] = out
    return kept


def _weights(networks) -> dict:
    parts = {name: getattr(networks, name) for name in ("unet", "reference", "guider", "motion", "projection")}
    return {f"{n}.{k}": t for n, net in parts.items() if net is not None for k, t in net.named_parameters()}


def test_the_unet_begins_as_sd15s():
    base = base_unet()
    networks = networks_of_sd15(base, 8)
    for block in [b for name, b in base.named_modules() if name.endswith("transformer_blocks.0")]:
        torch.nn.init.zeros_(block.attn2.to_out[0].weight)
        torch.nn.init.zeros_(block.attn2.to_out[0].bias)
    draw = torch.Generator().manual_seed(1)
    noisy, text = torch.randn(2, 4, 8, 8, generator=draw), torch.randn(2, 3, CONTEXT, generator=draw)
    read_bank(networks.unet, write_bank(networks.reference, torch.randn(1, 4, 8, 8, generator=draw)))
    networks.reading.labels = (POSITIVE,)
    with torch.no_grad():
        made, expected = (net(noisy, 500, text).sample for net in (networks.unet, base))
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    state = networks.unet.state_dict()
    first = "down_blocks.0.attentions.0.transformer_blocks.0"
    assert torch.equal(state[f"{first}.attn1_5.to_k.weight"], base.state_dict()[f"{first}.attn1.to_k.weight"])


def test_the_loss_of_single_frames_is_the_weighted_noise_error_by_hand(tmp_path):
    stage = single(tmp_path, drop=0.0)
    randomise(stage.networks.guider, 4)
    for name, weight in stage.networks.unet.named_parameters():
        if "attn1_5.to_out" in name:
            weight.data.normal_(generator=torch.Generator().manual_seed(2), std=0.2)
    batch = stage.batch(1, 0)
    with stage:
        loss, _ = stage.loss(batch, step_generator(0, 5))
    draw, codec, networks = step_generator(0, 5), PatchCodec(), stage.networks
    torch.rand(2, generator=draw)
    levels = torch.randint(1000, (2,), generator=draw)
    noise = torch.randn(2, 4, 8, 8, generator=draw)
    kept = (1 / (1 + schedule_sigmas(IMAGES) ** 2)).float()[levels]
    errors = []
    for clip in range(2):
        clean = codec.encode(batch.clips.frames[clip])
        noisy = kept[clip].sqrt() * clean + (1 - kept[clip]).sqrt() * noise[clip]
        points = batch.clips.tracks[clip].points_px[:, list(EIGHT), :2] / 2
        drawing = torch.stack(list(draw_eight(points, SIDE, SIDE))).permute(0, 3, 1, 2).float() / 255
        read_bank(networks.unet, write_bank(networks.reference, codec.encode(batch.references[clip][None])))
        networks.reading.audio_weight, networks.reading.labels = 0.0, (POSITIVE,)
        with torch.no_grad():
            networks.reading.kps = networks.guider(drawing)
            made = networks.unet(noisy, levels[clip], torch.zeros(1, 1, CONTEXT)).sample
        snr = kept[clip] / (1 - kept[clip])
        errors.append(torch.clamp(5 / snr, max=1) * (made - noise[clip]).square().mean())
    assert float(loss.detach()) == pytest.approx(float(sum(errors) / 2), rel=1e-4)
    reference = [k for k in range(40) if torch.equal(halves(batch.clips.videos[0], k), batch.references[0])]
    distance = abs(reference[0] - batch.clips.starts[0])
    assert distance >= min(30, max(batch.clips.starts[0], 39 - batch.clips.starts[0]))


def test_dropped_clips_see_nothing_but_their_noise(tmp_path):
    stage = single(tmp_path)
    randomise(stage.networks.guider, 4)
    randomise(stage.networks.unet, 5)
    batch = stage.batch(1, 0)
    other = dataclasses.replace(batch, references=-batch.references)
    noisy, levels = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([300, 300])
    with stage, torch.no_grad():
        one, two = (stage.predicted(b, noisy, levels, torch.tensor([True, False])) for b in (batch, other))
    assert torch.equal(one[1], two[1]) and not torch.allclose(one[0], two[0], atol=1e-3)


def test_single_frames_train_what_svp_names_and_resume_bit_for_bit(trained):
    assert trained["once"].keys() == trained["twice"].keys()
    assert all(torch.equal(weight, trained["twice"][name]) for name, weight in trained["once"].items())
    before, stage = trained["single"]
    moved = {name for name, weight in trained["last"].items() if not torch.equal(weight, before[name])}
    for name in before:
        frozen = ".attn2." in name and name.startswith("unet") or name.startswith("reference.up_blocks.3.")
        assert (name not in trained["last"]) == (frozen or name.startswith("unet") and ".norm2." in name), name
    first = "unet.down_blocks.0.attentions.0.transformer_blocks.0"
    for part in ("unet.conv_in", f"{first}.attn1_5.to_out", "guider.conv_out", "guider.conv_in", "reference.conv_in"):
        assert any(name.startswith(part) for name in moved), part
    assert len(trained["samples"]) == 4 and trained["samples"][0].shape == (SIDE, 4 * SIDE, 3)
    assert set(trained["files"]) == {"denoising UNet", "reference net", "guider"}


@pytest.fixture(scope="module")
def heard(trained) -> dict:
    """The second stage, begun from the first one's files."""
    out = trained["out"]
    settings = config(out / "multi", "multi", start=(out / "single",))
    networks = starting_networks(settings, None, 32)
    stage = DiffusionStage(networks, PatchCodec(), videos(FRAMES), settings, Sounds())
    before = {name: weight.detach().clone() for name, weight in _weights(networks).items()}
    with stage:
        made = train_stage(stage, TRAINER, out / "multi")
        samples = stage.sample_images(lambda: None)
        stage.export(made.averages, out / "multi", {})
    return {"before": before, "stage": stage, "samples": samples, "folder": out / "multi"}


def test_consecutive_frames_train_motion_and_sound_alone(heard, trained):
    before, stage = heard["before"], heard["stage"]
    written = read_tensors(trained["out"] / "single" / "denoising_unet.safetensors")
    assert torch.equal(before["unet.conv_in.weight"], written["conv_in.weight"])  # it goes on from the files
    after = _weights(stage.networks)
    for name, weight in after.items():
        hears = name.startswith("unet") and (".attn2." in name or ".norm2." in name)
        learns = hears or name.startswith(("motion", "projection"))
        assert (name in stage.trainable()) == learns, name
        if not learns:
            assert torch.equal(weight, before[name]), name
    for part in (
        "motion.down_blocks.0",
        "projection.latents",
        "unet.mid_block.attentions.0.transformer_blocks.0.attn2",
    ):
        assert any(n.startswith(part) and not torch.equal(w, before[n]) for n, w in after.items()), part
    assert heard["samples"][0].shape == (SIDE, 7 * SIDE, 3)  # a reference; points, sample and truth of two frames


def test_the_files_paint_by_eulers_method_with_eight_points(heard, tmp_path):
    networks = load_vexpress([heard["folder"]])
    assert networks.guider_points == 8 and networks.prediction == "noise"
    sampling = sampling_of(networks, VExpressOptions())
    assert (sampling.sampler, sampling.steps, sampling.betas) == ("euler", 25, IMAGES)
    draw = torch.Generator().manual_seed(2)
    picture = torch.randint(0, 256, (96, 96, 3), generator=draw, dtype=torch.uint8)
    portrait, features = Portrait(picture, track_of(motion(1, 0), 96)), torch.randn(7, 32, generator=draw)
    models = VExpressModels(networks, _Codec(), GivenFeatures(SpeechFeatures(features, name="wav2vec2-base")))
    options = VExpressOptions(width=64, height=64, steps=1, length=4, overlap=2, guidance=1, strategy="no_retarget")
    speech, track = Speech(0.1 * torch.randn(4 * 640, generator=draw)), track_of(motion(4, 0), 96)
    frames = torch.stack(list(paint_vexpress(portrait, track, speech, models, options))).int()
    assert frames.shape == (4, 64, 64, 3) and frames.float().std() > 1
    randomise(networks.guider, 3)
    painted = {}
    for name, point in {"as it is": EIGHT[0], "chin": 152, "edge": EIGHT[0]}.items():
        points = track.points.clone()
        points[:, point, 0] -= 0.0 if name == "as it is" else 0.2
        moved = dataclasses.replace(track, points=points)
        painted[name] = torch.stack(list(paint_vexpress(portrait, moved, speech, models, options))).int()
    assert torch.equal(painted["chin"], painted["as it is"])  # which the guider must not see
    assert not torch.equal(painted["edge"], painted["as it is"])  # which V-Express's three points do not know


class _Codec:
    """A codec of the renderer's kind, by patches."""

    def encode(self, picture):
        return PatchCodec().encode(picture.permute(2, 0, 1)[None].float() / 127.5 - 1)

    def decode(self, latents):
        return PatchCodec().decode(latents)[0].permute(1, 2, 0) / 2 + 0.5


def test_noise_is_taken_off(heard):
    draw = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=draw)
    denoiser = NoiseDenoiser(load_vexpress([heard["folder"]]), None)
    torch.testing.assert_close(denoiser.clean(clean + 3 * noise, noise, 3.0), clean)
    assert denoiser.timestep(float(schedule_sigmas(IMAGES)[700])) == pytest.approx(700)
    assert decoded(_Codec(), clean).dtype == torch.uint8


def test_the_last_stage_takes_them_with_noise_and_eight_points(heard, tmp_path):
    class Tokens:
        def __call__(self, video, start, stop):
            return torch.zeros(stop - start, 5, CONTEXT)

        def fingerprint(self):
            return "nothing"

    networks, data = load_vexpress([heard["folder"]]), StyledVideos(videos(FRAMES), toy_priors(2))
    settings = StyleAttentionTraining(
        tmp_path, tmp_path, tmp_path, resolution=SIDE, trainer=QUICK, frames=FRAMES, vexpress=(tmp_path,),
        speech_encoder=tmp_path,
    )  # fmt: skip
    net = starting_attention(networks.unet, data, settings)
    stage = VExpressStyleStage(VExpressParts(networks, PatchCodec(), Tokens()), net, data, settings)
    clean, noise = torch.randn(2, 1, 4, 8, 8)
    assert torch.equal(stage.target(clean, noise, torch.tensor(0.3)), noise)
    assert float(stage.weights(torch.tensor([0.9]))) == pytest.approx(5 / 9)
    with stage, torch.no_grad():
        loss, _ = stage.loss(stage.batch(1, 0), step_generator(0, 1))
    assert torch.isfinite(loss)


def test_features_of_videos_are_kept_as_the_renderer_sees_them(tmp_path):
    waves = {"a": 0.1 * torch.randn(19_200, generator=torch.Generator().manual_seed(0))}
    folder = write_prepared(tmp_path / "clips", ("a", "mute"), waves)
    write_wav2vec(tmp_path / "wave.safetensors")
    encoder = load_speech_encoder(tmp_path / "wave.safetensors")
    clips = [VideoClip(n, lambda k: halves(0, k), track_of(motion(30, 0), 128)) for n in ("a", "mute")]
    data, features, dropped = keep_features(folder, VideoData(clips, 2), FeatureKeeper(encoder, tmp_path / "kept"))
    assert [video.name for video in data.videos] == ["a"] and dropped[0][0] == "mute"
    whole = features_around(encoder.encode(Speech(waves["a"])).values, 30)
    for start, stop in itertools.pairwise((0, 2, 29, 30)):
        torch.testing.assert_close(features(0, start, stop), whole[start:stop])


def test_a_command_trains_from_a_folder_to_files(tmp_path, capsys):
    folder = write_prepared(tmp_path / "clips", ("a.mp4", "b.mp4"))
    make_checkpoint(tmp_path / "sd15.safetensors", text=False)
    path = tmp_path / "single.toml"
    path.write_text(
        'stage = "single"\ncheckpoint = "sd15.safetensors"\ndata = "clips"\nout = "made"\nresolution = 64\n'
        "[trainer]\nsteps = 1\nbatch_size = 1\ngradient_accumulation = 1\nsample_every = 0\n"
    )
    assert main(["train", "style", "--config", str(path)]) == 0
    assert "The networks, after 1 steps" in capsys.readouterr().out and folder.is_dir()
    networks = load_vexpress([tmp_path / "made"], optional=(MOTION, AUDIO))
    assert networks.motion is None and networks.projection is None and networks.guider_points == 8
    with pytest.raises(InputError, match="motion modules, audio projection is missing"):
        load_vexpress([tmp_path / "made"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('stage = "single"\nguider_points = 5', "guider_points must be 3 or 8, not 5"),
        ('stage = "single"\nspeech_encoder = "x"', "speech_encoder is for the stage 'multi'"),
        ('stage = "multi"', "needs start, the folder that the stage 'single' has written"),
        ('stage = "multi"\nstart = "x"', "needs speech_encoder"),
        ('stage = "single"\nresolution = 100', "resolution must be a multiple of 64"),
        ('stage = "third"', "stage must be one of"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(tmp_path, lines, message):
    path = tmp_path / "style.toml"
    needed = 'checkpoint = "a"\ndata = "b"\n' if "third" not in lines else ""
    path.write_text(f'{lines}\nout = "c"\n{needed}')
    with pytest.raises(InputError, match=message):
        load_style_config(path)
