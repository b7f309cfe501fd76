"""Lip references warped to a frame's landmarks: known motions, touching lips, several references, gradients."""

from dataclasses import fields, replace

import pytest
import torch

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.face.lip_points import CONTENT, INNER, LIP_POINTS, MOUTH, OUTER
from portraittalk_core.face.sketch import draw_sketch
from portraittalk_core.renderers.lip.contract import LipBatch, References
from portraittalk_core.renderers.lip.lip_model import LipPriors
from portraittalk_core.renderers.lip.lip_warp import lips_mask, warped_lips
from portraittalk_core.renderers.lip.masks import around_lips, mouth_mask
from portraittalk_core.renderers.lip.random_files import TINY, random_lip_model
from portraittalk_core.renderers.lip.sizes import LipConfig

SIDE = 96


def face(opening: float = 0.05, middle: tuple[float, float] = (0.5, 0.6)) -> torch.Tensor:
    """(131, 2) a jaw and lips that are ellipses, with an inner line `opening` high."""
    points = torch.full((len(LIP_POINTS), 2), 0.3)
    jaw = torch.linspace(0, torch.pi, 17)
    points[74:91] = torch.stack([0.35 * jaw.cos(), 0.35 * jaw.sin()], -1)
    ring = torch.arange(20) / 20 * 2 * torch.pi
    for part, width, height in ((OUTER, 0.2, 0.08 + opening / 2), (INNER, 0.15, opening / 2)):
        points[part] = torch.stack([width * ring.cos(), height * ring.sin()], -1)
    points[74:] += torch.tensor(middle)
    return points


def blob(place: torch.Tensor) -> torch.Tensor:
    """(3, S, S) a soft spot at a place, 0..1 of the crop."""
    at = (torch.arange(SIDE) + 0.5) / SIDE
    x, y = ((at - place[axis]) / 0.015 for axis in (0, 1))
    return (-(x.square() + y[:, None].square()) / 2).exp().expand(3, -1, -1).clone()


def centre(picture: torch.Tensor) -> torch.Tensor:
    """(2,) of what is bright, 0..1 of the crop."""
    weights, at = picture.mean(0), (torch.arange(SIDE) + 0.5) / SIDE
    return torch.stack([(weights.sum(axis) * at).sum() for axis in (0, 1)]) / weights.sum()


