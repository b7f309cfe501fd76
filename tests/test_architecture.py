"""The walls of the house: imports run downward only, nodes are thin, nothing dangerous ships."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE, NODES = ROOT / "portraittalk_core", ROOT / "nodes"
FLOORS = {
    **{"errors": 0, "checks": 0, "types": 0, "threads": 0, "__version__": 0},
    **{"media": 1, "weights": 1, "layers": 1},
    **{"face": 2, "speech": 2},
    **{"motion": 3, "identity": 3, "animate": 3, "style": 3, "keypoints": 3, "priors": 3, "render": 3},
    **{"diffusion": 4, "metrics": 4, "losses": 4},
    **{"pipelines": 5, "training": 6},
    **dict.fromkeys(("cli", "cli_commands", "cli_process", "cli_progress", "__main__", "__init__"), 7),
}
MAY_COMPOSE_NEIGHBOURS = {"pipelines", "training", "errors", "checks", "types"}
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}
BANNED_IMPORTS = {"subprocess", "cv2", "pip", "comfy", "folder_paths"}
MAY_PRINT = {"cli", "cli_commands", "cli_process", "cli_progress"}


def sources(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def room_of(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def imported_rooms(tree: ast.Module, path: Path) -> set[str]:
    """Top-level rooms of the core that a file imports, relative imports resolved."""
    rooms = set()
    package = path.relative_to(CORE).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            names = [*base, *(node.module or "").split(".")] if node.module else [*base]
            rooms |= {names[0]} if names else {alias.name for alias in node.names}
    return {room for room in rooms if room}


def wall_faults(tree: ast.Module, path: Path) -> list[str]:
    here = room_of(path)
    faults = []
    for room in imported_rooms(tree, path) - {here}:
        if room not in FLOORS:
            faults.append(f"{room} has no floor")
        elif FLOORS[room] > FLOORS[here]:
            faults.append(f"{here} reaches up to {room}")
        elif FLOORS[room] == FLOORS[here] and here not in MAY_COMPOSE_NEIGHBOURS and FLOORS[here] not in (0, 7):
            faults.append(f"{here} reaches over to {room}")
    return faults


def danger_faults(tree: ast.Module, allowed: set[str] = frozenset()) -> list[str]:
    faults = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            if name in BANNED_CALLS:
                faults.append(f"calls {name}")
            if isinstance(node.func, ast.Attribute) and node.func.attr == "load" and _is_name(node.func.value, "torch"):
                options = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
                if options.get("weights_only") is not True:
                    faults.append("calls torch.load without weights_only=True")
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        faults += [f"imports {m}" for m in modules if m.split(".")[0] in BANNED_IMPORTS - allowed]
    return faults


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def test_a_bad_file_is_found_out():
    bad = ast.parse("import cv2\nfrom ..pipelines import talk\nfrom ..speech import mel\neval('1')\ntorch.load('x')")
    path = CORE / "face" / "bad.py"
    assert set(wall_faults(bad, path)) == {"face reaches up to pipelines", "face reaches over to speech"}
    assert set(danger_faults(bad)) == {"imports cv2", "calls eval", "calls torch.load without weights_only=True"}


@pytest.mark.parametrize("path", sources(CORE), ids=lambda p: str(p.relative_to(ROOT)))
def test_core_file_keeps_the_walls(path):
    tree = ast.parse(path.read_text())
    assert not wall_faults(tree, path)
    assert not danger_faults(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert not (node.module or "").startswith("portraittalk_core"), "the core imports itself relatively"
        if isinstance(node, ast.Call) and _is_name(node.func, "print"):
            assert room_of(path) in MAY_PRINT, "the library logs, it does not print"


@pytest.mark.parametrize("path", sources(NODES), ids=lambda p: str(p.relative_to(ROOT)))
def test_node_file_is_thin(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert text.count("\n") <= 250
    assert not danger_faults(tree, allowed={"comfy", "folder_paths"})
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "execute":
            assert node.end_lineno - node.lineno + 1 <= 15, f"execute at line {node.lineno} is the implementation"


@pytest.mark.parametrize("path", sources(CORE, NODES), ids=lambda p: str(p.relative_to(ROOT)))
def test_file_says_what_it_is_for_and_stays_small(path):
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree)
    assert text.count("\n") <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 60, f"{node.name} is too long"


def test_the_root_module_holds_nothing_but_the_entry():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    assert len(tree.body) == 3
