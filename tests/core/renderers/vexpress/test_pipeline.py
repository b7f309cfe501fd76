"""From a portrait and a speech to frames, through tiny networks with random weights."""

from dataclasses import replace

import pytest
import torch
from sd15_files import make_checkpoint
from style_files import style_attention
from tiny_vexpress import CONTEXT, WIDTHS, tiny_vexpress

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.errors import InputError
from portraittalk_core.face.fit import fit_to
from portraittalk_core.renderers.vexpress.latent_codec import DiffusersLatentCodec
from portraittalk_core.renderers.vexpress.pipeline import VExpressModels, VExpressOptions, head_points, paint_vexpress
from portraittalk_core.speech.encoders import GivenFeatures, SpeechFeatures
from portraittalk_core.style.attention import FrameStyles, StyleConditioning
from portraittalk_core.types import LandmarkTrack, Portrait, Speech, as_fps

pytestmark = pytest.mark.slow  # together they take ten seconds and more


FRAMES = 6
OPTIONS = VExpressOptions(width=64, height=64, steps=2, length=4, overlap=2, seed=3)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def face(frames=1, shift=0.0, side=96):
    points = 0.3 + 0.4 * torch.rand(1, 478, 3, generator=torch.Generator().manual_seed(1)).repeat(frames, 1, 1)
    points[:, [468, 473, 1], :2] = torch.tensor([[0.4, 0.4], [0.6, 0.4], [0.5, 0.55]])
    points[..., 0] += shift * torch.arange(frames)[:, None]
    return LandmarkTrack(points, torch.ones(frames, dtype=torch.bool), as_fps(25), side, side)


