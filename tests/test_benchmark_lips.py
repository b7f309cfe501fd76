"""The benchmark of the lip renderer runs through on few drawn people, and its measures are right."""

from __future__ import annotations

import dataclasses
import sys
from argparse import Namespace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import lips, lips_scores, lips_subjects, lips_tables, lips_training  # noqa: E402
from benchmarks.lips_puppet import SIDE, Acting, Person, draw_person, person_clip  # noqa: E402
from portraittalk_core.errors import InputError  # noqa: E402
from portraittalk_core.face.lip_points import LIP_POINTS  # noqa: E402


@pytest.mark.slow
def test_parts_of_the_lip_renderer_are_measured(monkeypatch, capsys, tmp_path):
    pytest.importorskip("accelerate")
    pytest.importorskip("kornia")
    for name, value in (
        ("PEOPLE", 1),
        ("NEW_PEOPLE", 2),
        ("LENGTH", 24),
        ("NEW_LENGTH", 24),
        ("FACES_TRIED", (1, 2)),
        ("LIPS_TRIED", (1,)),
    ):
        monkeypatch.setattr(lips_tables if hasattr(lips_tables, name) else lips_subjects, name, value)
    words = ["lips", "--steps", "2", "--batch", "2", "--cost", "tiny", "--seed", "3", "4"]
    words += ["--only", "no references", "full", "no sound"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *words, "--out", str(tmp_path)])
    assert command.main() in (0, 1)  # two steps teach nothing
    told = capsys.readouterr().out
    titles = ("parts of the network", "number of references", "number of lip references", "cost of references")
    assert all(title in told for title in titles)
    assert told.count("by training") == 4
    assert "our warp of one frame" in told and "next clip's lips" in told
    assert told.index("covered references") < told.index("full over no sound")  # each part where it alone knows
    assert told.index("full over no sound") < told.index("any references") < told.index("full over no references")
    from PIL import Image

    assert Image.open(tmp_path / "covered" / "lips_sheet.png").size == (
        2 * 3 * 32,
        5 * 32,
    )  # true, two networks, a mouth over the warp, the warp


def clips(*rows):
    """Scores of one training's clips: PSNR, PSNR at the mouth, and LMD of each."""
    return [[lips_scores.Score(psnr, mouth, float("nan"), 0.9, away) for psnr, mouth, away in rows]]


def test_the_full_network_has_to_win(capsys):
    full = clips((30.0, 25.0, 1.0), (32.0, 27.0, 1.2))
    scores = {"full": full, "unwarped mean": clips((29.0, 26.0, 1.5), (31.0, 28.0, 1.7))}
    assert not lips_scores.verdict(scores)
    nearer_lips = clips((29.0, 24.0, 0.9), (31.0, 26.0, 1.1))
    assert lips_scores.verdict({**scores, "no lips": nearer_lips}) == {"no lips"}
    assert "MISS full over no lips: -0.100 ± 0.000 px nearer lips" in capsys.readouterr().out
    assert not lips_scores.verdict(scores)
    at_the_mouth = clips((29.0, 25.5, 1.1), (31.0, 27.5, 1.3))
    assert lips_scores.verdict({**scores, "no sound": at_the_mouth}) == {"no sound"}  # sound acts at the mouth
    told = capsys.readouterr().out
    assert "ok   full over unwarped mean: +1.00 ± 0.00 dB of the lower half" in told
    assert "MISS full over no sound: -0.50 ± 0.00 dB at the mouth" in told
    del scores["full"]
    assert not lips_scores.verdict(scores)


def test_a_gain_that_may_be_chance_is_told_as_weak(capsys):
    full = clips((30.0, 25.0, 1.0), (30.0, 27.0, 1.0), (30.0, 26.0, float("nan")))
    other = clips((30.0, 26.0, 1.1), (30.0, 24.0, 1.1), (30.0, 25.5, 1.0))
    assert not lips_scores.verdict({"full": full, "no sound": other}, " of all")
    told = capsys.readouterr().out
    assert "weak full over no sound of all: +0.83 ± 1.17 dB at the mouth" in told  # −1, 3 and 0.5
    assert "ok   full over no sound of all: +0.100 ± 0.000 px nearer lips" in told  # the third tells no lips


