"""From pictures to an embedding, over tiny ONNX files that see bright discs as faces."""

import logging
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx_models import paint_disc, write_face_models, write_recogniser  # noqa: E402

from portraittalk_core.errors import InputError, MissingDependency, NoFaceError  # noqa: E402
from portraittalk_core.face.identity.arcface_crop import norm_crop  # noqa: E402
from portraittalk_core.face.identity.encoder import FaceEncoder, FaceModelFiles, find_face_models  # noqa: E402

CPU = ["CPUExecutionProvider"]
EMPTY = paint_disc()
ANNA, BRUNO = paint_disc((200, 150, 96)), paint_disc((300, 240, 192), tint=(0.9, 1, 1))
TWO = paint_disc((120, 120, 96), (432, 272, 192))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> FaceModelFiles:
    return find_face_models(write_face_models(tmp_path_factory.mktemp("models") / "insightface"))


@pytest.fixture(scope="module")
def encoder(files):
    with FaceEncoder(files, CPU) as opened:
        yield opened


def described(files: FaceModelFiles, crop: torch.Tensor, scaled: bool = True) -> np.ndarray:
    """The embedding as InsightFace makes it from an upright face, in numpy."""
    session = ort.InferenceSession(str(files.recogniser), providers=CPU)
    pixels = crop.numpy().astype(np.float32)
    blob = ((pixels - 127.5) / 127.5 if scaled else pixels).transpose(2, 0, 1)[None]
    face = session.run(None, {"input.1": blob})[0][0]
    return face / np.linalg.norm(face)


def test_embedding_is_that_of_the_upright_face(files, encoder):
    found = encoder.encode([ANNA, BRUNO], weights=[1, 3])
    assert found.embedding.weights.tolist() == [1, 3] and found.indices == [0, 1] and not found.skipped
    for picture, face, crop, embed in zip(
        [ANNA, BRUNO], found.faces, found.crops, found.embedding.face_embeds, strict=True
    ):
        assert torch.equal(crop, norm_crop(picture, face.points))
        np.testing.assert_allclose(embed, described(files, crop), atol=1e-5)
    assert not torch.allclose(*found.embedding.face_embeds, atol=0.01)


def test_a_graph_that_scales_its_pixels_gets_them_raw(files, tmp_path):
    own = FaceModelFiles(files.detector, write_recogniser(tmp_path / "own.onnx", own_scaling=True))
    with FaceEncoder(own, CPU) as encoder:
        found = encoder.encode([ANNA])
    np.testing.assert_allclose(found.embedding.face_embeds[0], described(own, found.crops[0], scaled=False), atol=1e-5)


def test_largest_face_is_taken_unless_another_is_chosen(encoder):
    largest, smaller = (encoder.encode([TWO], face_index=i).faces[0] for i in (0, 1))
    assert largest.box[0] > 250 > smaller.box[2]


def test_pictures_without_the_face_are_skipped_with_a_warning(encoder, caplog):
    with caplog.at_level(logging.WARNING):
        found = encoder.encode([EMPTY, ANNA, EMPTY, BRUNO], ["a.png", "b.png", "c.png", "d.png"], [1, 2, 3, 4])
    assert found.indices == [1, 3] and found.embedding.weights.tolist() == [2, 4]
    assert [text.split(":")[0] for text in found.skipped] == ["a.png", "c.png"]
    assert "a.png is left out: no face was found" in caplog.text
    again = encoder.encode([ANNA, TWO], face_index=1)
    assert again.indices == [1] and "only 1 faces, not a number 1" in again.skipped[0]


@pytest.mark.slow
def test_no_face_anywhere_is_an_error(encoder):
    with pytest.raises(NoFaceError, match="no face can be used: me.png: no face was found"):
        encoder.encode([EMPTY], ["me.png"])
    with pytest.raises(NoFaceError, match="picture 1 of 9: .*picture 5 of 9: [^;]*; …"):
        encoder.encode([EMPTY] * 9)


def test_mask_hides_everybody_else(encoder):
    mask = torch.zeros(480, 640)
    mask[:, :240] = 1
    found = encoder.encode([TWO], masks=[mask])
    assert found.faces[0].box[2] < 250
    noisy = torch.where(mask[..., None] > 0, TWO, torch.tensor(200, dtype=torch.uint8))
    for picture in (noisy, TWO):  # the background does not reach the embedding
        torch.testing.assert_close(
            encoder.encode([picture], masks=[mask]).embedding.face_embeds, found.embedding.face_embeds
        )


def test_mask_that_hides_the_face_is_set_aside(encoder, caplog):
    with caplog.at_level(logging.WARNING):
        found = encoder.encode([ANNA, ANNA], masks=[torch.zeros(480, 640), None])
    assert "picture 1 of 2 shows no face within its mask" in caplog.text
    assert torch.equal(*found.crops)


def test_crops_of_another_size_and_masks(encoder):
    found = encoder.encode([EMPTY, ANNA, BRUNO[:400]], crop_px=256)
    assert [tuple(crop.shape) for crop in found.crops] == [(256, 256, 3)] * 2
    assert [tuple(mask.shape) for mask in found.masks] == [(480, 640), (400, 640)]
    face = found.faces[0].points[2].round().long()
    assert found.masks[0][face[1], face[0]] == 1 and found.masks[0][0, 0] == 0


