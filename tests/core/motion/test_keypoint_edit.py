"""Edits of keypoint tracks: rotations against scipy, gains, head, blinks, blends, carrying, time, curves."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation, Slerp

from portraittalk_core.errors import InputError, ShapeError
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.motion import keypoint_edit as edit
from portraittalk_core.motion import keypoint_time as in_time
from portraittalk_core.motion.keypoint_curves import CURVES, curves_of
from portraittalk_core.motion.keypoint_options import KeypointEdit
from portraittalk_core.motion.keypoint_regions import (
    KEYPOINTS_OF_REGIONS,
    REGIONS,
    ExpressionBasis,
    known_basis,
    region_share,
)
from portraittalk_core.motion.keypoint_rotation import angles_of, head_angles, rotation_of, with_head_angles
from portraittalk_core.types import KEYPOINT_LAYOUTS, KeypointTrack

LP, FV = "liveportrait-21", "face-vid2vid-15"
LAYOUTS = [LP, FV]
PARTS = ("expression", "rotation_deg", "translation", "scale", "valid")


def track(num_frames: int = 40, layout: str = LP, seed: int = 0, **changes) -> KeypointTrack:
    """A face that moves at random; its head turns up to some 40 degrees."""
    draw = torch.Generator().manual_seed(seed)
    given = {
        "expression": 0.05 * torch.randn(num_frames, KEYPOINT_LAYOUTS[layout], 3, generator=draw),
        "rotation_deg": 15 * torch.randn(num_frames, 3, generator=draw).clamp(-2.5, 2.5),
        "translation": 0.1 * torch.randn(num_frames, 3, generator=draw),
        "scale": 1 + 0.2 * torch.rand(num_frames, generator=draw),
        "valid": torch.ones(num_frames, dtype=torch.bool),
        "fps": Fraction(25),
        "layout": layout,
    }
    return KeypointTrack(**(given | changes))


def same(first: KeypointTrack, second: KeypointTrack, atol: float = 0.0) -> bool:
    close = all(torch.allclose(getattr(first, n).double(), getattr(second, n).double(), atol=atol, rtol=0)
                for n in PARTS)  # fmt: skip
    return close and (first.fps, first.layout, len(first)) == (second.fps, second.layout, len(second))


def in_head(some: KeypointTrack) -> np.ndarray:
    """(T, K, 3) expressions turned back by scipy's rotations."""
    turns = scipy_rotation(some.layout, some.rotation_deg)
    return np.stack([turn.inv().apply(e) for turn, e in zip(turns, some.expression.double().numpy(), strict=True)])


def scipy_rotation(layout: str, angles_deg: torch.Tensor) -> Rotation:
    pitch, yaw, roll = angles_deg.double().numpy().T
    if layout == LP:  # roll · yaw · pitch: about the fixed axes x, then y, then z
        return Rotation.from_euler("xyz", np.stack([pitch, yaw, roll], 1), degrees=True)
    return Rotation.from_euler("zyx", np.stack([roll, yaw, pitch], 1) * 3.14 / 180)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rotations_are_scipys_and_come_back(layout):
    angles = track(layout=layout).rotation_deg
    turns = rotation_of(layout, angles)
    np.testing.assert_allclose(turns, scipy_rotation(layout, angles).as_matrix(), atol=1e-12)
    torch.testing.assert_close(angles_of(layout, turns), angles, atol=1e-4, rtol=0)


def test_face_vid2vid_takes_3_14_for_pi():
    quarter = rotation_of(FV, torch.tensor([[0.0, 90.0, 0.0]]))
    assert float(quarter[0, 0, 0]) == pytest.approx(0.000796, abs=1e-6)  # cos 1.57: the family counts with 3.14


