"""AnimateNet learns with everybody's own face in the frozen UNet, as equation 2 has it among its conditions."""

import dataclasses
import json

import pytest
import torch
from adapter_files import TINY, adapter_tensors, flat
from sd15_files import make_checkpoint
from toy_faces import FixedTexts, PatchCodec
from toy_puppet import puppet_clip

from portraittalk_core.cli.main import main
from portraittalk_core.diffusion.branches import bind
from portraittalk_core.diffusion.motion_modules import new_motion_modules
from portraittalk_core.diffusion.schedule import MOTION, schedule_sigmas
from portraittalk_core.diffusion.sites import SITES
from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.records import load_record, save_record
from portraittalk_core.renderers.identitynet.adapter import (
    IdentityOptions,
    build_adapter,
    identity_branches,
    save_adapter,
)
from portraittalk_core.renderers.identitynet.adapter_files import sort_adapter
from portraittalk_core.training.animatenet import faces as animate_faces
from portraittalk_core.training.animatenet.config import OF_IDENTITY, AnimateTraining
from portraittalk_core.training.animatenet.faces import ClipFaces, FaceChoice, read_faces
from portraittalk_core.training.animatenet.parts import make_parts
from portraittalk_core.training.animatenet.stage import JointStage
from portraittalk_core.training.data.video_clips import FACE, MARKER, TRACK, VideoData, read_videos
from portraittalk_core.training.identitynet.stage import FrozenParts
from portraittalk_core.training.loop.config import TrainerConfig
from portraittalk_core.training.loop.low_rank import attached, new_lora
from portraittalk_core.training.loop.trainer import step_generator, train_stage

diffusers = pytest.importorskip("diffusers")
pytest.importorskip("accelerate")
pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]  # together they take ten seconds and more

FRAMES = 3
WIDTHS = tuple(TINY[number] for number in ("1", "5", "9", "31"))
QUICK = TrainerConfig(
    steps=2, batch_size=2, gradient_accumulation=1, learning_rate=1e-3, ema_decay=0.5, save_every=1, sample_every=0
)
NO_DROPS = {"drop_image": 0.0, "drop_text": 0.0, "drop_both": 0.0}


def face_of(seed: int) -> FaceEmbedding:
    return FaceEmbedding(torch.randn(1, 512, generator=torch.Generator().manual_seed(seed)))


def clips_of(*faces):
    return [dataclasses.replace(puppet_clip(n, 6), face=face, caption=f"clip {n}") for n, face in enumerate(faces)]


def random_adapter(layout: str):
    adapter = build_adapter(sort_adapter(flat(adapter_tensors(layout)), layout), layout)
    adapter.lora = {}
    return adapter


def tiny_adapter(lora: bool = False, unet=None):
    adapter = random_adapter("faceid")
    if lora:
        draw = torch.Generator().manual_seed(5)
        adapter.lora = {n: 0.05 * torch.randn(t.shape, generator=draw) for n, t in new_lora(unet, 2).items()}
    return adapter


def toy_stage(clips, out, with_faces=True, lora=False, **changes) -> JointStage:
    """A joint stage on a tiny UNet, its networks new."""
    given = {"stage": "joint", "snr_limit": 0.0, "given_share": 0.0, **NO_DROPS, **changes}
    config = AnimateTraining(
        out, out, out, resolution=64, style="landmarks", frames=FRAMES, overlap=1,
        identity=out / "identity" if with_faces else None, trainer=QUICK, **given,
    )  # fmt: skip
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=WIDTHS, cross_attention_dim=48, attention_head_dim=8
    ).eval()
    parts = make_parts(unet, dataclasses.replace(config, stage="spatial"))
    parts = dataclasses.replace(parts, motion=new_motion_modules(WIDTHS))
    faces = ClipFaces(tiny_adapter(lora, unet), clips) if with_faces else None
    frozen = FrozenParts(unet, PatchCodec(), FixedTexts())
    return JointStage(frozen, parts, VideoData(clips, FRAMES), config, faces)


def loss_of(stage, clips=((0, 0), (1, 2))) -> float:
    with stage, torch.no_grad():
        return float(stage.loss(stage.data.at(list(clips), 64), step_generator(0, 1))[0])