def test_progress_is_told_and_may_stop(encoder):
    told = []
    encoder.encode([EMPTY, ANNA], on_progress=lambda *done: told.append(done))
    assert told[0] == (0, 2) and told[-1] == (2, 2) and told.count((0, 2)) == 6 and told == sorted(told)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encoder.encode([ANNA], on_progress=stop)


def test_same_picture_gives_the_same_numbers(encoder):
    first, second = (encoder.encode([ANNA]).embedding.face_embeds for _ in range(2))
    assert torch.equal(first, second)


NAN = torch.full((480, 640), float("nan"))


@pytest.mark.parametrize(
    ("pictures", "more", "words"),
    [
        ([], {}, "no picture"),
        ([ANNA.float()], {}, "picture 1 of 1 must be uint8"),
        ([ANNA[..., 0]], {}, r"picture 1 of 1 must have shape \(H, W, 3\)"),
        ([ANNA], {"weights": [1, 2]}, "1 pictures need as many weights, not 2"),
        ([ANNA], {"weights": [-1]}, "must be 0 or more"),
        ([ANNA], {"weights": [float("nan")]}, "NaN"),
        ([ANNA], {"weights": [0]}, "one above 0"),
        ([ANNA], {"names": ["a", "b"]}, "as many names, not 2"),
        ([ANNA], {"masks": [torch.ones(5, 5)]}, r"its size \(480, 640\), not \(5, 5\)"),
        ([ANNA], {"masks": [NAN]}, "NaN"),
        ([ANNA], {"face_index": -1}, "not by -1"),
        ([ANNA], {"crop_px": 200}, "multiple of 112 or 128"),
    ],
)
def test_bad_input_is_refused(encoder, pictures, more, words):
    with pytest.raises(InputError, match=words):
        encoder.encode(pictures, **more)


def test_closed_encoder_says_so(files):
    encoder = FaceEncoder(files, CPU)
    encoder.close()
    with pytest.raises(InputError, match="closed"):
        encoder.encode([ANNA])


def test_broken_file_is_named(files, tmp_path):
    broken = tmp_path / "w600k_r50.onnx"
    broken.write_bytes(files.recogniser.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"w600k_r50.onnx cannot be opened .* fetch it again"):
        FaceEncoder(FaceModelFiles(files.detector, broken), CPU)


def test_missing_onnxruntime_and_unknown_providers_are_told(files, monkeypatch):
    with pytest.raises(InputError, match="CPUExecutionProvider here, not NoSuchProvider"):
        FaceEncoder(files, ["NoSuchProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependency, match="pip install onnxruntime"):
        FaceEncoder(files)


def test_providers_of_this_machine_are_the_default(files):
    with FaceEncoder(files) as encoder:
        assert encoder.encode([ANNA]).indices == [0]


@pytest.mark.parametrize("picture", [ANNA, BRUNO, TWO], ids=["anna", "bruno", "two"])
def test_everything_matches_insightface(files, encoder, picture):
    analysis = pytest.importorskip("insightface.app").FaceAnalysis(
        name="buffalo_l", root=str(files.detector.parents[2]), allowed_modules=["detection", "recognition"],
        providers=CPU,
    )  # fmt: skip
    analysis.prepare(0, det_size=(640, 640))
    theirs = analysis.get(np.ascontiguousarray(picture.numpy()[..., ::-1]))
    theirs.sort(key=lambda face: (face.bbox[2] - face.bbox[0]) * (face.bbox[3] - face.bbox[1]), reverse=True)
    assert theirs
    for index, face in enumerate(theirs):
        ours = encoder.encode([picture], face_index=index)
        np.testing.assert_allclose(ours.faces[0].box, face.bbox, atol=1e-2)
        np.testing.assert_allclose(ours.faces[0].points, face.kps, atol=1e-2)
        assert ours.embedding.face_embeds[0].numpy() @ face.normed_embedding > 0.9999


def test_embedding_of_a_photo_matches_insightface(files, encoder):
    arcface = pytest.importorskip("insightface.model_zoo.arcface_onnx")
    align = pytest.importorskip("insightface.utils.face_align")
    data = pytest.importorskip("skimage.data")
    theirs = arcface.ArcFaceONNX(str(files.recogniser), ort.InferenceSession(str(files.recogniser), providers=CPU))
    picture = data.astronaut()
    points = torch.tensor([[205.0, 112], [248, 108], [230, 135], [212, 158], [248, 155]])
    crop = align.norm_crop(np.ascontiguousarray(picture[..., ::-1]), points.numpy(), 112)
    ours = norm_crop(torch.from_numpy(picture.copy()), points)
    assert np.abs(ours.numpy().astype(float) - crop[..., ::-1]).mean() < 1
    expected, embed = theirs.get_feat(crop)[0], encoder._describe(ours).numpy()
    assert embed @ expected / np.linalg.norm(embed) / np.linalg.norm(expected) > 0.9999
