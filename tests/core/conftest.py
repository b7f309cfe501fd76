"""A real face for the tests: scikit-image's astronaut (public domain), found by the mesh once a session."""

from fractions import Fraction

import pytest
import torch

from portraittalk_core.types import MOUTH_PARAMETERS, HeadPose, LandmarkTrack, MotionPlan, MouthCurves, Portrait, as_fps


@pytest.fixture(scope="session")
def astronaut() -> Portrait:
    from skimage.data import astronaut as picture

    from portraittalk_core.face.mesh.landmarks import find_portrait

    return find_portrait(torch.from_numpy(picture().copy()), source="astronaut")


@pytest.fixture(scope="session")
def small(astronaut) -> Portrait:
    """The astronaut's head on 192 × 192 pixels: quick to warp."""
    part = astronaut.picture[0:256, 96:352].float().permute(2, 0, 1)[None]
    picture = torch.nn.functional.avg_pool2d(torch.nn.functional.interpolate(part, 384, mode="bilinear"), 2)
    picture = picture[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)
    points = astronaut.landmarks.points_px.clone()
    points[..., 0] -= 96
    return Portrait(picture, LandmarkTrack.from_px(points * 0.75, 192, 192, Fraction(25)), "small")


@pytest.fixture
def make_plan(astronaut):
    """Builds a plan on the astronaut from curves given as lists; what is not given rests."""

    def build(reference: LandmarkTrack | None = None, **curves) -> MotionPlan:
        count = max(len(values) for values in curves.values())

        def curve(name: str, width: int = 0) -> torch.Tensor:
            shape = (count, width) if width else (count,)
            return torch.tensor(curves[name], dtype=torch.float32) if name in curves else torch.zeros(shape)

        curves.setdefault("jaw", curves.get("opening", [0.0] * count))
        mouth = MouthCurves(*(curve(name) for name in MOUTH_PARAMETERS))
        head = HeadPose(curve("angles_deg", 3), curve("translation", 3), torch.ones(count))
        return MotionPlan(reference or astronaut.landmarks, mouth, curve("blink"), curve("brow"), head, as_fps(25))

    return build
