"""The whole recipe of PortraitTalk on two puppets: three stages from one file, stopped in each and resumed."""

import copy
import dataclasses
import json

import pytest
import torch
from sd15_files import make_checkpoint
from toy_puppet import puppet_clip

from portraittalk_core.cli.main import main
from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.diffusion.motion_modules import load_motion_modules
from portraittalk_core.errors import InputError
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.records import save_record
from portraittalk_core.renderers.animatenet.animate_net import load_animate_net
from portraittalk_core.renderers.animatenet.control import load_controlnet
from portraittalk_core.renderers.identitynet.adapter import load_adapter
from portraittalk_core.training.animatenet import stage as animate_stage
from portraittalk_core.training.data.references import POOL, reference_file, reference_frames
from portraittalk_core.training.data.video_clips import MARKER, TRACK, VideoData
from portraittalk_core.training.identitynet import stage as identity_stage
from portraittalk_core.training.recipe.config import load_recipe
from portraittalk_core.training.recipe.stages import train_recipe
from portraittalk_core.weights.load import read_tensors

pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES = 3
STAGES = ("identity", "spatial", "joint")
RECIPE = """
checkpoint = "sd"
data = "clips"
out = "OUT"
resolution = 64
style = "landmarks"
references = 2
features = true
previous = true
identity_epochs = 1
spatial_epochs = 1
joint_epochs = 1
train_lora = true
rank = 2
[trainer]
batch_size = 2
gradient_accumulation = 1
learning_rate = 1e-3
unit = "steps"
save_every = 2
sample_every = 0
[joint]
frames = 2
overlap = 1
"""


