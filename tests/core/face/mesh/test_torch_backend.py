"""The torch face mesh against mediapipe itself, OpenCV, SciPy and closed forms."""

import hashlib
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.data import astronaut

from portraittalk_core.errors import InputError, MissingDependency, ShapeError
from portraittalk_core.face.detection.blazeface import merge_overlapping
from portraittalk_core.face.mesh import torch_backend as mesh_torch
from portraittalk_core.face.mesh.attention_mesh import cut_region, upright_region
from portraittalk_core.face.mesh.torch_backend import SHA256, WEIGHTS, Roi, TorchMesh, cut, roi_from_points

ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small networks on a busy machine lose more by waiting for a second core than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def photo() -> np.ndarray:
    return astronaut().copy()


def pictures() -> dict[str, np.ndarray]:
    upright = photo()
    return {
        "upright": upright,
        "tilted": ndimage.rotate(upright, 25, axes=(1, 0), reshape=False, order=1),
        "wide": upright[40:340],
        "tall": upright[:, 120:330],
        "two": np.concatenate([upright[:300, 80:380], upright[:300, 380:80:-1]], axis=1),
    }


def points_px(mesh: TorchMesh, picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    return mesh.detect(torch.from_numpy(picture.copy())).numpy() * [width, height, width]


def error_percent(found: np.ndarray, expected: np.ndarray) -> float:
    """Mean distance of (478, 3) points in percent of the distance between the eyes' centres."""
    eyes = expected[[33, 133], :2].mean(0) - expected[[362, 263], :2].mean(0)
    return 100 * np.linalg.norm(found - expected, axis=1).mean() / np.linalg.norm(eyes)


def solutions(video: bool, max_faces: int):
    """MediaPipe's own face mesh as a function from a picture to (F, 478, 3) pixels."""
    try:
        import mediapipe

        mesh = mediapipe.solutions.face_mesh.FaceMesh(
            static_image_mode=not video, refine_landmarks=True, max_num_faces=max_faces
        )
    except Exception as error:  # noqa: BLE001 - whatever an absent or newer mediapipe raises
        pytest.skip(f"NOT COMPARED WITH MEDIAPIPE: mediapipe.solutions cannot be imported ({error})")

    def find(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        faces = mesh.process(np.ascontiguousarray(picture)).multi_face_landmarks or []
        points = [[(p.x, p.y, p.z) for p in face.landmark] for face in faces]
        return np.array(points).reshape(-1, 478, 3) * [width, height, width]

    return find


@pytest.mark.parametrize("name", sorted(pictures()))
def test_torch_mesh_matches_mediapipe_solutions(name):
    picture = pictures()[name]
    expected = solutions(video=False, max_faces=2)(picture)
    found = points_px(TorchMesh(max_faces=2), picture)
    assert len(found) == len(expected) == (2 if name == "two" else 1)
    by_place = [sorted(faces, key=lambda face: face[:, 0].mean()) for faces in (found, expected)]
    assert max(map(error_percent, *by_place)) <= 1.0  # 3-D, so depth is compared too


def test_torch_mesh_in_video_matches_mediapipe_solutions():
    reference, mesh = solutions(video=True, max_faces=1), TorchMesh(video=True, max_faces=1)
    for step in range(6):
        picture = np.roll(photo(), (2 * step, 5 * step), axis=(0, 1))
        assert error_percent(points_px(mesh, picture)[0], reference(picture)[0]) <= 1.0


def test_torch_mesh_in_video_follows_a_moving_face():
    mesh = TorchMesh(video=True, max_faces=1)
    start = points_px(mesh, photo())[0]
    for step in range(1, 8):
        found = points_px(mesh, np.roll(photo(), (3 * step, 8 * step), axis=(0, 1)))[0]
        assert error_percent(found, start + [8 * step, 3 * step, 0]) <= 3.0


def test_torch_mesh_in_video_forgets_when_the_size_changes_or_it_is_closed():
    with TorchMesh(video=True, max_faces=1) as mesh:
        assert len(points_px(mesh, photo())) == 1
        moved = np.roll(photo(), 220, axis=1)  # too far to be followed from the last place
        assert error_percent(points_px(mesh, moved[:500])[0], points_px(TorchMesh(), moved[:500])[0]) == 0
        mesh.close()
        assert error_percent(points_px(mesh, photo()[:500])[0], points_px(TorchMesh(), photo()[:500])[0]) == 0


def test_torch_mesh_is_deterministic():
    picture = torch.from_numpy(photo())
    assert torch.equal(TorchMesh().detect(picture), TorchMesh().detect(picture))


def test_torch_mesh_finds_a_small_face():
    picture = np.full((1024, 1024, 3), 120, np.uint8)
    picture[300:684, 400:784] = ndimage.zoom(photo(), (0.75, 0.75, 1), order=1)
    expected = points_px(TorchMesh(), photo())[0] * 0.75 + [400, 300, 0]
    found = points_px(TorchMesh(), picture)
    assert len(found) == 1
    assert error_percent(found[0], expected) <= 3.0


def test_torch_mesh_returns_at_most_max_faces():
    assert len(points_px(TorchMesh(max_faces=1), pictures()["two"])) == 1


@pytest.mark.parametrize("video", [False, True])
def test_torch_mesh_finds_nothing_in_a_grey_picture(video):
    found = TorchMesh(video=video).detect(torch.full((130, 200, 3), 128, dtype=torch.uint8))
    assert found.shape == (0, 478, 3)
    assert found.dtype == torch.float32


def test_torch_mesh_results_can_be_changed_in_place_and_hold_no_graph():
    found = TorchMesh().detect(torch.from_numpy(photo()))
    found += 1  # not possible outside inference mode if it was made inside
    assert not found.requires_grad


def test_torch_mesh_rejects_float_pictures_and_no_faces():
    with pytest.raises(ShapeError, match="uint8"):
        TorchMesh().detect(torch.zeros(200, 200, 3))
    with pytest.raises(InputError, match="max_faces"):
        TorchMesh(max_faces=0)


@pytest.mark.parametrize("replicate", [False, True])
@pytest.mark.parametrize("roi", [Roi(225.2, 130.5, 143.3, 0.094), Roi(20.0, 480.0, 701.7, -2.1)])
def test_cut_matches_opencv(roi, replicate):
    cv2 = pytest.importorskip("cv2")
    corners = cv2.boxPoints(((roi.x, roi.y), (roi.side, roi.side), np.degrees(roi.angle)))
    matrix = cv2.getPerspectiveTransform(corners, np.float32([[0, 192], [0, 0], [192, 0], [192, 192]]))
    border = cv2.BORDER_REPLICATE if replicate else cv2.BORDER_CONSTANT
    expected = cv2.warpPerspective(photo(), matrix, (192, 192), flags=cv2.INTER_LINEAR, borderMode=border)
    found = cut(torch.from_numpy(photo()), roi, 192, replicate).permute(1, 2, 0).numpy()
    assert (np.abs(found - expected) > 0).mean() < 0.001  # positions halfway between sub-pixels may round either way


def test_roi_from_points_is_a_turned_square_around_the_face():
    points = torch.zeros(478, 3)
    points[:, :2] = torch.tensor([50.0, 40.0])
    points[33, :2], points[263, :2] = torch.tensor([10.0, 20.0]), torch.tensor([90.0, 60.0])
    roi = roi_from_points(points)
    assert roi == pytest.approx((50, 40, 1.5 * 80, np.arctan2(40, 80)))


def test_merge_overlapping_averages_by_score():
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 50, 60, 60], [1, 0, 11, 10]])
    merged = merge_overlapping(boxes, torch.tensor([0.6, 0.9, 0.8]))
    shift = 0.8 / 1.4
    assert torch.allclose(merged, torch.tensor([[50, 50, 60, 60], [shift, 0, 10 + shift, 10]]))
    assert merge_overlapping(boxes[:0], torch.zeros(0)).shape == (0, 4)


