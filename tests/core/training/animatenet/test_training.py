import dataclasses

import pytest
import torch
from sd15_files import make_checkpoint
from toy_faces import FixedTexts, PatchCodec
from toy_puppet import landmarks, motion, puppet_clip

from portraittalk_core.diffusion.motion_modules import load_motion_modules
from portraittalk_core.diffusion.schedule import MOTION, schedule_sigmas
from portraittalk_core.errors import InputError
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.records import save_record
from portraittalk_core.renderers.animatenet.animate_net import load_animate_net
from portraittalk_core.renderers.animatenet.control import load_controlnet
from portraittalk_core.renderers.animatenet.head_placement import placements
from portraittalk_core.training.animatenet.config import AnimateTraining, load_animate_config
from portraittalk_core.training.animatenet.cues import cues_of, last_finished
from portraittalk_core.training.animatenet.stage import JointStage, SpatialStage, make_parts, train_animate
from portraittalk_core.training.data.video_clips import CAPTION, MARKER, TRACK, VideoData, read_videos
from portraittalk_core.training.identitynet.stage import FrozenParts
from portraittalk_core.training.loop.config import Clock, TrainerConfig
from portraittalk_core.training.loop.trainer import step_generator, train_stage

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES = 4
WIDTHS = (32, 32, 64, 64)
QUICK = TrainerConfig(
    steps=2, batch_size=1, gradient_accumulation=1, learning_rate=1e-3, ema_decay=0.5, save_every=1, sample_every=2
)


@pytest.fixture(scope="module")
def clips():
    return [puppet_clip(seed, 8) for seed in range(3)]


def toy_config(out, **changes) -> AnimateTraining:
    given = {"resolution": 64, "style": "landmarks", "frames": FRAMES, "overlap": 2, "trainer": QUICK}
    return AnimateTraining(out, out, out, **{**given, **changes})


def toy_stage(clips, config, seed=0):
    """A stage on a tiny UNet, its networks new."""
    torch.manual_seed(seed)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=WIDTHS, cross_attention_dim=48, attention_head_dim=8
    ).eval()
    parts = make_parts(unet, dataclasses.replace(config, stage="spatial"))
    if config.stage == "joint":
        from portraittalk_core.diffusion.motion_modules import new_motion_modules

        parts = dataclasses.replace(parts, motion=new_motion_modules(WIDTHS))
    kind = JointStage if config.stage == "joint" else SpatialStage
    return kind(FrozenParts(unet, PatchCodec(), FixedTexts()), parts, VideoData(clips, config.clip_frames), config)


def test_clips_are_the_same_for_the_same_number_and_come_all_once(clips):
    data = VideoData(clips, FRAMES)
    assert len(data) == 3 * 5
    first, again = data.batch(3, 2, 7, 64), VideoData(clips, FRAMES).batch(3, 2, 7, 64)
    assert torch.equal(first.frames, again.frames) and first.starts == again.starts
    seen = [pair for n in range(5) for b in [data.batch(n, 3, 7, 64)] for pair in zip(b.videos, b.starts, strict=True)]
    assert len(set(seen)) == 15
    assert [data.batch(n, 3, 8, 64).starts for n in range(5)] != [data.batch(n, 3, 7, 64).starts for n in range(5)]


def test_clip_holds_its_frames_landmarks_and_placements(clips):
    batch = VideoData(clips, FRAMES).at([(1, 0), (2, 3)], 64)
    moves = motion(8, 2)
    assert torch.equal(batch.frames[1, 0], clips[2].read(3))
    assert torch.allclose(batch.points_px[1], landmarks(moves)[3:7, :, :2] * 64)
    assert torch.equal(batch.placements[1], placements(clips[2].track)[3:7])
    assert torch.equal(batch.reference_placements[0], placements(clips[1].track)[clips[1].reference])


def test_clip_never_holds_a_frame_without_the_face(clips):
    valid = torch.tensor([True] * 5 + [False] + [True] * 2)
    holed = dataclasses.replace(clips[0], track=dataclasses.replace(clips[0].track, valid=valid))
    assert len(VideoData([holed], FRAMES)) == 2  # from 0 and from 1
    with pytest.raises(InputError, match="6 frames one after another"):
        VideoData([holed], 6)


@pytest.mark.parametrize("extras", [{}, {"features": True, "previous": True}])
def test_untrained_joint_loss_is_equation_two_by_hand(clips, tmp_path, extras):
    """New branches and motion modules and a new ControlNet add nothing: the UNet alone gives the noise."""
    config = toy_config(tmp_path, stage="joint", snr_limit=0.0, given_share=1.0, overlap=1, **extras)
    stage = toy_stage(clips, config)
    batch = stage.batch(1, 0)
    with stage:
        loss, told = stage.loss(batch, step_generator(0, 1))
    noise, noisy, levels = _noised_by_hand(batch)
    with torch.no_grad():
        made = stage.frozen.unet(noisy, levels, FixedTexts().tokens([""] * FRAMES)).sample
    assert float(loss.detach()) == pytest.approx(float((made - noise)[1:].square().mean()), rel=1e-4)
    assert told["given"] == 1 / FRAMES


