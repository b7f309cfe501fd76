"""What measures expressions, as StylePrior lists and takes it; no ComfyUI is needed."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from comfy_stub import PACK, nodes_of

from portraittalk_core.face.morphable_files import BFM_FILE, BFM_INDEX_FILE

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """The nodes' modules, whose weights lie in a folder of the test."""
    with nodes_of(ROOT):
        recon, style = (importlib.import_module(f"{PACK}.nodes.{name}") for name in ("bindings.face_recon", "style"))
        monkeypatch.setattr(recon, "weight_folders", lambda: [tmp_path])
        yield SimpleNamespace(recon=recon, style=style)


def test_folders_of_a_face_model_are_listed_and_damaged_files_are_not(pack, tmp_path):
    for name in ("broken.pth", "broken.safetensors", "broken.task", "empty.ckpt"):
        (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"nothing that could be read")
    (tmp_path / "bfm").mkdir()
    for name in (BFM_FILE, BFM_INDEX_FILE):
        (tmp_path / "bfm" / name).write_bytes(b"")
    assert pack.recon.face_recon_names() == ["bfm"]
    assert pack.recon.face_recon_path("bfm") == tmp_path / "bfm"
    with pytest.raises(Exception, match="is not in models/portraittalk"):
        pack.recon.face_recon_path("../elsewhere.pth")


def test_a_choice_that_would_not_count_is_refused(pack, tmp_path):
    (tmp_path / "bfm").mkdir()
    none, landmarks = None, SimpleNamespace(name="mine", sizes=SimpleNamespace(expression="landmarks"))
    assert pack.style._measuring(none, "none") is None
    for extractor, why in ((none, "no extractor is chosen"), (landmarks, "mine reads landmarks")):
        with pytest.raises(Exception, match=f"{why}; choose such an extractor, or set face_recon to none"):
            pack.style._measuring(extractor, "bfm")
    coefficients = SimpleNamespace(name="theirs", sizes=SimpleNamespace(expression="3dmm"))
    assert pack.style._measuring(coefficients, "bfm") == tmp_path / "bfm"
