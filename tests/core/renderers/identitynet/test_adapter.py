import pytest
import torch
from adapter_files import TINY, adapter_tensors, flat
from safetensors.torch import save_file

from portraittalk_core.errors import InputError, MissingDependency
from portraittalk_core.face.identity.embedding import FaceEmbedding
from portraittalk_core.renderers.identitynet.adapter import IdentityOptions, load_adapter, new_adapter, save_adapter
from portraittalk_core.renderers.identitynet.adapter_files import LAYOUTS
from portraittalk_core.renderers.identitynet.face_tokens import ProjectionInput

CLIP = {"clip_states": torch.randn(2, 7, 80), "clip_embeds": torch.randn(2, 64)}


@pytest.fixture
def two_faces():
    torch.manual_seed(0)
    return FaceEmbedding(torch.randn(2, 512), torch.tensor([1.0, 3.0]), **CLIP)


def load(layout: str, folder, suffix: str = "bin"):
    path = folder / f"ip-adapter-{layout}_sd15.{suffix}"
    if suffix == "bin":
        torch.save(adapter_tensors(layout), path)
    else:
        save_file(flat(adapter_tensors(layout)), path)
    return load_adapter(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("suffix", ["bin", "safetensors"])
def test_every_layout_loads_completely(layout, suffix, tmp_path):
    adapter, tensors = load(layout, tmp_path, suffix), adapter_tensors(layout)
    assert adapter.layout == layout and adapter.token_width == 48
    for name, tensor in adapter.projection.state_dict().items():
        assert torch.equal(tensor, tensors["image_proj"][name])
    for name, tensor in (adapter.sites.state_dict() | adapter.lora).items():
        assert torch.equal(tensor, tensors["ip_adapter"][name])
    count = len(adapter.sites.state_dict()) + len(adapter.lora)
    assert count == len(tensors["ip_adapter"]) and len(adapter.projection.state_dict()) == len(tensors["image_proj"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_half_precision_files_load(layout, tmp_path):
    path = tmp_path / f"{layout}.safetensors"
    save_file({name: tensor.half() for name, tensor in flat(adapter_tensors(layout)).items()}, path)
    assert load_adapter(path).projection.state_dict()["proj_in.weight" if layout == "clip_plus" else (
        "proj.weight" if layout == "plain" else "proj.0.weight")].dtype == torch.float32  # fmt: skip


@pytest.mark.parametrize(("layout", "count"), [("faceid", 4), ("plus", 4), ("plain", 4), ("clip_plus", 16)])
def test_several_pictures_are_averaged(layout, count, tmp_path, two_faces):
    adapter = load(layout, tmp_path)
    tokens = adapter.tokens(two_faces)
    assert tokens.shape == (2, count, 48)
    share = torch.tensor([0.25, 0.75])
    states, embeds = ((CLIP[k] * share.reshape(-1, *[1] * (CLIP[k].ndim - 1))).sum(0, keepdim=True) for k in CLIP)
    given = ProjectionInput(two_faces.averaged()[None], states, embeds)
    torch.testing.assert_close(tokens[:1], adapter.projection(given), atol=1e-5, rtol=0)


def test_portrait_shows_every_picture(tmp_path, two_faces):
    adapter = load("portrait", tmp_path)
    tokens = adapter.tokens(two_faces)
    each = adapter.projection(ProjectionInput(two_faces.face_embeds))
    torch.testing.assert_close(tokens[0], each.flatten(0, 1), atol=1e-6, rtol=0)
    assert adapter.tokens(two_faces, "average").shape == (2, 16, 48)


@pytest.mark.parametrize("combine", ["average", "concat"])
def test_no_face_is_the_projection_of_zeros(combine, tmp_path, two_faces):
    adapter = load("faceid", tmp_path)
    zeros = adapter.projection(ProjectionInput(torch.zeros(1, 512)))[0]
    nobody = adapter.tokens(two_faces, combine)[1]
    torch.testing.assert_close(nobody, zeros.repeat(1 if combine == "average" else 2, 1), atol=1e-6, rtol=0)


def test_a_picture_of_weight_zero_is_not_shown(tmp_path):
    adapter = load("portrait", tmp_path)
    embeds = torch.randn(2, 512)
    both = FaceEmbedding(embeds, torch.tensor([0.0, 1.0]))
    assert torch.equal(adapter.tokens(both), adapter.tokens(FaceEmbedding(embeds[1:])))


def test_structure_is_the_share_of_what_clip_sees(tmp_path, two_faces):
    adapter = load("plusv2", tmp_path)
    adapter.set_structure(0.0)
    plain = adapter_tensors("plusv2")["image_proj"]
    hidden = torch.nn.functional.gelu(plain["proj.0.weight"] @ two_faces.averaged() + plain["proj.0.bias"])
    flat_tokens = plain["proj.2.weight"] @ hidden + plain["proj.2.bias"]
    expected = torch.nn.functional.layer_norm(
        flat_tokens.reshape(4, 48), (48,), plain["norm.weight"], plain["norm.bias"]
    )
    torch.testing.assert_close(adapter.tokens(two_faces)[0], expected, atol=1e-5, rtol=0)
    adapter.set_structure(1.0)
    assert (adapter.tokens(two_faces)[0] - expected).abs().max() > 0.1


@pytest.mark.parametrize(("layout", "words"), [("plus", "hidden states"), ("plain", "embedding of the face")])
def test_clips_view_that_is_missing_is_asked_for(layout, words, tmp_path):
    with pytest.raises(InputError, match=f"needs CLIP vision's {words}.*CLIP-ViT-H"):
        load(layout, tmp_path).tokens(FaceEmbedding(torch.randn(1, 512)))


def test_clips_view_of_another_model_is_refused(tmp_path):
    face = FaceEmbedding(torch.randn(1, 512), clip_states=torch.randn(1, 7, 96))
    with pytest.raises(InputError, match=r"clip_states \(1, 7, 96\)\) does not fit this plus adapter"):
        load("plus", tmp_path).tokens(face)


def test_new_adapter_adds_nothing_until_trained_and_saves_itself(tmp_path):
    adapter = new_adapter(TINY, 48)
    for site in adapter.sites.values():
        assert not site(torch.randn(1, 5, site.to_k_ip.out_features), torch.randn(1, 4, 48), 8).any()
    again = load_adapter(save_adapter(adapter, tmp_path / "mine.safetensors", {"steps": "3"}))
    assert again.layout == "faceid"
    for name, tensor in adapter.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_plusv2_keeps_its_layout_whatever_its_file_is_called(tmp_path, two_faces):
    adapter = load("plusv2", tmp_path)
    again = load_adapter(save_adapter(adapter, tmp_path / "mine.safetensors"))
    assert again.layout == "plusv2"
    assert torch.equal(again.tokens(two_faces), adapter.tokens(two_faces))
    with pytest.raises(InputError, match="has the layout plus, not portrait"):
        load_adapter(tmp_path / "mine.safetensors", "portrait")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": 3.5}, "the identity strength must lie between -1 and 3"),
        ({"strength": float("nan")}, "must be a number"),
        ({"start": -0.1}, "the identity's start"),
        ({"start": 0.6, "end": 0.6}, "`end` 0.6 is not behind `start` 0.6: the face would never act"),
        ({"combine": "mix"}, "combine must be one of auto, average, concat"),
        ({"layers": {16: 1.0}}, "a layer's number must lie between 0 and 15"),
        ({"layers": {3: 9.0}}, "the weight of layer 3"),
    ],
)
def test_options_out_of_range_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        IdentityOptions(**options)


def test_damaged_files_and_pickles_that_run_code_are_refused(tmp_path):
    whole = tmp_path / "whole.bin"
    torch.save(adapter_tensors("faceid"), whole)
    (tmp_path / "cut.bin").write_bytes(whole.read_bytes()[:200_000])
    with pytest.raises(InputError, match="cut.bin cannot be read as a weight file"):
        load_adapter(tmp_path / "cut.bin")

    class Sneaky:
        def __reduce__(self):
            return (print, ("run!",))

    torch.save({"image_proj": Sneaky()}, tmp_path / "sneaky.bin")
    with pytest.raises(InputError, match="sneaky.bin cannot be read"):
        load_adapter(tmp_path / "sneaky.bin")
    with pytest.raises(MissingDependency, match="there is no weight file"):
        load_adapter(tmp_path / "absent.bin")


def test_values_that_are_no_numbers_are_refused(tmp_path):
    tensors = adapter_tensors("faceid")
    tensors["ip_adapter"]["7.to_v_ip.weight"][3, 3] = float("nan")
    torch.save(tensors, tmp_path / "nan.bin")
    with pytest.raises(InputError, match="nan.bin holds numbers that are NaN or infinite in to_v_ip.weight"):
        load_adapter(tmp_path / "nan.bin")
