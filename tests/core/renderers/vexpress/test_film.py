"""V-Express on a film of two scenes, through tiny networks with random weights."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from sd15_files import make_checkpoint
from style_files import style_attention
from tiny_vexpress import CONTEXT, WIDTHS, tiny_vexpress

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.errors import InputError
from portraittalk_core.face.crop import CropOptions, plan_face_crop
from portraittalk_core.media.video_write import VideoWriter
from portraittalk_core.renderers.contract import Film, RenderJob
from portraittalk_core.renderers.vexpress.build import VExpressRenderer
from portraittalk_core.renderers.vexpress.film import Shot, film_shots, paint_film
from portraittalk_core.renderers.vexpress.latent_codec import DiffusersLatentCodec
from portraittalk_core.renderers.vexpress.pipeline import VExpressModels, VExpressOptions
from portraittalk_core.speech.encoders import GivenFeatures, SpeechFeatures
from portraittalk_core.style.attention import FrameStyles, StyleConditioning
from portraittalk_core.types import LandmarkTrack, Speech

pytestmark = pytest.mark.slow  # together they take some seconds

FPS, SIDE, FRAMES = Fraction(25), 128, 6
OPTIONS = VExpressOptions(width=64, height=64, steps=1, length=4, overlap=2, seed=3, strategy="no_retarget")


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Film:
    """Six frames: three of a dark scene, of which the first shows nobody, and three of a bright one."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with VideoWriter(path, SIDE, SIDE, FPS, crf=1) as writer:
        for level in (60, 60, 60, 180, 180, 180):
            grain = 20 * torch.rand(SIDE, SIDE, 1, generator=torch.Generator().manual_seed(level))
            writer.write((level + grain).expand(-1, -1, 3).byte().contiguous())
    points = 0.35 + 0.3 * torch.rand(1, 478, 3, generator=torch.Generator().manual_seed(1)).repeat(FRAMES, 1, 1)
    points[:, [468, 473, 1], :2] = torch.tensor([[0.42, 0.42], [0.58, 0.42], [0.5, 0.55]])
    points[4, 13, 1], points[4, 14, 1] = 0.6, 0.6  # closed lips
    valid = torch.ones(FRAMES, dtype=torch.bool)
    track = LandmarkTrack(points, valid, FPS, SIDE, SIDE)
    return Film(path, track, scenes=torch.tensor([0, 0, 0, 1, 1, 1]))


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> VExpressModels:
    file = make_checkpoint(tmp_path_factory.mktemp("sd15") / "tiny.safetensors", text=False)
    features = GivenFeatures(SpeechFeatures(noise(2 * FRAMES - 1, 64, seed=5), name="wav2vec2-base"))
    return VExpressModels(tiny_vexpress(), DiffusersLatentCodec(load_sd15(file).vae), features)


SPEECH = Speech(0.1 * noise(FRAMES * 640, seed=4))


def painted(film, models, **options):
    frames = paint_film(film, film.track, SPEECH, models, replace(OPTIONS, **options))
    return torch.stack(list(frames)).int()


def test_faces_are_painted_and_all_else_stays(film, models):
    told = []
    frames = list(paint_film(film, film.track, SPEECH, models, OPTIONS, lambda *done: told.append(done)))
    frames, filmed = torch.stack(frames).int(), torch.stack(list(film.pictures())).int()
    assert frames.shape == filmed.shape
    box = plan_face_crop(film.track, CropOptions(size=64)).box(0)
    outside = torch.ones(SIDE, SIDE, dtype=torch.bool)
    left, top, far = int(box.left), int(box.top), int(box.side) + 2
    outside[max(top, 0) : top + far, max(left, 0) : left + far] = False
    assert outside.any() and torch.equal(frames[:, outside], filmed[:, outside])
    for index in range(FRAMES):
        assert (frames[index] - filmed[index]).abs().float().mean() > 1, index
    assert told[-1][0] == told[-1][1] and [done for done, _ in told] == sorted(done for done, _ in told)
    job = RenderJob.of_track(film, film.track, SPEECH)
    renderer = VExpressRenderer(models, OPTIONS)
    assert renderer.output_size(job) == (SIDE, SIDE)
    assert torch.equal(torch.stack(list(renderer.render(job))).int(), frames)


def test_a_scene_refers_to_its_own_frames_and_knows_no_other(film, models):
    assert film_shots(film)[1].reference == 4 and film_shots(film)[0].stop == 3
    valid = film.track.valid.clone()
    valid[:3] = False
    hidden = replace(film, track=replace(film.track, valid=valid))
    assert film_shots(hidden) == [Shot(3, 6, 4)]
    frames, filmed = painted(hidden, models), torch.stack(list(film.pictures())).int()
    assert torch.equal(frames[:3], filmed[:3])  # nobody is there
    assert torch.equal(frames[3:], painted(film, models)[3:])  # painted as beside another scene


def test_every_frame_has_its_own_style(film, models):
    strengths = torch.tensor([0.0, 0, 0, 1, 1, 1])
    net = style_attention(widths=WIDTHS, token_width=CONTEXT)
    cues = StyleConditioning(net, FrameStyles(noise(FRAMES, 8, seed=7), strengths))
    plain, styled = painted(film, models), painted(film, replace(models, style=cues))
    assert torch.equal(plain[:3], styled[:3])
    assert (plain[3:] - styled[3:]).abs().float().mean() > 0.05


def test_a_crop_that_is_no_square_is_refused(film, models):
    with pytest.raises(InputError, match="as a square; `width` 64 and `height` 72"):
        painted(film, models, height=72)