@pytest.mark.parametrize("layout", LAYOUTS)
def test_head_angles_have_our_signs_in_both_families(layout):
    """A nose that points to the viewer (−z) goes right with our yaw, down with pitch, whatever the family's signs."""
    still = track(1, layout, rotation_deg=torch.zeros(1, 3))
    for turn, axis, sign in (((0.0, 20.0, 0.0), 0, 1), ((20.0, 0.0, 0.0), 1, 1)):
        turned = with_head_angles(still, torch.tensor([turn]))
        nose = rotation_of(layout, turned.rotation_deg)[0] @ torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)
        assert float(nose[axis]) * sign == pytest.approx(np.sin(np.deg2rad(20)), abs=1e-3)
        np.testing.assert_allclose(head_angles(turned)[0], turn, atol=1e-3)
    turned = with_head_angles(still, torch.tensor([[0.0, 20.0, 0.0]]))
    assert float(turned.rotation_deg[0, 1]) < -19  # the families' yaw grows to the viewer's left
    angles = track(layout=layout).rotation_deg
    moved = with_head_angles(track(layout=layout), angles)
    torch.testing.assert_close(rotation_of(layout, moved.rotation_deg), rotation_matrix(angles.double()),
                               atol=1e-5, rtol=0)  # fmt: skip


def test_regions_of_liveportrait_share_out_all_keypoints_once():
    every = sorted(k for keypoints in KEYPOINTS_OF_REGIONS[LP].values() for k in keypoints)
    assert every == list(range(21))
    assert KEYPOINTS_OF_REGIONS[LP]["mouth"] == (6, 12, 14, 17, 19, 20)  # public code, animation region "lip"
    assert torch.equal(sum(region_share(LP, region) for region in REGIONS), torch.ones(21))


@pytest.mark.parametrize("region", [*REGIONS, "all"])
def test_gain_scales_a_region_about_the_rest_and_leaves_the_others(region):
    some = track()
    rest = torch.linspace(-0.1, 0.1, 63).reshape(21, 3)
    result = edit.expression_gain(some, 1.7, region, rest)
    before, after = in_head(some), in_head(result)
    inside = region_share(LP, region).bool().numpy()
    expected = rest.double().numpy() + 1.7 * (before - rest.double().numpy())
    np.testing.assert_allclose(after[:, inside], expected[:, inside], atol=1e-6)
    assert torch.equal(result.expression[:, ~inside], some.expression[:, ~inside])
    assert same(dataclasses.replace(result, expression=some.expression), some)


def test_gain_zero_leaves_the_face_at_rest_and_one_changes_nothing():
    some = track()
    assert same(edit.expression_gain(some, 1.0), some)
    still = in_head(edit.expression_gain(some, 0.0))
    assert np.ptp(still, axis=0).max() < 1e-6
    gains = torch.linspace(0, 2, 40)
    curve = in_head(edit.expression_gain(some, gains, "mouth", torch.zeros(21, 3)))
    np.testing.assert_allclose(curve[:, 19], in_head(some)[:, 19] * gains.numpy()[:, None], atol=1e-6)


def test_gain_commutes_with_the_head():
    some, angles = track(), head_angles(track()) * 0.5 + torch.tensor([3.0, 10.0, -5.0])
    first = with_head_angles(edit.expression_gain(some, 0.4, "mouth"), angles)
    second = edit.expression_gain(with_head_angles(some, angles), 0.4, "mouth")
    assert same(first, second, atol=1e-5)


