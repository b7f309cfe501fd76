import numpy as np
import pytest
import torch

from portraittalk_core.errors import InputError
from portraittalk_core.metrics.adfd import adfd

SIZE = (400, 300)  # H, W: a diagonal of 500
REST = 300 * torch.rand(68, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
T = torch.arange(5, dtype=torch.float64)[:, None, None]
RIGHT = torch.tensor([3.0, 0.0], dtype=torch.float64)
DOWN = torch.tensor([0.0, 4.0], dtype=torch.float64)
STILL = REST + 0 * T
MOVING = REST + T * RIGHT
OFFSET = torch.tensor([3.0, 4.0], dtype=torch.float64)

# generated, target, S, C, ADFD: the table of the design's §6.1, worked out by hand there
CASES = {
    "identical moving": (MOVING, MOVING, 1, 1, 1),
    "identical still": (STILL, STILL, 1, 1, 1),
    "both still, offset": (STILL + OFFSET, STILL, 0.99, 1, 0.99),
    "both moving, offset": (MOVING + OFFSET, MOVING, 0.99, 1, 0.99),
    "generated still": (STILL, MOVING, 0.988, 0.5, 0.494),
    "target still": (MOVING, STILL, 0.988, 0.5, 0.494),
    "opposite": (REST - T * RIGHT, MOVING, 0.976, 0, 0),
    "across": (REST + T * DOWN, MOVING, 0.98, 0.5, 0.49),
    "twice as far": (REST + T * 2 * RIGHT, MOVING, 0.988, 1, 0.988),
    "reversed in time": (MOVING.flip(0), MOVING, 0.9856, 0, 0),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_adfd_matches_the_table(case):
    generated, target, spatial, motion, score = case
    result = adfd(generated, target, SIZE)
    assert result.spatial == pytest.approx(spatial, abs=1e-9)
    assert result.motion == pytest.approx(motion, abs=1e-9)
    assert result.score == pytest.approx(score, abs=1e-9)
    assert result.num_frames == 5


def test_adfd_of_any_motion_and_itself_is_exactly_one():
    for seed in range(20):
        walk = 90 * torch.rand(7, 468, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        result = adfd(walk, walk, SIZE)
        assert (result.score, result.spatial, result.motion) == (1.0, 1.0, 1.0)


def test_adfd_counts_every_frame():
    late = MOVING.clone()
    late[3:] += OFFSET  # frame 3 moves (6, 4) where it should move (3, 0): cosine 18 / (3 √52)
    result = adfd(late, MOVING, SIZE)
    assert result.spatial_per_frame.tolist() == pytest.approx([1, 1, 1, 0.99, 0.99], abs=1e-12)
    assert result.motion_per_frame.tolist() == pytest.approx([1, 1, (6 / 52**0.5 + 1) / 2, 1], abs=1e-12)


def test_adfd_spatial_part_ends_at_zero():
    far = adfd(MOVING + 1000, MOVING, SIZE)
    assert (far.spatial, far.score) == (0.0, 0.0)


def test_adfd_is_free_of_scale():
    result = adfd(2 * (REST + T * 2 * RIGHT), 2 * MOVING, (800, 600))
    assert result.score == pytest.approx(0.988, abs=1e-9)


def test_adfd_power_weighting():
    result = adfd(REST + T * DOWN, MOVING, SIZE, weights=(2.0, 3.0), weighting="power")
    assert result.score == pytest.approx(0.98**2 * 0.5**3, abs=1e-9)


def test_adfd_product_weighting():
    assert adfd(REST + T * DOWN, MOVING, SIZE, weights=(0.5, 0.8)).score == pytest.approx(0.4 * 0.49, abs=1e-9)


def test_adfd_target_diagonal():
    square = torch.tensor([[0.0, 0], [30, 0], [30, 40], [0, 40]], dtype=torch.float64).expand(3, -1, -1)
    assert adfd(square + torch.tensor([5.0, 0]), square, SIZE, diagonal="target").spatial == pytest.approx(
        0.9, abs=1e-9
    )


@pytest.mark.parametrize("options", [{"printed": True}, {"weighting": "printed"}])
def test_adfd_printed_gives_half_for_identical_motion(options):
    # 68 points moving 3 px: (612 + 1) / (2 · 612)
    assert adfd(MOVING, MOVING, SIZE, **options).score == pytest.approx(613 / 1224, abs=1e-9)


def test_adfd_printed_rejects_stillness():
    with pytest.raises(InputError, match="printed"):
        adfd(STILL, STILL, SIZE, printed=True)


def test_adfd_of_one_frame_counts_no_motion():
    result = adfd(STILL[:1] + OFFSET, STILL[:1], SIZE)
    assert (result.motion, result.score) == (1.0, pytest.approx(0.99, abs=1e-9))


def test_adfd_accepts_numpy():
    assert adfd(np.asarray(MOVING), np.asarray(MOVING), SIZE).score == 1.0


@pytest.mark.parametrize(
    ("generated", "target", "size", "message"),
    [
        (MOVING[:4], MOVING, SIZE, "same shape"),
        (MOVING[..., :1], MOVING, SIZE, "generated_px must have shape"),
        (MOVING.where(MOVING < 1e9, torch.nan) * float("nan"), MOVING, SIZE, "NaN"),
        (MOVING, MOVING, (0, 300), "image_size"),
        (MOVING, MOVING, (400, float("nan")), "image_size"),
        (MOVING, MOVING, (400, 300, 3), "image_size"),
        (MOVING, MOVING, 512, "image_size"),
        ("points", MOVING, SIZE, "generated_px must be landmarks"),
        (MOVING[:0], MOVING[:0], SIZE, "empty"),
    ],
)
def test_adfd_rejects(generated, target, size, message):
    with pytest.raises(InputError, match=message):
        adfd(generated, target, size)


@pytest.mark.parametrize("options", [{"weights": (1.0,)}, {"weights": (-1.0, 1.0)}, {"weights": (float("nan"), 1.0)}])
def test_adfd_rejects_weights(options):
    with pytest.raises(InputError, match="weights must be"):
        adfd(MOVING, MOVING, SIZE, **options)


@pytest.mark.parametrize("options", [{"weighting": "sum"}, {"diagonal": "face"}])
def test_adfd_rejects_unknown_words(options):
    with pytest.raises(InputError, match="must be one of"):
        adfd(MOVING, MOVING, SIZE, **options)


def test_adfd_target_diagonal_rejects_points_that_coincide():
    with pytest.raises(InputError, match="one point"):
        adfd(0 * STILL, 0 * STILL, SIZE, diagonal="target")
