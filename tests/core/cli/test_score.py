import csv
import json
import os
from contextlib import contextmanager

import numpy as np
import pytest
from toy_puppet import BlockMesh

from portraittalk_core.cli import main as cli
from portraittalk_core.cli import score as cli_score

COUNT = 12


def faces(shift: int = 0, face: bool = True) -> list[np.ndarray]:
    made = []
    for k in range(COUNT):
        picture = np.full((96, 128, 3), 90, np.uint8)
        if face:
            picture[20 + shift : 70, 40 + k : 80 + k] = (230, 10, 10)
        made.append(picture)
    return made


@pytest.fixture(autouse=True)
def block_mesh(monkeypatch):
    """Red blocks are faces; the mesh is counted, for a rerun must not look again."""
    looks = []

    class Counted(BlockMesh):
        def detect(self, picture):
            looks.append(1)
            return super().detect(picture)

    @contextmanager
    def opened(_args):
        yield Counted()

    monkeypatch.setattr(cli_score, "open_chosen_mesh", opened)
    return looks


@pytest.fixture
def folders(tmp_path, write_video):
    for name in ("made", "true"):
        (tmp_path / name).mkdir()
    for shift, name in enumerate(("a", "b", "grey"), 2):
        write_video(faces(), f"true/{name}.mp4")
        write_video(faces(shift, face=name != "grey"), f"made/{name}.mp4")
    return tmp_path


def score(*words) -> int:
    return cli.main(["score", *map(str, words)])


def test_one_pair_prints_its_numbers_and_writes_json(folders, capsys):
    out = folders / "flat.json"
    made, true = folders / "made" / "a.mp4", folders / "true" / "a.mp4"
    assert score("--generated", made, "--target", true, "--json", out) == 0
    shown = capsys.readouterr().out
    assert "adfd" in shown and "needs the portrait" in shown and str(out) in shown
    read = json.loads(out.read_text())
    assert 0 < read["adfd"] <= 1 and read["num_frames"] == COUNT and read["identity"] is None


@pytest.mark.slow
def test_face_models_alone_tell_whether_it_is_the_targets_face(tmp_path, write_video):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx_models import paint_disc, write_face_models

    picture = paint_disc((320, 240, 220)).numpy()  # what those models take for a face
    picture[10:60, 10:50] = (230, 10, 10)  # what the mesh does
    other = picture.copy()
    other[140:340, 300:420] //= 2
    for name, frame in (("made", picture), ("true", picture), ("other", other)):
        write_video([frame] * 4, f"{name}.mp4")
    found = []
    for made in ("made", "other"):
        words = ["--generated", tmp_path / f"{made}.mp4", "--target", tmp_path / "true.mp4"]
        words += ["--face-models", write_face_models(tmp_path / "insightface"), "--json", tmp_path / "flat.json"]
        assert score(*words) == 0
        found.append(json.loads((tmp_path / "flat.json").read_text()))
    assert found[0]["identity_to_target"] == pytest.approx(1, abs=1e-6)
    assert found[1]["identity_to_target"] < 0.99
    assert found[0]["identity"] is None  # there is no portrait


@pytest.mark.slow
def test_folders_go_on_past_what_is_broken_and_say_so(folders, capsys):
    (folders / "made" / "cut.mp4").write_bytes(b"no video")
    (folders / "true" / "cut.mp4").write_bytes((folders / "true" / "a.mp4").read_bytes())
    out = folders / "out"
    assert score("--generated", folders / "made", "--target", folders / "true", "--out", out) == 3
    read = json.loads((out / "report.json").read_text())
    errors = {row["name"]: row["error"] for row in read["rows"]}
    assert errors["a"] is None and errors["b"] is None
    assert "cut.mp4" in errors["cut"] and "no face" in errors["grey"]
    assert "cut:" in capsys.readouterr().err
    assert (out / "report.html").exists() and (out / "report.csv").exists()


@pytest.mark.slow
def test_a_rerun_measures_only_what_changed(folders, block_mesh, capsys):
    words = ["--generated", folders / "made", "--target", folders / "true", "--out", folders / "out"]
    for name in ("made", "true"):
        (folders / name / "grey.mp4").unlink()
    assert score(*words) == 0
    first = json.loads((folders / "out" / "report.json").read_text())["rows"]
    block_mesh.clear()
    assert "kept from before" not in capsys.readouterr().err
    assert score(*words) == 0
    assert not block_mesh and capsys.readouterr().err.count("kept from before") == 2
    assert json.loads((folders / "out" / "report.json").read_text())["rows"] == first
    (folders / "made" / "b.mp4").write_bytes((folders / "true" / "b.mp4").read_bytes())
    assert score(*words) == 0
    assert block_mesh and capsys.readouterr().err.count("kept from before") == 1
    block_mesh.clear()
    assert score(*words, "--crop", "face") == 0  # other options, other numbers
    assert block_mesh
    block_mesh.clear()
    assert score(*words, "--no-resume") == 0
    assert block_mesh


