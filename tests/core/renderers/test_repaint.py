import errno
from fractions import Fraction

import av
import pytest
import torch

from portraittalk_core.errors import InputError, OutputError
from portraittalk_core.face.fit import fit_to, fitted
from portraittalk_core.pipelines.render import render_track
from portraittalk_core.renderers.contract import Callbacks
from portraittalk_core.renderers.identitynet.build import IdentityNetRenderer
from portraittalk_core.renderers.identitynet.painter import Painted
from portraittalk_core.renderers.repaint import paint_latents, repainted
from portraittalk_core.renderers.warp.renderer import PortraitRenderer


class Inverter:
    """Paints the negative, so that one sees that every frame passed through, in order and once."""

    batch, overlap, steps = 3, 0, 4

    def __init__(self):
        self.sizes = []

    def paint(self, frames, on_step, first, fixed):
        self.sizes.append(len(frames))
        for step in range(self.steps):
            if on_step:
                on_step(step + 1, self.steps)
        return Painted(1 - frames, torch.zeros(len(frames), 4, 8, 8))

    def paint_latents(self, latents, on_step, first, fixed):
        self.sizes.append(len(latents))
        shade = latents.mean((1, 2, 3)).reshape(-1, 1, 1, 1)
        return Painted(shade.expand(-1, 8 * latents.shape[2], 8 * latents.shape[3], 3), latents)


class AlwaysThis:
    """A backend with one painter."""

    needs_motion = False

    def __init__(self, painter):
        self.painter, self.canvas = painter, None

    def open(self, canvas):
        self.canvas = canvas
        return self.painter


def pictures(count):
    return (torch.full((16, 16, 3), 10 * i, dtype=torch.uint8) for i in range(count))


def test_every_frame_is_painted_once_and_in_order():
    painter = Inverter()
    found = [int(p[0, 0, 0]) for p in repainted(pictures(8), 8, painter, Callbacks())]
    assert found == [255 - 10 * i for i in range(8)]
    assert painter.sizes == [3, 3, 2]


def test_frames_are_drawn_one_batch_ahead_at_most():
    drawn = []

    def counted():
        for i, picture in enumerate(pictures(9)):
            drawn.append(i)
            yield picture

    painted = repainted(counted(), 9, Inverter(), Callbacks())
    next(painted)
    assert len(drawn) == 3


def test_progress_grows_with_every_step_to_all():
    seen = []
    list(repainted(pictures(7), 7, Inverter(), Callbacks(lambda done, total: seen.append((done, total)))))
    assert [total for _, total in seen] == [28] * len(seen)
    done = [d for d, _ in seen]
    assert done == sorted(done) and done[0] == 3 and done[-1] == 28


def test_identitynet_writes_a_video_of_painted_frames(astronaut, tmp_path, make_plan):
    from portraittalk_core.motion.rig import make_rig, plan_landmarks

    small = fitted(astronaut, fit_to(astronaut, 128, 128))
    plan = make_plan(small.landmarks, opening=[0.0, 0.5, 1.0, 0.5, 0.0])
    track = plan_landmarks(plan, 0, 5, make_rig(plan.reference))
    shown = []
    renderer, callbacks = IdentityNetRenderer(AlwaysThis(Inverter()), 128, 128), Callbacks(on_picture=shown.append)
    result = render_track(small, track, tmp_path / "a.mp4", renderer=renderer, callbacks=callbacks)
    warped = list(PortraitRenderer(small, 50.0).render(track))
    assert result.num_frames == len(shown) == 5
    assert (shown[0].int() - (255 - warped[0].int())).abs().float().mean() < 2  # another reach of the warp at most
    with av.open(str(tmp_path / "a.mp4")) as file:
        assert sum(1 for _ in file.decode(video=0)) == 5


def test_paint_latents_makes_one_frame_of_each(tmp_path):
    latents = torch.linspace(0, 1, 5).reshape(5, 1, 1, 1).expand(5, 4, 8, 16)
    shown = []
    paint_latents(latents, Inverter(), tmp_path / "a.mp4", Fraction(10), callbacks=Callbacks(on_picture=shown.append))
    assert [int(p[0, 0, 0]) for p in shown] == [0, 64, 128, 191, 255]
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (128, 64, 10)


def test_stopping_leaves_no_file(tmp_path):
    def stop(done, total):
        if done >= 16:
            raise KeyboardInterrupt

    latents = torch.zeros(8, 4, 8, 8)
    with pytest.raises(KeyboardInterrupt):
        paint_latents(latents, Inverter(), tmp_path / "a.mp4", Fraction(10), callbacks=Callbacks(stop))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_is_told_with_what_is_free_and_leaves_no_file(tmp_path, monkeypatch):
    from portraittalk_core.media.video_write import VideoWriter

    def full(writer, frame):
        if writer.num_frames == 5:
            raise av.error.OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(VideoWriter, "_encode", full)
    with pytest.raises(OutputError, match=r"a\.mp4: the disk is full \([\d.]+ MB are free in .+\); free some space"):
        paint_latents(torch.zeros(8, 4, 8, 8), Inverter(), tmp_path / "a.mp4", Fraction(10))
    assert list(tmp_path.iterdir()) == []


def test_no_frames_are_refused(tmp_path):
    with pytest.raises(InputError, match="0 frames"):
        paint_latents(torch.zeros(0, 4, 8, 8), Inverter(), tmp_path / "a.mp4", Fraction(10))
    assert list(tmp_path.iterdir()) == []