def test_upright_region_closed_form():
    angle = torch.tensor([0.3])
    right, down = torch.tensor([[0.955336, 0.295520]]), torch.tensor([[-0.295520, 0.955336]])
    corners = torch.cat([20 + 8 * right + 2 * down, 20 - 8 * right - 2 * down, 20 + 0 * right])[None]
    axes, centre = upright_region(corners, angle)
    assert torch.allclose(centre, torch.full((1, 2), 20.0), atol=1e-5)
    assert torch.allclose(axes[0, :, 0], 1.5 * 16 / 16 * right[0], atol=1e-5)
    assert torch.allclose(axes[0, :, 1], 1.5 * 4 / 16 * down[0], atol=1e-5)


def test_cut_region_matches_scipy():
    features = torch.rand(1, 2, 12, 20, generator=torch.Generator().manual_seed(0))
    axes, centre = torch.tensor([[[0.9, -0.4], [0.3, 0.7]]]), torch.tensor([[13.23, 6.11]])
    cells = np.stack(np.meshgrid(np.arange(16) - 7.5, np.arange(16) - 7.5))  # x, y
    x, y = np.einsum("ij,jhw->ihw", axes[0].numpy(), cells) + centre[0].numpy()[:, None, None] - 0.5
    inside = (x >= 0) & (x <= 19) & (y >= 0) & (y <= 11)
    assert 0 < inside.mean() < 1
    expected = [np.where(inside, ndimage.map_coordinates(plane, [y, x], order=1), 0) for plane in features[0].numpy()]
    assert np.allclose(cut_region(features, axes, centre)[0].numpy(), expected, atol=1e-4)


def test_weights_that_are_damaged_or_missing_are_reported(tmp_path, monkeypatch):
    shutil.copytree(WEIGHTS, tmp_path / "weights")
    monkeypatch.setattr(mesh_torch, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(mesh_torch, "_network", mesh_torch._network.__wrapped__)
    mesh, damaged = TorchMesh(), tmp_path / "weights" / "attention_mesh.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(InputError, match="attention_mesh.safetensors are damaged"):
        mesh.detect(torch.from_numpy(photo()))
    damaged.unlink()
    with pytest.raises(MissingDependency, match="lacks the weights attention_mesh.safetensors"):
        TorchMesh()


def test_shipped_weights_are_what_the_recipe_makes(tmp_path):
    found = importlib.util.find_spec("mediapipe")
    modules = Path(found.origin).parent / "modules" if found else Path("absent")
    if not (modules / "face_landmark" / "face_landmark_with_attention.tflite").is_file():
        pytest.skip("RECIPE NOT RUN: no mediapipe 0.10.21 with its models here")
    pytest.importorskip("flatbuffers")
    spec = importlib.util.spec_from_file_location("convert_face_mesh", ROOT / "tools" / "convert_face_mesh.py")
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    for name, (kind, source) in recipe.MODELS.items():
        path = recipe.convert(kind, modules / source, name, tmp_path)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256[path.name]


def test_shipped_weights_stay_small_and_name_their_licence():
    from safetensors import safe_open

    assert sum((WEIGHTS / name).stat().st_size for name in SHA256) <= 5_000_000
    for name in SHA256:
        with safe_open(WEIGHTS / name, "pt") as file:
            assert "Apache-2.0, Google LLC" in file.metadata()["portraittalk"]
