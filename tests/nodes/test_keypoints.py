"""What the keypoint nodes do around the core; no ComfyUI is needed."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from comfy_stub import PACK, nodes_of
from toy_puppet import BlockMesh

from portraittalk_core.renderers.implicit.files import write_random_files
from portraittalk_core.types import KeypointTrack, LandmarkTrack

ROOT = Path(__file__).parents[2]
LAYOUT = "liveportrait-21"
FPS = Fraction(25)


class Interrupted(Exception):
    """As ComfyUI's own."""


@pytest.fixture(scope="module")
def bindings() -> Iterator[SimpleNamespace]:
    """The bindings' modules of keypoints, and the stub of ComfyUI that they use."""
    with pytest.MonkeyPatch.context() as patch, nodes_of(ROOT):
        management, patcher = sys.modules["comfy.model_management"], ModuleType("comfy.model_patcher")
        management.OOM_EXCEPTION = torch.cuda.OutOfMemoryError
        management.interrupted, management.throw_exception_if_processing_interrupted = False, lambda: _check(management)
        management.get_torch_device = management.unet_offload_device = lambda: torch.device("cpu")
        management.intermediate_device = management.get_torch_device
        management.should_use_fp16 = lambda device: False
        management.load_models_gpu = lambda patchers, **how: None
        patcher.ModelPatcher = lambda model, device, home: SimpleNamespace(model=model, load_device=device)
        patch.setitem(sys.modules, "comfy.model_patcher", patcher)
        extension = ModuleType("comfy.patcher_extension")
        extension.CallbacksMP = SimpleNamespace(ON_DETACH="on_detach")
        patch.setitem(sys.modules, "comfy.patcher_extension", extension)
        comfy = sys.modules["comfy"]
        comfy.model_management, comfy.model_patcher = management, patcher
        names = ("files", "speech", "edits", "source", "opening", "extract")
        modules = {name: importlib.import_module(f"{PACK}.nodes.bindings.keypoint_{name}") for name in names}
        main = importlib.import_module(f"{PACK}.nodes.bindings.keypoints")
        folders = sys.modules["folder_paths"]
        yield SimpleNamespace(main=main, management=management, folders=folders, pack=PACK, **modules)


def _check(management: ModuleType) -> None:
    if management.interrupted:
        raise Interrupted


@pytest.fixture
def models(bindings, tmp_path, monkeypatch) -> Path:
    """ComfyUI's models folder."""
    monkeypatch.setattr(bindings.folders, "models_dir", str(tmp_path))
    return tmp_path


def core(bindings, name: str) -> ModuleType:
    """A module of the core as the nodes under test import it."""
    return importlib.import_module(f"{bindings.pack}.portraittalk_core.{name}")


def track_of(bindings, frames: int = 10, layout: str = LAYOUT) -> KeypointTrack:
    """Keypoints that differ from frame to frame, of the pack under test."""
    count = {LAYOUT: 21, "face-vid2vid-15": 15}[layout]
    draw = torch.Generator().manual_seed(frames)
    expression = 0.05 * torch.randn(frames, count, 3, generator=draw)
    place, seen = torch.zeros(frames, 3), torch.ones(frames, dtype=torch.bool)
    angles = 10 * torch.rand(frames, 3, generator=draw)
    kind = core(bindings, "types").KeypointTrack
    return kind(expression, angles, place, torch.ones(frames), seen, FPS, layout)


def test_lists_name_folders_that_hold_networks(bindings, models):
    assert bindings.files.network_names() == ["models/liveportrait"]
    write_random_files(models / "controltalk" / "mine", "face-vid2vid-15", form="torch")
    official = write_random_files(models / "liveportrait" / "official", LAYOUT, form="torch")
    for inner, files in (("base_models", official[:-1]), ("retargeting_models", official[-1:])):
        (official[0].parent / inner).mkdir()
        for path in files:
            path.rename(path.parent / inner / path.name)
    (models / "portraittalk").mkdir()
    (models / "portraittalk" / "notes.pth").write_bytes(b"no weights")
    expected = ["models/liveportrait", "models/liveportrait/official", "models/controltalk/mine"]
    assert bindings.files.network_names() == expected
    folder = bindings.files.network_folder("models/liveportrait/official")
    assert {path.name for path in bindings.files.weights_in(folder)} == {path.name for path in official}
    networks = bindings.main.open_networks(folder, "auto", None, False)
    assert networks.name == "liveportrait-21, fp32, with stitching and retargeting"