@pytest.mark.parametrize("lora", [False, True])
def test_untrained_loss_is_equation_two_with_every_clips_own_face(tmp_path, lora):
    """New networks add nothing: the UNet, with the branches that paint at inference, gives each clip's noise."""
    clips = clips_of(face_of(1), face_of(2))
    stage = toy_stage(clips, tmp_path, lora=lora)
    told, pairs = loss_of(stage), ((0, 0), (1, 2))
    batch, draw, adapter = stage.data.at(list(pairs), 64), step_generator(0, 1), stage.faces.adapter
    levels, noise = torch.randint(1000, (2,), generator=draw), torch.randn(2 * FRAMES, 4, 8, 8, generator=draw)
    errors = []
    for row, clip in enumerate(clips):
        kept = float(1 / (1 + schedule_sigmas(MOTION)[levels[row]] ** 2))
        mine = noise[row * FRAMES : (row + 1) * FRAMES]
        noisy = kept**0.5 * PatchCodec().encode(batch.frames[row]) + (1 - kept) ** 0.5 * mine
        made = identity_branches(adapter, adapter.tokens(clip.face), [s.adapter_key for s in SITES], IdentityOptions())
        unet, text = stage.frozen.unet, FixedTexts().tokens([""] * FRAMES)
        with torch.no_grad(), attached(unet, adapter.lora), bind(unet, {i: [one] for i, one in made.items()}):
            errors.append((unet(noisy, levels[row].expand(FRAMES), text).sample - mine).square().mean())
    assert told == pytest.approx(float(torch.stack(errors).mean()), rel=1e-4)


def test_loss_depends_on_the_faces_and_on_nothing_where_they_are_dropped(tmp_path):
    one, other = clips_of(face_of(1), face_of(2)), clips_of(face_of(3), face_of(4))
    assert loss_of(toy_stage(one, tmp_path)) != loss_of(toy_stage(other, tmp_path))
    hidden = {**NO_DROPS, "drop_image": 1.0}
    first, second = (toy_stage(clips, tmp_path, **hidden) for clips in (one, other))
    assert loss_of(first) == loss_of(second)
    with first, torch.no_grad():
        assert first.loss(first.data.at([(0, 0)], 64), step_generator(0, 1))[1]["no_face"] == 1.0


@pytest.mark.parametrize(("drop", "face"), [("drop_text", True), ("drop_both", False)])
def test_dropped_captions_are_empty(tmp_path, drop, face):
    clips = clips_of(face_of(1), face_of(2))
    stage, seen = toy_stage(clips, tmp_path, **{**NO_DROPS, drop: 1.0}), []

    class Texts(FixedTexts):
        def tokens(self, captions):
            seen.extend(captions)
            return super().tokens(captions)

    stage.frozen = dataclasses.replace(stage.frozen, texts=Texts())
    told = loss_of(stage)
    assert seen == [""] * 2 * FRAMES
    assert (told == loss_of(toy_stage(clips, tmp_path))) == face  # all texts are alike to it


def test_pictures_drawn_on_the_way_show_the_face(tmp_path):
    made = []
    for faces in ((face_of(1), face_of(2)), (face_of(3), face_of(4))):
        stage = toy_stage(clips_of(*faces), tmp_path)
        with stage:
            made.append(stage.draw(stage.data.at([(1, 0)], 64), 0, steps=2))
    assert not torch.allclose(made[0], made[1], atol=1e-3)


def test_gradients_reach_only_what_learns_and_the_frozen_stays_to_the_byte(tmp_path):
    stage = toy_stage(clips_of(face_of(1), face_of(2)), tmp_path, lora=True)
    frozen = {"unet": stage.frozen.unet, "adapter": stage.faces.adapter}
    before = {name: {k: t.clone() for k, t in one.state_dict().items()} for name, one in frozen.items()}
    lora = {name: tensor.clone() for name, tensor in stage.faces.adapter.lora.items()}
    processors = set(map(type, stage.frozen.unet.attn_processors.values()))
    with stage:
        train_stage(stage, QUICK, tmp_path)
        stage.loss(stage.batch(1, 0), step_generator(0, 1))[0].backward()
    assert any(weight.grad is not None and weight.grad.any() for weight in stage.trainable().values())
    for name, one in frozen.items():
        assert all(weight.grad is None for weight in one.parameters())
        assert all(torch.equal(tensor, before[name][key]) for key, tensor in one.state_dict().items())
    assert all(torch.equal(tensor, lora[name]) for name, tensor in stage.faces.adapter.lora.items())
    assert set(map(type, stage.frozen.unet.attn_processors.values())) == processors


def test_resumed_run_is_bit_exact(tmp_path):
    drops = {"drop_image": 0.3, "drop_text": 0.2, "drop_both": 0.2}
    made = []
    for name, stops in (("whole", (2,)), ("halved", (1, 2))):
        for steps in stops:
            stage = toy_stage(clips_of(face_of(1), face_of(2)), tmp_path, **drops)
            with stage:
                result = train_stage(stage, dataclasses.replace(QUICK, steps=steps), tmp_path / name)
        made.append((result.averages, {n: w.detach().clone() for n, w in stage.trainable().items()}))
    assert result.resumed_from == 1
    for whole, halved in zip(*made, strict=True):
        assert all(torch.equal(tensor, halved[name]) for name, tensor in whole.items())


