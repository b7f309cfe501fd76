"""The walls of the house: imports run downward only, nodes are thin, nothing dangerous ships."""

import ast
import functools
import graphlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE, NODES, ENTRY = ROOT / "portraittalk_core", ROOT / "nodes", ROOT / "__init__.py"
FLOORS = {
    room: floor
    for floor, rooms in enumerate(
        (
            (
                "errors",
                "checks",
                "frame_rate",
                "options",
                "progress",
                "cache_key",
                "types",
                "memory_map",
                "threads",
                "__init__",
            ),
            ("media", "weights", "layers"),
            ("losses", "speech", "face"),
            ("diffusion", "motion", "metrics"),
            ("style", "engines"),
            ("renderers", "evaluation"),
            ("plots",),
            ("pipelines",),
            ("batch", "training"),
            ("cli",),
            ("__main__",),
        )
    )
    for room in rooms
}
OPEN_FLOORS = (0,)  # made of single files that may use each other
COMFY = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "execution", "folder_paths", "nodes", "server"}
BANNED_IMPORTS = {"subprocess", "cv2", "pip", "ensurepip", "runpy"}
# the one file that may run programs: speech synthesisers, for training only
PROGRAM_RUNNERS = {CORE / "training" / "mouth" / "synthesisers.py"}
# the one file that may load a program: FVD's I3D, known by its SHA-256
PROGRAM_LOADERS = {CORE / "metrics" / "networks" / "load.py"}
BANNED_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
BANNED_OF_OS = ("system", "popen", "exec", "spawn", "fork")
# only inside the function that needs them
HEAVY = {"mediapipe", "matplotlib", "skimage", "transformers", "rich", "diffusers", "accelerate", "onnxruntime"}
HEAVY |= {"insightface", "ray", "torchmetrics", "kornia"}
# what a node file may use of ComfyUI besides its node interface: the bindings everything, others what stands here
COMFY_USERS = {
    "folder_paths": {"paths.py"},
    "comfy.utils": {"progress.py"},
    "comfy": {"animate_control.py", "style_use.py"},
}
CONVERSIONS = {"permute", "clamp", "clamp_", "clip", "cuda"}  # nodes/bindings/convert.py's own work
MAX_FUNCTION, MAX_FILE, MAX_NODES_FILE, MAX_EXECUTE, MAX_PARAMETERS = 60, 400, 250, 15, 8


@functools.lru_cache(1)  # of the file at hand: all files' would be a million objects
def all_nodes(tree: ast.Module) -> list[ast.AST]:
    return list(ast.walk(tree))