@pytest.mark.parametrize("name", ["models/liveportrait/../../secret", "models/vae", "/etc", "", "models/liveportraits"])
def test_no_folder_outside_is_opened(bindings, models, name):
    (models / "secret").mkdir()
    (models / "secret" / "a.pth").write_bytes(b"")
    (models / "liveportrait").mkdir()
    with pytest.raises(ValueError, match="there are no keypoint networks in"):
        bindings.files.network_folder(name)
    with pytest.raises(ValueError, match="is not in models/controltalk"):
        bindings.files.audio2exp_path(f"{name}/a.pth")


@pytest.mark.parametrize(("on_missing", "fill"), [("interpolate", "interpolate"), ("error", "hold")])
def test_frames_are_read_twice_and_their_cuts_are_told(bindings, monkeypatch, on_missing, fill):
    extract, told = bindings.extract, []
    face = torch.rand(478, 3, generator=torch.Generator().manual_seed(0))

    def track_faces(pictures, *_: object, on_face, **more: object) -> str:
        for number, picture in enumerate(pictures):
            on_face(picture, None if number == 0 else face)
        return f"landmarks, {more['on_missing']}"

    monkeypatch.setattr(extract, "track_faces", track_faces)
    monkeypatch.setattr(extract, "face_mesh", ExitStack)
    monkeypatch.setattr(extract, "Progress", lambda: lambda done, total: told.append((done, total)))
    monkeypatch.setattr(extract, "keypoints_of_pictures", lambda *given, **how: (given, how))
    frames = torch.zeros(8, 32, 32, 3)
    frames[1:5], frames[5:] = 0.02, 1.0
    found = extract.extracted("networks", 25, (0, None), on_missing, "follow", frames=frames)
    (networks, pictures, landmarks), how = found.keypoints
    assert (networks, landmarks) == ("networks", f"landmarks, {on_missing}") and len(list(pictures)) == 8
    assert (how["crop"], how["on_missing"], how["scenes"].tolist()) == ("follow", fill, [0] * 5 + [1] * 3)
    assert int(found.first.unique()) == 5  # of 255: the second picture is the first with a face
    how["on_progress"](3, 8)
    assert told == [*((done, 16) for done in range(1, 9)), (11, 16)]


def test_interrupt_stops_networks_between_their_layers(bindings):
    calls = []
    layers = [torch.nn.Linear(4, 4) for _ in range(5)]
    pressed = layers[1].register_forward_hook(lambda *_: setattr(bindings.management, "interrupted", True))
    for layer in layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    network = torch.nn.Sequential(*layers)
    bindings.main.interruptible(network)
    try:
        with pytest.raises(Interrupted):
            network(torch.zeros(1, 4))
    finally:
        bindings.management.interrupted = False
        pressed.remove()
    assert len(calls) == 2
    assert network(torch.zeros(1, 4)).shape == (1, 4)


def test_too_little_memory_is_told(bindings, models):
    write_random_files(models / "liveportrait", LAYOUT)
    networks = bindings.main.open_networks(models / "liveportrait", "fp16", None, False)
    assert networks.model.dtype == torch.float16 and "fp16" in networks.name
    with pytest.raises(ValueError, match="not enough memory for 8 frames"), networks.on_device(8):
        raise torch.cuda.OutOfMemoryError


def test_alpha_is_a_number_a_curve_or_both(bindings):
    strength = bindings.speech.strength
    alpha, gain = strength({"alpha": 0.7}, 4, FPS)
    assert alpha == 0.7 and torch.equal(gain, torch.ones(4))
    inputs = {"alpha": 0.5, "alpha_points": "[[0.02, 0], [0.14, 2]]", "alpha_curve": [1.0, 0.5], "silence_pass": True}
    alpha, gain = strength(inputs, 4, FPS)  # frames lie at .02, .06, .10, .14 s
    assert gain.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1]) and alpha.tolist() == pytest.approx((gain / 2).tolist())
    assert inputs == {"silence_pass": True}
    drawn = SimpleNamespace(interp_array=lambda at: 1 - at)  # a CURVE of newer ComfyUI, from 1 down to 0
    assert strength({"alpha": 2.0, "alpha_curve": drawn}, 3, FPS)[0].tolist() == [2, 1, 0]
    with pytest.raises(ValueError, match="must be a pair"):
        strength({"alpha": 1.0, "alpha_points": "[1]"}, 4, FPS)


