"""Opening back ends, and what every real one must do with a real photograph."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.data import astronaut, coffee, colorwheel

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.face.geometry import interocular_px
from portraittalk_core.face.mesh import backends as mesh_backends
from portraittalk_core.face.mesh import native_logging as native_chatter
from portraittalk_core.face.mesh.landmarks import detect_faces, find_portrait, open_mesh
from portraittalk_core.face.mesh.tasks import FILE, FOLDERS_VARIABLE, find_model

SHARED_MODEL = Path(__file__).parents[5] / "shared" / "media" / "models" / FILE
# where a person sees them in the astronaut photograph, in pixels: irises, mouth corners, lips' inner edges, chin
BY_HAND = {468: (204, 101), 473: (246.5, 103), 61: (203.5, 140), 291: (245.5, 141), 13: (224.5, 144), 14: (224, 150)}


@pytest.fixture(scope="module", params=["solutions", "tasks", "torch"])
def mesh(request):
    model = find_model() or (SHARED_MODEL if SHARED_MODEL.is_file() else None)
    if request.param == "tasks" and model is None:
        pytest.skip(f"NOT TESTED: the Tasks back end, because no {FILE} is here; set {FOLDERS_VARIABLE} to its folder")
    try:
        opened = open_mesh(request.param, model_path=model)
    except MissingDependency as error:
        pytest.skip(f"NOT TESTED: the {request.param} back end: {error}")
    with opened:
        yield opened


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    return torch.from_numpy(astronaut().copy())


def points_px(picture, mesh) -> torch.Tensor:
    height, width = picture.shape[:2]
    faces = detect_faces(picture, mesh)
    assert len(faces) == 1
    return (faces[0] * torch.tensor([width, height, width]))[:, :2]


def test_backend_matches_points_marked_by_hand(mesh, photo):
    points = points_px(photo, mesh)
    for index, place in BY_HAND.items():
        assert float((points[index] - torch.tensor(place)).norm()) < 3, index  # eyes are 42 pixels apart


@pytest.mark.slow
def test_backend_sees_mirrored_face_mirrored(mesh, photo):
    own, mirrored = points_px(photo, mesh), points_px(photo.flip(1).contiguous(), mesh)
    for right, left in ((33, 263), (133, 362), (61, 291), (468, 473)):
        expected = torch.tensor([photo.shape[1] - own[left, 0], own[left, 1]])
        assert float((mirrored[right] - expected).norm()) < 2, right


@pytest.mark.slow
def test_backend_points_do_not_depend_on_place_in_picture(mesh, photo):
    own = points_px(photo, mesh)
    canvas = torch.full((900, 1100, 3), 90, dtype=torch.uint8)
    canvas[201 : 201 + 512, 407 : 407 + 512] = photo
    moved = points_px(canvas, mesh) - torch.tensor([407.0, 201.0])
    off = (moved - own).norm(dim=1) / interocular_px(own[None])
    assert float(off.mean()) < 0.015


def test_backend_has_no_memory(mesh, photo):
    first = mesh.detect(photo)
    mesh.detect(photo[:300, 100:400].contiguous())
    assert torch.equal(mesh.detect(photo), first)


@pytest.mark.slow
def test_backend_finds_each_of_two_faces(mesh, photo):
    half = photo[::2, ::2]
    picture = torch.zeros(512, 900, 3, dtype=torch.uint8)
    picture[:, 300:812] = photo
    picture[100:356, 20:276] = half
    faces = detect_faces(picture, mesh) * torch.tensor([900, 512, 900])
    assert [round(float(face[468, 0]) / 10) for face in faces] == [50, 12]  # irises at 504 and 20 + 102


def test_backend_finds_close_up(mesh, photo):
    close = photo[70:190, 165:285].contiguous()
    points = points_px(close, mesh)
    assert float((points[468] - torch.tensor([204.0 - 165, 101 - 70])).norm()) < 4


@pytest.mark.parametrize("make", [coffee, colorwheel])
def test_backend_finds_no_face_in_things(mesh, make):
    assert detect_faces(torch.from_numpy(make().copy()), mesh).shape == (0, 478, 3)


def test_backend_detect_shape(mesh, photo):
    points = mesh.detect(photo)
    assert points.shape == (1, 478, 3)
    assert points.dtype == torch.float32
    assert mesh.detect(torch.zeros(128, 200, 3, dtype=torch.uint8)).shape == (0, 478, 3)


@pytest.mark.parametrize("name", ["solutions", "tasks"])
def test_backend_starts_without_chatter(name, photo, capfd):
    model = find_model() or (SHARED_MODEL if SHARED_MODEL.is_file() else None)
    if name == "tasks" and model is None:
        pytest.skip(f"NOT TESTED: no {FILE} is here")
    try:
        with open_mesh(name, model_path=model if name == "tasks" else None) as opened:
            opened.detect(photo)
    except MissingDependency as error:
        pytest.skip(f"NOT TESTED: the {name} back end: {error}")
    assert capfd.readouterr().err == ""


def test_find_portrait_opens_a_mesh_by_itself(photo):
    assert float(interocular_px(find_portrait(photo).landmarks.points_px)[0]) == pytest.approx(42, abs=1.5)


def test_open_mesh_rejects_unknown_name():
    with pytest.raises(InputError, match="solutions, tasks, torch"):
        open_mesh("dlib")


def test_open_mesh_auto_takes_first_that_works(monkeypatch):
    monkeypatch.setattr(mesh_backends, "_BUILDERS", _builders(solutions=False, tasks=True, torch=True))
    assert open_mesh() == "tasks"


def test_open_mesh_auto_prefers_given_model_file(monkeypatch):
    monkeypatch.setattr(mesh_backends, "_BUILDERS", _builders(solutions=True, tasks=True, torch=True))
    assert open_mesh(model_path=Path("m.task")) == "tasks"
    assert open_mesh() == "solutions"


def test_open_mesh_auto_tells_every_way_when_none_works(monkeypatch):
    monkeypatch.setattr(mesh_backends, "_BUILDERS", _builders(solutions=False, tasks=False, torch=False))
    with pytest.raises(MissingDependency, match="(?s)- solutions: no solutions.*- tasks: no tasks.*- torch: no torch"):
        open_mesh()
    with pytest.raises(MissingDependency, match="^no tasks$"):
        open_mesh("tasks")


def _builders(**works: bool):
    def builder(name: str, there: bool):
        def build(model_path, max_faces):
            if not there:
                raise MissingDependency(f"no {name}")
            return name

        return build

    return {name: builder(name, there) for name, there in works.items()}


def test_open_mesh_tasks_rejects_missing_file(tmp_path):
    with pytest.raises(InputError, match="gone.task does not exist"):
        open_mesh("tasks", model_path=tmp_path / "gone.task")


def test_open_mesh_tasks_rejects_other_file(tmp_path):
    pytest.importorskip("mediapipe")
    path = tmp_path / "wrong.task"
    path.write_bytes(np.arange(1000, dtype=np.uint8).tobytes())
    with pytest.raises(InputError, match=r"wrong\.task is not a usable"):
        open_mesh("tasks", model_path=path)


def test_open_mesh_tasks_without_model_says_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv(FOLDERS_VARIABLE, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(MissingDependency, match=rf"https://\S+{FILE}.*{FOLDERS_VARIABLE}"):
        open_mesh("tasks")


def test_find_model_searches_named_folders(tmp_path, monkeypatch):
    inner = tmp_path / "models" / "face"
    inner.mkdir(parents=True)
    (inner / FILE).write_bytes(b"x")
    monkeypatch.setenv(FOLDERS_VARIABLE, os.pathsep.join([str(tmp_path / "nowhere"), str(tmp_path / "models")]))
    assert find_model() == inner / FILE


def test_native_chatter_muted_passes_on_other_lines(capfd):
    with native_chatter.native_chatter_muted():
        os.write(2, b"I0000 00:00:1.5 1 gl_context.cc:1] GL\nINFO: Created delegate.\nDisk full\n")
    os.write(2, b"W0000 later\n")
    assert capfd.readouterr().err == "Disk full\nW0000 later\n"


def test_native_chatter_muted_restores_after_error(capfd):
    with pytest.raises(ValueError, match="inside"), native_chatter.native_chatter_muted():
        raise ValueError("inside")
    os.write(2, b"W0000 heard\n")
    assert capfd.readouterr().err == "W0000 heard\n"
