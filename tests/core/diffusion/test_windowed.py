"""Videos longer than a motion module sees: chunks and windows, on a tiny network with random weights."""

from dataclasses import dataclass, replace

import pytest
import torch
from control_files import tiny_controlnet
from sd15_files import make_checkpoint
from tiny_unet import random_motion, tiny_unet

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.diffusion.denoiser import Condition, Denoiser
from portraittalk_core.diffusion.motion_modules import bind_motion
from portraittalk_core.diffusion.samplers import SamplerOptions
from portraittalk_core.diffusion.windowed import VideoOptions, WindowedDenoiser
from portraittalk_core.errors import InputError
from portraittalk_core.renderers.animatenet.control import ControlOptions, FrameControl
from portraittalk_core.renderers.contract import Callbacks
from portraittalk_core.renderers.identitynet.painter import Animation, DiffusersPainter, PaintOptions
from portraittalk_core.renderers.repaint import repainted

pytest.importorskip("diffusers")

pytestmark = pytest.mark.slow  # together they take ten seconds and more

VIDEO = VideoOptions("chunked", 8, 2)


def shades(changed_from=None):
    """Drawings: the frame's number as a shade; from a frame on, another."""

    def hints(frames, height, width):
        made = [0.02 * f + (0.5 if changed_from is not None and f >= changed_from else 0.0) for f in frames]
        return torch.stack([torch.full((3, height, width), shade) for shade in made])

    return hints


@pytest.fixture(scope="module")
def sd15(tmp_path_factory):
    return load_sd15(make_checkpoint(tmp_path_factory.mktemp("sd15") / "tiny.safetensors", text=False))


@pytest.fixture(scope="module")
def cond():
    torch.manual_seed(2)
    return Condition(torch.randn(1, 7, 48))


def painter(sd15, cond, hints, video=VIDEO):
    control = FrameControl(tiny_controlnet(), hints, ControlOptions(1.0))
    options = PaintOptions(SamplerOptions(steps=2, denoise=0.8, seed=1), video=video)
    return DiffusersPainter(sd15, cond, {}, options, Animation(control, random_motion()))


def video_of(made_by, num_frames=20):
    """Painted frames and latents, from grey pictures."""
    pictures = (torch.full((64, 64, 3), 100 + i, dtype=torch.uint8) for i in range(num_frames))
    latents = []
    frames = list(repainted(pictures, num_frames, made_by, Callbacks(on_latents=latents.append)))
    return torch.stack(frames).int(), torch.cat(latents)


@dataclass(frozen=True)
class Painted:
    """A video of twenty frames in chunks, and how it was made."""

    frames: torch.Tensor
    latents: torch.Tensor
    samples: list[tuple]  # of each chunk: latents to begin with, finished ones (None: none), sampled ones
    batches: list[tuple[int, int]]  # of each chunk: frames to paint, finished ones before them


@pytest.fixture(scope="module")
def painted(sd15, cond) -> Painted:
    made_by, samples, batches = painter(sd15, cond, shades()), [], []
    sample, paint = made_by._sample_once, made_by.paint

    def sample_once(latents, *more):
        samples.append((latents, more[2], sample(latents, *more)))
        return samples[-1][2]

    def paint_batch(frames, step, first, fixed):
        batches.append((len(frames), 0 if fixed is None else len(fixed)))
        return paint(frames, step, first, fixed)

    made_by._sample_once, made_by.paint = sample_once, paint_batch
    return Painted(*video_of(made_by), samples, batches)


def test_every_frame_is_painted_once(painted):
    assert len(painted.frames) == len(painted.latents) == 20
    assert [len(latents) - (0 if fixed is None else len(fixed)) for latents, fixed, _ in painted.samples] == [8, 6, 6]


def test_a_chunk_begins_with_the_frames_before_it_and_leaves_them(painted):
    for start, (_, fixed, made) in zip((6, 12), painted.samples[1:], strict=True):
        assert torch.equal(fixed, painted.latents[start : start + 2])
        torch.testing.assert_close(made[:2], fixed, atol=1e-5, rtol=0)


def test_later_drawings_change_later_frames_only(sd15, cond, painted):
    before, after = painted.frames, video_of(painter(sd15, cond, shades(14)))[0]
    assert torch.equal(before[:8], after[:8])  # the first chunk has frames 0 to 7, the third begins at 12
    assert (before[14:] - after[14:]).abs().sum() > 0


@pytest.mark.parametrize("mode", ["chunked", "sliding"])
def test_a_longer_video_begins_like_a_shorter_one(mode, sd15, cond, painted):
    made_by = painter(sd15, cond, shades(), replace(VIDEO, mode=mode))
    whole, start = video_of(made_by, 26)[0], painted.frames if mode == "chunked" else video_of(made_by, 21)[0]
    assert (whole[:8] - start[:8]).abs().max() <= 1


def test_sliding_is_the_weighted_mean_of_windows(cond):
    unet, x = tiny_unet(), torch.randn(20, 4, 8, 8)
    with bind_motion(unet, random_motion(), 8):
        found = WindowedDenoiser(Denoiser(unet), 0, VideoOptions("sliding", 8, 2))(x, 2.0, cond)
        total, sums = torch.zeros(20, 1, 1, 1), torch.zeros_like(x)
        for start in (0, 6, 12):
            weight = torch.tensor([1.0, 2, 3, 4, 4, 3, 2, 1]).reshape(-1, 1, 1, 1)
            sums[start : start + 8] += weight * Denoiser(unet)(x[start : start + 8], 2.0, cond)
            total[start : start + 8] += weight
    torch.testing.assert_close(found, sums / total, atol=1e-5, rtol=0)


def test_finished_frames_stay_as_they_are(cond):
    x, fixed = torch.randn(6, 4, 8, 8), torch.randn(2, 4, 8, 8)
    made = WindowedDenoiser(Denoiser(tiny_unet()), 0, VideoOptions(length=6, overlap=2), fixed)(x, 2.0, cond)
    assert torch.equal(made[:2], fixed)


def test_memory_does_not_grow_with_the_video(painted):
    """What is kept between batches is one section."""
    assert painted.batches[0] == (8, 0) and all(new + old == 8 for new, old in painted.batches)


def test_windows_longer_than_the_modules_positions_are_refused(sd15, cond):
    with pytest.raises(InputError, match="32"):
        painter(sd15, cond, shades(), VideoOptions("chunked", 40, 4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"mode": "both"}, "mode must be one of chunked, sliding"),
        ({"length": 8, "overlap": 8}, "an overlap of 8 does not fit windows of 8"),
        ({"length": 0}, "the window's length"),
    ],
)
def test_options_are_checked(options, words):
    with pytest.raises(InputError, match=words):
        VideoOptions(**options)