@pytest.mark.parametrize(("end", "frames"), [("cut", 10), ("hold", 25), ("ping-pong", 25), ("loop", 25)])
def test_keypoints_go_on_where_the_speech_is_longer(bindings, end, frames):
    speech = core(bindings, "types").Speech(torch.zeros(16_000), 16_000)
    track = track_of(bindings)
    longer = bindings.speech.as_long_as(track, speech, end)
    assert len(longer) == frames and torch.equal(longer.expression[:10], track.expression)
    after = {"cut": None, "hold": 9, "ping-pong": 8, "loop": 0}[end]
    assert after is None or torch.equal(longer.expression[10], track.expression[after])
    assert len(bindings.speech.as_long_as(track_of(bindings, 40), speech, end)) == 40


def test_edits_are_the_cores_own_in_order(bindings):
    edits, options = bindings.edits, core(bindings, "motion.keypoint_options").KeypointEdit
    track = track_of(bindings)
    assert edits.edited(track, options()) is track or torch.equal(
        edits.edited(track, options()).expression, track.expression
    )
    longer = edits.edited(track, options(), length=(50.0, 30, "loop"))
    assert (len(longer), longer.fps) == (30, 50)
    still = edits.edited(track, options(head_gain=0.0, yaw_deg=20.0))
    assert float(still.rotation_deg.std(0).max()) < 1e-3
    source = replace(track.slice(0, 1), expression=track.expression[:1] + 0.1)
    carried = edits.edited(track, options(), carried=(source, "relative"))
    assert torch.allclose(carried.expression, track.expression + 0.1, atol=1e-5)
    gains = edits.edited(track, options(), gain_curve=[1.0] * 9 + [0.0])
    assert torch.equal(gains.expression[:9], track.expression[:9])
    assert not torch.equal(gains.expression[9], track.expression[9])


def test_parts_of_another_track_are_taken(bindings):
    edits, options = bindings.edits, core(bindings, "motion.keypoint_options").KeypointEdit
    track, other = track_of(bindings), replace(track_of(bindings, 7), fps=Fraction(25))
    mixed = edits.edited(track, options(), mixed=(other, ("head",), 1.0))
    assert len(mixed) == 10 and torch.allclose(mixed.rotation_deg[:7], other.rotation_deg, atol=1e-4)
    halved = edits.edited(track, options(), mixed=(other, ("head",), 0.0))
    assert torch.allclose(halved.expression, track.expression, atol=1e-6)
    mouth = edits.edited(track, options(), mixed=(other, ("mouth",), 1.0))
    assert torch.equal(mouth.rotation_deg, track.rotation_deg)
    with pytest.raises(ValueError, match="face-vid2vid-15, but liveportrait-21 is needed"):
        edits.edited(track, options(), mixed=(track_of(bindings, 5, "face-vid2vid-15"), ("all",), 1.0))


def film_of(bindings, frames: int):
    types, contract = core(bindings, "types"), core(bindings, "renderers.contract")
    points = torch.rand(frames, 478, 3)
    landmarks = types.LandmarkTrack(points, torch.ones(frames, dtype=torch.bool), FPS, 64, 48)
    return contract.Film(Path("film.mp4"), landmarks)


@pytest.mark.parametrize(
    ("motion_frames", "end", "order"),
    [
        (4, "cut", list(range(4))),
        (6, "cut", None),
        (9, "cut", None),
        (9, "hold", [0, 1, 2, 3, 4, 5, 5, 5, 5]),
        (9, "ping-pong", [0, 1, 2, 3, 4, 5, 4, 3, 2]),
    ],
)
def test_film_and_motion_become_of_one_length(bindings, motion_frames, end, order):
    film, motion = bindings.source._of_one_length(film_of(bindings, 6), track_of(bindings, motion_frames), end)
    assert len(film.track) == len(motion) == (len(order) if order else 6)
    assert (None if film.order is None else film.order.tolist()) == order


def test_a_motion_of_another_rate_is_resampled_to_the_film(bindings):
    film, types = film_of(bindings, 6), core(bindings, "types")
    motion = bindings.source._at_rate_of(film, replace(track_of(bindings, 24), fps=Fraction(50)))
    assert (motion.fps, len(motion)) == (25, 12)
    landmarks = types.LandmarkTrack(torch.rand(24, 478, 3), torch.ones(24, dtype=torch.bool), Fraction(50), 64, 48)
    assert len(bindings.source._at_rate_of(film, landmarks)) == 12


