"""Every engine keeps one contract; one from outside takes a single file."""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from portraittalk_core.cli import main as cli
from portraittalk_core.engines import registry
from portraittalk_core.engines.contract import EngineFiles, EngineSpec, whole_track
from portraittalk_core.engines.raw_engine import RawMotionEngine, counted_in_frames
from portraittalk_core.engines.raw_motion import RawMotion
from portraittalk_core.engines.registry import (
    ENGINES,
    engine_spec,
    engine_specs,
    find_engines,
    nameable_engines,
    open_engine,
    register,
)
from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.face.track_file import load_track
from portraittalk_core.media.image import save_picture
from portraittalk_core.motion.options import MotionOptions
from portraittalk_core.pipelines import doctor
from portraittalk_core.pipelines.talk import talk
from portraittalk_core.types import Speech
from portraittalk_core.weights.catalog import KINDS, WeightFile
from portraittalk_core.weights.specs import FileSpec

ROOT = Path(__file__).parents[3]
# all that somebody writes who adds an engine: it holds the face still
OUTSIDE = """
from portraittalk_core.engines.contract import EngineSpec
from portraittalk_core.engines.registry import register
from portraittalk_core.motion.options import MotionOptions


class Still:
    name = "still"

    def spans(self, speech, reference, options=None, on_progress=None):
        for _ in range(speech.num_frames((options or MotionOptions()).fps)):
            yield reference


register(EngineSpec("still", "a face that does not move", build=lambda files: Still()))
"""


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))


@pytest.fixture
def still(tmp_path, monkeypatch):
    (tmp_path / "still_engine.py").write_text(OUTSIDE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "still_engine", raising=False)
    __import__("still_engine")