def warped(picture: torch.Tensor, points: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return warped_lips(picture[None, None], points[None, None, CONTENT], target[None, CONTENT])[0, 0]


def test_no_motion_changes_nothing():
    picture = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(warped(picture, face(), face()), picture, atol=1e-3)


def test_shift_turn_and_size_are_exact():
    """An affine motion needs no bending, so smoothing takes nothing off it."""
    own = face()
    turn, middle = 0.2, torch.tensor([0.5, 0.6])
    matrix = 1.2 * torch.tensor([[torch.tensor(turn).cos(), -torch.tensor(turn).sin()],
                                 [torch.tensor(turn).sin(), torch.tensor(turn).cos()]])  # fmt: skip
    target = (own - middle) @ matrix.T + middle + torch.tensor([0.05, -0.04])
    place = torch.tensor([0.42, 0.63])
    moved = (place - middle) @ matrix.T + middle + torch.tensor([0.05, -0.04])
    assert torch.allclose(centre(warped(blob(place), own, target)), moved, atol=0.002)


@pytest.mark.parametrize("opening", [0.05, 0.15])
def test_lower_lip_goes_where_its_landmarks_go(opening):
    """A spot on the middle of the lower lip lies there in the new mouth; one on the chin's line stays."""
    own, target = face(0.1), face(opening)
    lip = own[OUTER][5] * 0.5 + own[INNER][5] * 0.5
    wanted = target[OUTER][5] * 0.5 + target[INNER][5] * 0.5
    found = centre(warped(blob(lip), own, target))
    assert (wanted - lip).norm() > 0.02
    assert (found - wanted).norm() < 0.3 * (wanted - lip).norm()
    chin = own[82] - torch.tensor([0.0, 0.05])
    assert (centre(warped(blob(chin), own, target)) - chin).norm() < 0.012


def test_touching_lips_stay_finite_and_smooth():
    """Inner lips that coincide in the frame lie apart in the reference: no fold tears the picture."""
    own, target = face(0.12), face(0.0)
    moved = warped(torch.ones(3, SIDE, SIDE), own, target)
    assert bool(moved.isfinite().all())
    ramp = torch.linspace(0, 1, SIDE)[:, None].expand(3, -1, SIDE)
    column = warped(ramp, own, target)[0, 20:90, SIDE // 2]
    assert float((column[1:] - column[:-1]).abs().max()) < 6 / SIDE


def test_every_frame_and_reference_has_its_own_warp():
    own, other, target = face(0.02), face(0.12, (0.45, 0.62)), face(0.2, (0.52, 0.58))
    picture = torch.rand(2, 2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    points = torch.stack([torch.stack([own, other]), torch.stack([other, own])])[:, :, CONTENT]
    targets = torch.stack([target, own])
    together = warped_lips(picture, points, targets[:, CONTENT])
    for frame in range(2):
        for place in range(2):
            alone = warped_lips(
                picture[frame : frame + 1, place : place + 1],
                points[frame : frame + 1, place : place + 1],
                targets[frame : frame + 1, CONTENT],
            )
            assert torch.allclose(together[frame, place], alone[0, 0], atol=1e-3)


def test_mask_shows_lips_within_the_box_that_references_keep():
    for points in (face(), face(0.2), face(0.0)):
        mask = lips_mask(points[None], SIDE)[0, 0]
        assert mask.max() == 1 and 0 < float(mask.mean()) < 0.3
        assert float((mask * (1 - around_lips(points, SIDE))).max()) == 0
        at = (points[MOUTH] * SIDE).long()
        assert float(mask[at[:, 1], at[:, 0]].min()) > 0.3


def test_masks_of_several_mouths_are_those_of_each():
    lips = torch.stack([face(0.02)[INNER], face(0.2)[INNER]])
    assert torch.equal(mouth_mask(lips, SIDE), torch.stack([mouth_mask(one, SIDE) for one in lips]))


def warping(**config) -> LipPriors:
    """A network that warps its nearest lip reference and adds what it paints."""
    given = {"lip_guide": True, "lip_warp": True, "nearest_lips": 1, "keep_references": True, **config}
    return random_lip_model("lips", seed=4, **given)


def seen(opening: float = 0.1) -> tuple[References, LipBatch]:
    """Two lip references, one red and one green, of which the green mouth is the frame's own."""
    some, side = torch.Generator().manual_seed(1), TINY["size"]
    faces, sketches = (torch.rand(2, 3, side, side, generator=some) for _ in range(2))
    points = torch.stack([face(0.0), face(opening, (0.47, 0.6))])
    boxes = torch.stack([around_lips(one, side) for one in points])[:, None]
    drawn = draw_sketch(points, side, torch.full((2, 2), 100.0))
    colours = torch.eye(3)[:2, :, None, None]
    given = References(faces, sketches, colours * boxes, drawn * boxes, points)
    target = face(opening)
    sketch = draw_sketch(target[None], side, torch.full((1, 2), 100.0)).expand(5, -1, -1, -1)
    pictures = torch.rand(1, 3, side, side, generator=some)
    return given, LipBatch(pictures, sketch[None], torch.zeros(1, 80, 16), target[None])


def test_painting_is_added_to_the_nearest_lips_where_the_frames_lips_are():
    """With no share of the painting: green lips, warped; around them the aligned references; above the film's own."""
    model, (given, batch) = warping(), seen()
    features = model.with_share(model.encode(given), 0.0)
    made, side = model.paint(features, batch)[0], model.size
    plain = random_lip_model("lips", seed=4, keep_references=True)
    plain.alignment.load_state_dict(model.alignment.state_dict())
    around = plain.paint(plain.with_share(plain.encode(given), 0.0), batch)[0]
    mask = lips_mask(batch.points, side)[0, 0]
    mask[: side // 2] = 0
    assert torch.equal(made[:, : side // 2], batch.pictures[0, :, : side // 2])
    assert torch.allclose(made[:, mask == 0], around[:, mask == 0], atol=1e-5)
    green = made[:, mask == 1]
    assert green.shape[1] > 40 and float(green[1].min()) > 0.8 and float(green[0].max()) < 0.1
    moved = replace(batch, points=batch.points + torch.tensor([0.1, 0.0]))
    assert not torch.allclose(model.paint(features, moved)[0], made, atol=1e-2)


def test_all_of_the_painting_depends_on_where_the_lips_are():
    model, (given, batch) = warping(keep_references=False), seen()
    features = model.encode(given)
    moved = replace(batch, points=face(0.2)[None])
    assert (model.paint(features, batch) - model.paint(features, moved)).abs().max() > 1e-3
    without = random_lip_model("lips", seed=4, lip_guide=True, nearest_lips=1)
    without.load_state_dict(model.state_dict())
    kept = without.encode(given)
    assert torch.equal(without.paint(kept, batch), without.paint(kept, moved))


def test_frames_are_painted_alike_alone_and_together():
    model, (given, batch) = warping(), seen()
    other = LipBatch(batch.pictures.flip(-1), batch.sketches, batch.sound, face(0.02)[None])
    both = LipBatch(*(torch.cat([getattr(one, f.name) for one in (batch, other)]) for f in fields(LipBatch)))
    features = model.encode(given)
    together = model.paint(features, both)
    for at, one in enumerate((batch, other)):
        assert torch.allclose(together[at], model.paint(features, one)[0], atol=1e-4)


def test_missing_landmarks_are_named():
    model, (given, batch) = warping(), seen()
    with pytest.raises(InputError, match="`References.lip_points` is None; give them"):
        model.encode(replace(given, lip_points=None))
    with pytest.raises(InputError, match="`LipBatch.points` is None; give them"):
        model.paint(model.encode(given), replace(batch, points=None))
    with pytest.raises(ShapeError, match="`LipBatch.points`"):
        model.paint(model.encode(given), replace(batch, points=batch.points[:, :57]))
    ablated = warping(ablate="lips")  # which needs none
    assert ablated.paint(ablated.encode(replace(given, lip_points=None)), replace(batch, points=None)).shape[0] == 1
    with pytest.raises(InputError, match="`lip_warp` of a lip renderer warps the pictures of `lip_guide`"):
        LipConfig(lip_warp=True)