@pytest.fixture(scope="module")
def portrait():
    picture = torch.randint(0, 256, (96, 96, 3), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    return Portrait(picture, face())


@pytest.fixture(scope="module")
def speech():
    return Speech(0.1 * noise(FRAMES * 640, seed=4))


def hears(seed, num_frames=FRAMES, width=64, name="wav2vec2-base"):
    return GivenFeatures(SpeechFeatures(noise(2 * num_frames - 1, width, seed=seed), name=name))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    file = make_checkpoint(tmp_path_factory.mktemp("sd15") / "tiny.safetensors", text=False)
    return VExpressModels(tiny_vexpress(), DiffusersLatentCodec(load_sd15(file).vae), hears(5))


def painted(*given, **options):
    return torch.stack(list(paint_vexpress(*given, **options))).int()


def test_every_part_has_its_say(portrait, speech, models):
    frames = painted(portrait, None, speech, models, OPTIONS)
    assert frames.shape == (FRAMES, 64, 64, 3) and frames.min() >= 0 and frames.max() <= 255
    assert torch.equal(frames, painted(portrait, None, speech, models, OPTIONS))
    other_face = replace(portrait, picture=255 - portrait.picture)
    changed = {
        "portrait": painted(other_face, None, speech, models, OPTIONS),
        "speech": painted(portrait, None, speech, replace(models, encoder=hears(6)), OPTIONS),
        "head": painted(portrait, face(FRAMES, 0.04), speech, models, replace(OPTIONS, strategy="no_retarget")),
        "seed": painted(portrait, None, speech, models, replace(OPTIONS, seed=4)),
    }
    for what, others in changed.items():
        assert (others - frames).abs().float().mean() > 0.05, what


def test_weights_of_zero_leave_a_part_out(portrait, speech, models):
    deaf = replace(OPTIONS, reference_weight=0.0)
    other_face = replace(portrait, picture=255 - portrait.picture)
    blind = painted(portrait, None, speech, models, deaf)
    assert torch.equal(blind, painted(other_face, None, speech, models, deaf))


def styled(strength=1.0, rows=1, seed=7, **net):
    attention = style_attention(**{"widths": WIDTHS, "token_width": CONTEXT, **net})
    return StyleConditioning(attention, FrameStyles(noise(rows, 8, seed=seed), torch.full((rows,), float(strength))))


def test_a_style_acts_where_it_is_on(portrait, speech, models):
    plain = painted(portrait, None, speech, models, OPTIONS)
    for off in (styled(strength=0), styled(trained=False)):
        assert torch.equal(painted(portrait, None, speech, replace(models, style=off), OPTIONS), plain)
    shown = {
        name: painted(portrait, None, speech, replace(models, style=cues), OPTIONS)
        for name, cues in {"one": styled(), "half": styled(0.5), "another": styled(seed=8)}.items()
    }
    for one, other in ((plain, "one"), (shown["half"], "one"), (shown["another"], "one")):
        assert (one - shown[other]).abs().float().mean() > 0.05, other
    every = painted(portrait, None, speech, replace(models, style=styled(rows=FRAMES)), OPTIONS)
    assert (every - shown["one"]).abs().float().mean() > 0.05  # other styles from the second frame on
    assert torch.equal(painted(portrait, None, speech, models, OPTIONS), plain)  # nothing stays behind


def test_every_window_gets_the_style_of_its_frames(portrait, speech, models):
    """A style that is off in the first window's frames leaves them alone where windows do not meet."""
    apart = replace(OPTIONS, length=3, overlap=0)
    cues = styled(rows=FRAMES)
    cues.styles.strengths[:3] = 0
    plain = painted(portrait, None, speech, models, apart)
    late = painted(portrait, None, speech, replace(models, style=cues), apart)
    assert torch.equal(late[:3], plain[:3])
    assert (late[3:] - plain[3:]).abs().float().mean() > 0.05


def test_a_style_that_does_not_fit_is_refused(portrait, speech, models):
    for net, words in (({"widths": (32, 64, 64, 32)}, "32 wide at site"), ({"style_width": 5}, "style has 8 numbers")):
        with pytest.raises(InputError, match=words):
            painted(portrait, None, speech, replace(models, style=styled(**net)), OPTIONS)
    with pytest.raises(InputError, match="there is no frame 4"):
        painted(portrait, None, speech, replace(models, style=styled(rows=4)), OPTIONS)


def test_networks_are_brought_once_the_picture_is_encoded(portrait, speech, models):
    order = []

    class Told(DiffusersLatentCodec):
        def encode(self, picture):
            order.append("encode")
            return super().encode(picture)

        def decode(self, latents):
            order.append("decode")
            return super().decode(latents)

    told = replace(models, coder=Told(models.coder.vae), load_to_device=lambda: order.append("bring"))
    assert torch.equal(painted(portrait, None, speech, told, OPTIONS), painted(portrait, None, speech, models, OPTIONS))
    assert order == ["encode", "bring", *["decode"] * FRAMES]


def test_a_vae_without_numbers_is_refused(portrait, speech, models):
    class Broken(DiffusersLatentCodec):
        def decode(self, latents):
            return super().decode(latents) * torch.nan

    with pytest.raises(InputError, match="the VAE gives values that are not numbers"):
        painted(portrait, None, speech, replace(models, coder=Broken(models.coder.vae)), OPTIONS)


def test_progress_is_told_and_may_interrupt(portrait, speech, models):
    told = []
    list(paint_vexpress(portrait, None, speech, models, OPTIONS, on_progress=lambda *done: told.append(done)))
    assert told[-1][0] == told[-1][1] and [done for done, _ in told] == list(range(len(told)))
    assert len(told) > 50  # many a window

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(paint_vexpress(portrait, None, speech, models, OPTIONS, on_progress=stop))
    assert painted(portrait, None, speech, models, OPTIONS).shape[0] == FRAMES  # nothing is left behind


def test_head_points_follow_the_track_for_the_speechs_length(portrait):
    fit = fit_to(portrait, 64, 64)
    points = head_points(portrait, face(3, 0.01), fit, "no_retarget", 5)
    start = torch.tensor([[25.6, 25.6], [38.4, 25.6], [32.0, 35.2]], dtype=torch.float64)
    steps = torch.tensor([0, 1, 2, 2, 2])[:, None] * 0.64
    torch.testing.assert_close(points[..., 0], start[:, 0] + steps, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(points[..., 1], start[:, 1].expand(5, 3), rtol=1e-4, atol=1e-4)
    assert torch.equal(head_points(portrait, None, fit, "no_retarget", 2)[1], points[0])
    elsewhere = head_points(portrait, face(3, 0.01, side=480), fit, "no_retarget", 2)
    torch.testing.assert_close(elsewhere, points[:2], rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_refused_before_anything_is_painted(portrait, speech, models):
    with pytest.raises(InputError, match="64 channels"):
        paint_vexpress(portrait, None, speech, replace(models, encoder=hears(5, width=32)), OPTIONS)
    with pytest.raises(InputError, match="not by whisper-small; choose facebook/wav2vec2-base-960h"):
        paint_vexpress(portrait, None, speech, replace(models, encoder=hears(5, name="whisper-small")), OPTIONS)
    with pytest.raises(InputError, match="window of 40"):
        paint_vexpress(portrait, None, speech, models, replace(OPTIONS, length=40))
    for bad in ({"width": 65}, {"guidance": 0.0}, {"strategy": "freely"}, {"length": 4, "overlap": 4}):
        with pytest.raises(InputError):
            VExpressOptions(**bad)