def test_rest_has_the_closed_mouth_and_the_open_eyes():
    basis = known_basis(LP)
    opening = torch.linspace(0, 1, 100)[torch.randperm(100, generator=torch.Generator().manual_seed(1))]
    shut = (torch.arange(100) % 10 == 3).float()
    moved = opening[:, None, None] * basis.parting + shut[:, None, None] * basis.shutting
    some = track(100, expression=0.2 + moved, rotation_deg=torch.zeros(100, 3))
    rest = edit.rest_expression(some)
    assert float(basis.opening((rest - 0.2)[None])[0]) == pytest.approx(0.02, abs=0.011)  # lowest 5 %
    assert float(basis.closure((rest - 0.2)[None])[0]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("gain", "region", "kind", "message"),
    [
        (-0.1, "all", InputError, "the gain must lie between 0 and 10, but is -0.1"),
        (float("nan"), "all", InputError, "must be a number from 0 to 10, not nan"),
        (torch.ones(39), "all", ShapeError, r"shape \(40\), but has \(39,\)"),
        (torch.full((40,), torch.nan), "all", InputError, "40 values of 40 that are NaN"),
        (1.0, "nose", InputError, "one of mouth, eyes, brows, rest, all, not 'nose'"),
    ],
)  # fmt: skip
def test_bad_gain_is_refused(gain, region, kind, message):
    with pytest.raises(kind, match=message):
        edit.expression_gain(track(), gain, region)


def test_regions_of_face_vid2vid_must_be_measured():
    some = track(layout=FV)
    with pytest.raises(InputError, match="which keypoints of face-vid2vid-15 move the mouth.* is not known.*Measure"):
        edit.expression_gain(some, 0.5, "mouth")
    share = (torch.arange(15) < 3).float()
    basis = ExpressionBasis(FV, torch.ones(15, 3), torch.zeros(15, 3), {"mouth": share})
    result = edit.expression_gain(some, 0.0, "mouth", torch.zeros(15, 3), basis)
    assert not result.expression[:, :3].any() and torch.equal(result.expression[:, 3:], some.expression[:, 3:])
    with pytest.raises(InputError, match="has no region eyes, only mouth"):
        region_share(FV, "eyes", basis)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_head_gain_and_turn(layout):
    some = track(layout=layout)
    assert edit.head_edit(some) is some
    locked = edit.head_edit(some, 0.0)
    for values, mean in (
        (head_angles(locked), head_angles(some).mean(0)), (locked.translation, some.translation.mean(0))
    ):  # fmt: skip
        torch.testing.assert_close(values, mean.expand_as(values), atol=2e-3, rtol=0)
    assert float(locked.scale.std()) < 1e-6
    np.testing.assert_allclose(in_head(locked), in_head(some), atol=1e-6)  # the face does the same on another head
    turned = edit.head_edit(some, 1.0, (5.0, -12.0, 3.0))
    expected = head_angles(some) + torch.tensor([5.0, -12.0, 3.0])
    torch.testing.assert_close(head_angles(turned), expected, atol=2e-3, rtol=0)
    assert torch.equal(turned.translation, some.translation)


def test_blinks_are_added_but_shut_no_eye_twice():
    basis = known_basis(LP)
    own = torch.zeros(40)
    own[20:24] = 1
    some = track(expression=own[:, None, None] * basis.shutting)
    some = with_head_angles(dataclasses.replace(some, rotation_deg=torch.zeros(40, 3)), head_angles(some))
    shut = torch.zeros(40)
    shut[5:8] = 1
    shut[21:23] = 1
    result = edit.with_blinks(some, shut)
    torch.testing.assert_close(curves_of(result).blink, torch.maximum(own, shut), atol=1e-5, rtol=0)
    assert torch.equal(result.expression[0], some.expression[0])
    with pytest.raises(InputError, match="the largest value of the blinks must lie between 0 and 1, but is 2"):
        edit.with_blinks(some, 2 * shut)


@pytest.mark.parametrize("smoother", ["one-euro", "gaussian"])
def test_smoothing_calms_noise_and_keeps_what_is_still(smoother):
    still = track(expression=torch.full((40, 21, 3), 0.03), rotation_deg=torch.tensor([[4.0, 9.0, -2.0]]).expand(40, 3),
                  translation=torch.full((40, 3), 0.2), scale=torch.full((40,), 1.4))  # fmt: skip
    assert same(edit.smoothed(still, 0.8, smoother), still, atol=1e-4)
    noisy = track(200, expression=0.003 * torch.randn(200, 21, 3, generator=torch.Generator().manual_seed(2)),
                  rotation_deg=torch.zeros(200, 3), translation=torch.zeros(200, 3), scale=torch.ones(200))  # fmt: skip
    calm = edit.smoothed(noisy, 0.8, smoother)
    assert float(calm.expression.std()) < 0.5 * float(noisy.expression.std())
    assert edit.smoothed(noisy, 0.0, smoother) is noisy


