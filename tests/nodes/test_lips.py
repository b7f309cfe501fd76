"""What the nodes of lip renderers do around the core; no ComfyUI is needed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from comfy_stub import PACK, nodes_of
from stub_lips import puppet_film, puppet_moves, spoken

from portraittalk_core.renderers.lip.options import LipPaintOptions
from portraittalk_core.renderers.lip.random_files import write_random_lip_files
from portraittalk_core.types import Speech

ROOT = Path(__file__).parents[2]
FRAMES, SIDE = 10, 144
UPPER_LIP, LOWER_LIP, LIPS = 0, 17, 14  # middles of the lips, of the mesh, and between them


@pytest.fixture(scope="module")
def pack() -> Iterator[SimpleNamespace]:
    """The modules of the nodes, and the stub of ComfyUI that they use."""
    with pytest.MonkeyPatch.context() as patch, nodes_of(ROOT):
        management, patcher = sys.modules["comfy.model_management"], ModuleType("comfy.model_patcher")
        management.OOM_EXCEPTION = torch.cuda.OutOfMemoryError
        management.throw_exception_if_processing_interrupted = lambda: None
        management.get_torch_device = management.unet_offload_device = lambda: torch.device("cpu")
        management.intermediate_device = management.get_torch_device
        management.should_use_fp16 = lambda device: False
        management.load_models_gpu = lambda patchers, **how: None
        patcher.ModelPatcher = lambda model, device, home: SimpleNamespace(model=model, load_device=device)
        patch.setitem(sys.modules, "comfy.model_patcher", patcher)
        sys.modules["comfy"].model_management, sys.modules["comfy"].model_patcher = management, patcher
        names = ("lip_files", "lips", "lip_select", "lip_dub", "face_place")
        modules = {name: importlib.import_module(f"{PACK}.nodes.bindings.{name}") for name in names}
        nodes = {name: importlib.import_module(f"{PACK}.nodes.{name}") for name in ("lips", "lips_dub")}
        folders = sys.modules["folder_paths"]
        yield SimpleNamespace(folders=folders, management=management, nodes=SimpleNamespace(**nodes), **modules)


@pytest.fixture
def models(pack, tmp_path, monkeypatch) -> Path:
    """ComfyUI's models folder with a file of each of two families, and others."""
    monkeypatch.setattr(pack.folders, "models_dir", str(tmp_path))
    write_random_lip_files(tmp_path / "portraittalk" / "mine", "lips")
    write_random_lip_files(tmp_path / "iplap", "iplap", form="torch")
    (tmp_path / "portraittalk" / "notes.pth").write_bytes(b"no weights")
    return tmp_path


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A puppet's film, with exact landmarks."""
    return puppet_film(tmp_path_factory.mktemp("film") / "film.mp4", puppet_moves(FRAMES), SIDE)


@pytest.fixture(scope="module")
def filmed(film) -> torch.Tensor:
    return torch.stack(list(film.pictures()))


def test_files_are_listed_by_what_they_hold(pack, models):
    files = pack.lip_files
    assert {family: files.file_names(family) for family in files.FAMILIES} == {
        "lips": ["mine/random-lips.safetensors"], "iplap": ["renderer_checkpoint.pth"], "musetalk": []
    }  # fmt: skip
    assert files.file_path("auto", "iplap") == models / "iplap" / "renderer_checkpoint.pth"
    opened = pack.lips.open_networks(files.file_path("auto", "lips"), "lips", "auto")
    assert opened.name == "lips, 32×32, fp32" and "random-lips.safetensors" in opened.files
    with pytest.raises(ValueError, match=r"no file of the lip renderer musetalk in models/musetalk: get musetalkV15"):
        files.file_path("auto", "musetalk")
    with pytest.raises(ValueError, match="is IP-LAP's renderer_checkpoint.pth, not a file of `portraittalk train"):
        pack.lips.open_networks(models / "iplap" / "renderer_checkpoint.pth", "lips", "fp32")


@pytest.mark.parametrize("name", ["../secret.pth", "/etc/passwd", "iplap/renderer_checkpoint.pth", "x" * 300])
def test_no_file_outside_is_opened(pack, models, name):
    (models / "secret.pth").write_bytes(b"")
    with pytest.raises(ValueError, match="is not in models/iplap; put it there or choose another"):
        pack.lip_files.file_path(name, "iplap")