def test_a_rendering_needs_one_source(bindings):
    for given in ({}, {"portrait": torch.zeros(1, 8, 8, 3), "film": object()}):
        with ExitStack() as files, pytest.raises(ValueError, match="connect a portrait or a film"):
            bindings.source.source_and_motion(track_of(bindings), files, None, **given)


def test_a_place_says_whose_face_moves(bindings, monkeypatch):
    """Of two faces, the one under the mask: MASK and box choose as they do for Dub Lips."""
    source, picture = bindings.source, torch.zeros(1, 160, 320, 3)
    picture[0, 30:100, 40:100, 0], picture[0, 50:120, 200:260, 2] = 0.9, 0.9
    monkeypatch.setattr(source, "face_mesh", lambda **_: BlockMesh())
    mask = torch.zeros(1, 160, 320)
    mask[0, :, 160:] = 1
    for place, middle in ((None, 70), (mask, 230), ([195, 40, 265, 130], 230)):
        with ExitStack() as files:
            face, _ = source.source_and_motion(track_of(bindings), files, None, portrait=picture, face_at=place)
        assert float(face.landmarks.points_px[0, :, 0].mean()) == pytest.approx(middle, abs=12)


class Mouths:
    """A measurement whose numbers are known."""

    def __init__(self, bindings, measured: list[float]) -> None:
        self.bindings, self.numbers = bindings, torch.tensor(measured)

    def against(self, asked: torch.Tensor):
        return core(self.bindings, "renderers.implicit.lip_opening").LipOpening(asked, self.numbers, FPS)


def test_report_holds_asked_and_measured_openings(bindings):
    points = torch.zeros(3, 478, 3)
    points[:, 61, 0], points[:, 291, 0] = 0.2, 0.6  # the mouth's corners, 0.4 of the picture apart
    points[:, 13, 1], points[:, 14, 1] = 0.5, 0.5 + torch.tensor([0.0, 0.1, 0.2])
    kind: type[LandmarkTrack] = core(bindings, "types").LandmarkTrack
    landmarks = kind(points, torch.ones(3, dtype=torch.bool), FPS, 100, 100)
    outputs = bindings.opening.outputs_of(Mouths(bindings, [0.0, 0.3, float("nan")]), landmarks, 1.0)
    report = json.loads(outputs.report)
    assert report["asked"] == pytest.approx([0, 0.25, 0.5], abs=1e-3)
    assert report["measured"] == [0, 0.3, None] and report["num_faceless"] == 1
    assert "no face found in 1 of 3 frames" in outputs.text and outputs.plot.ndim == 4
    halved = bindings.opening.outputs_of(Mouths(bindings, [0.0] * 3), landmarks, torch.tensor([1.0, 0.5, 0.0]))
    assert json.loads(halved.report)["asked"] == pytest.approx([0, 0.125, 0], abs=1e-3)
    nothing = bindings.opening.outputs_of(None, landmarks, 1.0)
    assert nothing.report == "" and nothing.plot.shape == (1, 64, 64, 3)


def test_asked_opening_of_face_vid2vid_is_read_by_its_measured_basis(bindings, monkeypatch):
    layout = "face-vid2vid-15"
    track, portrait = track_of(bindings, 10, layout), object()
    parting = torch.zeros(15, 3)
    parting[4, 1] = 0.2  # what opens the mouth by a whole distance of its corners
    regions = core(bindings, "motion.keypoint_regions")
    share = (parting[:, 1] > 0).float()
    basis = regions.ExpressionBasis(layout, parting, torch.zeros(15, 3), {"mouth": share, "rest": 1 - share})
    amount, asked = core(bindings, "renderers.implicit.mouth_amount"), []
    monkeypatch.setattr(amount, "measured_basis", lambda model, face: asked.append(face) or basis)
    mouths, model = Mouths(bindings, [0.1] * 10), SimpleNamespace(layout=layout)
    assert bindings.opening.basis_of(None, track, model, portrait) is None and not asked  # nobody wants to know
    found = bindings.opening.basis_of(mouths, track, model, portrait)
    assert found is basis and asked == [portrait]
    height = core(bindings, "motion.keypoint_edit").in_head_axes(track)[:, 4, 1] / 0.2
    report = json.loads(bindings.opening.outputs_of(mouths, track, 0.5, found).report)
    expected = 0.5 * (height - height.min())  # from the most closed frame on: one of ten
    assert report["asked"] == pytest.approx(expected.tolist(), abs=1e-3)
    known = SimpleNamespace(layout=LAYOUT)
    assert bindings.opening.basis_of(mouths, track_of(bindings), known, portrait) is None  # by name


