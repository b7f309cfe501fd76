"""Motion of an engine that makes keypoints, on a portrait: from its own face on, with the engine's lips or ours."""

from dataclasses import replace

import made_voice
import pytest
import tiny_joyvasa
import torch

from portraittalk_core.engines.contract import EngineFiles
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.errors import InputError
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines.talk import talk
from portraittalk_core.renderers.contract import Film, RenderJob
from portraittalk_core.renderers.implicit.driving import Driving
from portraittalk_core.renderers.implicit.engine_motion import carried
from portraittalk_core.renderers.implicit.files import random_model
from portraittalk_core.renderers.implicit.options import KeypointRenderOptions
from portraittalk_core.renderers.implicit.renderer import ImplicitRenderer
from portraittalk_core.types import KeypointTrack, Speech

LAYOUT = "liveportrait-21"
LIPS = [6, 12, 14, 17, 19, 20]  # of LivePortrait's public code
OTHERS = [point for point in range(21) if point not in LIPS]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return open_engine(EngineFiles(tiny_joyvasa.write_joyvasa(tmp_path_factory.mktemp("joyvasa"))))


@pytest.fixture
def speech() -> Speech:
    return Speech(made_voice.syllables(0.6))


def face_of(num: int, generator: torch.Generator) -> KeypointTrack:
    expression, still = torch.randn(num, 21, 3, generator=generator), torch.zeros(num, 3)
    return KeypointTrack(expression, still, still, torch.ones(num), torch.ones(num, dtype=torch.bool), 25, LAYOUT)


def test_a_motion_of_nobody_goes_on_from_the_source_with_its_own_lips():
    """As JoyVASA's public code: δ = δs + δi − δ0 and R = Ri R0ᵀ Rs, but for the lips, whose δ is δi."""
    generator = torch.Generator().manual_seed(0)
    motion, source = face_of(4, generator), face_of(1, generator)
    (made,) = carried(iter([motion]), source, of_nobody=True)
    expected = source.expression + motion.expression - motion.expression[:1]
    torch.testing.assert_close(made.expression[:, OTHERS], expected[:, OTHERS], atol=1e-6, rtol=0)
    torch.testing.assert_close(made.expression[:, LIPS], motion.expression[:, LIPS], atol=1e-6, rtol=0)
    (other,) = carried(iter([motion]), source)
    torch.testing.assert_close(other.expression, expected, atol=1e-6, rtol=0)


def driven(astronaut, track, speech=None, of_nobody=True, **options):
    renderer = ImplicitRenderer(random_model(LAYOUT)[0], None, KeypointRenderOptions(**options))
    job = RenderJob(astronaut, (track,), len(track), track.fps, speech, None, of_nobody)
    face, *_ = renderer._encoded(job)
    spans = list(Driving(renderer, job).of_portrait(face))
    return torch.cat([span.expression for span in spans]), face


@pytest.mark.slow
def test_our_lips_come_on_the_engines_head(astronaut, engine, speech):
    track = engine.track(speech, MotionOptions(head_motion=0.0))
    own, _ = driven(astronaut, track, speech)
    ours, _ = driven(astronaut, track, speech, lips="ours")
    assert torch.equal(own[:, OTHERS], ours[:, OTHERS])
    assert not torch.equal(own[:, LIPS], ours[:, LIPS])
    silent, _ = driven(astronaut, track, Speech(torch.zeros(len(speech.waveform))), lips="ours")
    assert torch.equal(silent[:, OTHERS], ours[:, OTHERS])
    assert float(silent[:, LIPS].std(0).max()) < 1e-6 < float(ours[:, LIPS].std(0).max())  # a head that is still


def test_our_lips_need_speech_and_a_portrait(astronaut, engine, speech, tmp_path):
    track = engine.track(speech)
    with pytest.raises(InputError, match="`lips` ours are made of the speech"):
        driven(astronaut, track, None, lips="ours")
    face = astronaut.landmarks
    filmed = replace(face, points=face.points.expand(15, -1, -1), valid=torch.ones(15, dtype=torch.bool))
    job = RenderJob(Film(tmp_path / "f.mp4", filmed), (track,), 15, track.fps, speech)
    with pytest.raises(InputError, match="`lips` ours are for portraits"):
        Driving(ImplicitRenderer(random_model(LAYOUT)[0], None, KeypointRenderOptions(lips="ours")), job)


def test_a_renderer_that_draws_no_keypoints_is_named_before_the_engine_works(astronaut, engine, speech, tmp_path):
    def stop(done: int, total: int) -> None:
        raise AssertionError("it works already")

    busy = replace_spans(engine, stop)
    with pytest.raises(InputError, match="joyvasa makes keypoints of liveportrait-21.*take the renderer liveportrait"):
        talk(astronaut, speech, tmp_path / "v.mp4", engine=busy)
    other = ImplicitRenderer(random_model("face-vid2vid-15")[0])
    with pytest.raises(InputError, match="joyvasa makes keypoints of liveportrait-21"):
        talk(astronaut, speech, tmp_path / "v.mp4", engine=busy, renderer=other)
    assert not list(tmp_path.iterdir())


def replace_spans(engine, called):
    class Busy:
        name, makes = engine.name, engine.makes

        def spans(self, *_):
            called(0, 1)

    return Busy()


def test_talk_renders_the_engines_motion(astronaut, engine, speech, tmp_path):
    model, retargeting = random_model(LAYOUT)
    result = talk(
        astronaut, speech, tmp_path / "v.mp4", MotionOptions(fps=12), engine=engine,
        renderer=ImplicitRenderer(model, retargeting),
    )  # fmt: skip
    assert result.num_frames == 8 and (tmp_path / "v.mp4").is_file()
