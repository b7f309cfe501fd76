import math

import numpy as np
import pytest
import torch
from scipy.io import savemat
from scipy.spatial.transform import Rotation

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.morphable import displacement_px, fit_face, load_morphable, project
from portraittalk_core.face.topology import LEFT_IRIS, RIGHT_IRIS

UNMATCHED = [93, 127, 132, 234, 323, 356, 361, 454]
NUM_VERTICES, NUM_IDENTITIES, NUM_EXPRESSIONS = 600, 5, 64
SHIFT_OF_MESH = 100  # vertex 100 + i is MediaPipe's point i


@pytest.fixture(scope="module")
def bfm(tmp_path_factory):
    """Files of a tiny face model: the canonical face as a cloud, five smooth identities, few expressions."""
    folder = tmp_path_factory.mktemp("BFM")
    rng = np.random.default_rng(0)
    cloud = rng.normal(scale=0.5, size=(NUM_VERTICES, 3))
    face = canonical_face().double().numpy()[:468]
    cloud[SHIFT_OF_MESH : SHIFT_OF_MESH + 468] = face * [0.6, -0.6, -0.6]  # y up, towards the viewer
    smooth = np.concatenate([cloud, cloud**2, np.ones((NUM_VERTICES, 1))], 1)
    identity = smooth @ rng.normal(scale=0.05, size=(7, 3 * NUM_IDENTITIES))
    expression = smooth @ rng.normal(scale=0.02, size=(7, 3 * NUM_EXPRESSIONS))
    contents = {
        "meanshape": (cloud + [3.0, -2.0, 1.0]).reshape(1, -1),
        "idBase": identity.reshape(-1, NUM_IDENTITIES),
        "exBase": expression.reshape(-1, NUM_EXPRESSIONS),
        "tri": np.ones((4, 3), dtype=np.uint16),
    }
    savemat(folder / "BFM_model_front.mat", contents)
    index = np.arange(SHIFT_OF_MESH, SHIFT_OF_MESH + 468)
    index[UNMATCHED] = -1
    np.save(folder / "index.npy", index)
    return folder, contents, index


@pytest.fixture(scope="module")
def model(bfm):
    return load_morphable(bfm[0] / "BFM_model_front.mat", bfm[0] / "index.npy")


def as_published(bfm, coefficients, euler, translation) -> np.ndarray:
    """(468, 2) of 224 pixels, by the published camera's formulas, with NumPy; unmatched points are vertex 0."""
    _, contents, index = bfm
    identity, expression = coefficients
    mean = contents["meanshape"].reshape(-1, 3)
    mean = mean - mean.mean(0)
    cloud = mean + (contents["idBase"] @ identity + contents["exBase"] @ expression).reshape(-1, 3)
    turn = Rotation.from_euler("xyz", euler).as_matrix()  # Rz · Ry · Rx
    posed = cloud[np.maximum(index, 0)] @ turn.T + translation
    depth = 10 - posed[:, 2]
    x, y = ((1015 * posed[:, axis] + 112 * depth) / depth for axis in (0, 1))
    return np.stack([x, 224 - y], 1)


def landmarks_of(pictured: np.ndarray, scale: float, bfm, place=(40.0, 25.0)) -> torch.Tensor:
    points = torch.zeros(478, 3)
    points[:468, :2] = torch.from_numpy(pictured * scale + np.array(place)).float()
    return points


@pytest.mark.parametrize("depth", [1.0, 0.6])  # a mesh's depth is a guess, so the pose must not hang on it
@pytest.mark.parametrize("euler", [(0, 0, 0), (0.2, -0.35, 0.3), (-0.3, 0.5, -1.2)])
def test_fit_pictures_the_face_it_was_given(bfm, model, euler, depth):
    rng = np.random.default_rng(1)
    given = rng.normal(size=NUM_IDENTITIES), np.zeros(NUM_EXPRESSIONS)
    pictured = as_published(bfm, given, euler, np.zeros(3))
    points = landmarks_of(pictured, 3.0, bfm)
    turned = canonical_face()[:468].double() * torch.tensor([0.6, -0.6, -0.6])
    turned = turned @ torch.from_numpy(Rotation.from_euler("xyz", euler).as_matrix()).T
    points[:468, 2] = -turned[:, 2].float() * 3 * 101.5 * depth
    fit = fit_face(model, points)
    missed = project(model, fit, fit.expression) - points[model.landmarks, :2].double()
    assert missed.norm(dim=1).mean() < 0.5  # of a face about 300 pixels high
    found = Rotation.from_matrix(fit.rotation.numpy()) * Rotation.from_euler("xyz", euler).inv()
    assert math.degrees(found.magnitude()) < 8  # identity may take over a little of the pose


