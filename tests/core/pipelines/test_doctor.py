from __future__ import annotations

import json
import shutil
import sys
import zipfile
from importlib.metadata import version
from types import SimpleNamespace

import pytest

from portraittalk_core.errors import MissingDependency
from portraittalk_core.pipelines import doctor


def line(lines, name):
    return next(found for found in lines if found.name == name)


def test_versions_are_those_of_the_installed_packages():
    for name in ("torch", "numpy", "av"):
        assert line(doctor.versions(), name).state == version(name)


def test_versions_says_how_to_get_a_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)  # what makes `import mediapipe` fail
    found = line(doctor.versions(), "mediapipe")
    assert (found.state, found.ok) == ("missing", False)
    assert found.advice.startswith("pip install mediapipe")


def test_encoders_are_found_and_an_unknown_one_is_not(monkeypatch):
    assert all(doctor.encoder(name).ok for name in ("libx264", "aac"))
    monkeypatch.setitem(doctor.ENCODERS, "nonesuch", "nothing")
    assert not doctor.encoder("nonesuch").ok


@pytest.mark.parametrize(("free_gb", "ok"), [(1.0, False), (50.0, True)])
def test_disk_warns_when_little_is_free(free_gb, ok, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free_gb * 1e9))
    found = doctor.disk(tmp_path)
    assert (found.state, found.ok, bool(found.advice)) == (f"{free_gb:.1f} GB", ok, not ok)


def test_weight_files_are_recognised_in_given_and_named_folders(tmp_path, monkeypatch):
    given, named = tmp_path / "given", tmp_path / "named"
    for folder in (given, named):
        folder.mkdir()
        with zipfile.ZipFile(folder / "any-name.task", "w") as bundle:
            bundle.writestr("face_landmarks_detector.tflite", b"")
    monkeypatch.setenv("PORTRAITTALK_MODELS", str(named))
    monkeypatch.setattr(doctor.Path, "home", lambda: tmp_path)
    search, *files = doctor.weight_files([given])
    assert search.state.startswith("2 recognised in ")
    assert {file.name for file in files} == {str(f / "any-name.task") for f in (given, named)}
    assert all("Apache-2.0" in file.state for file in files)


def test_weight_folder_that_does_not_exist_is_said_so(tmp_path):
    found = line(doctor.weight_files([tmp_path / "absent"]), str(tmp_path / "absent"))
    assert (found.ok, found.state) == (False, "no such folder")


def test_what_is_missing_is_told_in_the_errors_own_words():
    def look():
        raise MissingDependency("mediapipe is missing; pip install mediapipe")

    found = doctor._tried("solutions", look, "unused")
    assert (found.ok, found.advice) == (False, "mediapipe is missing; pip install mediapipe")


def test_a_broken_installation_does_not_stop_the_doctor():
    def look():
        raise RuntimeError("no such symbol")

    found = doctor._tried("torch", look, "pip install torch")
    assert not found.ok and "no such symbol" in found.state and found.advice == "pip install torch"


def test_diagnosis_covers_every_back_end_and_reads_back_as_json():
    sections = json.loads(doctor.diagnose().to_json())
    assert [found["name"] for found in sections["Face landmarks"]] == ["solutions", "tasks", "torch"]
    assert all(found["ok"] or found["advice"] for found in sections["Face landmarks"])
    assert sections["Motion engines"][0]["name"] == "embedded"