def test_gaussian_smoothing_is_scipys():
    some = track(100, rotation_deg=torch.zeros(100, 3))
    calm = edit.smoothed(some, 0.5, "gaussian")
    sigma = edit.GAUSSIAN_S * 0.5 * 25
    expected = gaussian_filter1d(some.expression.double().numpy(), sigma, axis=0, mode="nearest", radius=5)
    np.testing.assert_allclose(calm.expression, expected, atol=1e-5)


def test_smoothing_passes_the_back_of_the_head():
    angles = torch.zeros(40, 3)
    angles[:, 2] = torch.where(torch.arange(40) % 2 == 0, 179.0, -179.0)  # two degrees to and fro
    calm = edit.smoothed(track(rotation_deg=angles, expression=torch.zeros(40, 21, 3)), 1.0, "gaussian")
    assert float(calm.rotation_deg[5:-5, 2].abs().min()) > 179


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blend_is_linear_but_turns_heads_along_the_arc(layout):
    first, second = track(layout=layout), track(layout=layout, seed=1)
    assert same(edit.blended(first, second, 0.0), first) and same(edit.blended(first, second, 1.0), second)
    half = edit.blended(first, second, 0.5)
    torch.testing.assert_close(half.expression, (first.expression + second.expression) / 2)
    ends = [scipy_rotation(layout, some.rotation_deg).as_matrix() for some in (first, second)]
    middles = [Slerp([0, 1], Rotation.from_matrix(np.stack(pair)))(0.5).as_matrix() for pair in zip(*ends, strict=True)]
    np.testing.assert_allclose(rotation_of(layout, half.rotation_deg), np.stack(middles), atol=1e-5)
    cross = edit.blended(first, second, torch.linspace(0, 1, 40))
    assert torch.equal(cross.scale[0], first.scale[0]) and torch.equal(cross.scale[-1], second.scale[-1])


def test_what_does_not_fit_together_is_told_with_both():
    some = track()
    with pytest.raises(InputError, match="liveportrait-21, but face-vid2vid-15|face-vid2vid-15, but liveportrait-21"):
        edit.blended(some, track(layout=FV), 0.5)
    with pytest.raises(InputError, match="40 frames at 25 fps and 30 frames at 25 fps; resample one, then cut"):
        edit.blended(some, track(30), 0.5)
    with pytest.raises(InputError, match="40 frames at 25 fps and 40 frames at 30 fps"):
        edit.composed(some, track(fps=Fraction(30)), ("mouth",))


def test_parts_of_another_track():
    first, second = track(), track(seed=1)
    lips = edit.composed(first, second, ("mouth",))
    mouth = region_share(LP, "mouth").bool()
    np.testing.assert_allclose(in_head(lips)[:, mouth], in_head(second)[:, mouth], atol=1e-6)
    assert torch.equal(lips.expression[:, ~mouth], first.expression[:, ~mouth])
    assert same(dataclasses.replace(lips, expression=first.expression), first)
    head = edit.composed(first, second, ("head",))
    np.testing.assert_allclose(in_head(head), in_head(first), atol=1e-6)
    assert torch.equal(head.rotation_deg, second.rotation_deg) and torch.equal(head.scale, second.scale)
    assert same(edit.composed(first, second, (*REGIONS, "head")), second, atol=1e-6)
    assert same(edit.composed(first, second, ()), first)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_carrying_to_another_face(layout):
    driving, face = track(layout=layout), track(1, layout, seed=5)
    onto_itself = edit.carry(driving, driving.slice(0, 1))
    assert same(onto_itself, driving, atol=1e-4)
    relative = edit.carry(driving, face)
    assert same(relative.slice(0, 1), dataclasses.replace(face, valid=driving.valid[:1]), atol=1e-4)
    # as LivePortrait's public code has it, whose matrices are transposed: (R_i R_0^T) R_s
    turns = [scipy_rotation(layout, some.rotation_deg).as_matrix() for some in (driving, driving.slice(0, 1), face)]
    of_frame, of_first, of_source = (turn.transpose(0, 2, 1) for turn in turns)
    expected = of_frame @ of_first.transpose(0, 2, 1) @ of_source
    got = rotation_of(layout, relative.rotation_deg).numpy().transpose(0, 2, 1)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(relative.scale, face.scale * driving.scale / driving.scale[0], rtol=1e-5)
    absolute = edit.carry(driving, face, mode="absolute")
    assert same(dataclasses.replace(absolute, scale=driving.scale), driving)
    assert torch.equal(absolute.scale, face.scale.expand(40))