@pytest.mark.parametrize("given", ["clean", "noised"])
def test_unet_sees_given_frames_as_the_configuration_says(clips, tmp_path, given):
    stage = toy_stage(clips, toy_config(tmp_path, stage="joint", given_share=1.0, overlap=1, given=given))
    batch, seen = stage.batch(1, 0), []
    hook = stage.frozen.unet.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[:2]))
    with stage:
        stage.loss(batch, step_generator(0, 1))
    hook.remove()
    _, noisy, levels = _noised_by_hand(batch)
    if given == "clean":
        noisy[0], levels[0] = PatchCodec().encode(batch.frames[0, :1])[0], 0
    assert torch.allclose(seen[0][0], noisy, atol=1e-5)
    assert torch.equal(seen[0][1], levels)


def _noised_by_hand(batch):
    """Noise, noisy rows and timesteps of step 1 of seed 0, for one clip."""
    draw = step_generator(0, 1)
    level = torch.randint(1000, (1,), generator=draw)
    noise = torch.randn(FRAMES, 4, 8, 8, generator=draw)
    kept = float(1 / (1 + schedule_sigmas(MOTION)[level] ** 2))
    noisy = kept**0.5 * PatchCodec().encode(batch.frames[0]) + (1 - kept) ** 0.5 * noise
    return noise, noisy, level.repeat(FRAMES)


def test_captions_reach_the_unet_and_the_controlnet_of_their_own_clip(clips, tmp_path):
    class Texts(FixedTexts):
        def tokens(self, captions):
            return torch.stack([torch.full((4, 48), float(len(caption))) for caption in captions])

    named = [dataclasses.replace(clip, caption="a" * (number + 1)) for number, clip in enumerate(clips)]
    stage = toy_stage(named, toy_config(tmp_path, stage="joint"))
    stage.frozen = dataclasses.replace(stage.frozen, texts=Texts())
    seen = []
    hooks = [
        network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2][:, 0, 0].tolist()))
        for network in (stage.frozen.unet, stage.parts.controlnet)
    ]
    with stage:
        stage.loss(stage.data.at([(2, 0), (0, 1)], 64), step_generator(0, 1))
    for hook in hooks:
        hook.remove()
    assert seen == [[3.0] * FRAMES + [1.0] * FRAMES] * 2


def test_an_epoch_shows_every_clip_once(clips, tmp_path):
    stage = toy_stage(clips, toy_config(tmp_path, stage="joint"))
    trainer = stage.config.trainer
    steps, parts = Clock.of(trainer, stage.num_samples()).epoch_steps, trainer.gradient_accumulation
    batches = [stage.batch(step, part) for step in range(1, steps + 1) for part in range(parts)]
    shown = [pair for batch in batches for pair in zip(batch.videos, batch.starts, strict=True)]
    assert len(set(shown[: len(stage.data)])) == len(set(shown)) == len(stage.data)
    assert len(shown) - len(stage.data) < trainer.batch_size * parts


def test_given_frames_are_the_first_and_at_most_the_overlap(clips, tmp_path):
    config = toy_config(tmp_path, stage="joint", given_share=0.5, overlap=2)
    given = toy_stage(clips, config).given_mask(4000, FRAMES, step_generator(0, 0))
    counts = given.sum(1)
    assert torch.equal(given, torch.arange(FRAMES)[None] < counts[:, None])
    assert [float((counts == n).float().mean()) for n in (0, 1, 2)] == pytest.approx([0.5, 0.25, 0.25], abs=0.04)
    assert not toy_stage(clips, dataclasses.replace(config, overlap=0)).given_mask(50, 4, step_generator(0, 0)).any()


@pytest.mark.slow
def test_joint_stage_trains_all_but_the_frozen_unet(clips, tmp_path):
    stage = toy_stage(clips, toy_config(tmp_path, stage="joint", given_share=1.0))
    before = {name: tensor.clone() for name, tensor in stage.frozen.unet.state_dict().items()}
    with stage:
        result = train_stage(stage, QUICK, tmp_path)
        files = stage.export(result.averages, tmp_path, {"steps": "2"})
    assert all(torch.equal(tensor, before[name]) for name, tensor in stage.frozen.unet.state_dict().items())
    assert result.samples and result.samples[0].is_file()
    for kind in ("controlnet.", "net.", "motion."):
        assert any(name.startswith(kind) for name in stage.trainable())
    for load, name, network in (
        (load_controlnet, "controlnet", stage.parts.controlnet),
        (load_animate_net, "animate_net", stage.parts.net),
        (lambda path: load_motion_modules(path, widths=WIDTHS), "motion", stage.parts.motion),
    ):
        loaded = load(files[name]).state_dict()
        assert all(torch.equal(loaded[key], tensor) for key, tensor in network.state_dict().items())


