"""README and docs: every command, setting, table, link and cited section is true.

Each `sh` command falls in exactly one class. Commands that need no weights are run on a small portrait and clip; those
that need weights, networks, a cluster or long training are parsed by the real parsers.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
README_BYTES = 7_000  # about 6 KB

# words of a `portraittalk` command that cannot be run here, and why; it is parsed instead
NEEDS = {
    "identitynet": "an SD1.5 checkpoint",
    "vexpress": "V-Express's weights",
    "--keypoints-folder": "a keypoint model's files; run on random ones in tests/core/cli/test_source.py",
    "--lips-file": "a lip renderer's files; run on random ones in tests/core/cli/test_lip_renderers.py",
    "--also": "a film of two people; run in tests/core/cli/test_dub_speakers.py",
    "--layout": "a corpus; run in tests/core/training/data/test_layouts.py",
    "--extractor": "a trained extractor",
    "--face-recon": "a model of faces; run on stubs in tests/core/style and tests/core/training/style",
    "--encoder": "a speech encoder",
    "--hubert": "a speech encoder",
    "--face-models": "InsightFace's buffalo_l",
    "--metric-models": "networks of metrics",
    "--workers": "Ray",
    "live": "a microphone, a screen, or as long as the sound lasts; run in tests/core/pipelines and tests/core/cli",
    "--address": "a Ray cluster",
    "train": "training; run in tests/core/training and tests/core/cli",
}
SHELL = {"cd", "git", "apt-get"}  # of the system, which these tests leave alone


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    language: str
    text: str

    @property
    def title(self) -> str:
        """The file that its first line names: `# style.toml`."""
        return self.text.split("\n", 1)[0].lstrip("# ").split()[0]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.title}"


def fenced_blocks(language: str) -> list[Block]:
    fence = re.compile(rf"^( *)```{language}\n(.*?)^\1```$", re.M | re.S)
    return [Block(page, language, found[2]) for page in PAGES for found in fence.finditer(page.read_text("utf-8"))]


def commands() -> Iterator[tuple[str, ...]]:
    """The words of every command, each once."""
    found = {}
    for block in fenced_blocks("sh"):
        for line in block.text.replace("\\\n", " ").splitlines():
            if words := tuple(shlex.split(line, comments=True)):
                found[words] = None
    yield from found


def classes_of(words: tuple[str, ...]) -> list[str]:
    """All classes that a command falls in; there must be one."""
    lead, needed = words[0], any(word in NEEDS for word in words)
    holds = {
        "run": lead == "portraittalk" and not needed,
        "parse": lead == "portraittalk" and needed,
        "make": lead == "make",
        "benchmark": words[:2] == ("python", "-m") and words[2].split(".")[0] == "benchmarks",
        "tool": lead == "python" and words[1].startswith("tools/"),
        "pip": lead == "pip" or (lead.endswith("/python") and words[1:3] == ("-m", "pip")),
        "shell": lead in SHELL,
    }
    return [name for name, is_so in holds.items() if is_so]


def of_class(name: str) -> list:
    chosen = [words for words in commands() if classes_of(words) == [name]]
    return [pytest.param(words, id=" ".join(words)[:80]) for words in chosen]


def test_every_command_falls_in_exactly_one_class():
    found = {words: classes_of(words) for words in commands()}
    assert not {words: names for words, names in found.items() if len(names) != 1}
    assert {"run", "parse", "make", "benchmark", "pip"} <= {names[0] for names in found.values()}


# --- commands that are run


@pytest.fixture(scope="session")
def studio(tmp_path_factory) -> Path:
    """The files that the commands of the docs name, of the sample portrait and 1.2 s of the sample speech."""
    import av
    import numpy as np
    from PIL import Image
    from skimage.data import astronaut

    from portraittalk_core.cli.main import main

    folder = tmp_path_factory.mktemp("docs")
    Image.fromarray(astronaut()).resize((256, 256), Image.Resampling.LANCZOS).save(folder / "me.jpg", quality=95)
    shutil.copy(folder / "me.jpg", folder / "anna.jpg")
    with av.open(str(ROOT / "samples" / "speech.wav")) as file:
        rate = file.streams.audio[0].rate
        samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])[: int(1.2 * rate)]
    for name in ("hello.wav", "new.wav"):
        with av.open(str(folder / name), "w") as file:
            stream = file.add_stream("pcm_s16le", rate=rate)
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), "s16", "mono")
            frame.rate = rate
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                file.mux(packet)
    given = ["--portrait", str(folder / "me.jpg")]
    speech = ["--speech", str(folder / "hello.wav")]
    track, film = folder / "hello.safetensors", folder / "interview.mp4"
    assert main(["landmarks", *given, *speech, "--out", str(track)]) == 0
    assert main(["render", *given, "--track", str(track), *speech, "--out", str(film)]) == 0
    for name in ("anna.mp4", "made.mp4", "real.mp4", "made/a.mp4", "real/a.mp4", "my_videos/a.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(film, folder / name)
    shutil.copy(ROOT / "portraittalk_core" / "engines" / "builtin" / "mouth.safetensors", folder / "me.safetensors")
    assert main(["style", "--video", str(folder / "anna.mp4"), "--out", str(folder / "anna.safetensors")]) == 0
    (folder / "points.json").write_text("[[0, 0], [4, 1]]")
    (folder / "pairs.csv").write_text("generated,target,name\nmade.mp4,real.mp4,one\n", encoding="utf-8")
    (block,) = fenced_blocks("csv")
    (folder / "manifest.csv").write_text(block.text, encoding="utf-8")
    return folder


@pytest.fixture
def desk(studio, tmp_path, monkeypatch, request) -> Path:
    """A copy of these files to work in."""
    shutil.copytree(studio, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    if "batch" in request.node.callspec.id:  # `made` is its output folder; elsewhere `real` must match it
        shutil.rmtree(tmp_path / "made")
        (tmp_path / "anna.mp4").unlink()  # which the manifest's first job makes
        shutil.copy(tmp_path / "real.mp4", tmp_path / "real" / "anna.mp4")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("words", of_class("run"))
def test_command_runs_and_writes_what_it_names(words, desk, capsys):
    from portraittalk_core.cli.main import main

    out = [desk / words[words.index(flag) + 1] for flag in ("--out", "--json", "--plot") if flag in words]
    for path in out:
        if path.is_file() and path.suffix != ".csv":
            path.unlink()
    code = main(list(words[1:]))
    assert code == 0, capsys.readouterr().err
    assert all(path.exists() for path in out)


@pytest.mark.slow
@pytest.mark.parametrize("block", fenced_blocks("python"), ids=str)
def test_python_example_runs(block, desk):
    found = subprocess.run(  # in a process of its own: an example may register something
        [sys.executable, "-c", block.text], cwd=desk, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr


# --- commands that are parsed


@pytest.mark.parametrize("words", of_class("parse"))
def test_command_that_needs_more_is_parsed(words):
    from portraittalk_core.cli.main import build_parser

    build_parser().parse_args(words[1:])


def test_examples_of_the_help_are_parsed():
    from portraittalk_core.cli.main import build_parser

    parser, found = build_parser(), 0
    (commands_action,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    for each in (parser, *commands_action.choices.values()):
        for line in re.findall(r"^ +portraittalk ((?:.*\\\n)*.+)$", each.epilog or "", re.M):
            parser.parse_args(shlex.split(re.sub(r" {2,}\(.*$", "", line.replace("\\\n", " "))))
            found += 1
    assert found > 20


@pytest.mark.parametrize("words", of_class("make"))
def test_make_target_exists(words):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    assert set(word for word in words[1:] if "=" not in word) <= set(targets)


@pytest.mark.parametrize("words", of_class("benchmark"))
def test_benchmark_command_is_parsed(words):
    from benchmarks.__main__ import COMMANDS

    module, *rest = words[2:]
    if module != "benchmarks":
        assert (ROOT / "benchmarks" / f"{module.split('.')[1]}.py").is_file()
        assert 1 <= len(rest) <= 3  # folders: the public code
        return
    parser = argparse.ArgumentParser()
    COMMANDS[rest[0]].add_arguments(parser)
    parser.parse_args(rest[1:])


@pytest.mark.parametrize("words", of_class("pip"))
def test_pip_command_names_what_there_is(words):
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    known = {re.split(r"[^\w-]", need)[0] for part in project["optional-dependencies"].values() for need in part}
    given = [word for word in words[words.index("install") + 1 :] if word != "-e"]
    if given[0] == "-r":
        assert (ROOT / Path(given[1]).name).is_file()
        return
    for package in given:
        extras = re.fullmatch(r"\.\[(.+)\]", package)
        wanted = set(extras[1].split(",")) if extras else {package}
        assert wanted <= (set(project["optional-dependencies"]) if extras else known)


# --- settings, tables, links


LOADERS = {
    "mouth.toml": ("portraittalk_core.training.mouth.config", "load_mouth_config"),
    "closures.toml": ("portraittalk_core.training.closures.config", "load_closure_config"),
    "identity.toml": ("portraittalk_core.training.identitynet.config", "load_config"),
    "animatenet.toml": ("portraittalk_core.training.animatenet.config", "load_animate_config"),
    "recipe.toml": ("portraittalk_core.training.recipe.config", "load_recipe"),
    "style.toml": ("portraittalk_core.training.style.config", "load_style_config"),
    "single.toml": ("portraittalk_core.training.style.config", "load_style_config"),
    "multi.toml": ("portraittalk_core.training.style.config", "load_style_config"),
    "keypoints.toml": ("portraittalk_core.training.keypoints.config", "load_keypoint_config"),
    "sync.toml": ("portraittalk_core.training.sync.config", "load_sync_config"),
    "landmarks.toml": ("portraittalk_core.training.landmarks.config", "load_landmark_config"),
    "lips.toml": ("portraittalk_core.training.lips.config", "load_lip_config"),
    "audio2exp.toml": ("portraittalk_core.training.audio2exp.config", "load_audio2exp_config"),
}


@pytest.mark.parametrize("block", fenced_blocks("toml"), ids=str)
def test_settings_are_read_by_the_command_they_are_for(block, tmp_path):
    import importlib

    module, function = LOADERS[block.title]
    path = tmp_path / block.title
    path.write_text(block.text, encoding="utf-8")
    config = getattr(importlib.import_module(module), function)(path)
    assert config.out.parent == tmp_path


@pytest.mark.parametrize("block", fenced_blocks("json"), ids=str)
def test_gain_points_are_read(block):
    from fractions import Fraction

    from portraittalk_core.motion.gain import gain_curve

    assert json.loads(block.text) == [[0, 1], [2.5, 0.4], [3, 1]]
    curve = gain_curve(block.text, 101, Fraction(25))
    assert curve[[0, -1]].tolist() == pytest.approx([1, 1], abs=0.01)  # near the first point, and behind the last
    assert float(curve.min()) == pytest.approx(0.4, abs=0.02)  # at 2.5 s


def test_generated_tables_are_what_the_code_says():
    import importlib.util

    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "tools" / "make_docs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.main(["--check"]) == 0
    page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb"
    assert tool.filled(page, "x", "new") == "a\n<!-- begin x -->\nnew\n<!-- end x -->\nb"
    with pytest.raises(ValueError, match="lacks"):
        tool.filled(page, "y", "new")


def table_rows(page: Path, heading: str) -> list[list[str]]:
    """Cells of the table whose first heading is `heading`."""
    lines = page.read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_readme_names_every_command_and_every_node():
    from portraittalk_core.cli.main import build_parser

    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert {row[0].strip("`") for row in table_rows(ROOT / "README.md", "command")} == set(action.choices)
    nodes = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text("utf-8"))
    cells = [set(re.split(r"[ ,/]+", row[0])) for row in table_rows(ROOT / "README.md", "node")]
    lacking = [node["display_name"] for node in nodes.values()
               if not any(set(node["display_name"].split()) <= cell for cell in cells)]  # fmt: skip
    assert not lacking


def test_docs_name_every_template():
    named = {name.strip() for row in table_rows(ROOT / "docs" / "index.md", "template") for name in row[0].split(",")}
    assert named == {path.stem for path in (ROOT / "workflows").glob("*.json")}


def test_columns_of_the_batch_manifest_are_all_told():
    from portraittalk_core.batch.manifest import COLUMNS, all_columns

    page = ROOT / "docs" / "formats.md"
    rows = [*table_rows(page, "column"), *table_rows(page, "job")]
    assert {*COLUMNS, *all_columns()} <= set(re.findall(r"`([a-z0-9_]+)`", " ".join(map(" ".join, rows))))


def test_parts_of_track_and_style_files_are_all_told():
    import torch

    from portraittalk_core.style.prior import StylePrior
    from portraittalk_core.types import KeypointTrack, LandmarkTrack

    seen = torch.ones(1, dtype=torch.bool)
    zeros, ones = torch.zeros, torch.ones(1)
    records = (
        LandmarkTrack(zeros(1, 478, 3), seen, 25, 8, 8),
        KeypointTrack(zeros(1, 15, 3), zeros(1, 3), zeros(1, 3), ones, seen, 25, "face-vid2vid-15"),
        StylePrior(ones, ones, ones, "manner"),
    )
    told = set(re.findall(r"`([\w-]+)`", (ROOT / "docs" / "formats.md").read_text("utf-8")))
    for record in records:
        tensors, metadata = record.to_record()
        assert {*tensors, *metadata, record.kind} <= told, record.kind


@pytest.mark.parametrize("block", fenced_blocks("csv"), ids=str)
def test_the_manifest_of_the_docs_is_read(block, tmp_path):
    from portraittalk_core.batch.manifest import read_manifest

    manifest = tmp_path / "manifest.csv"
    manifest.write_text(block.text, encoding="utf-8")
    (tmp_path / "real").mkdir()
    for name in ("anna.jpg", "hello.wav", "real/anna.mp4"):
        (tmp_path / name).touch()
    jobs = list(read_manifest(manifest, tmp_path / "out"))
    assert len(jobs) == len(list(csv.reader(block.text.splitlines()))) - 1
    assert not [job.problem for job in jobs if job.problem]


def test_paths_that_contributing_names_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    named = [path for path in re.findall(r"`([\w./-]+)`", text) if "/" in path and not path.endswith("://")]
    roots = (ROOT, ROOT / "portraittalk_core")
    assert len(named) > 20
    assert not [path for path in named if not path.startswith("~") and not any((r / path).exists() for r in roots)]


def test_floors_that_contributing_tells_are_those_of_the_walls():
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("walls", ROOT / "tests" / "test_architecture.py")
    walls = module_from_spec(spec)
    spec.loader.exec_module(walls)
    rows = table_rows(ROOT / "CONTRIBUTING.md", "floor")
    told = {room: int(row[0]) - 1 for row in rows for room in re.findall(r"`(\w+)`", row[1])}
    assert told == {room: floor for room, floor in walls.FLOORS.items() if not room.startswith("__")}


def test_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def left_out() -> tuple[str, ...]:
    lines = (ROOT / ".comfyignore").read_text().splitlines()
    return tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere_here_and_in_the_packed_archive(page):
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        inside = target.relative_to(ROOT).as_posix()
        assert not any(inside == name or inside.startswith(name.rstrip("/") + "/") for name in left_out()), link
        assert not anchor or anchor in anchors(target), link


CITED = re.compile(r"(docs/[\w./-]+?\.md)`?((?: (?:and )?\d+(?:\.\d+)*,?)*)")
CITING = ("portraittalk_core", "nodes", "tests", "benchmarks", "tools", "docs")


def citations() -> Iterator[tuple[Path, str, str]]:
    for folder in CITING:
        for path in sorted((ROOT / folder).rglob("*.*")):
            if path.suffix in (".py", ".md", ".js", ".json") and path != Path(__file__):
                for found in CITED.finditer(path.read_text("utf-8")):
                    yield path, found[1], found[2]


def test_every_cited_page_and_section_exists():
    found = list(citations())
    wrong = []
    for path, page, numbers in found:
        if not (ROOT / page).is_file():
            wrong.append(f"{path.relative_to(ROOT)}: {page}")
            continue
        sections = set(re.findall(r"^#+ (\d+(?:\.\d+)*) ", (ROOT / page).read_text("utf-8"), re.M))
        missing = set(re.findall(r"\d+(?:\.\d+)*", numbers)) - sections
        wrong += [f"{path.relative_to(ROOT)}: {page} {number}" for number in sorted(missing)]
        if page.startswith("docs/design/") and path.suffix == ".py" and not numbers.strip():
            wrong.append(f"{path.relative_to(ROOT)}: {page} without a section")
    assert not wrong
    assert sum(page.startswith("docs/design/") for _, page, _ in found) > 40


def test_no_code_cites_a_note_that_nobody_can_open():
    own = re.compile(r"(?<!docs/)\bdesign/\w+\.md")
    strange = [str(path.relative_to(ROOT)) for folder in CITING[:-1] for path in (ROOT / folder).rglob("*.py")
               if path != Path(__file__) and own.search(path.read_text("utf-8"))]  # fmt: skip
    assert not strange
