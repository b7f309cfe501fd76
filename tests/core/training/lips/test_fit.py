import dataclasses
import json

import pytest
import torch
from toy_puppet import FPS, draw_puppet, motion, track_of

from portraittalk_core.errors import InputError
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.contract import Film
from portraittalk_core.renderers.lip.files import open_lip_model
from portraittalk_core.renderers.lip.random_files import write_random_lip_files
from portraittalk_core.training.lips import fit as fitting
from portraittalk_core.training.lips.fit import fit_key, fit_to_film
from portraittalk_core.types import SPEECH_RATE_HZ, Speech

pytest.importorskip("accelerate")
pytestmark = pytest.mark.usefixtures("one_thread")
FRAMES, SIDE, MINUTES = 60, 96, 0.02


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path, moves = tmp_path_factory.mktemp("film") / "film.mp4", motion(FRAMES, 3)
    with VideoWriter(path, SIDE, SIDE, FPS, crf=4) as writer:
        for move in moves:
            picture = draw_puppet(move, torch.tensor([0.3, 0.3, -0.4]), SIDE)
            writer.write(((picture + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous())
    return Film(path, track_of(moves, SIDE))


@pytest.fixture(scope="module")
def speech():
    opening = motion(FRAMES, 3)[:, 3].repeat_interleave(SPEECH_RATE_HZ // int(FPS))
    return Speech(0.4 * opening * torch.sin(torch.arange(len(opening)) * 0.2))


@pytest.fixture(scope="module")
def lips(tmp_path_factory):
    return write_random_lip_files(tmp_path_factory.mktemp("weights"), "lips")[0]


@pytest.fixture
def few_steps(monkeypatch):
    """The same steps on every machine, and few frames of a score."""
    monkeypatch.setattr(fitting, "PROBE", 2)
    monkeypatch.setattr(fitting, "LEAST_STEPS", 4)
    monkeypatch.setattr(fitting, "SCORED", 4)
    ticks = iter(range(10**6))
    monkeypatch.setattr(fitting, "_now", lambda: float(next(ticks)))  # a second a step


@pytest.mark.slow
def test_fit_learns_the_film_and_is_found_again(film, speech, lips, tmp_path, few_steps, monkeypatch):
    first = fit_to_film(film, speech, lips, tmp_path, MINUTES)
    assert first.steps == 4 and not first.was_there
    assert first.held_back_s == pytest.approx(10 / 25)  # of 60 frames, two windows
    given, learnt = (open_lip_model(path).state_dict() for path in (lips, first.lips))
    assert given.keys() == learnt.keys() and not all(torch.equal(given[name], learnt[name]) for name in given)
    assert first.before != first.after
    assert first.helps == (first.after.psnr_db > first.before.psnr_db)
    folder = first.lips.parent
    assert not (folder / "crops").exists() and not (folder / "checkpoints").exists()  # what only training needs
    monkeypatch.setattr(fitting, "train_stage", None)
    monkeypatch.setattr(fitting, "train_lip_model", None)
    again = fit_to_film(film, speech, lips, tmp_path, MINUTES)
    assert again == dataclasses.replace(first, was_there=True)
    (folder / "result.json").write_text("{")
    with pytest.raises(TypeError):  # what was broken is made again
        fit_to_film(film, speech, lips, tmp_path, MINUTES)


@pytest.mark.slow
def test_stopped_fit_goes_on_to_the_end_that_was_planned(film, speech, lips, tmp_path, few_steps, monkeypatch):
    class Stop(Exception):
        pass

    def stop(done, total):
        if done == 3:
            raise Stop

    with pytest.raises(Stop):
        fit_to_film(film, speech, lips, tmp_path, MINUTES, stop)
    monkeypatch.setattr(fitting, "LEAST_STEPS", 6)  # a faster machine would plan more
    told = []
    result = fit_to_film(film, speech, lips, tmp_path, MINUTES, lambda *now: told.append(now))
    assert result.steps == 4
    assert told[-1] == (4, 4) and told[0][0] > 2  # from the last checkpoint
    lines = [json.loads(line) for line in (result.lips.parent / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4]


def test_minutes_become_steps_of_the_time_that_they_take(film, speech, lips, tmp_path, few_steps):
    windows, _, _ = fitting._parts(fitting._clip_of(film, speech, open_lip_model(lips), tmp_path), 32)
    assert fitting._planned_steps(open_lip_model(lips), windows, lips, tmp_path, 0.5) == 30  # a second each


def test_key_is_of_the_film_its_face_the_file_and_the_time(film, lips, tmp_path):
    key = fit_key(film, lips, 1.0)
    assert fit_key(Film(film.path, film.track), lips, 1.0) == key
    moved = dataclasses.replace(film.track, points=film.track.points + 0.01)
    other = tmp_path / "other.mp4"
    other.write_bytes(film.path.read_bytes() + b"\0")
    weights = write_random_lip_files(tmp_path, "lips", seed=1)[0]
    keys = [fit_key(Film(film.path, moved), lips, 1.0), fit_key(Film(other, film.track), lips, 1.0),
            fit_key(film, weights, 1.0), fit_key(film, lips, 2.0)]  # fmt: skip
    assert len({key, *keys}) == 5


def test_film_that_cannot_be_learnt_from_is_refused(film, speech, lips, tmp_path):
    hidden = dataclasses.replace(film.track, valid=torch.arange(FRAMES) < 30)
    with pytest.raises(InputError, match=r"needs 2 s of film that show the face, but film\.mp4 shows it for 1\.2 s"):
        fit_to_film(Film(film.path, hidden), speech, lips, tmp_path, MINUTES)
    with pytest.raises(InputError, match="own sound, but film.mp4 has none"):
        fit_to_film(film, None, lips, tmp_path, MINUTES)
    other = write_random_lip_files(tmp_path / "iplap", "iplap")[0]
    with pytest.raises(InputError, match="train lips"):
        fit_to_film(film, speech, other, tmp_path, MINUTES)
