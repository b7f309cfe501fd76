"""The detector over an ONNX file that finds bright discs, and against InsightFace where that is installed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx_models import HALF_BOX, OFFSETS, paint_disc, write_detector, write_recogniser  # noqa: E402

from portraittalk_core.errors import InputError  # noqa: E402
from portraittalk_core.face.detection.scrfd import FaceDetector, letterbox  # noqa: E402


def opened(path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> FaceDetector:
    return FaceDetector(opened(write_detector(tmp_path_factory.mktemp("scrfd") / "det_10g.onnx")), "det_10g.onnx")


# diameters that are 6 cells of one level; the picture of 640×480 is shown as it is
@pytest.mark.parametrize(("x", "y", "stride"), [(200, 100, 8), (412, 260, 16), (330, 250, 32)])
def test_a_disc_is_found_where_it_is(detector, x, y, stride):
    (face, *others) = detector.detect(paint_disc((x, y, 6 * stride)))
    assert not others and face.score > 0.9
    middle = torch.tensor([face.box[:2], face.box[2:]]).mean(0)
    assert (middle - torch.tensor([x, y])).abs().max() <= stride
    assert face.box[2] - face.box[0] == pytest.approx(2 * HALF_BOX * stride)
    torch.testing.assert_close(face.points, middle + torch.tensor(OFFSETS) * stride)


def test_places_are_those_of_a_picture_of_another_size(detector):
    (small,) = detector.detect(paint_disc((300, 200, 96)))
    (large,) = detector.detect(paint_disc((900, 600, 288), width=1920, height=1440))
    torch.testing.assert_close(large.points, small.points * 3)
    assert large.box == pytest.approx([3 * v for v in small.box])


def test_upright_and_tiny_pictures(detector):
    (face,) = detector.detect(paint_disc((100, 500, 96), width=300, height=640))
    assert abs(face.box[0] + face.box[2] - 200) <= 32 and abs(face.box[1] + face.box[3] - 1000) <= 32
    for shape in ((1, 1), (1, 500), (500, 1)):
        assert detector.detect(torch.zeros(*shape, 3, dtype=torch.uint8)) == []


def test_largest_comes_first(detector):
    faces = detector.detect(paint_disc((100, 100, 48), (450, 240, 192), (200, 400, 96)))
    assert [round((f.box[2] - f.box[0]) / 6) for f in faces] == [32, 16, 8]


def test_a_face_that_fills_the_picture_is_found_in_a_smaller_one(detector):
    picture = paint_disc((240, 240, 380), width=480, height=480)
    assert not detector.detect_at(picture, 640, 640)
    looks = []
    (face,) = detector.detect(picture, lambda: looks.append(1))
    assert len(looks) > 1
    assert abs(sum(face.box[::2]) / 2 - 240) < 60 and abs(sum(face.box[1::2]) / 2 - 240) < 60


def test_nothing_is_found_in_an_empty_picture_after_six_looks(detector):
    looks = []
    assert detector.detect(paint_disc(), lambda: looks.append(1)) == []
    assert len(looks) == 6


def test_a_look_can_be_stopped(detector):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detector.detect(paint_disc(), stop)


def test_a_file_of_one_size_is_used_at_that_size(tmp_path):
    fixed = FaceDetector(opened(write_detector(tmp_path / "a.onnx", size=320)))
    (face,) = fixed.detect(paint_disc((300, 200, 96)))
    assert abs(face.box[0] + face.box[2] - 600) <= 32


def test_decoding_matches_loops_over_cells(tmp_path):
    """Another way to say the same: every anchor by itself, in numpy, with a quadratic suppression."""
    session = opened(write_detector(tmp_path / "a.onnx", seed=5))
    draw = np.random.default_rng(0)
    picture = (np.kron(draw.random((12, 15, 3)), np.ones((16, 16, 1))) * 255).astype(np.uint8)  # 192×240
    faces = FaceDetector(session).detect_at(torch.from_numpy(picture), 192, 256)
    shown = np.zeros((192, 256, 3), np.float32)
    shown[:, :240] = picture
    outputs = session.run(None, {"input.1": ((shown - 127.5) / 128).transpose(2, 0, 1)[None]})
    found = []
    for level, stride in enumerate((8, 16, 32)):
        for number, score in enumerate(outputs[level][:, 0]):
            row, column = divmod(number // 2, 256 // stride)
            at = np.array([column, row])
            box, points = outputs[3 + level][number], outputs[6 + level][number].reshape(5, 2)
            if score >= 0.5:
                found.append((score, [*(at - box[:2]) * stride, *(at + box[2:]) * stride], (at + points) * stride))
    kept = []
    for score, box, points in sorted(found, key=lambda one: -one[0]):
        if all(overlap(box, other) <= 0.4 for _, other, _ in kept):
            kept.append((score, box, points))
    assert len(found) > len(kept) > 3
    assert len(faces) == len(kept)
    for face, (score, box, points) in zip(faces, kept, strict=True):
        assert face.score == pytest.approx(score) and face.box == pytest.approx(box, abs=1e-3)
        np.testing.assert_allclose(face.points, points, atol=1e-3)


def overlap(one, two) -> float:
    def area(box):
        return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)

    both = area([max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]), min(one[3], two[3])])
    return both / (area(one) + area(two) - both)


@pytest.mark.parametrize(("height", "width"), [(600, 451), (333, 1000), (100, 80), (640, 640)])
def test_letterbox_matches_opencv(height, width):
    cv2 = pytest.importorskip("cv2")
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    scale = min(640 / height, 640 / width)
    expected = cv2.resize(picture, (int(width * scale + 1e-9), int(height * scale + 1e-9)))
    ours, grown = letterbox(torch.from_numpy(picture), 640, 640)
    tall, wide = expected.shape[:2]
    difference = np.abs(ours[:tall, :wide].numpy() - expected)
    assert difference.max() <= 1 and difference.mean() < 0.2
    assert not ours[tall:].any() and not ours[:, wide:].any()
    assert grown == tall / height


@pytest.mark.parametrize(
    ("name", "size", "all_alike"),
    [("rocket", 640, True), ("coffee", 640, False), ("astronaut", 512, True), ("astronaut", 320, False)],
)
def test_detection_matches_insightface(tmp_path, name, size, all_alike):
    """Exactly where the picture is not resized; OpenCV's resizing rounds otherwise, which a random net multiplies."""
    scrfd, data = pytest.importorskip("insightface.model_zoo.scrfd"), pytest.importorskip("skimage.data")
    path = write_detector(tmp_path / "det_10g.onnx", seed=3)
    theirs = scrfd.SCRFD(str(path), session=opened(path))
    theirs.prepare(0, input_size=(size, size), det_thresh=0.5)
    picture = getattr(data, name)()
    boxes, points = theirs.detect(np.ascontiguousarray(picture[..., ::-1]))
    faces = FaceDetector(opened(path)).detect_at(torch.from_numpy(picture.copy()), size, size)
    assert len(boxes) > 50
    ours = np.stack([np.r_[face.box, face.points.ravel(), 100 * face.score] for face in faces])
    expected = np.concatenate([boxes[:, :4], points.reshape(-1, 10), 100 * boxes[:, 4:]], 1)
    if all_alike:
        np.testing.assert_allclose(ours, expected, atol=1e-3)
    away = np.abs(expected[:, None] - ours[None]).max(2).min(1)
    assert (away < 2).mean() > 0.9 and np.median(away) < 0.1


def test_another_network_is_refused(tmp_path):
    with pytest.raises(InputError, match="x.onnx takes pictures of 112×112, not of multiples of 32"):
        FaceDetector(opened(write_recogniser(tmp_path / "a.onnx")), "x.onnx")


def test_outputs_of_another_network_are_refused():
    other = SimpleNamespace(
        get_inputs=lambda: [SimpleNamespace(name="x", shape=[1, 3, "?", "?"])],
        run=lambda names, feeds: [np.zeros((100, 1), np.float32), np.zeros((100, 4), np.float32)],
    )
    with pytest.raises(InputError, match=r"x.onnx is not an SCRFD .* gives \(100, 1\), \(100, 4\) for a picture"):
        FaceDetector(other, "x.onnx").detect(paint_disc())


@pytest.mark.parametrize("picture", [torch.zeros(3, 64, 64, dtype=torch.uint8), torch.zeros(64, 64, 3)])
def test_bad_pictures_are_refused(detector, picture):
    with pytest.raises(InputError, match="the picture must"):
        detector.detect(picture)
