"""Expression coefficients from files, models of faces and recorded pieces, on their way to an extractor."""

import zipfile
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.io import savemat

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.face.blendshapes import nearest_blendshapes
from portraittalk_core.style.expression_source import (
    ExpressionRecorder,
    ExpressionSource,
    is_expression_source,
    open_expression_source,
    read_coefficients,
)
from portraittalk_core.style.extractor import StyleExtractor, new_extractor_net
from portraittalk_core.style.extractor_files import ExtractorSizes
from portraittalk_core.style.features import coefficient_features
from portraittalk_core.style.reference import Reference, style_of
from portraittalk_core.types import LandmarkTrack, Speech

VALUES = torch.randn(50, 257, generator=torch.Generator().manual_seed(0))


def test_a_file_of_coefficients_is_known_by_its_width(tmp_path):
    np.save(tmp_path / "a.npy", VALUES[:, 80:144].numpy())
    savemat(tmp_path / "a.mat", {"coeff": VALUES.numpy(), "frames": np.arange(50.0)[None]})
    save_file({"values": VALUES[:, :52].contiguous(), "seconds": torch.zeros(50)}, tmp_path / "a.safetensors")
    for name in ("a.npy", "a.mat"):
        made = read_coefficients(tmp_path / name)
        assert made.feature == "3dmm"
        torch.testing.assert_close(made.values, VALUES[:, 80:144])
    shapes = read_coefficients(tmp_path / "a.safetensors", 50.0)
    assert shapes.feature == "blendshapes" and len(shapes) == 25  # one second at 25 Hz
    torch.testing.assert_close(shapes.values, VALUES[::2, :52])


def test_files_that_hold_no_coefficients_are_refused(tmp_path):
    save_file({"a": VALUES.clone(), "b": VALUES.clone()}, tmp_path / "two.safetensors")
    save_file({"a": VALUES[:, :7].contiguous()}, tmp_path / "seven.safetensors")
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY nothing")
    for name, words in (("two", r"one array .* but it holds a \(50, 257\)"), ("seven", r"a \(50, 7\)")):
        with pytest.raises(InputError, match=words):
            read_coefficients(tmp_path / f"{name}.safetensors")
    with pytest.raises(InputError, match="broken.npy is not a plain NumPy file"):
        read_coefficients(tmp_path / "broken.npy")
    with pytest.raises(MissingDependency):
        read_coefficients(tmp_path / "absent.npy")


def test_what_measures_nothing_is_refused(tmp_path):
    save_file({"w": torch.zeros(2)}, tmp_path / "other.safetensors")
    with zipfile.ZipFile(tmp_path / "plain.task", "w") as file:
        file.writestr("face_landmarks_detector.tflite", b"1")
    with pytest.raises(InputError, match="other.safetensors measures no expressions; give a 3DMM encoder"):
        open_expression_source(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"plain.task holds no face_blendshapes.tflite.*with_blendshapes.task"):
        open_expression_source(tmp_path / "plain.task")
    with pytest.raises(MissingDependency, match="BFM_model_front.mat"):
        open_expression_source(tmp_path)
    with pytest.raises(MissingDependency, match="there is no file or folder"):
        open_expression_source(tmp_path / "absent.pth")
    names = ("other.safetensors", "plain.task", ".")
    assert not any(is_expression_source(tmp_path / name) for name in names)
    with zipfile.ZipFile(tmp_path / "whole.task", "w") as file:
        file.writestr("face_blendshapes.tflite", b"1")
    save_file({"net_recon.backbone.conv1.weight": torch.zeros(1), "net_recon.final_layers.1.weight": torch.zeros(1)},
              tmp_path / "recon.safetensors")  # fmt: skip
    assert all(is_expression_source(tmp_path / name) for name in ("whole.task", "recon.safetensors"))