def test_every_trained_weight_gets_a_gradient_in_time(clips, tmp_path):
    """Behind zero layers nothing learns at the first step; once these have moved, everything does."""
    stage = toy_stage(clips, toy_config(tmp_path, stage="joint", given_share=1.0, features=True, previous=True))
    with torch.no_grad():
        for weight in stage.trainable().values():
            if not weight.any():
                weight.normal_(std=0.05)
    with stage:
        stage.loss(stage.batch(1, 0), step_generator(0, 1))[0].backward()
    without = [name for name, weight in stage.trainable().items() if weight.grad is None or not weight.grad.any()]
    alone = "controlnet.mid_block.attentions.0.transformer_blocks.0.attn1.to_"  # one pixel, which sees only itself
    assert without == [f"{alone}q.weight", f"{alone}k.weight", "net.features.31.to_k_ft.weight"]


def test_without_head_placement_nothing_tells_where_the_head_is(clips, tmp_path):
    stage = toy_stage(clips, toy_config(tmp_path, head_placement=False))
    with_it = toy_stage(clips, toy_config(tmp_path))
    batch = stage.data.at([(0, 1)], 64)
    still = placements(clips[0].track)[clips[0].reference]
    assert torch.allclose(stage.cues(batch).placements[0], still)
    assert torch.allclose(with_it.cues(batch).placements[0], placements(clips[0].track)[1])
    assert not torch.equal(stage.cues(batch).hints, with_it.cues(batch).hints)
    centred = cues_of(batch, toy_config(tmp_path, centred_hint=True), torch.device("cpu"))  # tokens alone tell it
    assert torch.equal(centred.hints, stage.cues(batch).hints)
    assert torch.equal(centred.placements, with_it.cues(batch).placements)
    assert not any("hp" in name or "placement_proj" in name for name in stage.trainable())


def test_last_finished_frame_is_the_last_given_one_or_the_frame_before():
    clean = torch.arange(6.0).view(6, 1, 1, 1).expand(-1, 4, 2, 2)  # two clips of three frames
    before = torch.tensor([-1.0, -2.0]).view(2, 1, 1, 1).expand(-1, 4, 2, 2)
    given = torch.tensor([True, True, False, False, False, False])
    assert last_finished(clean, before, given)[:, 0, 0, 0].tolist() == [1, 1, 1, -2, -2, -2]


def test_frame_before_a_clip_is_its_videos_or_the_reference(clips):
    valid = torch.tensor([True, True, False, True, True, True, True, True])
    holed = dataclasses.replace(clips[0], track=dataclasses.replace(clips[0].track, valid=valid), reference=6)
    data = VideoData([holed], 1)
    batch = data.at([(0, 0), (0, 1), (0, 3), (0, 4)], 64, references=False, previous=True)
    numbers = [6, 0, 6, 3]  # of a clip at the start, and of one whose frame before shows no face: the reference
    assert batch.references is None
    assert torch.equal(batch.previous, torch.stack([holed.read(number) for number in numbers]))
    assert torch.equal(batch.previous_placements, placements(holed.track)[numbers])


@pytest.mark.slow
def test_last_frame_and_its_placement_reach_the_loss(clips, tmp_path):
    stage = toy_stage(clips, toy_config(tmp_path, previous=True))
    for network in (stage.parts.net.previous_proj, *stage.parts.controlnet.controlnet_down_blocks):
        torch.nn.init.normal_(network.weight, std=0.3)
    batch = stage.data.at([(0, 3)], 64, previous=True)
    assert torch.equal(stage.cues(batch).placements, batch.previous_placements)
    other = dataclasses.replace(batch, previous=clips[1].read(0)[None])
    with stage, torch.no_grad():
        told = [float(stage.loss(one, step_generator(0, 1))[0]) for one in (batch, batch, other)]
        with_it = stage.draw(batch, 0, steps=2), stage.draw(other, 0, steps=2)
    assert told[0] == told[1] != told[2] and not torch.equal(*with_it)


def test_new_networks_depend_on_the_seed_alone(clips, tmp_path):
    config, made = toy_config(tmp_path, features=True, previous=True), []
    unet = toy_stage(clips, config).frozen.unet
    for state in (1, 2):
        torch.manual_seed(state)
        parts = make_parts(unet, config)
        made.append({**parts.controlnet.state_dict(), **parts.net.state_dict()})
    assert all(torch.equal(tensor, made[1][name]) for name, tensor in made[0].items())


