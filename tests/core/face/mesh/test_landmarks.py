"""The chosen face of a portrait, and one face through a video."""

import weakref
from fractions import Fraction

import pytest
import torch

from portraittalk_core.errors import InputError, NoFaceError
from portraittalk_core.face.canonical import canonical_face
from portraittalk_core.face.choice import BoxChoice
from portraittalk_core.face.geometry import rotation_matrix
from portraittalk_core.face.mesh import landmarks as mesh
from portraittalk_core.face.mesh import search
from portraittalk_core.face.mesh.landmarks import find_portrait, track_faces

FPS = Fraction(25)
BOX = (120, 80, 220, 200)
GREY = 100  # darker than what the painted mesh sees


def moved(box, x=0, y=0):
    return (box[0] + x, box[1] + y, box[2] + x, box[3] + y)


def off_px(painted, track, frame, box) -> float:
    return float((track.points_px[frame] - painted.face_in(box))[:, :2].norm(dim=1).max())


def test_find_portrait_holds_picture_and_landmarks(painted):
    picture = painted.paint(BOX)
    portrait = find_portrait(picture, source="anna.png", mesh=painted.mesh)
    assert portrait.picture is picture
    assert portrait.source == "anna.png"
    assert (portrait.landmarks.width, portrait.landmarks.height) == (400, 300)
    assert off_px(painted, portrait.landmarks, 0, BOX) < 1
    assert not painted.mesh.closed


def test_find_portrait_takes_asked_face(painted):
    boxes = ((20, 50, 120, 170), (250, 50, 320, 140))
    for index, box in enumerate(boxes):
        portrait = find_portrait(painted.paint(*boxes), face_index=index, mesh=painted.mesh)
        assert off_px(painted, portrait.landmarks, 0, box) < 1
    portrait = find_portrait(painted.paint(*boxes[::-1]), face_order="left_to_right", mesh=painted.mesh)
    assert off_px(painted, portrait.landmarks, 0, boxes[0]) < 1


def test_find_portrait_rejects_picture_without_face(painted):
    with pytest.raises(NoFaceError, match=r"tree\.png \(400×300 pixels\)\. Use a picture"):
        find_portrait(painted.paint(), source="tree.png", mesh=painted.mesh)


def test_find_portrait_rejects_index_and_lists_faces(painted):
    picture = painted.paint((20, 50, 120, 170), (250, 50, 320, 140))
    with pytest.raises(NoFaceError) as caught:
        find_portrait(picture, face_index=2, source="pair.png", mesh=painted.mesh)
    said = str(caught.value)
    assert "face_index is 2, but pair.png holds 2 faces (largest first)" in said
    assert "0: 100×120 pixels around (70, 110); 1: 70×90 pixels around (285, 95)" in said


def test_find_portrait_says_that_it_takes_one_of_several(painted, caplog):
    picture = painted.paint((20, 50, 120, 170), (250, 50, 320, 140))
    find_portrait(picture, source="pair.png", mesh=painted.mesh)
    (said,) = [record.getMessage() for record in caplog.records if "faces" in record.getMessage()]
    assert "pair.png holds 2 faces, and face 0 is taken, largest first: 0: 100×120 pixels around (70, 110); 1: " in said
    assert said.endswith("give its number (--face-index) or its place (--face).")


def test_find_portrait_notes_quietly_which_of_several_was_named(painted, caplog):
    picture = painted.paint((20, 50, 120, 170), (250, 50, 320, 140))
    caplog.set_level("INFO")
    for named in (1, BoxChoice((20, 50, 120, 170)), 0):
        find_portrait(picture, named, source="pair.png", mesh=painted.mesh)
    find_portrait(painted.paint(BOX), 0, source="one.png", mesh=painted.mesh)
    first, second = "100×120 pixels around (70, 110)", "70×90 pixels around (285, 95)"
    assert [(record.levelname, record.getMessage()) for record in caplog.records if "taken" in record.getMessage()] == [
        ("INFO", f"face {number} of the 2 in pair.png is taken: {place}.")
        for number, place in ((1, second), (0, first), (0, first))
    ]