def test_a_list_with_inputs_of_its_own_says_what_a_plain_one_does(pack, models):
    """Newer ComfyUI gives the inputs of an entry within the list's value."""
    files = pack.nodes.lips._files
    assert files("iplap", {"file": "renderer_checkpoint.pth"}) == files(
        {"renderer": "iplap", "file": "renderer_checkpoint.pth"}, {}
    )
    assert files("lips", {}) == files({"renderer": "lips", "file": "auto"}, {"file": "mine/random-lips.safetensors"})
    with pytest.raises(ValueError, match="the VAE 'other' is not in models/vae"):
        write_unet(models)
        files({"renderer": "musetalk", "vae": "other"}, {})


def write_unet(models: Path) -> None:
    """The header of a file that is MuseTalk's."""
    from safetensors.torch import save_file

    (models / "musetalk").mkdir()
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    save_file(
        {"conv_in.weight": torch.zeros(4, 8, 3, 3), key: torch.zeros(4, 384)}, models / "musetalk" / "u.safetensors"
    )


def test_where_a_face_is_becomes_a_choice(pack):
    choice, size = pack.face_place.choice_at, (100, 200)
    assert choice(3, None, size) == 3
    assert choice(0, [10, 20, 60, 90], size).box == (10, 20, 60, 90)  # corners
    assert choice(0, {"x": 10, "y": 20, "width": 50, "height": 70}, size).box == (10, 20, 60, 90)
    mask = torch.zeros(2, 50, 100)
    mask[0, 10:30, 20:40] = 1.0
    grown = choice(0, mask, size).mask
    assert grown.shape == size and float(grown[40, 60]) == 1 and float(grown[5, 5]) == 0


def test_references_go_from_the_shut_mouth_to_the_widest(pack, film, filmed):
    images = filmed.float() / 255
    chosen, sheet = pack.lip_select.selected(images, film.track, (0, None), LipPaintOptions(references=4))
    points = film.track.points[:, :, :2]
    opening = (points[:, UPPER_LIP] - points[:, LOWER_LIP]).norm(dim=1)
    faces = list(chosen.frames.faces)
    assert (faces[0], faces[-1]) == (int(opening.argmin()), int(opening.argmax()))
    assert opening[faces].tolist() == sorted(opening[faces].tolist()) and len(chosen.frames.lips) == 5
    assert chosen.indices == ", ".join(map(str, faces)) and chosen.film is None
    assert sheet.dtype == torch.uint8 and float(sheet.float().std()) > 20
    chosen.check_film(FRAMES, (SIDE, SIDE))
    for count, size in ((FRAMES + 1, (SIDE, SIDE)), (None, (SIDE, 2 * SIDE))):
        with pytest.raises(ValueError, match=f"the references are of a film of {FRAMES} frames of {SIDE}×{SIDE}"):
            chosen.check_film(count, size)


def test_references_that_are_named_are_taken(pack, film, filmed):
    images = filmed.float() / 255
    named = LipPaintOptions(reference_frames="7, 2")
    chosen, _ = pack.lip_select.selected(images, film.track, (0, None), named)
    assert chosen.frames.faces == chosen.frames.lips == (7, 2)
    with pytest.raises(ValueError, match=f"names frame {FRAMES}, but the film has frames 0 to {FRAMES - 1}"):
        pack.lip_select.selected(images, film.track, (0, None), LipPaintOptions(reference_frames=str(FRAMES)))
    with pytest.raises(ValueError, match=f"film_landmarks belong to pictures of {SIDE}×{SIDE}, the film has"):
        pack.lip_select.selected(images[:, ::2], film.track, (0, None), named)
    with pytest.raises(ValueError, match=f"film_landmarks have {FRAMES} frames, the film 3"):
        pack.lip_select.selected(images[:3], film.track, (0, None), named)


@pytest.mark.parametrize(
    ("indices", "said"),
    [
        (str(FRAMES), f"indices names frame {FRAMES}, but the film has frames 0 to {FRAMES - 1}"),
        ("one", "indices must be numbers of frames"),
        ("0 " * 101, "indices names 101 frames"),
    ],
)
def test_errors_name_the_node_s_own_input(pack, film, filmed, indices, said):
    numbers = {"num_references": 1, "num_lip_references": 1, "indices": indices}
    with pytest.raises(ValueError, match=f"^{said}"):
        pack.nodes.lips.SelectReferences.execute(filmed.float() / 255, 0, film.track, **numbers)


