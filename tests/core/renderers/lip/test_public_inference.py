"""IP-LAP's own inference on a film, against the public script written out by hand with OpenCV."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from stub_lips import puppet_film, puppet_moves, spoken

from portraittalk_core.engines.landmark_generator.engine import LandmarkGenerator
from portraittalk_core.engines.landmark_generator.network import LANDMARK_SIZES, LandmarkNet
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError
from portraittalk_core.face.lip_points import EDGES, LIP_POINTS
from portraittalk_core.pipelines.dub import dub
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.lip.contract import LipBatch, References
from portraittalk_core.renderers.lip.options import IpLapOptions
from portraittalk_core.renderers.lip.public_inference import BROWS, JAW, outline_mask
from portraittalk_core.renderers.lip.random_files import random_lip_model
from portraittalk_core.renderers.lip.renderer import LipRenderer
from portraittalk_core.speech.wav2lip_mel import wav2lip_mel
from portraittalk_core.types import Speech

FRAMES, SIDE, CROP = 9, 144, 32
GREY = 224


@pytest.fixture(autouse=True)
def _stand_in_references():
    """None: the references are the film's own here."""


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return puppet_film(tmp_path_factory.mktemp("film") / "film.mp4", puppet_moves(FRAMES))


@pytest.fixture(scope="module")
def speech() -> Speech:
    """Noise that goes on for half a second behind the film, so that its last frames hear what comes next."""
    draw = torch.Generator().manual_seed(4)
    return Speech(0.2 * torch.randn(int(16000 * (FRAMES / 25 + 0.5)), generator=draw))