def test_net_that_looks_at_the_last_frame_goes_on_so(clips, tmp_path):
    stage = toy_stage(clips, toy_config(tmp_path, previous=True))
    with pytest.raises(InputError, match="made with previous = true, and goes on so"):
        SpatialStage(stage.frozen, stage.parts, stage.data, toy_config(tmp_path))


def test_drawing_follows_landmarks_once_the_controlnet_speaks(clips, tmp_path):
    stage = toy_stage(clips, toy_config(tmp_path))
    one, other = stage.data.at([(0, 0)], 64), stage.data.at([(1, 5)], 64)
    with stage:
        assert torch.equal(stage.draw(one, 0, steps=2), stage.draw(other, 0, steps=2))
        for name, weight in stage.parts.controlnet.named_parameters():
            if name.startswith("controlnet_"):
                torch.nn.init.normal_(weight, std=0.1)
        assert not torch.equal(stage.draw(one, 0, steps=2), stage.draw(other, 0, steps=2))


@pytest.mark.slow
def test_drawing_keeps_given_frames(clips, tmp_path):
    for given in ("clean", "noised"):
        stage = toy_stage(clips, toy_config(tmp_path, stage="joint", given=given))
        batch = stage.data.at([(0, 0)], 64)
        known = torch.randn(1, 2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
        with stage:
            made = stage.draw(batch, 0, known, steps=3)
        assert torch.allclose(made[:2], known[0], atol=1e-5)
        assert not torch.allclose(made[2:], known[0], atol=0.1)


def prepared(data):
    """A folder as `portraittalk prepare` makes it, of one video of six frames."""
    clip = puppet_clip(5, 6, 128)
    for number in range(6):
        folder = data / "a.mp4" / "frames"
        folder.mkdir(parents=True, exist_ok=True)
        shown = ((clip.read(number) + 1) * 127.5).round().byte().permute(1, 2, 0)
        save_picture(shown, folder / f"{number:06d}.png")
    save_record(clip.track, data / "a.mp4" / TRACK)
    (data / "a.mp4" / MARKER).write_text('{"dropped": "", "reference": 1}')
    return data


def test_caption_beside_the_frames_is_the_videos_text(tmp_path):
    data = prepared(tmp_path)
    assert read_videos(data, 1).videos[0].caption == ""
    (data / "a.mp4" / CAPTION).write_text(" a man in a red shirt\n", encoding="utf-8")
    assert read_videos(data, 1).videos[0].caption == "a man in a red shirt"
    (data / "a.mp4" / CAPTION).write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(InputError, match="caption.txt"):
        read_videos(data, 1)


def test_training_with_captions_wants_the_tokenizer_that_was_named(tmp_path):
    data = prepared(tmp_path / "data")
    (data / "a.mp4" / CAPTION).write_text("a man", encoding="utf-8")
    checkpoint = make_checkpoint(tmp_path / "sd15.safetensors")
    config = AnimateTraining(checkpoint, data, tmp_path / "out", resolution=64, tokenizer=tmp_path, trainer=QUICK)
    with pytest.raises(InputError, match="holds no tokenizer"):
        train_animate(config)


@pytest.mark.slow
def test_training_goes_from_a_folder_and_a_file_to_both_stages(tmp_path):
    data = prepared(tmp_path / "data")
    checkpoint = make_checkpoint(tmp_path / "sd15.safetensors")
    config = AnimateTraining(
        checkpoint, data, tmp_path / "one", resolution=64, style="landmarks", frames=FRAMES, overlap=2,
        trainer=dataclasses.replace(QUICK, steps=1, sample_every=0),
    )  # fmt: skip
    first = train_animate(config)
    joint = dataclasses.replace(config, stage="joint", out=tmp_path / "two")
    with pytest.raises(InputError, match="goes on from the first one"):
        train_animate(joint)
    joint = dataclasses.replace(joint, controlnet=first.files["controlnet"], animate_net=first.files["animate_net"])
    second = train_animate(joint)
    assert sorted(second.files) == ["animate_net", "controlnet", "motion"]
    assert all(path.is_file() for path in second.files.values())


def test_config_is_read_and_refused(tmp_path):
    file = tmp_path / "animate.toml"
    file.write_text('checkpoint = "a"\ndata = "b"\nout = "c"\nstage = "joint"\nframes = 8\n[trainer]\nsteps = 5\n')
    config = load_animate_config(file)
    assert (config.stage, config.frames, config.clip_frames, config.trainer.steps) == ("joint", 8, 8, 5)
    assert config.data == tmp_path / "b"
    for line, told in (("stage = 3", "stage"), ("frames = 4\noverlap = 4", "overlap"), ("colour = 1", "unknown")):
        file.write_text(f'checkpoint = "a"\ndata = "b"\nout = "c"\n{line}\n')
        with pytest.raises(InputError, match=told):
            load_animate_config(file)