@pytest.fixture
def dub(pack, film, models, tmp_path, monkeypatch):
    """Runs the node's work on the puppet's film; the engine's place is taken by landmarks that open the mouth."""

    @contextmanager
    def video_file(video: object) -> Iterator[Path]:
        yield film.path

    module, shown = pack.lip_dub, []
    monkeypatch.setattr(module.convert_video, "video_file", video_file)
    monkeypatch.setattr(module, "new_temp_video", lambda: tmp_path / "out.mp4")
    monkeypatch.setattr(module, "temp_video", lambda path: path)
    monkeypatch.setattr(module, "video_ui", lambda path, text: text)
    monkeypatch.setattr(module, "show_text", lambda node, text: shown.append(text))
    monkeypatch.setattr(module, "to_engine", lambda *_: None)
    monkeypatch.setattr(module, "_dubbed", lambda *_: spoken(film))
    quiet = type("Progress", (), {"__call__": lambda *_: None, "show": lambda *_: None})
    monkeypatch.setattr(module, "Progress", quiet)
    networks = pack.lips.open_networks(pack.lip_files.file_path("auto", "lips"), "lips", "fp32")
    hidden = SimpleNamespace(unique_id="1", dynprompt=None)

    def make(seconds: float = FRAMES / 25, references=None, **inputs):
        voice = 0.1 * torch.sin(1200 * torch.arange(int(16_000 * seconds)) / 16_000)
        speech = Speech(voice, "a voice")
        more = {"film_landmarks": film.track, "references": references, "keep_frames": "always", "resume": False}
        sorted_inputs = pack.nodes.lips_dub._sorted({"voice_gate": 0.0} | more | inputs, speech)
        return module.run(networks, "film", *sorted_inputs, (voice[None], 16_000), hidden), shown

    return make


def test_what_the_mask_leaves_out_is_the_film(dub, film, filmed):
    result, shown = dub()
    path, frames, track, mask = result.outputs
    assert path.is_file() and len(track) == FRAMES and mask.shape == (FRAMES, SIDE, SIDE)
    made = (frames * 255).round().byte()
    untouched = mask == 0
    assert torch.equal(made[untouched], filmed[untouched])
    for index in range(FRAMES):
        x, y = film.track.points_px[index, LIPS, :2].long().tolist()
        assert float(mask[index, y, x]) > 0.9
        assert float(mask[index, : y - SIDE // 3].max()) == 0  # the brow
    assert float((made.float() - filmed.float())[mask > 0.9].abs().mean()) > 2  # random networks paint something
    assert not shown


def test_references_that_were_chosen_before_are_the_ones(pack, dub, filmed, film, monkeypatch):
    images = filmed.float() / 255
    taken = []
    reading = importlib.import_module(f"{PACK}.portraittalk_core.renderers.lip.reading")
    read = reading.pictures_at
    monkeypatch.setattr(reading, "pictures_at", lambda *given: taken.append(given[2]) or read(*given))
    chosen, _ = pack.lip_select.selected(images, film.track, (0, None), LipPaintOptions(reference_frames="7, 2"))
    first, _ = dub(references=chosen, blend="lower")
    assert taken == [[2, 7]]
    other, _ = dub(num_references=1, num_lip_references=1, blend="lower")
    assert not np.array_equal(first.outputs[1].numpy(), other.outputs[1].numpy())


@pytest.mark.slow
def test_a_film_that_ends_too_soon_is_told(dub):
    result, shown = dub(seconds=1.0)
    assert "the video ends 0.60 s before the speech" in shown[0] and shown[0] in result.ui
    kept, _ = dub(keep_frames="never")
    assert kept.outputs[1].shape[0] == kept.outputs[3].shape[0] == 1


def test_bad_values_are_refused(dub):
    for inputs, words in (
        ({"feather": 9.0}, "feather"),
        ({"blend": "chin"}, "blend"),
        ({"crop_pad": 900.0}, "crop_pad"),
    ):
        with pytest.raises(ValueError, match=words):
            dub(**inputs)