@pytest.fixture(scope="module")
def engine() -> LandmarkGenerator:
    """A landmark generator whose random predictions lie within the crop."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = LandmarkNet(LANDMARK_SIZES["tiny"]).eval().requires_grad_(False)
        for layer in (net.jaw_keypoint_map, net.mouse_keypoint_map):
            layer.weight *= 0.1
            layer.bias.uniform_(0.2, 0.8)
    return LandmarkGenerator(net)


@pytest.fixture
def options(tmp_path) -> IpLapOptions:
    (tmp_path / "file").touch()
    return IpLapOptions(lips_file=tmp_path / "file", inference="script", references=5, voice_gate=0.7)


def rendered(film, speech, engine, options) -> list[np.ndarray]:
    renderer = LipRenderer(random_lip_model("iplap", seed=1), options)
    job = RenderJob.of_track(film, spoken(film), speech)
    job = replace(job, windows=renderer.windows_of(engine, film, speech))
    return [picture.numpy() for picture in renderer.render(job)]


class Script:
    """The public script on a film, step by step."""

    def __init__(self, cv2, film, speech, engine) -> None:
        self.cv2, self.track, self.net, self.count = cv2, film.track, engine.net, len(film.track)
        self.pictures = [picture.numpy()[..., ::-1].copy() for picture in film.pictures()]  # BGR
        self.points = film.track.points.double().numpy()[..., :2]
        self.boxes = [self._box(points[list(LIP_POINTS)]) for points in self.points]
        mel = wav2lip_mel(speech)
        self.chunks = [mel[:, int(k * 3.2) : int(k * 3.2) + 16] for k in range(int((mel.shape[1] - 16) / 3.2) + 1)]
        opening = [np.linalg.norm(points[0] - points[17]) for points in self.points]
        self.ranked = sorted(range(self.count), key=lambda t: opening[t])

    def _box(self, points) -> tuple[int, int, int, int]:
        low, high = np.maximum(points.min(0) - 25 / SIDE, 0), np.minimum(points.max(0) + 25 / SIDE, 1)
        return int(low[1] * SIDE), int(high[1] * SIDE), int(low[0] * SIDE), int(high[0] * SIDE)

    def unit(self, t: int) -> np.ndarray:
        """(131, 2) float32 landmarks of a frame's crop."""
        top, bottom, left, right = self.boxes[t]
        placed = self.points[t][list(LIP_POINTS)] * SIDE
        return ((placed - (left, top)) / (right - left, bottom - top)).astype(np.float32)

    def chosen(self, count: int) -> list[int]:
        return [self.ranked[int(place)] for place in torch.linspace(0, self.count - 1, steps=count)]

    def crop(self, t: int) -> torch.Tensor:
        """(3, S, S) BGR 0..1."""
        top, bottom, left, right = self.boxes[t]
        small = self.cv2.resize(self.pictures[t][top:bottom, left:right], (CROP, CROP))
        return torch.from_numpy(small).permute(2, 0, 1).float() / 255

    def sketch(self, t: int, points: np.ndarray) -> torch.Tensor:
        """(3, S, S) of (131, 2) points of a frame's crop."""
        top, bottom, left, right = self.boxes[t]
        height, width = bottom - top, right - left
        short = min(height, width)
        canvas = np.zeros((int(height * CROP / short), int(width * CROP / short), 3))
        size = np.array(canvas.shape[1::-1])
        places = {
            number: np.minimum(np.floor(point * size), size - 1).astype(int).tolist()
            for number, point in zip(LIP_POINTS, points.astype(float), strict=True)
            if (point >= 0).all() and (point <= 1).all()
        }
        for one, other in EDGES:
            if one in places and other in places:
                self.cv2.line(canvas, places[one], places[other], (GREY, GREY, GREY), 1)
        return torch.from_numpy(self.cv2.resize(canvas, (CROP, CROP))).permute(2, 0, 1).float() / 255

    def windows(self, t: int) -> torch.Tensor:
        """(5, 3, S, S) sketches of a window's own predictions."""
        net, frames = self.net, [min(t + step, self.count - 1) for step in range(-2, 3)]
        sound = net.encode_sound(torch.stack([self.chunks[max(0, t + step - 2)] for step in range(-2, 3)]))
        heads = torch.from_numpy(np.stack([self.unit(at)[:74] for at in frames]))
        faces = torch.from_numpy(np.stack([self.unit(at) for at in self.chosen(15)]))
        content = net(sound[None], net.encode_pose(heads)[None], net.encode_reference(faces)[None])[0].numpy()
        whole = [np.concatenate([self.unit(at)[:74], mouth]) for at, mouth in zip(frames, content, strict=True)]
        return torch.stack([self.sketch(at, points) for at, points in zip(frames, whole, strict=True)])

    def pasted(self, t: int, painted: torch.Tensor) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        top, bottom, left, right = self.boxes[t]
        made, picture = self.pictures[t].copy(), self.pictures[t]
        levels = (painted.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        made[top:bottom, left:right] = self.cv2.resize(levels, (right - left, bottom - top))
        outline = self.track.points_px[t, [*JAW, *BROWS[::-1]], :2].numpy().astype(int)
        mask = self.cv2.fillConvexPoly(np.zeros((SIDE, SIDE, 1), np.uint8), outline, 255)
        share = np.tile(self.cv2.GaussianBlur(mask, (21, 21), 11)[..., None] / 255, (1, 1, 3))
        return (made * share + picture * (1 - share)).astype(np.uint8)[..., ::-1]


def test_a_whole_film_is_the_scripts_but_for_its_last_two_frames(film, speech, engine, options):
    """Within a grey level; the first picture stands for the first three."""
    script = Script(pytest.importorskip("cv2"), film, speech, engine)
    model, faces = random_lip_model("iplap", seed=1), script.chosen(5)
    pictures = torch.stack([script.crop(at).flip(0) for at in faces])  # RGB, as the model is given it
    drawn = torch.stack([script.sketch(at, script.unit(at)) for at in faces])
    features = model.encode(References(pictures, drawn, pictures[:0], drawn[:0]))
    made = rendered(film, speech, engine, options)
    assert len(made) == FRAMES and np.array_equal(made[0], made[2]) and np.array_equal(made[1], made[2])
    for t in range(2, FRAMES - 2):
        batch = LipBatch(script.crop(t).flip(0)[None], script.windows(t)[None], script.chunks[max(0, t - 2)][None])
        expected = script.pasted(t, model.paint(features, batch)[0].flip(0))
        differs = np.abs(made[t].astype(int) - expected)
        assert differs.max() <= 1 and (differs > 0).mean() < 0.001
        assert np.abs(expected.astype(int) - script.pictures[t][..., ::-1]).max() > 40  # something was painted


def test_the_networks_see_the_same_where_our_own_paste_is_kept(film, speech, engine, options):
    """`public` pastes what `script` paints: between the lips, where both masks are whole, unsharpened."""
    ours = replace(
        options, inference="public", match_colour=0.0, sharpen=0.0, voice_gate=0.0, max_yaw=90.0, blend="box"
    )
    script, public = (np.stack(rendered(film, speech, engine, one)[3:7]) for one in (options, ours))
    for number, points in enumerate(film.track.points_px[3:7]):
        x, y = points[13:15, :2].mean(0).long().tolist()
        assert np.abs(script[number, y, x].astype(int) - public[number, y, x]).max() <= 2
    assert np.abs(script.astype(int) - public).max() > 20  # at the crop's corners


def test_the_voice_gate_holds_predicted_mouths_back(film, speech, engine, options):
    silent = Speech(torch.zeros_like(speech.waveform))
    held, free = (
        np.stack(rendered(film, silent, engine, replace(options, inference="public", voice_gate=gate)))
        for gate in (1.0, 0.0)
    )
    assert np.abs(held.astype(int) - free).max() > 5


def test_masks_are_what_the_script_pastes(film, speech, engine, options):
    renderer = LipRenderer(random_lip_model("iplap", seed=1), options)
    job = RenderJob.of_track(film, spoken(film), speech)
    job = replace(job, windows=renderer.windows_of(engine, film, speech))
    masks = list(renderer.masks(job))
    assert len(masks) == FRAMES and torch.equal(masks[0], masks[2]) and not torch.equal(masks[2], masks[4])
    expected = outline_mask(film.track.points_px[4], SIDE, SIDE)
    assert torch.equal(masks[4], expected.float() / 255) and masks[4].max() == 1 and masks[4][0].max() == 0


def test_a_face_beyond_the_picture_has_an_empty_mask(film):
    beyond = film.track.points_px[0] + 3 * SIDE
    assert outline_mask(beyond, SIDE, SIDE).max() == 0


@pytest.mark.parametrize(
    ("fps", "windowed", "told"),
    [
        (Fraction(30), True, "IP-LAP's own, for 25 frames a second, and film.mp4 has 30; convert it first (ffmpeg -i"),
        (Fraction(25), False, "needs an engine's windows of a dub with one speaker; take `inference` own"),
    ],
)
def test_what_the_script_cannot_do_is_refused(film, speech, engine, options, fps, windowed, told):
    renderer = LipRenderer(random_lip_model("iplap"), options)
    other = replace(film, track=replace(film.track, fps=fps))
    job = RenderJob.of_track(other, spoken(other), speech)
    job = replace(job, windows=renderer.windows_of(engine, other, speech) if windowed else None)
    with pytest.raises(InputError) as error:
        next(renderer.render(job))
    assert told in str(error.value)


def test_a_picture_is_refused(astronaut, speech, options):
    job = RenderJob.of_track(astronaut, astronaut.landmarks, speech)
    with pytest.raises(InputError, match="for films, not for the picture astronaut"):
        next(LipRenderer(random_lip_model("iplap"), options).render(job))


def test_a_dub_asks_its_engine_for_windows(film, speech, engine, options, tmp_path):
    from portraittalk_core.motion.options import MotionOptions

    renderer = LipRenderer(random_lip_model("iplap", seed=1), options)
    told = {"engine": open_engine(), "renderer": renderer}
    with pytest.raises(InputError, match="the engine is embedded; give its file, landmarkgenerator_checkpoint.pth"):
        dub(film, speech, tmp_path / "o.mp4", MotionOptions(), **told)
    made = dub(film, speech, tmp_path / "o.mp4", MotionOptions(), **{**told, "engine": engine})
    assert Path(made.path).exists() and made.num_frames == FRAMES


@pytest.mark.slow
def test_a_film_whose_numbers_lie_in_files_is_dubbed_the_same(film, speech, engine, options, tmp_path, monkeypatch):
    """As those of a long one do: track, new mouth, speech, and the film played again."""
    from portraittalk_core import memory_map
    from portraittalk_core.motion.dub_options import DubOptions
    from portraittalk_core.motion.options import MotionOptions

    made = []
    more = {"engine": engine, "dub_options": DubOptions(film_end="loop"), "crf": 0}
    for most in (memory_map.MOST_IN_MEMORY, 1):
        monkeypatch.setattr(memory_map, "MOST_IN_MEMORY", most)
        renderer = LipRenderer(random_lip_model("iplap", seed=1), replace(options, inference="own"))
        dub(film, speech, tmp_path / f"{most}.mp4", MotionOptions(), renderer=renderer, **more)
        made.append((tmp_path / f"{most}.mp4").read_bytes())
    assert made[0] == made[1]