def test_blendshapes_are_of_the_face_that_is_meant():
    def face(x: float, score: float):
        points = [SimpleNamespace(x=x, y=0.5)] * 478
        shapes = [SimpleNamespace(index=i, score=score + i / 100) for i in reversed(range(52))]
        return points, shapes

    faces = [face(0.2, 0.1), face(0.8, 0.4)]
    result = SimpleNamespace(face_landmarks=[f for f, _ in faces], face_blendshapes=[s for _, s in faces])
    there = torch.tensor([75.0, 40.0, 0.0]).expand(478, 3)
    made = nearest_blendshapes(result, there, (100, 80))
    torch.testing.assert_close(made, 0.4 + torch.arange(52) / 100)
    assert nearest_blendshapes(SimpleNamespace(face_landmarks=[], face_blendshapes=[]), there, (100, 80)) is None
    result.face_blendshapes[1].pop()
    with pytest.raises(InputError, match="51 blendshapes, not 52"):
        nearest_blendshapes(result, there, (100, 80))


def track(count: int = 50) -> LandmarkTrack:
    points = 0.3 + 0.4 * torch.rand(1, 478, 3, generator=torch.Generator().manual_seed(1)).repeat(count, 1, 1)
    return LandmarkTrack(points, torch.ones(count, dtype=torch.bool), Fraction(25), 64, 64)


def test_a_recorder_fills_what_it_did_not_see():
    def look(_picture, face):
        return None if face[0, 0] == 99 else face[0, 0] * torch.ones(64)

    source = ExpressionSource("3dmm", "stub", look)
    recorder, picture = ExpressionRecorder(source), torch.zeros(4, 4, 3, dtype=torch.uint8)
    see = recorder.begin(7)
    for value in (0.0, 1.0, 99.0, 3.0, *range(4, 30)):  # at the third nothing is seen
        see(picture, torch.full((478, 3), float(value)))
    blind = recorder.begin(60)
    blind(picture, None)
    (made,) = recorder.features([(7, track(30))], "film")
    torch.testing.assert_close(made.values, torch.arange(30.0)[:, None].expand(30, 64))
    assert made.feature == "3dmm"
    with pytest.raises(InputError, match="stub sees no face in film"):
        recorder.features([(60, track(1))], "film")
    fitted = ExpressionRecorder(replace(source, look=None, fit=lambda tracks: [torch.ones(len(t), 64) for t in tracks]))
    assert fitted.begin(0) is None
    assert fitted.features([(0, track(30))], "film")[0].values.eq(1).all()


@pytest.fixture(scope="module")
def extractor() -> StyleExtractor:
    sizes = ExtractorSizes(expression="3dmm", expression_width=64, width=32, num_layers=1, num_heads=4, feed_forward=64)
    return StyleExtractor(new_extractor_net(sizes).eval().requires_grad_(False), torch.ones(32), "coefficients")


def test_an_extractor_takes_what_was_measured(extractor):
    features = coefficient_features(VALUES, 25, source="clip")
    expected = extractor.prior(expression=features)
    alone = style_of(Reference(expressions=(features,)), extractor=extractor)
    torch.testing.assert_close(alone.mean, expected.mean)
    assert alone.space == extractor.space and alone.style_statistics is None
    pieces = coefficient_features(VALUES[:25], 25), coefficient_features(VALUES[25:], 25)
    torch.testing.assert_close(style_of(Reference(expressions=pieces), extractor=extractor).mean, expected.mean)
    seen = style_of(Reference((track(),), expressions=(features,)), extractor=extractor)
    assert seen.style_statistics.space == "manner"


def test_an_extractor_without_its_coefficients_is_told_what_to_give(extractor):
    with pytest.raises(InputError, match="looks at 3dmm coefficients, but film gives landmarks: measure them with a"):
        style_of(Reference((track(),), source="film"), extractor=extractor)
    shapes = coefficient_features(torch.rand(50, 52), 25, "blendshapes")
    with pytest.raises(InputError, match="but film gives blendshapes"):
        style_of(Reference((track(),), source="film", expressions=(shapes,)), extractor=extractor)
    with pytest.raises(InputError, match="neither sound nor expression"):
        style_of(Reference(sounds=(Speech(torch.zeros(32_000)),), source="silence"), extractor=extractor)