def test_find_portrait_rejects_negative_index(painted):
    with pytest.raises(InputError, match="face_index"):
        find_portrait(painted.paint(BOX), face_index=-1, mesh=painted.mesh)


def test_find_portrait_rejects_too_small_face(painted):
    with pytest.raises(
        NoFaceError, match=r"far\.png is too small: it measures 20×24 of 200×150.*9 pixels apart, and 12"
    ):
        find_portrait(painted.paint((100, 60, 120, 84), width=200, height=150), source="far.png", mesh=painted.mesh)


@pytest.mark.parametrize(("yaw_deg", "warns"), [(50.0, True), (-50.0, True), (15.0, False)])
def test_find_portrait_warns_of_a_face_turned_aside(monkeypatch, caplog, yaw_deg, warns):
    turned = canonical_face() @ rotation_matrix(torch.tensor([[0.0, yaw_deg, 0.0]]))[0].T
    points = (60 * turned + torch.tensor([128.0, 100.0, 0])) / 256
    monkeypatch.setattr(mesh, "detect_any_way_up", lambda *_: points[None])
    find_portrait(torch.zeros(256, 256, 3, dtype=torch.uint8), source="side.png", mesh=object())
    assert ("side.png is turned aside by about 50°" in caplog.text) is warns


@pytest.mark.parametrize(
    ("roll_deg", "said"),
    [(180.0, "stands upside down"), (90.0, "lies on its side"), (-90.0, "lies on its side"), (20.0, "")],
)
def test_find_portrait_warns_of_a_rolled_face(monkeypatch, caplog, roll_deg, said):
    rolled = canonical_face() @ rotation_matrix(torch.tensor([[0.0, 0.0, roll_deg]]))[0].T
    points = (60 * rolled + torch.tensor([128.0, 128.0, 0])) / 256
    monkeypatch.setattr(mesh, "detect_any_way_up", lambda *_: points[None])
    monkeypatch.setattr(mesh, "mouth_covered", lambda *_: False)
    find_portrait(torch.zeros(256, 256, 3, dtype=torch.uint8), source="side.png", mesh=object())
    assert said in caplog.text if said else not caplog.text


@pytest.mark.parametrize("covered", [True, False])
def test_find_portrait_warns_of_a_covered_mouth(painted, monkeypatch, caplog, covered):
    monkeypatch.setattr(mesh, "mouth_covered", lambda *_: covered)
    find_portrait(painted.paint(BOX), source="scarf.png", mesh=painted.mesh)
    assert ("the mouth in scarf.png cannot be seen" in caplog.text) is covered


def test_track_faces_follows_moving_face(painted):
    boxes = [moved(BOX, 4 * i, 2 * i) for i in range(20)]
    track = track_faces((painted.paint(box) for box in boxes), FPS, painted.mesh)
    assert len(track) == 20
    assert track.valid.all()
    assert track.fps == FPS
    assert max(off_px(painted, track, i, box) for i, box in enumerate(boxes)) < 1.5


def test_track_faces_stays_with_chosen_face_when_a_larger_one_comes(painted):
    boxes = [moved((60, 60, 120, 130), i) for i in range(15)]
    larger = [None] * 5 + [(230, 60, 360, 220)] * 10
    pictures = (painted.paint(*pair) for pair in zip(boxes, larger, strict=True))
    track = track_faces(pictures, FPS, painted.mesh)
    assert off_px(painted, track, 14, boxes[14]) < 1.5


def test_track_faces_waits_for_asked_face(painted):
    boxes, other = ((20, 50, 140, 200), (250, 50, 320, 140)), (20, 50, 140, 200)
    pictures = [painted.paint(other)] * 2 + [painted.paint(*boxes)] * 3
    track = track_faces(pictures, FPS, painted.mesh, face_index=1)
    assert track.valid.tolist() == [False, False, True, True, True]
    assert off_px(painted, track, 4, boxes[1]) < 1.5


