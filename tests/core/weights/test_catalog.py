import zipfile

import pytest
import torch
from safetensors.torch import save_file

from portraittalk_core.weights.catalog import find_weights, recognise

SD15 = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


def tensor(*shape: int) -> torch.Tensor:
    return torch.zeros(shape, dtype=torch.float16)


KINDS = {
    "Stable Diffusion 1.5": {SD15: tensor(320, 768)},
    "landmark ControlNet": {
        "control_model.input_hint_block.0.weight": tensor(16, 3, 3, 3),
        "control_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": tensor(320, 768),
    },
    "motion module": {"down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": tensor(320, 320)},
    "speech to face mesh": {"out_fn.weight": tensor(1404, 512)},
}


@pytest.mark.parametrize(("role", "tensors"), KINDS.items(), ids=KINDS.keys())
def test_files_are_known_by_their_tensors_whatever_their_name(tmp_path, role, tensors):
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save({"state_dict": tensors}, tmp_path / "b.ckpt")
    assert [found.kind.role for found in find_weights([tmp_path])] == [role, role]


def test_face_adapter_is_known_in_its_nested_pickle(tmp_path):
    parts = {"image_proj": {"proj.0.weight": tensor(4, 4)}, "ip_adapter": {"1.to_k_ip.weight": tensor(320, 768)}}
    torch.save(parts, tmp_path / "any.bin")
    assert recognise(tmp_path / "any.bin").role == "face identity adapter"


def test_sd21_controlnet_is_not_taken_for_sd15(tmp_path):
    save_file(
        {"input_hint_block.0.weight": tensor(16, 3, 3, 3), "a.attn2.to_k.weight": tensor(320, 1024)},
        tmp_path / "cn.safetensors",
    )
    assert recognise(tmp_path / "cn.safetensors") is None


def test_task_file_is_known_by_what_it_bundles(tmp_path):
    for name, inside in (("face.task", "face_landmarks_detector.tflite"), ("hand.task", "hand.tflite")):
        with zipfile.ZipFile(tmp_path / name, "w") as bundle:
            bundle.writestr(inside, b"x")
    assert [found.path.name for found in find_weights([tmp_path])] == ["face.task"]


def test_damaged_and_dangerous_files_are_passed_over(tmp_path):
    import pickle

    class Danger:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "short.safetensors").write_bytes(b"\x01")
    (tmp_path / "huge.safetensors").write_bytes(b"\xff" * 16)
    (tmp_path / "text.ckpt").write_text("hello")
    (tmp_path / "empty.task").write_bytes(b"")
    (tmp_path / "danger.bin").write_bytes(pickle.dumps(Danger()))
    assert find_weights([tmp_path]) == []