def test_another_persons_faces_are_another_run(tmp_path):
    with toy_stage(clips_of(face_of(1), face_of(2)), tmp_path) as stage:
        train_stage(stage, QUICK, tmp_path)
    with pytest.raises(InputError, match="faces"), toy_stage(clips_of(face_of(1), face_of(3)), tmp_path) as stage:
        train_stage(stage, QUICK, tmp_path)


def test_without_an_identity_faces_change_nothing(tmp_path):
    """Neither loss nor what a run is known by: one that was begun before there were faces goes on."""
    plain = toy_stage(clips_of(None, None), tmp_path, with_faces=False)
    other = toy_stage(clips_of(face_of(1), face_of(2)), tmp_path, with_faces=False, drop_image=1.0)
    assert loss_of(plain) == loss_of(other)
    assert plain.settings() == other.settings()
    assert not set(OF_IDENTITY) & set(plain.settings()) and "faces" not in plain.settings()


def test_adapter_of_another_width_is_refused(tmp_path):
    stage = toy_stage(clips_of(face_of(1), face_of(2)), tmp_path)
    stage.faces.adapter.sites["5"] = torch.nn.Module()
    stage.faces.adapter.sites["5"].to_k_ip = torch.nn.Linear(48, 96)
    with pytest.raises(InputError, match=r"identity's keys at 5 are \(96, 48\)"), stage:
        pass


def prepared(data, names=("a.mp4", "b.mp4")):
    """A folder as `portraittalk prepare` makes it."""
    for seed, name in enumerate(names):
        clip, folder = puppet_clip(seed, 4, 128), data / name
        (folder / "frames").mkdir(parents=True)
        for number in range(4):
            shown = ((clip.read(number) + 1) * 127.5).round().byte().permute(1, 2, 0)
            save_picture(shown, folder / "frames" / f"{number:06d}.png")
        save_record(clip.track, folder / TRACK)
        (folder / MARKER).write_text(json.dumps({"dropped": "", "reference": seed + 1}))
    return data


def configured(tmp_path, layout="faceid", **changes) -> AnimateTraining:
    file = tmp_path / f"{layout}.safetensors"
    save_adapter(random_adapter(layout), file)
    return AnimateTraining(tmp_path / "sd", tmp_path / "data", tmp_path / "out", identity=file, **changes)


def several(clips, count=5):
    """Clips with an embedding of several frames each."""
    frames = [range(count) for _ in clips]
    return [
        dataclasses.replace(clip, references={f: face_of(100 * n + f) for f in known})
        for n, (clip, known) in enumerate(zip(clips, frames, strict=True))
    ]


@pytest.mark.parametrize(
    ("layout", "combine", "shape"), [("faceid", "auto", 4), ("faceid", "concat", 12), ("portrait", "auto", 48)]
)
def test_references_make_the_tokens_that_painting_makes_of_them(tmp_path, layout, combine, shape):
    """Three references through the training's tokens, against the public tokens of an embedding of three pictures."""
    adapter, clips = random_adapter(layout), several([puppet_clip(0, 6)], 3)
    faces = ClipFaces(adapter, clips, FaceChoice(3, combine))
    batch = VideoData(clips, 1).at([(0, 5)], 64)
    faces.show(batch, 2, torch.tensor([False]))
    three = FaceEmbedding(torch.cat([face.face_embeds for face in clips[0].references.values()]))
    expected, nobody = adapter.tokens(three, combine)
    assert faces._rows.shape == (2, shape, expected.shape[1])
    torch.testing.assert_close(faces._rows[0], expected, atol=1e-5, rtol=0)
    faces.show(batch, 1, torch.tensor([True]))
    torch.testing.assert_close(faces._rows[0], nobody, atol=1e-5, rtol=0)


def test_references_are_other_frames_than_the_clips_where_there_are_enough():
    clips = several([puppet_clip(0, 6)])
    faces = ClipFaces(random_adapter("faceid"), clips, FaceChoice(2))
    draw, seen = torch.Generator().manual_seed(0), set()
    for _ in range(40):
        picks = faces._picks(0, range(1, 3), draw)
        assert len(set(picks)) == 2 and not set(picks) & {1, 2}
        seen |= set(picks)
    assert seen == {0, 3, 4}
    assert set(faces._picks(0, range(4), draw)) == {4}  # one is left
    assert len(faces._picks(0, range(6), draw)) == 2  # none is: then the clip's own


