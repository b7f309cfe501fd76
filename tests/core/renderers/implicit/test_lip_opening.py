"""Asked against measured opening: numbers against numpy, the meter, plots and the command."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from reading_model import FaceReader, OpeningMesh, block_picture

from portraittalk_core.cli.main import main
from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.mesh.landmarks import open_mesh
from portraittalk_core.media.records import save_record
from portraittalk_core.motion.keypoint_regions import known_basis
from portraittalk_core.motion.rig import plan_landmarks
from portraittalk_core.plots.curves import COLOURS
from portraittalk_core.plots.lip_opening import plot_opening
from portraittalk_core.renderers.contract import RenderJob
from portraittalk_core.renderers.implicit.bridges import keypoints_of_landmarks, lip_ratio
from portraittalk_core.renderers.implicit.lip_opening import (
    LipOpening,
    OpeningMeter,
    target_opening,
)
from portraittalk_core.renderers.implicit.options import KeypointRenderOptions
from portraittalk_core.renderers.implicit.renderer import ImplicitRenderer
from portraittalk_core.types import KeypointTrack, LandmarkTrack

FPS = Fraction(25)
SHUT = 0.04  # the mesh measures .00 to .03 on shut lips


def opening(num_frames: int = 30, noise: float = 0.02) -> LipOpening:
    draw = torch.Generator().manual_seed(0)
    asked = torch.rand(num_frames, generator=draw)
    return LipOpening(asked, 0.7 * asked + 0.1 + noise * torch.randn(num_frames, generator=draw), FPS)


def test_numbers_are_numpys():
    measured = opening()
    r = np.corrcoef(measured.target, measured.measured)[0, 1]
    slope, offset = np.polyfit(measured.target, measured.measured, 1)
    assert measured.correlation == pytest.approx(r, abs=1e-6)
    assert measured.line == pytest.approx((slope, offset), abs=1e-5)
    told = measured.summary()
    assert told["correlation"] == round(r, 4) and told["slope"] == pytest.approx(slope, abs=1e-4)
    distance = np.abs(measured.target.numpy() - measured.measured.numpy()).mean()
    assert told["mean_distance"] == pytest.approx(distance, abs=1e-4)
    assert told["num_frames"] == 30 and told["num_faceless"] == 0


def test_frames_without_a_face_do_not_count():
    whole = opening()
    values = whole.measured.clone()
    values[5:9] = math.nan
    gappy = LipOpening(whole.target, values, FPS)
    kept = torch.cat([torch.arange(5), torch.arange(9, 30)])
    assert gappy.correlation == pytest.approx(LipOpening(whole.target[kept], values[kept], FPS).correlation)
    assert gappy.summary()["num_faceless"] == 4 and gappy.detected.sum() == 26


def test_a_still_mouth_has_no_correlation():
    still = LipOpening(torch.full((5,), 0.2), torch.full((5,), 0.2), FPS)
    assert math.isnan(still.correlation) and math.isnan(still.line[0])
    told = json.loads(json.dumps(still.summary()))
    assert told["correlation"] is None and told["slope"] is None and told["mean_asked"] == 0.2
    blind = LipOpening(torch.full((5,), 0.2), torch.full((5,), math.nan), FPS)
    assert blind.summary()["mean_measured"] is None


def test_lengths_must_fit():
    with pytest.raises(ShapeError, match="the measured opening must have shape"):
        LipOpening(torch.zeros(5), torch.zeros(4), FPS)
    with pytest.raises(InputError, match="NaN"):
        LipOpening(torch.full((2,), math.nan), torch.zeros(2), FPS)


def test_meter_measures_pictures_on_their_way():
    meter, wanted = OpeningMeter(OpeningMesh(), FPS), [0.0, 0.4, None, 0.8, 0.1]
    pictures = [block_picture(value) for value in wanted]
    passed = list(meter.watching(iter(pictures)))
    assert all(a is b for a, b in zip(passed, pictures, strict=True))
    expected = [math.nan if value is None else value for value in wanted]
    np.testing.assert_allclose(meter.measured, expected, atol=0.02)
    asked = torch.tensor([0.0, 0.4, 0.2, 0.8, 0.1, 0.9])  # a frame more than was rendered
    found = meter.against(asked)
    assert len(found) == 5 and found.correlation > 0.99 and found.line[0] == pytest.approx(1, abs=0.05)
    with pytest.raises(InputError, match="5 pictures were measured, but the opening of 3 frames was asked for"):
        meter.against(asked[:3])


def test_target_opening_of_either_kind_of_track():
    points = canonical_face()[None].repeat(3, 1, 1) * 20 + 60
    points[:, 14, 1] += torch.tensor([0.0, 4.0, 8.0])
    landmarks = LandmarkTrack.from_px(points, 128, 128, FPS)
    assert torch.equal(target_opening(landmarks), lip_ratio(landmarks.points_px))
    mouth = torch.tensor([0.0, 0.3, 0.1, 0.0])
    count = len(mouth)
    keypoints = KeypointTrack(
        mouth[:, None, None] * known_basis("liveportrait-21").parting, torch.zeros(count, 3), torch.zeros(count, 3),
        torch.ones(count), torch.ones(count, dtype=torch.bool), FPS, "liveportrait-21",
    )  # fmt: skip
    torch.testing.assert_close(target_opening(keypoints), mouth, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["landmarks", "keypoints"])
def test_alpha_opens_a_rendered_mouth_strictly_and_shuts_it_at_0(small, make_plan, kind):
    """The whole renderer with a model that reads and draws a mouth's opening: what is measured follows alpha."""
    motion = plan_landmarks(make_plan(small.landmarks, opening=[0.3, 0.9, 0.6]))
    with open_mesh() as mesh:
        model = FaceReader(mesh)
        if kind == "keypoints":
            motion = next(keypoints_of_landmarks(model, small, [motion]))
        means = []
        for alpha in (0, 0.5, 1, 1.5):
            renderer = ImplicitRenderer(model, None, KeypointRenderOptions(alpha=alpha, paste="crop"))
            meter = OpeningMeter(OpeningMesh(), FPS)
            assert len(list(meter.watching(renderer.render(RenderJob.of_track(small, motion))))) == 3
            means.append(float(meter.measured.mean()))
    assert means[0] <= SHUT and all(low < high for low, high in itertools.pairwise(means)), means