def test_carrying_needs_single_frames_of_its_layout():
    with pytest.raises(InputError, match="source must be one frame of keypoints, not 40"):
        edit.carry(track(), track())
    with pytest.raises(InputError, match="is needed; make the track"):
        edit.carry(track(), track(1, FV))
    with pytest.raises(InputError, match="one of relative, absolute, not 'auto'"):
        edit.carry(track(), track(1), mode="auto")


def test_carrying_begins_where_the_face_is_first_seen():
    some = track(valid=torch.arange(40) >= 3)
    assert same(edit.first_seen(some), some.slice(3, 4))
    carried = edit.carry(some, track(1, seed=5))
    torch.testing.assert_close(carried.translation[3], track(1, seed=5).translation[0])


def test_edits_by_options_are_those_one_by_one():
    some = track()
    assert same(edit.edit_keypoints(some, KeypointEdit()), some)
    got = edit.edit_keypoints(some, KeypointEdit(mouth_gain=0.5, head_gain=0.2, yaw_deg=8))
    expected = edit.head_edit(edit.expression_gain(some, 0.5, "mouth"), 0.2, (0, 8, 0))
    assert same(got, expected, atol=1e-6)
    long = track(1500, expression=torch.zeros(1500, 21, 3), rotation_deg=torch.zeros(1500, 3))
    blinks = curves_of(edit.edit_keypoints(long, KeypointEdit(blink_rate=20, head_gain=1))).blink
    starts = int(((blinks[1:] > 0.5) & (blinks[:-1] <= 0.5)).sum())
    assert 10 <= starts <= 32  # of a minute
    assert not torch.equal(blinks, curves_of(edit.edit_keypoints(long, KeypointEdit(blink_rate=20, seed=1))).blink)
    all_alike = KeypointEdit(mouth_gain=0.5, eyes_gain=0.5, brows_gain=0.5, rest_gain=0.5)
    assert same(edit.edit_keypoints(track(layout=FV), all_alike), edit.expression_gain(track(layout=FV), 0.5))
    with pytest.raises(InputError, match="head_gain must lie between 0 and 2, but is 3"):
        KeypointEdit(head_gain=3)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_resampling_in_time(layout):
    line = torch.arange(40, dtype=torch.float32)
    some = track(layout=layout, expression=(0.01 * line)[:, None, None].expand(40, KEYPOINT_LAYOUTS[layout], 3),
                 rotation_deg=line[:, None] * torch.tensor([0.0, 1.0, 0.0]))  # fmt: skip
    doubled = in_time.at_fps(some, 50)
    assert (len(doubled), doubled.fps) == (80, 50) and doubled.seconds == some.seconds
    times = (np.arange(80) + 0.5) / 50 * 25 - 0.5
    np.testing.assert_allclose(doubled.expression[:, 0, 0], 0.01 * times.clip(0, 39), atol=1e-6)
    np.testing.assert_allclose(doubled.rotation_deg[:, 1], times.clip(0, 39), atol=1e-3)
    assert in_time.at_fps(some, 25) is some
    assert [len(in_time.at_fps(some, fps)) for fps in (12, 60)] == [20, 96]
    gap = dataclasses.replace(some, valid=line != 10)
    assert in_time.at_fps(gap, 50).valid.logical_not().nonzero().flatten().tolist() == [19, 20, 21, 22]


