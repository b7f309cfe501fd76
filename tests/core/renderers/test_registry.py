"""One registry of renderers, and one from outside in one file."""

from __future__ import annotations

import importlib
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from portraittalk_core.cli.main import build_parser, main
from portraittalk_core.errors import InputError
from portraittalk_core.media.image import save_picture
from portraittalk_core.media.video_read import read_pictures
from portraittalk_core.renderers import RenderJob, open_renderer, registry, renderer_specs
from portraittalk_core.renderers.contract import RendererSpec
from portraittalk_core.renderers.warp.build import portrait_renderer
from portraittalk_core.renderers.warp.options import WarpOptions

LIP_RENDERERS = ["lips", "iplap", "musetalk"]
SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"


@pytest.fixture
def flat():
    """The renderer of tests/support/outside_renderer.py, for one test."""
    sys.modules.pop("outside_renderer", None)
    yield importlib.import_module("outside_renderer").SPEC
    registry.unregister("flat")


def test_renderers_are_listed_without_torch():
    words = (
        "import sys; sys.modules['torch'] = None\n"
        "from portraittalk_core.renderers import renderer_specs\n"
        "print(*(spec.name for spec in renderer_specs()))"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["warp", "identitynet", "vexpress", "liveportrait", "facevid2vid", *LIP_RENDERERS]


def test_films_are_for_some_renderers_only():
    of_films = ["warp", "identitynet", "vexpress", "liveportrait", "facevid2vid", *LIP_RENDERERS]
    assert [spec.name for spec in renderer_specs("film")] == of_films
    registry.register(RendererSpec("still", "shows the portrait", WarpOptions, lambda _: None))
    try:
        words = f"renderer of a film must be one of {', '.join(of_films)}, not 'still'"
        with pytest.raises(InputError, match=words):
            registry.renderer_spec("still", "film")
    finally:
        registry.unregister("still")


def test_an_unknown_renderer_or_option_is_told_with_those_there_are():
    with pytest.raises(InputError, match="renderer must be one of warp, identitynet, vexpress, .*, not 'oil'"):
        open_renderer("oil")
    with pytest.raises(InputError, match="the renderer warp has no option 'steps'; it has background"):
        open_renderer("warp", steps=4)
    with pytest.raises(InputError, match="the renderer identitynet has no option 'sharpness'; it has .*checkpoint"):
        open_renderer("identitynet", sharpness=4)
    with pytest.raises(InputError, match="`renderer` identitynet needs `checkpoint` FILE: any SD1.5 checkpoint"):
        open_renderer("identitynet")


@pytest.mark.slow
def test_the_warp_draws_a_job_as_the_portrait_renderer_does(astronaut, make_plan):
    from portraittalk_core.motion.rig import make_rig, plan_landmarks

    plan = make_plan(astronaut.landmarks, opening=[0.0, 0.5, 1.0])
    track = plan_landmarks(plan, 0, 3, make_rig(plan.reference))
    spans = (track.slice(i, i + 1) for i in range(3))
    drawn = list(open_renderer().render(RenderJob(astronaut, spans, 3, track.fps)))
    renderer = portrait_renderer(astronaut)
    assert renderer.composite is not None  # she is cut out
    assert all(torch.equal(a, b) for a, b in zip(drawn, renderer.render(track), strict=True))


def test_a_job_without_frames_is_refused(astronaut):
    with pytest.raises(InputError, match="0 frames"):
        RenderJob(astronaut, (), 0, Fraction(25))


def test_a_second_renderer_of_a_name_is_refused(flat):
    with pytest.raises(InputError, match="there is a renderer 'flat' already"):
        registry.register(flat)


@pytest.mark.slow
def test_a_renderer_from_outside_is_a_choice_with_checked_options(flat, astronaut, tmp_path, capsys):
    save_picture(astronaut.picture, tmp_path / "p.png")
    words = ["talk", "--portrait", str(tmp_path / "p.png"), "--speech", str(SAMPLE), "--out", str(tmp_path / "o.mp4")]
    assert "grey level of every picture" in build_parser()._subparsers._group_actions[0].choices["talk"].format_help()
    assert main([*words, "--renderer", "flat", "--shade", "999"]) == 2
    assert "--shade must lie between 0 and 255, but is 999" in capsys.readouterr().err
    assert main([*words, "--shade", "40"]) == 2
    assert "--shade cannot be used with warp; leave it out, or take --renderer flat" in capsys.readouterr().err
    assert main([*words, "--renderer", "flat", "--shade", "40"]) == 0
    pictures = list(read_pictures(tmp_path / "o.mp4"))
    assert len(pictures) > 100 and all(abs(float(p.float().mean()) - 40) < 2 for p in pictures[::40])
