from fractions import Fraction

import torch

from portraittalk_core.motion.head import head_motion
from portraittalk_core.motion.stress import stress_curve
from portraittalk_core.types import MouthCurves

FPS = Fraction(25)


def calm(frames: int) -> torch.Tensor:
    return torch.zeros(frames)


def test_locked_head_does_not_move():
    pose = head_motion(calm(200), FPS, amount=0.0)
    assert pose.angles_deg.abs().max() == 0
    assert pose.translation.abs().max() == 0
    assert torch.equal(pose.scale, torch.ones(200))


def test_head_moves_little_smoothly_and_starts_at_rest():
    pose = head_motion(calm(3000), FPS, amount=1.0, seed=5)
    assert pose.angles_deg[0].abs().max() < 0.1
    assert pose.angles_deg.abs().max() < 5
    assert pose.angles_deg.std() > 0.4
    assert pose.angles_deg.diff(dim=0).abs().max() < 0.4  # degrees from frame to frame
    assert pose.translation.abs().max() < 0.05


def test_head_amount_scales_and_seed_changes():
    once, twice = (head_motion(calm(300), FPS, amount, seed=1).angles_deg for amount in (1.0, 2.0))
    torch.testing.assert_close(twice, 2 * once)
    assert not torch.allclose(once, head_motion(calm(300), FPS, 1.0, seed=2).angles_deg)


def test_head_does_not_repeat_itself():
    yaw = head_motion(calm(120 * 25), FPS, 1.0, seed=0).angles_deg[:, 1]
    yaw = yaw - yaw.mean()
    for lag in range(10 * 25, 50 * 25, 25):
        r = (yaw[:-lag] * yaw[lag:]).mean() / yaw.square().mean()
        assert r < 0.85


def test_head_nods_on_a_stressed_syllable():
    mouth = MouthCurves.closed(200)
    mouth.opening[100:105] = 1.0
    stressed = stress_curve(mouth, FPS)
    still, nodding = (head_motion(stress, FPS, 1.0, seed=0).angles_deg[:, 0] for stress in (calm(200), stressed))
    assert (nodding - still)[100:106].max() > 0.3
