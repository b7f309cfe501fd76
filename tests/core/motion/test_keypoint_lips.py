"""Lips of one motion on the head of another, in spans of any lengths."""

from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.motion.keypoint_lips import with_lips
from portraittalk_core.types import KeypointTrack

LIPS = [6, 12, 14, 17, 19, 20]  # of LivePortrait's public code
OTHERS = [point for point in range(21) if point not in LIPS]


def track(frames: int, seed: int, turned: bool = False, **changes) -> KeypointTrack:
    generator = torch.Generator().manual_seed(seed)
    expression = 0.02 * torch.randn(frames, 21, 3, generator=generator)
    angles = 15 * torch.randn(frames, 3, generator=generator) if turned else torch.zeros(frames, 3)
    values = {
        "expression": expression, "rotation_deg": angles, "translation": torch.randn(frames, 3, generator=generator),
        "scale": torch.ones(frames), "valid": torch.ones(frames, dtype=torch.bool), "fps": Fraction(25),
        "layout": "liveportrait-21",
    }  # fmt: skip
    return KeypointTrack(**values | changes)


@pytest.mark.parametrize("cut", [(7, 13), (10, 3), (1, 20)])
def test_the_mouth_is_the_others_and_the_rest_stays(cut):
    motion, lips = track(20, 0), track(23, 1)
    spans = [motion.slice(0, cut[0]), motion.slice(cut[0], 20)]
    others = [lips.slice(0, cut[1]), lips.slice(cut[1], 21), lips.slice(21, 23)]
    made = list(with_lips(spans, others))
    assert [len(span) for span in made] == [len(span) for span in spans]
    expression = torch.cat([span.expression for span in made])
    torch.testing.assert_close(expression[:, LIPS], lips.expression[:20, LIPS], atol=1e-6, rtol=0)
    assert torch.equal(expression[:, OTHERS], motion.expression[:, OTHERS])
    assert torch.equal(torch.cat([span.translation for span in made]), motion.translation)


def test_lips_turn_with_the_head():
    """Keypoints place expression beside the turned face: lips made on a straight head are turned to where it looks."""
    motion, lips = track(3, 0, turned=True), track(3, 1)
    (made,) = with_lips([motion], [lips])
    pitch, yaw, roll = (motion.rotation_deg[1].double() * torch.pi / 180).tolist()
    (cp, sp), (cy, sy), (cr, sr) = ((torch.cos(a), torch.sin(a)) for a in torch.tensor([pitch, yaw, roll]).double())
    about_x = torch.tensor([[1, 0, 0], [0, cp, -sp], [0, sp, cp]]).double()
    about_y = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]).double()
    about_z = torch.tensor([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]).double()
    # the public code turns rows by the transpose of roll · yaw · pitch
    expected = lips.expression[1].double() @ (about_z @ about_y @ about_x).T
    torch.testing.assert_close(made.expression[1, LIPS].double(), expected[LIPS], atol=1e-6, rtol=0)


def test_lips_that_end_or_do_not_fit_are_refused():
    with pytest.raises(InputError, match="the lips have 4 frames, and the motion has more"):
        list(with_lips([track(3, 0), track(3, 1)], [track(4, 2)]))
    with pytest.raises(InputError, match="25 and|30 fps"):
        list(with_lips([track(3, 0)], [track(3, 1, fps=Fraction(30))]))
    other = track(3, 1, expression=torch.zeros(3, 15, 3), layout="face-vid2vid-15")
    with pytest.raises(InputError, match="layout face-vid2vid-15, but liveportrait-21 is needed"):
        list(with_lips([track(3, 0)], [other]))