def test_several_trainings_are_judged_by_their_mean(capsys):
    full = clips((30, 25, 1.0), (30, 27, 1.0)) + clips((30, 26, 1.3), (30, 28, 1.3))
    other = clips((30, 24, 1.1), (30, 26, 1.1)) + clips((30, 26, 1.1), (30, 28, 1.1))
    assert lips_scores.verdict({"full": full, "no lips": other}) == {"no lips"}
    told = capsys.readouterr().out
    assert "weak full over no lips: +0.50 ± 0.50 dB at the mouth (by training +1.00, +0.00)" in told
    assert "MISS full over no lips: -0.050 ± 0.150 px nearer lips (by training +0.100, -0.200)" in told
    assert lips_scores.mean_of_seeds(full).mouth_db == 26.5


def test_references_that_these_people_do_not_have_are_refused(tmp_path):
    for given in ({"clips": tmp_path, "references": "covered"}, {"clips": None, "references": "closed"}):
        with pytest.raises(InputError, match="not for these people"):
            lips.worlds(Namespace(lips_file=None, **given))
    assert set(lips.worlds(Namespace(lips_file=None, clips=tmp_path, references=None))) == {"any", "closed"}


def test_speakers_trained_on_come_first_and_together(tmp_path):
    (tmp_path / "train.txt").write_text("s1/a.mpg\ns4/b.mpg\n")
    names = ["s30/x.mpg", "s1/c.mpg", "s4/d.mpg", "s1/e.mpg"]
    held_out = [SimpleNamespace(video=SimpleNamespace(name=name)) for name in names]
    parts = dict(lips.parted(Namespace(clips=tmp_path), held_out))
    assert list(parts.values()) == [[0, 1, 2, 3], [1, 3, 2], [1, 3], [0]]  # a speaker of one clip has no table
    assert list(parts)[:2] == ["", " of speakers trained on"]


def test_closed_references_are_of_the_most_closed_mouths_of_each_half(monkeypatch):
    opened = torch.tensor([0.5, 0.1, 0.4, 0.2, 0.3, 0.9, 0.7, 0.6, 0.8, 1.0])
    monkeypatch.setattr(lips_subjects, "mouth_open", lambda track: opened)
    monkeypatch.setattr(lips_subjects, "CLOSED", 0.5)
    usable = torch.tensor([True, False, True, True, True, True, True, True, True, True])
    clip = lips_subjects.LipClip(
        "one", torch.empty(10, 131, 2), torch.empty(10, 2), usable, usable, usable, Fraction(25), Path(), True
    )
    subject = lips_subjects.Subject(SimpleNamespace(track=None), clip, boxes=None)
    chosen = lips_subjects.closed_references(subject)
    assert chosen.clip.face_frames.nonzero().flatten().tolist() == [3, 4, 6, 7, 8]
    assert chosen.face_frames.nonzero().flatten().tolist() == [3, 4]  # of the half that is known
    assert chosen.clip.usable is usable


@pytest.mark.parametrize(
    ("ends", "expected_px"),  # an inter-ocular distance is 0.17 · 96 pixels, here of a whole frame as its own crop
    [
        ((0.02, 0.02, 0.0, 0.0), ((0.33, 0.0), (0.33, 0.0), (0.33, 0.0), (0.33, 0.0))),
        ((0.0, 0.0, 0.015, 0.015), ((0.0, 0.245), (0.0, 0.245), (0.0, 0.245), (0.0, 0.245))),
        ((0.0, 0.0, 0.0, 0.015), ((0.0, 0.1225), (0.0, 0.1225), (0.0, 0.0), (0.0, 0.245))),
    ],
)
def test_a_drawn_mouth_is_found_where_it_was_drawn(ends, expected_px):
    acting = Acting(Person.of(3), torch.tensor([[0.05, 0.0, 0.0, 0.6]]), torch.tensor([True]))
    subject = whole_frame(acting)
    moved = draw_person(acting.person, acting.moves[0], 1.0, ends=ends)
    assert torch.allclose(
        lips_scores.read_drawn(subject, [0], moved[None])[0], torch.tensor(expected_px), atol=0.08
    )  # one step of it


def test_other_lips_teeth_and_skin_far_away_do_not_move_a_drawn_mouth():
    """The measure before took skin of a lip's colour, and paler lips, for a mouth elsewhere."""
    acting = Acting(Person.of(3), torch.tensor([[0.05, 0.0, 0.0, 0.6]]), torch.tensor([True]))
    subject, person = whole_frame(acting), acting.person
    pale = dataclasses.replace(person, lips=torch.lerp(person.lips, person.skin, 0.4))
    striped = dataclasses.replace(person, waves=person.waves.flip(0))
    for other, teeth, limit in ((pale, 1.0, 0.02), (person, 0.0, 0.02), (striped, 1.0, 0.35)):
        off = lips_scores.read_drawn(subject, [0], draw_person(other, acting.moves[0], teeth, spread=1.0)[None])
        assert float(off.abs().max()) < limit


