"""Person segmentation against mediapipe's own interpreter: stored values, and itself where it is installed."""

import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage.data import astronaut as astronaut_picture

from portraittalk_core.errors import InputError, MissingDependency, ShapeError
from portraittalk_core.face.segmentation import person
from portraittalk_core.face.segmentation.guided import guided_upsampled
from portraittalk_core.face.segmentation.network import SIDE_PX, SelfieSegmentation
from portraittalk_core.face.segmentation.person import SHA256, WEIGHTS, grown, person_mask, portrait_mask

ROOT = Path(__file__).resolve().parents[4]
# mediapipe 0.10.21's mask of the astronaut at 256×256 (Pillow's bilinear): every 32nd pixel from the 8th, and pixels
# (row, column, value) of which it is not sure
PUBLIC = [
    [0.0, 0.0, 0.0, 0.0031, 0.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0],
    [0.0, 0.0, 0.0, 1.0, 0.0014, 0.0, 0.0, 0.0],
    [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0],
    [0.3483, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0],
    [0.2491, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0056, 0.0],
    [0.5125, 1.0, 1.0, 1.0, 0.9999, 1.0, 1.0, 1.0],
    [0.6956, 1.0, 1.0, 0.9845, 0.7169, 1.0, 1.0, 1.0],
]
UNSURE = [(0, 4, 0.0677), (87, 65, 0.7858), (138, 4, 0.1457), (153, 15, 0.384), (183, 157, 0.84), (246, 134, 0.75)]


@pytest.fixture(scope="module")
def small() -> np.ndarray:
    picture = Image.fromarray(astronaut_picture())
    return np.asarray(picture.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR))


@pytest.fixture(scope="module")
def network_mask(small) -> np.ndarray:
    image = torch.from_numpy(small.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        return person._network()(image)[0].numpy()


def test_network_gives_the_public_models_values(network_mask):
    assert np.abs(network_mask[8::32, 8::32] - PUBLIC).max() < 1e-3
    assert max(abs(network_mask[row, column] - value) for row, column, value in UNSURE) < 1e-3
    assert network_mask.mean() == pytest.approx(0.54042, abs=1e-4)


def test_network_gives_what_mediapipe_gives(small, network_mask):
    solutions = pytest.importorskip("mediapipe.python.solutions.selfie_segmentation", exc_type=ImportError)
    with solutions.SelfieSegmentation(model_selection=0) as public:
        expected = public.process(small).segmentation_mask
    assert np.abs(network_mask - expected).max() < 1e-3


def test_shipped_weights_are_what_the_recipe_makes(tmp_path, monkeypatch):
    found = importlib.util.find_spec("mediapipe")
    modules = Path(found.origin).parent / "modules" if found else Path("absent")
    monkeypatch.syspath_prepend(ROOT / "tools")
    pytest.importorskip("flatbuffers")
    import convert_segmentation as recipe

    source = modules / recipe.SOURCE
    if not source.is_file():
        pytest.skip("RECIPE NOT RUN: no mediapipe 0.10.21 with its models here")
    path = recipe.convert(SelfieSegmentation, source, "selfie_segmentation", tmp_path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    sys.modules.pop("convert_segmentation", None)


def test_weights_stay_small_and_name_their_licence():
    from safetensors import safe_open

    assert WEIGHTS.stat().st_size < 250_000
    with safe_open(WEIGHTS, "pt") as file:
        assert "Apache-2.0, Google LLC" in file.metadata()["portraittalk"]


def test_damaged_or_missing_weights_are_reported(tmp_path, monkeypatch):
    damaged = tmp_path / "selfie_segmentation.safetensors"
    monkeypatch.setattr(person, "WEIGHTS", damaged)
    with pytest.raises(MissingDependency, match="install this package again"):
        person._network.__wrapped__()
    damaged.write_bytes(WEIGHTS.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="damaged"):
        person._network.__wrapped__()


def test_a_masks_edge_moves_to_the_pictures_edge():
    """A disc whose coarse mask is blurred and shifted by 3 pixels."""
    y, x = np.mgrid[0:96, 0:96]
    disc = (np.hypot(x - 48, y - 48) < 25).astype(np.float32)
    colours = np.stack([0.2 + 0.6 * disc, 0.7 - 0.4 * disc, 0.3 + 0 * disc])
    coarse = ndimage.shift(ndimage.gaussian_filter(disc, 2), (3, 0), order=1)
    guide, mask = torch.from_numpy(colours)[None].float(), torch.from_numpy(coarse)[None, None]
    slopes, offsets = guided_upsampled(mask, guide, (96, 96), 6, 1e-4)
    fine = ((slopes * guide).sum(1) + offsets[:, 0])[0].numpy()
    before, after = ((values > 0.5) != (disc > 0.5) for values in (coarse, fine))
    assert before.mean() > 0.02
    assert after.mean() < 0.2 * before.mean()


def test_grown_is_a_maximum_filter():
    mask = torch.rand(1, 1, 20, 23, generator=torch.Generator().manual_seed(0))
    assert np.allclose(grown(mask, 3)[0, 0], ndimage.maximum_filter(mask[0, 0].numpy(), 7, mode="constant", cval=-1))


def test_person_mask_of_a_batch_has_the_pictures_size():
    image = torch.from_numpy(astronaut_picture().copy()).permute(2, 0, 1)[None] / 255
    masks = person_mask(torch.cat([image, torch.full_like(image, 0.5)])[..., :400])
    assert masks.shape == (2, 512, 400)
    assert masks[0, 100:200, 200:240].mean() > 0.99  # the face
    assert masks[0, :60, :150].mean() < 0.01  # the wall
    assert masks[1].mean() < 0.05
    with pytest.raises(ShapeError, match="images"):
        person_mask(image[0])


def test_a_portrait_of_nobody_has_no_mask(astronaut):
    points = astronaut.landmarks.points_px[0, :, :2]
    assert portrait_mask(astronaut.picture, points) is not None
    assert portrait_mask(torch.full_like(astronaut.picture, 128), points) is None
    wall = astronaut.picture.clone()
    wall[:300] = wall[20:21, 60:61]
    assert portrait_mask(wall, points) is None
