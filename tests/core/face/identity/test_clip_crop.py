import pytest
import torch
from safetensors.torch import save_file

from portraittalk_core.errors import InputError
from portraittalk_core.face.identity.clip_crop import load_clip_vision, with_clip_view
from portraittalk_core.face.identity.embedding import FaceEmbedding

transformers = pytest.importorskip("transformers")


def tiny():
    torch.manual_seed(0)
    config = transformers.CLIPVisionConfig(
        hidden_size=64, intermediate_size=128, projection_dim=32, num_hidden_layers=3, num_attention_heads=1,
        image_size=28, patch_size=14,
    )  # fmt: skip
    return transformers.CLIPVisionModelWithProjection(config).eval()


def test_view_matches_transformers_own_processor(tmp_path):
    net = tiny()
    save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, tmp_path / "clip.safetensors")
    crops = list(torch.randint(0, 256, (2, 28, 28, 3), dtype=torch.uint8))
    seen = with_clip_view(FaceEmbedding(torch.randn(2, 512)), crops, load_clip_vision(tmp_path / "clip.safetensors"))
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    pixels = processor([crop.numpy() for crop in crops], return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = net(pixels, output_hidden_states=True)
    torch.testing.assert_close(seen.clip_states, expected.hidden_states[-2], atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.clip_embeds, expected.image_embeds, atol=1e-5, rtol=0)


def test_another_network_is_refused(tmp_path):
    save_file({"text_model.x": torch.zeros(1)}, tmp_path / "clip.safetensors")
    with pytest.raises(InputError, match="clip.safetensors is no CLIP vision model"):
        load_clip_vision(tmp_path / "clip.safetensors")
