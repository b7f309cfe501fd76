from pathlib import Path

import pytest
import torch

from portraittalk_core.engines.contract import whole_track
from portraittalk_core.engines.registry import open_engine
from portraittalk_core.face import topology as topo
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.media.audio import load_speech
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.style.options import StyleUse
from portraittalk_core.style.prior import interpolate
from portraittalk_core.style.reference import in_style, named_style
from portraittalk_core.types import LandmarkTrack

SAMPLE = Path(__file__).parents[3] / "samples" / "speech.wav"
PLAIN_RISE = -0.14  # what the corners of people's mouths rise more than the canonical face's, at the median
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("names", [("tired", "smiling"), ("serious", "smiling"), ("mumbling", "lively")])
def test_mouth_corners_and_opening_go_evenly_from_one_style_to_the_other(names):
    """`docs/design/styles.md` 6: t in {0, .25, .5, .75, 1} moves the mouth's corners and its opening."""
    first, second = (named_style(name, StyleUse(noise=0.0)) for name in names)
    points = canonical_face().clone()
    points[list(topo.MOUTH_CORNERS), 1] -= PLAIN_RISE  # it smiles, and who smiles is given no more smile
    points = 100 * torch.cat([points, points[:1].expand(478 - len(points), -1)])[None] + torch.tensor([256.0, 256, 0])
    face, speech = LandmarkTrack.from_px(points, 512, 512, MotionOptions().fps), load_speech(SAMPLE)
    still = MotionOptions(head_motion=0.0)
    heights, openings = [], []
    for share in SHARES:
        style = interpolate(first, second, share)
        made = in_style(lambda options: whole_track(open_engine(), speech, face, options), still, style).points_px
        gap = made[:, topo.INNER_LIP_BOTTOM, 1] - made[:, topo.INNER_LIP_TOP, 1]
        low, high = gap.quantile(torch.tensor([0.1, 0.9]))
        openings.append(float(high - low))
        rest = gap <= gap.quantile(0.2)
        heights.append(-float(made[rest][:, list(topo.MOUTH_CORNERS), 1].mean()))  # up is positive
    for curve in (heights, openings):
        steps = [after - before for before, after in zip(curve, curve[1:], strict=False)]
        assert all(step > 0 for step in steps)
        assert max(steps) < 3 * min(steps)  # evenly: no step does most of it