def test_adapter_learns_in_the_joint_stage_and_nowhere_else(tmp_path):
    clips = several(clips_of(None, None))
    stage = toy_stage(clips_of(face_of(1), face_of(2)), tmp_path, lora=True)
    assert not any(name.startswith(("identity.", "lora.")) for name in stage.trainable())
    adapter = tiny_adapter(True, stage.frozen.unet)
    faces = ClipFaces(adapter, clips, FaceChoice(2, learns=True))
    config = dataclasses.replace(stage.config, train_identity=True, references=2, batch_unit="frames",
                                 trainer=dataclasses.replace(QUICK, batch_size=6))  # fmt: skip
    learning = JointStage(stage.frozen, stage.parts, VideoData(clips, FRAMES), config, faces)
    assert learning.num_samples() == 12 and len(learning.batch(1, 0).videos) == 2
    before = {name: weight.detach().clone() for name, weight in learning.trainable().items()}
    with learning:
        train_stage(learning, dataclasses.replace(config.trainer, steps=1), tmp_path / "one")
    moved = {name for name, weight in learning.trainable().items() if not torch.equal(weight, before[name])}
    own = {name for name in before if name.startswith(("identity.", "lora."))}
    assert len(own) == 6 + 32 + 256 and own <= moved
    with pytest.raises(InputError, match="plus adapters cannot learn on"):
        ClipFaces(random_adapter("plus"), clips, FaceChoice(learns=True))


def test_missing_embedding_is_told_with_what_to_do(tmp_path):
    data = read_videos(prepared(tmp_path / "data"), 1)
    with pytest.raises(InputError, match=r"a.mp4, b.mp4: no face embedding .*name face_models"):
        read_faces(data, configured(tmp_path), lambda: None)
    with pytest.raises(InputError, match="name its file as clip_vision"):
        read_faces(data, configured(tmp_path, "plus", face_models=tmp_path), lambda: None)
    with pytest.raises(InputError, match="puppet 0: no face embedding"):
        ClipFaces(tiny_adapter(), [puppet_clip(0, 4)])


def test_missing_embedding_is_computed_once_of_the_reference_and_kept(tmp_path, monkeypatch):
    config, asked, ticks = configured(tmp_path, face_models=tmp_path), [], []

    def finder(config, stack):
        def find(picture, name):
            asked.append((name, picture))
            if name == "b.mp4":
                raise NoFaceError("no face is seen in b.mp4.")
            return face_of(1)

        return find

    monkeypatch.setattr(animate_faces, "_finder", finder)
    data = read_videos(prepared(config.data), 1)
    left, faces, dropped = read_faces(data, config, lambda: ticks.append(1))
    assert [video.name for video in left.videos] == ["a.mp4"] and len(ticks) == 2
    assert dropped == (("b.mp4", "no face is seen in b.mp4."),)
    true = ((puppet_clip(0, 4, 128).read(1) + 1) * 127.5).round().byte().permute(1, 2, 0)
    assert torch.equal(asked[0][1], true)  # frame 1 stands for the person
    assert torch.equal(load_record(FaceEmbedding, config.data / "a.mp4" / FACE).face_embeds, face_of(1).face_embeds)
    save_record(face_of(2), config.data / "b.mp4" / FACE)
    again, both, dropped = read_faces(read_videos(config.data, 1), configured(tmp_path), lambda: None)
    assert (len(again.videos), len(asked), dropped) == (2, 2, ())
    assert both.fingerprint() != faces.fingerprint()


@pytest.mark.parametrize("line", ["drop_image = 1.5", "drop_image = 0.6\ndrop_both = 0.6"])
def test_drops_that_cannot_be_are_refused(tmp_path, line, capsys):
    file = tmp_path / "animatenet.toml"
    file.write_text(f'checkpoint = "a"\ndata = "b"\nout = "c"\n{line}\n')
    assert main(["train", "animatenet", "--config", str(file)]) != 0
    assert "drop_" in capsys.readouterr().err


def test_command_line_trains_with_an_identity(tmp_path, capsys):
    config = configured(tmp_path)
    for folder in prepared(config.data).iterdir():
        save_record(face_of(len(folder.name)), folder / FACE)
    make_checkpoint(tmp_path / "sd")
    file = tmp_path / "animatenet.toml"
    file.write_text(
        'checkpoint = "sd"\ndata = "data"\nout = "out"\nidentity = "faceid.safetensors"\nresolution = 64\n'
        'style = "landmarks"\n[trainer]\nsteps = 1\nbatch_size = 2\ngradient_accumulation = 1\nsample_every = 0\n'
    )
    assert main(["train", "animatenet", "--config", str(file)]) == 0
    assert "After 1 steps" in capsys.readouterr().out
    assert (tmp_path / "out" / "animate_net.safetensors").is_file()