def count(picture: torch.Tensor, colour: str) -> int:
    rgb = torch.tensor([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int(((picture.int() - rgb).abs().amax(-1) < 24).sum())


def test_plots_draw_what_was_asked_and_measured():
    plain = plot_opening(opening(), "hello")
    assert plain.dtype == torch.uint8 and plain.shape[1:] == (1200, 3)
    assert min(count(plain, colour) for colour in COLOURS[:2]) > 200
    whole = opening()
    values = whole.measured.clone()
    values[5:9] = math.nan
    gappy = plot_opening(LipOpening(whole.target, values, FPS))
    assert count(gappy, "#fdf1b8") > count(plain, "#fdf1b8") + 1000
    assert plot_opening(LipOpening(torch.zeros(1), torch.full((1,), math.nan), FPS)).shape == plain.shape


def test_the_command_plots_a_rendered_video_against_its_track(tmp_path, write_video, monkeypatch, capsys):
    monkeypatch.setattr("portraittalk_core.face.mesh.landmarks.open_mesh", lambda *_, **__: OpeningMesh())
    values = [0.0, 0.5, 0.2, 0.7, 0.4, 0.1]
    points = canonical_face()[None].repeat(6, 1, 1) * 20 + 60
    points[:, 14, 1] = points[:, 13, 1] + torch.tensor(values) * (points[:, 291] - points[:, 61])[:, 0]
    track = save_record(LandmarkTrack.from_px(points, 128, 128, FPS), tmp_path / "t.safetensors")
    video = write_video([block_picture(value).numpy() for value in [*values, 0.9]])
    words = ["plot", "--track", str(track), "--out", str(tmp_path / "a.png")]
    assert main([*words, "--measured", str(video)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert told["num_frames"] == 6 and told["correlation"] > 0.95
    assert main([*words, "--measured", str(video), "--speech", str(video)]) == 2
    assert "--speech cannot be used with --measured" in capsys.readouterr().err
