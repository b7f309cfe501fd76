import dataclasses
import json
import zlib
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from portraittalk_core.cli.main import main
from portraittalk_core.errors import InputError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.media.records import load_record, save_record
from portraittalk_core.style.expression_source import ExpressionSource
from portraittalk_core.style.extractor import load_extractor
from portraittalk_core.style.features import StyleFeatures, audio_features, coefficient_features
from portraittalk_core.training.data.expressions import measure_expressions
from portraittalk_core.training.data.video_clips import VideoClip, VideoData
from portraittalk_core.training.loop.config import Clock
from portraittalk_core.training.style.attention_data import read_priors
from portraittalk_core.training.style.config import StyleTrainer, StyleTraining, SyntheticStyles, load_style_config
from portraittalk_core.training.style.data import (
    PreparedStyles,
    StyleVideo,
    SyntheticStyleData,
    read_styles,
    style_batch,
)
from portraittalk_core.training.style.stage import ExtractorStage, present, starting_network, train_style
from portraittalk_core.types import LandmarkTrack, Speech

pytest.importorskip("accelerate")

EIGHT = SyntheticStyles(expression_styles=4, vocal_styles=2)


def config(out, steps=60, **changes):
    """A small network that learns 4 · 2 styles quickly."""
    trainer = StyleTrainer(steps=steps, batch_size=8, learning_rate=1e-3, ema_decay=0.9, seed=changes.pop("seed", 0))
    sizes = {"frames": 32, "width": 32, "num_layers": 1, "num_heads": 4, "feed_forward": 64, "synthetic": EIGHT}
    return StyleTraining(out, trainer=trainer, **{**sizes, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_style(config(tmp_path_factory.mktemp("style")))


def check_told_apart(result):
    """Acceptance, docs/design/styles.md 6; either side alone cannot tell more than half, or a quarter, of them."""
    both, audio, expression = (result.after[name] for name in ("both", "audio", "expression"))
    assert both.strength >= 5 * result.before["both"].strength
    assert both.accuracy >= 0.9
    assert audio.accuracy <= 0.6
    assert expression.accuracy <= 0.6
    assert both.accuracy >= max(audio.accuracy, expression.accuracy) + 0.3


def test_both_sides_tell_what_neither_tells_alone(trained):
    check_told_apart(trained)


@pytest.mark.slow
def test_both_sides_tell_what_neither_tells_alone_in_a_deeper_network(tmp_path):
    check_told_apart(train_style(config(tmp_path, 150, num_layers=3)))


def test_an_epoch_shows_every_style_once(tmp_path):
    few = config(tmp_path, synthetic=SyntheticStyles(expression_styles=2, vocal_styles=3))
    few = dataclasses.replace(few, trainer=dataclasses.replace(few.trainer, batch_size=2))
    stage = ExtractorStage(starting_network(few), SyntheticStyleData(few.synthetic, (80, 23)), few)
    steps = Clock.of(few.trainer, stage.num_samples()).epoch_steps
    labels = [set(stage.batch(step, 0).labels.tolist()) for step in range(1, steps + 1)]
    assert sorted(label for batch in labels for label in batch) == list(range(6))


def test_deviation_collapses_and_the_floor_keeps_it_alive(trained):
    before, after = trained.before["both"].deviation, trained.after["both"].deviation
    assert after < 0.3 * before
    lines = [json.loads(line) for line in trained.training.log.read_text().splitlines()]
    assert lines[-1]["deviation"] < 0.5 * lines[0]["deviation"]
    extractor = load_extractor(trained.extractor)
    audio, expression = SyntheticStyleData(EIGHT, (80, 23)).clip(3, 0, 100, 1)
    prior = extractor.prior(StyleFeatures(audio, "log-mel"), StyleFeatures(expression, "landmarks"))
    prior = dataclasses.replace(prior, std=torch.zeros(32), noise=0.4)  # fully collapsed
    draws = torch.stack([prior.sample(seed) for seed in range(3000)])
    assert torch.allclose(draws.std(0), 0.4 * extractor.spread, rtol=0.06)
    assert torch.allclose(draws.mean(0), prior.mean, atol=0.05 * float(extractor.spread.max()))


def test_spread_is_how_far_the_training_sets_means_lie_apart(trained):
    extractor, data = load_extractor(trained.extractor), SyntheticStyleData(EIGHT, (80, 23))
    clips = [data.clip(style, number, 32, 0) for style in range(8) for number in range(30)]
    with torch.no_grad():
        means = extractor.network(*(torch.stack(side) for side in zip(*clips, strict=True)))[0]
    assert torch.allclose(extractor.spread, means.std(0), rtol=0.25)


@pytest.mark.slow
def test_training_goes_on_where_it_was_stopped_and_starts_from_its_file(tmp_path, trained):
    once = train_style(config(tmp_path / "once", 4))

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    parts = config(tmp_path / "parts", 4)
    with pytest.raises(KeyboardInterrupt):
        train_style(dataclasses.replace(parts, trainer=dataclasses.replace(parts.trainer, save_every=1)), stop)
    twice = train_style(parts)
    assert twice.training.resumed_from in (1, 2)
    assert load_extractor(once.extractor).space == load_extractor(twice.extractor).space
    with pytest.raises(InputError, match="other settings|frames"):
        train_style(dataclasses.replace(parts, frames=16))
    begun = starting_network(config(tmp_path, start=trained.extractor))
    assert torch.equal(begun.pool.logits[0].weight, load_extractor(trained.extractor).network.pool.logits[0].weight)
    with pytest.raises(InputError, match="but the configuration asks for"):
        starting_network(config(tmp_path, start=trained.extractor, num_layers=2))


def test_styletalk_checkpoint_starts_the_expression_branch(tmp_path):
    kept = {
        f"style_encoder.{name.replace('expression.enter', 'increase_embed_dim').replace('expression', 'encoder')}": t
        for name, t in starting_network(StyleTraining(tmp_path, expression="3dmm")).state_dict().items()
        if name.startswith("expression.") and not name.endswith("missing")
    }
    kept["style_encoder.increase_embed_dim.bias"] = torch.full((256,), 3.0)
    torch.save({"model_state_dict": kept}, tmp_path / "talk.pth")
    begun = starting_network(StyleTraining(tmp_path, expression="3dmm", start=tmp_path / "talk.pth"))
    assert torch.equal(begun.expression.enter.bias, torch.full((256,), 3.0))


def test_sides_are_left_out_as_often_as_asked_and_never_both():
    shown = present(torch.rand(20_000, generator=torch.Generator().manual_seed(0)), 0.2, 0.3)
    assert shown.any(1).all()
    assert np.allclose(shown.float().mean(0), [0.8, 0.7], atol=0.01)


def test_loss_follows_its_generator_and_sees_what_is_left_out(tmp_path):
    stage = ExtractorStage(
        starting_network(config(tmp_path, dropout=0.0)), SyntheticStyleData(EIGHT, (80, 23)), config(tmp_path)
    )
    batch = stage.batch(1, 0)
    losses = [float(stage.loss(batch, torch.Generator().manual_seed(seed))[0].detach()) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    fixed = dataclasses.replace(stage.config, deterministic=True, drop_audio=0.0, drop_expression=0.0)
    stage = ExtractorStage(stage.network, stage.data, fixed)  # dropout is 0: nothing is drawn but samples
    one, other = (float(stage.loss(batch, torch.Generator().manual_seed(seed))[0].detach()) for seed in (1, 2))
    assert one == other and stage.settings()["deterministic"]
    deaf = dataclasses.replace(stage.config, drop_audio=1.0, drop_expression=0.0)
    stage = ExtractorStage(stage.network, stage.data, deaf)
    louder = dataclasses.replace(batch, audio=batch.audio + 9)
    one, other = (float(stage.loss(b, torch.Generator().manual_seed(1))[0].detach()) for b in (batch, louder))
    assert one == other


def test_made_up_sides_tell_their_own_half_only():
    data = SyntheticStyleData(EIGHT, (80, 23), seed=4)

    def average(style, side):
        return torch.stack([data.clip(style, number, 64, 0)[side].mean(0) for number in range(60)]).mean(0)

    # styles 2f and 2f + 1 share a face, all even ones a voice
    audio, expression = (torch.stack([average(style, side) for style in range(3)]) for side in (0, 1))
    for sides, same, other in ((audio, (0, 2), (0, 1)), (expression, (0, 1), (0, 2))):
        near, far = ((sides[a] - sides[b]).norm() for a, b in (same, other))
        assert far > 1.5 * near
    content = data.clip(0, 0, 64, 0)[1]
    assert float(content.std(0).mean()) > 2 * EIGHT.mark  # the nuisance is the stronger
    assert all(torch.equal(a, b) for a, b in zip(data.clip(5, 7, 32, 9), data.clip(5, 7, 32, 9), strict=True))


def test_batches_show_every_style_once_before_one_comes_again():
    data = SyntheticStyleData(EIGHT, (4, 3))
    batches = [style_batch(data, number, 4, 2, 8, 0) for number in range(2)]
    seen = torch.cat([batch.labels for batch in batches])
    assert sorted(seen.tolist()) == [style for style in range(8) for _ in range(2)]
    assert batches[0].audio.shape == (8, 8, 4)


def prepared(folder, name, smile=0.0, loud=1.0, count=60, sound=True, seen=None):
    """A prepared video: the canonical face speaks, smiling more or less."""
    (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    points = canonical_face().expand(count, -1, -1).clone()
    points[:, 14, 1] += torch.from_numpy(0.1 * rng.random(count)).float()
    points[:, [61, 291], 1] -= smile
    points = points * 100 + torch.tensor([256.0, 256.0, 0.0])
    track = LandmarkTrack.from_px(points, 512, 512, Fraction(25), seen)
    save_record(track, folder / name / "landmarks.safetensors")
    if sound:
        wave = torch.from_numpy(0.1 * loud * rng.normal(size=count * 640)).float()
        save_file({"waveform": wave}, folder / name / "speech.safetensors")
    (folder / name / "done.json").write_text(json.dumps({"name": name, "dropped": "", "reference": 0}))


def test_prepared_videos_are_measured_from_their_persons_neutral(tmp_path):
    for number in (1, 2, 3):
        prepared(tmp_path, f"anna/calm/{number}.mp4")
    prepared(tmp_path, "anna/glad/1.mp4", smile=0.1)
    prepared(tmp_path, "bruno/calm/1.mp4", smile=0.1)
    data = read_styles(tmp_path, "folder", "landmarks", 32)
    assert data.styles == ("anna/calm", "anna/glad", "bruno/calm")
    corners = [float(data.clip(style, 0, 32, 0)[1][:, 2:4].mean()) for style in range(3)]
    assert corners == pytest.approx([0, 1, 0], abs=0.02)  # his smile is all that is known of bruno
    assert read_styles(tmp_path, "video", "landmarks", 32).num_styles == 5
    audio, expression = data.clip(0, 3, 32, 0)
    assert audio.shape == (32, 80)
    assert expression.shape == (32, 23)
    made = train_style(config(tmp_path / "out", 2, data=tmp_path, label="folder"))
    assert made.after["both"].num_styles == 3


def test_prepared_videos_that_cannot_be_used_are_left_out(tmp_path, caplog):
    prepared(tmp_path, "a.mp4")
    prepared(tmp_path, "b.mp4")
    prepared(tmp_path, "mute.mp4", sound=False)
    prepared(tmp_path, "hidden.mp4", seen=torch.arange(60) % 2 == 0)
    prepared(tmp_path, "short.mp4", count=20)
    data = read_styles(tmp_path, "video", "landmarks", 32)
    assert data.styles == ("a.mp4", "b.mp4")
    for name, reason in (("mute", "without its sound"), ("hidden", "does not show"), ("short", "a style needs 1 s")):
        assert any(name in r.message and reason in r.message for r in caplog.records), name


def test_given_coefficients_are_read(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        prepared(tmp_path, name)
        save_file({"values": torch.randn(60, 64)}, tmp_path / name / "expression.safetensors")
    assert read_styles(tmp_path, "video", "3dmm", 32).clip(0, 0, 32, 0)[1].shape == (32, 64)
    with pytest.raises(InputError, match="must have shape"):
        read_styles(tmp_path, "video", "blendshapes", 32)


def test_measured_coefficients_train_an_extractor_and_make_the_videos_styles(tmp_path):
    """From `prepare --face-recon` over the extractor to the styles of the attention's stage."""
    clips = []
    for number, name in enumerate(("a.mp4", "b.mp4", "unseen.mp4")):
        prepared(tmp_path, name)
        track = load_record(LandmarkTrack, tmp_path / name / "landmarks.safetensors")
        valid = torch.arange(60) % 10 != 3
        clips.append(VideoClip(name, lambda k, n=number: torch.full((3, 8, 8), n / 2 - 1), track_with(track, valid)))
    seen = []

    def look(picture, points_px):
        seen.append(picture)
        level = float(picture[0, 0, 0])
        return None if level > 100 else torch.full((64,), level) + points_px[14, 1] / 100

    data, source = VideoData(clips, 1), ExpressionSource("3dmm", "recon.pth", look)
    failed = measure_expressions(tmp_path, data, source)
    assert [name for name, _ in failed] == ["unseen.mp4"] and len(seen) == 3 * 54
    assert seen[60].dtype == torch.uint8 and seen[60].shape == (8, 8, 3) and int(seen[60].max()) == 64
    measure_expressions(tmp_path, VideoData(clips[:2], 1), source)
    assert len(seen) == 3 * 54  # what is there stays
    made = train_style(config(tmp_path / "out", 2, data=tmp_path, expression="3dmm"))
    extractor = load_extractor(made.extractor)
    assert extractor.sizes.expression == "3dmm" and made.after["both"].num_styles == 2
    kept, priors = read_priors(tmp_path, data, 0.1, extractor)
    assert [video.name for video in kept.videos] == ["a.mp4", "b.mp4"]
    values = load_file(tmp_path / "a.mp4" / "expression.safetensors")["values"]
    assert torch.equal(values[3], (values[2] + values[4]) / 2)
    sound = audio_features(Speech(load_file(tmp_path / "a.mp4" / "speech.safetensors")["waveform"]))
    expected = extractor.prior(sound, coefficient_features(values, 25))
    torch.testing.assert_close(priors[0].mean, expected.mean)
    (tmp_path / "a.mp4" / "expression.safetensors").unlink()
    with pytest.raises(InputError, match="a.mp4 has no expression.safetensors.* `prepare --face-recon`"):
        read_priors(tmp_path, VideoData(clips[:1], 1), 0.1, extractor)


def track_with(track: LandmarkTrack, valid: torch.Tensor) -> LandmarkTrack:
    return dataclasses.replace(track, valid=valid)


def test_data_reject_what_is_no_choice_of_styles(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        read_styles(tmp_path / "none", "video", "landmarks", 32)
    with pytest.raises(InputError, match="run `portraittalk prepare"):
        read_styles(tmp_path, "video", "landmarks", 32)
    one = StyleVideo("a", "a", torch.zeros(40, 80), torch.zeros(40, 23), torch.ones(40, dtype=torch.bool))
    with pytest.raises(InputError, match="give 1 styles"):
        PreparedStyles([one], 32)


def test_config_is_read_from_toml(tmp_path):
    path = tmp_path / "style.toml"
    path.write_text('out = "made"\nframes = 48\n[trainer]\nsteps = 7\n[synthetic]\nmark = 0.5\n')
    read = load_style_config(path)
    assert read.out == tmp_path / "made"
    assert (read.frames, read.trainer.steps, read.synthetic.mark) == (48, 7, 0.5)
    assert (read.trainer.learning_rate, read.trainer.weight_decay) == (1e-4, 0.0)
    assert read.sizes.width == 256


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('stage = "x"', "stage must be one of extractor"),
        ("frames = 400", "frames must lie between"),
        ("clips = 1", "clips must lie"),
        ("drop_audio = 0.9\ndrop_expression = 0.2", "more than 1 together"),
        ("width = 30", "do not share 30 channels"),
        ('data = "x"\naudio = "whisper-tiny"', "needs audio_encoder"),
        ("[synthetic]\nexpression_styles = 1\nvocal_styles = 1", "two synthetic styles"),
        ("[trainer]\nbatch_size = 1", "trainer.batch_size must lie"),
        ("blend = 1", "unknown names: blend"),
    ],
)
def test_config_rejects_what_cannot_be_trained(tmp_path, line, message):
    path = tmp_path / "style.toml"
    path.write_text(f'out = "made"\n{line}\n')
    with pytest.raises(InputError, match=message):
        load_style_config(path)


def test_command_trains_and_tells_how_well(tmp_path, capsys):
    path = tmp_path / "style.toml"
    path.write_text(
        'out = "made"\nframes = 16\nwidth = 16\nnum_layers = 1\nnum_heads = 2\nfeed_forward = 16\n'
        "[trainer]\nsteps = 2\nbatch_size = 4\n[synthetic]\nexpression_styles = 2\nvocal_styles = 2\n"
    )
    assert main(["train", "style", "--config", str(path)]) == 0
    told = capsys.readouterr().out
    assert "style_extractor.safetensors" in told
    assert "Chance is 25.0%" in told
    assert load_extractor(tmp_path / "made" / "style_extractor.safetensors").sizes.width == 16
    assert main(["train", "style"]) == 2
    assert "needs --config" in capsys.readouterr().err
