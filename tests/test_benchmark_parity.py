import ast
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.parity import INSTALL, PublicCode, run  # noqa: E402

tomllib = pytest.importorskip("tomllib")  # Python 3.11
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("parity_*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def installed_by(requirements: list[str]) -> set[str]:
    """Names for pip in a list of requirements, with those of our own extras in it."""
    found = set()
    for requirement in requirements:
        if extras := re.fullmatch(r"portraittalk\[(.+)\]", requirement):
            for extra in extras[1].split(","):
                found |= installed_by(PROJECT["optional-dependencies"][extra])
        else:
            found.add(re.match(r"[\w-]+", requirement)[0].lower())
    return found


def imports_of(path: Path) -> set[str]:
    """First names of all modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_the_extra_installs_what_the_public_code_imports_and_nothing_else():
    assert SCRIPTS
    needed = {name for script in SCRIPTS for name in import_module(f"benchmarks.{script}").PUBLIC.packages.values()}
    brought = installed_by(PROJECT["dependencies"])
    extra = installed_by(PROJECT["optional-dependencies"]["parity"])
    assert needed - brought == extra - brought - {"accelerate"}  # which diffusers loads faster with


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_imports_only_what_it_says(script):
    public = import_module(f"benchmarks.{script}").PUBLIC
    brought = installed_by(PROJECT["dependencies"]) | set(public.packages) | {"portraittalk_core"}
    standard = sys.stdlib_module_names | {"modules"}  # the public code's own
    assert imports_of(ROOT / "benchmarks" / f"{script}.py") - standard <= brought


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text("")
    return tmp_path


def public(**packages: str) -> PublicCode:
    return PublicCode("https://example.org/some/Net", "net.py", packages)


def measured(repo: Path) -> dict[str, float]:
    """Largest differences between `repo` and ours."""
    return {f"files in {len(list(repo.iterdir()))}": 0.5}


def test_what_was_measured_is_printed_as_json(copy, capsys):
    assert run(public(json="json"), measured, [str(copy)]) == 0
    assert capsys.readouterr().out == '{\n  "files in 1": 0.5\n}\n'


def test_a_missing_package_is_told_with_pips_lines(copy, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(SystemExit) as stop:
        run(public(yaml="pyyaml", json="json", no_such_module="nosuch"), measured, [str(copy)])
    told = capsys.readouterr().err
    assert stop.value.code == 2 and "Traceback" not in told
    assert 'Net imports pyyaml, nosuch: pip install -e ".[parity]", or pip install pyyaml nosuch' in told


def test_a_folder_that_is_no_copy_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(public(), measured, [str(tmp_path)])
    assert f"{tmp_path} is no copy of Net, for it has no net.py: git clone https://" in capsys.readouterr().err


def test_the_help_says_what_to_clone_and_to_install(capsys):
    with pytest.raises(SystemExit):
        run(public(), measured, ["--help"])
    told = capsys.readouterr().out
    assert all(text in told for text in ("between Net and ours.", "git clone https://example.org/some/Net", INSTALL))