def test_a_mouth_that_is_seen_nowhere_gives_a_plot_and_no_numbers(bindings):
    outputs = bindings.opening.outputs_of(Mouths(bindings, [float("nan")] * 10), track_of(bindings), 1.0)
    report = json.loads(outputs.report)
    assert report["correlation"] is None and report["mean_measured"] is None and "n/a" in outputs.text
    assert outputs.plot.shape[0] == 1 and float(outputs.plot.std()) > 0


def test_an_engine_that_makes_landmarks_is_refused(bindings):
    face = SimpleNamespace(landmarks=None)
    with pytest.raises(ValueError, match="makes landmarks; use AudioToLandmarks, then Landmarks To Keypoints"):
        bindings.speech.spoken(SimpleNamespace(name="embedded"), face, None, None, None)


class Engine:
    """An engine that makes keypoints of LivePortrait."""

    name, makes = "made up", LAYOUT

    def __init__(self, track: KeypointTrack) -> None:
        self.track = track

    def spans(self, *_: object) -> Iterator[KeypointTrack]:
        yield from (self.track.slice(0, 7), self.track.slice(7, len(self.track)))


def test_an_engines_motion_begins_where_the_portrait_stands(bindings, models, monkeypatch):
    monkeypatch.setattr(bindings.speech, "Progress", lambda: None)
    write_random_files(models / "liveportrait", LAYOUT)
    networks = bindings.main.open_networks(models / "liveportrait", "fp32", None, False)
    contract, types = core(bindings, "renderers.implicit.contract"), core(bindings, "types")
    draw = torch.Generator().manual_seed(1)
    own = contract.Keypoints(
        torch.zeros(1, 21, 3), 5 * torch.rand(1, 3, generator=draw), torch.rand(1, 3, generator=draw),
        torch.ones(1), torch.rand(1, 21, 3, generator=draw),
    )  # fmt: skip
    monkeypatch.setattr(bindings.speech, "keypoints_of_picture", lambda *_: (own, None))
    options = core(bindings, "motion.options").MotionOptions(fps=FPS)
    speech = types.Speech(torch.zeros(6400), 16_000)  # ten frames
    face = SimpleNamespace(landmarks=SimpleNamespace(points_px=[None]), picture=None)
    engine = Engine(track_of(bindings))
    assert torch.equal(bindings.speech.spoken(engine, face, speech, options, None).expression, engine.track.expression)
    carried = bindings.speech.spoken(engine, face, speech, options, networks)
    assert torch.allclose(carried.rotation_deg[0], own.rotation_deg[0], atol=1e-3)
    assert torch.allclose(carried.translation[0], own.translation[0], atol=1e-5)
    with pytest.raises(ValueError, match="face-vid2vid-15, but liveportrait-21 is needed"):
        bindings.speech.spoken(Engine(track_of(bindings, 10, "face-vid2vid-15")), face, speech, options, networks)


def test_regions_of_face_vid2vid_are_measured_on_a_portrait(bindings, monkeypatch):
    edits, device = bindings.edits, SimpleNamespace
    liveportrait, other = (device(model=device(layout=layout)) for layout in (LAYOUT, "face-vid2vid-15"))
    assert edits.basis_of(None, None) is None and edits.basis_of(liveportrait, None) is None
    with pytest.raises(ValueError, match="must be measured on a face; connect a portrait"):
        edits.basis_of(other, None)
    progress = importlib.import_module(f"{bindings.pack}.nodes.bindings.progress")
    monkeypatch.setattr(progress, "face_mesh", ExitStack)
    monkeypatch.setattr(edits, "find_portrait", lambda picture, *_, **__: picture.shape)
    monkeypatch.setattr(edits, "measured_basis", lambda model, face: (model, face))
    other.on_device = lambda: _opened("the model")
    assert edits.basis_of(other, torch.zeros(1, 200, 150, 3)) == ("the model", (200, 150, 3))


@contextmanager
def _opened(value: object) -> Iterator[object]:
    yield value
