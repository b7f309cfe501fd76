"""A checkpoint whose UNet was replaced: the same file otherwise, in its own names and types."""

import pytest
import torch
from safetensors.torch import load_file
from sd15_files import make_checkpoint

from portraittalk_core.diffusion.checkpoint import load_sd15
from portraittalk_core.diffusion.checkpoint_file import save_with_unet
from portraittalk_core.errors import InputError

pytest.importorskip("diffusers")


def test_checkpoint_with_another_unet_differs_in_nothing_else(tmp_path):
    base = make_checkpoint(tmp_path / "sd.safetensors", dtype=torch.float16)
    unet = load_sd15(base).unet
    with torch.no_grad():
        for weight in unet.parameters():
            weight.add_(0.5)
    path = save_with_unet(base, unet, tmp_path / "new.safetensors")
    before, after = load_file(base), load_file(path)
    assert before.keys() == after.keys()
    for name, tensor in after.items():
        expected = (before[name].float() + 0.5).half() if name.startswith("model.diffusion_model.") else before[name]
        assert tensor.dtype == before[name].dtype and torch.equal(tensor, expected), name
    read = load_sd15(path).unet.state_dict()
    assert all(torch.equal(read[name], tensor.half().float()) for name, tensor in unet.state_dict().items())
    other = make_checkpoint(tmp_path / "other.safetensors", vae=False, text=False)
    unet.register_parameter("extra", torch.nn.Parameter(torch.zeros(1)))
    with pytest.raises(InputError, match="lacks extra"):
        save_with_unet(other, unet, tmp_path / "x.safetensors")