def test_length_and_order():
    some = track(4)
    assert torch.equal(in_time.of_length(some, 9).scale, some.scale[[0, 1, 2, 3, 2, 1, 0, 1, 2]])
    assert torch.equal(in_time.of_length(some, 6, "hold").scale, some.scale[[0, 1, 2, 3, 3, 3]])
    assert torch.equal(in_time.of_length(some, 6, "loop").scale, some.scale[[0, 1, 2, 3, 0, 1]])
    assert len(in_time.of_length(some, 6, "cut")) == 4 and same(in_time.of_length(some, 3), some.slice(0, 3))
    assert same(in_time.join([some.slice(0, 1), some.slice(1, 4)]), some)
    with pytest.raises(InputError, match="do not make one keypoint track: 4 frames of liveportrait-21 at 25 fps, 4"):
        in_time.join([some, track(4, FV)])
    with pytest.raises(InputError, match="none at all"):
        in_time.join([])


def test_curves_are_what_the_track_was_made_of():
    basis = known_basis(LP)
    times = torch.arange(50) / 25
    mouth, blink = 0.3 * torch.sin(6 * times).abs(), (torch.arange(50) % 20 == 5).float()
    moved = mouth[:, None, None] * basis.parting + blink[:, None, None] * basis.shutting
    head = torch.stack([5 * times, 10 * torch.sin(times), -3 * times], 1)
    flat = track(50, expression=moved, rotation_deg=torch.zeros(50, 3))
    some = with_head_angles(flat, head)
    rest = torch.zeros(21, 3)
    curves = curves_of(some, rest=rest)
    for name, expected in zip(CURVES[:5], (mouth, blink, *head.unbind(1)), strict=True):
        torch.testing.assert_close(getattr(curves, name), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(curves_of(some).mouth, mouth - mouth.sort().values[:2].mean(), atol=1e-4, rtol=0)


def test_lips_and_lids_of_liveportrait_are_read_by_their_distance():
    """Keypoint 19 is the lower lip, 20 the upper: .154 half crops per corner distance in the public templates."""
    moved = torch.zeros(3, 21, 3)
    moved[:, [19, 20], 1] += torch.tensor([0.3, 0.3])  # both go down: no opening
    moved[1, 19, 1] += 0.0154
    moved[2, 20, 1] -= 0.0308
    moved[2, 19, 0] = 0.5  # sideways: none
    basis = known_basis(LP)
    torch.testing.assert_close(basis.opening(moved), torch.tensor([0.0, 0.1, 0.2]), atol=1e-5, rtol=0)
    for read, way in ((basis.opening, basis.parting), (basis.closure, basis.shutting)):
        assert float(read(way[None])[0]) == pytest.approx(1, abs=1e-5)
    assert float(basis.opening(basis.shutting[None])[0]) == float(basis.closure(basis.parting[None])[0]) == 0


def test_curves_of_an_unknown_layout_follow_its_strongest_movement():
    opening = torch.rand(60, generator=torch.Generator().manual_seed(3))
    direction = torch.zeros(15, 3)
    direction[4, 1], direction[7] = 0.08, torch.tensor([0.03, 0.0, 0.0])
    some = track(60, FV, expression=0.1 + opening[:, None, None] * direction, rotation_deg=torch.zeros(60, 3))
    curves = curves_of(some)
    expected = (opening - opening.min()) * direction.norm()
    torch.testing.assert_close(curves.mouth, expected, atol=1e-5, rtol=0)
    assert not curves.blink.any()
    assert not curves_of(track(5, FV, expression=torch.zeros(5, 15, 3))).mouth.any()
