"""Finding the two files of buffalo_l among others of the same interface."""

import shutil

import pytest

pytest.importorskip("onnx")

from onnx_models import write_detector, write_face_models, write_recogniser  # noqa: E402

from portraittalk_core.errors import MissingDependency  # noqa: E402
from portraittalk_core.face.identity.models import FaceModelFiles, find_face_models, scales_itself  # noqa: E402


def test_files_are_found_below_the_folder(tmp_path):
    pack = write_face_models(tmp_path / "insightface") / "models" / "buffalo_l"
    expected = FaceModelFiles(pack / "det_10g.onnx", pack / "w600k_r50.onnx")
    for folder in (tmp_path, tmp_path / "insightface", pack, pack / "det_10g.onnx"):
        assert find_face_models(folder) == expected
    assert find_face_models([tmp_path / "nowhere", tmp_path]) == expected


def test_files_are_known_by_what_they_hold(tmp_path):
    files = FaceModelFiles(write_detector(tmp_path / "a.onnx"), write_recogniser(tmp_path / "faces" / "b.ONNX"))
    assert find_face_models(tmp_path) == files


def test_a_detector_of_one_size_is_known(tmp_path):
    write_recogniser(tmp_path / "w600k_r50.onnx")
    fixed = write_detector(tmp_path / "x.onnx", size=320)
    assert find_face_models(tmp_path).detector == fixed


def test_names_decide_between_equals(tmp_path):
    write_face_models(tmp_path / "z")
    for folder in ("a", "zz"):
        write_detector(tmp_path / folder / "det_2.5g.onnx")
        write_recogniser(tmp_path / folder / "other.onnx")
    pack = tmp_path / "z" / "models" / "buffalo_l"
    assert find_face_models(tmp_path) == FaceModelFiles(pack / "det_10g.onnx", pack / "w600k_r50.onnx")


def test_linked_folders_are_searched_once(tmp_path):
    write_face_models(tmp_path / "elsewhere")
    (tmp_path / "insightface").mkdir()
    try:
        (tmp_path / "insightface" / "models").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "insightface", target_is_directory=True)
    except OSError:
        pytest.skip("no links here")
    assert find_face_models(tmp_path / "insightface").detector.is_file()


def test_missing_files_are_named_with_place_source_and_licence(tmp_path):
    with pytest.raises(MissingDependency) as told:
        find_face_models(tmp_path / "models" / "insightface")
    text = str(told.value)
    for name in ("det_10g.onnx", "w600k_r50.onnx"):
        assert str(tmp_path / "models" / "insightface" / "models" / "buffalo_l" / name) in text
    assert "buffalo_l.zip of https://github.com/deepinsight/insightface/releases/tag/v0.7" in text
    assert "non-commercial research" in text
    assert "dlib's descriptor" in text and "cannot stand for it" in text


def test_only_what_is_missing_is_asked_for(tmp_path):
    write_detector(tmp_path / "det_10g.onnx")
    with pytest.raises(MissingDependency) as told:
        find_face_models(tmp_path)
    assert "w600k_r50.onnx" in str(told.value) and "det_10g.onnx" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "convolutions", "reason"),
    [
        ("antelopev2/glintr100.onnx", 1, "antelopev2: its embeddings lie in another space"),
        ("antelopev2/renamed.onnx", 1, "antelopev2: its embeddings lie in another space"),
        ("anything/glintr100.onnx", 1, "recogniser of antelopev2: its embeddings lie in another space"),
        ("buffalo_l/w600k_r50.onnx", 103, "it has 103 convolutions, w600k_r50.onnx has 53; it may be glintr100"),
        ("buffalo_s/w600k_mbf.onnx", 1, "MobileFaceNet"),
    ],
)
def test_recognisers_of_other_spaces_are_refused(tmp_path, name, convolutions, reason):
    write_detector(tmp_path / "det_10g.onnx")
    write_recogniser(tmp_path / name, num_convolutions=convolutions)
    with pytest.raises(MissingDependency, match=reason) as told:
        find_face_models(tmp_path)
    assert str(tmp_path / name) in str(told.value)
    right = write_recogniser(tmp_path / "z" / "w600k_r50.onnx", num_convolutions=53)
    assert find_face_models(tmp_path).recogniser == right


def test_antelopes_detector_is_refused(tmp_path):
    write_detector(tmp_path / "antelopev2" / "scrfd_10g_bnkps.onnx")
    write_recogniser(tmp_path / "w600k_r50.onnx")
    with pytest.raises(MissingDependency, match="scrfd_10g_bnkps.onnx does not serve: it belongs to antelopev2"):
        find_face_models(tmp_path)


def test_broken_and_confused_files_are_named(tmp_path):
    pack = write_face_models(tmp_path) / "models" / "buffalo_l"
    whole = (pack / "w600k_r50.onnx").read_bytes()
    (pack / "w600k_r50.onnx").write_bytes(whole[:1000])
    with pytest.raises(MissingDependency, match=r"it is not a complete ONNX file \(1000 bytes\)"):
        find_face_models(tmp_path)
    (pack / "w600k_r50.onnx").write_bytes(b"")
    with pytest.raises(MissingDependency, match=r"it is not a complete ONNX file \(0 bytes\)"):
        find_face_models(tmp_path)
    shutil.copy(pack / "det_10g.onnx", pack / "w600k_r50.onnx")
    (pack / "det_10g.onnx").write_bytes(whole)
    found = find_face_models(tmp_path)  # their names are exchanged, which does no harm
    assert (found.detector.name, found.recogniser.name) == ("w600k_r50.onnx", "det_10g.onnx")


def test_scaling_inside_of_the_graph_is_seen(tmp_path):
    assert scales_itself(write_recogniser(tmp_path / "a.onnx", own_scaling=True))
    assert not scales_itself(write_recogniser(tmp_path / "b.onnx"))
