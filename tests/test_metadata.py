"""What ComfyUI's registry reads of pyproject.toml: addresses, classifiers, icon and banner."""

from pathlib import Path

import pytest
from PIL import Image

tomllib = pytest.importorskip("tomllib")  # Python 3.11
ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
URLS, COMFY = SETTINGS["project"]["urls"], SETTINGS["tool"]["comfy"]


def test_addresses_are_those_that_the_registry_shows():
    assert {"Repository", "Documentation", "Issues"} <= set(URLS)
    assert all(address.startswith(URLS["Repository"]) for address in URLS.values())
    page = URLS["Documentation"].partition("/blob/main/")[2]
    assert (ROOT / page).is_file()


def test_classifiers_name_systems_and_accelerators_as_the_registry_does():
    """One that it does not know makes it drop all of that kind. Source: docs.comfy.org/registry/specifications."""
    values = [line.split(" :: ", 1) for line in SETTINGS["project"]["classifiers"]]
    systems = [value for kind, value in values if kind == "Operating System"]
    assert systems and all(
        value.split(" ::")[0] in ("OS Independent", "POSIX", "Microsoft", "MacOS") for value in systems
    )
    accelerators = {value for kind, value in values if kind == "Environment"}
    assert accelerators <= {"GPU :: NVIDIA CUDA", "GPU :: AMD ROCm", "GPU :: Intel Arc", "GPU :: Apple Metal"}


@pytest.mark.parametrize("key", ["Icon", "Banner"])
def test_pictures_lie_in_the_repository_and_have_the_registrys_shape(key):
    path = ROOT / COMFY[key].partition("/main/")[2]
    with Image.open(path) as picture:
        width, height = picture.size
    if key == "Icon":
        assert width == height <= 400
    else:
        assert width * 9 == height * 21


def test_the_archive_holds_what_comfyui_serves():
    """Templates, blueprints, help, languages and the samples that the templates load."""
    ignored = [line.strip() for line in (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()]
    for folder in ("workflows", "subgraphs", "web", "locales", "samples", "nodes", "portraittalk_core", "docs"):
        assert (ROOT / folder).is_dir() and f"{folder}/" not in ignored