@pytest.fixture
def speech() -> Speech:
    t = torch.arange(7 * 16000 // 2) / 16000
    buzz = sum(torch.sin(2 * torch.pi * 120 * k * t) / k for k in range(1, 30))
    return Speech(0.1 * buzz * torch.sin(torch.pi * 4 * t).square())


class Growing(RawMotionEngine):
    """Every point goes down by one pixel a frame, at 25 Hz."""

    name = "growing"

    def raw_motion(self, speech, reference, on_progress=None) -> RawMotion:
        for done in range(1, 5):
            if on_progress:
                on_progress(done, 4)
        shift = torch.zeros(speech.num_frames(Fraction(25)), 478, 3)
        shift[..., 1] = torch.arange(len(shift))[:, None].float()
        return RawMotion(shift, Fraction(25))


@pytest.mark.slow
def test_an_engine_from_outside_is_one_file(still, speech, astronaut, tmp_path, capsys):
    made = whole_track(open_engine("still"), speech, astronaut.landmarks, MotionOptions())
    assert len(made) == 88  # ceil(3.5 s · 25)
    assert torch.equal(made.points, astronaut.landmarks.points.expand(88, -1, -1))
    assert talk(astronaut, speech, tmp_path / "t.mp4", engine=open_engine("still")).num_frames == 88
    save_picture(astronaut.picture, tmp_path / "p.png")
    words = ["landmarks", "--portrait", tmp_path / "p.png", "--speech", ROOT / "samples" / "speech.wav"]
    words += ["--engine", "still", "--out", tmp_path / "t.safetensors"]
    assert cli.main([str(word) for word in words]) == 0
    track = load_track(tmp_path / "t.safetensors")
    assert len(track) == 193
    assert torch.equal(track.points, track.points[:1].expand(193, -1, -1))


def test_every_text_tells_of_an_engine_from_outside(still, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # so that the help breaks no title
    cli.main(["talk", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert all(spec.title in shown for spec in ENGINES) and "(embedded, still)" in shown
    (section,) = [section for section in doctor.diagnose().sections if section.title == "Motion engines"]
    found = {line.name: line for line in section.lines}
    assert list(found) == ["embedded", "audio2mesh", "audio2motion", "landmark_generator", "joyvasa", "still"]
    assert all(line.ok for line in found.values())
    assert (found["embedded"].state, found["still"].state) == ("works", "works")
    assert found["audio2mesh"].state == "ready for ZJYang/AniPortrait audio2mesh.pt (--engine)"
    save_file({"w": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="Choose one of: .*AniPortrait audio2mesh, .*still"):
        open_engine(EngineFiles(tmp_path / "x.safetensors"))
    with pytest.raises(MissingDependency, match="no motion engine file nowhere.*still"):
        open_engine("nowhere")


def test_a_name_whose_engine_needs_a_file_says_which(still):
    assert nameable_engines() == ["embedded", "still"]
    assert open_engine(EngineFiles(Path("embedded"))).name == open_engine().name == "embedded"
    with pytest.raises(MissingDependency, match="opened by its file: ZJYang/AniPortrait.*Apache-2.0.*--engine"):
        open_engine("audio2mesh")
    with pytest.raises(InputError, match="no motion engine called x. Choose one of: embedded, audio2mesh"):
        engine_spec("x")


def test_a_taken_name_is_refused(still):
    with pytest.raises(InputError, match="called still already"):
        register(EngineSpec("still", "another", build=lambda files: None))
    assert register(engine_spec("still")) is engine_spec("still")


def test_a_weight_file_of_an_engine_from_outside_is_known_by_its_content(tmp_path):
    kind = WeightFile(
        "speech to growth", "somewhere", "MIT", "portraittalk", "1 kB", (("^grow$", (3,)),), used=True, engine="growing"
    )
    opened = []
    build = lambda files: opened.append(files) or Growing()  # noqa: E731
    register(EngineSpec("growing", "growth", build, (FileSpec("engine", "somewhere", "MIT", "portraittalk"),), (kind,)))
    path = tmp_path / "any.safetensors"
    save_file({"grow": torch.zeros(3)}, path)
    assert open_engine(str(path)).name == "growing"
    assert opened == [EngineFiles(path)]
    assert [found.kind.engine for found in find_engines([tmp_path])] == ["growing"]


def test_registry_and_catalogue_agree():
    assert [spec.name for spec in ENGINES] == [spec.name for spec in engine_specs()]
    assert {kind.engine for kind in KINDS if kind.engine} == {spec.name for spec in ENGINES}
    for spec in ENGINES:
        assert spec.files[0].source in {kind.source for kind in KINDS if kind.engine == spec.name}
        assert spec.load().__module__ == f"portraittalk_core.engines.{spec.build.partition(':')[0]}"


def test_the_help_page_lists_the_files_of_every_engine():
    page = (ROOT / "web" / "docs" / "PortraitTalkLoadMotionEngine.md").read_text(encoding="utf-8")
    entries = [" ".join(entry.split()) for entry in page.split("\n- ")]
    for spec in ENGINES[1:]:
        entry = next(entry for entry in entries if spec.files[0].size in entry)
        assert spec.files[0].licence in entry
        assert all(f"models/{file.folder}" in entry for file in spec.files[1:])


def test_the_registry_loads_no_torch():
    code = (
        "import sys; import portraittalk_core.engines.registry as r; r.engine_specs(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("engine", [open_engine(), Growing()], ids=lambda engine: engine.name)
@pytest.mark.parametrize("fps", [Fraction(25), Fraction(90)])
def test_spans_are_consecutive_pieces_of_the_whole(engine, fps, speech, astronaut):
    options = MotionOptions(fps=fps)
    spans = list(engine.spans(speech, astronaut.landmarks, options))
    count = speech.num_frames(fps)
    longest = 64 if engine.name == "embedded" else 256
    assert [len(span) for span in spans[:-1]] == [longest] * (-(-count // longest) - 1)
    whole = whole_track(engine, speech, astronaut.landmarks, options)
    assert len(whole) == count and whole.fps == fps
    assert torch.equal(torch.cat([span.points for span in spans]), whole.points)
    assert whole.valid.all()


@pytest.mark.parametrize("engine", [open_engine(), Growing()], ids=lambda engine: engine.name)
def test_progress_counts_frames_heard_before_the_first_span(engine, speech, astronaut):
    calls = []
    spans = engine.spans(speech, astronaut.landmarks, MotionOptions(), lambda *call: calls.append(call))
    next(spans)
    heard = list(calls)
    assert heard and heard[-1] == (88, 88) and heard == sorted(heard)
    list(spans)
    assert calls == heard


def test_progress_of_a_whole_track_rises_to_all_frames(speech, astronaut):
    calls = []
    whole_track(Growing(), speech, astronaut.landmarks, on_progress=lambda *call: calls.append(call))
    assert calls == [(11, 88), (22, 88), (33, 88), (44, 88), (88, 88)]


def test_progress_may_stop_an_engine_that_hears(speech, astronaut):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for engine in (open_engine(), Growing()):
        with pytest.raises(KeyboardInterrupt):
            next(engine.spans(speech, astronaut.landmarks, MotionOptions(), stop))


@pytest.mark.parametrize("wrong", [-1, 1, 64])
def test_an_engine_that_makes_another_number_of_frames_is_refused(wrong, speech, astronaut):
    class Miscounting:
        name = "miscounting"

        def spans(self, speech, reference, options=None, on_progress=None):
            count = speech.num_frames(options.fps) + wrong
            yield replace(reference, points=reference.points.expand(count, -1, -1), valid=torch.ones(count).bool())

    with pytest.raises(InputError, match=f"miscounting engine made {88 + wrong} frames, but .* has 88"):
        whole_track(Miscounting(), speech, astronaut.landmarks)


def test_work_in_any_unit_is_told_in_frames():
    calls = []
    tell = counted_in_frames(lambda *call: calls.append(call), 75)
    tell(0, 0)
    tell(500, 1000)
    tell(7, 7)
    assert calls == [(0, 75), (37, 75), (75, 75)]
    assert counted_in_frames(None, 75) is None