def whole_frame(acting):
    """A drawn person whose crop is the whole frame."""
    from toy_puppet import landmarks

    points = landmarks(acting.moves)[:, list(LIP_POINTS), :2]
    crop = draw_person(acting.person, acting.moves[0], 1.0)
    clip = SimpleNamespace(points=points, boxes_px=torch.full((1, 2), SIDE))
    box = SimpleNamespace(take=lambda picture, side: picture.permute(2, 0, 1) / 255)
    return SubjectStub(acting, clip, SIDE, (box,), lambda frames: crop[None])


@dataclasses.dataclass(frozen=True, eq=False)
class SubjectStub:
    """What measuring a drawn mouth asks of a subject."""

    acting: Acting
    clip: object
    side: int
    boxes: tuple
    crops: object


def test_covered_mouth_tells_nothing_of_its_colours():
    video, _, acting = person_clip(0, 60, gloved=True)
    person = acting.person
    other = dataclasses.replace(person, teeth=1 - person.teeth, inside=1 - person.inside, lips=1 - person.lips)
    for frame in range(60):
        is_covered = bool(acting.covered[frame])
        drawn = draw_person(other, acting.moves[frame], float(acting.bared[frame]), covered=is_covered)
        assert torch.allclose((video.read(frame) + 1) / 2, drawn, atol=1e-5) == is_covered
    assert int(acting.covered.sum()) == 18  # of ten syllables the second, fifth and eighth, six frames each


def test_only_the_sound_tells_whether_teeth_show():
    video, speech, acting = person_clip(0, 60)
    person = acting.person
    spectrum = torch.fft.rfft(speech.waveform.view(60, -1), dim=1).abs()
    is_high = spectrum[:, 40:].sum(1) > spectrum[:, :40].sum(1)  # above 1000 Hz
    from toy_puppet import motion

    moves = motion(60, 0)
    for frame in range(60):
        expected = draw_person(person, moves[frame], float(is_high[frame]))
        assert torch.allclose((video.read(frame) + 1) / 2, expected, atol=1e-5)
    assert 0 < int(is_high.sum()) < 60


@pytest.mark.slow
def test_networks_of_filmed_people_share_one_alignment(monkeypatch, tmp_path):
    """What they differ in is what they paint."""
    pytest.importorskip("accelerate")
    monkeypatch.setattr(lips_subjects, "PEOPLE", 1)
    monkeypatch.setattr(lips_subjects, "NEW_PEOPLE", 0)
    given = {"clips": tmp_path, "networks": "tiny", "size": 32, "keep_references": True, "decoder": "spade", "seed": 0}
    given |= {"steps": 2, "alignment_steps": 2, "batch": 2, "learning_rate": 1e-2, "nearest_lips": 1, "lip_guide": True}
    given |= {"lip_warp": True, "opening_noise": 0.5}
    args = Namespace(**given)
    rule = lips_training.new_lip_model(lips_training.plan(args, "none", tmp_path)).crop
    people = lips_subjects.drawn_people(rule, tmp_path, gloved=False)[0]
    painted = lips_subjects.dataclasses.replace(people[0], opening_noise=0.5).batch(people[0].painted_frames)
    plain = people[0].batch(people[0].painted_frames)
    assert torch.equal(painted.pictures, plain.pictures) and not torch.equal(painted.points, plain.points)
    assert not torch.equal(painted.sketches, plain.sketches)
    made = {name: lips_training.trained(name, people, args, tmp_path) for name in ("full", "no sound")}
    aligned = lips_training.open_lip_model(tmp_path / "alignment" / "lips.safetensors", name="lips").alignment
    for model in made.values():
        for name, tensor in model.alignment.state_dict().items():
            assert torch.equal(tensor, aligned.state_dict()[name])
    assert made["full"].config.nearest_lips == 1 and made["full"].usual[1] == 12
    assert made["full"].config.lip_guide
    assert made["full"].rendering.sound is not None and made["no sound"].rendering.sound is None
    assert not torch.equal(made["full"].rendering.conv_last.weight, made["no sound"].rendering.conv_last.weight)