def test_displacement_matches_the_published_camera(bfm, model):
    """Fitted where the model's own camera took the picture, a change of expression moves points as that camera says."""
    rng = np.random.default_rng(2)
    euler = (0.1, 0.3, -0.2)
    nobody, rest = np.zeros(NUM_IDENTITIES), np.zeros(NUM_EXPRESSIONS)
    smile = rng.normal(size=NUM_EXPRESSIONS)
    scale = 512 / 224
    before, after = (as_published(bfm, (nobody, e), euler, np.zeros(3)) * scale for e in (rest, smile))
    points = landmarks_of(before, 1.0, bfm, (0.0, 0.0))
    turned = canonical_face()[:468].double() * torch.tensor([0.6, -0.6, -0.6])
    turned = turned @ torch.from_numpy(Rotation.from_euler("xyz", euler).as_matrix()).T
    points[:468, 2] = -turned[:, 2].float() * scale * 101.5
    fit = fit_face(model, points)
    moved = displacement_px(model, fit, torch.from_numpy(smile)[None], torch.from_numpy(rest))[0]
    true = torch.from_numpy(after - before)[model.landmarks]
    assert true.norm(dim=1).max() > 10
    assert (moved[model.landmarks, :2] - true).norm(dim=1).max() < 0.05 * true.norm(dim=1).max()


def test_displacement_is_exactly_zero_at_rest(bfm, model):
    fit = fit_face(model, landmarks_of(as_published(bfm, (np.ones(5), np.zeros(64)), (0.1, 0.2, 0), 0), 2.0, bfm))
    rest = torch.randn(64, generator=torch.Generator().manual_seed(0))
    seen = []
    moved = displacement_px(model, fit, rest.repeat(600, 1), rest, lambda done, total: seen.append((done, total)))
    assert moved.shape == (600, 478, 3)
    assert not moved.any()
    assert seen == [(250, 600), (500, 600), (600, 600)]


def test_unmatched_points_follow_their_neighbours_and_irises_their_eye_corners(bfm, model):
    fit = fit_face(model, landmarks_of(as_published(bfm, (np.zeros(5), np.zeros(64)), (0, 0, 0), 0), 2.0, bfm))
    smile = torch.randn(1, 64, generator=torch.Generator().manual_seed(3))
    moved = displacement_px(model, fit, smile, torch.zeros(64))[0]
    corners = {RIGHT_IRIS: (33, 133), LEFT_IRIS: (362, 263)}
    for iris, (one, other) in corners.items():
        assert torch.allclose(moved[list(iris)], ((moved[one] + moved[other]) / 2).expand(5, 3), atol=1e-5)
    face = canonical_face()
    for point in UNMATCHED:
        near = torch.cdist(face[[point]], face[model.landmarks])[0].topk(6, largest=False).indices
        low, high = moved[model.landmarks[near]].aminmax(dim=0)
        assert ((moved[point] >= low - 1e-5) & (moved[point] <= high + 1e-5)).all()


def test_depth_of_a_displacement_is_away_from_the_viewer_in_pixels(bfm, model):
    """Frontal: what moves a point in depth by d units moves its z by −d pixels-per-unit."""
    fit = fit_face(model, landmarks_of(as_published(bfm, (np.zeros(5), np.zeros(64)), (0, 0, 0), 0), 2.0, bfm))
    smile = torch.randn(1, 64, generator=torch.Generator().manual_seed(4)).double() * 0.01
    moved = displacement_px(model, fit, smile, torch.zeros(64))[0, model.landmarks].double()
    units = fit.rotation @ (model.expression @ smile[0]).mT
    scale_px = 2 * 1015 / 10
    assert torch.allclose(moved[:, 2], -units[2] * scale_px, rtol=0.05, atol=0.02)
    assert torch.allclose(moved[:, 1], -units[1] * scale_px, rtol=0.2, atol=0.2)


def test_missing_files_are_named_with_source_and_licence(bfm, tmp_path):
    mat, index = bfm[0] / "BFM_model_front.mat", bfm[0] / "index.npy"
    with pytest.raises(MissingDependency, match="BFM_model_front.mat.*non-commercial.*registration.*unibas"):
        load_morphable(tmp_path / "BFM_model_front.mat", index)
    with pytest.raises(MissingDependency, match="index_mp468.*registration"):
        load_morphable(mat, tmp_path / "index_mp468_from_mesh35709.npy")


def test_wrong_files_are_refused(bfm, tmp_path):
    folder, contents, index = bfm
    good_mat, good_index = folder / "BFM_model_front.mat", folder / "index.npy"
    savemat(tmp_path / "bare.mat", {"meanshape": contents["meanshape"]})
    with pytest.raises(InputError, match="idBase, exBase"):
        load_morphable(tmp_path / "bare.mat", good_index)
    savemat(tmp_path / "short.mat", {**contents, "idBase": contents["idBase"][:-3]})
    with pytest.raises(InputError, match="sizes"):
        load_morphable(tmp_path / "short.mat", good_index)
    for name, bad in (("shape", index[:400]), ("far", index + 500), ("none", index * 0 - 1)):
        np.save(tmp_path / f"{name}.npy", bad)
        with pytest.raises(InputError, match=f"{name}.npy"):
            load_morphable(good_mat, tmp_path / f"{name}.npy")


def test_a_pickled_index_is_not_run(bfm, tmp_path):
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="pickled.npy"):
        load_morphable(bfm[0] / "BFM_model_front.mat", tmp_path / "pickled.npy")


def test_fit_rejects_landmarks_on_one_point(model):
    with pytest.raises(InputError, match="one point"):
        fit_face(model, torch.ones(478, 3))