@pytest.mark.slow
def test_a_kept_row_that_is_damaged_is_measured_again(folders, block_mesh):
    words = [
        "--generated",
        folders / "made" / "a.mp4",
        "--target",
        folders / "true" / "a.mp4",
        "--out",
        folders / "out",
    ]
    assert score(*words) == 0
    (kept,) = (folders / "out" / "rows").iterdir()
    kept.write_text('{"name": 1')
    block_mesh.clear()
    assert score(*words) == 0
    assert block_mesh


def test_a_table_with_a_missing_file_exits_3(folders):
    table = folders / "pairs.csv"
    table.write_text("generated,target,name\nmade/a.mp4,true/a.mp4,one\nmade/gone.mp4,true/a.mp4,two\n")
    out = folders / "scores.csv"
    assert score("--pairs", table, "--out", out) == 3
    lines = list(csv.DictReader(out.read_text("utf-8-sig").splitlines()))
    assert [(line["name"], line["status"]) for line in lines] == [("one", "done"), ("two", "failed")]
    assert "gone.mp4 does not exist" in lines[1]["error"]


def test_reference_free_needs_no_target(folders, capsys):
    out = folders / "alone.json"
    assert score("--reference-free", "--generated", folders / "made" / "a.mp4", "--out", out) == 0
    read = json.loads(out.read_text())
    assert read["reference_free"] and "jitter" in read["summary"] and "psnr" not in read["definitions"]
    assert "no sound track" in json.dumps(read["not_available"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--generated and --target"),
        (["--generated", "a.mp4", "--target", "b.mp4", "--pairs", "c.csv"], "either --pairs"),
        (["--generated", "a.mp4", "--target", "b.mp4", "--reference-free"], "leave --target out"),
        (["--generated", "nowhere.mp4", "--target", "b.mp4"], "nowhere.mp4 does not exist"),
        (["--pairs", "nowhere.csv"], "nowhere.csv cannot be read"),
    ],
)
def test_what_cannot_be_asked_exits_2(words, said, capsys):
    assert score(*words) == 2
    assert said in capsys.readouterr().err


def test_outputs_are_checked_before_work(folders, block_mesh, capsys):
    made, true = folders / "made" / "a.mp4", folders / "true" / "a.mp4"
    assert score("--generated", made, "--target", true, "--out", folders / "report.pdf") == 2
    assert score("--generated", made, "--target", true, "--out", folders / "no" / "where.json") == 2
    assert score("--generated", folders / "made", "--target", folders / "true", "--json", folders / "x.json") == 2
    assert not block_mesh
    said = capsys.readouterr().err
    assert "report.pdf" in said and "does not exist" in said and "--out FOLDER" in said


def test_a_refusal_leaves_no_folder(folders, capsys):
    made, true, out = folders / "made" / "a.mp4", folders / "true" / "a.mp4", folders / "deep" / "out"
    (folders / "bad.mp4").write_bytes(b"no video")
    assert score("--generated", made, "--target", true, "--out", out, "--metric-models", folders / "none") == 2
    assert score("--generated", folders / "bad.mp4", "--target", true, "--out", out) == 2
    assert not out.parent.exists()
    (folders / "file").write_text("")
    assert score("--generated", made, "--target", true, "--out", folders / "file") == 2
    assert "it is a file" in capsys.readouterr().err
    assert score("--generated", made, "--target", true, "--out", out) == 0
    assert {path.name for path in out.iterdir()} == {"report.json", "report.csv", "report.html", "rows"}


def test_numbers_go_only_into_a_json(folders, capsys):
    made, true = folders / "made" / "a.mp4", folders / "true" / "a.mp4"
    assert score("--generated", made, "--target", true, "--json", folders / "syncnet.model") == 2
    assert "must end in .json" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["fifo", "field", "long"])
def test_a_table_of_pairs_that_is_none_is_told(kind, tmp_path, capsys):
    path = tmp_path / "pairs.csv"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.write_text("generated,target\n" + ("x" * 200_000 + ",b" if kind == "field" else "a,b\n" * 2_000_000))
    assert score("--pairs", path) == 2
    said = {"fifo": "device or pipe", "field": "field larger", "long": "4 MB are allowed"}[kind]
    assert said in capsys.readouterr().err


def test_one_broken_pair_alone_exits_2_with_the_reason(folders, capsys):
    (folders / "bad.mp4").write_bytes(b"no video")
    assert score("--generated", folders / "bad.mp4", "--target", folders / "true" / "a.mp4") == 2
    assert "bad.mp4" in capsys.readouterr().err