@pytest.mark.parametrize(("on_missing", "between"), [("hold", 0), ("interpolate", 15)])
def test_track_faces_fills_gaps(painted, on_missing, between):
    seen = [None, BOX, None, None, None, moved(BOX, 60), None]
    track = track_faces([painted.paint(box) for box in seen], FPS, painted.mesh, on_missing=on_missing)
    assert track.valid.tolist() == [box is not None for box in seen]
    assert off_px(painted, track, 0, BOX) < 1.5
    assert off_px(painted, track, 2, moved(BOX, between)) < 1.5
    assert off_px(painted, track, 4, moved(BOX, 3 * between)) < 1.5
    assert off_px(painted, track, 6, moved(BOX, 60)) < 1.5


def test_track_faces_error_names_first_frame_and_count(painted):
    pictures = [painted.paint(box) for box in (BOX, BOX, None, BOX, None)]
    with pytest.raises(
        NoFaceError, match=r"walk\.mp4 shows no face in 2 of 5 frames, the first is frame 2 \(0\.08 s\)"
    ):
        track_faces(pictures, FPS, painted.mesh, on_missing="error", source="walk.mp4")


def test_track_faces_finds_lone_face_again_anywhere(painted):
    elsewhere = (290, 150, 380, 250)
    track = track_faces([painted.paint(box) for box in (BOX, None, elsewhere)], FPS, painted.mesh)
    assert track.valid.tolist() == [True, False, True]
    assert off_px(painted, track, 2, elsewhere) < 1.5


def test_track_faces_takes_nobody_else_for_one_of_two(painted):
    other = (290, 60, 370, 160)
    pictures = [painted.paint(BOX, other), painted.paint(None, other), painted.paint(moved(BOX, 5), other)]
    track = track_faces(pictures, FPS, painted.mesh)
    assert track.valid.tolist() == [True, False, True]
    assert off_px(painted, track, 1, BOX) < 1.5


@pytest.mark.parametrize(
    ("index", "said"), [(0, "any of the 3 frames of sea.mp4; choose"), (2, r"\(face 2 was asked for")]
)
def test_track_faces_rejects_video_without_the_face(painted, index, said):
    pictures = [painted.paint(BOX if index else None)] * 3
    with pytest.raises(NoFaceError, match=said):
        track_faces(pictures, FPS, painted.mesh, face_index=index, source="sea.mp4")


def test_track_faces_follows_a_face_that_stands_upside_down(painted, monkeypatch, caplog):
    """What tells which way is up is a grey corner at the upper left; the face itself is found either way."""
    monkeypatch.setattr(search, "is_upside_down", lambda picture, _: not bool((picture[:5, :5] == GREY).all()))

    def filmed(*boxes):
        for box in boxes:
            picture = painted.paint() if box is None else painted.paint(box)
            picture[:5, :5] = GREY
            yield torch.rot90(picture, 2).contiguous()

    boxes = (None, BOX, moved(BOX, 6, 2), None, moved(BOX, 9, 3))
    track = track_faces(filmed(*boxes), FPS, painted.mesh, source="turned.mp4")
    assert track.valid.tolist() == [False, True, True, False, True]
    for frame in (1, 2, 4):
        upright = painted.face_in(boxes[frame])
        expected = torch.stack([400 - upright[:, 0], 300 - upright[:, 1]], 1)
        assert float((track.points_px[frame, :, :2] - expected).norm(dim=1).max()) < 1
    assert "the face in turned.mp4 stands upside down" in caplog.text


def test_track_faces_tells_nothing_of_an_upright_film(painted, caplog):
    assert track_faces([painted.paint(BOX)] * 2, FPS, painted.mesh).valid.all()
    assert not caplog.records


def test_track_faces_rejects_empty_video(painted):
    with pytest.raises(NoFaceError, match="0 frames"):
        track_faces([], FPS, painted.mesh)


def test_track_faces_rejects_unknown_policy(painted):
    with pytest.raises(InputError, match="interpolate"):
        track_faces([painted.paint(BOX)], FPS, painted.mesh, on_missing="guess")


def test_track_faces_keeps_no_pictures(painted):
    alive: list[weakref.ref] = []

    def pictures():
        for i in range(12):
            picture = painted.paint(moved(BOX, i))
            alive.append(weakref.ref(picture))
            yield picture
            del picture
            assert sum(ref() is not None for ref in alive) <= 2

    assert torch.isfinite(track_faces(pictures(), FPS, painted.mesh).points).all()