def run_at_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Nodes outside of functions and of conditions such as `if TYPE_CHECKING`."""
    waiting = [node for node in tree.body if not isinstance(node, ast.If)]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
            waiting += ast.iter_child_nodes(node)


def faults(path: Path, text: str) -> list[str]:
    """Everything a shipped file does that the house forbids."""
    tree = ast.parse(text)
    found = [*_size_faults(path, text, tree), *_danger_faults(path, tree), *_import_faults(path, tree)]
    if path.is_relative_to(CORE):
        found += _core_faults(path, tree)
    elif path.is_relative_to(NODES):
        found += _nodes_faults(path, text, tree)
    return found


def _room(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def _imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Level (0 is absolute) and dotted name of every import, one for each name where only dots are given."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.level, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, alias.name) for alias in node.names)


def _size_faults(path: Path, text: str, tree: ast.Module) -> Iterator[str]:
    if not ast.get_docstring(tree):
        yield "does not say what it is for"
    if text.count("\n") > MAX_FILE:
        yield f"is longer than {MAX_FILE} lines"
    for node in all_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.end_lineno - node.lineno + 1 > MAX_FUNCTION:
                yield f"{node.name} is longer than {MAX_FUNCTION} lines"
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]  # keywords tell what they are
            # a node has as many as it has inputs, an option as many as it has properties
            many = (path.is_relative_to(NODES) and node.name == "execute") or path == CORE / "options.py"
            if len([n for n in names if n not in ("self", "cls")]) > MAX_PARAMETERS and not many:
                yield f"{node.name} takes more than {MAX_PARAMETERS} positional parameters"


def _danger_faults(path: Path, tree: ast.Module) -> Iterator[str]:
    for node in all_nodes(tree):
        if isinstance(node, ast.Assert):
            yield "asserts"
        if not isinstance(node, ast.Call):
            continue
        options = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
        match node.func:
            case ast.Name("print") if "cli" not in path.parts:
                yield "prints"
            case ast.Name(name) if name in BANNED_CALLS:
                yield f"calls {name}"
            case ast.Attribute(ast.Name("os"), name) if name.startswith(BANNED_OF_OS):
                yield f"calls os.{name}"
            case ast.Attribute(ast.Name("torch"), "load") if options.get("weights_only") is not True:
                yield "calls torch.load without weights_only=True"
            case ast.Attribute(ast.Attribute(ast.Name("torch"), "jit"), "load") if path not in PROGRAM_LOADERS:
                yield "loads a program with torch.jit.load"
            case ast.Attribute(ast.Name("pickle"), "load" | "loads" | "Unpickler"):
                yield "unpickles"
            case ast.Attribute(_, "load_state_dict") if options.get("strict", True) is not True:
                yield "loads weights with strict=False"


def _import_faults(path: Path, tree: ast.Module) -> Iterator[str]:
    for level, name in _imports(all_nodes(tree)):
        runs_programs = name.split(".")[0] == "subprocess" and path in PROGRAM_RUNNERS
        if not level and name.split(".")[0] in BANNED_IMPORTS and not runs_programs:
            yield f"imports {name.split('.')[0]}"
        if not level and name.split(".")[0] == "portraittalk_core":
            yield "imports the core by its absolute name"
    for _, name in _imports(run_at_import(tree)):
        if name.split(".")[0] in HEAVY:
            yield f"imports {name.split('.')[0]} outside the function that needs it"


def _core_faults(path: Path, tree: ast.Module) -> Iterator[str]:
    here = _room(path)
    if here not in FLOORS:
        yield f"{here} has no floor"
        return
    for level, name in _imports(all_nodes(tree)):
        if not level and name.split(".")[0] in COMFY:
            yield f"imports {name.split('.')[0]}"
    for room in _rooms(path, tree):
        if room.startswith(".."):
            yield f"reaches out of the core to {room.removeprefix('..')}"
        elif room not in FLOORS:
            yield f"{room} has no floor"
        elif FLOORS[room] > FLOORS[here]:
            yield f"{here} reaches up to {room}"
        elif FLOORS[room] == FLOORS[here] and FLOORS[here] not in OPEN_FLOORS:
            yield f"{here} reaches over to {room}"


def _rooms(path: Path, tree: ast.Module) -> Iterator[str]:
    """Rooms of the core that a file imports, without its own; those outside of the core begin with two dots."""
    package = path.relative_to(CORE).parts[:-1]
    for level, name in _imports(all_nodes(tree)):
        if level > len(package) + 1:
            yield f"..{name}"
        elif level:
            room = [*package[: len(package) - level + 1], *name.split(".")][0]
            if room != _room(path) and not room.startswith("__"):  # such as __version__, of the package itself
                yield room


def _nodes_faults(path: Path, text: str, tree: ast.Module) -> Iterator[str]:
    if text.count("\n") > MAX_NODES_FILE:
        yield f"is longer than {MAX_NODES_FILE} lines"
    for level, name in _imports(all_nodes(tree)):
        owner = next((module for module in COMFY_USERS if not level and f"{name}.".startswith(f"{module}.")), None)
        if owner and path.parent.name != "bindings" and path.name not in COMFY_USERS[owner]:
            yield f"imports {owner}"
    for node in all_nodes(tree):
        match node:
            case ast.FunctionDef(name="execute") if node.end_lineno - node.lineno + 1 > MAX_EXECUTE:
                yield f"execute at line {node.lineno} is longer than {MAX_EXECUTE} lines"
            case ast.Call(ast.Attribute(_, called)) if called in CONVERSIONS and path.name != "convert.py":
                yield f"calls {called}"


def shipped() -> list[Path]:
    return [ENTRY, *(path for folder in (CORE, NODES) for path in sorted(folder.rglob("*.py")))]


@pytest.mark.parametrize("path", shipped(), ids=lambda p: str(p.relative_to(ROOT)))
def test_shipped_file_keeps_the_walls(path):
    assert not faults(path, path.read_text(encoding="utf-8"))


LONG = "\n    x = 1" * 60
# where a file would stand, what it would hold, what must be found
BAD = [
    ("portraittalk_core/face/a.py", "from ..pipelines import talk", "face reaches up to pipelines"),
    ("portraittalk_core/face/a.py", "from ..speech.mel import log_mel", "face reaches over to speech"),
    ("portraittalk_core/face/deep/a.py", "from ...renderers import paste", "face reaches up to renderers"),
    ("portraittalk_core/face/a.py", "from .. import motion", "face reaches up to motion"),
    ("portraittalk_core/media/a.py", "def f():\n    from ..face import mesh", "media reaches up to face"),
    ("portraittalk_core/metrics/a.py", "from ..diffusion import vae", "metrics reaches over to diffusion"),
    ("portraittalk_core/types.py", "from .media import audio", "types reaches up to media"),
    ("portraittalk_core/face/a.py", "from ..helpers import x", "helpers has no floor"),
    ("portraittalk_core/helpers.py", "x = 1", "helpers has no floor"),
    ("portraittalk_core/face/a.py", "from ...nodes import face", "reaches out of the core to nodes.face"),
    ("portraittalk_core/face/a.py", "from portraittalk_core import types", "imports the core by its absolute name"),
    ("portraittalk_core/face/a.py", "import comfy.utils", "imports comfy"),
    ("portraittalk_core/face/a.py", "def f():\n    import folder_paths", "imports folder_paths"),
    ("portraittalk_core/face/a.py", "import nodes", "imports nodes"),
    ("portraittalk_core/face/a.py", "print('x')", "prints"),
    ("portraittalk_core/face/a.py", "import mediapipe as mp", "imports mediapipe outside the function that needs it"),
    ("portraittalk_core/face/a.py", "try:\n    import rich\nexcept ImportError:\n    pass",
     "imports rich outside the function that needs it"),
    ("portraittalk_core/face/a.py", "def f():\n    import cv2", "imports cv2"),
    ("nodes/a.py", "from cv2 import imread", "imports cv2"),
    ("nodes/a.py", "import subprocess", "imports subprocess"),
    ("nodes/a.py", "from pip._internal import main", "imports pip"),
    ("nodes/a.py", "eval('1')", "calls eval"),
    ("nodes/a.py", "exec('1')", "calls exec"),
    ("nodes/a.py", "import os\nos.system('ls')", "calls os.system"),
    ("nodes/a.py", "import os\nos.execvp('ls', [])", "calls os.execvp"),
    ("portraittalk_core/metrics/a.py", "torch.jit.load('x')", "loads a program with torch.jit.load"),
    ("nodes/a.py", "torch.load('x')", "calls torch.load without weights_only=True"),
    ("nodes/a.py", "torch.load('x', weights_only=False)", "calls torch.load without weights_only=True"),
    ("nodes/a.py", "import pickle\npickle.load(f)", "unpickles"),
    ("nodes/a.py", "net.load_state_dict(s, strict=False)", "loads weights with strict=False"),
    ("nodes/a.py", "assert x", "asserts"),
    ("nodes/a.py", "print('x')", "prints"),
    ("nodes/a.py", "x.clamp(0, 1)", "calls clamp"),
    ("nodes/a.py", "import folder_paths", "imports folder_paths"),
    ("nodes/a.py", "from comfy.ldm.modules import attention", "imports comfy"),
    ("nodes/a.py", "import comfy.utils", "imports comfy.utils"),
    ("nodes/a.py", "from ..portraittalk_core import x\nfrom portraittalk_core import y",
     "imports the core by its absolute name"),
    ("nodes/a.py", "class A:\n  def execute(cls):" + "\n    x = 1" * 15, "execute at line 3 is longer than 15 lines"),
    ("nodes/a.py", "x = 1\n" * 250, "is longer than 250 lines"),
    ("portraittalk_core/face/a.py", "x = 1\n" * 400, "is longer than 400 lines"),
    ("portraittalk_core/face/a.py", f"def f():{LONG}", "f is longer than 60 lines"),
    ("portraittalk_core/face/a.py", f"async def f():{LONG}", "f is longer than 60 lines"),
    ("portraittalk_core/face/a.py", "def f(a, b, c, d, e, f, g, h, i, *, j):\n    ...",
     "f takes more than 8 positional parameters"),
    ("__init__.py", "import subprocess", "imports subprocess"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "text", "fault"), BAD, ids=[f"{p}: {f}" for p, _, f in BAD])
def test_wall_stops_a_bad_file(path, text, fault):
    assert faults(ROOT / path, f'"""Does something."""\n{text}\n') == [fault]


def test_wall_stops_a_file_without_purpose():
    assert faults(CORE / "face" / "a.py", "x = 1\n") == ["does not say what it is for"]


GOOD = [
    (
        "portraittalk_core/pipelines/a.py",
        "from ..renderers import paste\nfrom ..types import Speech\nfrom . import talk",
    ),
    ("portraittalk_core/cli/main.py", "from .. import __version__\nfrom . import train\nprint(1)"),
    ("portraittalk_core/pipelines/a.py", "from .. import __version__"),
    ("portraittalk_core/face/a.py", "def f():\n    import mediapipe\nmodel.eval()\nre.compile('x')"),
    ("portraittalk_core/face/a.py", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
    ("portraittalk_core/face/a.py", "torch.load('x', weights_only=True)\nzip(a, b, strict=False)"),
    ("nodes/bindings/paths.py", "import folder_paths"),
    ("nodes/bindings/unet.py", "from comfy.ldm.modules import attention"),
    ("nodes/bindings/convert.py", "x.clamp(0, 1)"),
    ("nodes/a.py", "from comfy_api.latest import io\nfrom ..portraittalk_core.types import Speech"),
]


@pytest.mark.parametrize(("path", "text"), GOOD)
def test_wall_lets_a_good_file_pass(path, text):
    assert faults(ROOT / path, f'"""Does something."""\n{text}\n') == []


@functools.cache
def module_imports() -> dict[str, set[str]]:
    """Which modules of the core each of them imports, at its top or in a function; imports for types do not count."""
    names = {
        ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in CORE.rglob("*.py")
    }
    graph = {}
    for name, path in names.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        nodes = [node for part in tree.body if not isinstance(part, ast.If) for node in ast.walk(part)]
        package = path.relative_to(ROOT).parts[:-1]
        imported = (".".join((*package[: len(package) - level + 1], name)) for level, name in _imports(nodes) if level)
        graph[name] = {i if i in names else i.rpartition(".")[0] for i in imported} & set(names) - {name}
    return graph


def test_modules_import_in_no_circle():
    graphlib.TopologicalSorter(module_imports()).prepare()  # raises CycleError, which names the modules


def test_a_circle_would_be_seen():
    graph = module_imports() | {"portraittalk_core.types": {"portraittalk_core.pipelines.talk"}}
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()


def test_no_room_stands_empty():
    for package in CORE.rglob("__init__.py"):
        others = [p for p in package.parent.rglob("*.py") if p != package]
        assert others, f"{package.parent.name} holds no file; a room appears with its first content"


def test_the_root_module_holds_nothing_but_the_entry():
    tree = ast.parse(ENTRY.read_text(encoding="utf-8"))
    assert [type(statement) for statement in tree.body[1:]] == [ast.Import, ast.If]
    imports = [name for level, name in _imports(all_nodes(tree)) if level]
    assert imports == ["nodes.comfy_entrypoint"]
