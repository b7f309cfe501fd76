"""What pip and ComfyUI must install is what the code imports, and no more."""

import ast
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")  # Python 3.11
ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "portraittalk_core"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]

# of what we need: ComfyUI's own requirements.txt, 0.3.64 to 0.33; torch itself requires jinja2
FROM_COMFYUI = {"torch", "numpy", "scipy", "pillow", "av", "safetensors", "transformers", "kornia", "einops", "jinja2"}
COMFYUI_MODULES = {"comfy", "comfy_api", "comfy_execution", "comfyui_version", "folder_paths", "server"}
COMMAND_LINE_ONLY = {"rich", "tomli"}  # progress bars and tables; settings of a training, on Python 3.10
# module: who installs it, where the names differ
PIP_NAMES = {"PIL": "pillow", "pillow_heif": "pillow-heif", "markupsafe": "jinja2"}


def names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w-]+", line)[0].lower() for line in requirements if line and not line.startswith("#")}


DEPENDENCIES = names(PROJECT["dependencies"])
OPTIONAL = names([line for extra in PROJECT["optional-dependencies"].values() for line in extra])
REQUIREMENTS = names((ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines())


def imports(*folders: Path) -> dict[str, set[Path]]:
    """Packages from outside that Python files import, anywhere in them, by pip's name: the files."""
    found: dict[str, set[Path]] = {}
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            for module in modules:
                name = module.split(".")[0]
                if name not in sys.stdlib_module_names | COMFYUI_MODULES:
                    found.setdefault(PIP_NAMES.get(name, name), set()).add(path.relative_to(ROOT))
    return found


def test_comfyui_must_install_matplotlib_and_nothing_else():
    assert sorted(REQUIREMENTS) == ["matplotlib"]
    assert DEPENDENCIES - FROM_COMFYUI - COMMAND_LINE_ONLY == REQUIREMENTS


def test_every_dependency_is_imported_and_every_import_is_a_dependency():
    found = imports(CORE, ROOT / "nodes").keys()
    assert DEPENDENCIES - found == set()
    assert found - DEPENDENCIES - OPTIONAL == set()


def test_nodes_need_nothing_of_the_command_line():
    """The command line alone needs rich; nodes and what they use do without it, and without the command line."""
    users = {package: {path.parts[:2] for path in paths} for package, paths in imports(CORE, ROOT / "nodes").items()}
    assert users["rich"] == {("portraittalk_core", "cli")} and users["tomli"] == {("portraittalk_core", "media")}
    assert "skimage" not in users
    outside = [path for path in [*CORE.rglob("*.py"), *(ROOT / "nodes").rglob("*.py")] if path.parent != CORE / "cli"]
    outside.remove(CORE / "__main__.py")
    assert len(outside) > 100
    command_line = re.compile(r"^\s*(from|import) [\w.]*\bcli\b", re.M)
    assert command_line.search("    from ..cli.process import run_as_command") is not None
    assert [path for path in outside if command_line.search(path.read_text(encoding="utf-8"))] == []


def test_nothing_that_comfyui_chose_is_pinned():
    """torch, numpy and others of ComfyUI's own are not to be replaced by installing this pack."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if re.search(r"[<>=~!@]", line)]
    assert not [line for line in PROJECT["dependencies"] if re.search(r"[<~!@]|==", line.split(";")[0])]


def test_files_that_are_no_code_are_packed():
    """Templates, weights and tables lie in the wheel and in the archive of ComfyUI's registry."""
    patterns = SETTINGS["tool"]["setuptools"]["package-data"]["portraittalk_core"]
    data = [path for path in CORE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc", ".md")]
    assert {".j2", ".css", ".safetensors", ".json"} <= {path.suffix for path in data}
    packed = {path for pattern in patterns for path in CORE.glob(pattern)}
    assert set(data) - packed == set()
    ignored = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    assert not [path for path in data for line in ignored if fnmatch(str(path.relative_to(ROOT)), f"{line}*")]