def write_clips(data, names=("a.mp4", "b.mp4")):
    """Videos as `portraittalk prepare` writes them, with the faces that are described where training asks for them."""
    for seed, name in enumerate(names):
        clip, folder = puppet_clip(seed, FRAMES, 128), data / name
        (folder / "frames").mkdir(parents=True)
        for number in range(FRAMES):
            shown = ((clip.read(number) + 1) * 127.5).round().byte().permute(1, 2, 0)
            save_picture(shown, folder / "frames" / f"{number:06d}.png")
        save_record(clip.track, folder / TRACK)
        (folder / MARKER).write_text(json.dumps({"dropped": "", "reference": seed + 1}))
        draw = torch.Generator().manual_seed(seed)
        for frame in reference_frames(clip.track, seed + 1, POOL):
            path = reference_file(folder, frame, without_background=True)
            path.parent.mkdir(exist_ok=True)
            save_record(FaceEmbedding(torch.randn(1, 512, generator=draw)), path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    write_clips(folder / "clips")
    make_checkpoint(folder / "sd")
    return folder


def recipe(place, out, text=RECIPE):
    path = place / f"{out}.toml"
    path.write_text(text.replace("OUT", out))
    return path


@pytest.mark.slow
def test_recipe_runs_from_one_file_and_resumes_bit_for_bit_in_every_stage(place, capsys, monkeypatch):
    assert main(["train", "portraittalk", "--config", str(recipe(place, "whole"))]) == 0
    told = capsys.readouterr().out
    assert all(f"{stage}: 3 steps" in told for stage in STAGES)
    assert "/whole/joint/motion.safetensors --features 1 --remove-background" in told
    base = load_sd15(place / "sd")  # read once for the other runs
    for stage in (animate_stage, identity_stage):
        monkeypatch.setattr(stage, "load_sd15", lambda _: copy.deepcopy(base))
    torch.rand(7)  # another random state than the first run began with
    cut = load_recipe(recipe(place, "cut"))
    for stopped in STAGES:
        with pytest.raises(KeyboardInterrupt):
            train_recipe(cut, lambda stage, done, _, at=stopped: _stop() if (stage, done) == (at, 2) else None)
    again = train_recipe(cut)
    assert again.identity.report.pictures == 2 * FRAMES and again.joint.training.resumed_from == 2
    whole = load_recipe(recipe(place, "whole")).out
    for path in again.files.values():
        if path.is_relative_to(cut.out):
            one, two = read_tensors(whole / path.relative_to(cut.out)), read_tensors(path)
            assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    _check_files(again, whole)


def _stop():
    raise KeyboardInterrupt


def _check_files(result, whole):
    """Every file is what painting reads, and each stage has begun with what the one before had learnt."""
    adapters = [load_adapter(path) for path in (result.identity.adapter, result.files["identity_adapter"])]
    assert all(adapter.layout == "faceid" and adapter.lora for adapter in adapters)
    controls = [load_controlnet(stage.files["controlnet"]) for stage in (result.spatial, result.joint)]
    nets = [load_animate_net(stage.files["animate_net"]) for stage in (result.spatial, result.joint)]
    load_motion_modules(result.files["motion_module"], widths=(32, 64, 128, 128))
    rate, steps = 1e-3, 3
    for first, second in (adapters, controls, nets):
        moves = [float((a - b).abs().max()) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
        # AdamW moves a weight by about the rate a step: it has learnt on, from where the stage before had left it
        assert 0 < max(moves) < 3 * rate * steps
    assert not (whole / "spatial" / "identity_adapter.safetensors").exists()  # there the adapter is frozen


def test_recipe_fills_in_what_the_paper_says(tmp_path):
    path = recipe(tmp_path, "run", 'checkpoint = "sd"\ndata = "clips"\nout = "OUT"\ntrain_unet = true\n')
    config = load_recipe(path)
    assert [getattr(config, stage).trainer.epochs for stage in STAGES] == [10, 100, 50]
    assert [getattr(config, stage).references for stage in STAGES] == [4, 4, 4]
    assert [getattr(config, stage).train_unet for stage in STAGES] == [True, False, True]
    assert all(getattr(config, stage).remove_background for stage in STAGES)
    assert (config.spatial.stage, config.joint.stage) == ("spatial", "joint")
    assert (config.spatial.train_identity, config.joint.train_identity) == (False, True)
    for stage in STAGES:  # 32 frames a step, in every stage
        trainer = getattr(config, stage).trainer
        assert trainer.batch_size * trainer.gradient_accumulation == 32
        assert (trainer.learning_rate, trainer.optimizer, trainer.unit) == (5e-6, "adamw", "epochs")
    assert (config.joint.trainer.batch_size, config.joint.batch_clips) == (16, 1)
    assert config.out == tmp_path / "run" and config.joint.out == tmp_path / "run" / "joint"


BAD = {
    "colour = 1": "unknown names: colour",
    'identity = "a.safetensors"': r"identity must be a table",
    'stage = "joint"': "unknown names: stage",
    "identity_epochs = 0": "identity_epochs",
    "joint_epochs = 1.5": "joint_epochs must be a whole number",
    "[trainer]\nepochs = 3": "trainer.epochs is not for the recipe",
    "[joint.trainer]\nsteps = 3": r"joint.trainer.steps is not for the recipe",
    '[joint]\ncontrolnet = "c"': "joint.controlnet is set by the recipe",
    '[spatial]\nout = "c"': "spatial.out is set by the recipe",
    "[spatial]\ntrain_identity = true": "spatial.train_identity is False in the recipe",
    "[joint]\nframes = 12\n[trainer]\nbatch_size = 4": "a step of 32 frames .* clips of 12 frames",
    "[joint]\nframes = 12\n[joint.trainer]\nbatch_size = 4": "4 is no multiple of a clip's 12 frames",
    "references = 17": "references",
    "train_lora = true\ntrain_unet = true": "exclude each other",
}


@pytest.mark.parametrize("line", BAD)
def test_recipe_refuses_what_cannot_be(tmp_path, line):
    path = recipe(tmp_path, "run", f'checkpoint = "sd"\ndata = "clips"\nout = "OUT"\n{line}\n')
    with pytest.raises(InputError, match=BAD[line]):
        load_recipe(path)


def test_an_epoch_of_clips_shows_as_many_frames_as_there_are():
    """In steps of 32 frames, 30,000 frames are 938 steps a frame at a time, and as many in clips of 16."""
    clip = puppet_clip(0, 20)
    valid = torch.tensor([True] * 9 + [False] + [True] * 7 + [False, True, True])
    video = dataclasses.replace(clip, track=dataclasses.replace(clip.track, valid=valid))
    assert [VideoData([video], length).num_pictures() for length in (1, 2, 3, 8, 9)] == [18, 18, 16, 9, 9]
